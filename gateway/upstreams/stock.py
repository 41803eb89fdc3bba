"""Twisted's own HTTP agent, for those who would rather have that one."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web._newclient import RequestNotSent
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseNeverReceived,
    _HTTP11ClientFactory,
    _RetryingHTTP11ClientProtocol,
)
from twisted.web.iweb import IAgent, IPolicyForHTTPS

from gateway.upstreams.pool import IDLE_MOST, IDLE_SECONDS
from gateway.upstreams.trust import Verified

_UNANSWERED = (RequestNotSent, RequestTransmissionFailed, ResponseNeverReceived)


class _QuietFactory(_HTTP11ClientFactory):
    """Twisted's own, without a line in the log for every connection."""

    noisy = False


class _OnceMore(_RetryingHTTP11ClientProtocol):
    """A kept connection: a request that it closes under, unanswered, goes out once more on a new one.

    Twisted's own does this for requests without a body alone; ours can be said twice.
    """

    def _shouldRetry(self, method: bytes, exception: Exception, bodyProducer: object) -> bool:
        reasons = getattr(exception, "reasons", ())
        return isinstance(exception, _UNANSWERED) and not any(reason.check(CancelledError) for reason in reasons)


class _Pool(HTTPConnectionPool):
    _factory = _QuietFactory

    def getConnection(self, key: Hashable, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        return super().getConnection(key, endpoint).addCallback(_again)


def _again(connection: Any) -> Any:
    if isinstance(connection, _RetryingHTTP11ClientProtocol):
        return _OnceMore(connection._clientProtocol, connection._newConnection)
    return connection


def stock_agent(
    reactor: Any, connect_seconds: float, policy: IPolicyForHTTPS | None = None
) -> tuple[IAgent, HTTPConnectionPool]:
    """Return Twisted's own agent over a pool, and the pool, to be closed in the end.

    Certificates are verified against the platform's authorities unless ``policy`` says otherwise.
    """
    pool = _Pool(reactor, persistent=True)
    pool.maxPersistentPerHost = IDLE_MOST
    pool.cachedConnectionTimeout = int(IDLE_SECONDS)
    agent = Agent(reactor, policy or Verified(), connectTimeout=connect_seconds, pool=pool)
    return agent, pool
