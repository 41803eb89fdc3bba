"""Why one credential was chosen and each other was not.  Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence, Set
from typing import Any

from gateway.accounts.standing import Standings
from gateway.calls import Attempt, Credential, Option
from gateway.routing.rotation import Choice, Nobody

SHOWN_MOST = 20
"""A client is not told about more candidates than these."""


def options(
    candidates: Iterable[Credential],
    standings: Standings,
    outcome: Choice | Nobody,
    tried: Set[Credential],
    model: str,
    now: float,
) -> tuple[Option, ...]:
    """Return what every candidate is, ``outcome`` being what was made of them."""
    chosen = outcome.credential if isinstance(outcome, Choice) else None
    return tuple(_option(one, standings, chosen, one in tried, model, now) for one in candidates)


def _option(
    one: Credential, standings: Standings, chosen: Credential | None, tried: bool, model: str, now: float
) -> Option:
    found = standings.availability(one, model, now)
    state, reason = found.state.value, found.reason
    free_seconds = None if found.free_at is None else max(found.free_at - now, 0.0)
    if one == chosen:
        return Option(one.label, one.upstream, state, reason, free_seconds, True)
    if tried:
        return Option(one.label, one.upstream, "tried", reason, free_seconds, False)
    if found.usable and standings.usage.full(one):
        return Option(one.label, one.upstream, "busy", f"{one.terms.max_concurrent} in flight", None, False)
    if found.usable and chosen is not None:
        reason = "another comes first" if one.terms.priority <= chosen.terms.priority else "a fallback"
    return Option(one.label, one.upstream, state, reason, free_seconds, False)


def detail(attempts: Sequence[Attempt], options: Sequence[Option], session: str) -> dict[str, Any]:
    """Return the ``details`` entry that says how a request was routed: an ErrorInfo of the gateway's domain."""
    metadata: dict[str, str] = {"session": session} if session else {}
    for number, attempt in enumerate(attempts, 1):
        where = attempt.base or "no request sent"
        metadata[f"attempt-{number}"] = f"{attempt.credential} ({attempt.why}) {where}, waited {attempt.waited:.1f} s"
    for number, option in enumerate(options[:SHOWN_MOST], 1):
        metadata[f"candidate-{number}"] = f"{option.label} {words(option)}"
    if len(options) > SHOWN_MOST:
        metadata["candidates"] = str(len(options))
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "ROUTING",
        "domain": "antigravity.gateway",
        "metadata": metadata,
    }


def words(option: Option) -> str:
    """Return an option's state for people: ``cooling RATE_LIMIT_EXCEEDED, free in 12 s``."""
    text = f"{option.state} {option.reason}".rstrip()
    return text if option.free_seconds is None else f"{text}, free in {math.ceil(option.free_seconds)} s"
