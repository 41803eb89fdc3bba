"""Talk to the running daemon through the socket in its state directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import attrs
import msgspec
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.client import URI, Agent
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from gateway import __version__
from gateway.accounts.statedir import SOCKET, StateDirectory
from gateway.calls import Headers, HttpRequest
from gateway.upstreams.exchange import WireError
from gateway.upstreams.wire import LeanClient, TreqWire

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 120.0
"""A test of a credential may have to wait for a token and for Google."""
ANSWER_BYTES = 64 * 1024 * 1024


class NotRunning(Exception):
    """Nobody listens there."""


class Refused(Exception):
    """The daemon answered with an error; the message is for people."""


@implementer(IAgentEndpointFactory)
class _Endpoints:
    def __init__(self, reactor: Any, address: str) -> None:
        self._reactor = reactor
        self._address = address

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Return the one endpoint there is, whatever the URI."""
        return UNIXClientEndpoint(self._reactor, self._address, CONNECT_SECONDS, checkPID=False)


@attrs.define(eq=False, repr=False)
class AdminClient:
    """The admin face of a daemon; see operations.admin."""

    _reactor: Any
    _state: StateDirectory

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """Return what a GET answers; raises NotRunning or Refused."""
        return await self._ask(b"GET", path, query or {})

    async def post(self, path: str, query: Mapping[str, str] | None = None, document: Any = None) -> Any:
        """Return what a POST answers, of a JSON document where there is one; raises NotRunning or Refused."""
        return await self._ask(b"POST", path, query or {}, document)

    async def patch(self, path: str, document: Any) -> Any:
        """Return what a PATCH of a JSON document answers; raises NotRunning or Refused."""
        return await self._ask(b"PATCH", path, {}, document)

    async def delete(self, path: str) -> Any:
        """Return what a DELETE answers; raises NotRunning or Refused."""
        return await self._ask(b"DELETE", path, {})

    async def _ask(self, method: bytes, path: str, query: Mapping[str, str], document: Any = None) -> Any:
        path_of_socket = self._state.path / SOCKET
        if not _exists(path_of_socket):
            raise NotRunning
        target = quote(path, safe="/", errors="surrogateescape")
        target += "?" + urlencode(query, errors="surrogateescape") if query else ""
        headers: Headers = ((b"user-agent", f"antigravity/{__version__}".encode("ascii")),)
        body = b""
        if document is not None:
            body, headers = msgspec.json.encode(document), (*headers, (b"content-type", b"application/json"))
        request = HttpRequest(method, b"http://localhost" + target.encode("ascii"), headers, body)
        try:
            agent = Agent.usingEndpointFactory(self._reactor, _Endpoints(self._reactor, self._state.address(SOCKET)))
            exchange = await TreqWire(LeanClient(agent), self._reactor).open(request, ANSWER_SECONDS)
            body = await exchange.read(ANSWER_BYTES, ANSWER_SECONDS)
        except (WireError, OSError) as error:
            if not os.access(path_of_socket, os.R_OK | os.W_OK):
                raise Refused(f"{path_of_socket} is another user's; run this as the user of the gateway.") from None
            if isinstance(error, WireError) and error.kind == "connect":
                raise NotRunning from None
            raise Refused(f"The gateway gave no answer ({error}).") from None
        return _read(exchange.status, body)


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


def _read(status: int, body: bytes) -> Any:
    try:
        document = msgspec.json.decode(body)
        if status == 200:
            return document
        raise Refused(str(document["error"]["message"]))
    except (msgspec.DecodeError, KeyError, TypeError):
        raise Refused(f"The gateway gave an answer that makes no sense (status {status}).") from None
