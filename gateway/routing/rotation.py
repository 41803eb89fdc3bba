"""Standings and a session in, a choice out.  Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

import attrs
import msgspec

from gateway.accounts.standing import Standings
from gateway.accounts.usage import Usage
from gateway.calls import Credential

SESSION_LIMIT = 20_000
SESSION_SECONDS = 3600.0
"""Google keeps a conversation's implicit cache for minutes; an hour is generous."""

SESSION = "session"
ROTATION = "rotation"
OVERFLOW = "session's is busy"
FIXED = "fixed"
OWNER = "owns the resource"


class Strategy(msgspec.Struct, frozen=True):
    """Who is first among those that may serve a request."""

    keeps_sessions: bool
    """Whether a session's own credential goes before its equals."""
    order: Callable[[Usage, Credential], Any]
    """The smallest is chosen."""
    why: str


STRATEGIES: Mapping[str, Strategy] = {
    "sticky": Strategy(True, Usage.share, "least used"),
    "round_robin": Strategy(False, Usage.turn, "in turn"),
    "least_used": Strategy(False, Usage.share, "least used"),
}


class Choice(msgspec.Struct, frozen=True):
    """A credential and why it was chosen."""

    credential: Credential
    why: str
    passed_over: Credential | None = None
    """Who would have been chosen if its token were at hand."""


class Nobody(msgspec.Struct, frozen=True):
    """No credential can be used now."""

    free_at: float | None
    """When the first of them may be used again; None where none ever will be without somebody's help."""
    busy: bool = False
    """Whether one of them could be used but for its limit of concurrent requests, or for a probe under way."""


def choose(
    candidates: Sequence[Credential],
    preferred: Set[str],
    standings: Standings,
    bound: Credential | None,
    tried: Set[Credential],
    model: str,
    now: float,
    strategy: Strategy = STRATEGIES["sticky"],
    spent: Set[Credential] = frozenset(),
    pending: Set[Credential] = frozenset(),
) -> Choice | Nobody:
    """Choose a credential for the next attempt.

    Of the usable ones only those of the lowest priority number count, and of these the ones that met a server fault
    just now only where there is nobody else.  Among these the session's own comes first,
    where the strategy keeps sessions; else those of ``preferred`` upstreams (which are known to have the model)
    before others, those not known to be ``spent`` before those that are, and then the strategy decides, where those
    whose token is ``pending`` come after the rest.  One that was tried in this request is never chosen again.
    """
    free: list[Credential] = []
    soonest: float | None = None
    busy = own_is_busy = False
    for credential in candidates:
        if tried and credential in tried:
            continue
        availability = standings.availability(credential, model, now)
        if not availability.usable:
            busy = busy or availability.probed
            if availability.free_at is not None:
                soonest = availability.free_at if soonest is None else min(soonest, availability.free_at)
        elif credential.terms.max_concurrent and standings.usage.full(credential):
            busy = True
            own_is_busy = own_is_busy or credential == bound
        else:
            free.append(credential)
    if not free:
        return Nobody(soonest, busy)
    equals = free
    if len(free) > 1:
        first = min(one.terms.priority for one in free)
        equals = [one for one in free if one.terms.priority == first]
    if standings.doubts.until:
        equals = [one for one in equals if not standings.doubts.about(one, model, now)] or equals
    if strategy.keeps_sessions and bound is not None and bound in equals:
        # The one of now: its terms may have changed since it was bound.
        return Choice(equals[equals.index(bound)], SESSION)
    best = ideal = equals[0]
    if len(equals) > 1:
        known = [one for one in equals if one.upstream in preferred]
        known = known or equals
        known = [one for one in known if one not in spent] or known if spent else known
        best = ideal = min(known, key=lambda one: strategy.order(standings.usage, one))
        if best in pending:
            best = min(known, key=lambda one: (one in pending, strategy.order(standings.usage, one)))
    passed_over = ideal if ideal != best else None
    if tried:
        return Choice(best, ROTATION, passed_over)
    return Choice(best, OVERFLOW if own_is_busy and strategy.keeps_sessions else strategy.why, passed_over)


@attrs.define(eq=False, repr=False)
class Sessions:
    """Which credential a session is on: bounded, forgetting the least recently used."""

    _limit: int = SESSION_LIMIT
    _seconds: float = SESSION_SECONDS
    _bound: OrderedDict[tuple[str, str], tuple[Credential, float]] = attrs.field(factory=OrderedDict)

    def get(self, session: str, model: str, now: float) -> Credential | None:
        """Return the credential of a session for a model, if it has one."""
        entry = self._bound.get((session, model))
        if entry is None:
            return None
        credential, until = entry
        if until <= now:
            del self._bound[session, model]
            return None
        return credential

    def bind(self, session: str, model: str, credential: Credential, now: float) -> None:
        """Put a session on a credential, for as long as sessions last from this use on."""
        if not session:
            return
        key = (session, model)
        self._bound[key] = (credential, now + self._seconds)
        self._bound.move_to_end(key)
        while len(self._bound) > self._limit:
            self._bound.popitem(last=False)

    def resize(self, limit: int, seconds: float) -> None:
        """Keep so many from now on, and for so long after their next use."""
        self._limit, self._seconds = limit, seconds
        while len(self._bound) > limit:
            self._bound.popitem(last=False)

    def __len__(self) -> int:
        return len(self._bound)
