"""Shorter turns of the reactor: connections are read without a log context around each read.  Does I/O.

Twisted reads and writes every connection within a context that names it for ``twisted.python.log``: nine calls of
functions around each read, a tenth of what a request costs and a fifth of what an event does.  Nobody here logs by
that module, so nobody looks at the context.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

from twisted.logger import Logger

_log = Logger(namespace="gateway")


def shorten(reactor: Any) -> None:
    """Let a reactor that waits by epoll, and no other, turn so."""
    known = sys.modules.get("twisted.internet.epollreactor")
    # Asked of what is imported: the module exists on Linux alone, and a subclass may do otherwise.
    if known is not None and type(reactor) is known.EPollReactor:
        reactor.doIteration = partial(turn, reactor)


def turn(reactor: Any, timeout: float | None) -> None:
    """Wait for what is ready and let it be read or written; see EPollReactor.doPoll."""
    selectables, work = reactor._selectables, reactor._doReadOrWrite
    for descriptor, event in reactor._poller.poll(-1 if timeout is None else timeout, len(selectables)):
        selectable = selectables.get(descriptor)
        # One that was ready may be gone by its turn.
        if selectable is not None:
            try:
                work(selectable, descriptor, event)
            except Exception:
                _log.failure("a connection could not be read, written or closed")
