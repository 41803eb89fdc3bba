"""The schedule of outages: whom each one strikes, when, with what; and the simulator's rules for it.  Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

CREDENTIALS = 10
OUT_AT_ONCE = 3
KINDS = ("429", "401", "503")
"""In turn, so that at any moment one credential is out of each kind."""
GENERATIONS = "*enerateContent"
"""generateContent and streamGenerateContent."""
SLICE_SECONDS = 1.0
"""How finely a 429's RetryInfo counts down."""

_REASONS: Mapping[tuple[str, str], str] = {
    ("aistudio", "429"): "PER_MINUTE",
    ("codeassist", "429"): "RATE_LIMIT_EXCEEDED",
    ("aistudio", "401"): "UNAUTHENTICATED",
    ("codeassist", "401"): "ACCESS_TOKEN_EXPIRED",
    ("aistudio", "503"): "UNAVAILABLE",
    ("codeassist", "503"): "UNAVAILABLE",
}
"""Which of the simulator's bodies each kind has on each face."""


@attrs.frozen
class Outage:
    """One credential that is out for some time; seconds after the first request, which may be negative."""

    credential: int
    kind: str
    start: float
    end: float


def name_of(number: int) -> str:
    """Return the API key, or the account, of a number from 0."""
    return f"key-{number}"


def outages(seed: int, seconds: float, lasting: float) -> tuple[Outage, ...]:
    """Return the outages of a run of ``seconds``, each of ``lasting``.

    They begin evenly apart, so that at every moment, the first included, exactly OUT_AT_ONCE credentials are out.
    Each strikes one that is well and did not come back at that very moment.
    """
    chance = random.Random(seed)
    apart = lasting / OUT_AT_ONCE
    found: list[Outage] = []
    while not found or found[-1].start + apart < seconds:
        number = len(found)
        start = (number - OUT_AT_ONCE + 1) * apart
        struck = {one.credential for one in found[-OUT_AT_ONCE:]}
        credential = chance.choice([one for one in range(CREDENTIALS) if one not in struck])
        found.append(Outage(credential, KINDS[number % len(KINDS)], start, start + lasting))
    return tuple(found)


def rules(schedule: Sequence[Outage], face: str) -> Iterator[tuple[float, float, dict[str, Any]]]:
    """Yield (start, end, rule) for the simulator; the rule lacks ``from`` and ``until``.

    A 429's RetryInfo is what is left of the outage, rounded up to whole slices.
    """
    for outage in schedule:
        action: dict[str, Any] = {"action": "status", "reason": _REASONS[face, outage.kind]}
        match = {"face": face, "verb": GENERATIONS, "credential": name_of(outage.credential)}
        start = max(outage.start, 0.0)
        if outage.kind != "429":
            yield start, outage.end, {"do": action, "match": match, "name": outage.kind}
            continue
        while start < outage.end:
            end = min(start + SLICE_SECONDS, outage.end)
            told = {**action, "seconds": round(outage.end - start, 3)}
            yield start, end, {"do": told, "match": match, "name": outage.kind}
            start = end
