"""Watch from a thread whether the reactor turns: how late it is, and where it stands when it is stuck.  A thread."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from types import FrameType
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

BEAT_SECONDS = 1.0
LOOK_SECONDS = 0.25
"""Seldom: a process that does nothing is not woken much, and one that is busy not kept from it."""
BLOCKED_SECONDS = 0.25
"""From here on the reactor counts as blocked."""
STUCK_SECONDS = 0.1
"""Who is seen in a turn for so long is looked at where, so that a turn of that and LOOK_SECONDS is sure to be."""
FRAMES_MOST = 12
NEVER = float("inf")

_log = Logger(namespace="gateway")


class LagWatch:
    """Turns are marked, see turns.turn, and a thread looks from time to time whether one does not end; a beat tells
    how late the reactor is, whoever keeps it.

    A process that is stopped as a whole (SIGSTOP, a suspended laptop) is not blocked: the thread then slept as well.
    A reactor whose turns nobody marks is blocked where a beat is late, and nobody knows in what.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.last_seconds = 0.0
        """How late the last beat was."""
        self.most_seconds = 0.0
        """The latest beat, or the longest turn that was one of a blocked reactor."""
        self.blocked = 0
        """How often the reactor was blocked, for BLOCKED_SECONDS or more."""
        self.since = NEVER
        """When the turn under way began; never while the reactor waits."""
        self._beaten = 0.0
        self._looked = self._worked = 0.0
        """When the thread looked last, and the processor's time until then."""
        self._stuck: tuple[float, str] = (NEVER, "")
        """The turn in which the reactor was seen last, and where."""
        self._timer: IDelayedCall | None = None
        self._over = threading.Event()
        self._main = 0

    def start(self) -> None:
        """Begin; call it in the reactor's thread."""
        self._main = threading.get_ident()
        self._look(time.monotonic())
        self._beaten = time.monotonic()
        self._timer = self._reactor.callLater(BEAT_SECONDS, self._beat)
        threading.Thread(target=self._watch, name="lag watch", daemon=True).start()

    def stop(self) -> None:
        """End; the thread notices when it looks next."""
        self._over.set()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def held(self, now: float) -> None:
        """Take it that the turn under way took BLOCKED_SECONDS or more; called in the reactor's thread."""
        if self.since is NEVER or self._slept(now):
            return
        since, stack = self._stuck
        self._tell(now - self.since, stack if since == self.since else "a place that was left before anybody looked")

    def _tell(self, seconds: float, where: str) -> None:
        self.blocked += 1
        self.most_seconds = max(self.most_seconds, seconds)
        _log.warn("the reactor was blocked for {seconds:.2f} s in {where}", seconds=seconds, where=where)

    def _slept(self, now: float) -> bool:
        """Say whether the thread slept too, and nobody worked meanwhile: the process was stopped."""
        gone = now - self._looked
        return gone > LOOK_SECONDS + BLOCKED_SECONDS / 2 and time.process_time() - self._worked < gone / 2

    def _beat(self) -> None:
        now = time.monotonic()
        late = max(now - self._beaten - BEAT_SECONDS, 0.0)
        self._beaten = now
        self.last_seconds = late
        if late < BLOCKED_SECONDS:
            self.most_seconds = max(self.most_seconds, late)
        elif self.since is NEVER and not self._slept(now):
            self._tell(late, "a place that nobody knows: its turns are not marked")
        self._timer = self._reactor.callLater(BEAT_SECONDS, self._beat)

    def _watch(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self._look(time.monotonic())

    def _look(self, now: float) -> None:
        since = self.since
        if now - since >= STUCK_SECONDS and since != self._stuck[0]:
            self._stuck = (since, _where(sys._current_frames().get(self._main)))
        self._looked, self._worked = now, time.process_time()


def _where(frame: FrameType | None) -> str:
    """Return the lines of code that a thread is in, the innermost first, and none of its values."""
    stack = traceback.StackSummary.extract(traceback.walk_stack(frame), limit=FRAMES_MOST, lookup_lines=False)
    found = reversed(stack) if stack and stack[0].name == "<module>" else stack
    return " < ".join(f"{'/'.join(one.filename.split('/')[-2:])}:{one.lineno} {one.name}" for one in found)
