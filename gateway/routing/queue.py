"""Requests that wait for a credential: bounded, and first come first served among those who may use the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from gateway.routing.rotation import Nobody
from gateway.tally import Histogram

WAKE_LEAST_SECONDS = 0.001
"""Seconds add up inexactly: a timer may fire a moment before the time it was set for."""
HOLD_SECONDS = 1.0
"""What is taken for the time that a request keeps its place, until some have ended."""
HOLD_SHARE = 0.2
"""How much the last request counts in the mean of these times."""
ESTIMATE_MOST_SECONDS = 60.0
SERVED, IN_VAIN, LEFT = OUTCOMES = ("served", "in_vain", "left")
"""What comes of a wait; who leaves is a client that did not wait for its end."""

T = TypeVar("T")


@attrs.define(eq=False, repr=False)
class _Waiter(Generic[T]):
    key: Hashable
    claim: Callable[[], T | Nobody]
    given: Deferred[T | None]
    since: float
    deadline: float
    timer: IDelayedCall | None = None


@attrs.define(eq=False, repr=False)
class Waiting(Generic[T]):
    """The waiters, in the order in which they came.

    A waiter's ``claim`` takes something for it and returns what it took, or Nobody.  Waiters of one ``key`` may
    use the same, so where the first of them gets nothing the others are not asked.
    """

    clock: IReactorTime
    limit: int
    waits: dict[str, Histogram] = attrs.field(factory=lambda: {outcome: Histogram() for outcome in OUTCOMES})
    """How long requests waited, by what came of it."""
    waiters: dict[_Waiter[T], None] = attrs.field(factory=dict)
    """Mostly there is none, and every request asks for that."""
    _wake: IDelayedCall | None = None
    _offering: bool = False
    _again: bool = False
    _hold: float = HOLD_SECONDS

    def __len__(self) -> int:
        return len(self.waiters)

    @property
    def full(self) -> bool:
        """Whether nobody more may wait."""
        return len(self.waiters) >= self.limit

    def wait(
        self, key: Hashable, claim: Callable[[], T | Nobody], seconds: float, free_at: float | None
    ) -> Deferred[T | None]:
        """Return what fires with what ``claim`` took, or with None when it is no use to wait any longer.

        That is after ``seconds``, or as soon as time alone will free nobody by then and nobody is busy.
        ``free_at`` is when it is worth asking without an ``offer``.  Cancelling it gives up the place.
        """
        given: Deferred[T | None] = Deferred(lambda _: self._drop(waiter, LEFT))
        now = self.clock.seconds()
        waiter = _Waiter(key, claim, given, now, now + seconds)
        waiter.timer = self.clock.callLater(seconds, self._late, waiter)
        self.waiters[waiter] = None
        if free_at is not None:
            self._wake_at(free_at)
        return given

    def offer(self) -> None:
        """Let the waiters claim, in their order: something may have become free."""
        if not self.waiters:
            return
        if self._offering:
            self._again = True
            return
        self._offering = True
        try:
            self._again = bool(self.waiters)
            while self._again:
                self._again = False
                self._round()
        finally:
            self._offering = False

    def held(self, seconds: float) -> None:
        """Take note of how long a request kept its place."""
        self._hold += (seconds - self._hold) * HOLD_SHARE

    def estimate(self, places: int) -> float:
        """Return in how many seconds it would be a newcomer's turn, where ``places`` are taken."""
        return min(self._hold * (len(self.waiters) + 1) / max(places, 1), ESTIMATE_MOST_SECONDS)

    def _round(self) -> None:
        now = self.clock.seconds()
        nobody: dict[Hashable, Nobody] = {}
        soonest = math.inf
        for waiter in list(self.waiters):
            if waiter not in self.waiters:
                # It left while another was given something.
                continue
            try:
                found = nobody.get(waiter.key) or waiter.claim()
            except Exception:
                # It is this waiter's fault, and not that of whoever has just given something back.
                self._drop(waiter, IN_VAIN)
                waiter.given.errback(Failure())
                continue
            if not isinstance(found, Nobody):
                self._drop(waiter, SERVED)
                waiter.given.callback(found)
                continue
            nobody[waiter.key] = found
            if not worth_waiting(found, waiter.deadline):
                self._drop(waiter, IN_VAIN)
                waiter.given.callback(None)
            elif found.free_at is not None:
                soonest = min(soonest, found.free_at)
        if soonest < math.inf and self.waiters:
            self._wake_at(max(soonest, now))

    def _wake_at(self, at: float) -> None:
        delay = max(at - self.clock.seconds(), WAKE_LEAST_SECONDS)
        if self._wake is not None and self._wake.active():
            if self._wake.getTime() <= self.clock.seconds() + delay:
                return
            self._wake.cancel()
        self._wake = self.clock.callLater(delay, self.offer)

    def _late(self, waiter: _Waiter[T]) -> None:
        self._drop(waiter, IN_VAIN)
        waiter.given.callback(None)

    def _drop(self, waiter: _Waiter[T], outcome: str) -> None:
        self.waiters.pop(waiter, None)
        self.waits[outcome].took(self.clock.seconds() - waiter.since)
        if waiter.timer is not None and waiter.timer.active():
            waiter.timer.cancel()
        if not self.waiters and self._wake is not None and self._wake.active():
            self._wake.cancel()


def worth_waiting(nobody: Nobody, deadline: float) -> bool:
    """Say whether a credential may become free before ``deadline``."""
    return nobody.busy or (nobody.free_at is not None and nobody.free_at < deadline)
