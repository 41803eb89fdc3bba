"""What the simulator received and what became of it.  Pure."""

import hashlib
from collections import deque

import attrs

from gateway.simulator.produced import Tokens, told
from gateway.simulator.protojson import Json
from gateway.simulator.state import Ask


@attrs.define(eq=False)
class Entry:
    """One request.

    ``ended`` is "" while the answer is on its way, then ``complete``, ``closed`` or ``reset`` (by a fault), or
    ``left``: the client went before the answer ended.  Times are Unix time; ``body`` is its beginning, at most
    as many bytes as the record keeps, while ``length`` and ``sha256`` are of the whole.
    """

    number: int
    at: float
    face: str
    verb: str
    model: str
    credential: str
    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes
    length: int
    sha256: str
    rule: int | None = None
    status: int | None = None
    events: int = 0
    sent: int = 0
    first_at: float | None = None
    ended: str = ""
    ended_at: float | None = None
    said: bytes = attrs.field(default=b"", repr=False)
    """The last event that told of tokens, or the whole answer, once all of it has been sent."""
    tokens: Tokens | None = None
    """What it told of, when the answer has ended."""

    def report(self) -> Json:
        """The entry as JSON."""
        return {
            "id": self.number,
            "at": self.at,
            "face": self.face,
            "verb": self.verb,
            "model": self.model,
            "credential": self.credential,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": self.headers,
            "body": self.body.decode("utf-8", "replace"),
            "body_length": self.length,
            "body_sha256": self.sha256,
            "rule": self.rule,
            "status": self.status,
            "events_sent": self.events,
            "bytes_sent": self.sent,
            "first_byte_at": self.first_at,
            "ended": self.ended,
            "ended_at": self.ended_at,
            "tokens": None if self.tokens is None else self.tokens.report(),
            "client_left": self.ended == "left",
        }


@attrs.define(eq=False)
class Records:
    """The last so many requests, with the first so many bytes of each body."""

    keep: int = 1000
    keep_body: int = 65_536
    entries: deque[Entry] = attrs.Factory(deque)
    counts: dict[str, int] = attrs.Factory(dict)
    produced: dict[str, Tokens] = attrs.Factory(dict)
    """The tokens of all answers that have ended, whole or not, by model."""
    number: int = 0
    open: dict[int, Entry] = attrs.Factory(dict)

    def begin(self, ask: Ask, query: str, headers: list[tuple[str, str]]) -> Entry:
        """Note a request that has arrived."""
        self.number += 1
        entry = Entry(
            number=self.number,
            at=ask.now,
            face=ask.face,
            verb=ask.verb,
            model=ask.model,
            credential=ask.credential,
            method=ask.method,
            path=ask.path,
            query=query,
            headers=headers,
            body=ask.body[: self.keep_body],
            length=len(ask.body),
            sha256=hashlib.sha256(ask.body).hexdigest(),
        )
        self.entries.append(entry)
        while len(self.entries) > self.keep:
            self.entries.popleft()
        if len(self.counts) < 10_000 or ask.credential in self.counts:
            self.counts[ask.credential] = self.counts.get(ask.credential, 0) + 1
        self.open[entry.number] = entry
        return entry

    def end(self, entry: Entry, how: str, now: float) -> None:
        """Note how an answer ended; the first end holds."""
        if not entry.ended:
            entry.ended, entry.ended_at = how, now
            entry.tokens, entry.said = told(entry.said) if entry.said else None, b""
            if entry.tokens is not None:
                self.produced[entry.model] = self.produced.get(entry.model, Tokens()) + entry.tokens
            self.open.pop(entry.number, None)

    def clear(self) -> int:
        """Forget all requests and counts; how many entries there were.  Open answers are noted to their end."""
        gone = len(self.entries)
        self.entries.clear()
        self.counts.clear()
        self.produced.clear()
        return gone
