"""One client's connection: what is done with those that are slow, that half-close, or when the gateway stops."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any, Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol
from twisted.python.failure import Failure
from twisted.web import http
from zope.interface import implementer

from gateway import eager
from gateway.calls import GatewayError
from gateway.edge import errors
from gateway.edge.answer import head
from gateway.edge.pace import Late, Phase
from gateway.edge.proxies import LOCAL
from gateway.edge.reading import Limited, ReadingChannel, Turn

_TCP = (IPv4Address, IPv6Address)
JSON_TYPE = b"application/json; charset=UTF-8"


class Door(Limited, Protocol):
    """What a connection needs of its site."""

    stopping: bool
    keep_seconds: float

    def connected(self, channel: GatewayChannel) -> None:
        """Take note of a connection."""

    def disconnected(self, channel: GatewayChannel) -> None:
        """Take note of a connection's end."""


def common_lines(request_id: str, origin: str) -> bytes:
    """Return the header fields that every answer has, as `answer.head` takes them."""
    return b"%b%b\r\nx-antigravity-origin: %b" % (
        _up_to_id(int(time.time())),
        request_id.encode("ascii"),
        origin.encode("ascii"),
    )


@lru_cache(maxsize=4)
def _up_to_id(second: int) -> bytes:
    """Return what is the same in all answers of a second."""
    return (
        b"\r\ndate: %b\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\nx-request-id: "
        % http.datetimeToString(second)
    )


class GatewayChannel(ReadingChannel):
    """A client's connection."""

    __slots__ = ("host", "local_name", "peer", "peer_name")

    site: Door
    peer: Any
    host: Any
    """The addresses of both ends, as Twisted has them."""
    peer_name: str
    """The address of who connected."""
    local_name: str
    """The address that was connected to; empty for none of TCP's."""
    _kept: IDelayedCall | None = None
    """While stopping: the end of the moment for which it is kept."""

    def connectionMade(self) -> None:
        """See HTTPChannel."""
        # Each request asks for both, and the kernel would be asked for the second each time.
        self.peer, self.host = self.getPeer(), self.getHost()
        self.peer_name = self.peer.host if isinstance(self.peer, _TCP) else LOCAL
        # As a Host header would write it.
        self.local_name = self.host.host.removeprefix("::ffff:") if isinstance(self.host, _TCP) else ""
        super().connectionMade()
        self.site.connected(self)

    def write(self, data: bytes) -> None:
        """See HTTPChannel."""
        eager.write(self.transport, data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """See HTTPChannel."""
        if self._kept is not None and self._kept.active():
            self._kept.cancel()
        self.site.disconnected(self)
        super().connectionLost(reason)

    def stop_soon(self) -> None:
        """Take no further request after the one under way; see GatewaySite.stop_soon."""
        if not self.requests:
            self._keep_a_moment()
        elif not any(request.startedWriting for request in self.requests):
            self.persistent = 0

    def requestDone(self, request: http.Request) -> None:
        """See HTTPChannel."""
        super().requestDone(request)
        if self.site.stopping and self.persistent:
            # Its answer began before it could tell that it would be the last.
            self._keep_a_moment()

    def _keep_a_moment(self) -> None:
        self._kept = self.site.clock.callLater(self.site.keep_seconds, self._look_once_more)

    def _look_once_more(self) -> None:
        # A busy reactor may be late; what has come meanwhile is read before the next turn's timers.
        self._kept = self.site.clock.callLater(0, self._part)

    def _part(self) -> None:
        if not self.requests and not self.pace.begun:
            self.loseConnection()

    def late(self, late: Late) -> None:
        """See PacedChannel."""
        request: Turn | None = self.requests[-1] if self.requests else None
        if late in (Late.UNTAKEN, Late.UNCLOSED):
            if late is Late.UNTAKEN and request is not None:
                request.reason = "CLIENT_STALLED"
            transport: Any = self.transport
            transport.abortConnection()
            return
        if late is Late.BODY and request is not None:
            if request.refused:
                # It has been answered, and has a deadline of its own for what it still sends.
                return
            request.refuse(_SLOW_BODY)
        elif late is Late.HEAD and self.pace.begun:
            # A connection on which nothing came is closed without a word: browsers open some ahead.
            self.refuse_unread(_SLOW_HEAD, False)
        self.loseConnection()


@implementer(IHalfCloseableProtocol)
class PatientChannel(GatewayChannel):
    """One that answers a client that has closed its half: only a reset is leaving (``proxy.half_close: answer``)."""

    def readConnectionLost(self) -> None:
        """Close unless there is something to answer; asked again after each answer.  See IHalfCloseableProtocol."""
        if self.pace.phase is not Phase.ANSWER:
            self.loseConnection()
            return
        # It is not read any more, so the end is found, and told of here, when it is read again.
        self._stands = True

    def writeConnectionLost(self) -> None:
        """See IHalfCloseableProtocol."""


def whole_answer(error: GatewayError, request_id: str) -> bytes:
    """Return an error as an HTTP answer after which the connection is closed."""
    body = errors.body(error)
    fields = (
        *errors.headers(error),
        (b"Content-Type", JSON_TYPE),
        (b"Content-Length", b"%d" % len(body)),
        (b"Connection", b"close"),
    )
    return head(b"HTTP/1.1", error.code, fields, common_lines(request_id, "gateway")) + body


_SLOW_HEAD = GatewayError(
    408,
    "DEADLINE_EXCEEDED",
    "HEAD_TOO_SLOW",
    "The request's head did not come within the time that this gateway allows for it (timeouts.head).",
)
_SLOW_BODY = GatewayError(
    408,
    "DEADLINE_EXCEEDED",
    "BODY_TOO_SLOW",
    "The request's body came more slowly than this gateway allows (limits.body_rate, timeouts.body).",
)
