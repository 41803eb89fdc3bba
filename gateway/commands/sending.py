"""HTTP for a command: a wire of its own, closed in the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gateway.accounts.oauth import TokenUnavailable
from gateway.accounts.tokens import Send
from gateway.calls import HttpRequest
from gateway.config import Config
from gateway.upstreams.exchange import WireError
from gateway.upstreams.roads import Roads

ANSWER_SECONDS = 30.0
ANSWER_BYTES = 1024 * 1024


@asynccontextmanager
async def sender(reactor: Any, config: Config, upstream: str) -> AsyncIterator[Send]:
    """Yield what sends an upstream's requests and returns status and body; it raises TokenUnavailable for no answer."""
    roads = Roads(reactor, config)

    async def send(request: HttpRequest) -> tuple[int, bytes]:
        try:
            exchange = await roads.wire.open(request, ANSWER_SECONDS, upstream)
            return exchange.status, await exchange.read(ANSWER_BYTES, ANSWER_SECONDS)
        except WireError as error:
            raise TokenUnavailable(f"no answer came ({error.kind})") from None

    try:
        yield send
    finally:
        await roads.close()
