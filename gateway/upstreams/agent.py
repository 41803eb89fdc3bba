"""The HTTP agent of the gateway's own: few origins, many requests, whole answers or none.

It stands under treq's client where Twisted's Agent would, and does with less what is done for every request: an
origin's endpoint and TLS context are made once, a URL is taken apart once, a request is one write, and what one read
brings goes to the reader in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.error import TimeoutError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IPolicyForHTTPS, IResponse
from zope.interface import implementer

from gateway.config.values import ProxyServer
from gateway.upstreams import heads, tunnel
from gateway.upstreams.bodies import WholeBody
from gateway.upstreams.connection import Connection
from gateway.upstreams.fields import pairs_of
from gateway.upstreams.heads import Origin
from gateway.upstreams.pool import Pool
from gateway.upstreams.reach import Reach
from gateway.upstreams.response import Response, Sent
from gateway.upstreams.trust import Verified

STALE_SECONDS: Final = 2.0
"""A kept connection that closes so soon after a request went out there was closed before the request came.

Later, the request may have been at work, and would be billed twice.
"""


class _Dial(Factory):
    noisy = False

    def __init__(self, pool: Pool, secure: bool) -> None:
        self._pool = pool
        self._secure = secure

    def buildProtocol(self, addr: object) -> Connection:
        return Connection(self._pool, self._secure)


class _Line:
    """The way to one origin, and the connections that are open there."""

    def __init__(
        self,
        reactor: Any,
        origin: Origin,
        endpoint: IStreamClientEndpoint,
        connect_seconds: float,
        proxy: ProxyServer | None,
    ) -> None:
        self.pool = Pool(reactor)
        self._reactor = reactor
        self._endpoint = endpoint
        self._dial = _Dial(self.pool, origin.secure)
        self._connect_seconds = connect_seconds
        self._reach = Reach(
            f"{origin.host}:{origin.port}", f"{proxy.host}:{proxy.port}" if proxy is not None else "", reactor.seconds
        )

    def connect(self) -> Deferred[Connection]:
        """Open a connection, its handshake done, within the time for it; cancelling closes it."""
        opening = Deferred.fromCoroutine(self._open()).addTimeout(self._connect_seconds, self._reactor, _late)
        return opening.addCallbacks(self._reached, self._failed)

    async def _open(self) -> Connection:
        connection: Any = await self._endpoint.connect(self._dial)
        opened: Connection = await connection.ready
        return opened

    def _reached(self, connection: Connection) -> Connection:
        self._reach.reached()
        return connection

    def _failed(self, failure: Failure) -> Failure:
        self._reach.failed(failure.value, self._connect_seconds)
        return failure

    def warm(self, count: int) -> Deferred[Any]:
        """Have this many connections open, as far as they can be opened; nobody waits for them."""
        missing = [self.connect() for _ in range(count - len(self.pool))]
        for opening in missing:
            opening.addCallbacks(self.pool.idle, lambda failure: None)
        return DeferredList(missing)


def _late(reason: object, seconds: float) -> Any:
    raise TimeoutError


class _Job:
    """One request, until the head of its answer has come; see connection.Job."""

    _waiting: Deferred[IResponse] | None = None
    _opening: Deferred[Connection] | None = None
    _connection: Connection | None = None
    _may_be_stale = False

    def __init__(self, line: _Line, seconds: Callable[[], float], sent: Sent, head: bytes, body: Any) -> None:
        self.sent = sent
        self.head = head
        self.body = body
        self._line = line
        self._seconds = seconds

    def start(self) -> Deferred[IResponse]:
        """Send it, over a connection that is kept if there is one; return what fires with its answer."""
        waiting: Deferred[IResponse] = Deferred(self._cancelled)
        self._waiting = waiting
        connection = self._line.pool.take()
        if connection is None:
            self._connect()
        else:
            self._may_be_stale = True
            self._connection = connection
            connection.send(self, self._seconds())
        return waiting

    def _connect(self) -> None:
        opening = self._line.connect()
        self._opening = opening
        opening.addCallbacks(self._send, self._not_opened)

    def _send(self, connection: Connection) -> None:
        self._opening = None
        self._connection = connection
        connection.send(self, self._seconds())

    def _not_opened(self, failure: Failure) -> None:
        if self._opening is not None:
            self._opening = None
            self._over(failure)

    def answered(self, response: Response) -> None:
        """Take the head of the answer; what was sent is not sent again."""
        self._connection = None
        self.head, self.body = b"", None
        self._over(response)

    def failed(self, connection: Connection, reason: Failure) -> None:
        """Take it that no answer will come; try once more where the request cannot have been read."""
        self._connection = None
        stale = self._may_be_stale and not connection.touched and not self._line.pool.closed
        if stale and self._repeatable and self._seconds() - connection.sent_at < STALE_SECONDS:
            self._may_be_stale = False
            self._connect()
        else:
            self._over(reason)

    def _over(self, result: Response | Failure) -> None:
        # Without the Deferred, whose canceller it is, it is no garbage that only a search for circles finds.
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(result)

    @property
    def _repeatable(self) -> bool:
        return self.body is None or type(self.body) is WholeBody

    def _cancelled(self, waiting: Deferred[IResponse]) -> None:
        self._waiting = None
        opening, self._opening = self._opening, None
        if opening is not None:
            opening.cancel()
        if self._connection is not None:
            self._connection.forget()


@implementer(IAgent)
class GatewayAgent:
    """Sends requests over connections that it keeps; certificates are verified as Twisted's own agent does it.

    A redirect is an answer, a proxy named in the environment is nobody.
    """

    def __init__(
        self,
        reactor: Any,
        connect_seconds: float,
        policy: IPolicyForHTTPS | None = None,
        proxy: ProxyServer | None = None,
    ) -> None:
        """``policy`` says whom to trust, the platform's authorities by default; ``proxy`` is gone through to all."""
        self._reactor = reactor
        self._seconds: Callable[[], float] = reactor.seconds
        self._connect_seconds = connect_seconds
        self._policy = policy or Verified()
        self._proxy = proxy
        self._lines: dict[Origin, _Line] = {}

    def request(
        self, method: bytes, uri: bytes, headers: Headers | None = None, bodyProducer: IBodyProducer | None = None
    ) -> Deferred[IResponse]:
        """Send a request; see IAgent."""
        try:
            origin = heads.address(uri).origin
            line = self._lines.get(origin) or self._line(origin)
            length: Any = 0 if bodyProducer is None else bodyProducer.length
            head = heads.head(method, uri, pairs_of(headers), None if length is UNKNOWN_LENGTH else length)
        except heads.BadRequest:
            return fail(Failure())
        sent = Sent(method, uri, headers if headers is not None else Headers())
        return _Job(line, self._seconds, sent, head, bodyProducer).start()

    def warm(self, uri: bytes, count: int) -> Deferred[Any]:
        """Open connections to a URL's origin ahead of the first requests; raises BadRequest."""
        return self._line(heads.address(uri).origin).warm(count)

    def pools(self) -> Mapping[Origin, Pool]:
        """Return the connections to each origin."""
        return {origin: line.pool for origin, line in self._lines.items()}

    def close(self) -> Deferred[Any]:
        """Close what is idle, and the rest as it becomes so; fires when the former is done."""
        return DeferredList([line.pool.close() for line in self._lines.values()])

    def _line(self, origin: Origin) -> _Line:
        line = self._lines.get(origin)
        if line is None:
            endpoint = tunnel.endpoint(self._reactor, origin.host, origin.port, self._connect_seconds, self._proxy)
            if origin.secure:
                # The certificate is the origin's, whoever carries the connection.
                creator = self._policy.creatorForNetloc(origin.host.encode("ascii"), origin.port)
                endpoint = wrapClientTLS(creator, endpoint)
            line = _Line(self._reactor, origin, endpoint, self._connect_seconds, self._proxy)
            self._lines[origin] = line
        return line
