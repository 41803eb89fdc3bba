"""The connections to one origin that wait for a request: bounded, and not for ever."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from gateway.upstreams.connection import Connection

IDLE_SECONDS = 55.0
"""How long an idle connection is kept: shorter than the minute after which many peers drop one."""
IDLE_MOST = 1024
CLOSE_SECONDS = 5.0
"""How long a close in good order may take; over TLS it waits for the peer's."""


class Pool:
    """Keeps what is free, the last one first to go out again, so that those in excess grow old and are closed."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._idle: dict[Connection, float] = {}
        """Since when each is free, the longest first."""
        self._open: set[Connection] = set()
        self._closing: dict[Connection, IDelayedCall] = {}
        self._timer: IDelayedCall | None = None
        self.opens = 0
        """How many connections were ever opened."""
        self.closed = False
        self._emptied: Deferred[None] | None = None

    def __len__(self) -> int:
        """Return how many connections are open, idle or not."""
        return len(self._open)

    @property
    def unused(self) -> int:
        """How many of them are idle."""
        return len(self._idle)

    def opened(self, connection: Connection) -> None:
        """Take note of a new connection; see connection.Keeper."""
        self.opens += 1
        self._open.add(connection)

    def take(self) -> Connection | None:
        """Return a connection that is free, and no longer kept."""
        while self._idle:
            connection, _ = self._idle.popitem()
            if not connection.over:
                return connection
        return None

    def idle(self, connection: Connection) -> None:
        """Keep it; see connection.Keeper."""
        if self.closed or len(self._idle) >= IDLE_MOST:
            self.finish(connection)
            return
        self._idle[connection] = self._clock.seconds()
        if self._timer is None:
            self._timer = self._clock.callLater(IDLE_SECONDS, self._expire)

    def finish(self, connection: Connection) -> None:
        """Close it in good order, or else at once; see connection.Keeper."""
        # A peer that is gone without a word answers no close.
        self._closing[connection] = self._clock.callLater(CLOSE_SECONDS, connection.abort)
        connection.close()

    def gone(self, connection: Connection) -> None:
        """Forget it; see connection.Keeper."""
        self._idle.pop(connection, None)
        self._open.discard(connection)
        timer = self._closing.pop(connection, None)
        if timer is not None and timer.active():
            timer.cancel()
        if self._emptied is not None and not self._idle:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    def close(self) -> Deferred[None]:
        """Close what is idle, and the rest as it becomes so; fires when the former is done."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._idle:
            return succeed(None)
        emptied: Deferred[None] = Deferred()
        self._emptied = emptied
        for connection in list(self._idle):
            connection.abort()
        return emptied

    def _expire(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        while self._idle:
            connection, since = next(iter(self._idle.items()))
            left = since + IDLE_SECONDS - now
            if left > 0:
                self._timer = self._clock.callLater(left, self._expire)
                return
            del self._idle[connection]
            self.finish(connection)
