"""Standings and a session in, a choice out.  Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence, Set

import attrs

from gateway.accounts.standing import Standings
from gateway.calls import Credential

SESSION_LIMIT = 20_000
SESSION_SECONDS = 3600.0
"""Google keeps a conversation's implicit cache for minutes; an hour is generous."""


@attrs.frozen
class Choice:
    """A credential and why it was chosen."""

    credential: Credential
    why: str


@attrs.frozen
class Nobody:
    """No credential can be used now."""

    free_at: float | None
    """When the first of them may be used again; None where none ever will be without somebody's help."""


def choose(
    candidates: Sequence[Credential],
    preferred: Set[str],
    standings: Standings,
    bound: Credential | None,
    tried: Set[Credential],
    model: str,
    now: float,
) -> Choice | Nobody:
    """Choose a credential for the next attempt.

    The session's own comes first while it is usable; else those of ``preferred`` upstreams (which are known to
    have the model) before others, and among these the least busy, then the least recently used.  One that was
    tried in this request is never chosen again.
    """
    free: list[Credential] = []
    soonest: float | None = None
    for credential in candidates:
        availability = standings.availability(credential, model, now)
        if not availability.usable:
            if availability.free_at is not None:
                soonest = availability.free_at if soonest is None else min(soonest, availability.free_at)
        elif credential not in tried:
            free.append(credential)
    if bound is not None and bound in free:
        return Choice(bound, "session")
    if not free:
        return Nobody(soonest)
    best = min(free, key=lambda one: (one.upstream not in preferred, standings.load(one)))
    return Choice(best, "rotation" if tried else "least used")


@attrs.define(eq=False)
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
        """Put a session on a credential, for an hour from its last use."""
        if not session:
            return
        key = (session, model)
        self._bound[key] = (credential, now + self._seconds)
        self._bound.move_to_end(key)
        while len(self._bound) > self._limit:
            self._bound.popitem(last=False)

    def __len__(self) -> int:
        return len(self._bound)
