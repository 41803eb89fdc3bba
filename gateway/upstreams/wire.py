"""The way out: requests to Google through treq.

treq's client would add a cookie jar shared by everybody, redirects and an unbounded gzip decoder; none of
them belongs between a gateway and its backend, so ``request`` is overridden to send what it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionRefusedError,
    DNSLookupError,
    TCPTimedOutError,
    TimeoutError,
    UserError,
)
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    ResponseDone,
    _HTTP11ClientFactory,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from gateway.calls import HttpRequest
from gateway.upstreams.exchange import Receiver, WireError
from gateway.upstreams.trust import Verified

IDLE_CONNECTION_SECONDS = 55
"""How long an idle connection is kept: shorter than the minute after which many peers drop one."""
CONNECTIONS_PER_HOST = 1024

_TLS = (SSL.Error, VerificationError)
_CANCELLED = (CancelledError, ConnectingCancelledError)
_CONNECT_TIMEOUT = (TimeoutError, TCPTimedOutError)
_CONNECT = (ConnectionRefusedError, DNSLookupError, ConnectError, UserError)


class _QuietFactory(_HTTP11ClientFactory):
    """Twisted's own, without a line in the log for every connection."""

    noisy = False


@implementer(IBodyProducer)
class _OneWrite:
    """A body that is written at once; the transport's buffer does the rest."""

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = body

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Nothing is left to pause."""

    def resumeProducing(self) -> None:
        """Nothing is left to resume."""

    def stopProducing(self) -> None:
        """Nothing is left to stop."""


class LeanClient(HTTPClient):
    """treq's client without its cookies, redirects and decoders."""

    def request(  # type: ignore[override]
        self, method: str, url: bytes, *, headers: Headers, data: bytes, **unused: Any
    ) -> Deferred[IResponse]:
        """Send exactly these bytes to exactly this URL; the answer's body is not read ahead."""
        producer = _OneWrite(data) if data else None
        response: Deferred[IResponse] = self._agent.request(method.encode("ascii"), url, headers, producer)
        return response


def stock_agent(
    reactor: Any, connect_seconds: float, policy: IPolicyForHTTPS | None = None
) -> tuple[IAgent, HTTPConnectionPool]:
    """Return Twisted's own agent over a pool, and the pool, to be closed in the end.

    Certificates are verified against the platform's authorities unless ``policy`` says otherwise.
    """
    pool = HTTPConnectionPool(reactor, persistent=True)
    pool._factory = _QuietFactory
    pool.maxPersistentPerHost = CONNECTIONS_PER_HOST
    pool.cachedConnectionTimeout = IDLE_CONNECTION_SECONDS
    agent = Agent(reactor, policy or Verified(), connectTimeout=connect_seconds, pool=pool)
    return agent, pool


@attrs.define(eq=False)
class TreqWire:
    """Sends requests through a treq client; see exchange.Wire."""

    _client: HTTPClient
    _clock: IReactorTime

    async def open(self, request: HttpRequest, first_byte_seconds: float) -> TreqExchange:
        """Send a request and return its answer's head; raises WireError."""
        headers = Headers()
        for name, value in request.headers:
            headers.addRawHeader(name, value)
        waiting: Deferred[IResponse] = self._client.request(  # type: ignore[assignment]
            request.method.decode("ascii"), request.url, headers=headers, data=request.body, unbuffered=True
        )
        timed_out = False

        def give_up() -> None:
            nonlocal timed_out
            timed_out = True
            waiting.cancel()

        timer = self._clock.callLater(first_byte_seconds, give_up)
        try:
            response = await waiting
        except CancelledError:
            if timed_out:
                raise WireError("timeout-first-byte") from None
            raise
        except Exception as error:
            if timed_out:
                raise WireError("timeout-first-byte") from None
            if any(isinstance(cause, _CANCELLED) for cause in _causes(error)):
                # Twisted ends a cancelled request with ConnectingCancelledError while it connects, and with
                # ResponseNeverReceived once it has been sent.
                raise CancelledError from None
            raise WireError(_kind(error), type(error).__name__) from None
        finally:
            if timer.active():
                timer.cancel()
        return TreqExchange(response, self._clock)


class TreqExchange:
    """An answer whose head has come; see exchange.Exchange."""

    def __init__(self, response: IResponse, clock: IReactorTime) -> None:
        self._response = response
        self._clock = clock
        self._body: _Body | None = None
        self.status: int = response.code
        self.headers: Mapping[bytes, bytes] = {
            name.lower(): values[-1] for name, values in response.headers.getAllRawHeaders()
        }

    def deliver(self, receiver: Receiver) -> None:
        """Start the body's flow into ``receiver``."""
        self._body = _Body(receiver)
        self._response.deliverBody(self._body)

    def pause(self) -> None:
        """Stop reading from upstream."""
        if self._body is not None and not self._body.over:
            transport: Any = self._body.transport
            transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        if self._body is not None and not self._body.over:
            transport: Any = self._body.transport
            transport.resumeProducing()

    def abort(self) -> None:
        """Close the connection to upstream at once."""
        if self._body is None:
            self.deliver(_Ignored())
        body = self._body
        assert body is not None
        if body.over:
            return
        body.over = True
        # The proxy that Twisted hands out can close a connection but not abort it, and over TLS a close waits
        # for the peer's answer, which a paused connection never reads.
        transport: Any = body.transport
        transport = getattr(transport, "_producer", None) or transport
        getattr(transport, "abortConnection", transport.loseConnection)()

    async def read(self, limit: int, idle_seconds: float) -> bytes:
        """Return the whole body; raises WireError."""
        collector = _Collector(limit, self)
        timer = self._clock.callLater(idle_seconds, collector.fail, WireError("timeout-idle"))
        collector.on_data = lambda: timer.reset(idle_seconds)
        self.deliver(collector)
        try:
            return await collector.done
        finally:
            if timer.active():
                timer.cancel()


class _Body(Protocol):
    """Between Twisted's body delivery and a receiver."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self.over = False

    def dataReceived(self, data: bytes) -> None:
        if not self.over:
            self._receiver.data(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.over:
            return
        self.over = True
        if reason.check(ResponseDone):
            self._receiver.ended(None)
        else:
            # PotentialDataLoss, a body that only the connection's end delimits, is among these: nobody can
            # tell it from one that was cut.
            self._receiver.ended(WireError("truncated", reason.type.__name__ if reason.type else ""))


class _Ignored:
    def data(self, chunk: bytes) -> None:
        """Drop it."""

    def ended(self, error: WireError | None) -> None:
        """Nobody waits."""


class _Collector:
    """Gathers a body up to a limit."""

    def __init__(self, limit: int, exchange: TreqExchange) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: exchange.abort())
        self.on_data = lambda: None
        self._exchange = exchange
        self._limit = limit
        self._chunks: list[bytes] = []
        self._size = 0

    def data(self, chunk: bytes) -> None:
        self.on_data()
        self._size += len(chunk)
        if self._size > self._limit:
            self.fail(WireError("too-large"))
        else:
            self._chunks.append(chunk)

    def ended(self, error: WireError | None) -> None:
        if self.done.called:
            return
        if error is None:
            self.done.callback(b"".join(self._chunks))
        else:
            self.done.errback(error)

    def fail(self, error: WireError) -> None:
        self._exchange.abort()
        if not self.done.called:
            self.done.errback(error)


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
