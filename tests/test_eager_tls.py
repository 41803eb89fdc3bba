"""Writes to TLS upstreams at once, against a server that decrypts them.  Opens sockets."""

from __future__ import annotations

from typing import Any

import trustme
from twisted.internet import reactor, tcp
from twisted.internet.ssl import Certificate, PrivateCertificate, trustRootFromCertificates
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import TestCase
from twisted.web.client import readBody
from twisted.web.resource import Resource
from twisted.web.server import Site

from gateway import eager
from gateway.upstreams.agent import GatewayAgent
from gateway.upstreams.bodies import WholeBody
from gateway.upstreams.trust import Verified

SIZES = (10, 20_000, eager.MOST_BYTES + 1, 3_000_000, 10)


class Echo(Resource):
    """Answers with what it is sent."""

    isLeaf = True

    def render_POST(self, request: Any) -> bytes:
        body: bytes = request.content.read()
        return body


class SecureTests(TestCase):
    def setUp(self) -> None:
        authority = trustme.CA()
        leaf = authority.issue_cert("localhost")
        pem = leaf.private_key_pem.bytes() + b"".join(one.bytes() for one in leaf.cert_chain_pems)
        options = PrivateCertificate.loadPEM(pem).options()
        port: Any = reactor.listenSSL(0, Site(Echo()), options, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        roots = trustRootFromCertificates([Certificate.loadPEM(authority.cert_pem.bytes())])
        self.agent = GatewayAgent(reactor, 10.0, Verified(roots))
        self.addCleanup(self.agent.close)
        self.url = f"https://localhost:{port.getHost().port}/".encode()

    async def echoed(self, body: bytes) -> bytes:
        answer: Any = await self.agent.request(b"POST", self.url, None, WholeBody(body))
        read: bytes = await readBody(answer)
        return read

    def connections(self) -> list[Any]:
        return [one for pool in self.agent.pools().values() for one in pool._open]

    async def test_bodies_of_any_size_arrive_in_order(self) -> None:
        """Also what the socket does not take at once, and what Twisted gathers, on one connection after the other."""
        for turn, size in enumerate(SIZES):
            body = bytes([97 + turn]) * size
            self.assertEqual(await self.echoed(body) == body, True, size)
        self.assertEqual(len(self.connections()), 1)

    async def test_a_small_request_asks_the_kernel_for_no_leave(self) -> None:
        """Neither a turn of the reactor nor epoll is between the request and the socket."""
        await self.echoed(b"first")
        asked: list[Any] = []
        whole = tcp.Client.startWriting
        self.patch(tcp.Client, "startWriting", lambda one: (asked.append(one), whole(one))[1])
        for _ in range(3):
            self.assertEqual(await self.echoed(b"again"), b"again")
        self.assertEqual(asked, [])

    async def test_what_was_gathered_goes_first(self) -> None:
        """Twisted holds small writes for a turn: what comes after them waits with them."""
        await self.echoed(b"first")
        (connection,) = self.connections()
        written: list[bytes] = []
        transport = connection.transport
        self.patch(type(transport), "_write", lambda one, data: written.append(data))
        transport.write(b"gathered ")
        eager.write_secure(transport, b"later")
        self.assertEqual(written, [])
        transport._aggregator.flush()
        self.assertEqual(b"".join(written), b"gathered later")

    async def test_nothing_is_held_on_to_after_the_end(self) -> None:
        """The carrier writes as its class does again."""
        await self.echoed(b"first")
        (connection,) = self.connections()
        carrier = connection.transport.transport
        self.assertIn("write", vars(carrier))
        eager.calm(connection.transport)
        self.assertNotIn("write", vars(carrier))

    def test_other_transports_are_written_to_as_ever(self) -> None:
        """A test's, or one that a proxy stands behind."""
        transport = StringTransport()
        eager.hasten(transport)
        eager.write_secure(transport, b"data")
        eager.calm(transport)
        self.assertEqual(transport.value(), b"data")
