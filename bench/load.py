"""The load: exact numbers of requests and streams over kept connections, every answer checked.  Does I/O."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable

import attrs
import faces
import http1
import msgspec
import shapes
from checks import StreamCheck, Target, UnaryCheck

TIMEOUT_SECONDS = 60.0
"""No answer of the bench takes longer, a whole paced stream included."""


@attrs.define
class Outcome:
    """What a load came to: how many answers were right, what was wrong with the others."""

    requests: int = 0
    events: int = 0
    wall_seconds: float = 0.0
    first_seconds: list[float] = attrs.Factory(list)
    """To the first event of a stream or to the whole of another answer, where a load takes times."""
    failures: list[str] = attrs.Factory(list)


class Connection(asyncio.Protocol):
    """A kept connection that carries one exchange at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._reader = http1.ResponseReader()
        self._check: UnaryCheck | StreamCheck | None = None
        self._done: asyncio.Future[int] | None = None

    @classmethod
    async def open(cls, target: Target) -> Connection:
        """Connect to ``target``."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", target.port)
        return connection

    async def exchange(self, request: bytes, check: UnaryCheck | StreamCheck) -> int:
        """Send ``request`` and return how many events a right answer had; raises when it was not right."""
        if self._transport is None or self._transport.is_closing():
            raise http1.BadAnswer("the connection was not kept")
        self._reader, self._check = http1.ResponseReader(), check
        self._done = asyncio.get_running_loop().create_future()
        timer = asyncio.get_running_loop().call_later(TIMEOUT_SECONDS, self._fail, "no end of the answer")
        self._transport.write(request)
        try:
            return await self._done
        finally:
            timer.cancel()
            self._check = self._done = None

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._check is None or self._done is None or self._done.done():
            self.close()  # bytes that nobody asked for; the next exchange will say so
            return
        try:
            piece = self._reader.feed(data)
            if self._reader.status != 200 and self._reader.done:
                raise http1.BadAnswer(f"status {self._reader.status}: {piece[:200]!r}")
            if self._reader.status != 200:
                return
            if not self._reader.headers.get(b"content-type", b"").startswith(self._check.content_type):
                raise http1.BadAnswer(f"content type {self._reader.headers.get(b'content-type')!r}")
            self._check.piece(piece)
            if self._reader.done:
                self._done.set_result(self._check.end())
        except (http1.BadAnswer, ValueError, KeyError, TypeError, msgspec.DecodeError) as wrong:
            self._fail(f"{type(wrong).__name__}: {wrong}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the connection broke before the end of the answer")

    def _fail(self, why: str) -> None:
        """End the exchange, if there is one, and the connection with it."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(http1.BadAnswer(why))
        self.close()


async def _work(
    target: Target,
    request: bytes,
    check: Callable[[], UnaryCheck | StreamCheck],
    times: int,
    outcome: Outcome,
) -> None:
    """Make ``times`` exchanges one after the other on one connection; stop at the first failure."""
    connection = await Connection.open(target)
    try:
        for _ in range(times):
            this = check()
            seen = await connection.exchange(request, this)
            outcome.events += seen  # not `+= await`: that adds to what it read before waiting
            outcome.requests += 1
    except http1.BadAnswer as wrong:
        outcome.failures.append(str(wrong))
    finally:
        connection.close()


async def _run(due: int, events: int, start: Callable[[Outcome], list[asyncio.Task[None]]]) -> Outcome:
    """Run the tasks that ``start`` makes and compare the numbers of answers and events with those due."""
    outcome = Outcome()
    began = time.perf_counter()
    for result in await asyncio.gather(*start(outcome), return_exceptions=True):
        if isinstance(result, BaseException):
            outcome.failures.append(f"{type(result).__name__}: {result}")
    outcome.wall_seconds = time.perf_counter() - began
    if (outcome.requests, outcome.events) != (due, due * events):
        seen = f"{outcome.requests} right answers of {due}, {outcome.events} events of {due * events}"
        outcome.failures.append(seen)
    return outcome


async def unary(target: Target, count: int, connections: int, model: str = shapes.UNARY_MODEL) -> Outcome:
    """Make ``count`` unary calls, shared out evenly over ``connections``."""
    request = target.request(model, False)
    each = max(1, count // connections)
    return await _run(
        each * connections,
        0,
        lambda outcome: [
            asyncio.create_task(_work(target, request, lambda: UnaryCheck(target.face), each, outcome))
            for _ in range(connections)
        ],
    )


async def streams(
    target: Target, model: str, events: int, each: int, connections: int, spread_seconds: float = 0.0
) -> Outcome:
    """Read ``each`` streams of ``model`` on each of ``connections``, which start spread over some time."""
    request = target.request(model, True)

    async def one(number: int, outcome: Outcome) -> None:
        await asyncio.sleep(spread_seconds * number / connections)
        await _work(target, request, lambda: StreamCheck(target.face, events), each, outcome)

    return await _run(
        each * connections,
        events,
        lambda outcome: [asyncio.create_task(one(number, outcome)) for number in range(connections)],
    )


async def at_rate(target: Target, model: str, events: int, count: int, per_second: float) -> Outcome:
    """Make ``count`` calls at a fixed rate, each on an idle kept connection: streams of ``events``, or unary for 0."""
    request = target.request(model, bool(events))
    idle: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
    opened: list[Connection] = []
    began = time.perf_counter()

    async def one(number: int, outcome: Outcome) -> None:
        await asyncio.sleep(began + number / per_second - time.perf_counter())
        if idle.empty():
            opened.append(await Connection.open(target))
            idle.put_nowait(opened[-1])
        connection = idle.get_nowait()
        check = StreamCheck(target.face, events) if events else UnaryCheck(target.face)
        sent_at = time.perf_counter()
        seen = await connection.exchange(request, check)
        answered_at = time.perf_counter() if check.first_at is None else check.first_at
        outcome.events += seen
        outcome.requests += 1
        outcome.first_seconds.append(answered_at - sent_at)
        idle.put_nowait(connection)

    try:
        return await _run(
            count,
            events,
            lambda outcome: [asyncio.create_task(one(number, outcome)) for number in range(count)],
        )
    finally:
        for connection in opened:
            connection.close()


def main() -> None:
    """Put one load on one port and print the outcome; for trying things out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--each", type=int, default=100, help="requests or streams per connection")
    parser.add_argument("--stream", metavar="N", type=int, default=0, help="bursts of N events")
    parser.add_argument("--key", default=shapes.CLIENT_KEY)
    options = parser.parse_args()
    target = Target("port", options.port, faces.gemini(options.key))
    if options.stream:
        load = streams(target, f"burst-{options.stream}", options.stream, options.each, options.connections)
    else:
        load = unary(target, options.each * options.connections, options.connections)
    outcome = asyncio.run(load)
    print(f"{outcome.requests} requests, {outcome.events} events, {outcome.wall_seconds:.3f} s")
    for failure in outcome.failures[:10]:
        print(f"wrong: {failure}")
    raise SystemExit(1 if outcome.failures else 0)


if __name__ == "__main__":
    main()
