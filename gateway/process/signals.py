"""Signals, each answered by a function in the reactor's own turn.  Does I/O: a process has one set of answers."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorFromThreads

Actions = Mapping[str, Callable[[], object]]
"""By the signal's name, such as ``SIGTERM``."""


def answer(reactor: IReactorFromThreads, actions: Actions) -> None:
    """Let these signals be answered from now on, as far as the system has them.

    Call it in the main thread; for SIGTERM and SIGINT once the reactor runs, because it sets answers of its own when
    it begins.  To those twistd raises the signal again when all is over, so that a clean end looks like none.
    """
    for name, action in actions.items():
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, _in_turn(reactor, action))


def _in_turn(reactor: IReactorFromThreads, action: Callable[[], object]) -> Callable[[int, object], None]:
    def answered(_number: int, _frame: object) -> None:
        reactor.callFromThread(action)

    return answered
