"""Over TLS, on both agents: who is trusted, what is sent to whom, and when a connection is over.  Does I/O."""

from __future__ import annotations

from typing import Any

import attrs
from OpenSSL.crypto import X509
from twisted.internet import reactor as _reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate
from twisted.trial.unittest import TestCase

from gateway.calls import HttpRequest
from gateway.config import Config, Timeouts, UpstreamConfig, WireConfig
from gateway.upstreams.exchange import WireError
from gateway.upstreams.roads import Roads
from gateway.upstreams.trust import Verified
from tests.certificates import Serving, Shown, made

reactor: Any = _reactor

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SECRET = b"x-goog-api-key"


_UPSTREAM = UpstreamConfig("studio", "aistudio", ())


def trusting_in(authority: Shown) -> Verified:
    return Verified(Certificate(X509.from_cryptography(authority.certificate)))


class Server(Protocol):
    """Answers each request that has come whole."""

    factory: Any

    def connectionMade(self) -> None:
        self.factory.connections += 1

    def dataReceived(self, data: bytes) -> None:
        self.factory.received += data
        if data.endswith(self.factory.end):
            self.transport.write(ANSWER)


class TlsCase(TestCase):
    """Both agents are asked the same."""

    agent = ""
    timeout = 60

    def setUp(self) -> None:
        self.authority = made("an authority", authority=True)
        self.factory: Any = Factory.forProtocol(Server)
        self.factory.connections, self.factory.received, self.factory.end = 0, b"", b"\r\n\r\n{}"
        self.factory.noisy = False

    def shown(self, *names: str) -> Shown:
        return made("a server", self.authority, names=names)

    def listen(self, shown: Shown) -> int:
        port = reactor.listenSSL(0, self.factory, Serving(shown), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def roads(self, trusting: Shown | None) -> Roads:
        policy = None if trusting is None else trusting_in(trusting)
        config = Config(timeouts=Timeouts(connect=20.0), wire=WireConfig(self.agent))
        roads = Roads(reactor, config, policy)
        self.addCleanup(roads.close)
        return roads

    async def asked(self, roads: Roads, port: int, host: str = "localhost", body: bytes = b"{}") -> bytes:
        request = HttpRequest(b"POST", f"https://{host}:{port}/x".encode(), ((SECRET, b"canary"),), body)
        exchange = await roads.wire.open(request, 20.0)
        return await exchange.read(1024, 20.0)

    async def test_a_certificate_for_the_name_or_address_is_good(self) -> None:
        """And the connection is kept for the next request."""
        port = self.listen(made("a server", self.authority, names=("localhost",), addresses=("127.0.0.1",)))
        roads = self.roads(self.authority)
        for host in ("localhost", "localhost", "127.0.0.1"):
            self.assertEqual(await self.asked(roads, port, host), b"ok")
        self.assertEqual(self.factory.connections, 2)

    async def test_another_certificate_is_refused_and_nothing_is_sent(self) -> None:
        """C3: another name, none, another authority, itself, the platform's authorities, an end in the past."""
        stranger = made("an authority", authority=True)
        table = (
            (self.shown("other.example"), self.authority),
            (self.shown(), self.authority),
            (made("localhost", self.authority, addresses=("127.0.0.1",)), self.authority),
            (made("localhost", stranger, names=("localhost",)), self.authority),
            (made("localhost", names=("localhost",)), self.authority),
            (self.shown("localhost"), None),
            (made("localhost", self.authority, names=("localhost",), days=(-2, -1)), self.authority),
        )
        for number, (shown, trusting) in enumerate(table):
            port = self.listen(shown)
            with self.subTest(number=number):
                try:
                    await self.asked(self.roads(trusting), port)
                except WireError as error:
                    self.assertEqual(error.kind, "tls")
                else:
                    self.fail("it was trusted")
                self.assertEqual(self.factory.received, b"")

    async def test_a_large_body_arrives_whole(self) -> None:
        """C18: piece by piece, as the transport takes it."""
        port = self.listen(self.shown("localhost"))
        body = bytes(range(256)) * 16 * 1024 + b"end"
        self.factory.end = b"end"
        self.assertEqual(await self.asked(self.roads(self.authority), port, body=body), b"ok")
        self.assertTrue(self.factory.received.endswith(b"\r\n\r\n" + body))


class GatewayAgentTlsTests(TlsCase):
    """The agent of the gateway's own."""

    agent = "gateway"

    async def test_connections_are_opened_ahead(self) -> None:
        """Their handshake is done when the first request comes."""
        port = self.listen(self.shown("localhost"))
        upstream = attrs.evolve(_UPSTREAM, base_urls=(f"https://localhost:{port}/v1",))
        config = Config(upstreams=(upstream,), wire=WireConfig("gateway", 1))
        roads = Roads(reactor, config, trusting_in(self.authority))
        self.addCleanup(roads.close)
        await roads.warm()
        self.assertEqual(self.factory.received, b"")
        await self.asked(roads, port)
        self.assertEqual(self.factory.connections, 1)


class StockAgentTlsTests(TlsCase):
    """Twisted's."""

    agent = "stock"


del TlsCase
