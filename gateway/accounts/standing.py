"""What every credential is good for right now, in memory.

Times are seconds of a monotonic clock and come in as arguments.  Standing is kept by (quota owner, model),
because Google counts quotas by project and model, and by credential for what condemns it as a whole.  Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from gateway.calls import Credential

COOL_LIMIT_SECONDS = 26 * 3600.0
"""No cool-down is longer: a day's quota, and the hour that the clocks may go back by."""

STRIKES_SECONDS = 120.0
"""How long after a rest it still counts that there was one: twice the longest that a guess grows to."""

Key = tuple[str, str]


@attrs.frozen
class Quarantine:
    """Why a credential is out until somebody acts."""

    reason: str
    link: str = ""


@attrs.define(eq=False)
class Standings:
    """The standings of all credentials of the process."""

    _cooling: dict[Key, float] = attrs.field(factory=dict)
    _strikes: dict[Key, int] = attrs.field(factory=dict)
    _bases: dict[Key, float] = attrs.field(factory=dict)
    _quarantined: dict[tuple[str, str], Quarantine] = attrs.field(factory=dict)
    _in_flight: dict[tuple[str, str], int] = attrs.field(factory=dict)
    _used: dict[tuple[str, str], int] = attrs.field(factory=dict)
    _uses: int = 0

    def cooling_until(self, credential: Credential, model: str, now: float) -> float:
        """Return when (quota owner, model) is free again; ``now`` or earlier where it is free."""
        return self._cooling.get((credential.owner, model), now)

    def cool(self, credential: Credential, model: str, until: float, now: float) -> None:
        """Let (quota owner, model) rest until a time; a longer rest already ordered stands."""
        key = (credential.owner, model)
        until = min(until, now + COOL_LIMIT_SECONDS)
        self._cooling[key] = max(until, self._cooling.get(key, now))
        self._strikes[key] = self._strikes.get(key, 0) + 1

    def strikes(self, credential: Credential, model: str) -> int:
        """Return how often (quota owner, model) was sent to rest since it last answered."""
        return self._strikes.get((credential.owner, model), 0)

    def succeeded(self, credential: Credential, model: str) -> None:
        """Take note of a good answer.

        A rest stays: what is asked during it was sent before it, and says nothing about the quota since.
        """
        self._strikes.pop((credential.owner, model), None)

    def base_until(self, base: str, model: str, now: float) -> float:
        """Return when (base URL, model) is free again."""
        return self._bases.get((base, model), now)

    def cool_base(self, base: str, model: str, until: float) -> None:
        """Prefer other bases for a model until a time."""
        self._bases[base, model] = max(until, self._bases.get((base, model), until))

    def quarantine(self, credential: Credential, reason: str, link: str = "") -> bool:
        """Take a credential out until somebody acts; say whether it was in."""
        key = (credential.upstream, credential.name)
        new = key not in self._quarantined
        self._quarantined.setdefault(key, Quarantine(reason, link))
        return new

    def quarantined(self, credential: Credential) -> Quarantine | None:
        """Return why a credential is out, None where it is in."""
        return self._quarantined.get((credential.upstream, credential.name))

    def lease(self, credential: Credential) -> None:
        """Take note that a request goes out on a credential; every lease is released once."""
        key = (credential.upstream, credential.name)
        self._in_flight[key] = self._in_flight.get(key, 0) + 1
        self._uses += 1
        self._used[key] = self._uses

    def release(self, credential: Credential) -> None:
        """Take note that a request on a credential is over."""
        key = (credential.upstream, credential.name)
        self._in_flight[key] -= 1

    def load(self, credential: Credential) -> tuple[int, int]:
        """Return how busy a credential is: requests in flight, then when it was last chosen."""
        key = (credential.upstream, credential.name)
        return self._in_flight.get(key, 0), self._used.get(key, 0)

    def in_flight(self) -> Mapping[tuple[str, str], int]:
        """Return the requests in flight by (upstream, credential)."""
        return dict(self._in_flight)

    def prune(self, now: float) -> None:
        """Forget rests that are over, so that a client's invented model names leave nothing behind."""
        for table, kept in ((self._cooling, STRIKES_SECONDS), (self._bases, 0.0)):
            for key in [key for key, until in table.items() if until + kept <= now]:
                del table[key]
        for key in [key for key in self._strikes if key not in self._cooling]:
            del self._strikes[key]
