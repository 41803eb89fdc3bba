"""Shorter turns of the reactor: less around each read, and less between one wait and the next.  Does I/O.

Twisted reads and writes every connection within a context that names it for ``twisted.python.log``: nine calls of
functions around each read, a tenth of what a request costs and a fifth of what an event does.  Nobody here logs by
that module, so nobody looks at the context.  Between two waits it looks after timers and after what other threads
have asked for, which is eight calls more; where there is none of either to look after, it is not asked to.

Such a turn has an end that others can wait for, as the log does: its lines go out together.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from time import monotonic
from typing import Any, Final, Protocol

from twisted.internet.abstract import FileDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.tcp import Client, Server
from twisted.logger import Logger

from gateway.process.lag import BLOCKED_SECONDS, NEVER

_PLAIN: Final = (Server, Client)
AT_A_TIME: Final = 42
"""How many connections are told of at a time: room for all is made anew for each wait, and 512 bytes come cheap."""
_IN: Final = 1
"""EPOLLIN, by itself."""

_USUAL_BYTES: Final = FileDescriptor.bufferSize
"""Who has set another size reads something large."""
AT_A_TIME_BYTES: Final = 1024 * 1024
"""How much of it is read in one turn: a millisecond's work."""

_PARTS: Final = (
    "_poller",
    "_selectables",
    "_doReadOrWrite",
    "_disconnectSelectable",
    "_newTimedCalls",
    "_pendingTimedCalls",
    "_justStopped",
    "_started",
)

_log = Logger(namespace="gateway")


class Marks(Protocol):
    """What is told when turns begin and end; see lag.LagWatch."""

    since: float
    """When the turn under way began."""

    def held(self, now: float) -> None:
        """It took long."""


class Gathers(Protocol):
    """What can leave something for the end of a turn."""

    @property
    def left(self) -> Sequence[object]:
        """What it has left, if anything: always the same list, so that a look costs next to nothing."""

    def gather(self) -> None:
        """Begin to: the reactor turns."""

    def let_out(self) -> None:
        """Do what was left."""

    def at_once(self) -> None:
        """Do what was left, and leave nothing any more: the reactor has ended."""


def shorten(reactor: Any, marks: Marks, gathers: Gathers | None = None) -> None:
    """Let a reactor that waits by epoll, and no other, turn so, and ``gathers`` leave things for its turns' ends."""
    known = sys.modules.get("twisted.internet.epollreactor")
    # Asked of what is imported: the module exists on Linux alone, and a subclass may do otherwise.  A Twisted that
    # names its parts otherwise keeps its own turns.
    if known is None or type(reactor) is not known.EPollReactor or not all(hasattr(reactor, part) for part in _PARTS):
        return
    reactor.doIteration = partial(turn, reactor, marks, gathers)
    if gathers is not None:
        reactor.callWhenRunning(gathers.gather)
        reactor.addSystemEventTrigger("after", "shutdown", gathers.at_once)


def turn(reactor: Any, marks: Marks, gathers: Gathers | None, timeout: float | None) -> None:
    """Wait for what is ready and let it be read or written; see EPollReactor.doPoll.

    It goes on until a timer is due, or the reactor has something else to look after.  What the last wait led to, and
    the timers since, have left is let out before the next: nothing waits while the reactor does.
    """
    selectables, work, poll = reactor._selectables, reactor._doReadOrWrite, reactor._poller.poll
    left = () if gathers is None else gathers.left
    seconds, of_turns = reactor.seconds, monotonic
    # These stay the same lists until Twisted's loop has its turn.
    new, threads, timers = reactor._newTimedCalls, reactor.threadCallQueue, reactor._pendingTimedCalls
    while True:
        if left and gathers is not None:
            gathers.let_out()
        now = of_turns()
        if now - marks.since >= BLOCKED_SECONDS:
            marks.held(now)
        marks.since = NEVER
        ready = poll(-1 if timeout is None else timeout, AT_A_TIME)
        marks.since = of_turns()
        for descriptor, event in ready:
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
        if new or threads or reactor._justStopped or not reactor._started:
            return
        timeout = timers[0].time - seconds() if timers else None
        if timeout is not None and timeout <= 0:
            return


def _read(connection: Any) -> Exception | None:
    """Read a TCP connection once; return why it is over, if it is.  See twisted.internet.tcp.Connection.doRead."""
    most = connection.bufferSize
    if most > _USUAL_BYTES:
        place = getattr(connection.protocol, "place", _nowhere)()
        if place is not None:
            return _fill(connection, place)
    try:
        data = connection.socket.recv(most)
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


def _nowhere() -> None:
    return None


def _fill(connection: Any, place: memoryview | None) -> Exception | None:
    """Read into the places that a protocol has for what comes, as long as more is there and others can wait."""
    left = AT_A_TIME_BYTES
    while place is not None and left > 0:
        try:
            count = connection.socket.recv_into(place)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not count:
            return CONNECTION_DONE
        whole = count == len(place)
        try:
            connection.protocol.placed(place if whole else place[:count])
            if not whole:
                return None
            place = connection.protocol.place()
        except Exception as error:
            _log.failure("a connection's bytes could not be taken")
            return error
        left -= count
    return None
