"""Answers that come before the request is sent, over a transport that takes only so much."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import HttpRequest
from gateway.upstreams.agent import GatewayAgent
from gateway.upstreams.wire import LeanClient, TreqWire
from tests.fakes import run

BODY = b"x" * (1 << 20)
REFUSED = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!"


class Full(StringTransport):
    """Takes one piece, and then asks for no more."""

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.producer is not None:
            self.producer.pauseProducing()


class EarlyTests(SynchronousTestCase):
    """Upstream has heard enough."""

    def setUp(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.wire = TreqWire(LeanClient(GatewayAgent(self.reactor, 10.0)), self.reactor)

    def begin(self) -> Deferred[Any]:
        async def ask() -> tuple[int, bytes]:
            exchange = await self.wire.open(HttpRequest(b"POST", b"http://127.0.0.1/x", (), BODY), 60.0)
            return exchange.status, await exchange.read(100, 60.0)

        asked = run(ask())
        self.protocol = self.reactor.tcpClients[-1][2].buildProtocol(None)
        self.transport = Full(lenient=True)
        self.protocol.makeConnection(self.transport)
        self.assertLess(len(self.transport.value()), len(BODY))
        return asked

    def test_early_answer_is_taken_and_the_rest_not_sent(self) -> None:
        """C17: whole or piece by piece it is the answer; the connection is closed, not kept."""
        for pieces in ((REFUSED,), tuple(REFUSED[at : at + 1] for at in range(len(REFUSED)))):
            asked = self.begin()
            sent = len(self.transport.value())
            for piece in pieces:
                self.protocol.dataReceived(piece)
            self.assertEqual(self.successResultOf(asked), (413, b"no!"))
            self.assertTrue(self.transport.disconnecting or self.transport.disconnected)
            self.assertEqual(len(self.transport.value()), sent)
            self.assertIsNone(self.transport.producer)

    def test_connection_is_not_used_again(self) -> None:
        """C17: the next request has a new one."""
        asked = self.begin()
        self.protocol.dataReceived(REFUSED)
        self.successResultOf(asked)
        self.begin()
        self.assertEqual(len(self.reactor.tcpClients), 2)

    def test_interim_answer_is_not_the_answer(self) -> None:
        """C17: a 100 in the middle of the body ends nothing."""
        asked = self.begin()
        self.protocol.dataReceived(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertNoResult(asked)
        while self.transport.producer is not None:
            self.transport.producer.resumeProducing()
        self.assertEqual(self.transport.value().partition(b"\r\n\r\n")[2], BODY)
        self.protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        self.assertEqual(self.successResultOf(asked), (200, b"ok"))
