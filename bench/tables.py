"""A run's figures as reStructuredText.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import figures
from figures import KINDS, Spread

NOTHING = "\N{EM DASH}"


def list_table(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table whose first line is the heading."""
    out = [".. list-table::", "   :header-rows: 1", ""]
    for line in [heading, *lines]:
        out += [f"   {'*' if at == 0 else ' '} - {cell}" for at, cell in enumerate(line)]
    return "\n".join(out)


def of_kinds(board: figures.Figures, kinds: Sequence[str], headings: Mapping[str, str]) -> str:
    """Return a table with a line for each name and a column for each kind."""
    names = _names(board, kinds)
    lines = []
    for name in names:
        cells = []
        for kind in kinds:
            values = board.row(kind).values.get(name)
            cells.append(Spread.of(values).show(KINDS[kind].digits) if values else NOTHING)
        lines.append([name, *cells])
    return list_table(["relay", *(f"{headings[kind]}, {KINDS[kind].unit}" for kind in kinds)], lines)


def of_ratios(board: figures.Figures, kinds: Sequence[str], headings: Mapping[str, str], over: str) -> str:
    """Return a table of how many times less than ``over`` each is, pair by pair."""
    lines = []
    for name in _names(board, kinds):
        found = [board.row(kind).ratios(over, name) for kind in kinds]
        if name != over and any(found):
            lines.append([name, *(ratio.show(2) if ratio else NOTHING for ratio in found)])
    return list_table(["times less than " + over, *(headings[kind] for kind in kinds)], lines)


def of_added(board: figures.Figures) -> str:
    """Return a table of times at low rates, and how much of them each relay added to the direct way's."""
    lines = []
    for name in _names(board, ["unary-p50", "ttft-p50"]):
        cells = []
        for kind in ("unary", "ttft", "awake", "often"):
            for part in ("p50", "p99"):
                row = board.row(f"{kind}-{part}").values
                cells.append(_added(row.get(name), row.get(figures.DIRECT), name == figures.DIRECT))
        lines.append([name, *cells])
    whats = ("unary answer, 40/s,", "first event, 40/s,", "first event, 40/s, awake,", "first event, 200/s,")
    heading = [f"{what} {part}, ms" for what in whats for part in ("p50", "p99")]
    return list_table(["relay", *heading], lines)


def _added(values: Sequence[float] | None, direct: Sequence[float] | None, itself: bool) -> str:
    if not values:
        return NOTHING
    whole = Spread.of(values).median
    if itself or not direct or len(direct) != len(values):
        return f"{whole:.2f}"
    added = Spread.of([a - b for a, b in zip(values, direct, strict=True)]).median
    return f"{whole:.2f} (+{added:.2f})"


def _names(board: figures.Figures, kinds: Sequence[str]) -> list[str]:
    """Return all that have a figure of these kinds or a reason for none, those that take part first."""
    seen = [name for kind in kinds for name in [*board.row(kind).values, *board.row(kind).problems]]
    others = [name for name in dict.fromkeys(seen) if name not in board.subjects]
    return [*board.subjects, *others]


def missing(board: figures.Figures) -> list[str]:
    """Return a line for everybody and every kind of which there is no figure, and why."""
    lines = [f"{name}: {figures.first_line(one.problem)}" for name, one in board.subjects.items() if one.problem]
    for kind, row in board.rows.items():
        lines += [f"{name}, {KINDS[kind].title}: {figures.first_line(why)}" for name, why in row.problems.items()]
    return lines
