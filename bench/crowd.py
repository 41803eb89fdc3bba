"""A crowd: thousands of open streams with an event a second each.  Does I/O."""

from __future__ import annotations

import asyncio
import re
import time

import attrs
import http1
import msgspec
import processes
import race
import shapes
from checks import Target

MODEL = "clock-1000ms"
_STAMP = re.compile(rb"bench-at-(\d{20}) ")
_OPEN_SECONDS = 30.0
"""For the last streams to give their first event."""


@attrs.define(eq=False)
class Crowd:
    """What was seen of the streams."""

    target: Target
    count: int
    """How many streams there are to be."""
    opened: int = 0
    """Streams that gave at least one event."""
    lags: list[float] | None = None
    """Seconds from an event's sending to its arrival, while they are collected."""
    failures: list[str] = attrs.Factory(list)
    closing: bool = False
    complete: asyncio.Event = attrs.Factory(asyncio.Event)
    """Set when all streams gave an event, or one failed."""

    def first(self) -> None:
        """Count a stream that gave its first event."""
        self.opened += 1
        if self.opened == self.count:
            self.complete.set()

    def fail(self, why: str) -> None:
        """Keep what went wrong."""
        self.failures.append(why)
        self.complete.set()

    def event(self, raw: bytes) -> None:
        """Take one event in; raises BadAnswer where it is not the one that was due."""
        now = time.monotonic_ns()
        found = _STAMP.search(raw)
        if found is None or not self.target.face.says(raw, shapes.clocked(int(found[1]))):
            raise http1.BadAnswer(f"not the event that upstream sent: {raw[:120]!r}")
        if self.lags is not None:
            self.lags.append((now - int(found[1])) / 1e9)


class Stream(asyncio.Protocol):
    """One stream of the crowd."""

    def __init__(self, crowd: Crowd, request: bytes) -> None:
        self._crowd = crowd
        self._request = request
        self._response = http1.ResponseReader()
        self._events = http1.EventReader()
        self._silent = True
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        try:
            piece = self._response.feed(data)
            if self._response.status not in (0, 200) or self._response.done:
                raise http1.BadAnswer(f"status {self._response.status}, or an end: {piece[:200]!r}")
            for event in self._events.feed(piece):
                self._crowd.event(event)
                if self._silent:
                    self._silent = False
                    self._crowd.first()
        except (http1.BadAnswer, ValueError, KeyError, TypeError, msgspec.DecodeError) as wrong:
            self._crowd.fail(f"{type(wrong).__name__}: {wrong}")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._crowd.closing:
            self._crowd.fail("a stream broke")

    def close(self) -> None:
        """Leave."""
        if self._transport is not None:
            self._transport.abort()


@attrs.frozen
class Seen:
    """What a crowd came to."""

    megabytes_per_1000: float
    cores: float
    lags_seconds: list[float]
    share: float
    """Of the events that were due in that time, how many came: less than 1 where somebody could not keep up."""


async def gather(
    target: Target, process: processes.Measured, count: int, ramp_seconds: float, seconds: float
) -> Seen:
    """Open ``count`` streams evenly over ``ramp_seconds``, watch them for ``seconds``, and leave.

    Raises StartError when a stream broke, said something wrong or gave no first event.
    """
    crowd = Crowd(target, count)
    request = target.request(MODEL, True)
    loop = asyncio.get_running_loop()
    idle = process.resident_bytes()
    began = loop.time()
    streams: list[Stream] = []
    try:
        for number in range(count):
            await asyncio.sleep(began + ramp_seconds * number / count - loop.time())
            _, stream = await loop.create_connection(lambda: Stream(crowd, request), "127.0.0.1", target.port)
            streams.append(stream)
        try:
            await asyncio.wait_for(crowd.complete.wait(), _OPEN_SECONDS)
        except TimeoutError:
            crowd.failures.append(f"{crowd.opened} of {count} streams gave an event")
        await asyncio.sleep(1.0)  # the last ones' opening is not what is watched
        crowd.lags = []
        before, watched_from = process.cpu(), loop.time()
        await asyncio.sleep(seconds)
        cores = process.used_since(before) / (loop.time() - watched_from)
        grown = process.resident_bytes() - idle
        if crowd.failures:
            raise processes.StartError(f"{len(crowd.failures)} times: {crowd.failures[0]}")
        if not crowd.lags:
            raise processes.StartError(f"{count} streams gave no event in {seconds:.0f} s")
        return Seen(grown / 1e6 / count * 1000, cores, crowd.lags, len(crowd.lags) / (count * seconds))
    finally:
        crowd.closing = True
        for stream in streams:
            stream.close()
        await asyncio.sleep(0)


async def warmed(entrant: race.Entrant, count: int, ramp_seconds: float, seconds: float) -> Seen:
    """Gather a crowd at a relay that has just started, after a few streams that warm it up."""
    await gather(entrant.target, entrant.process, 8, 0.1, 1.5)  # an event of each at least
    await asyncio.sleep(0.5)
    return await gather(entrant.target, entrant.process, count, ramp_seconds, seconds)
