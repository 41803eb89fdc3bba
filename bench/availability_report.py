"""What a run came to: shares, expectations, tables, JSON.  Pure."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import outages
import report
import steady

SUCCESS_LEAST = 0.999
ATTEMPTS_MOST = 1.2
EXAMPLES_MOST = 50


@attrs.frozen
class Outcome:
    """One contender's run."""

    title: str
    version: str
    face: str
    settings: Mapping[str, Any]
    results: Sequence[steady.Result]
    attempts: int
    statuses: Mapping[str, int]
    others: Mapping[str, int]
    served: Mapping[str, int]
    most_open: int
    began_at: float

    @property
    def success(self) -> float:
        """The share of requests that were answered in full and rightly."""
        return sum(1 for one in self.results if not one.failure) / len(self.results)

    @property
    def attempts_each(self) -> float:
        """Requests to upstream for each request of a client's."""
        return self.attempts / len(self.results)

    @property
    def failures(self) -> Mapping[str, int]:
        """How many requests failed, by what the client saw."""
        return dict(collections.Counter(one.failure for one in self.results if one.failure).most_common())

    def milliseconds(self, share: float, streams: bool) -> float:
        """Return a percentile over the good answers: of whole unary ones, or of streams' first events."""
        seconds = [
            one.first_seconds if streams and one.first_seconds is not None else one.seconds
            for one in self.results
            if one.streams == streams and not one.failure
        ]
        return 1000 * report.percentile(seconds, share) if seconds else float("nan")

    def checks(self) -> list[tuple[str, bool]]:
        """Return what the gateway has to reach, in words, and whether this run did."""
        success = f"{100 * self.success:.3f} % succeed, at least {100 * SUCCESS_LEAST:g} % expected"
        attempts = f"{self.attempts_each:.4f} attempts a request, at most {ATTEMPTS_MOST:g} expected"
        return [(success, self.success >= SUCCESS_LEAST), (attempts, self.attempts_each <= ATTEMPTS_MOST)]

    def document(self, schedule: Sequence[outages.Outage]) -> dict[str, Any]:
        """Return everything as plain values."""
        failed = [one for one in self.results if one.failure]
        examples = [attrs.asdict(one) | {"at": round(one.due_at - self.began_at, 3)} for one in failed[:EXAMPLES_MOST]]
        by_minute = collections.Counter(int((one.due_at - self.began_at) // 10) * 10 for one in failed)
        return {
            "title": self.title,
            "version": self.version,
            "face": self.face,
            "settings": dict(self.settings),
            "requests": len(self.results),
            "success": self.success,
            "attempts": self.attempts,
            "attempts_each": self.attempts_each,
            "upstream_statuses": dict(self.statuses),
            "other_upstream_requests": dict(self.others),
            "served_by": dict(sorted(self.served.items())),
            "failures": dict(self.failures),
            "failures_by_ten_seconds": {str(at): count for at, count in sorted(by_minute.items())},
            "unary_ms": {"p50": self.milliseconds(0.5, False), "p99": self.milliseconds(0.99, False)},
            "first_event_ms": {"p50": self.milliseconds(0.5, True), "p99": self.milliseconds(0.99, True)},
            "most_connections": self.most_open,
            "examples": examples,
            "schedule": [attrs.asdict(one) for one in schedule],
        }


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the contenders side by side."""
    heading = ["", *(f"{one.title} {one.version}" for one in outcomes)]
    rows: list[list[str]] = [
        ["requests", *(str(len(one.results)) for one in outcomes)],
        ["answered in full, %", *(f"{100 * one.success:.3f}" for one in outcomes)],
        ["attempts a request", *(f"{one.attempts_each:.4f}" for one in outcomes)],
        ["unary p50 / p99, ms", *(_pair(one, False) for one in outcomes)],
        ["first event p50 / p99, ms", *(_pair(one, True) for one in outcomes)],
        ["most connections at once", *(str(one.most_open) for one in outcomes)],
    ]
    for status in sorted({status for one in outcomes for status in one.statuses}):
        rows.append([f"attempts answered {status}", *(str(one.statuses.get(status, 0)) for one in outcomes)])
    for failure in sorted({failure for one in outcomes for failure in one.failures}):
        rows.append([f"failed: {failure}", *(str(one.failures.get(failure, 0)) for one in outcomes)])
    for verb in sorted({verb for one in outcomes for verb in one.others}):
        rows.append([f"beside these: {verb}", *(str(one.others.get(verb, 0)) for one in outcomes)])
    return report.columns([heading, *rows])


def _pair(one: Outcome, streams: bool) -> str:
    return f"{one.milliseconds(0.5, streams):.1f} / {one.milliseconds(0.99, streams):.1f}"
