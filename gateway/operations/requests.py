"""Requests that are over, as whoever watches is told of them: neither prompt nor answer.  Pure."""

from __future__ import annotations

from typing import Any, TypedDict

import attrs

from gateway.calls import Attempt, Decision, Ended, Option

Row = dict[str, Any]

SAMPLES_MOST = 1000
"""Of how many requests of a second the times are kept."""


class Tried(TypedDict):
    """One attempt of a request."""

    credential: str
    base: str
    status: int
    reason: str
    seconds: float
    why: str
    waited: float


class Considered(TypedDict):
    """What one credential was when one was chosen."""

    label: str
    upstream: str
    state: str
    reason: str
    free_seconds: float | None
    chosen: bool


class Choice(TypedDict):
    """One choice of a credential: why this one, and what each other was."""

    why: str
    waited: float
    options: list[Considered]


class Over(TypedDict):
    """A request that is over."""

    id: str
    time: float
    key: str
    peer: str
    verb: str
    model: str
    requested_model: str
    upstream: str
    credential: str
    session: str
    status: int
    reason: str
    origin: str
    attempts: int
    first_seconds: float | None
    seconds: float
    bytes_in: int
    bytes_out: int
    tokens_in: int | None
    tokens_out: int | None
    tokens_thoughts: int | None
    tokens_cached: int | None
    finish: str


class Record(TypedDict):
    """A request with how it was routed; ``choices`` are kept only while somebody watches."""

    request: Over
    attempts: list[Tried]
    choices: list[Choice]
    trace_id: str


@attrs.define(eq=False, repr=False)
class Second:
    """What happened since the last state was told."""

    requests: int = 0
    errors: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    firsts: list[float] = attrs.field(factory=list)
    wholes: list[float] = attrs.field(factory=list)

    def count(self, event: Ended) -> None:
        """Take a request that is over."""
        journal, usage = event.journal, event.usage
        self.requests += 1
        self.errors += bool(event.reason) or event.status >= 400
        if usage is not None:
            self.tokens_in += usage.prompt
            self.tokens_out += usage.candidates + usage.thoughts
        if len(self.wholes) < SAMPLES_MOST:
            self.wholes.append(event.seconds)
            if journal.first_byte is not None:
                self.firsts.append(journal.first_byte - journal.started)

    def row(self) -> Row:
        """Return the sums, and quantiles of the times."""
        return {
            "requests": self.requests,
            "errors": self.errors,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "first_p50": _quantile(self.firsts, 0.5),
            "first_p95": _quantile(self.firsts, 0.95),
            "seconds_p50": _quantile(self.wholes, 0.5),
            "seconds_p95": _quantile(self.wholes, 0.95),
        }


def over(event: Ended, started_wall: float) -> Over:
    """Return a request's row."""
    journal, usage = event.journal, event.usage
    return Over(
        id=journal.request_id,
        time=started_wall,
        key=journal.key_id,
        peer=journal.peer,
        verb=journal.verb,
        model=journal.model,
        requested_model=journal.requested_model,
        upstream=journal.upstream,
        credential=journal.credential,
        session=journal.session,
        status=event.status,
        reason=event.reason,
        origin=event.origin,
        attempts=len(journal.attempts),
        first_seconds=None if journal.first_byte is None else journal.first_byte - journal.started,
        seconds=event.seconds,
        bytes_in=event.bytes_in,
        bytes_out=event.bytes_out,
        tokens_in=None if usage is None else usage.prompt,
        tokens_out=None if usage is None else usage.candidates,
        tokens_thoughts=None if usage is None else usage.thoughts,
        tokens_cached=None if usage is None else usage.cached,
        finish=event.finish_reason,
    )


def record(event: Ended, started_wall: float) -> Record:
    """Return a request with how it was routed."""
    journal = event.journal
    return Record(
        request=over(event, started_wall),
        attempts=list(map(_tried, journal.attempts)),
        choices=list(map(_choice, journal.decisions)),
        trace_id=journal.trace_id,
    )


def _tried(attempt: Attempt) -> Tried:
    return Tried(
        credential=attempt.credential,
        base=attempt.base,
        status=attempt.status,
        reason=attempt.reason,
        seconds=attempt.seconds,
        why=attempt.why,
        waited=attempt.waited,
    )


def _choice(decision: Decision) -> Choice:
    return Choice(why=decision.why, waited=decision.waited, options=list(map(_candidate, decision.options)))


def _candidate(option: Option) -> Considered:
    return Considered(
        label=option.label,
        upstream=option.upstream,
        state=option.state,
        reason=option.reason,
        free_seconds=option.free_seconds,
        chosen=option.chosen,
    )


def _quantile(values: list[float], share: float) -> float | None:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else None
