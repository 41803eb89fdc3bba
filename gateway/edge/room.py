"""How much the gateway has under way, and how much it takes: streams, and bytes of bodies.  Pure."""

from __future__ import annotations

import attrs

from gateway.calls import GatewayError
from gateway.config import Limits


@attrs.define(eq=False, repr=False)
class Room:
    """Counts what is under way; who finds no room is told to come back, and what is under way goes on."""

    limits: Limits
    streams: int = 0
    buffered: int = 0
    """Bytes of the bodies of all requests under way."""

    def take_stream(self) -> None:
        """Make room for a stream; raises GatewayError."""
        if self.streams >= self.limits.streams:
            raise overloaded("as many streams as it may (limits.streams)")
        self.streams += 1

    def give_stream(self) -> None:
        """A stream is over."""
        self.streams -= 1

    def expect(self, size: int) -> None:
        """Raise GatewayError where a body of that size would find no room."""
        if self.buffered + size > self.limits.buffered:
            raise overloaded("as many bytes of requests as it may (limits.buffered)")

    def take(self, size: int) -> None:
        """Make room for the next bytes of a body; raises GatewayError."""
        if self.buffered + size > self.limits.buffered:
            self.expect(size)
        self.buffered += size

    def give(self, size: int) -> None:
        """The bytes of a body are needed no more."""
        self.buffered -= size


def overloaded(why: str) -> GatewayError:
    """Return what a client is told that finds no room."""
    return GatewayError(
        503,
        "UNAVAILABLE",
        "OVERLOADED",
        f"The gateway has {why}; try again in a moment.",
        retry_after_seconds=1.0,
    )
