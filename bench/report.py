"""A run's figures as text.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

import aims
import figures
from figures import KINDS, Spread

__all__ = ["columns", "percentile", "table"]

percentile = figures.percentile


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Lay out ``lines`` in columns; the first line is the heading."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rule = ["-" * width for width in widths]
    padded = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [lines[0], rule, *lines[1:]]
    ]
    return "\n".join(padded)


def _against(row: figures.Row, name: str, paired: bool) -> str:
    """Return how many times less than the baseline."""
    ratio = row.ratios(figures.BASELINE, name) if paired and name != figures.BASELINE else None
    return ratio.show(2) if ratio else ""


def table(board: figures.Figures) -> str:
    """Return one table for each kind of figure, one line for each name."""
    blocks = []
    for kind, what in KINDS.items():
        row = board.rows.get(kind)
        if row is None or not (row.values or row.problems):
            continue
        lines = [[f"{what.title}, {what.unit}", "median (least..most)", f"times less than {figures.BASELINE}"]]
        for name, values in row.values.items():
            lines.append([name, Spread.of(values).show(what.digits), _against(row, name, what.paired)])
        for name, why in row.problems.items():
            lines.append([name, figures.first_line(why), ""])
        blocks.append(columns(lines))
    if reached := aims.lines(board):
        blocks.append(columns([aims.HEADING, *reached]))
    for name, subject in board.subjects.items():
        blocks.append(f"{name}: {subject.problem or subject.version}\n    {subject.does}")
    return "\n\n".join(blocks)
