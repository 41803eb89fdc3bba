"""Soak the gateway: very many requests, one in twenty of them in trouble, and nothing left behind.

    python bench/soak.py [--requests N] [--short] [--json FILE]

The real daemon, with twenty accounts at a stand-in that refuses, breaks off, or is left by its clients as each request
asks.  After a warm-up, and after every tenth of the rest, everybody leaves, and what the gateway's process still holds
is counted.  Resident memory may grow by 1 MiB for 100,000 requests; descriptors and Deferreds have to be back where
they began; every answer is checked.  Exits 1 where something is not so, 2 where something did not start.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import random
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import attrs
import http1
import pool
import processes

MIB = 1024 * 1024
ACCOUNTS = 20
CONNECTIONS = 32
CONVERSATIONS = 2000
MODELS = ("gemini-2.5-flash", "gemini-2.5-pro")
STREAM_SHARE = 0.3
STREAM_EVENTS = 6
FAULT_SHARE = 0.05
TIMEOUT_SECONDS = 60.0
GROWTH_PER_REQUEST = MIB / 100_000
SHORT_GROWTH = 2 * MIB
"""What a short soak may grow by in all: an allocator's steps are as large as that."""
MET_SHARE = 0.02
"""Of the requests with a fault that another attempt hides, so many may meet a second one on the way."""


@attrs.frozen
class Trouble:
    """One kind of trouble, and what the client sees of it."""

    name: str
    order: str
    """What the stand-in is to do."""
    statuses: tuple[int, ...]
    """What may come of it; the first is what should."""
    leaves: float | None = None
    """After so many seconds the client goes away with a reset."""
    weight: int = 1


@attrs.frozen
class Refused:
    """A request that is wrong in itself, and what it is answered with."""

    name: str
    statuses: tuple[int, ...]
    head: str = ""
    key: str = pool.CLIENT_KEY
    path: str = ""
    body: bytes | None = None


TROUBLES = (
    Trouble("429 upstream", "rate", (200, 429), weight=4),
    Trouble("503 upstream", "busy", (200, 503), weight=3),
    Trouble("401 upstream", "stale", (200, 503), weight=3),
    Trouble("reset upstream", "gone", (200, 502, 503), weight=3),
    Trouble("HTML upstream", "junk", (200, 502, 503), weight=2),
    Trouble("cut upstream", "cut", (0, 502), weight=4),
    Trouble("client leaves at once", "answer", (), leaves=0.0, weight=3),
    Trouble("client leaves later", "answer", (), leaves=0.05, weight=4),
)
REFUSALS = (
    Refused("bad JSON", (400,), body=b'{"contents": [}'),
    Refused("deep JSON", (400,), body=b'{"contents":' + b"[" * 200 + b"]" * 200 + b"}"),
    Refused("bad UTF-8", (400,), body=b'{"contents": "\xff"}'),
    # Who tries many keys may be told to wait.
    Refused("wrong key", (401, 429), key="no-key-of-ours"),
    Refused("no such route", (404,), path="/v1beta/nothing"),
    Refused("too large", (413,), head="Content-Length: 99999999999"),
    Refused("bad length", (400,), head="Content-Length: -1"),
)


@attrs.frozen
class Plan:
    """What one request is to be."""

    number: int
    streams: bool
    trouble: Trouble | None = None
    refused: Refused | None = None

    @classmethod
    def of(cls, seed: int, number: int) -> Plan:
        """Return the plan of a request; it is the same in every run."""
        chance = random.Random(seed * 1_000_003 + number)
        streams = chance.random() < STREAM_SHARE
        if chance.random() >= FAULT_SHARE:
            return cls(number, streams)
        kind = chance.choices([*TROUBLES, None], [*(one.weight for one in TROUBLES), 6])[0]
        return cls(number, streams, kind) if kind else cls(number, streams, refused=chance.choice(REFUSALS))

    @property
    def name(self) -> str:
        """What this kind of request is called in the summary."""
        return self.trouble.name if self.trouble else self.refused.name if self.refused else "whole"

    def request(self, port: int) -> bytes:
        """Return the request's bytes."""
        refused = self.refused or Refused("", ())
        trouble = self.trouble
        leaving = trouble is not None and trouble.leaves is not None
        events, gap = (40, 20) if leaving else (STREAM_EVENTS, 0)
        order = f"order {self.number} {trouble.order if trouble else 'answer'} {events} {gap}"
        turns = [("user", f"Conversation {self.number % CONVERSATIONS}"), ("model", "Noted."), ("user", order)]
        document = {"contents": [{"role": role, "parts": [{"text": text}]} for role, text in turns]}
        body = json.dumps(document).encode() if refused.body is None else refused.body
        verb = "streamGenerateContent?alt=sse" if self.streams else "generateContent"
        path = refused.path or f"/v1beta/models/{MODELS[self.number % len(MODELS)]}:{verb}"
        length = refused.head or f"Content-Length: {len(body)}"
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nx-goog-api-key: {refused.key}\r\n"
            f"Content-Type: application/json\r\n{length}\r\n\r\n"
        )
        return head.encode() + body


class Line(asyncio.Protocol):
    """A connection of a client's: one exchange at a time."""

    def __init__(self) -> None:
        self._incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._incoming.put_nowait(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._incoming.put_nowait(b"")

    @property
    def open(self) -> bool:
        """Whether another exchange may begin."""
        return self.transport is not None and not self.transport.is_closing() and self._incoming.empty()

    async def exchange(self, request: bytes) -> tuple[http1.ResponseReader, bytes]:
        """Return what came, whole or not."""
        assert self.transport is not None
        self.transport.write(request)
        reader, body = http1.ResponseReader(), b""
        while not reader.done:
            data = await self._incoming.get()
            if not data:
                break
            body += reader.feed(data)
        return reader, body


@attrs.define(eq=False)
class Soak:
    """The clients, and what they saw."""

    port: int
    seed: int
    seen: dict[str, collections.Counter[str]] = attrs.Factory(lambda: collections.defaultdict(collections.Counter))
    wrong: list[str] = attrs.Factory(list)
    done: int = 0

    async def run(self, first: int, count: int) -> None:
        """Make requests ``first`` to ``first + count - 1``, on CONNECTIONS connections, and leave."""
        numbers = iter(range(first, first + count))
        await asyncio.gather(*(self._client(numbers) for _ in range(CONNECTIONS)))

    async def _client(self, numbers: collections.abc.Iterator[int]) -> None:
        line: Line | None = None
        for number in numbers:
            plan = Plan.of(self.seed, number)
            if line is None or not line.open:
                _, line = await asyncio.get_running_loop().create_connection(Line, "127.0.0.1", self.port)
            try:
                kept = await self._one(line, plan)
            except (TimeoutError, http1.BadAnswer, ValueError, KeyError, IndexError, OSError) as problem:
                self._note(plan, f"{type(problem).__name__}: {problem}", good=False)
                kept = False
            self.done += 1
            if not kept and line.transport is not None:
                line.transport.abort()
                line = None
        if line is not None and line.transport is not None:
            line.transport.close()

    async def _one(self, line: Line, plan: Plan) -> bool:
        """Make one request; say whether the connection may be used again."""
        leaves = plan.trouble.leaves if plan.trouble else None
        if leaves is not None:
            assert line.transport is not None
            line.transport.write(plan.request(self.port))
            await asyncio.sleep(leaves)
            self._note(plan, "left", good=True)
            return False
        async with asyncio.timeout(TIMEOUT_SECONDS):
            reader, body = await line.exchange(plan.request(self.port))
        self._judge(plan, reader, body)
        return reader.done and reader.headers.get(b"connection", b"").lower() != b"close"

    def _judge(self, plan: Plan, reader: http1.ResponseReader, body: bytes) -> None:
        cut = plan.trouble is not None and plan.trouble.order == "cut"
        if reader.status == 200:
            events = EVENTS.feed(body) if plan.streams else [body]
            texts = [said(event) for event in events if b'"error"' not in event]
            due = [f"{plan.number} {at} " for at in range(STREAM_EVENTS if plan.streams else 1)]
            whole = reader.done and len(texts) == len(due)
            right = all(text.startswith(begin) for text, begin in zip(texts, due, strict=False))
            good = right and (not whole and not reader.done if cut else whole)
            self._note(plan, "whole" if whole else "cut off, and visibly" if good else "cut off", good)
            return
        allowed = plan.trouble.statuses if plan.trouble else plan.refused.statuses if plan.refused else ()
        error = json.loads(body)["error"]
        reasons = [one.get("reason") for one in error.get("details", ()) if one.get("reason")]
        good = reader.status in allowed and error["code"] == reader.status
        self._note(plan, f"{reader.status} {reasons[0] if reasons else error.get('status')}", good)

    def _note(self, plan: Plan, what: str, good: bool) -> None:
        self.seen[plan.name][what] += 1
        if not good:
            self.wrong.append(f"request {plan.number} ({plan.name}{', stream' if plan.streams else ''}): {what}")

    def unhidden(self) -> tuple[int, int]:
        """Return how many of the faults that another attempt hides were not hidden, and of how many."""
        hidden = [self.seen[one.name] for one in TROUBLES if one.statuses and one.statuses[0] == 200]
        return sum(seen.total() - seen["whole"] for seen in hidden), sum(seen.total() for seen in hidden)


class _Events:
    def feed(self, body: bytes) -> list[bytes]:
        """Return the data of the events of a whole stream."""
        return [line[5:].strip() for line in body.split(b"\n") if line.startswith(b"data:")]


EVENTS = _Events()


def said(event: bytes) -> str:
    """Return the text of an answer or event."""
    text: str = json.loads(event)["candidates"][0]["content"]["parts"][0]["text"]
    return text


async def soak(options: argparse.Namespace, directory: Path, stack: ExitStack) -> int:
    """Run, print, and return the exit status."""
    requests, warm_up = options.requests, options.warm_up
    running = pool.start(stack, directory, ACCOUNTS)
    load = Soak(running.gateway.port, options.seed)
    await load.run(0, warm_up)
    first = await running.at_rest()
    samples = [first]
    print(line(warm_up, first) + ", at rest", flush=True)
    served: dict[str, int] = {}
    began = time.monotonic()
    step = max(requests // 10, 1)
    for start in range(warm_up, warm_up + requests, step):
        await load.run(start, min(step, warm_up + requests - start))
        served = (await running.rest())["served"]
        samples.append(await running.held())
        print(line(load.done, samples[-1]), flush=True)
    seconds = time.monotonic() - began
    samples.append(await running.at_rest(first))
    print(line(load.done, samples[-1]) + ", at rest", flush=True)
    return report(options, load, samples, seconds, served)


def line(requests: int, held: pool.Held) -> str:
    """Return one sample for people."""
    return (
        f"after {requests:>7} requests: {held.resident / MIB:6.1f} MiB, {held.descriptors} descriptors,"
        f" {held.deferreds} Deferreds, {held.timers} timers, {held.objects} objects"
    )


def report(
    options: argparse.Namespace, load: Soak, samples: list[pool.Held], seconds: float, served: dict[str, int]
) -> int:
    """Print what was measured and whether it is as promised; return the exit status."""
    rate = options.requests / seconds
    print(f"\n{options.requests} requests in {seconds:.0f} s, {rate:.0f} a second; upstream in all: {served}")
    for name, seen in sorted(load.seen.items(), key=lambda item: -item[1].total()):
        print(f"  {name:<22} {seen.total():>7}  " + ", ".join(f"{what}: {n}" for what, n in seen.most_common(6)))
    first, last = samples[0], samples[-1]
    growth = last.resident - first.resident
    allowed = SHORT_GROWTH if options.short else GROWTH_PER_REQUEST * options.requests
    unhidden, faults = load.unhidden()
    checks = [
        (f"every answer as planned ({len(load.wrong)} were not)", not load.wrong),
        (f"faults that another attempt hides: {unhidden} of {faults} seen", unhidden <= MET_SHARE * faults + 2),
        (
            f"growth {growth / MIB:.2f} MiB in {options.requests} requests"
            f" ({growth / options.requests * 100_000 / MIB:.2f} MiB for 100,000), allowed {allowed / MIB:.2f} MiB",
            growth <= allowed,
        ),
        (f"descriptors {first.descriptors} before, {last.descriptors} after", last.descriptors <= first.descriptors),
        (f"Deferreds {first.deferreds} before, {last.deferreds} after", last.deferreds <= first.deferreds),
    ]
    for problem in load.wrong[:10]:
        print(f"wrong: {problem}")
    for words, good in checks:
        print(f"{'pass' if good else 'FAIL'}: {words}")
    if options.json is not None:
        document = {
            "requests": load.done, "seconds": seconds, "samples": [attrs.asdict(one) for one in samples],
            "seen": load.seen, "upstream": served, "wrong": load.wrong[:100],
        }  # fmt: skip
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 0 if all(good for _, good in checks) else 1


def main() -> int:
    """Run everything and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, metavar="N", help="after the warm-up (200,000)")
    parser.add_argument("--short", action="store_true", help="10,000 requests after a warm-up of 5,000")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    options = parser.parse_args()
    options.warm_up = 5_000 if options.short else 20_000
    options.requests = options.requests or (10_000 if options.short else 200_000)
    return processes.run(lambda directory, stack: soak(options, directory, stack))


if __name__ == "__main__":
    sys.exit(main())
