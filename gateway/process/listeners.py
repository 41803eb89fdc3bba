"""Listeners that are opened, exchanged for others, and closed.  Opens sockets."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec
from OpenSSL import SSL
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.python.failure import Failure

from gateway.config import listeners
from gateway.process import tls

_CURES = {
    errno.EADDRINUSE: "end what listens there, such as another gateway, or name another port",
    errno.EADDRNOTAVAIL: "name an address that this machine has",
    errno.EACCES: "name a port above 1023, or a place where this user may write",
}
"""What the system says, and what to do about it."""


class CannotListen(Exception):
    """A listener cannot be opened; the message names it and says why."""


@attrs.define(eq=False, repr=False)
class Open:
    """A listener that is open."""

    port: IListeningPort
    certificates: tls.Certificates | None = None


class Exchange(msgspec.Struct, frozen=True):
    """What is to be listened on: what is open and stays, what was opened for it, and what TLS is to become."""

    descriptions: Sequence[str]
    client_ca: str
    opened: Mapping[str, Open]
    contexts: Mapping[str, SSL.Context]


class Listeners:
    """The listeners of one factory, by their descriptions."""

    def __init__(self, reactor: Any, factory: IProtocolFactory) -> None:
        self._reactor = reactor
        self._factory = factory
        self._open: dict[str, Open] = {}

    def prepare(self, descriptions: Sequence[str], client_ca: str = "") -> Exchange:
        """Open what is not open yet, and change nothing else; raises CannotListen, and then nothing was opened."""
        opened: dict[str, Open] = {}
        contexts: dict[str, SSL.Context] = {}
        for description in descriptions:
            try:
                if description not in self._open:
                    opened[description] = self._opened(description, client_ca)
                elif self._open[description].certificates is not None:
                    contexts[description] = tls.context(description, client_ca)
            except Exception as error:
                self.abandon(Exchange((), "", opened, {}))
                raise CannotListen(f"cannot listen on {description}: {_why(error)}") from None
        return Exchange(descriptions, client_ca, opened, contexts)

    def abandon(self, exchange: Exchange) -> None:
        """Close what was opened for an exchange that does not take place."""
        for one in exchange.opened.values():
            maybeDeferred(one.port.stopListening)

    def take(self, exchange: Exchange) -> Deferred[Any]:
        """Listen on these and no others; fires when the others are closed.  Connections stay."""
        gone = [one for description, one in self._open.items() if description not in exchange.descriptions]
        self._open = {one: self._open.get(one) or exchange.opened[one] for one in exchange.descriptions}
        for description, made in exchange.contexts.items():
            certificates = self._open[description].certificates
            if certificates is not None:
                certificates.use(made, exchange.client_ca)
        return DeferredList([maybeDeferred(one.port.stopListening) for one in gone], consumeErrors=True)

    def expiries(self) -> dict[str, float]:
        """Return when the certificates expire, in Unix seconds, by their listeners' names without any path."""
        return {
            _name(description): one.certificates.expires
            for description, one in self._open.items()
            if one.certificates is not None
        }

    def close(self) -> Deferred[Any]:
        """Listen no more; fires when that is so.  What waits in a socket that was passed on waits for the next one."""
        return self.take(Exchange((), "", {}, {}))

    def _opened(self, description: str, client_ca: str) -> Open:
        if listeners.parse(description).kind != "ssl":
            return Open(_port(serverFromString(self._reactor, description).listen(self._factory)))
        asked = tls.asked(description)
        certificates = tls.Certificates(description, client_ca, self._reactor.seconds)
        port = self._reactor.listenSSL(
            asked.port, self._factory, certificates, backlog=asked.backlog, interface=asked.interface
        )
        return Open(port, certificates)


def _port(listening: Deferred[IListeningPort]) -> IListeningPort:
    """Return what all the endpoints that are taken here give at once; raises what they do."""
    found: list[Any] = []
    listening.addBoth(found.append)
    (result,) = found
    if isinstance(result, Failure):
        result.raiseException()
    port: IListeningPort = result
    return port


def _name(description: str) -> str:
    given = listeners.parameters(description)
    return ":".join(("ssl", *filter(None, (given.get("interface"), given["port"]))))


def _why(error: Exception) -> str:
    if isinstance(error, CannotListenError):
        cure = _CURES.get(getattr(error.socketError, "errno", None) or 0, "")
        return f"{error.socketError}; {cure}" if cure else str(error.socketError)
    if isinstance(error, tls.BadCertificate):
        return str(error)
    # Each kind of endpoint has errors of its own, such as for a socket that was not passed on.
    return f"{type(error).__name__}: {error}"
