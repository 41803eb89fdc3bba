"""Where a load goes, and the comparison of what comes with what was due.  Pure but for a clock."""

from __future__ import annotations

import time

import attrs
import faces
import http1
import shapes


@attrs.frozen
class Target:
    """Where a load goes, and in which language."""

    name: str
    port: int
    face: faces.Face

    def request(self, model: str, streams: bool) -> bytes:
        """Return the whole request for one call."""
        return self.face.request(self.port, model, streams)


class UnaryCheck:
    """Compares a whole answer with the one that was due."""

    content_type = b"application/json"
    first_at: float | None = None

    def __init__(self, face: faces.Face) -> None:
        self._face = face
        self._body = b""

    def piece(self, data: bytes) -> None:
        """Take a piece of the body."""
        self._body += data

    def end(self) -> int:
        """Return 0, the number of events, or raise."""
        if not self._face.says(self._body, shapes.unary()):
            raise http1.BadAnswer("the answer is not the one that upstream gave")
        return 0


class StreamCheck:
    """Compares each event of a stream with the one that was due, and sees when the first came."""

    content_type = b"text/event-stream"

    def __init__(self, face: faces.Face, count: int) -> None:
        self._face = face
        self._due = shapes.events(count)
        self._reader = http1.EventReader()
        self._seen = 0
        self.first_at: float | None = None

    def piece(self, data: bytes) -> None:
        """Take a piece of the body."""
        for event in self._reader.feed(data):
            if event == self._face.done and self._seen == len(self._due):
                continue
            if self.first_at is None:
                self.first_at = time.perf_counter()
            if self._seen == len(self._due) or not self._face.says(event, self._due[self._seen]):
                raise http1.BadAnswer(f"event {self._seen} is not the one that upstream sent: {event[:120]!r}")
            self._seen += 1

    def end(self) -> int:
        """Return the number of events, or raise."""
        self._reader.close()
        if self._seen != len(self._due):
            raise http1.BadAnswer(f"{self._seen} events of {len(self._due)}")
        return self._seen
