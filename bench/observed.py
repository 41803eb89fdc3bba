"""What the simulator saw of a run: its control routes, its record without gaps.  Does I/O."""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Sequence
from typing import Any

import attrs
import http1
import msgspec
import outages

POLL_SECONDS = 3.0
"""The record keeps the last 1,000 requests, and a run sees some 100 a second at most."""


class Lost(Exception):
    """The record does not hold all that came."""


@attrs.define(eq=False)
class Control:
    """The simulator's control routes."""

    port: int

    async def ask(self, method: str, path: str, document: Any = None) -> Any:
        """Return the answer to one control request; raises BadAnswer."""
        body = b"" if document is None else msgspec.json.encode(document)
        stream, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            head = f"{method} /_simulator{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode("ascii") + body)
            reader, answer = http1.ResponseReader(), b""
            while not reader.done:
                data = await asyncio.wait_for(stream.read(1 << 20), 30)
                if not data:
                    raise http1.BadAnswer("the simulator broke the connection")
                answer += reader.feed(data)
        finally:
            writer.close()
        if reader.status != 200:
            raise http1.BadAnswer(f"the simulator answered {reader.status}: {answer[:500]!r}")
        return msgspec.json.decode(answer)

    async def schedule(self, schedule: Sequence[outages.Outage], face: str, starts_at: float) -> int:
        """Set the rules of a schedule whose second 0 is ``starts_at`` (time.time); return how many there are."""
        count = 0
        for start, end, rule in outages.rules(schedule, face):
            now = time.time()
            times = {"from": max(starts_at + start - now, 0.0), "until": starts_at + end - now}
            await self.ask("POST", "/faults", {**rule, **times})
            count += 1
        return count


@attrs.define(eq=False)
class Observer:
    """Counts what arrives, polling the record while a run goes on."""

    control: Control
    attempts: int = 0
    """Generations that were asked for."""
    others: collections.Counter[str] = attrs.Factory(collections.Counter)
    """Everything else, by verb."""
    statuses: collections.Counter[str] = attrs.Factory(collections.Counter)
    """Generations by the status they were answered with."""
    served: collections.Counter[str] = attrs.Factory(collections.Counter)
    """Good answers by credential."""
    _seen: int = 0
    _open: set[int] = attrs.Factory(set)

    async def begin(self) -> None:
        """Count from now on."""
        self._seen = int((await self.control.ask("GET", "/state"))["requests"])

    async def watch(self) -> None:
        """Poll until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self.poll()

    async def poll(self) -> None:
        """Take in what is new; raises Lost where something is missing."""
        total = int((await self.control.ask("GET", "/state"))["requests"])
        entries = (await self.control.ask("GET", "/requests"))["requests"]
        new = [entry for entry in entries if entry["id"] > self._seen]
        # More may have come between the two questions, never fewer.
        if len(new) < total - self._seen or [entry["id"] for entry in new] != list(
            range(self._seen + 1, self._seen + 1 + len(new))
        ):
            raise Lost(f"{len(new)} of {total - self._seen} requests are in the simulator's record")
        for entry in new:
            self._count(entry)
        self._seen += len(new)

    def _count(self, entry: dict[str, Any]) -> None:
        if entry["verb"] not in ("generateContent", "streamGenerateContent"):
            self.others[entry["verb"]] += 1
            return
        self.attempts += 1
        # An answer on its way has its status already, since nothing here delays one.
        status = entry["status"]
        self.statuses[str(status)] += 1
        if status == 200:
            self.served[entry["credential"]] += 1
