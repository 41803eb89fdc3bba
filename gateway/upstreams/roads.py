"""The ways out that a configuration asks for: the wire over the agents, one agent for every proxy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.web.iweb import IPolicyForHTTPS

from gateway.config.values import Config, ProxyServer
from gateway.tally import OTHER
from gateway.upstreams import heads
from gateway.upstreams.agent import GatewayAgent
from gateway.upstreams.heads import Origin
from gateway.upstreams.stock import stock_agent
from gateway.upstreams.wire import LeanClient, TreqWire


def needs(config: Config) -> object:
    """Return what the ways out depend on: while it stays the same, so may they."""
    return (config.timeouts.connect, config.wire, {upstream.name: upstream.proxy for upstream in config.upstreams})


class Roads:
    """Opens the ways, warms those to upstreams, and closes them in the end."""

    def __init__(self, reactor: Any, config: Config, policy: IPolicyForHTTPS | None = None) -> None:
        """``policy`` says whose certificates are trusted; by default, the platform's authorities decide."""
        self._reactor = reactor
        self._config = config
        self._policy = policy
        self._closers: list[Callable[[], Deferred[Any]]] = []
        self._agents: dict[ProxyServer | None, GatewayAgent] = {}
        self._clients: dict[ProxyServer | None, LeanClient] = {}
        clients = {upstream.name: self._client(upstream.proxy) for upstream in config.upstreams}
        self.wire = TreqWire(self._client(None), reactor, clients)

    def warm(self) -> Deferred[Any]:
        """Open connections to the TLS upstreams ahead of the first requests, which need not wait for a handshake.

        Fires when they are open, or cannot be.
        """
        opening = []
        for upstream in self._config.upstreams:
            agent = self._agents.get(upstream.proxy)
            for base in upstream.base_urls:
                if agent is not None and base.startswith("https://"):
                    opening.append(agent.warm(base.encode("ascii"), self._config.wire.warm))
        return DeferredList(opening)

    def connections(self) -> list[dict[str, Any]]:
        """Return how many connections each upstream has; those of an origin that several share are the first one's.

        Those to origins that are no upstream's, such as token endpoints, are under the name ``other``.  Twisted's own
        agent does not tell.
        """
        names: dict[tuple[ProxyServer | None, Origin], str] = {}
        for upstream in self._config.upstreams:
            for base in upstream.base_urls:
                names.setdefault((upstream.proxy, heads.address(base.encode("ascii")).origin), upstream.name)
        rows: dict[str, dict[str, Any]] = {}
        for proxy, agent in self._agents.items():
            for origin, pool in agent.pools().items():
                name = names.get((proxy, origin), OTHER)
                row = rows.setdefault(name, {"name": name, "open": 0, "idle": 0, "opened": 0})
                row["open"] += len(pool)
                row["idle"] += pool.unused
                row["opened"] += pool.opens
        return list(rows.values())

    def close(self) -> Deferred[Any]:
        """Close what is idle, and the rest as it becomes so; fires when the former is done."""
        self.wire.close()
        return DeferredList([close() for close in self._closers])

    def _client(self, proxy: ProxyServer | None) -> LeanClient:
        if proxy not in self._clients:
            self._clients[proxy] = LeanClient(self._agent(proxy))
        return self._clients[proxy]

    def _agent(self, proxy: ProxyServer | None) -> Any:
        connect_seconds = self._config.timeouts.connect
        if self._config.wire.agent == "stock":
            # The configuration names no proxy then.
            agent, pool = stock_agent(self._reactor, connect_seconds, self._policy)
            self._closers.append(pool.closeCachedConnections)
            return agent
        own = self._agents[proxy] = GatewayAgent(self._reactor, connect_seconds, self._policy, proxy)
        self._closers.append(own.close)
        return own
