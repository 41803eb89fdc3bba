"""A client's connection: requests one after the other, each judged by its head, whatever comes in one piece."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from gateway.config import Limits
from gateway.edge.request import LINGER_SECONDS
from gateway.upstreams.exchange import WireError
from tests.fakes import ANSWER, BODY, SSE, Client, FakeExchange, ok
from tests.fakes import sse as events
from tests.test_site import CONTINUE, KEY, PATH, SiteCase

HEALTHY = b'{"status":"ok"}'
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST %s HTTP/1.1\r\nHost: localhost\r\n" % PATH.encode()
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
MEASURED = POST + b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
OLD_GET = b"GET /healthz HTTP/1.0\r\n"


class ReadingTests(SiteCase):
    def test_requests_are_the_same_at_every_split(self) -> None:
        """L6: byte by byte, and cut once anywhere; each answered, in order."""
        data = MEASURED + b"\r\n" + CHUNKED + GET
        splits = [[data[at : at + 1] for at in range(len(data))]]
        splits += [[data[:at], data[at:]] for at in range(len(data) + 1)]
        for pieces in splits:
            client = self.begin(ok(b'{"n":1}'), ok(b'{"n":2}'))
            for piece in pieces:
                client.send(piece)
            self.assertEqual([answer.body for answer in client.answers()], [b'{"n":1}', b'{"n":2}', HEALTHY])
            self.assertEqual([request.body for request in self.world.wire.requests], [BODY, BODY])

    def test_one_empty_line_before_a_request_is_let_pass(self) -> None:
        """RFC 9112 section 2.2: a second is refused, and at once."""
        client = self.begin()
        client.send(b"\r\n" + GET + b"\r\n" + GET)
        self.assertEqual([answer.status for answer in client.answers()], [200, 200])
        for data in (b"\r\n\r\n", b"\r\n\r\n" + GET):
            client = self.begin()
            client.send(data)
            self.is_refusal(client.answer(), 400, "HTTP_MALFORMED")

    def test_a_line_end_behind_a_body_begins_no_request(self) -> None:
        """RFC 9112 section 2.2: the connection is as idle as without it, and no 408 is due."""
        for pieces in ([MEASURED + b"\r\n"], [MEASURED, b"\r\n"]):
            client = self.begin(ok())
            for piece in pieces:
                client.send(piece)
            for _ in range(60):
                self.world.clock.advance(1)
            self.assertEqual((client.answer().status, client.dropped), (200, False))
            client.send(GET)
            self.assertEqual(client.answers()[-1].body, HEALTHY)

    def test_a_body_is_judged_before_any_of_it_is_kept(self) -> None:
        """L7, L8: the head's refusal comes first, and what follows it in the same piece is dropped."""
        for field, code, reason in (
            (b"Content-Length: 1e1", 400, "CONTENT_LENGTH_INVALID"),
            (b"Transfer-Encoding: gzip, chunked", 501, "TRANSFER_ENCODING_UNKNOWN"),
            (b"Expect: 200-ok\r\nContent-Length: 40", 417, "EXPECTATION_UNKNOWN"),
        ):
            client = self.begin()
            client.send(POST + field + b"\r\n\r\n" + BODY + GET)
            self.is_refusal(client.answer(), code, reason)
            self.assertEqual(client.answer().headers["connection"], "close")
            self.assertEqual(self.world.wire.requests, [])

    def test_a_refusal_outlives_what_the_client_is_still_sending(self) -> None:
        """L7, L9: it is read on for a while, since a connection closed with bytes unread is reset; and no longer."""
        heads = (
            (POST + b"Content-Length: x\r\n\r\n", "CONTENT_LENGTH_INVALID"),
            (POST + b"X: " + b"a" * 20_000, "HEAD_TOO_LARGE"),
            (b"GET / HTTP/1.1\n", "HTTP_MALFORMED"),
            (POST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", "CHUNK_INVALID"),
        )
        for data, reason in heads:
            with self.subTest(reason=reason):
                client = self.begin()
                client.send(data)
                for _ in range(3):
                    client.send(bytes(1_000_000))
                self.assertFalse(client.dropped)
                self.assertEqual(client.answer().json["error"]["details"][0]["reason"], reason)
                for _ in range(int(LINGER_SECONDS)):
                    self.world.clock.advance(1)
                self.assertTrue(client.dropped)
                self.assertEqual(len(client.answers()), 1)
                client.leave()
                self.assertEqual((self.world.ended.reason, self.world.site.busy), (reason, 0))

    def test_what_cannot_be_read_is_reported_as_well(self) -> None:
        """L7: a line in the log, with nothing in it that the client made up."""
        client = self.begin()
        client.send(b"GET /secret\x00 HTTP/1.1\r\n\r\n")
        client.leave()
        end = self.world.ended
        self.assertEqual((end.status, end.reason, end.journal.method, end.journal.path),
                         (400, "HTTP_MALFORMED", "-", "-"))  # fmt: skip
        self.assertEqual(client.answer().headers["x-request-id"], end.journal.request_id)

    def test_the_preface_of_http_2_is_no_request(self) -> None:
        """L15: neither by prior knowledge, nor by upgrading, nor offered within TLS."""
        client = self.begin()
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.is_refusal(client.answer(), 505, "HTTP_VERSION_UNSUPPORTED")
        client = self.begin()
        upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
        client.send(GET[:-2] + upgrade + b"\r\n")
        self.assertEqual((client.answer().status, client.answer().body), (200, HEALTHY))
        self.assertEqual(self.world.site.acceptableProtocols(), [b"http/1.1"])

    def test_a_tunnel_is_not_dug(self) -> None:
        """L15: what follows CONNECT is not read as anything."""
        client = self.begin()
        client.send(b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n" + GET)
        self.is_refusal(client.answer(), 501, "METHOD_UNKNOWN")
        self.assertTrue(client.dropped)

    def test_a_client_whose_body_is_here_is_not_told_to_go_on(self) -> None:
        """RFC 9110 section 10.1.1; nor one whose request was refused."""
        client = self.begin(ok())
        client.post(PATH, BODY, ("Expect", "100-continue"))
        self.assertEqual(client.answer().status, 200)
        client = self.begin(limits=Limits(body=10))
        client.ask("POST", PATH, b"", ("Expect", "100-continue"), length=11)
        self.assertNotIn(CONTINUE, client.received)

    def test_a_closing_connection_begins_no_request(self) -> None:
        """P1: nobody would see its answer."""
        client = self.begin(ok())
        client.protocol.loseConnection()
        client.send(MEASURED)
        self.assertEqual((client.received, self.world.wire.requests), (b"", []))


class OrderTests(SiteCase):
    """L6: requests in one piece, and what is under way when the next one comes."""

    def held(self, data: bytes) -> Client:
        """Send pipelined requests, the first of which waits for upstream."""
        client = self.begin()
        self.waiting = self.world.wire.hold()
        self.world.wire.script = [self.waiting, ok(b'{"n":2}')]
        client.send(data)
        self.assertEqual((client.received, len(self.world.wire.requests)), (b"", 1))
        return client

    def test_answers_are_not_interleaved(self) -> None:
        """L6: CVE-2023-46137 answered the later of two requests in one piece first."""
        client = self.held(MEASURED + GET + MEASURED)
        self.waiting.callback(ok(b'{"n":1}'))
        self.assertEqual([answer.body for answer in client.answers()], [b'{"n":1}', HEALTHY, b'{"n":2}'])

    def test_answers_are_not_interleaved_behind_chunks(self) -> None:
        """L6: CVE-2024-41671 was the same behind a body in chunks, and with more pieces coming."""
        client = self.held(CHUNKED + GET[:20])
        client.send(GET[20:] + CHUNKED)
        self.assertEqual(len(self.world.wire.requests), 1)
        self.waiting.callback(ok(b'{"n":1}'))
        self.assertEqual([answer.body for answer in client.answers()], [b'{"n":1}', HEALTHY, b'{"n":2}'])

    def test_a_bad_request_behind_a_good_one_spoils_nothing(self) -> None:
        """L6: the first is answered whole, then the refusal, then nothing more is read."""
        client = self.held(MEASURED + b"GET / HTTP/1.1\r\nHost : x\r\n\r\n" + GET)
        self.waiting.callback(ok(b'{"n":1}'))
        good, bad = client.answers()
        self.assertEqual((good.status, good.body, good.whole), (200, b'{"n":1}', True))
        self.is_refusal(bad, 400, "HTTP_MALFORMED")
        self.assertTrue(client.dropped)

    def test_a_request_within_a_body_is_none(self) -> None:
        """L7: what a length covers is body, whatever it looks like."""
        client = self.begin(keys=("right-key",))
        client.ask("POST", PATH, GET, KEY)
        self.is_refusal(client.answer(), 400, "BODY_NOT_JSON")

    def test_requests_during_a_stream_wait_for_its_end(self) -> None:
        """L6: and the client is held back when it sends many."""
        exchange = FakeExchange(200, SSE)
        client = self.begin(exchange)
        stream = PATH.replace("generateContent", "streamGenerateContent") + "?alt=sse"
        client.post(stream)
        exchange.send(events(b'{"a":1}'))
        client.send(GET * 400)
        self.assertEqual(client.transport.producerState, "paused")
        self.assertEqual(client.received.count(b"HTTP/1.1"), 1)
        exchange.end()
        answers = client.answers()
        self.assertEqual((len(answers), answers[0].whole), (401, True))
        self.assertEqual(client.transport.producerState, "producing")

    def test_very_many_requests_in_one_piece_are_answered(self) -> None:
        """L6: one after the other, not one within the other."""
        client = self.begin()
        client.send(GET * 3000)
        self.assertEqual(client.received.count(HEALTHY), 3000)


class OldClientTests(SiteCase):
    """HTTP/1.0, which nginx speaks to us unless it is told otherwise."""

    def test_the_connection_closes_after_the_answer(self) -> None:
        """RFC 9112 section 9.3: what comes behind the request is not read."""
        client = self.begin()
        client.send(OLD_GET + b"\r\n" + GET)
        answer = client.answer()
        self.assertEqual((answer.status, answer.body, answer.headers["connection"]), (200, HEALTHY, "close"))
        self.assertTrue(client.received.startswith(b"HTTP/1.0 200"))
        self.assertTrue(client.dropped)

    def test_the_connection_is_kept_for_who_asks_for_it(self) -> None:
        """RFC 9112 section 9.3: where the answer says its length."""
        client = self.begin(ok())
        client.send(OLD_GET + b"Connection: Keep-Alive\r\n\r\n")
        self.assertEqual(client.answer().headers["connection"], "keep-alive")
        self.assertFalse(client.dropped)
        client.post(PATH, BODY, version="HTTP/1.0")
        self.assertEqual([answer.body for answer in client.answers()], [HEALTHY, ANSWER])
        self.assertTrue(client.dropped)

    def streamed(self, *headers: tuple[str, str]) -> tuple[Client, FakeExchange]:
        exchange = FakeExchange(200, SSE)
        client = self.begin(exchange)
        stream = PATH.replace("generateContent", "streamGenerateContent") + "?alt=sse"
        client.post(stream, BODY, *headers, version="HTTP/1.0")
        exchange.send(events(b'{"a":1}'))
        return client, exchange

    def test_a_stream_ends_with_the_connection(self) -> None:
        """L6: without chunks, also for who would keep the connection."""
        for headers in ((), (("Connection", "keep-alive"),)):
            client, exchange = self.streamed(*headers)
            self.assertFalse(client.dropped)
            exchange.end()
            self.assertTrue(client.dropped)
            self.assertFalse(client.reset)
            answer = client.answer()
            self.assertEqual((answer.body, answer.headers["connection"]), (b'data: {"a":1}\n\n', "close"))
            self.assertNotIn("transfer-encoding", answer.headers)

    def test_a_stream_that_breaks_resets_the_connection(self) -> None:
        """C7: or it would look whole."""
        client, exchange = self.streamed(("Connection", "keep-alive"))
        exchange.end(WireError("truncated"))
        self.world.clock.advance(0)
        self.assertTrue(client.reset)

    def test_chunks_are_refused(self) -> None:
        """L7: HTTP/1.0 knows none."""
        client = self.begin()
        client.send(CHUNKED.replace(b"1.1", b"1.0"))
        self.is_refusal(client.answer(), 400, "FRAMING_AMBIGUOUS")


class ReadingOnTests(SiteCase):
    """What held a client back is over with the answer at the latest."""

    def pending(self, **changes: Any) -> tuple[Client, Deferred[FakeExchange]]:
        answer: Deferred[FakeExchange] = Deferred()
        client = self.begin(answer, **changes)
        client.post(PATH)
        return client, answer

    def test_a_client_that_closed_its_half_is_read_again_after_its_answer(self) -> None:
        """L5: its end, or what it pipelined before, is found only when it is read on."""
        client, answer = self.pending(answers_half_closed=True)
        # As the reactor does it.
        client.transport.pauseProducing()
        client.protocol.readConnectionLost()
        self.assertFalse(client.dropped)
        answer.callback(ok())
        self.assertEqual(client.transport.producerState, "producing")
        client.protocol.readConnectionLost()
        self.assertTrue(client.dropped)

    def test_a_client_that_sent_much_ahead_is_read_again_after_its_answer(self) -> None:
        """Twisted's channel holds it back when it is more than a little."""
        client, answer = self.pending()
        client.send(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nX-Much: ")
        client.send(b"x" * 20_000)
        self.assertEqual(client.transport.producerState, "paused")
        answer.callback(ok())
        self.assertEqual(client.transport.producerState, "producing")
