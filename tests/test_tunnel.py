"""Through HTTP CONNECT and SOCKS5 proxies: what is said to them, and what they see of what passes through."""

from __future__ import annotations

from base64 import b64encode
from typing import Any
from urllib.parse import quote

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import TimeoutError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseNeverReceived
from zope.interface.verify import verifyObject

from gateway.calls import HttpRequest, Secret
from gateway.config import Config, LogConfig, ProxyServer, Timeouts, UpstreamConfig, WireConfig
from gateway.upstreams import tunnel
from gateway.upstreams.agent import GatewayAgent
from gateway.upstreams.roads import Roads, needs
from gateway.upstreams.tunnel import ProxyRefused
from tests.processes import GENERATE, DaemonCase, aistudio, prompt
from tests.proxies import LOGIN, SmallProxy
from tests.test_agent import OK, Peer, WholeBody

HOST = b"http://upstream.example:8080/x"
REQUEST = b"POST /x HTTP/1.1\r\nHost: upstream.example:8080\r\nContent-Length: 2\r\n\r\n{}"
CONNECT = b"CONNECT upstream.example:8080 HTTP/1.1\r\nHost: upstream.example:8080\r\n\r\n"
SOCKS = b"\x05\x01\x00\x03\x10upstream.example\x1f\x90"
OWN = {"agent": "gateway"}
BOUND = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x01"


def proxy(scheme: str, username: str = "", password: str = "") -> ProxyServer:
    return ProxyServer(scheme, "127.0.0.1", 3128, username, Secret(password))


class TalkCase(SynchronousTestCase):
    def asked(self, server: ProxyServer, url: bytes = HOST) -> tuple[Deferred[Any], Peer]:
        self.reactor = MemoryReactorClock()
        agent = GatewayAgent(self.reactor, 10.0, proxy=server)
        waiting = agent.request(b"POST", url, None, WholeBody(b"{}"))
        return waiting, Peer(self.reactor.tcpClients[0][2])

    def goes_through(self, server: ProxyServer, *exchange: tuple[bytes, bytes], url: bytes = HOST) -> bytes:
        """Play a proxy: for each pair, await the first and say the second; return what was sent after."""
        waiting, peer = self.asked(server, url)
        self.assertEqual(self.reactor.tcpClients[0][:2], ("127.0.0.1", 3128))
        for said, answer in exchange:
            self.assertEqual(peer.received, said)
            peer.transport.clear()
            for at in range(len(answer)):
                peer.send(answer[at : at + 1])
        sent = peer.received
        peer.send(OK)
        self.assertEqual(self.successResultOf(waiting).code, 200)
        return sent

    def refused(self, server: ProxyServer, *answers: bytes) -> str:
        waiting, peer = self.asked(server)
        for answer in answers:
            peer.send(answer)
        self.assertTrue(peer.aborted)
        return str(self.failureResultOf(waiting, ProxyRefused).value)


class ConnectTests(TalkCase):
    """HTTP CONNECT."""

    def test_what_follows_the_consent_is_the_upstreams(self) -> None:
        """Whatever fields come with it."""
        answer = b"HTTP/1.1 200 Fine\r\nVia: x\r\n\r\n"
        self.assertEqual(self.goes_through(proxy("http"), (CONNECT, answer)), REQUEST)

    def test_an_address_of_ipv6_stands_in_brackets(self) -> None:
        """As in a URL."""
        said = b"CONNECT [::1]:80 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"
        self.goes_through(proxy("http"), (said, b"HTTP/1.0 200 OK\r\n\r\n"), url=b"http://[::1]/x")

    def test_a_name_and_password_are_shown(self) -> None:
        """Basic, as RFC 7617 has it, in UTF-8."""
        word = b64encode(":".join(LOGIN).encode())
        said = CONNECT[:-2] + b"Proxy-Authorization: Basic " + word + b"\r\n\r\n"
        self.goes_through(proxy("http", *LOGIN), (said, b"HTTP/1.1 200 OK\r\n\r\n"))

    def test_a_refusal_is_told_by_its_status(self) -> None:
        """Of what it said nothing else, for it may repeat what it was sent."""
        table = (
            (b"HTTP/1.1 407 canary\r\n\r\n", "it answered CONNECT with 407"),
            (b"HTTP/1.1 302 Found\r\nLocation: canary\r\n\r\n", "it answered CONNECT with 302"),
            (b"canary\r\n\r\n", "what it answered is not HTTP"),
            (b"HTTP/1.1 2\xb2\xb30 canary\r\n\r\n", "what it answered is not HTTP"),
            (b"HTTP/1.1 200 " + b"a" * tunnel.ANSWER_BYTES_MOST, "its answer has no end"),
        )
        for answer, why in table:
            with self.subTest(answer=answer[:20]):
                told = self.refused(proxy("http"), answer)
                self.assertIn(why, told)
                self.assertNotIn("canary", told)


class SocksTests(TalkCase):
    """SOCKS5."""

    def test_the_proxy_looks_names_up(self) -> None:
        """The name goes to it as it is."""
        self.assertEqual(
            self.goes_through(proxy("socks5"), (b"\x05\x01\x00", b"\x05\x00"), (SOCKS, BOUND)), REQUEST
        )

    def test_addresses_go_as_such(self) -> None:
        """Of both families; so may the address that the proxy answers with."""
        table = (
            (b"http://127.0.0.1/x", b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50", BOUND),
            (b"http://[::1]/x", b"\x05\x01\x00\x04" + b"\0" * 15 + b"\x01\x00\x50",
             b"\x05\x00\x00\x04" + b"\0" * 18),
            (HOST, SOCKS, b"\x05\x00\x00\x03\x04name\x00\x01"),
        )  # fmt: skip
        for url, said, answer in table:
            with self.subTest(url=url):
                self.goes_through(proxy("socks5"), (b"\x05\x01\x00", b"\x05\x00"), (said, answer), url=url)

    def test_a_name_and_password_are_shown_where_they_are_asked_for(self) -> None:
        """RFC 1929; a proxy may do without."""
        name, password = (word.encode() for word in LOGIN)
        login = b"\x01%c%b%c%b" % (len(name), name, len(password), password)
        greeting = b"\x05\x02\x00\x02"
        self.goes_through(proxy("socks5", *LOGIN), (greeting, b"\x05\x02"), (login, b"\x01\x00"), (SOCKS, BOUND))
        self.goes_through(proxy("socks5", *LOGIN), (greeting, b"\x05\x00"), (SOCKS, BOUND))

    def test_a_refusal_is_told_in_words(self) -> None:
        """Whichever step it comes at."""
        table = (
            (proxy("socks5"), (b"HT",), "not SOCKS5"),
            (proxy("socks5"), (b"\x05\x02",), "asks for a user name"),
            (proxy("socks5"), (b"\x05\xff",), "asks for a user name"),
            (proxy("socks5", *LOGIN), (b"\x05\xff",), "takes no password"),
            (proxy("socks5", *LOGIN), (b"\x05\x02", b"\x01\x01"), "does not take this user name"),
            (proxy("socks5"), (b"\x05\x00", b"\x05\x05\x00\x01"), "refused the connection"),
            (proxy("socks5"), (b"\x05\x00", b"\x05\x63\x00\x01"), "makes no sense"),
            (proxy("socks5"), (b"\x05\x00", b"\x05\x00\x00\x09"), "makes no sense"),
        )
        for server, answers, why in table:
            with self.subTest(why=why):
                self.assertIn(why, self.refused(server, *answers))


class EndTests(TalkCase):
    """How else it may end."""

    def test_a_proxy_that_closes_refuses(self) -> None:
        """Before it has said yes."""
        waiting, peer = self.asked(proxy("http"))
        peer.leave()
        self.failureResultOf(waiting, ProxyRefused)

    def test_the_talk_is_part_of_connecting(self) -> None:
        """C4: a proxy that says nothing has no more time than a host."""
        waiting, peer = self.asked(proxy("socks5"))
        self.reactor.advance(10)
        self.failureResultOf(waiting, TimeoutError)
        self.assertTrue(peer.aborted)

    def test_cancelling_ends_it(self) -> None:
        """L1: the connection to the proxy is closed."""
        waiting, peer = self.asked(proxy("http"))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertTrue(peer.aborted)

    def test_an_end_behind_the_proxy_is_the_connections_end(self) -> None:
        """The request may have been at work."""
        waiting, peer = self.asked(proxy("http"))
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        self.assertTrue(peer.received.endswith(REQUEST))
        peer.leave()
        self.failureResultOf(waiting, ResponseNeverReceived)

    def test_bytes_behind_the_consent_are_the_upstreams(self) -> None:
        """Nobody asked it for any, so they are no answer."""
        _, peer = self.asked(proxy("http"))
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + OK)
        self.assertTrue(peer.aborted)

    def test_the_endpoint_is_one(self) -> None:
        """Twisted's interface."""
        way = tunnel.endpoint(MemoryReactorClock(), "upstream.example", 80, 10.0, proxy("http"))
        self.assertTrue(verifyObject(IStreamClientEndpoint, way))


class DaemonTests(DaemonCase):
    """The daemon, a simulator, and a proxy between them."""

    async def through(self, scheme: str, login: bool) -> None:
        simulator = await self.simulator()
        small = SmallProxy(scheme, asks_login=login, upstream_example="127.0.0.1")
        words = "{}:{}@".format(*(quote(word, safe="") for word in LOGIN)) if login else ""
        server = {"proxy": f"{scheme}://{words}127.0.0.1:{small.listen(self)}"}
        # localhost is nobody's business but the proxy's.
        base = simulator.url.replace("127.0.0.1", "localhost")
        small.reach["localhost"] = "127.0.0.1"
        environ = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
        daemon = await self.gateway({"studio": aistudio(base) | server}, environ=environ, wire=OWN)
        answer = await daemon.ask(GENERATE, prompt())
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual({host for host, _ in small.asked}, {"localhost"})
        self.assertIn(b":generateContent HTTP/1.1", small.upward)
        self.assertNotIn(LOGIN[1], daemon.printed)

    async def test_requests_go_through_a_proxy_that_speaks_connect(self) -> None:
        """Those of the environment are nobody."""
        await self.through("http", login=False)
        await self.through("http", login=True)

    async def test_requests_go_through_a_proxy_that_speaks_socks(self) -> None:
        """With and without a password."""
        await self.through("socks5", login=False)
        await self.through("socks5", login=True)

    async def test_a_proxy_that_refuses_is_told_in_the_log(self) -> None:
        """S12: with its address and its status, and without the password."""
        small = SmallProxy("http", asks_login=True)
        port = small.listen(self)
        server = {"proxy": f"http://user:canary@127.0.0.1:{port}"}
        daemon = await self.gateway({"studio": aistudio("http://127.0.0.1:9") | server}, wire=OWN)
        answer = await daemon.ask(GENERATE, prompt())
        self.assertEqual(answer.status, 503)
        self.assertIn(f"127.0.0.1:{port} carries nothing to 127.0.0.1:9: it answered CONNECT with 407", daemon.printed)
        self.assertNotIn("canary", daemon.printed)


class RoadsTests(SynchronousTestCase):
    """Which way an upstream's requests take."""

    def test_each_upstream_has_its_own_way(self) -> None:
        """Of two with one base URL, one goes through a proxy; what is no upstream's goes straight."""
        reactor = MemoryReactorClock()
        straight = UpstreamConfig("straight", "aistudio", ("http://127.0.0.1:8080",))
        around = UpstreamConfig("around", "aistudio", ("http://127.0.0.1:8080",), proxy=proxy("http"))
        roads = Roads(reactor, Config(upstreams=(straight, around)))
        for upstream in ("straight", "around", ""):
            request = HttpRequest(b"POST", b"http://127.0.0.1:8080/x", (), b"{}")
            Deferred.fromCoroutine(roads.wire.open(request, 60.0, upstream))
        self.assertEqual([client[1] for client in reactor.tcpClients], [8080, 3128, 8080])

    def test_connections_are_told_by_upstream(self) -> None:
        """How many are open, how many of them idle, how many there ever were; of Twisted's agent nothing."""
        reactor = MemoryReactorClock()
        both = ("http://127.0.0.1:8080", "http://127.0.0.1:8081")
        one = UpstreamConfig("one", "aistudio", both)
        two = UpstreamConfig("two", "aistudio", both[:1])
        around = UpstreamConfig("around", "aistudio", both[:1], proxy=proxy("http"))
        config = Config(upstreams=(one, two, around))
        roads = Roads(reactor, config)
        self.assertEqual(roads.connections(), [])
        for url in (*both, "http://127.0.0.1:9999"):
            request = HttpRequest(b"POST", url.encode() + b"/x", (), b"{}")
            Deferred.fromCoroutine(roads.wire.open(request, 60.0, "two"))
        transports = []
        for _, _, factory, *_ in reactor.tcpClients:
            transports.append(StringTransport())
            factory.buildProtocol(None).makeConnection(transports[-1])
        self.assertEqual(
            sorted(roads.connections(), key=lambda row: row["name"]),
            [
                {"name": "one", "open": 2, "idle": 0, "opened": 2},
                {"name": "other", "open": 1, "idle": 0, "opened": 1},
            ],
        )
        stock = Roads(reactor, attrs.evolve(config, upstreams=(one,), wire=WireConfig("stock")))
        self.assertEqual(stock.connections(), [])

    def test_a_reload_keeps_the_ways_that_it_does_not_change(self) -> None:
        """Their connections with them; a proxy, the agent or the time to connect ask for others."""
        config = Config(upstreams=(UpstreamConfig("one", "aistudio", ("http://127.0.0.1:8080",)),))
        same = attrs.evolve(config, log=LogConfig("debug"), upstreams=config.upstreams)
        self.assertEqual(needs(config), needs(same))
        around = attrs.evolve(config.upstreams[0], proxy=proxy("socks5"))
        others = (
            attrs.evolve(config, upstreams=(around,)),
            attrs.evolve(config, wire=WireConfig("stock")),
            attrs.evolve(config, timeouts=Timeouts(connect=1.0)),
        )
        for other in others:
            self.assertNotEqual(needs(config), needs(other))
