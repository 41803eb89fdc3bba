"""How well the base URLs do: a backend's own health, which no credential is blamed for.  Pure."""

from __future__ import annotations

import math

import attrs

EJECT_AFTER = 5
EJECT_SECONDS = 30.0
EJECT_LIMIT_SECONDS = 300.0


@attrs.define(eq=False, repr=False)
class _Base:
    failures: int = 0
    """In a row."""
    ejections: int = 0
    until: float = -math.inf


@attrs.define(eq=False, repr=False)
class Bases:
    """The base URLs that are not at their best.  Times are seconds of a monotonic clock."""

    _models: dict[tuple[str, str], float] = attrs.field(factory=dict)
    failing: dict[str, _Base] = attrs.field(factory=dict)
    """Those that did not answer last."""

    def until(self, base: str, model: str, now: float) -> float:
        """Return until when other bases are better for a model; ``now`` or earlier where this one is good."""
        whole = self.failing.get(base)
        return max(self._models.get((base, model), now), whole.until if whole else now)

    def cool(self, base: str, model: str, until: float) -> None:
        """Prefer other bases for a model until a time."""
        self._models[base, model] = max(until, self._models.get((base, model), until))

    def failed(self, base: str, now: float) -> float:
        """Count a failure of the backend's own; the fifth in a row ejects the base.

        Returns for how many seconds it is ejected by this one, 0 where it is not.  An ejected base comes last,
        it is never out.
        """
        state = self.failing.setdefault(base, _Base())
        state.failures += 1
        if state.failures < EJECT_AFTER:
            return 0.0
        state.failures = 0
        state.ejections += 1
        seconds = min(EJECT_SECONDS * state.ejections, EJECT_LIMIT_SECONDS)
        state.until = now + seconds
        return seconds

    def answered(self, base: str) -> None:
        """Take note that a base does its work."""
        self.failing.pop(base, None)

    def prune(self, now: float) -> None:
        """Forget cool-downs that are over."""
        for pair, until in list(self._models.items()):
            if until <= now:
                del self._models[pair]
