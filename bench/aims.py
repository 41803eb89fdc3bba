"""What the gateway is meant to reach, and what a run's figures say of it.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import figures
from figures import BASELINE, DEFAULTS, DIRECT, JSON, LOOK, OURS, Spread

Measure = Callable[[figures.Figures], float | None]
MEGABYTES = 20
"""The larger of the bodies."""


def _cheaper(kind: str, over: str = BASELINE, who: str = OURS) -> Measure:
    """Return how many times less than another it takes, pair by pair."""

    def measure(board: figures.Figures) -> float | None:
        ratio = board.row(kind).ratios(over, who)
        return ratio.median if ratio else None

    return measure


def _median(kind: str, per: float = 1.0) -> Measure:
    def measure(board: figures.Figures) -> float | None:
        values = board.row(kind).values.get(OURS)
        return Spread.of(values).median / per if values else None

    return measure


def _added(kind: str) -> Measure:
    """Return how much more than the direct way's it takes."""

    def measure(board: figures.Figures) -> float | None:
        ours, direct = (board.row(kind).values.get(name) for name in (OURS, DIRECT))
        return Spread.of(ours).median - Spread.of(direct).median if ours and direct else None

    return measure


def _tls(board: figures.Figures) -> float | None:
    """Return how many times as much as over plain HTTP a request costs."""
    over_tls, plain = (board.row(kind).values.get(OURS) for kind in ("cpu-tls", "cpu-unary"))
    return Spread.of(over_tls).median / Spread.of(plain).median if over_tls and plain else None


@attrs.frozen
class Aim:
    """One aim: what must be reached and what would be good."""

    title: str
    measure: Measure
    must: float
    good: float
    at_least: bool = False
    """Whether more is better."""

    def word(self, value: float) -> str:
        """Say which of the two was reached."""
        sign = 1 if self.at_least else -1
        return "good" if sign * value >= sign * self.good else "yes" if sign * value >= sign * self.must else "no"


AIMS: Sequence[Aim] = (
    Aim("CPU per unary request, times less than the bare relay", _cheaper("cpu-unary"), 4, 6, True),
    Aim("CPU per SSE event in a burst, times less than the bare relay", _cheaper("cpu-burst"), 5, 7, True),
    Aim("CPU per SSE event 20 ms apart, times less than the bare relay", _cheaper("cpu-paced"), 2.2, 2.7, True),
    Aim("CPU per unary request, times less than that at treq's defaults", _cheaper("cpu-unary", DEFAULTS), 4, 6, True),
    Aim("CPU per SSE event in a burst, times less than that", _cheaper("cpu-burst", DEFAULTS), 5, 7, True),
    Aim("CPU per SSE event 20 ms apart, times less than that", _cheaper("cpu-paced", DEFAULTS), 2.2, 2.7, True),
    Aim("requests a second, one process", _median("rps"), 4000, 6000, True),
    Aim("added time to the first event at 40 a second, p50, ms", _added("ttft-p50"), 0.8, 0.5),
    Aim("added time to the first event at 40 a second, p99, ms", _added("ttft-p99"), 3, 2),
    Aim("added time to the first event at 40 a second, awake, p50, ms", _added("awake-p50"), 0.8, 0.5),
    Aim("added time to the first event at 40 a second, awake, p99, ms", _added("awake-p99"), 3, 2),
    Aim("added time to the first event at 200 a second, p50, ms", _added("often-p50"), 0.8, 0.5),
    Aim("added time to the first event at 200 a second, p99, ms", _added("often-p99"), 3, 2),
    Aim("memory before the first request, MB", _median("memory-idle"), 65, 55),
    Aim("memory per 1,000 open streams, MB", _median("memory-streams"), 20, 12),
    Aim("5,000 streams, cores", _median("crowd-cpu"), 0.8, 0.5),
    Aim("5,000 streams, event lag p99, ms", _median("crowd-p99"), 200, 100),
    Aim("20 MB body, longest wait of another request, median of several bodies, ms", _median("wait-20mb"), 20, 20),
    Aim("20 MB body, peak memory in bodies", _median("peak-20mb", MEGABYTES), 2.5, 1.5),
    Aim("20 MB body, CPU for its JSON, times less than json's", _cheaper("cpu-20mb", JSON, LOOK), 10, 20, True),
    Aim("20 MB body, all CPU, the sockets' included, times less than that", _cheaper("cpu-20mb", JSON), 10, 20, True),
    Aim("TLS upstream, times the cost over plain HTTP", _tls, 1.3, 1.15),
    Aim("start to first answer, s", _median("start"), 1, 0.5),
)


def lines(board: figures.Figures) -> list[list[str]]:
    """Return for each aim that was measured what must be, what would be good, what is, and whether that is enough."""
    found = []
    for one in AIMS:
        value = one.measure(board)
        if value is None or ("5,000" in one.title and board.size["streams"] != 5000):
            continue
        found.append([one.title, f"{one.must:g}", f"{one.good:g}", f"{value:.2f}", one.word(value)])
    return found


HEADING = ["what", "must", "good", "measured", "reached"]
