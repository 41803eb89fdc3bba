"""The agent of the gateway's own: what it sends, what it takes for an answer, and when a connection is used again."""

from __future__ import annotations

import gc
from functools import partial
from typing import Any
from weakref import ref

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IConsumer, IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone, ResponseFailed, ResponseNeverReceived
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IClientRequest, IResponse
from zope.interface import implementer
from zope.interface.verify import verifyObject

from gateway.upstreams import answers, pool
from gateway.upstreams.agent import STALE_SECONDS, GatewayAgent
from gateway.upstreams.answers import BadAnswer
from gateway.upstreams.bodies import EAGER_PIECE_BYTES, Chunks, Measured, WholeBody, WrongLength
from gateway.upstreams.fields import Fields

URL = b"http://127.0.0.1/v1/models/m:generateContent"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Transport(StringTransport):
    """Counts its writes."""

    def __init__(self) -> None:
        super().__init__(lenient=True)
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        super().write(data)


class Reader(Protocol):
    """Reads a body, call by call."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ends: list[Any] = []

    def dataReceived(self, data: bytes) -> None:
        self.pieces.append(data)

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.ends.append(reason.type)


class Peer:
    """The other end of a connection, in the test's hands."""

    def __init__(self, factory: Any) -> None:
        self.transport = Transport()
        self.protocol = factory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def leave(self, reason: type[Exception] = error.ConnectionDone) -> None:
        self.protocol.connectionLost(Failure(reason()))

    @property
    def received(self) -> bytes:
        return self.transport.value()

    @property
    def closed(self) -> bool:
        return bool(self.transport.disconnecting)

    @property
    def aborted(self) -> bool:
        return bool(self.transport.disconnected)


class AgentCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.agent = GatewayAgent(self.reactor, 10.0)

    def ask(self, body: Any = b"{}", method: bytes = b"POST", url: bytes = URL, **fields: str) -> Deferred[Any]:
        if isinstance(body, bytes):
            body = WholeBody(body) if body else None
        pairs = [(name.encode(), value.encode()) for name, value in fields.items()]
        return self.agent.request(method, url, Fields(pairs), body)

    def accept(self, at: int = -1) -> Peer:
        """Let the last attempt to connect succeed."""
        return Peer(self.reactor.tcpClients[at][2])

    @property
    def attempts(self) -> int:
        return len(self.reactor.tcpClients)

    def asked(self, **named: Any) -> tuple[Deferred[Any], Peer]:
        """Ask, over a new connection."""
        waiting = self.ask(**named)
        return waiting, self.accept()

    def answered(self, data: bytes = OK, **named: Any) -> tuple[Any, Peer, Reader]:
        """Ask, answer, and read what came of the body."""
        waiting, peer = self.asked(**named)
        peer.send(data)
        response = self.successResultOf(waiting)
        reader = Reader()
        response.deliverBody(reader)
        return response, peer, reader


class RequestTests(AgentCase):
    def test_interfaces_are_as_twisted_has_them(self) -> None:
        """Whoever knows Twisted's agent knows this one."""
        response, peer, _ = self.answered()
        self.assertTrue(verifyObject(IAgent, self.agent))
        self.assertTrue(verifyObject(IResponse, response))
        self.assertTrue(verifyObject(IPushProducer, response))
        self.assertTrue(verifyObject(IClientRequest, response.request))
        self.assertTrue(verifyObject(IBodyProducer, WholeBody(b"")))
        self.assertTrue(verifyObject(IConsumer, Chunks(peer.transport)))
        self.assertTrue(verifyObject(IConsumer, Measured(peer.transport, 1)))
        self.assertTrue(verifyObject(IHandshakeListener, peer.protocol._wrappedProtocol))

    def test_a_request_is_one_write(self) -> None:
        """Head and body: two would be two segments, and two wake-ups of the peer."""
        _, peer = self.asked(accept="x")
        self.assertEqual(
            peer.transport.writes,
            [
                b"POST /v1/models/m:generateContent HTTP/1.1\r\nHost: 127.0.0.1\r\naccept: x\r\nContent-Length: 2"
                b"\r\n\r\n{}"
            ],
        )

    def test_plain_headers_and_a_host_of_ones_own_are_taken(self) -> None:
        """As Twisted's agent takes them."""
        self.agent.request(b"GET", b"http://127.0.0.1:81/?a=b#c", Headers({"Host": ["other"], "X-A": ["1", "2"]}))
        self.assertEqual(
            self.accept().received, b"GET /?a=b HTTP/1.1\r\nHost: other\r\nX-A: 1\r\nX-A: 2\r\n\r\n"
        )
        self.assertEqual(self.reactor.tcpClients[0][1], 81)

    def test_fields_are_headers_for_those_who_look(self) -> None:
        """The stock agent copies them and asks for what is in them."""
        fields = Fields([(b"x-a", b"1"), (b"x-a", b"2")])
        self.assertTrue(fields.hasHeader("X-A"))
        self.assertEqual(fields.copy().getRawHeaders("x-a"), ["1", "2"])

    def test_a_line_break_in_a_value_begins_no_field(self) -> None:
        """S12: whatever a file or a client gave."""
        _, peer = self.asked(x="a\r\nEvil: 1\nb\0c")
        self.assertIn(b"x: a Evil: 1 b c\r\n", peer.received)

    def test_what_cannot_be_said_in_http_is_refused(self) -> None:
        """Before anything is sent."""
        for url in (b"ftp://a/", b"http://a b/", b"http:///", b"http://a/\r\nX: y", b"http://a:0/", b"http://u@a/"):
            with self.subTest(url=url):
                self.failureResultOf(self.ask(url=url), ValueError)
        self.failureResultOf(self.ask(method=b"GET /"), ValueError)
        self.failureResultOf(self.ask(**{"a b": "c\r\n"}), ValueError)
        self.assertEqual(self.attempts, 0)

    def test_bodies_are_framed(self) -> None:
        """RFC 9112: a length where it is known, also that of none where the method has one."""
        table: tuple[tuple[bytes, Any, bytes], ...] = (
            (b"GET", b"", b"Host: 127.0.0.1\r\n\r\n"),
            (b"POST", b"", b"Host: 127.0.0.1\r\nContent-Length: 0\r\n\r\n"),
            (b"POST", Producer(UNKNOWN_LENGTH, b"ab", b"", b"c"), b"\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
            (b"POST", Producer(3, b"ab", b"c"), b"Content-Length: 3\r\n\r\nabc"),
        )
        for method, body, end in table:
            with self.subTest(body=body):
                self.setUp()
                _, peer = self.asked(method=method, body=body)
                self.assertTrue(peer.received.endswith(end), peer.received)

    def test_a_body_of_another_length_is_no_request(self) -> None:
        """The peer would take the next request for its rest, or its rest for one."""
        for body in (Producer(3, b"ab"), Producer(3, b"abcd"), Producer(3, b"ab", b"cd")):
            with self.subTest(body=body):
                self.setUp()
                waiting, peer = self.asked(body=body)
                reasons = self.failureResultOf(waiting, ResponseNeverReceived).value.reasons
                self.assertIs(reasons[0].type, WrongLength)
                self.assertTrue(peer.aborted)


@implementer(IBodyProducer)
class Producer:
    """A body of somebody else's."""

    def __init__(self, length: Any, *pieces: bytes) -> None:
        self.length = length
        self.pieces = pieces
        self.stopped = False

    def startProducing(self, consumer: Any) -> Deferred[None]:
        for piece in self.pieces:
            consumer.write(piece)
        return succeed(None)

    def pauseProducing(self) -> None:
        """It has been written."""

    def resumeProducing(self) -> None:
        """It has been written."""

    def stopProducing(self) -> None:
        self.stopped = True


class SlowTransport(Transport):
    """Takes one write of a streaming producer at a time."""

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.producer is not None:
            self.producer.pauseProducing()


class EarlyAnswerTests(AgentCase):
    """C17: an answer that comes while the request's body is being sent."""

    def begun(self) -> tuple[Deferred[Any], Any, SlowTransport]:
        waiting = self.ask(body=b"x" * (3 * EAGER_PIECE_BYTES))
        protocol = self.reactor.tcpClients[-1][2].buildProtocol(None)
        transport = SlowTransport()
        protocol.makeConnection(transport)
        self.assertEqual(len(transport.writes), 2)
        return waiting, protocol, transport

    def test_a_body_waits_for_the_transport(self) -> None:
        """Piece by piece, and then the connection may be used again."""
        waiting, protocol, transport = self.begun()
        transport.producer.resumeProducing()
        transport.producer.resumeProducing()
        self.assertIsNone(transport.producer)
        protocol.dataReceived(OK)
        self.successResultOf(waiting)
        self.ask()
        self.assertEqual(self.attempts, 1)

    def test_a_body_is_freed_when_its_request_is_over(self) -> None:
        """At once: twenty megabytes that wait for a search for circles would soon be hundreds."""
        gc.disable()
        self.addCleanup(gc.enable)
        body = WholeBody(b"x" * (3 * EAGER_PIECE_BYTES))
        held = ref(body)
        waiting = self.ask(body=body)
        del body
        protocol = self.reactor.tcpClients[-1][2].buildProtocol(None)
        transport = SlowTransport()
        protocol.makeConnection(transport)
        transport.producer.resumeProducing()
        transport.producer.resumeProducing()
        protocol.dataReceived(OK)
        self.successResultOf(waiting)
        self.assertIsNone(held())

    def test_a_refusal_stops_the_sending_and_ends_the_connection(self) -> None:
        """It is relayed whole; nobody would read the rest of the body."""
        waiting, protocol, transport = self.begun()
        protocol.dataReceived(b"HTTP/1.1 413 No\r\nContent-Length: 4\r\n\r\nto")
        response = self.successResultOf(waiting)
        self.assertIsNone(transport.producer)
        reader = Reader()
        response.deliverBody(reader)
        protocol.dataReceived(b"o!")
        self.assertEqual((b"".join(reader.pieces), reader.ends), (b"too!", [ResponseDone]))
        self.assertTrue(transport.disconnected)
        self.assertEqual(len(transport.writes), 2)

    def test_an_answer_that_is_whole_ends_the_sending(self) -> None:
        """Whatever its status; what is good so far goes on while it streams."""
        waiting, protocol, transport = self.begun()
        protocol.dataReceived(CHUNKED + b"2\r\nok\r\n")
        self.successResultOf(waiting)
        transport.producer.resumeProducing()
        self.assertEqual(len(transport.writes), 3)
        protocol.dataReceived(b"0\r\n\r\n")
        self.assertIsNone(transport.producer)
        self.assertTrue(transport.disconnected)

    def test_a_cancelled_request_sends_no_more(self) -> None:
        """L1: the connection is closed."""
        waiting, _, transport = self.begun()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertIsNone(transport.producer)
        self.assertTrue(transport.disconnected)


class AnswerTests(AgentCase):
    def test_an_answer_tells_the_truth(self) -> None:
        """Version, status, phrase, every field, the body's length, and what was asked."""
        response, _, reader = self.answered(
            b"HTTP/1.1 200 Quite Fine\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 2\r\n\r\nok"
        )
        self.assertEqual((response.version, response.code, response.phrase), ((b"HTTP", 1, 1), 200, b"Quite Fine"))
        self.assertEqual(response.headers.getRawHeaders(b"x-a"), [b"1", b"2"])
        self.assertEqual(response.fields[b"x-a"], b"2")
        self.assertEqual((response.length, response.request.method, response.request.absoluteURI), (2, b"POST", URL))
        self.assertEqual((reader.pieces, reader.ends), ([b"ok"], [ResponseDone]))
        self.assertRaises(RuntimeError, response.deliverBody, Reader())

    def test_one_read_is_one_call(self) -> None:
        """However many chunks were in it."""
        _, peer, reader = self.answered(CHUNKED + b"1\r\na\r\n2\r\nbc\r\n")
        peer.send(b"1\r\nd\r\n1\r\ne\r\n0\r\n\r\n")
        self.assertEqual((reader.pieces, reader.ends), ([b"abc", b"de"], [ResponseDone]))

    def test_a_piece_that_is_known_to_be_the_last_is_foretold(self) -> None:
        """Where the end comes in the same read, and in no other case."""
        for reads, told in (
            ((b"2\r\nab\r\n", b"2\r\ncd\r\n0\r\n\r\n"), [b"ab", b"ending", b"cd"]),
            ((b"2\r\nab\r\n", b"2\r\ncd\r\n", b"0\r\n\r\n"), [b"ab", b"cd"]),
            ((b"2\r\nab\r\n", b"2\r\ncd\r\nzz\r\n"), [b"ab", b"cd"]),
        ):
            with self.subTest(reads=reads):
                self.setUp()
                waiting, peer = self.asked()
                peer.send(CHUNKED)
                response = self.successResultOf(waiting)
                reader = Reader()
                response.deliver(reader, reader.dataReceived, partial(reader.pieces.append, b"ending"))
                for read in reads:
                    peer.send(read)
                self.assertEqual(reader.pieces, told)
                self.assertEqual(len(reader.ends), 1)

    def test_an_answer_may_come_byte_by_byte(self) -> None:
        """Status line and fields included."""
        data = b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"
        waiting, peer = self.asked()
        reader = Reader()
        waiting.addCallback(lambda response: response.deliverBody(reader))
        for at in range(len(data)):
            peer.send(data[at : at + 1])
        self.assertEqual((b"".join(reader.pieces), reader.ends), (b"abc", [ResponseDone]))

    def test_interim_answers_are_swallowed(self) -> None:
        """RFC 9110 section 15.2: with their fields."""
        response, _, reader = self.answered(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK
        )
        self.assertEqual((response.code, response.phrase, reader.pieces), (200, b"OK", [b"ok"]))
        self.assertFalse(response.headers.hasHeader(b"link"))

    def test_some_answers_have_no_body(self) -> None:
        """To a HEAD, 204 and 304, whatever length they name; the connection goes on."""
        table = (
            (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
            (b"GET", b"HTTP/1.1 204 No\r\n\r\n"),
            (b"GET", b"HTTP/1.1 304 Same\r\nContent-Length: 5\r\n\r\n"),
        )
        for method, data in table:
            with self.subTest(data=data):
                self.setUp()
                response, _, reader = self.answered(data, method=method, body=b"")
                self.assertEqual((response.length, reader.pieces, reader.ends), (0, [], [ResponseDone]))

    def test_a_body_without_a_length_may_be_cut(self) -> None:
        """C7: a clean end is a potential loss, another one is a loss."""
        for reason, kind in ((error.ConnectionDone, PotentialDataLoss), (error.ConnectionLost, ResponseFailed)):
            with self.subTest(reason=reason):
                self.setUp()
                response, peer, reader = self.answered(b"HTTP/1.1 200 OK\r\n\r\nbody")
                self.assertEqual(response.length, UNKNOWN_LENGTH)
                peer.leave(reason)
                self.assertEqual((reader.pieces, reader.ends), ([b"body"], [kind]))

    def test_a_body_that_is_cut_or_wrong_is_never_whole(self) -> None:
        """C7, C13: what came before is handed on, and the connection is gone."""
        table = (
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", None),
            (CHUNKED + b"2\r\nab\r\n", None),
            (CHUNKED + b"2\r\nab\r\n0\r\n", None),
            (CHUNKED + b"2\r\nab\r\n", b"zz\r\n"),
            (CHUNKED + b"2\r\nab", b"cd\r\n"),
            (CHUNKED + b"2\r\nab\r\n", b"fffffffffffffffff\r\n"),
            (CHUNKED + b"2\r\nab\r\nx\r\n", b""),
        )
        for data, more in table:
            with self.subTest(data=data, more=more):
                self.setUp()
                waiting, peer = self.asked()
                reader = Reader()
                waiting.addCallback(lambda response, reader=reader: response.deliverBody(reader))
                peer.send(data)
                if more is None:
                    peer.leave()
                elif more:
                    peer.send(more)
                self.assertEqual((reader.pieces, reader.ends), ([b"ab"], [ResponseFailed]))
                self.assertTrue(peer.aborted or more is None)

    def test_framing_without_end_is_given_up(self) -> None:
        """C16: extensions of a chunk and trailers are held nowhere, and do not go on for ever."""
        for data in (b"2;" + b"x" * 1000, b"0\r\n" + b"A: b\r\n" * 150):
            with self.subTest(data=data[:9]):
                self.setUp()
                _, peer, reader = self.answered(CHUNKED)
                peer.send(data)
                for _ in range(3000):
                    if reader.ends:
                        break
                    peer.send(b"A: b\r\n" if data.startswith(b"0") else b"x" * 100)
                self.assertEqual(reader.ends, [ResponseFailed])
                self.assertTrue(peer.aborted)

    def test_nobody_takes_the_body_and_nothing_is_read(self) -> None:
        """C18: until somebody does."""
        waiting, peer = self.asked()
        peer.send(CHUNKED + b"1\r\na\r\n")
        response = self.successResultOf(waiting)
        self.assertEqual(peer.transport.producerState, "paused")
        reader = Reader()
        response.deliverBody(reader)
        self.assertEqual((reader.pieces, peer.transport.producerState), ([b"a"], "producing"))

    def test_a_reader_paces_its_upstream(self) -> None:
        """C18: pause and resume reach the transport, and the last read leaves none paused."""
        response, peer, reader = self.answered(CHUNKED + b"1\r\na\r\n")
        response.pauseProducing()
        self.assertEqual(peer.transport.producerState, "paused")
        response.resumeProducing()
        self.assertEqual(peer.transport.producerState, "producing")
        response.pauseProducing()
        peer.send(b"0\r\n\r\n")
        self.assertEqual((reader.ends, peer.transport.producerState), ([ResponseDone], "producing"))
        response.pauseProducing()
        self.assertEqual(peer.transport.producerState, "producing", "it is another's by now")

    def test_an_abort_closes_at_once(self) -> None:
        """L2: by any of the names that it goes by; not where the answer is over."""
        for name in ("abortConnection", "loseConnection", "stopProducing"):
            with self.subTest(name=name):
                self.setUp()
                response, peer, _ = self.answered(CHUNKED + b"1\r\na\r\n")
                getattr(response, name)()
                self.assertTrue(peer.aborted)
        response, peer, _ = self.answered()
        response.abortConnection()
        self.assertFalse(peer.aborted)


BAD_HEADS = (
    b"SSH-2.0-x\r\n",
    b"\r\nHTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/2.0 200 OK\r\n\r\n",
    b"HTTP/1.1 099 Low\r\n\r\n",
    b"HTTP/1.1 600 High\r\n\r\n",
    b"HTTP/1.1 1000 Long\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc",
    b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * answers.HEAD_BYTES_MOST + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * (answers.FIELDS_MOST + 1) + b"\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 3000,
    b"HTTP/1.1 103 Hints\r\nContent-Length: 38\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + OK,
    b"HTTP/1.1 103 Hints\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + OK,
)


class BadAnswerTests(AgentCase):
    def test_what_can_be_read_in_two_ways_is_no_answer(self) -> None:
        """C16: nor is what belongs to another protocol, or has no end; the connection is closed."""
        for data in BAD_HEADS:
            with self.subTest(data=data[:70]):
                self.setUp()
                waiting, peer = self.asked()
                peer.send(data)
                failure = self.failureResultOf(waiting, ResponseFailed)
                self.assertIs(failure.value.reasons[0].type, BadAnswer)
                self.assertTrue(peer.aborted)

    def test_a_head_without_end_is_given_up(self) -> None:
        """C16: also where it comes little by little, as one field or as many."""
        for piece in (b"a" * 100, b"X: a\r\n"):
            with self.subTest(piece=piece[:5]):
                self.setUp()
                waiting, peer = self.asked()
                peer.send(b"HTTP/1.1 200 OK\r\nX: ")
                for _ in range(answers.HEAD_BYTES_MOST // len(piece) + 1):
                    if not peer.aborted:
                        peer.send(piece)
                self.failureResultOf(waiting, ResponseFailed)

    def test_a_head_at_the_limit_is_taken(self) -> None:
        """Two hundred fields, and sixty-four KiB."""
        value = b"a" * (answers.HEAD_BYTES_MOST - 100)
        fields = b"X: a\r\n" * (answers.FIELDS_MOST - 1) + b"Content-Length: 0\r\n\r\n"
        for data in (b"Content-Length: 0\r\nX: " + value + b"\r\n\r\n", fields):
            with self.subTest(data=data[:20]):
                self.setUp()
                response, _, _ = self.answered(b"HTTP/1.1 200 OK\r\n" + data)
                self.assertEqual(response.code, 200)


class ReuseTests(AgentCase):
    def test_a_whole_answer_frees_the_connection(self) -> None:
        """Also before anybody has read it."""
        waiting, peer = self.asked()
        peer.send(OK)
        again = self.ask()
        self.assertEqual(self.attempts, 1)
        peer.send(b"HTTP/1.1 201 OK\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual([self.successResultOf(one).code for one in (waiting, again)], [200, 201])

    def test_an_answer_that_is_not_whole_keeps_it(self) -> None:
        """Two requests at a time are two connections."""
        self.answered(CHUNKED + b"1\r\na\r\n")
        self.ask()
        self.assertEqual(self.attempts, 2)

    def test_other_origins_have_connections_of_their_own(self) -> None:
        """Host and port."""
        self.answered()
        self.ask(url=b"http://127.0.0.1:81/")
        self.ask(url=b"http://127.0.0.2/")
        self.assertEqual([(client[0], client[1]) for client in self.reactor.tcpClients[1:]],
                         [("127.0.0.1", 81), ("127.0.0.2", 80)])  # fmt: skip

    def test_some_connections_carry_one_answer(self) -> None:
        """Those whose peer says so, in HTTP/1.0 also those whose peer says nothing."""
        for head in (b"HTTP/1.1 200 OK\r\nConnection: close", b"HTTP/1.0 200 OK"):
            with self.subTest(head=head):
                self.setUp()
                _, peer, reader = self.answered(head + b"\r\nContent-Length: 2\r\n\r\nok")
                self.assertEqual((reader.ends, peer.closed), ([ResponseDone], True))
                self.ask()
                self.assertEqual(self.attempts, 2)

    def test_more_than_an_answer_spoils_the_connection(self) -> None:
        """What follows would be taken for the answer to the next request."""
        for more in (b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"):
            with self.subTest(more=more):
                self.setUp()
                _, peer, reader = self.answered(OK + more)
                self.assertEqual((reader.pieces, reader.ends, peer.aborted), ([b"ok"], [ResponseDone], True))
                self.ask()
                self.assertEqual(self.attempts, 2)

    def test_a_body_after_a_bodiless_answer_spoils_the_connection(self) -> None:
        """Of a HEAD's."""
        _, peer, _ = self.answered(OK, method=b"HEAD", body=b"")
        self.assertTrue(peer.aborted)

    def test_bytes_that_nobody_asked_for_close_an_idle_connection(self) -> None:
        """They would be taken for an answer."""
        _, peer, _ = self.answered()
        peer.send(OK)
        self.assertTrue(peer.aborted)
        peer.leave()
        self.ask()
        self.assertEqual(self.attempts, 2)

    def test_a_connection_that_closed_is_not_used(self) -> None:
        """Nor kept."""
        _, peer, _ = self.answered()
        peer.leave()
        self.ask()
        self.assertEqual(self.attempts, 2)

    def test_an_idle_connection_is_closed_in_time(self) -> None:
        """Before its peer or a firewall does; a close that is not answered becomes an abort."""
        _, peer, _ = self.answered()
        self.reactor.advance(pool.IDLE_SECONDS - 1)
        self.assertFalse(peer.closed)
        self.reactor.advance(1)
        self.assertTrue(peer.closed)
        self.ask()
        self.assertEqual(self.attempts, 2)
        self.reactor.advance(pool.CLOSE_SECONDS)
        self.assertTrue(peer.aborted)

    def test_the_freshest_connection_goes_out_first(self) -> None:
        """Those in excess grow old and go."""
        first, second = self.ask(), self.ask()
        peers = [self.accept(0), self.accept(1)]
        peers[0].send(OK)
        self.reactor.advance(1)
        peers[1].send(OK)
        self.ask()
        self.assertEqual([len(peer.transport.writes) for peer in peers], [1, 2])
        self.reactor.advance(pool.IDLE_SECONDS - 1)
        self.assertEqual([peer.closed for peer in peers], [True, False])
        self.successResultOf(first)
        self.successResultOf(second)

    def test_so_many_are_kept_and_no_more(self) -> None:
        """The pool is bounded."""
        for _ in range(pool.IDLE_MOST + 1):
            self.ask()
        peers = [self.accept(at) for at in range(self.attempts)]
        for peer in peers:
            peer.send(OK)
        self.assertEqual([peer.closed for peer in peers], [False] * pool.IDLE_MOST + [True])

    def test_closing_closes_what_is_idle_and_the_rest_in_time(self) -> None:
        """It fires when the former is done; what is under way comes to its end, and its connection is not kept."""
        _, idle, _ = self.answered()
        waiting = [self.ask(), self.ask()]
        busy = self.accept()
        idle.send(OK)
        closed = self.agent.close()
        self.assertNoResult(closed)
        self.assertEqual((idle.aborted, busy.aborted), (True, False))
        idle.leave(error.ConnectionAborted)
        self.successResultOf(closed)
        busy.send(OK)
        self.assertEqual([self.successResultOf(one).code for one in waiting], [200, 200])
        self.assertTrue(busy.closed)
        busy.leave()
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class StaleTests(AgentCase):
    """C8: a kept connection that its peer closed just as it was used."""

    def reused(self, **named: Any) -> tuple[Deferred[Any], Peer]:
        _, peer, _ = self.answered()
        return self.ask(**named), peer

    def test_it_is_tried_once_on_a_new_connection(self) -> None:
        """The peer cannot have read it."""
        waiting, peer = self.reused(body=b"again")
        peer.leave(error.ConnectionLost)
        self.assertNoResult(waiting)
        fresh = self.accept()
        self.assertTrue(fresh.received.endswith(b"again"))
        fresh.send(OK)
        self.assertEqual(self.successResultOf(waiting).code, 200)

    def test_it_is_not_tried_twice(self) -> None:
        """A new connection that closes says something about the peer."""
        waiting, peer = self.reused()
        peer.leave()
        self.accept().leave()
        self.failureResultOf(waiting, ResponseNeverReceived)
        self.assertEqual(self.attempts, 2)

    def test_a_connection_that_was_new_is_not_stale(self) -> None:
        """The request may have been at work."""
        waiting, peer = self.asked()
        peer.leave()
        self.failureResultOf(waiting, ResponseNeverReceived)
        self.assertEqual(self.attempts, 1)

    def test_one_byte_of_an_answer_forbids_it(self) -> None:
        """So the request was read."""
        waiting, peer = self.reused()
        peer.send(b"H")
        peer.leave()
        self.failureResultOf(waiting, ResponseFailed)
        self.assertEqual(self.attempts, 1)

    def test_a_late_close_forbids_it(self) -> None:
        """A stale connection fails at once; later, the request may have been at work."""
        waiting, peer = self.reused()
        self.reactor.advance(STALE_SECONDS)
        peer.leave()
        self.failureResultOf(waiting, ResponseNeverReceived)

    def test_a_body_that_cannot_be_had_again_forbids_it(self) -> None:
        """Somebody else's producer writes once."""
        waiting, peer = self.reused(body=Producer(1, b"a"))
        peer.leave()
        self.failureResultOf(waiting, ResponseNeverReceived)

    def test_a_close_of_the_whole_forbids_it(self) -> None:
        """Nothing is connected any more."""
        waiting, peer = self.reused()
        self.agent.close()
        peer.leave()
        self.failureResultOf(waiting, ResponseNeverReceived)
        self.assertEqual(self.attempts, 1)

    def test_a_large_body_starts_anew(self) -> None:
        """From its first byte."""
        body = bytes(range(256)) * 1024
        for pieces in ([body], [body[:9], memoryview(body)[9:200_000], memoryview(body)[200_000:]]):
            waiting, peer = self.reused(body=WholeBody(*pieces))
            peer.leave()
            self.assertTrue(self.accept().received.endswith(body))
            self.assertNoResult(waiting)


class ConnectTests(AgentCase):
    def test_a_connection_refused_is_told(self) -> None:
        """C1: the request never left."""
        waiting = self.ask()
        self.reactor.tcpClients[0][2].clientConnectionFailed(None, Failure(error.ConnectionRefusedError()))
        self.failureResultOf(waiting, error.ConnectionRefusedError)

    def test_connecting_has_its_time(self) -> None:
        """C4: name, connection and handshake together."""
        waiting = self.ask()
        self.reactor.advance(10)
        self.failureResultOf(waiting, error.TimeoutError)
        self.assertTrue(self.reactor.connectors[0].stoppedConnecting)

    def test_the_handshake_is_part_of_connecting(self) -> None:
        """C3, C4: nothing is sent before it is done, and it has the same time."""
        waiting = self.ask(url=b"https://127.0.0.1/")
        peer = self.accept()
        self.assertNotIn(b"POST", peer.received)
        self.reactor.advance(10)
        self.failureResultOf(waiting, error.TimeoutError)
        self.assertTrue(peer.aborted)

    def test_cancelling_ends_the_handshake(self) -> None:
        """L1: the connection is closed."""
        waiting = self.ask(url=b"https://127.0.0.1/")
        peer = self.accept()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertTrue(peer.aborted)

    def test_cancelling_ends_the_connecting(self) -> None:
        """L1: nothing is left of it, no timer either."""
        waiting = self.ask()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertTrue(self.reactor.connectors[0].stoppedConnecting)

    def test_names_are_looked_up_for_each_connection(self) -> None:
        """An address that moved is found."""
        looked_up: list[str] = []
        resolve = self.reactor.nameResolver.resolveHostName

        def noted(receiver: Any, name: str, *more: Any, **named: Any) -> Any:
            looked_up.append(name)
            return resolve(receiver, name, *more, **named)

        self.reactor.nameResolver.resolveHostName = noted
        for host in ("one.example", "two.example", "one.example"):
            self.ask(url=f"http://{host}/".encode())
        self.assertEqual(looked_up, ["one.example", "two.example", "one.example"])

    def test_connections_are_opened_ahead(self) -> None:
        """The first requests find them."""
        self.agent.warm(URL, 2)
        self.assertEqual(self.attempts, 2)
        peers = [self.accept(0), self.accept(1)]
        self.ask()
        self.ask()
        self.assertEqual(self.attempts, 2)
        self.assertEqual([len(peer.transport.writes) for peer in peers], [1, 1])

    def test_a_connection_opened_ahead_may_be_stale_as_well(self) -> None:
        """C8: it has waited like any other."""
        self.agent.warm(URL, 1)
        peer = self.accept()
        waiting = self.ask()
        peer.leave()
        self.assertEqual(self.attempts, 2)
        self.assertNoResult(waiting)

    def test_what_cannot_be_opened_ahead_is_nobodys_trouble(self) -> None:
        """The first request will tell."""
        opening = self.agent.warm(URL, 1)
        self.reactor.tcpClients[0][2].clientConnectionFailed(None, Failure(error.ConnectionRefusedError()))
        self.successResultOf(opening)
