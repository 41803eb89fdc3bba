"""Figures of a run: medians, spreads, pairs, and the table.  Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import attrs


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
        """Return ``median (least..most)``."""
        return f"{self.median:.{digits}f} ({self.least:.{digits}f}..{self.most:.{digits}f})"


@attrs.frozen
class Row:
    """One kind of load: CPU per counted unit, in microseconds, of both processes, round by round."""

    title: str
    baseline_us: tuple[float, ...]
    subject_us: tuple[float, ...]

    @property
    def ratio(self) -> Spread:
        """How many times cheaper the subject is; each round's pair on its own."""
        return Spread.of([a / b for a, b in zip(self.baseline_us, self.subject_us, strict=True)])


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that ``share`` of ``values`` do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Lay out ``lines`` in columns; the first line is the heading."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rule = ["-" * width for width in widths]
    padded = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [lines[0], rule, *lines[1:]]
    ]
    return "\n".join(padded)


def cpu_table(rows: Sequence[Row], baseline: str, subject: str) -> str:
    """Return the table of CPU costs and ratios."""
    lines = [["CPU per", f"{baseline}, µs", f"{subject}, µs", "times cheaper"]]
    for row in rows:
        lines.append(
            [
                row.title,
                Spread.of(row.baseline_us).show(1),
                Spread.of(row.subject_us).show(1),
                row.ratio.show(2),
            ]
        )
    return columns(lines)


def ttft_table(samples: dict[str, list[float]]) -> str:
    """Return the table of times to the first event."""
    lines = [["time to first event", "p50, ms", "p99, ms", "streams"]]
    for name, seconds in samples.items():
        p50, p99 = (1000 * percentile(seconds, share) for share in (0.5, 0.99))
        lines.append([name, f"{p50:.2f}", f"{p99:.2f}", str(len(seconds))])
    return columns(lines)


def memory_table(resident: dict[str, tuple[int, int]]) -> str:
    """Return the table of resident memory: before any request, and after the run."""
    lines = [["resident memory", "idle, MB", "after the run, MB"]]
    for name, (idle, after) in resident.items():
        lines.append([name, f"{idle / 1e6:.1f}", f"{after / 1e6:.1f}"])
    return columns(lines)
