"""Shorter turns of the reactor: connections are read without a log context around each read.  Does I/O.

Twisted reads and writes every connection within a context that names it for ``twisted.python.log``: nine calls of
functions around each read, a tenth of what a request costs and a fifth of what an event does.  Nobody here logs by
that module, so nobody looks at the context.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, Final

from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.tcp import Client, Server
from twisted.logger import Logger

_PLAIN: Final = (Server, Client)
_IN: Final = 1
"""EPOLLIN, by itself."""

_PARTS: Final = ("_poller", "_selectables", "_doReadOrWrite", "_disconnectSelectable")

_log = Logger(namespace="gateway")


def shorten(reactor: Any) -> None:
    """Let a reactor that waits by epoll, and no other, turn so."""
    known = sys.modules.get("twisted.internet.epollreactor")
    # Asked of what is imported: the module exists on Linux alone, and a subclass may do otherwise.  A Twisted that
    # names its parts otherwise keeps its own turns.
    if known is not None and type(reactor) is known.EPollReactor and all(hasattr(reactor, part) for part in _PARTS):
        reactor.doIteration = partial(turn, reactor)


def turn(reactor: Any, timeout: float | None) -> None:
    """Wait for what is ready and let it be read or written; see EPollReactor.doPoll."""
    selectables, work = reactor._selectables, reactor._doReadOrWrite
    for descriptor, event in reactor._poller.poll(-1 if timeout is None else timeout, len(selectables)):
        selectable = selectables.get(descriptor)
        # One that was ready may be gone by its turn.
        if selectable is None:
            continue
        try:
            if event == _IN and type(selectable) in _PLAIN:
                # Plain TCP that has something to read and nothing else, as nearly always.
                why = _read(selectable)
                if why is not None:
                    reactor._disconnectSelectable(selectable, why, True)
            else:
                work(selectable, descriptor, event)
        except Exception:
            _log.failure("a connection could not be read, written or closed")


def _read(connection: Any) -> Exception | None:
    """Read a TCP connection once; return why it is over, if it is.  See twisted.internet.tcp.Connection.doRead."""
    try:
        data = connection.socket.recv(connection.bufferSize)
    except BlockingIOError:
        return None
    except OSError:
        return CONNECTION_LOST
    if not data:
        return CONNECTION_DONE
    try:
        connection.protocol.dataReceived(data)
    except Exception as error:
        _log.failure("a connection's bytes could not be taken")
        return error
    return None
