"""What a request is called in traces: W3C trace context, https://www.w3.org/TR/trace-context/.  Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import attrs
import msgspec

TRACEPARENT, TRACESTATE = b"traceparent", b"tracestate"
STATE_MOST = 512
"""Bytes of ``tracestate`` that are passed on; more is left out as a whole, as the specification has it."""

_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?\Z")
_STATE = re.compile(rb"[\x20-\x7e]+\Z")


class Parent(msgspec.Struct, frozen=True):
    """The span of whoever sent a request."""

    trace_id: str
    span_id: str
    sampled: bool
    state: str = ""
    """What other tracing systems have to say, passed on as it is."""


class Tried(msgspec.Struct, frozen=True):
    """One attempt's span."""

    span_id: str
    ended: float
    """In Unix seconds."""


@attrs.define(eq=False, repr=False)
class Trace:
    """One request's trace: its own span, and those of its attempts."""

    trace_id: str
    """32 hexadecimal digits, as 16 are ``span_id``."""
    span_id: str
    parent: Parent | None
    sampled: bool
    began: float
    """In Unix seconds."""
    _contexts: Contexts
    tried: list[Tried] = attrs.field(factory=list)
    """Beside the journal's attempts."""
    under_way: str = ""
    """The span of the attempt that is not judged yet."""
    under_way_since: float = 0.0

    def sent(self) -> tuple[tuple[bytes, bytes], ...]:
        """Begin an attempt's span, and return the header fields that name it upstream, where that is wanted."""
        self.under_way, self.under_way_since = self._contexts.new_span_id(), self._contexts.wall_seconds()
        if not self._contexts.propagates:
            return ()
        flags = "01" if self.sampled else "00"
        named = (TRACEPARENT, f"00-{self.trace_id}-{self.under_way}-{flags}".encode("ascii"))
        if self.parent is None or not self.parent.state:
            return (named,)
        return named, (TRACESTATE, self.parent.state.encode("ascii"))

    def judged(self) -> None:
        """Take note of an attempt's end, of one for which nothing was sent as well."""
        span_id, self.under_way = self.under_way or self._contexts.new_span_id(), ""
        self.tried.append(Tried(span_id, self._contexts.wall_seconds()))


class Contexts(msgspec.Struct, frozen=True):
    """Begins the traces of requests."""

    new_id: Callable[[int], int]
    """Gives so many random bits."""
    wall_seconds: Callable[[], float]
    sample: float
    """Of the requests whose sender decided nothing, the share that is told."""
    propagates: bool
    """Whether upstream is told which trace a request belongs to."""

    def begin(self, named: Mapping[bytes, Sequence[bytes]]) -> Trace:
        """Return a request's trace, given its header fields: its sender's, with the sender's decision, or a new one."""
        parent = parent_of(named)
        if parent is not None:
            trace_id, sampled = parent.trace_id, parent.sampled
        else:
            # An id of zeros means none.
            number = self.new_id(128) or 1
            trace_id, sampled = f"{number:032x}", (number & (1 << 64) - 1) < self.sample * (1 << 64)
        return Trace(trace_id, self.new_span_id(), parent, sampled, self.wall_seconds(), self)

    def new_span_id(self) -> str:
        """Return a span's id."""
        return f"{self.new_id(64) or 1:016x}"


def parent_of(named: Mapping[bytes, Sequence[bytes]]) -> Parent | None:
    """Return who sent a request, where its header says so as it is specified."""
    values = named.get(TRACEPARENT, ())
    if len(values) != 1:
        return None
    found = _PARENT.match(values[0].strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    if trace_id.strip(b"0") == b"" or span_id.strip(b"0") == b"":
        return None
    state = b",".join(value.strip() for value in named.get(TRACESTATE, ()))
    if len(state) > STATE_MOST or not _STATE.match(state):
        state = b""
    return Parent(trace_id.decode(), span_id.decode(), bool(int(flags, 16) & 1), state.decode())
