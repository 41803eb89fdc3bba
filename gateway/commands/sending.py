"""HTTP for a command: one wire over a pool of its own, closed in the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.accounts.oauth import TokenUnavailable
from gateway.accounts.tokens import Send
from gateway.calls import HttpRequest
from gateway.upstreams.exchange import WireError
from gateway.upstreams.wire import LeanClient, TreqWire, stock_agent

ANSWER_SECONDS = 30.0
ANSWER_BYTES = 1024 * 1024


@asynccontextmanager
async def sender(reactor: Any, connect_seconds: float) -> AsyncIterator[Send]:
    """Yield what sends a request and returns status and body; it raises TokenUnavailable where none comes."""
    agent, pool = stock_agent(reactor, connect_seconds)
    wire = TreqWire(LeanClient(agent), reactor)

    async def send(request: HttpRequest) -> tuple[int, bytes]:
        try:
            exchange = await wire.open(request, ANSWER_SECONDS)
            return exchange.status, await exchange.read(ANSWER_BYTES, ANSWER_SECONDS)
        except WireError as error:
            raise TokenUnavailable(f"no answer came ({error.kind})") from None

    try:
        yield send
    finally:
        await pool.closeCachedConnections()
