"""Endpoints: straight to a host, or through an HTTP CONNECT or SOCKS5 proxy.

A proxy is given the host's name and resolves it.  What comes after its consent is the host's; with TLS, the proxy
sees none of it.  RFC 9110 section 9.3.6, RFC 1928, RFC 1929.
"""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from collections.abc import Callable, Generator
from typing import Any, Final

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from gateway.config.values import ProxyServer

ANSWER_BYTES_MOST: Final = 16 * 1024

Talk = Generator[bytes | int | None, bytes, None]
"""What is said to a proxy: yields bytes to send, then how many bytes to await, or None for a head's end."""


class ProxyRefused(ConnectError):
    """The proxy does not carry the connection; the text says why, and nothing of what was sent to it."""

    def __init__(self, why: str) -> None:
        super().__init__(string=why)
        self.why = why


def endpoint(
    reactor: Any, host: str, port: int, connect_seconds: float, proxy: ProxyServer | None = None
) -> IStreamClientEndpoint:
    """Return the way to a host; names are looked up at each connect, and their addresses tried side by side."""
    if proxy is not None:
        through = endpoint(reactor, proxy.host, proxy.port, connect_seconds)
        return TunnelEndpoint(through, lambda: TALKS[proxy.scheme](proxy, host, port))
    if isIPAddress(host):
        return TCP4ClientEndpoint(reactor, host, port, connect_seconds)
    if isIPv6Address(host):
        return TCP6ClientEndpoint(reactor, host, port, connect_seconds)
    return HostnameEndpoint(reactor, host, port, connect_seconds)


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """Connects to a proxy, has it connect to the host, and leaves the connection to the protocol asked for."""

    def __init__(self, through: IStreamClientEndpoint, talk: Callable[[], Talk]) -> None:
        self._through = through
        self._talk = talk

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See IStreamClientEndpoint."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, protocolFactory: IProtocolFactory) -> IProtocol:
        tunnel: Any = await self._through.connect(_Dial(protocolFactory, self._talk))
        protocol: IProtocol = await tunnel.made
        return protocol


class _Dial(Factory):
    noisy = False

    def __init__(self, inner: Any, talk: Callable[[], Talk]) -> None:
        self._inner = inner
        self._talk = talk

    def buildProtocol(self, addr: Any) -> Tunnel:
        return Tunnel(self._talk(), lambda: self._inner.buildProtocol(addr))


class Tunnel(Protocol):
    """Talks to the proxy, and after that passes everything on to the protocol within."""

    def __init__(self, talk: Talk, build: Callable[[], Any]) -> None:
        self.made: Deferred[Any] = Deferred(lambda _: self._abort())
        self._talk: Talk | None = talk
        self._build = build
        self._awaited: int | None = 0
        self._received = b""
        self._inner: Any = None

    def connectionMade(self) -> None:
        """See Protocol."""
        assert self._talk is not None
        self._step(lambda talk: next(talk))

    def dataReceived(self, data: bytes) -> None:
        """See Protocol."""
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        if self._talk is None:
            return
        self._received += data
        while self._talk is not None:
            if self._awaited is None:
                end = self._received.find(b"\r\n\r\n") + 4
                enough = end > 3
            else:
                end = self._awaited
                enough = len(self._received) >= end
            if not enough:
                if len(self._received) > ANSWER_BYTES_MOST:
                    self._failed(ProxyRefused("its answer has no end"))
                return
            taken, self._received = self._received[:end], self._received[end:]
            self._step(lambda talk, taken=taken: talk.send(taken))  # type: ignore[misc]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See Protocol."""
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif self._talk is not None:
            self._failed(ProxyRefused("it closed the connection"))

    def _step(self, go: Callable[[Talk], bytes | int | None]) -> None:
        """Go on with the talk until it awaits something, or is over."""
        assert self._talk is not None
        transport: Any = self.transport
        try:
            said = go(self._talk)
            while isinstance(said, bytes):
                transport.write(said)
                said = next(self._talk)
        except StopIteration:
            self._through()
        except ProxyRefused as error:
            self._failed(error)
        else:
            self._awaited = said

    def _through(self) -> None:
        self._talk = None
        received, self._received = self._received, b""
        self._inner = inner = self._build()
        inner.makeConnection(self.transport)
        if received:
            inner.dataReceived(received)
        self.made.callback(inner)

    def _failed(self, error: ProxyRefused) -> None:
        self._talk = None
        self._abort()
        self.made.errback(error)

    def _abort(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()


def _connect_talk(proxy: ProxyServer, host: str, port: int) -> Talk:
    """HTTP CONNECT: RFC 9110 section 9.3.6."""
    authority = b"%b:%d" % (f"[{host}]".encode() if ":" in host else host.encode("ascii"), port)
    lines = [b"CONNECT %b HTTP/1.1" % authority, b"Host: " + authority]
    if proxy.username:
        words = f"{proxy.username}:{proxy.password.reveal()}".encode()
        lines.append(b"Proxy-Authorization: Basic " + b64encode(words))
    yield b"\r\n".join(lines) + b"\r\n\r\n"
    answer = yield None
    version, _, rest = answer.partition(b" ")
    status = rest[:3]
    if not version.startswith(b"HTTP/1.") or not status.isdigit():
        raise ProxyRefused("what it answered is not HTTP")
    if not status.startswith(b"2"):
        raise ProxyRefused(f"it answered CONNECT with {status.decode('ascii')}")


_SOCKS_REPLIES: Final = {
    1: "it failed",
    2: "its rules forbid it",
    3: "the network is unreachable",
    4: "the host is unreachable",
    5: "the host refused the connection",
    6: "it took too long",
    7: "it does not know CONNECT",
    8: "it does not know this kind of address",
}


def _socks_talk(proxy: ProxyServer, host: str, port: int) -> Talk:
    """SOCKS5's CONNECT, RFC 1928, with a user name and password where there is one, RFC 1929."""
    yield b"\x05\x02\x00\x02" if proxy.username else b"\x05\x01\x00"
    version, method = yield 2
    if version != 5:
        raise ProxyRefused("what it answered is not SOCKS5")
    if method == 2 and proxy.username:
        name, password = proxy.username.encode(), proxy.password.reveal().encode()
        yield b"\x01%c%b%c%b" % (len(name), name, len(password), password)
        _, status = yield 2
        if status != 0:
            raise ProxyRefused("it does not take this user name and password")
    elif method != 0:
        raise ProxyRefused("it asks for a user name and password" if not proxy.username else "it takes no password")
    yield b"\x05\x01\x00" + _socks_address(host) + port.to_bytes(2, "big")
    version, reply, _, kind = yield 4
    if version != 5 or reply != 0:
        raise ProxyRefused(_SOCKS_REPLIES.get(reply, "its answer makes no sense"))
    lengths = {1: 4, 4: 16}
    if kind == 3:
        (length,) = yield 1
    elif kind in lengths:
        length = lengths[kind]
    else:
        raise ProxyRefused("its answer makes no sense")
    yield length + 2


def _socks_address(host: str) -> bytes:
    if isIPAddress(host) or isIPv6Address(host):
        address = ipaddress.ip_address(host)
        return (b"\x01" if address.version == 4 else b"\x04") + address.packed
    name = host.encode("ascii")
    return b"\x03%c%b" % (len(name), name)


TALKS: Final[dict[str, Callable[[ProxyServer, str, int], Talk]]] = {"http": _connect_talk, "socks5": _socks_talk}
"""How a proxy is talked to, by the scheme of its URL."""
