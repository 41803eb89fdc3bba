"""By when answers have to come: one timer for all of them, since nearly all come in time.  Does I/O."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

LEAST_SECONDS: Final = 0.001
"""Seconds add up inexactly: a timer may fire a moment before the time that it was set for."""


class Deadlines:
    """Cancels what is awaited for too long.

    A timer for each costs more than sending the request does.  The one here stands at the soonest deadline that it
    knew of, looks when it is due who is late, and is set again if anybody waits then.  It stays where it is when nobody
    does: to cancel it and to set another for the next request would cost each that is alone a turn of Twisted's loop.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._due: dict[Deferred[Any], float] = {}
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0

    def begin(self, waiting: Deferred[Any], seconds: float) -> None:
        """Cancel ``waiting`` in so many seconds, unless ``end`` comes first."""
        at = self._clock.seconds() + seconds
        self._due[waiting] = at
        if self._timer is None or at < self._timer_at:
            self._set(at)

    def end(self, waiting: Deferred[Any]) -> bool:
        """Take note that it is over; say whether that was in time."""
        return self._due.pop(waiting, None) is not None

    def close(self) -> None:
        """Keep no timer for what will not begin any more; who waits yet has it."""
        if not self._due:
            self._rest()

    def _set(self, at: float) -> None:
        self._rest()
        self._timer_at = at
        self._timer = self._clock.callLater(max(at - self._clock.seconds(), LEAST_SECONDS), self._look)

    def _rest(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _look(self) -> None:
        self._timer = None
        by = self._clock.seconds() + LEAST_SECONDS
        for waiting in [one for one, at in self._due.items() if at <= by]:
            # The end of one may have been that of another.
            if self._due.pop(waiting, None) is not None:
                waiting.cancel()
        if self._due and self._timer is None:
            self._set(min(self._due.values()))
