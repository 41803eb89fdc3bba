"""What a credential is to a model at one moment, and the rests that make it so.  Pure."""

from __future__ import annotations

import enum

import attrs

ANY = "*"
"""In a model's place: every model."""
PROBE_EVERY_SECONDS = 900.0


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
    """When it may be used again, if time alone decides, or when the probe that decides is expected to be back."""
    reason: str = ""
    until: float | None = attrs.field(default=None, eq=False)
    """When the rest that was ordered ends; a long one is probed before."""
    probed: bool = False
    """Whether a probe is out, whose end may free it at any moment."""


@attrs.define(eq=False, repr=False)
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
    probe_since: float | None = None
    """When its probe went out, where one is under way."""

    def availability(self, now: float, probe_left: float = 0.0) -> Availability:
        """Return what it makes of a credential now; a probe under way is expected back in ``probe_left`` seconds."""
        opens = min(self.until, self.probe_at)
        probed = self.probe_since is not None
        if now < opens:
            # The probe of a long rest will most likely fail, and then it is the next one that decides.
            return Availability(State.COOLING, False, opens, self.reason, self.until, probed)
        if probed:
            return Availability(State.HALF_OPEN, False, now + probe_left, self.reason, self.until, True)
        return Availability(State.HALF_OPEN, True, None, self.reason, self.until)

    def begin_probe(self, now: float, next_at: float) -> bool:
        """Say whether a request that goes out now is the probe; of a long rest the next one comes at ``next_at``."""
        if self.probe_since is not None or now < min(self.until, self.probe_at):
            return False
        self.probe_since = now
        if now < self.until:
            self.probe_at = next_at
        return True
