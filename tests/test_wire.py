"""The way out: what treq sends, what becomes of an answer, of its faults, and of a cancelled wait."""

from __future__ import annotations

from typing import Any

import msgspec
from OpenSSL import SSL
from treq.testing import RequestTraversalAgent
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseFailed
from twisted.web.iweb import IAgent, IBodyProducer
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer
from zope.interface.verify import verifyObject

from gateway.calls import HttpRequest
from gateway.folding import mark
from gateway.upstreams import unanswered
from gateway.upstreams.agent import GatewayAgent
from gateway.upstreams.bodies import WholeBody
from gateway.upstreams.exchange import WireError
from gateway.upstreams.stock import stock_agent
from gateway.upstreams.wire import LeanClient, TreqWire
from tests.fakes import run


class Upstream(Resource):
    """A server that the test drives."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Any] = []
        self.bodies: list[bytes] = []
        self.left = 0

    def render(self, request: Any) -> Any:
        self.requests.append(request)
        self.bodies.append(request.content.read())
        request.notifyFinish().addErrback(self._gone)
        return NOT_DONE_YET

    def _gone(self, _: object) -> None:
        self.left += 1


class FakeReceiver:
    """Takes a body."""

    def __init__(self) -> None:
        self.body = b""
        self.ends: list[str] = []

    def data(self, chunk: bytes) -> None:
        self.body += chunk

    def ending(self) -> None:
        self.ends.append("ending")

    def ended(self, error: WireError | None) -> None:
        self.ends.append("whole" if error is None else error.kind)


def request(method: bytes = b"POST", body: bytes = b'{"a":1}', *headers: tuple[bytes, bytes]) -> HttpRequest:
    return HttpRequest(method, b"https://one.example/v1beta/models/m:generateContent?alt=sse", headers, body)


class WireCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.upstream = Upstream()
        self.agent = RequestTraversalAgent(self.upstream)
        self.wire = TreqWire(LeanClient(self.agent), self.clock)

    def open(self, what: HttpRequest | None = None, seconds: float = 10.0) -> Deferred[Any]:
        return run(self.wire.open(what or request(), seconds))

    def answered(self, status: int = 200, *headers: tuple[bytes, bytes], length: int | None = None) -> Any:
        """Open, let upstream send its head, and return the exchange."""
        opened = self.open()
        server = self.upstream.requests[-1]
        server.setResponseCode(status)
        for name, value in headers:
            server.responseHeaders.addRawHeader(name, value)
        if length is not None:
            server.setHeader(b"content-length", b"%d" % length)
        server.write(b"")
        self.agent.flush()
        return self.successResultOf(opened)

    def write(self, data: bytes) -> None:
        self.upstream.requests[-1].write(data)
        self.agent.flush()

    def finish(self) -> None:
        self.upstream.requests[-1].finish()
        self.agent.flush()

    def kind(self, waiting: Deferred[Any]) -> str:
        found = self.failureResultOf(waiting, WireError).value
        assert isinstance(found, WireError)
        return found.kind

    def assert_no_timer_of_its_own(self) -> None:
        self.assertEqual(len(self.clock.getDelayedCalls()), 1, "the one of all deadlines stays for the next request")


class RequestTests(WireCase):
    def test_a_request_goes_out_as_it_is(self) -> None:
        """Method, target, fields and body, and a Content-Length; nothing of treq's own."""
        self.open(request(b"POST", b"\x00body", (b"x-goog-api-key", b"k"), (b"accept-encoding", b"identity")))
        sent = self.upstream.requests[0]
        self.assertEqual((sent.method, sent.uri), (b"POST", b"/v1beta/models/m:generateContent?alt=sse"))
        self.assertEqual(self.upstream.bodies, [b"\x00body"])
        fields = {name.lower(): values for name, values in sent.requestHeaders.getAllRawHeaders()}
        fields.pop(b"connection", None)
        self.assertEqual(
            fields,
            {
                b"host": [b"one.example"],
                b"content-length": [b"5"],
                b"x-goog-api-key": [b"k"],
                b"accept-encoding": [b"identity"],
            },
        )

    def test_folds_go_out_in_their_places(self) -> None:
        """What was kept apart from a body, small or large, is sent in place of its mark."""
        for size in (3, 300_000):
            long = memoryview(b"x" * size)
            what = request(body=b'{"b":"%b","a":"%b"}' % (mark(1), mark(0)))
            self.open(msgspec.structs.replace(what, folds=((b"first",), (long, b"y", long[:2]))))
            self.agent.flush()
            self.assertTrue(self.upstream.bodies[-1] == b'{"b":"%byxx","a":"first"}' % long, size)
            self.assertIsNone(self.upstream.requests[-1].getHeader(b"transfer-encoding"))

    def test_a_request_without_a_body_has_none(self) -> None:
        """The model list's."""
        self.open(request(b"GET", b""))
        self.assertEqual(self.upstream.requests[0].method, b"GET")
        self.assertIsNone(self.upstream.requests[0].getHeader(b"transfer-encoding"))

    def test_a_cookie_of_upstreams_is_not_sent_back(self) -> None:
        """S17: there is no jar that all clients share."""
        self.answered(200, (b"set-cookie", b"a=b; Path=/"))
        self.finish()
        self.open()
        self.assertIsNone(self.upstream.requests[1].getHeader(b"cookie"))

    def test_a_redirect_is_an_answer(self) -> None:
        """U16: it is not followed."""
        exchange = self.answered(302, (b"location", b"https://evil.example/"))
        self.assertEqual(exchange.status, 302)
        self.assertEqual(len(self.upstream.requests), 1)

    def test_an_encoded_body_is_not_unpacked(self) -> None:
        """C15: a small one can unpack to gigabytes."""
        exchange = self.answered(200, (b"content-encoding", b"gzip"), length=3)
        reading = run(exchange.read(100, 10))
        self.write(b"abc")
        self.assertEqual(self.successResultOf(reading), b"abc")

    def test_the_body_producer_is_one(self) -> None:
        """Twisted's interface."""
        self.assertTrue(verifyObject(IBodyProducer, WholeBody(b"x")))


class AnswerTests(WireCase):
    def test_the_head_has_status_and_lower_case_fields(self) -> None:
        """The last of a repeated field counts."""
        exchange = self.answered(429, (b"Retry-After", b"5"), (b"Retry-After", b"7"))
        self.assertEqual((exchange.status, exchange.headers[b"retry-after"]), (429, b"7"))

    def test_a_whole_body_is_read(self) -> None:
        """However it is cut."""
        exchange = self.answered()
        reading = run(exchange.read(100, 10))
        self.write(b"one ")
        self.write(b"two")
        self.finish()
        self.assertEqual(self.successResultOf(reading), b"one two")
        self.assert_no_timer_of_its_own()

    def test_a_body_over_the_limit_is_refused_and_the_connection_closed(self) -> None:
        """C12: nothing more of it is held."""
        exchange = self.answered()
        reading = run(exchange.read(5, 10))
        self.write(b"123456")
        self.assertEqual(self.kind(reading), "too-large")
        self.agent.flush()
        self.assertEqual(self.upstream.left, 1)
        self.assert_no_timer_of_its_own()

    def test_a_body_that_is_cut_is_never_whole(self) -> None:
        """C7: chunked or with a length, the connection's end is not the answer's."""
        for length in (None, 100):
            with self.subTest(length=length):
                self.setUp()
                exchange = self.answered(length=length)
                reading = run(exchange.read(1000, 10))
                self.write(b"some")
                self.upstream.requests[-1].channel.transport.loseConnection()
                self.agent.flush()
                self.assertEqual(self.kind(reading), "truncated")

    def test_a_body_that_falls_silent_is_given_up(self) -> None:
        """C6: counted from the last byte."""
        exchange = self.answered()
        reading = run(exchange.read(100, 10))
        self.clock.advance(9)
        self.write(b"more")
        self.clock.advance(9.999)
        self.assertNoResult(reading)
        self.clock.advance(0.001)
        self.assertEqual(self.kind(reading), "timeout-idle")
        self.agent.flush()
        self.assertEqual(self.upstream.left, 1)

    def test_a_body_that_trickles_has_its_time_in_all(self) -> None:
        """C5: however often something comes; the shorter of the two limits counts."""
        exchange = self.answered()
        reading = run(exchange.read(100, 10, 25))
        for _ in range(4):
            self.clock.advance(6)
            self.write(b"more")
        self.clock.advance(0.999)
        self.assertNoResult(reading)
        self.clock.advance(0.001)
        self.assertEqual(self.kind(reading), "timeout-first-byte")
        self.agent.flush()
        self.assertEqual(self.upstream.left, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_stream_flows_to_its_receiver_and_ends(self) -> None:
        """Piece by piece, the end once."""
        exchange = self.answered()
        receiver = FakeReceiver()
        exchange.deliver(receiver)
        self.write(b"one")
        self.assertEqual(receiver.body, b"one")
        self.write(b"two")
        self.finish()
        self.assertEqual((receiver.body, receiver.ends), (b"onetwo", ["whole"]))

    def test_a_head_that_is_forgotten_leaves_the_body_as_it_is(self) -> None:
        """Google sends a dozen fields with each of thousands of streams."""
        exchange = self.answered()
        self.assertIn(b"content-type", exchange.headers)
        receiver = FakeReceiver()
        exchange.deliver(receiver)
        exchange.forget_head()
        self.write(b"one")
        self.finish()
        self.assertEqual((exchange.headers, exchange.status), ({}, 200))
        self.assertEqual((receiver.body, receiver.ends), (b"one", ["whole"]))

    def test_an_aborted_exchange_closes_upstream_and_says_nothing_more(self) -> None:
        """L2: also before anybody took the body."""
        for taken in (True, False):
            with self.subTest(taken=taken):
                self.setUp()
                exchange = self.answered()
                receiver = FakeReceiver()
                if taken:
                    exchange.deliver(receiver)
                exchange.abort()
                self.agent.flush()
                self.assertEqual((self.upstream.left, receiver.ends), (1, []))
                exchange.abort()
                exchange.pause()
                exchange.resume()


class AgentCase:
    """What holds of a wire over either agent, over a transport of the test's own whose reading can be watched."""

    def agent(self, reactor: Any) -> Any:
        raise NotImplementedError

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        agent = self.agent(self.reactor)
        self.assertTrue(verifyObject(IAgent, agent))
        self.wire = TreqWire(LeanClient(agent), self.reactor)
        self.opened = run(self.wire.open(HttpRequest(b"POST", b"http://127.0.0.1/x", (), b"{}"), 60.0))

    def connect(self) -> None:
        factory = self.reactor.tcpClients[0][2]
        self.transport = StringTransport(lenient=True)
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def test_pause_and_resume_reach_the_transport(self) -> None:
        """C18: what upstream sends waits in its socket."""
        self.connect()
        self.protocol.dataReceived(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        exchange = self.successResultOf(self.opened)
        receiver = FakeReceiver()
        exchange.deliver(receiver)
        self.assertEqual((receiver.body, self.transport.producerState), (b"one", "producing"))
        exchange.pause()
        self.assertEqual(self.transport.producerState, "paused")
        exchange.resume()
        self.assertEqual(self.transport.producerState, "producing")

    def test_an_abort_resets_the_transport_also_while_it_is_paused(self) -> None:
        """L2: a close that waits for the peer would never come over a paused connection."""
        self.connect()
        self.protocol.dataReceived(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        exchange = self.successResultOf(self.opened)
        exchange.deliver(FakeReceiver())
        exchange.pause()
        exchange.abort()
        self.assertTrue(self.transport.disconnected)

    def test_a_body_without_a_length_is_never_whole(self) -> None:
        """C7: only the connection's end delimits it, and nobody can tell that from a cut."""
        self.connect()
        self.protocol.dataReceived(b"HTTP/1.1 200 OK\r\n\r\nbody")
        exchange = self.successResultOf(self.opened)
        reading = run(exchange.read(100, 10))
        self.protocol.connectionLost(Failure(error.ConnectionDone()))
        self.assertEqual(self.failureResultOf(reading, WireError).value.kind, "truncated")

    def test_cancelling_while_it_connects_is_a_cancellation(self) -> None:
        """L1: taken for a fault of the road, it would send the next attempt for a client that is gone."""
        self.opened.cancel()
        self.failureResultOf(self.opened, CancelledError)
        self.assertTrue(self.reactor.connectors[0].stoppedConnecting)

    def test_cancelling_while_it_waits_for_the_head_is_a_cancellation(self) -> None:
        """L1: the connection is closed."""
        self.connect()
        self.opened.cancel()
        self.failureResultOf(self.opened, CancelledError)
        self.assertTrue(self.transport.disconnected)

    def test_cancelling_within_the_head_is_a_cancellation(self) -> None:
        """L1: also where some of it has come."""
        self.connect()
        self.protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-")
        self.opened.cancel()
        self.failureResultOf(self.opened, CancelledError)
        self.assertTrue(self.transport.disconnected)

    def test_cancelling_while_a_body_is_read_closes_the_connection(self) -> None:
        """L1: and leaves no timer."""
        self.connect()
        self.protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        exchange = self.successResultOf(self.opened)
        reading = run(exchange.read(100, 10))
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        self.assertTrue(self.transport.disconnected)

    def test_a_late_head_is_a_timeout_wherever_it_was_waited_for(self) -> None:
        """C5: connecting, waiting, within the head; the connection is closed."""
        for received in (None, b"", b"HTTP/1.1 200 OK\r\nContent-"):
            with self.subTest(received=received):
                self.setUp()
                if received is not None:
                    self.connect()
                    self.protocol.dataReceived(received)
                self.reactor.advance(59.9)
                self.assertNoResult(self.opened)
                self.reactor.advance(0.2)
                self.assertEqual(self.failureResultOf(self.opened, WireError).value.kind, "timeout-first-byte")

    def test_a_connection_that_closes_without_an_answer_was_reset(self) -> None:
        """C8: before any byte of an answer."""
        self.connect()
        self.protocol.connectionLost(Failure(error.ConnectionLost()))
        self.assertEqual(self.failureResultOf(self.opened, WireError).value.kind, "reset")


class GatewayAgentWireTests(AgentCase, SynchronousTestCase):
    """Over the agent of the gateway's own."""

    def agent(self, reactor: Any) -> Any:
        return GatewayAgent(reactor, 100.0)


class StockAgentWireTests(AgentCase, SynchronousTestCase):
    """Over Twisted's."""

    def agent(self, reactor: Any) -> Any:
        return stock_agent(reactor, 100.0)[0]


class FaultTests(SynchronousTestCase):
    def opened(self, problem: Exception) -> WireError:
        @implementer(IAgent)
        class Agent:
            def request(self, *_: object) -> Deferred[Any]:
                return fail(problem)

        clock: Any = Clock()
        self.assertTrue(verifyObject(IReactorTime, clock))
        wire = TreqWire(LeanClient(Agent()), clock)
        found = self.failureResultOf(run(wire.open(request(), 10)), WireError).value
        assert isinstance(found, WireError)
        self.assertEqual(len(clock.getDelayedCalls()), 1, "the one of all deadlines stays for the next request")
        return found

    def test_every_fault_of_the_road_has_its_kind(self) -> None:
        """C1, C2, C3, C4: refused, unknown name, late, TLS; each is one that the verdicts know."""
        table = (
            (error.ConnectionRefusedError(), "connect"),
            (error.DNSLookupError(), "connect"),
            (error.NoRouteError(), "connect"),
            (error.TimeoutError(), "timeout-connect"),
            (error.TCPTimedOutError(), "timeout-connect"),
            (SSL.Error([("SSL routines", "", "certificate verify failed")]), "tls"),
            (ResponseFailed([Failure(SSL.Error([]))]), "tls"),
            (ResponseFailed([Failure(ResponseFailed([Failure(SSL.Error([]))]))]), "tls"),
            (ResponseFailed([Failure(error.ConnectionLost())]), "reset"),
            (ValueError("anything else"), "reset"),
        )
        for problem, kind in table:
            with self.subTest(problem=problem):
                self.assertEqual(self.opened(problem).kind, kind)
                self.assertIn(kind, unanswered.TRANSPORT_KINDS)

    def test_a_fault_does_not_repeat_what_the_exception_said(self) -> None:
        """S12: an exception may hold a URL or a header; its type is enough."""
        self.assertEqual(str(self.opened(ValueError("x-goog-api-key: secret"))), "reset: ValueError")
