"""What a credential is to a model at one moment, and the rests that make it so.  Pure."""

from __future__ import annotations

import enum

import attrs

ANY = "*"
"""In a model's place: every model."""
PROBE_EVERY_SECONDS = 900.0
PROBE_WAIT_SECONDS = 1.0
"""What somebody is told to wait who comes while a probe is out."""


class State(enum.Enum):
    """What a credential is to a model at one moment."""

    OK = "ok"
    COOLING = "cooling"
    HALF_OPEN = "half-open"
    QUARANTINED = "quarantined"
    DISABLED = "disabled"
    HALTED = "halted"


@attrs.frozen
class Availability:
    """Whether a credential may be used for a model now."""

    state: State
    usable: bool
    free_at: float | None = None
    """When it may be used again, if time alone decides."""
    reason: str = ""
    until: float | None = attrs.field(default=None, eq=False)
    """When the rest that was ordered ends; a long one is probed before."""


@attrs.define(eq=False)
class Rest:
    """A rest and what follows it: one probe at a time, until one of them goes well.

    A new order makes a new rest, so that a probe of the old one neither ends the new one nor lets another probe out.
    """

    until: float
    strikes: int
    """How many rests there were in a row, this one included."""
    reason: str
    probe_at: float
    """When a long rest is probed before it is over; never for a short one."""
    probing: bool = False

    def availability(self, now: float) -> Availability:
        """Return what it makes of a credential now."""
        opens = min(self.until, self.probe_at)
        if now < opens:
            return Availability(State.COOLING, False, opens, self.reason, self.until)
        if self.probing:
            return Availability(State.HALF_OPEN, False, now + PROBE_WAIT_SECONDS, self.reason, self.until)
        return Availability(State.HALF_OPEN, True, None, self.reason, self.until)

    def begin_probe(self, now: float) -> bool:
        """Say whether a request that goes out now is the probe; if so, the next one of a long rest is put off."""
        if self.probing or now < min(self.until, self.probe_at):
            return False
        self.probing = True
        if now < self.until:
            self.probe_at = now + PROBE_EVERY_SECONDS
        return True
