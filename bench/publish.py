"""Put a run's figures into the documentation: python bench/publish.py figures.json

It writes what stands between the two marks in docs/performance.rst, and the pictures beside it; the rest of the
page is written by hand and stays.  Reads and writes files.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import aims
import figures
import msgspec
import plots
import tables
from figures import KINDS, Spread

DOCS = Path(__file__).resolve().parent.parent / "docs"
BEGIN = ".. Figures begin here: bench/publish.py writes them."
END = ".. Figures end here."
_SHORT: Mapping[str, str] = {
    "cpu-unary": "unary, 2 KB",
    "cpu-tls": "unary, TLS upstream",
    "cpu-burst": "event, burst",
    "cpu-paced": "event, 20 ms apart",
    "cpu-1mb": "CPU, 1 MB",
    "cpu-20mb": "CPU, 20 MB",
    "peak-1mb": "peak memory, 1 MB",
    "peak-20mb": "peak memory, 20 MB",
    "wait-1mb": "longest wait, 1 MB",
    "wait-20mb": "longest wait, 20 MB",
    "rps": "requests/s, one process",
    "rps-two": "two processes",
    "start": "start to first answer",
    "memory-idle": "memory, idle",
    "memory-streams": "per 1,000 streams",
    "crowd-cpu": "CPU",
    "crowd-events": "events in time",
    "crowd-p50": "event lag p50",
    "crowd-p99": "event lag p99",
}
_CPU = ["cpu-unary", "cpu-tls", "cpu-burst", "cpu-paced"]
_BODIES = ["cpu-1mb", "cpu-20mb", "peak-1mb", "peak-20mb", "wait-1mb", "wait-20mb"]
_PICTURES: Mapping[str, list[str]] = {
    "performance-cpu.svg": _CPU,
    "performance-times.svg": ["unary-p50", "ttft-p50", "ttft-p99"],
    "performance-bodies.svg": ["cpu-20mb", "peak-20mb", "wait-20mb"],
}


def picture(board: figures.Figures, kinds: list[str]) -> str:
    """Return a picture with a panel for each kind."""
    panels = []
    for kind in kinds:
        values = {name: Spread.of(all_of) for name, all_of in board.row(kind).values.items()}
        ordered = dict(sorted(values.items(), key=lambda item: item[1].median))
        panels.append(plots.Panel(KINDS[kind].title, KINDS[kind].unit, KINDS[kind].digits, ordered))
    return plots.svg(panels)


def machine(board: figures.Figures) -> str:
    """Return a sentence about the machine and the run."""
    facts, size = board.machine, board.size
    sentence = (
        f"Measured on {facts['cores']} cores of {facts['cpu']}, Linux {facts['kernel']}, CPython {facts['python']}, "
        f"OpenSSL {facts['openssl']}, load average {facts['load_average']:.1f} at the start, "
        f"{facts['time']}; {size['rounds']['rounds']} rounds, {board.seconds / 60:.0f} minutes.  Medians, with the "
        "least and the greatest beside them where there was more than one."
    )
    return textwrap.fill(sentence, 112)


def _does(subject: figures.Subject) -> str:
    """Return what a relay is and does, as the body of a definition."""
    version = subject.version or figures.first_line(subject.problem)
    return textwrap.fill(f"{version}: {subject.does}.", 112, initial_indent="    ", subsequent_indent="    ")


def _section(title: str, *blocks: str) -> str:
    return "\n\n".join([f"{title}\n{'-' * len(title)}", *blocks])


def text(board: figures.Figures) -> str:
    """Return the sections that hold the figures."""

    def table(kinds: list[str]) -> str:
        return tables.of_kinds(board, kinds, _SHORT)

    def image(name: str, alt: str) -> str:
        return f".. image:: {name}\n   :alt: {alt}"

    streams = f"{board.size['streams']:,}"
    parts = [f"{name}\n{_does(one)}" for name, one in board.subjects.items()]
    sections = [
        _section("Who took part", machine(board), "\n".join(parts)),
        _section("What was aimed at", tables.list_table(aims.HEADING, aims.lines(board))),
        _section(
            "CPU per request and per event",
            table(_CPU),
            tables.of_ratios(board, _CPU, _SHORT, figures.BASELINE),
            image("performance-cpu.svg", "CPU per request and event, by relay"),
        ),
        _section(
            "Times at low rates",
            "The whole time, and in brackets what the relay added to the direct way's.",
            tables.of_added(board),
            image("performance-times.svg", "Times at low rates, by relay"),
        ),
        _section(
            "Inline images",
            table(_BODIES),
            tables.of_ratios(board, ["cpu-1mb", "cpu-20mb"], _SHORT, figures.JSON),
            image("performance-bodies.svg", "CPU, memory and waits with a 20 MB body, by relay"),
        ),
        _section("Throughput, start and memory", table(["rps", "rps-two", "start", "memory-idle", "memory-streams"])),
        _section(f"{streams} streams", table(["crowd-cpu", "crowd-events", "crowd-p50", "crowd-p99"])),
    ]
    if lines := tables.missing(board):
        sections.append(_section("What is missing", "\n".join(f"* {line}" for line in lines)))
    return "\n\n".join(sections)


def replaced(page: str, generated: str) -> str:
    """Return ``page`` with what is between the marks replaced; raises ValueError where a mark is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page needs two lines: {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{generated}\n\n{END}{after}"


def main() -> int:
    """Read the figures and write page and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("figures", type=Path, help="what run.py --all --json wrote")
    parser.add_argument("--docs", type=Path, default=DOCS, help="another directory than docs/")
    options = parser.parse_args()
    board = msgspec.json.decode(options.figures.read_bytes(), type=figures.Figures)
    page = options.docs / "performance.rst"
    written = replaced(page.read_text("utf-8"), text(board))
    for name, kinds in _PICTURES.items():
        (options.docs / name).write_text(picture(board, kinds), "utf-8")
    page.write_text(written, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
