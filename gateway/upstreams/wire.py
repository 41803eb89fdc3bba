"""The way out: requests to Google through treq.

treq's client would add a cookie jar shared by everybody, redirects and an unbounded gzip decoder; none of
them belongs between a gateway and its backend, so ``request`` is overridden to send what it is given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs
from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionRefusedError,
    DNSLookupError,
    TCPTimedOutError,
    TimeoutError,
    UserError,
)
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from gateway.calls import HttpRequest
from gateway.folding import unfolded
from gateway.upstreams.bodies import WholeBody
from gateway.upstreams.deadlines import Deadlines
from gateway.upstreams.exchange import Receiver, WireError
from gateway.upstreams.fields import Fields
from gateway.upstreams.response import WHOLE, Response

_TLS = (SSL.Error, VerificationError)
_CANCELLED = (CancelledError, ConnectingCancelledError)
_CONNECT_TIMEOUT = (TimeoutError, TCPTimedOutError)
_CONNECT = (ConnectionRefusedError, DNSLookupError, ConnectError, UserError)


class LeanClient(HTTPClient):
    """treq's client without its cookies, redirects and decoders."""

    def request(  # type: ignore[override]
        self, method: str, url: bytes, *, headers: Headers, data: bytes | WholeBody, **unused: Any
    ) -> Deferred[IResponse]:
        """Send exactly these bytes to exactly this URL; the answer's body is not read ahead."""
        producer = data if isinstance(data, WholeBody) else WholeBody(data) if data else None
        response: Deferred[IResponse] = self._agent.request(method.encode("ascii"), url, headers, producer)
        return response


@attrs.define(eq=False, repr=False)
class TreqWire:
    """Sends requests through a treq client; see exchange.Wire."""

    _client: HTTPClient
    _clock: IReactorTime
    _clients: Mapping[str, HTTPClient] = attrs.field(factory=dict)
    """By upstream, where it has a client of its own."""
    _deadlines: Deadlines = attrs.field(
        init=False, default=attrs.Factory(lambda wire: Deadlines(wire._clock), takes_self=True)
    )

    async def open(self, request: HttpRequest, first_byte_seconds: float, upstream: str = "") -> TreqExchange:
        """Send a request and return its answer's head; raises WireError."""
        client = self._clients.get(upstream, self._client)
        waiting: Deferred[IResponse] = client.request(  # type: ignore[assignment]
            request.method.decode("ascii"),
            request.url,
            headers=Fields(request.headers),
            data=WholeBody(*unfolded(request.body, request.folds)) if request.folds else request.body,
            unbuffered=True,
        )
        self._deadlines.begin(waiting, first_byte_seconds)
        try:
            response = await waiting
        except BaseException as error:
            if not self._deadlines.end(waiting):
                raise WireError("timeout-first-byte") from None
            if not isinstance(error, Exception) or isinstance(error, CancelledError):
                raise
            if any(isinstance(cause, _CANCELLED) for cause in _causes(error)):
                # Twisted ends a cancelled request with ConnectingCancelledError while it connects, and with
                # ResponseNeverReceived once it has been sent.
                raise CancelledError from None
            raise WireError(_kind(error), type(error).__name__) from None
        self._deadlines.end(waiting)
        return TreqExchange(response, self._clock)

    def close(self) -> None:
        """Take note that nothing more is sent."""
        self._deadlines.close()


class TreqExchange(Protocol):
    """An answer whose head has come; see exchange.Exchange.  It is what reads the body, too."""

    _receiver: Receiver | None = None
    _over = False

    def __init__(self, response: IResponse, clock: IReactorTime) -> None:
        self.status: int = response.code
        self.headers: Mapping[bytes, bytes] = (
            response.fields if type(response) is Response else fields_of(response)
        )
        self._response = response
        self._clock = clock

    def deliver(self, receiver: Receiver) -> None:
        """Start the body's flow into ``receiver``."""
        self._receiver = receiver
        if type(self._response) is Response:
            self._response.deliver(self, receiver.data, receiver.ending)
        else:
            self._response.deliverBody(self)

    def dataReceived(self, data: bytes) -> None:
        """Take some of the body; see Protocol."""
        if not self._over and self._receiver is not None:
            self._receiver.data(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Take the body's end; see Protocol."""
        if self._over:
            return
        self._over = True
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            # PotentialDataLoss, a body that only the connection's end delimits, is no whole one: nobody can tell it
            # from one that was cut.
            whole = reason is WHOLE or reason.check(ResponseDone)
            error = None if whole else WireError("truncated", reason.type.__name__ if reason.type else "")
            receiver.ended(error)

    def forget_head(self) -> None:
        """Keep no header fields."""
        self.headers = {}
        if type(self._response) is Response:
            self._response.forget_head()

    def pause(self) -> None:
        """Stop reading from upstream."""
        if self._receiver is not None and not self._over:
            transport: Any = self.transport
            transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        if self._receiver is not None and not self._over:
            transport: Any = self.transport
            transport.resumeProducing()

    def abort(self) -> None:
        """Close the connection to upstream at once."""
        if self._over:
            return
        self._over = True
        if self._receiver is None:
            self._response.deliverBody(self)
        # The proxy that Twisted hands out can close a connection but not abort it, and over TLS a close waits
        # for the peer's answer, which a paused connection never reads.
        transport: Any = self.transport
        transport = getattr(transport, "_producer", None) or transport
        getattr(transport, "abortConnection", transport.loseConnection)()

    async def read(self, limit: int, idle_seconds: float, seconds: float = math.inf) -> bytes:
        """Return the whole body; raises WireError.  See exchange.Exchange."""
        response = self._response
        body = response.whole() if type(response) is Response else None
        if body is not None:
            # It came with its head, as most do: there is nothing to wait for, and nobody to tell.
            self._over = True
            if len(body) > limit:
                raise WireError("too-large")
            return body
        collector = _Collector(limit, self)
        self.deliver(collector)
        if not collector.over:
            await collector.rest(self._clock, idle_seconds, seconds)
        return collector.body()


class _Collector:
    """Gathers a body up to a limit; one that came with its head waits for nothing."""

    def __init__(self, limit: int, exchange: TreqExchange) -> None:
        self.over = False
        self._exchange = exchange
        self._limit = limit
        self._first = b""
        """The body as long as it is in one piece, which is how most come."""
        self._gathered = bytearray()
        """All of it otherwise, in one piece, because many of them take more memory than their bytes do."""
        self._size = 0
        self._error: WireError | None = None
        self._waiting: Deferred[None] | None = None
        self._moved = 0.0
        self._clock: IReactorTime | None = None

    def data(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._size > self._limit:
            self._fail(WireError("too-large"))
            return
        if self._size == len(chunk):
            self._first = chunk
        else:
            if not self._gathered:
                self._gathered += self._first
                self._first = b""
            self._gathered += chunk
        if self._clock is not None:
            self._moved = self._clock.seconds()

    def ending(self) -> None:
        pass

    def ended(self, error: WireError | None) -> None:
        if not self.over:
            self.over = True
            self._error = error
            if self._waiting is not None:
                self._waiting.callback(None)

    def body(self) -> bytes:
        """Return it, when it is over; raises what kept it from being whole."""
        if self._error is not None:
            raise self._error
        return self._first or bytes(self._gathered)

    async def rest(self, clock: IReactorTime, idle_seconds: float, seconds: float) -> None:
        """Wait for its end, as long as it moves on."""
        self._clock = clock
        self._moved = clock.seconds()
        end = self._moved + seconds
        timer: IDelayedCall | None = None

        def look() -> None:
            nonlocal timer
            idle_at = self._moved + idle_seconds
            left = min(idle_at, end) - clock.seconds()
            if left > 0:
                timer = clock.callLater(left, look)
            else:
                self._fail(WireError("timeout-idle" if idle_at <= end else "timeout-first-byte"))

        waiting: Deferred[None] = Deferred(lambda _: self._exchange.abort())
        self._waiting = waiting
        look()
        try:
            await waiting
        finally:
            if timer is not None and timer.active():
                timer.cancel()

    def _fail(self, error: WireError) -> None:
        self._exchange.abort()
        self.ended(error)


def fields_of(response: IResponse) -> Mapping[bytes, bytes]:
    """Return an answer's fields by lower-case name; of repeated ones the last counts."""
    if isinstance(response, Response):
        return response.fields
    return {name.lower(): values[-1] for name, values in response.headers.getAllRawHeaders()}


def _causes(error: Exception) -> list[BaseException]:
    """Return an error and what Twisted says was behind it."""
    causes: list[BaseException] = [error]
    for failure in getattr(error, "reasons", ()):
        causes.append(failure.value)
        causes.extend(inner.value for inner in getattr(failure.value, "reasons", ()))
    return causes


def _kind(error: Exception) -> str:
    """Name what kept an answer from coming."""
    causes = _causes(error)
    if any(isinstance(cause, _TLS) for cause in causes):
        return "tls"
    if any(isinstance(cause, _CONNECT_TIMEOUT) for cause in causes):
        return "timeout-connect"
    if any(isinstance(cause, _CONNECT) for cause in causes):
        return "connect"
    return "reset"
