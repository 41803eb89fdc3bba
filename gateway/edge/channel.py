"""One client's connection: what Twisted's parser refuses is answered in JSON too, and told whole to the request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.http_headers import Headers as Fields
from zope.interface import implementer

from gateway.calls import GatewayError, Headers
from gateway.config import Limits
from gateway.edge import errors
from gateway.edge.pace import Late, Phase
from gateway.edge.paced import PacedChannel, Timed

HEADERS_MOST = 100
JSON_TYPE = b"application/json; charset=UTF-8"


class Begun(Protocol):
    """What a connection needs of its requests."""

    begun: bool
    refused: bool
    reason: str
    responseHeaders: Fields

    def begin(self, method: bytes, target: bytes, version: bytes) -> None:
        """Take the request line, when the head is complete and nothing was decided."""

    def fail(self, error: GatewayError) -> None:
        """Write an error of the gateway's own, except for its end."""

    def refuse(self, error: GatewayError) -> None:
        """Answer now and take no more of the body."""


class Door(Timed, Protocol):
    """What a connection needs of its site."""

    limits: Limits
    new_id: Callable[[], str]
    stopping: bool
    keep_seconds: float

    def connected(self, channel: GatewayChannel) -> None:
        """Take note of a connection."""

    def disconnected(self, channel: GatewayChannel) -> None:
        """Take note of a connection's end."""


def common_headers(request_id: str, origin: str) -> Headers:
    """Return the header fields that every answer has."""
    return (
        (b"date", http.datetimeToString()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-request-id", request_id.encode("ascii")),
        (b"x-antigravity-origin", origin.encode("ascii")),
    )


class GatewayChannel(PacedChannel):
    """Tells the request its head before the body is chosen a place, and answers what it cannot parse in JSON."""

    maxHeaders = HEADERS_MOST
    site: Door

    def connectionMade(self) -> None:
        """See HTTPChannel."""
        # A line may be as long as the whole head; without the latter the line reader's own limit would count.
        self.totalHeadersSize = self.MAX_LENGTH = self.site.limits.head
        super().connectionMade()
        self.site.connected(self)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """See HTTPChannel."""
        self.site.disconnected(self)
        super().connectionLost(reason)

    def allHeadersReceived(self) -> None:
        """See HTTPChannel."""
        request: Begun = self.requests[-1]
        request.begin(self._command, self._path, self._version)
        super().allHeadersReceived()

    def stop_soon(self) -> None:
        """Take no further request after the one under way; see GatewaySite.stop_soon."""
        if not any(request.begun for request in self.requests):
            self.setTimeout(self.site.keep_seconds)
        elif not any(request.startedWriting for request in self.requests):
            self.persistent = 0

    def requestDone(self, request: http.Request) -> None:
        """See HTTPChannel."""
        super().requestDone(request)
        if self.site.stopping and self.persistent:
            # Its answer began before it could tell that it would be the last.
            self.setTimeout(self.site.keep_seconds)

    def lineLengthExceeded(self, line: bytes) -> None:
        """See LineReceiver: a line too long is a target or a field too long."""
        self._receivedHeaderSize += len(line)
        self._respondToBadRequestAndDisconnect()

    def _respondToBadRequestAndDisconnect(self) -> None:
        if not any(request.startedWriting for request in self.requests):
            error = self._fault()
            request: Begun | None = self.requests[-1] if self.requests else None
            if request is not None and request.begun:
                request.responseHeaders.setRawHeaders(b"connection", [b"close"])
                request.fail(error)
            else:
                self._answer(error)
        self.loseConnection()

    def late(self, late: Late) -> None:
        """See PacedChannel."""
        request: Begun | None = self.requests[-1] if self.requests else None
        if late is Late.UNTAKEN:
            if request is not None:
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
            self._answer(_SLOW_HEAD)
        self.loseConnection()

    def _fault(self) -> GatewayError:
        """Say what is wrong with a request that cannot be parsed."""
        if self._receivedHeaderSize <= self.totalHeadersSize and self._receivedHeaderCount <= self.maxHeaders:
            return GatewayError(
                400, "INVALID_ARGUMENT", "HTTP_MALFORMED", "This is not a well-formed HTTP/1.1 request."
            )
        if not self.requests:
            limit = min(self.site.limits.target, self.totalHeadersSize)
            return GatewayError(
                414,
                "INVALID_ARGUMENT",
                "TARGET_TOO_LONG",
                f"The request target is longer than {limit} bytes; send parameters in the body.",
            )
        return GatewayError(
            431,
            "INVALID_ARGUMENT",
            "HEAD_TOO_LARGE",
            f"The request's head is larger than {self.totalHeadersSize} bytes or has more than"
            f" {self.maxHeaders} fields; send fewer.",
        )

    def _answer(self, error: GatewayError) -> None:
        """Write an error for what never became a request."""
        transport: Any = self.transport
        transport.write(whole_answer(error, self.site.new_id()))


@implementer(IHalfCloseableProtocol)
class PatientChannel(GatewayChannel):
    """One that answers a client that has closed its half: only a reset is leaving (``proxy.half_close: answer``)."""

    def readConnectionLost(self) -> None:
        """Close unless there is something to answer; asked again after each answer.  See IHalfCloseableProtocol."""
        if self.pace.phase is not Phase.ANSWER:
            self.loseConnection()

    def writeConnectionLost(self) -> None:
        """See IHalfCloseableProtocol."""


def whole_answer(error: GatewayError, request_id: str) -> bytes:
    """Return an error as an HTTP answer after which the connection is closed."""
    body = errors.body(error)
    fields = (
        *common_headers(request_id, "gateway"),
        *errors.headers(error),
        (b"Content-Type", JSON_TYPE),
        (b"Content-Length", b"%d" % len(body)),
        (b"Connection", b"close"),
    )
    reason = http.RESPONSES.get(error.code, b"")
    head = b"".join(b"%s: %s\r\n" % field for field in fields)
    return b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (error.code, reason, head, body)


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
