"""Actions on a stream of events: what is in it, how it is framed, how fast it runs.  Pure."""

from typing import Any

import attrs
import msgspec
from msgspec import field

from gateway.simulator import steps as s
from gateway.simulator.action import Base, Code, Count, Seconds, Shape, Size
from gateway.simulator.reasons import REASONS, STATUSES, Scene, error, usual
from gateway.simulator.steps import Framing, Step, Steps

#: How a broken stream may go on, by the name of ``then``.
ENDINGS: dict[str, list[Step]] = {"finish": [s.Finish()], "close": [s.Close()], "reset": [s.Reset()]}


class ErrorEvent(Base, frozen=True, tag="error_event"):
    """An error as an event of the stream; ``then``: finish, close, reset, or go on as if nothing had been."""

    after: Count = 1
    code: Code = 503
    reason: str | None = None
    body: Any = None
    then: str = "finish"

    def __post_init__(self) -> None:
        if self.then not in (*ENDINGS, "continue"):
            raise ValueError("then is one of finish, close, reset, continue")
        if self.reason is not None and self.reason not in REASONS:
            raise ValueError(f"no reason is called {self.reason!r}; there are: {', '.join(REASONS)}")

    def stream(self, steps: Steps) -> Steps:
        """Put the error behind so many events."""
        reason = REASONS[self.reason] if self.reason else usual(self.code)
        document = self.body if self.body is not None else reason.build(Scene())
        if isinstance(document, str):
            document = error(reason.code, STATUSES.get(reason.code, "UNKNOWN"))
        inserted: list[Step] = [s.Event(msgspec.json.encode(document)), *ENDINGS.get(self.then, [])]
        return s.interrupted(steps, self.after, inserted, stop=self.then != "continue")


class RawEvent(Base, frozen=True, tag="raw_event"):
    """An event whose payload is this text, JSON or not; ``base64`` gives bytes that are no UTF-8."""

    text: str = ""
    base64: bytes = b""
    after: Count = 1

    def stream(self, steps: Steps) -> Steps:
        """Put it behind so many events; the stream goes on."""
        return s.interrupted(steps, self.after, [s.Event(self.base64 or self.text.encode())], stop=False)


class NotJson(Base, frozen=True, tag="not_json"):
    """An event whose payload is broken JSON."""

    after: Count = 1

    def stream(self, steps: Steps) -> Steps:
        """Put it behind so many events; the stream goes on."""
        return s.interrupted(steps, self.after, [s.Event(b'{"candidates": [{"content": {')], stop=False)


class Done(Base, frozen=True, tag="done"):
    """A ``[DONE]`` event at the end."""

    def stream(self, steps: Steps) -> Steps:
        """Put the marker before the end."""
        for step in steps:
            if isinstance(step, s.Finish):
                yield s.Event(b"[DONE]")
            yield step


class EmptyStream(Base, frozen=True, tag="empty_stream"):
    """A stream with its head and its end and no event between."""

    def stream(self, steps: Steps) -> Steps:
        """Drop the events."""
        return (step for step in steps if not isinstance(step, (s.Event, s.Wait)))


#: Framing variants: name to what they change.
FRAMINGS: dict[str, dict[str, Any]] = {
    "crlf": {"newline": b"\r\n"},
    "cr": {"newline": b"\r"},
    "comments": {"comments": True},
    "fields": {"fields": True},
    "no_space": {"space": False},
    "multiline": {"multiline": True},
    "bom": {"bom": True},
    "no_last_blank": {"last_blank": False},
}


class FramingAction(Base, frozen=True, tag="framing"):
    """SSE written in another way: any of the names of ``FRAMINGS`` together, and split into odd writes."""

    use: list[str] = field(default_factory=list)
    split: Size | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.use if name not in FRAMINGS]
        if unknown:
            raise ValueError(f"no framing is called {unknown[0]!r}; there are: {', '.join(FRAMINGS)}")

    def frame(self, framing: Framing) -> Framing:
        """All named changes together."""
        for name in self.use:
            framing = attrs.evolve(framing, **FRAMINGS[name])
        return framing

    def wire(self, steps: Steps) -> Steps:
        """Writes of so many bytes."""
        return s.split(steps, self.split) if self.split else steps


class Slow(Base, frozen=True, tag="slow"):
    """Another pace: ``pace`` seconds between two events."""

    pace: Seconds

    def shape(self, shape: Shape) -> Shape:
        """The pace."""
        return attrs.evolve(shape, pace=self.pace)


class Events(Base, frozen=True, tag="events"):
    """A stream of ``count`` events of ``event_bytes`` bytes of text each."""

    count: Size | None = None
    event_bytes: Size | None = None

    def shape(self, shape: Shape) -> Shape:
        """Number and size."""
        return attrs.evolve(shape, count=self.count or shape.count, size=self.event_bytes or shape.size)


class Endless(Base, frozen=True, tag="endless"):
    """Events for ever, as fast as the client reads, or at a pace."""

    event_bytes: Size | None = None
    pace: Seconds = 0.0

    def shape(self, shape: Shape) -> Shape:
        """No end; -1 is the number that never comes."""
        return Shape(self.pace, -1, self.event_bytes or shape.size)
