"""What is counted where it happens, in plain numbers, for whoever shows it.  Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import attrs

BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds: the upper bounds of the histograms' buckets."""
OTHER = "other"


Labels = tuple[str | int, ...]


class Counts(dict[Any, int]):
    """Numbers by their labels, which are one Labels each; what was not counted is 0."""

    def __missing__(self, key: Labels) -> int:
        return 0


@attrs.define(eq=False, repr=False)
class Histogram:
    """How often something took how long."""

    counts: list[int] = attrs.field(factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def took(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


@attrs.define(eq=False, repr=False)
class Names:
    """So many names are told apart; those that come after them, and those that are none, are ``other``."""

    most: int
    good: Callable[[str], bool]
    """Whether somebody who may choose labels knows the name."""
    _told: dict[str, str] = attrs.field(factory=dict)

    def label(self, name: str) -> str:
        """Return what a name is counted under."""
        known = self._told.get(name)
        if known is not None:
            return known
        if len(self._told) >= self.most or not self.good(name):
            return OTHER
        self._told[name] = name
        return name
