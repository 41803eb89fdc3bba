"""The metrics' recorder: counts in plain numbers; nothing is rendered before somebody asks."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Hashable

import attrs

from gateway.calls import Attempt, Credential, Ended, Journal

BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds: the upper bounds of the histograms' buckets."""
REASONS_MOST = 200
"""So many names of upstream's own are told apart; whatever comes after them is ``other``."""
OTHER = "other"

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


class Counts(dict[Hashable, int]):
    """Numbers by their labels; what was not counted is 0."""

    def __missing__(self, key: Hashable) -> int:
        return 0


@attrs.define(eq=False)
class Histogram:
    """How often something took how long."""

    counts: list[int] = attrs.field(factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def took(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds


@attrs.define(eq=False)
class Metrics:
    """What happened since the start; no label is a client's choice.

    ``known`` says whether a model is in the catalogue; the others are ``other``.
    """

    known: Callable[[str], bool]
    requests: Counts = attrs.field(factory=Counts)
    """By (status, origin)."""
    attempts: Counts = attrs.field(factory=Counts)
    """By (upstream, reason); the reason of a good one is ``ok``."""
    upstream_errors: Counts = attrs.field(factory=Counts)
    """By (status,): ``none`` where no answer came."""
    truncated: Counts = attrs.field(factory=Counts)
    """By (reason,): streams that began and did not come to their end."""
    clients_left: int = 0
    quarantines: Counts = attrs.field(factory=Counts)
    """By (upstream,)."""
    halts: Counts = attrs.field(factory=Counts)
    """By (upstream,)."""
    tokens: Counts = attrs.field(factory=Counts)
    """By (model, kind)."""
    bytes_in: int = 0
    bytes_out: int = 0
    first_byte: Histogram = attrs.field(factory=Histogram)
    whole: Histogram = attrs.field(factory=Histogram)
    _reasons: set[str] = attrs.field(factory=set)

    def attempted(self, journal: Journal, attempt: Attempt) -> None:
        """Count an attempt, and upstream's error if it was one."""
        if not attempt.reason:
            self.attempts[journal.upstream, "ok"] += 1
            return
        self.attempts[journal.upstream, self._reason(attempt.reason)] += 1
        self.upstream_errors[(str(attempt.status) if attempt.status else "none",)] += 1

    def ended(self, event: Ended) -> None:
        """Count a request."""
        self.requests[event.status, event.origin] += 1
        self.bytes_in += event.bytes_in
        self.bytes_out += event.bytes_out
        self.whole.took(event.seconds)
        journal = event.journal
        if journal.first_byte is not None:
            self.first_byte.took(journal.first_byte - journal.started)
        if event.reason == "CLIENT_LEFT":
            self.clients_left += 1
        elif event.reason and event.status == 200:
            self.truncated[(self._reason(event.reason),)] += 1
        usage = event.usage
        if usage is not None:
            model = journal.model if self.known(journal.model) else OTHER
            self.tokens[model, "prompt"] += usage.prompt
            self.tokens[model, "candidates"] += usage.candidates
            self.tokens[model, "thoughts"] += usage.thoughts
            self.tokens[model, "cached"] += usage.cached

    def quarantined(self, credential: Credential, reason: str, link: str) -> None:
        """Count a credential that is out until somebody acts."""
        self.quarantines[(credential.upstream,)] += 1

    def halted(self, upstream: str) -> None:
        """Count an upstream that stands still."""
        self.halts[(upstream,)] += 1

    def _reason(self, reason: str) -> str:
        if reason in self._reasons:
            return reason
        if len(self._reasons) >= REASONS_MOST or not _NAME.match(reason):
            return OTHER
        self._reasons.add(reason)
        return reason
