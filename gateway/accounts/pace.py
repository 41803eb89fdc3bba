"""How long answers take, and so when one that is awaited may be expected.  Pure."""

from __future__ import annotations

import attrs

FIRST_SECONDS = 1.0
"""What is taken for a model's time until one was seen."""
SHARE = 0.2
"""How much the last answer counts in the mean."""
LEAST_SECONDS = 1.0
MOST_SECONDS = 60.0
MODELS_MOST = 256


@attrs.define(eq=False, repr=False)
class Pace:
    """By model, the mean time from a request to its first good byte."""

    _seconds: dict[str, float] = attrs.field(factory=dict)

    def took(self, model: str, seconds: float) -> None:
        """Take note of a good answer; of too many models the one that was new longest ago is forgotten."""
        mean = self._seconds.get(model, seconds)
        self._seconds[model] = mean + (seconds - mean) * SHARE
        if len(self._seconds) > MODELS_MOST:
            del self._seconds[next(iter(self._seconds))]

    def left(self, model: str, elapsed: float) -> float:
        """Return in how many seconds an answer may be expected that has been awaited for ``elapsed``.

        One that is late by some time is expected to be late by as much again.
        """
        typical = self._seconds.get(model, FIRST_SECONDS)
        return min(max(abs(typical - elapsed), LEAST_SECONDS), MOST_SECONDS)
