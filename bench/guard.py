"""The regression guard: this run's ratios beside the recorded ones.  Reads and writes one file.

What is recorded is how many times cheaper than the bare relay the gateway was, in one run on one machine, since
such a ratio hardly depends on the machine.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import figures

RECORDED = Path(__file__).with_name("recorded.json")
FALL = 0.20
"""By how much of the recorded ratio a ratio may be behind it."""


def ratios(board: figures.Figures) -> dict[str, float]:
    """Return the median of each kind of CPU's ratios, pair by pair."""
    found = {}
    for kind, row in board.rows.items():
        ratio = row.ratios(figures.BASELINE, figures.OURS)
        if ratio is not None and kind.startswith("cpu-") and figures.KINDS[kind].paired:
            found[kind] = round(ratio.median, 3)
    return found


def judge(now: Mapping[str, float], recorded: Mapping[str, float]) -> list[tuple[bool, str]]:
    """Return for each recorded ratio whether this run's is good enough, and a sentence."""
    lines = []
    for kind, due in recorded.items():
        title, ratio = figures.KINDS[kind].title, now.get(kind)
        if ratio is None:
            lines.append((False, f"{title}: not measured, recorded {due:.2f}"))
        else:
            least = due * (1 - FALL)
            lines.append((ratio >= least, f"{title}: {ratio:.2f} times cheaper, recorded {due:.2f}, least {least:.2f}"))
    return lines


def record(board: figures.Figures) -> None:
    """Write this run's ratios."""
    RECORDED.write_text(json.dumps(ratios(board), indent=1) + "\n", "utf-8")


def check(board: figures.Figures) -> int:
    """Say how the ratios compare and return the exit status."""
    if not RECORDED.exists():
        print(f"{RECORDED.name} is not there: run with --record", file=sys.stderr)
        return 1
    lines = judge(ratios(board), json.loads(RECORDED.read_text("utf-8")))
    for good, sentence in lines:
        print(f"{'pass' if good else 'FAIL'}: {sentence}")
    return 0 if lines and all(good for good, _ in lines) else 1
