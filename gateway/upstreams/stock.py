"""Twisted's own HTTP agent, for those who would rather have that one."""

from __future__ import annotations

from typing import Any

from twisted.web.client import Agent, HTTPConnectionPool, _HTTP11ClientFactory
from twisted.web.iweb import IAgent, IPolicyForHTTPS

from gateway.upstreams.pool import IDLE_MOST, IDLE_SECONDS
from gateway.upstreams.trust import Verified


class _QuietFactory(_HTTP11ClientFactory):
    """Twisted's own, without a line in the log for every connection."""

    noisy = False


def stock_agent(
    reactor: Any, connect_seconds: float, policy: IPolicyForHTTPS | None = None
) -> tuple[IAgent, HTTPConnectionPool]:
    """Return Twisted's own agent over a pool, and the pool, to be closed in the end.

    Certificates are verified against the platform's authorities unless ``policy`` says otherwise.
    """
    pool = HTTPConnectionPool(reactor, persistent=True)
    pool._factory = _QuietFactory
    pool.maxPersistentPerHost = IDLE_MOST
    pool.cachedConnectionTimeout = int(IDLE_SECONDS)
    agent = Agent(reactor, policy or Verified(), connectTimeout=connect_seconds, pool=pool)
    return agent, pool
