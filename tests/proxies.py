"""Small HTTP CONNECT and SOCKS5 proxies on loopback: what they were asked for, and what went through.  Does I/O."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

reactor: Any = _reactor

LOGIN = ("some user", "p:ss wörd")


class _Far(Protocol):
    """The proxy's connection to where it was asked to."""

    def __init__(self, near: _Near) -> None:
        self.near = near

    def dataReceived(self, data: bytes) -> None:
        self.near.proxy.downward += data
        self.near.transport.write(data)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.near.transport.loseConnection()


class _Near(Protocol):
    """A client's connection."""

    def __init__(self, proxy: SmallProxy) -> None:
        self.proxy = proxy
        self.received = b""
        self.far: _Far | None = None
        self.stage = 0

    def dataReceived(self, data: bytes) -> None:
        if self.far is not None:
            self.proxy.upward += data
            self.far.transport.write(data)
            return
        self.received += data
        self.talk()

    def connectionLost(self, reason: Failure | None = None) -> None:
        if self.far is not None:
            self.far.transport.abortConnection()

    def talk(self) -> None:
        raise NotImplementedError

    def open(self, host: str, port: int, consent: bytes) -> None:
        self.proxy.asked.append((host, port))
        target = self.proxy.reach.get(host, host)
        opening = connectProtocol(TCP4ClientEndpoint(reactor, target, port), _Far(self))
        opening.addCallback(self._opened, consent)

    def _opened(self, far: _Far, consent: bytes) -> None:
        self.far = far
        self.transport.write(consent)


class _Http(_Near):
    """RFC 9110 section 9.3.6."""

    def talk(self) -> None:
        if not self.received.endswith(b"\r\n\r\n"):
            return
        line, *fields = self.received.decode("latin-1").split("\r\n")
        word = "Proxy-Authorization: Basic " + b64encode(":".join(LOGIN).encode()).decode()
        if self.proxy.asks_login and word not in fields:
            self.transport.write(b"HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n")
            return
        method, authority, _ = line.split(" ")
        assert method == "CONNECT"
        host, _, port = authority.rpartition(":")
        self.open(host.strip("[]"), int(port), b"HTTP/1.1 200 Go\r\nVia: small\r\n\r\n")


class _Socks(_Near):
    """RFC 1928, RFC 1929."""

    def talk(self) -> None:
        data = self.received
        if self.stage == 0 and len(data) >= 2 and len(data) == 2 + data[1]:
            assert data[0] == 5
            method = 2 if self.proxy.asks_login else 0
            self.answer(bytes([5, method if method in data[2:] else 255]))
            self.stage = 1 if method else 2
        elif self.stage == 1:
            name, password = (word.encode() for word in LOGIN)
            good = data == b"\x01%c%b%c%b" % (len(name), name, len(password), password)
            self.answer(bytes([1, 0 if good else 1]))
            self.stage = 2
        elif self.stage == 2 and len(data) > 4:
            assert data[:3] == b"\x05\x01\x00"
            if data[3] == 3:
                host, port = data[5 : 5 + data[4]].decode(), data[5 + data[4] :]
            else:
                host, port = ".".join(map(str, data[4:8])), data[8:]
            self.open(host, int.from_bytes(port, "big"), b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x01")

    def answer(self, data: bytes) -> None:
        self.received = b""
        self.transport.write(data)


class SmallProxy(Factory):
    """A proxy of either kind; ``reach`` says where names lead, which nobody else can look up."""

    noisy = False

    def __init__(self, scheme: str, *, asks_login: bool = False, **reach: str) -> None:
        self.scheme = scheme
        self.asks_login = asks_login
        self.reach = {name.replace("_", "."): target for name, target in reach.items()}
        self.asked: list[tuple[str, int]] = []
        self.upward = b""
        self.downward = b""
        self.connections = 0

    def buildProtocol(self, addr: object) -> Protocol:
        self.connections += 1
        return {"http": _Http, "socks5": _Socks}[self.scheme](self)

    def listen(self, case: Any) -> int:
        """Listen until the test's end and return the port."""
        port = reactor.listenTCP(0, self, interface="127.0.0.1")
        case.addCleanup(port.stopListening)
        return int(port.getHost().port)
