"""Streams from which nothing comes any more: one timer for all of them, since nearly all go on.  Does I/O."""

from __future__ import annotations

from typing import Final, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

LEAST_SECONDS: Final = 1e-6
"""Seconds add up inexactly: a timer may fire a moment before the time that it was set for."""


class Speaker(Protocol):
    """What something is to come from."""

    heard: float
    """When it came last."""

    def silent(self) -> None:
        """Take note that nothing has come for too long."""


class Silences:
    """Tells those from which nothing has come for ``seconds``.

    A timer for each costs a stream more than several of its events do.  The one here is due when the one that was
    heard first could be late, looks then who is, and is gone as soon as nobody is listened to.
    """

    def __init__(self, clock: IReactorTime, seconds: float) -> None:
        self.clock = clock
        self._seconds = seconds
        self._speakers: dict[Speaker, None] = {}
        self._timer: IDelayedCall | None = None

    def listen(self, speaker: Speaker) -> None:
        """Begin to listen: nothing is late that was not awaited."""
        speaker.heard = self.clock.seconds()
        self._speakers[speaker] = None
        if self._timer is None:
            self._timer = self.clock.callLater(self._seconds, self._look)

    def leave(self, speaker: Speaker) -> None:
        """Listen no more."""
        self._speakers.pop(speaker, None)
        if not self._speakers and self._timer is not None:
            timer, self._timer = self._timer, None
            timer.cancel()

    def _look(self) -> None:
        self._timer = None
        now = self.clock.seconds()
        by = now - self._seconds + LEAST_SECONDS
        late = [one for one in self._speakers if one.heard <= by]
        soonest = min((one.heard for one in self._speakers if one.heard > by), default=None)
        if soonest is not None:
            self._timer = self.clock.callLater(soonest + self._seconds - now, self._look)
        for one in late:
            # The end of one may have been that of another.
            if one in self._speakers:
                self.leave(one)
                one.silent()
