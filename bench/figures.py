"""The figures of a run: what was measured, of whom, round by round, and what follows from it.  Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec

OURS = "gateway"
BASELINE = "bare"
DEFAULTS = "bare-defaults"
"""The baseline as one writes it who leaves treq's client as it comes."""
DIRECT = "direct"
"""The load straight on upstream, without a relay."""
JSON = "json alone"
"""What json.loads and json.dumps take for the same body, without a relay."""
LOOK = "our JSON alone"
"""What the gateway's own look at it takes, without a relay."""
REST = "gateway, no body"
"""The gateway while nothing passes it."""
AGAIN = "bare again"
"""A second process of the baseline, to see how far a ratio can be trusted."""
NEEDED = {OURS, BASELINE, DIRECT, AGAIN}


@attrs.frozen
class Spread:
    """A median with the smallest and the largest value beside it."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise ``values``."""
        return cls(statistics.median(values), min(values), max(values))

    def show(self, digits: int) -> str:
        """Return ``median (least..most)``, or the one value that there is."""
        if self.least == self.most:
            return f"{self.median:.{digits}f}"
        return f"{self.median:.{digits}f} ({self.least:.{digits}f}..{self.most:.{digits}f})"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of ``values`` do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def first_line(why: str) -> str:
    """Return the first line of why a figure is missing, short enough for a table."""
    return (why.splitlines() or ["no reason given"])[0][:160]


@attrs.frozen
class Kind:
    """A kind of figure."""

    title: str
    unit: str
    digits: int = 1
    paired: bool = False
    """Taken in rounds, in which each relay has its turn: ratios are taken round by round."""


KINDS: Mapping[str, Kind] = {
    "cpu-unary": Kind("CPU per unary request, 2 KB", "µs", paired=True),
    "cpu-burst": Kind("CPU per SSE event, burst", "µs", paired=True),
    "cpu-paced": Kind("CPU per SSE event, 20 ms apart", "µs", paired=True),
    "cpu-tls": Kind("CPU per unary request, 2 KB, upstream over TLS", "µs", paired=True),
    "unary-p50": Kind("unary answer at a low rate, p50", "ms", 2, paired=True),
    "unary-p99": Kind("unary answer at a low rate, p99", "ms", 2),
    "ttft-p50": Kind("first event at a low rate, p50", "ms", 2, paired=True),
    "ttft-p99": Kind("first event at a low rate, p99", "ms", 2),
    "awake-p50": Kind("first event at a low rate, processors kept awake, p50", "ms", 2, paired=True),
    "awake-p99": Kind("first event at a low rate, processors kept awake, p99", "ms", 2),
    "often-p50": Kind("first event at 200 a second, p50", "ms", 2, paired=True),
    "often-p99": Kind("first event at 200 a second, p99", "ms", 2),
    "cpu-1mb": Kind("CPU per request with a 1 MB image", "ms", 2, paired=True),
    "cpu-20mb": Kind("CPU per request with a 20 MB image", "ms", paired=True),
    "peak-1mb": Kind("peak memory over idle, 1 MB image", "MB"),
    "peak-20mb": Kind("peak memory over idle, 20 MB image", "MB"),
    "wait-1mb": Kind("longest wait of another request meanwhile, 1 MB image", "ms"),
    "wait-20mb": Kind("longest wait of another request meanwhile, 20 MB image", "ms"),
    "rps": Kind("requests a second, one process", "1/s", 0),
    "rps-two": Kind("requests a second, two processes on one port", "1/s", 0),
    "memory-idle": Kind("memory before the first request", "MB"),
    "memory-streams": Kind("memory per 1,000 open streams", "MB"),
    "crowd-cpu": Kind("CPU under the crowd of streams, an event a second each", "cores", 2),
    "crowd-events": Kind("events that came in the time in which they were due", "%"),
    "crowd-p50": Kind("event lag under the crowd, p50", "ms"),
    "crowd-p99": Kind("event lag under the crowd, p99", "ms"),
    "start": Kind("start to first answer", "s", 2),
}


class Subject(msgspec.Struct):
    """One of those that were compared."""

    version: str
    does: str
    problem: str = ""
    """Why there are no figures of it at all; empty otherwise."""


class Row(msgspec.Struct):
    """The figures of one kind, by name, in the order of the rounds, and why some are missing."""

    values: dict[str, list[float]] = {}
    problems: dict[str, str] = {}

    def ratios(self, over: str, under: str) -> Spread | None:
        """Return how many times more ``over`` is than ``under``, pair by pair, if both are there."""
        a, b = self.values.get(over), self.values.get(under)
        if not a or not b or len(a) != len(b) or not all(b):
            return None
        return Spread.of([x / y for x, y in zip(a, b, strict=True)])


class Figures(msgspec.Struct):
    """All figures of a run."""

    machine: dict[str, Any]
    size: dict[str, Any]
    seconds: float = 0.0
    subjects: dict[str, Subject] = {}
    rows: dict[str, Row] = {}

    def row(self, kind: str) -> Row:
        """Return a kind's row, made where it is not there."""
        return self.rows.setdefault(kind, Row())

    def add(self, kind: str, name: str, value: float) -> None:
        """Keep one figure."""
        self.row(kind).values.setdefault(name, []).append(value)

    def fail(self, kind: str, name: str, why: str) -> None:
        """Say why a figure is missing; what there was of it no longer counts."""
        row = self.row(kind)
        row.problems.setdefault(name, why)
        row.values.pop(name, None)

    def failed(self, kind: str, name: str) -> bool:
        """Whether a figure is known to be missing."""
        return name in self.row(kind).problems

    def wrong(self) -> list[str]:
        """Return what went wrong with the gateway, and with all that its ratios need."""
        found = [f"{name}: {one.problem}" for name, one in self.subjects.items() if one.problem and name in NEEDED]
        for kind, row in self.rows.items():
            needed = NEEDED if KINDS[kind].paired else {OURS}
            found += [f"{name}, {KINDS[kind].title}: {why}" for name, why in row.problems.items() if name in needed]
        return found
