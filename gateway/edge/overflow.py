"""Connections over the limit: told so, and closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IReactorTime, ISSLTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

TOLD_MOST = 64
"""How many of them are told at a time; each takes a descriptor for so long."""
TOLD_SECONDS = 1.0
"""How long one has to read it."""
LOG_SECONDS = 10.0

_log = Logger()


class Overflow:
    """Makes the protocols of connections over the limit."""

    def __init__(self, clock: IReactorTime, answer: Callable[[], bytes]) -> None:
        """``answer`` makes the bytes of a whole HTTP answer."""
        self.clock = clock
        self.answer = answer
        self.told = 0
        self._since_log = 0
        self._logged: float | None = None

    def protocol(self) -> Protocol:
        """Return the protocol of one more."""
        self._note()
        return Told(self) if self.told < TOLD_MOST else Closed()

    def _note(self) -> None:
        # Who floods the gateway is not to flood the log as well.
        self._since_log += 1
        now = self.clock.seconds()
        if self._logged is None or now - self._logged >= LOG_SECONDS:
            _log.warn("turned {count} connections away: limits.connections are open", count=self._since_log)
            self._logged, self._since_log = now, 0


@implementer(IHalfCloseableProtocol)
class Told(Protocol):
    """Writes its answer and waits a moment for the client to go, because a close on unread bytes is a reset."""

    def __init__(self, overflow: Overflow) -> None:
        self._overflow = overflow
        self._timer: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Tell the client."""
        self._overflow.told += 1
        transport: Any = self.transport
        self._timer = self._overflow.clock.callLater(TOLD_SECONDS, transport.abortConnection)
        transport.write(self._overflow.answer())
        if ISSLTransport.providedBy(transport):
            transport.loseConnection()
        else:
            transport.loseWriteConnection()

    def dataReceived(self, data: bytes) -> None:
        """Drop it."""

    def readConnectionLost(self) -> None:
        """The client has gone, or will send nothing more; see IHalfCloseableProtocol."""
        transport: Any = self.transport
        transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """The answer is out; see IHalfCloseableProtocol."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget it."""
        self._overflow.told -= 1
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


class Closed(Protocol):
    """Is over at once."""

    def connectionMade(self) -> None:
        """Close."""
        transport: Any = self.transport
        transport.abortConnection()
