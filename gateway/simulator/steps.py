"""An answer as a sequence of steps, before anything is sent.  Pure."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import msgspec

from gateway.simulator.reasons import JSON_TYPE, pretty

FOREVER = float("inf")
Headers = tuple[tuple[str, str], ...]


@attrs.frozen
class Head:
    """Status and headers.  ``length`` is Content-Length; ``None`` means chunked (or until close on HTTP/1.0)."""

    code: int
    headers: Headers
    length: int | None = None


@attrs.frozen
class Event:
    """One event's payload, before framing."""

    payload: bytes


@attrs.frozen
class Data:
    """Bytes of the body.  ``mark`` counts: the end of an event, or the middle of a unary body.

    ``said`` is the event, or the unary body, that is complete with them.
    """

    data: bytes
    mark: bool = False
    said: bytes = b""


@attrs.frozen
class Wait:
    """Send nothing for so many seconds, or forever."""

    seconds: float


@attrs.frozen
class Finish:
    """The answer is complete."""


@attrs.frozen
class Close:
    """FIN now, complete or not."""


@attrs.frozen
class Reset:
    """RST now."""


@attrs.frozen
class Interim:
    """A 1xx answer, with the real one still to come."""

    code: int


@attrs.frozen
class Raw:
    """Bytes for the connection itself, outside any HTTP answer."""

    data: bytes


Step = Interim | Raw | Head | Event | Data | Wait | Finish | Close | Reset
Steps = Iterator[Step]


@attrs.frozen
class Framing:
    """How an SSE stream is written.  The default is what clients expect of Google."""

    newline: bytes = b"\n"
    space: bool = True
    bom: bool = False
    comments: bool = False
    fields: bool = False
    multiline: bool = False
    last_blank: bool = True

    def encode(self, payload: bytes, number: int) -> bytes:
        """One event; ``number`` counts from 0."""
        end = self.newline
        lines: list[bytes] = []
        if self.comments:
            lines += [b": comment %d" % number, b""]
        if self.fields:
            lines += [b"event: message", b"id: %d" % number, b"retry: 3000"]
        prefix = b"data: " if self.space else b"data:"
        parts = _broken(payload) if self.multiline else [payload]
        lines += [prefix + part for part in parts]
        head = b"\xef\xbb\xbf" if self.bom and number == 0 else b""
        return head + end.join(lines) + end + end


def _broken(payload: bytes) -> list[bytes]:
    """JSON over several lines: an SSE reader joins them with newlines, which are white space between tokens."""
    try:
        return msgspec.json.format(payload, indent=1).split(b"\n")
    except msgspec.DecodeError:
        return [payload]


@attrs.frozen
class Unary:
    """A whole answer: ``document`` is JSON to print, or bytes to send as they are."""

    code: int
    document: Any
    headers: Headers = ()

    def body(self) -> bytes:
        """The document as bytes."""
        return self.document if isinstance(self.document, bytes) else pretty(self.document)

    def steps(self, divided: bool) -> Steps:
        """Head, body, end; ``divided`` writes the body in two halves, so that a fault can come between."""
        body = self.body()
        named = {name.lower() for name, _ in self.headers}
        kind: Headers = () if "content-type" in named else (("Content-Type", JSON_TYPE),)
        yield Head(self.code, kind + self.headers, len(body))
        half = len(body) // 2 if divided else len(body)
        yield Data(body[:half], mark=True, said=b"" if body[half:] else body)
        if body[half:]:
            yield Data(body[half:], said=body)
        yield Finish()


@attrs.frozen
class Stream:
    """An answer in events: an SSE stream, or a JSON array when ``array`` is set."""

    payloads: Iterable[bytes]
    array: bool = False

    def steps(self, pace: float) -> Steps:
        """Head, then the events with ``pace`` seconds between them."""
        kind = JSON_TYPE if self.array else "text/event-stream"
        yield Head(200, (("Content-Type", kind),))
        for number, payload in enumerate(self.payloads):
            if number and pace > 0:
                yield Wait(pace)
            yield Event(payload)
        yield Finish()


Answer = Unary | Stream


def framed_array(steps: Steps) -> Steps:
    """Events as the elements of one JSON array; the last byte is the bracket."""
    number = 0
    for step in steps:
        if isinstance(step, Event):
            yield Data((b",\r\n" if number else b"[") + step.payload, mark=True, said=step.payload)
            number += 1
        elif isinstance(step, Finish):
            yield Data(b"]" if number else b"[]")
            yield step
        else:
            yield step


def framed_sse(steps: Steps, framing: Framing) -> Steps:
    """Events as server-sent events."""
    number = 0
    held: bytes | None = None
    for step in steps:
        if isinstance(step, Event):
            data = framing.encode(step.payload, number)
            number += 1
            if framing.last_blank:
                yield Data(data, mark=True, said=step.payload)
                continue
            # The blank line is owed until it is known whether another event follows.
            yield Data((held or b"") + data[: -len(framing.newline)], mark=True, said=step.payload)
            held = framing.newline
        else:
            yield step


def interrupted(steps: Steps, after: int | None, inserted: Iterable[Step], stop: bool) -> Steps:
    """Put ``inserted`` before the head (``after`` is None), behind it (0), or behind the n-th event.

    With ``stop`` nothing follows; without, the answer goes on.  An answer too short for ``after`` is
    interrupted just before its end.
    """
    seen = 0
    waiting = True
    if after is None:
        yield from inserted
        waiting = False
        if stop:
            return
    for step in steps:
        due = waiting and not isinstance(step, Head) and (seen >= (after or 0) or isinstance(step, Finish))
        if due:
            waiting = False
            yield from inserted
            if stop:
                return
        yield step
        if isinstance(step, (Data, Event)) and getattr(step, "mark", True):
            seen += 1


def cut(steps: Steps, size: int) -> Steps:
    """FIN after so many bytes of the body."""
    left = size
    for step in steps:
        if isinstance(step, Data):
            if len(step.data) >= left:
                yield Data(step.data[:left], said=step.said if len(step.data) == left else b"")
                yield Close()
                return
            left -= len(step.data)
        yield step


def split(steps: Steps, size: int) -> Steps:
    """Every write in pieces of so many bytes, each sent on its own."""
    for step in steps:
        if not isinstance(step, Data):
            yield step
            continue
        for start in range(0, len(step.data), size):
            last = start + size >= len(step.data)
            yield Data(step.data[start : start + size], mark=step.mark and last, said=step.said if last else b"")
            yield Wait(0)


def rehead(steps: Steps, change: Callable[[Head], Head]) -> Steps:
    """The same answer with another head."""
    for step in steps:
        yield change(step) if isinstance(step, Head) else step
