"""How much every credential is used right now, and whose turn it is.  Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import msgspec

from gateway.calls import Credential

NEWS_SECONDS = 60.0
"""When a credential was last used is kept over a restart to this precision."""

Key = tuple[str, str]


class _Use(msgspec.Struct, eq=False):
    """One credential's."""

    in_flight: int = 0
    used: int = 0
    """Which of all uses was its last; 0 where there was none since the start."""
    turn: float = 0.0
    """When its next turn begins, in the virtual time of its priority: each use takes 1 / weight."""
    last: float | None = None
    """When its last request went out, in monotonic seconds."""
    kept: float = -math.inf
    """The same, as of the last time that it was news."""


_UNUSED = _Use()


@attrs.define(eq=False, repr=False)
class Usage:
    """Requests in flight and turns, by credential."""

    _known: dict[Key, _Use] = attrs.field(factory=dict)
    _uses: int = 0
    _virtual: dict[int, float] = attrs.field(factory=dict)
    """By priority: when the turn of the last use began."""

    def begin(self, credential: Credential, now: float) -> bool:
        """Take note that a request goes out; say whether that is worth keeping over a restart."""
        key = (credential.upstream, credential.name)
        use = self._known.get(key) or self._of(key)
        use.last = now
        news = now - use.kept >= NEWS_SECONDS
        if news:
            use.kept = now
        use.in_flight += 1
        self._uses += 1
        use.used = self._uses
        terms = credential.terms
        turn = self._virtual.get(terms.priority, 0.0)
        if turn < use.turn:
            turn = use.turn
        self._virtual[terms.priority] = turn
        use.turn = turn + 1 / terms.weight
        return news

    def end(self, credential: Credential) -> None:
        """Take note that a request is over."""
        key = (credential.upstream, credential.name)
        use = self._known[key]
        use.in_flight -= 1
        if not use.in_flight and use.last is None:
            # It was forgotten meanwhile.
            del self._known[key]

    def load(self, credential: Credential) -> tuple[int, int]:
        """Return how busy a credential is: requests in flight, then when it was last chosen."""
        use = self._known.get(_key(credential), _UNUSED)
        return use.in_flight, use.used

    def share(self, credential: Credential) -> tuple[float, float, int]:
        """Return how busy a credential is for its weight: requests in flight, then as ``turn``."""
        use = self._known.get(_key(credential), _UNUSED)
        return (use.in_flight / credential.terms.weight, *self._turn(credential, use))

    def turn(self, credential: Credential) -> tuple[float, int]:
        """Return when it is a credential's turn among those of its priority, then when it was last chosen.

        Turns come in proportion to the weights, as in start-time fair queueing; one that was idle gets no more
        than its next turn for it.
        """
        return self._turn(credential, self._known.get(_key(credential), _UNUSED))

    def full(self, credential: Credential) -> bool:
        """Say whether a credential has as many requests in flight as it may."""
        most = credential.terms.max_concurrent
        return most > 0 and self._known.get(_key(credential), _UNUSED).in_flight >= most

    def last_used(self, credential: Credential) -> float | None:
        """Return when a credential's last request went out, in monotonic seconds; None where none is known."""
        return self._known.get(_key(credential), _UNUSED).last

    def known(self) -> Iterable[Key]:
        """Return the credentials, by upstream and name, of whose use something is known."""
        return [key for key, use in self._known.items() if use.last is not None]

    def forget(self, key: Key) -> None:
        """Forget a credential's use, but for the requests that are under way."""
        use = self._known.pop(key, _UNUSED)
        if use.in_flight:
            self._known[key] = _Use(use.in_flight)

    def dump(self, now: float, wall: float) -> list[dict[str, Any]]:
        """Return when each was last used, in wall time."""
        last = [(key, use.last) for key, use in self._known.items() if use.last is not None]
        return [{"upstream": key[0], "name": key[1], "at": wall + at - now} for key, at in sorted(last)]

    def restore(self, rows: Iterable[Mapping[str, Any]], now: float, wall: float) -> None:
        """Take up what ``dump`` returned; raises KeyError, TypeError or ValueError where it is not such."""
        for row in rows:
            use = self._of((str(row["upstream"]), str(row["name"])))
            use.last = use.kept = now + min(finite(row["at"]) - wall, 0.0)

    def in_flight(self) -> Mapping[Key, int]:
        """Return the requests in flight by (upstream, credential)."""
        return {key: use.in_flight for key, use in self._known.items() if use.used or use.in_flight}

    def _of(self, key: Key) -> _Use:
        use = self._known.get(key)
        if use is None:
            use = self._known[key] = _Use()
        return use

    def _turn(self, credential: Credential, use: _Use) -> tuple[float, int]:
        return max(use.turn, self._virtual.get(credential.terms.priority, 0.0)), use.used


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
