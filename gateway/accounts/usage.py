"""How much every credential is used right now, and whose turn it is.  Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from gateway.calls import Credential

NEWS_SECONDS = 60.0
"""When a credential was last used is kept over a restart to this precision."""

Key = tuple[str, str]


@attrs.define(eq=False)
class Usage:
    """Requests in flight and turns, by credential."""

    _in_flight: dict[Key, int] = attrs.field(factory=dict)
    _used: dict[Key, int] = attrs.field(factory=dict)
    _uses: int = 0
    _turns: dict[Key, float] = attrs.field(factory=dict)
    """When a credential's next turn begins, in the virtual time of its priority: each use takes 1 / weight."""
    _virtual: dict[int, float] = attrs.field(factory=dict)
    """By priority: when the turn of the last use began."""
    _last: dict[Key, float] = attrs.field(factory=dict)
    """When the last request went out, in monotonic seconds."""
    _kept: dict[Key, float] = attrs.field(factory=dict)
    """The same, as of the last time that it was news."""

    def begin(self, credential: Credential, now: float) -> bool:
        """Take note that a request goes out; say whether that is worth keeping over a restart."""
        key = (credential.upstream, credential.name)
        self._last[key] = now
        news = now - self._kept.get(key, -math.inf) >= NEWS_SECONDS
        if news:
            self._kept[key] = now
        self._in_flight[key] = self._in_flight.get(key, 0) + 1
        self._uses += 1
        self._used[key] = self._uses
        priority = credential.terms.priority
        turn = max(self._turns.get(key, 0.0), self._virtual.get(priority, 0.0))
        self._virtual[priority] = turn
        self._turns[key] = turn + 1 / credential.terms.weight
        return news

    def end(self, credential: Credential) -> None:
        """Take note that a request is over."""
        key = (credential.upstream, credential.name)
        self._in_flight[key] -= 1
        if not self._in_flight[key] and key not in self._used:
            # It was forgotten meanwhile.
            del self._in_flight[key]

    def load(self, credential: Credential) -> tuple[int, int]:
        """Return how busy a credential is: requests in flight, then when it was last chosen."""
        key = _key(credential)
        return self._in_flight.get(key, 0), self._used.get(key, 0)

    def share(self, credential: Credential) -> tuple[float, float, int]:
        """Return how busy a credential is for its weight: requests in flight, then as ``turn``."""
        return (self._in_flight.get(_key(credential), 0) / credential.terms.weight, *self.turn(credential))

    def turn(self, credential: Credential) -> tuple[float, int]:
        """Return when it is a credential's turn among those of its priority, then when it was last chosen.

        Turns come in proportion to the weights, as in start-time fair queueing; one that was idle gets no more
        than its next turn for it.
        """
        return self._turn(credential), self._used.get(_key(credential), 0)

    def full(self, credential: Credential) -> bool:
        """Say whether a credential has as many requests in flight as it may."""
        most = credential.terms.max_concurrent
        return most > 0 and self._in_flight.get(_key(credential), 0) >= most

    def last_used(self, credential: Credential) -> float | None:
        """Return when a credential's last request went out, in monotonic seconds; None where none is known."""
        return self._last.get(_key(credential))

    def known(self) -> Iterable[Key]:
        """Return the credentials, by upstream and name, of whose use something is known."""
        return list(self._last)

    def forget(self, key: Key) -> None:
        """Forget a credential's use, but for the requests that are under way."""
        for known in (self._last, self._kept, self._used, self._turns):
            known.pop(key, None)
        if not self._in_flight.get(key):
            self._in_flight.pop(key, None)

    def dump(self, now: float, wall: float) -> list[dict[str, Any]]:
        """Return when each was last used, in wall time."""
        return [{"upstream": key[0], "name": key[1], "at": wall + at - now} for key, at in sorted(self._last.items())]

    def restore(self, rows: Iterable[Mapping[str, Any]], now: float, wall: float) -> None:
        """Take up what ``dump`` returned; raises KeyError, TypeError or ValueError where it is not such."""
        for row in rows:
            key = (str(row["upstream"]), str(row["name"]))
            self._last[key] = self._kept[key] = now + min(finite(row["at"]) - wall, 0.0)

    def in_flight(self) -> Mapping[Key, int]:
        """Return the requests in flight by (upstream, credential)."""
        return dict(self._in_flight)

    def _turn(self, credential: Credential) -> float:
        return max(self._turns.get(_key(credential), 0.0), self._virtual.get(credential.terms.priority, 0.0))


def amount(value: Any) -> float:
    """Return a number that was kept, which may be infinite; raises TypeError or ValueError where it is none."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def finite(value: Any) -> float:
    """Return a number that was kept; raises TypeError or ValueError where it is none that can be counted with."""
    number = amount(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is no amount")
    return number


def _key(credential: Credential) -> Key:
    return (credential.upstream, credential.name)
