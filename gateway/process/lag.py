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

BEAT_SECONDS = 0.05
BLOCKED_SECONDS = 0.25
"""From here on the reactor counts as blocked, and it is looked at where."""
FRAMES_MOST = 12

_log = Logger(namespace="gateway")


class LagWatch:
    """The reactor beats; a thread sees to it that the beat comes.

    A process that is stopped as a whole (SIGSTOP, a suspended laptop) is not blocked: the thread then slept as well.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.last_seconds = 0.0
        """How late the last beat was."""
        self.most_seconds = 0.0
        self.blocked = 0
        """How often a beat was late by BLOCKED_SECONDS or more."""
        self._beaten = 0.0
        self._stack = ""
        self._timer: IDelayedCall | None = None
        self._over = threading.Event()
        self._main = 0

    def start(self) -> None:
        """Begin; call it in the reactor's thread."""
        self._main = threading.get_ident()
        self._beaten = time.monotonic()
        self._timer = self._reactor.callLater(BEAT_SECONDS, self._beat)
        threading.Thread(target=self._watch, name="lag watch", daemon=True).start()

    def stop(self) -> None:
        """End; the thread notices within a beat."""
        self._over.set()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _beat(self) -> None:
        now = time.monotonic()
        late = max(now - self._beaten - BEAT_SECONDS, 0.0)
        self._beaten = now
        stack, self._stack = self._stack, ""
        self.last_seconds = late
        if stack:
            self.blocked += 1
            self.most_seconds = max(self.most_seconds, late)
            _log.warn("the reactor was blocked for {seconds:.2f} s in {stack}", seconds=late, stack=stack)
        elif late < BLOCKED_SECONDS:
            self.most_seconds = max(self.most_seconds, late)
        self._timer = self._reactor.callLater(BEAT_SECONDS, self._beat)

    def _watch(self) -> None:
        before, worked_before = time.monotonic(), time.process_time()
        while not self._over.wait(BEAT_SECONDS):
            now, worked = time.monotonic(), time.process_time()
            if now - before > BLOCKED_SECONDS and worked - worked_before < (now - before) / 2:
                # This thread slept too, and nobody worked meanwhile: the process was stopped.
                self._beaten = now
            elif now - self._beaten > BEAT_SECONDS + BLOCKED_SECONDS and not self._stack:
                self._stack = _where(sys._current_frames().get(self._main))
            before, worked_before = now, worked


def _where(frame: FrameType | None) -> str:
    """Return the lines of code that a thread is in, the innermost first, and none of its values."""
    stack = traceback.StackSummary.extract(traceback.walk_stack(frame), limit=FRAMES_MOST, lookup_lines=False)
    found = reversed(stack) if stack and stack[0].name == "<module>" else stack
    return " < ".join(f"{'/'.join(one.filename.split('/')[-2:])}:{one.lineno} {one.name}" for one in found)
