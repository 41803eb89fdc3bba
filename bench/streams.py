"""Hold very many live streams: an event a second on each, every event checked, and what each costs in memory.

    python bench/streams.py [--streams N] [--seconds N] [--short] [--json FILE]

5,000 streams live for five minutes through the real daemon, each with an event a second.  No event may be lost, changed
or out of order, and no stream may break; a stream may cost the gateway 64 KiB of resident memory.  Needs twice as many
descriptors as streams, and takes them where the system's hard limit allows.  Exits 1 where something is not so, 2 where
something did not start.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import attrs
import pool
import processes

KIB = 1024
PER_STREAM_MOST = 64 * KIB
OPENED_PER_SECOND = 200
GRACE_SECONDS = 60.0
"""How much longer than planned the last stream may take."""
SAMPLE_SECONDS = 1.0
_TEXT = b'"text":'


def request(number: int, events: int, port: int) -> bytes:
    """Return the request for one stream."""
    order = f"order {number} answer {events} 1000"
    body = json.dumps({"contents": [{"role": "user", "parts": [{"text": order}]}]}).encode()
    head = (
        f"POST /v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"x-goog-api-key: {pool.CLIENT_KEY}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Stream(asyncio.Protocol):
    """One client with one stream; cheap enough for thousands in a process."""

    transport: asyncio.Transport

    def __init__(self, number: int, events: int, watch: Watch) -> None:
        self._number = number
        self._events = events
        self._watch = watch
        self._buffer = b""
        self._seen = 0
        self._begun = self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(request(self._number, self._events, self._watch.port))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            if not self._begun and not self._head():
                return
            self._chunks()
        except (ValueError, KeyError, IndexError) as problem:
            self._end(f"{type(problem).__name__}: {problem}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(f"the connection broke after {self._seen} events")

    def _head(self) -> bool:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return False
        if not head.startswith(b"HTTP/1.1 200 ") or b"chunked" not in head.lower():
            raise ValueError(f"{head[:60]!r} {rest[:300]!r}")
        self._buffer, self._begun = rest, True
        self._watch.live += 1
        return True

    def _chunks(self) -> None:
        while True:
            line, found, rest = self._buffer.partition(b"\r\n")
            size = int(line, 16) if found else 0
            if not found or len(rest) < size + 2:
                return
            chunk, self._buffer = rest[:size], rest[size + 2 :]
            if not size:
                self._end("" if self._seen == self._events else f"{self._seen} events of {self._events}")
                return
            for event in chunk.split(b"\n\n"):
                if event:
                    self._event(event)

    def _event(self, event: bytes) -> None:
        # The events are the stand-in's own; of each its number, its place and when it was sent are compared.
        number, at, sent, _ = event.partition(_TEXT)[2].lstrip(b' "').split(b" ", 3)
        if (int(number), int(at)) != (self._number, self._seen) or not event.startswith(b"data: "):
            raise ValueError(f"event {self._seen} is not the one that was sent: {event[:200]!r}")
        self._watch.lags[min(int((time.monotonic() - float(sent)) * 1000), Watch.LAG_MOST)] += 1
        self._seen += 1

    def _end(self, problem: str) -> None:
        if self._ended:
            return
        self._ended = True
        self._watch.ended(self._seen, problem, begun=self._begun)
        self.transport.abort()


@attrs.define(eq=False)
class Watch:
    """What all streams together came to."""

    LAG_MOST = 60_000

    port: int
    due: int
    live: int = 0
    """Streams that have begun and not ended."""
    most_live: int = 0
    whole: int = 0
    events: int = 0
    problems: list[str] = attrs.Factory(list)
    lags: collections.Counter[int] = attrs.Factory(collections.Counter)
    """Events by the whole milliseconds from the stand-in to the client."""
    over: asyncio.Event = attrs.Factory(asyncio.Event)

    def ended(self, seen: int, problem: str, begun: bool) -> None:
        """Take note of a stream's end."""
        self.live -= begun
        self.events += seen
        self.due -= 1
        if problem:
            self.problems.append(problem)
        else:
            self.whole += 1
        if not self.due:
            self.over.set()

    def lag(self, share: float) -> int:
        """Return the milliseconds within which this share of the events came."""
        left = share * self.lags.total()
        for milliseconds, count in sorted(self.lags.items()):
            left -= count
            if left <= 0:
                return milliseconds
        return 0


async def streams(options: argparse.Namespace, directory: Path, stack: ExitStack) -> int:
    """Run, print, and return the exit status."""
    running = pool.start(stack, directory, 1)
    ramp = options.streams / OPENED_PER_SECOND
    events = int(options.seconds + ramp) + 1
    # Opened and left once, so that what is made once is there already.
    await flock(running, Watch(running.gateway.port, min(options.streams, 200)), min(options.streams, 200), 2)
    first = await running.at_rest()
    print(f"{first.resident / KIB / KIB:.1f} MiB before, {first.descriptors} descriptors, {first.deferreds} Deferreds")
    watch = Watch(running.gateway.port, options.streams)
    cpu_before, began = cpu(running), time.monotonic()
    most = await flock(running, watch, options.streams, events)
    seconds = time.monotonic() - began
    used = cpu(running) - cpu_before
    last = await running.at_rest(first)
    return report(options, running, watch, first, last, most, events, seconds, used)


async def flock(running: pool.Pool, watch: Watch, count: int, events: int) -> int:
    """Open the streams, watch them to their end, and return the most resident bytes while all were live."""
    loop = asyncio.get_running_loop()

    async def open_all() -> None:
        started = loop.time()
        for number in range(count):
            await asyncio.sleep(started + number / OPENED_PER_SECOND - loop.time())
            await loop.create_connection(lambda number=number: Stream(number, events, watch), "127.0.0.1", watch.port)

    async def sample() -> int:
        most = 0
        while True:
            watch.most_live = max(watch.most_live, watch.live)
            most = max(most, running.resident())
            try:
                await asyncio.wait_for(watch.over.wait(), SAMPLE_SECONDS)
            except TimeoutError:
                continue
            return most

    opening = asyncio.create_task(open_all())
    try:
        async with asyncio.timeout(count / OPENED_PER_SECOND + events + GRACE_SECONDS):
            most, _ = await asyncio.gather(sample(), opening)
            return most
    except TimeoutError:
        watch.problems.append(f"{watch.due} streams did not come to an end")
        return running.resident()
    finally:
        opening.cancel()


def cpu(running: pool.Pool) -> float:
    """Return the CPU seconds that the gateway has used."""
    with open(f"/proc/{running.gateway.process.pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def report(
    options: argparse.Namespace, running: pool.Pool, watch: Watch, first: pool.Held, last: pool.Held, most: int,
    events: int, seconds: float, used: float,
) -> int:  # fmt: skip
    """Print what was measured and whether it is as promised; return the exit status."""
    each = (most - first.resident) / options.streams
    print(
        f"{options.streams} streams of {events} events in {seconds:.0f} s, {watch.most_live} live at once,"
        f" {watch.events / seconds:.0f} events a second, gateway {used / seconds:.2f} of a core\n"
        f"lag of an event p50 {watch.lag(0.5)} ms, p99 {watch.lag(0.99)} ms, most {watch.lag(1.0)} ms\n"
        f"resident {first.resident / KIB / KIB:.1f} MiB before, {most / KIB / KIB:.1f} MiB at most,"
        f" {last.resident / KIB / KIB:.1f} MiB after"
    )
    checks = [
        (f"{watch.whole} streams whole, {len(watch.problems)} not", watch.whole == options.streams),
        (f"{watch.most_live} live at once", watch.most_live == options.streams),
        (f"{each / KIB:.1f} KiB for each stream, allowed {PER_STREAM_MOST / KIB:.0f}", each <= PER_STREAM_MOST),
        (f"descriptors {first.descriptors} before, {last.descriptors} after", last.descriptors <= first.descriptors),
        (f"Deferreds {first.deferreds} before, {last.deferreds} after", last.deferreds <= first.deferreds),
    ]
    for problem, count in collections.Counter(watch.problems).most_common(10):
        print(f"wrong: {count} times {problem}")
    for words, good in checks:
        print(f"{'pass' if good else 'FAIL'}: {words}")
    if watch.problems:
        print(f"--- the gateway wrote at last:\n{running.gateway.tail()}", file=sys.stderr)
    if options.json is not None:
        document = {
            "streams": options.streams, "events": watch.events, "seconds": seconds, "live": watch.most_live,
            "cpu_seconds": used, "bytes_each": each, "first": attrs.asdict(first), "last": attrs.asdict(last),
            "most_resident": most, "lag_ms": {share: watch.lag(float(share)) for share in ("0.5", "0.99", "1.0")},
            "problems": watch.problems[:100],
        }  # fmt: skip
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 0 if all(good for _, good in checks) else 1


def main() -> int:
    """Run everything and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--streams", type=int, metavar="N", help="5,000")
    parser.add_argument("--seconds", type=int, metavar="N", help="all of them live for so long (300)")
    parser.add_argument("--short", action="store_true", help="500 streams, 20 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    options = parser.parse_args()
    options.streams = options.streams or (500 if options.short else 5000)
    options.seconds = options.seconds or (20 if options.short else 300)
    pool.raise_descriptors(2 * options.streams + 500)
    return processes.run(lambda directory, stack: streams(options, directory, stack))


if __name__ == "__main__":
    sys.exit(main())
