"""Streams from upstream's bytes to the client's: framing, back-pressure, leaving, breaking."""

from __future__ import annotations

import gc
import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from gateway.calls import Call, Journal, Usage
from gateway.config import DoneMarker, Timeouts
from gateway.edge.relay import CUT_SECONDS, Relay
from gateway.upstreams.exchange import WireError
from tests.fakes import (
    BODY,
    JSON,
    LABEL,
    SSE,
    Answer,
    Client,
    Edge,
    FakeExchange,
    event,
    member,
    refused,
    rpc_error,
    sse,
    stream,
    stream_call,
)

PATH = "/v1beta/models/gemini-2.5-flash:streamGenerateContent"
ONE, TWO = event("one"), event("two", usageMetadata={"promptTokenCount": 3, "candidatesTokenCount": 4})
TERMINATOR = b"0\r\n\r\n"


class RelayCase(SynchronousTestCase):
    def begin(self, query: str = "?alt=sse", version: str = "HTTP/1.1", **changes: Any) -> None:
        """Post a request whose stream the test drives."""
        self.exchange = FakeExchange(200, SSE)
        self.world = Edge.build(self.exchange, **changes)
        self.client = self.world.connect()
        self.client.post(PATH + query, version=version)

    def flowing(self, query: str = "?alt=sse", version: str = "HTTP/1.1", **changes: Any) -> None:
        """Bring the stream to where the client has its first event."""
        self.begin(query, version, **changes)
        self.exchange.send(sse(ONE))

    @property
    def answer(self) -> Answer:
        return self.client.answer()


class FramingTests(RelayCase):
    def test_sse_bytes_are_exactly_the_one_shape(self) -> None:
        """``data: ``, one line, a blank line, also after the last; no [DONE] where alt=sse was asked for."""
        self.begin()
        self.exchange.send(b": hi\r\ndata:" + ONE + b"\r\n\r\n")
        self.exchange.send(b"data: " + TWO + b"\r\n\r\ndata: [DONE]\r\n\r\n")
        self.exchange.end()
        answer = self.answer
        self.assertEqual(answer.body, b"data: " + ONE + b"\n\ndata: " + TWO + b"\n\n")
        self.assertEqual((answer.status, answer.whole), (200, True))
        self.assertEqual(answer.headers["content-type"], "text/event-stream")

    def test_array_bytes_begin_and_end_with_the_brackets(self) -> None:
        """No newline after the last byte: Google's own Python client fails on one."""
        for query in ("?alt=json", "?$alt=json;enum-encoding=int", "?%24alt=json%3Benum-encoding%3Dint"):
            with self.subTest(query=query):
                self.begin(query)
                self.exchange.send(sse(ONE, TWO, b"[DONE]"))
                self.exchange.end()
                answer = self.answer
                self.assertEqual(answer.body, b"[" + ONE + b",\r\n" + TWO + b"]")
                self.assertEqual(answer.headers["content-type"], "application/json; charset=UTF-8")
                self.assertTrue(answer.whole)

    def test_an_array_is_flushed_element_by_element(self) -> None:
        """The first element is with the client before the second exists."""
        self.flowing("?alt=json")
        self.assertEqual((self.answer.body, self.answer.whole), (b"[" + ONE, False))

    def test_the_bare_form_is_sse_and_keeps_upstreams_done(self) -> None:
        """It is forwarded, and none is invented."""
        for payloads in ((ONE, b"[DONE]"), (ONE,)):
            with self.subTest(payloads=payloads):
                self.begin("")
                self.exchange.send(sse(*payloads))
                self.exchange.end()
                self.assertEqual(self.answer.body, sse(*payloads))
                self.assertEqual(self.answer.headers["content-type"], "text/event-stream")

    def test_the_done_marker_is_a_setting(self) -> None:
        """``never`` and ``always`` override the query."""
        for setting, query, kept in ((DoneMarker.NEVER, "", False), (DoneMarker.ALWAYS, "?alt=sse", True)):
            with self.subTest(setting=setting):
                self.begin(query, done_marker=setting)
                self.exchange.send(sse(ONE, b"[DONE]"))
                self.exchange.end()
                self.assertEqual(self.answer.body, sse(ONE, b"[DONE]") if kept else sse(ONE))

    def test_the_headers_name_request_model_credential_and_origin(self) -> None:
        """As on every answer; proxies are told not to gather events."""
        self.flowing()
        headers = self.answer.headers
        expected = {
            "x-request-id": "id-1",
            "x-antigravity-model": "gemini-2.5-flash",
            "x-antigravity-credential": LABEL,
            "x-antigravity-origin": "upstream",
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            "x-accel-buffering": "no",
            "transfer-encoding": "chunked",
        }
        self.assertEqual({name: headers.get(name) for name in expected}, expected)
        self.assertNotIn("content-length", headers)

    def test_a_stream_under_way_keeps_nothing_of_what_asked_for_it(self) -> None:
        """Thousands of them are open at a time: neither the call nor a body nor header fields, which count no more."""
        self.flowing()
        self.assertEqual(self.world.site.room.buffered, 0)
        (request,) = self.client.protocol.requests
        self.assertEqual(request.named, {})
        gc.collect()  # of what other tests left
        calls = [one for one in gc.get_objects() if type(one) is Call and one.request_id == request.journal.request_id]
        self.assertEqual(calls, [])
        self.exchange.send(sse(TWO))
        self.exchange.end()
        self.assertEqual((self.answer.body, self.answer.whole), (sse(ONE, TWO), True))

    def test_upstreams_trace_id_is_a_header_and_not_in_the_stream(self) -> None:
        """codeassist: taken from the first event."""
        account = member("token", kind="codeassist", upstream="accounts", project="p")
        self.begin(members=(account,))
        self.exchange.send(sse(b'{"response":' + ONE + b',"traceId":"trace-7"}'))
        self.exchange.end()
        self.assertEqual(self.answer.headers["x-upstream-trace-id"], "trace-7")
        self.assertEqual(self.answer.body, sse(ONE))
        self.assertEqual(self.world.ended.journal.trace_id, "trace-7")

    def test_a_whole_stream_ends_cleanly_and_the_connection_stays(self) -> None:
        """The next request goes over it."""
        self.flowing()
        self.exchange.send(sse(TWO))
        self.exchange.end()
        self.assertTrue(self.client.received.endswith(TERMINATOR))
        self.assertFalse(self.client.dropped)
        end = self.world.ended
        self.assertEqual((end.status, end.reason, end.origin), (200, "", "upstream"))
        assert end.usage is not None
        self.assertEqual((end.usage.prompt, end.usage.candidates), (3, 4))
        self.assertEqual(self.world.leases, 0)
        self.world.wire.script.append(stream(TWO))
        self.client.post(PATH + "?alt=sse")
        self.assertEqual([answer.status for answer in self.client.answers()], [200, 200])

    def test_the_journal_knows_when_the_first_byte_left(self) -> None:
        """On the monotonic clock."""
        self.begin()
        self.world.clock.advance(1.5)
        self.exchange.send(sse(ONE))
        self.world.clock.advance(1)
        self.exchange.end()
        journal = self.world.ended.journal
        self.assertEqual((journal.started, journal.first_byte), (0.0, 1.5))


class LastWriteTests(RelayCase):
    """An event with which the stream's end came goes out with the answer's end."""

    def writes(self) -> list[bytes]:
        written: list[bytes] = self.client.transport.writes
        return written

    def test_the_last_event_and_the_end_are_one_write(self) -> None:
        """Each write wakes the client once, and costs the gateway what a whole event costs it."""
        for query, body, last in (
            ("?alt=sse", sse(ONE, TWO), b"%x\r\n%b\r\n" % (len(sse(TWO)), sse(TWO)) + TERMINATOR),
            ("?alt=json", b"[" + ONE + b",\r\n" + TWO + b"]", b"]\r\n" + TERMINATOR),
        ):
            with self.subTest(query=query):
                self.flowing(query)
                self.exchange.last(sse(TWO))
                self.assertEqual((self.answer.body, self.answer.whole), (body, True))
                self.assertEqual(len(self.writes()), 2)
                self.assertTrue(self.writes()[1].endswith(last))
                end = self.world.ended
                self.assertEqual((end.status, end.bytes_out, end.usage), (200, len(body), Usage(3, 4)))

    def test_a_stream_that_came_whole_is_one_write(self) -> None:
        """Head, events and end."""
        self.world = Edge.build(stream(ONE, TWO))
        self.client = self.world.connect()
        self.client.post(PATH + "?alt=sse")
        self.assertEqual((self.answer.body, self.answer.whole), (sse(ONE, TWO), True))
        self.assertEqual(len(self.writes()), 1)

    def test_several_events_and_the_end_are_one_write(self) -> None:
        """As many as the last read brings."""
        self.flowing()
        self.exchange.last(sse(ONE, TWO, b"[DONE]"))
        self.assertEqual((self.answer.body, self.answer.whole), (sse(ONE, ONE, TWO), True))
        self.assertEqual(len(self.writes()), 2)

    def test_http_1_0_has_no_chunks_to_end_with(self) -> None:
        """The event is there, and the connection closed after it."""
        self.flowing(version="HTTP/1.0")
        self.exchange.last(sse(TWO))
        self.assertEqual(self.answer.body, sse(ONE, TWO))
        self.assertTrue(self.client.dropped)

    def test_a_large_last_event_is_not_copied(self) -> None:
        """It goes out as any other does."""
        large = event("x" * 70_000)
        for first in (True, False):
            with self.subTest(first=first):
                if first:
                    self.world = Edge.build(stream(large))
                    self.client = self.world.connect()
                    self.client.post(PATH + "?alt=sse")
                else:
                    self.flowing()
                    self.exchange.last(sse(large))
                body = sse(large) if first else sse(ONE, large)
                self.assertEqual((self.answer.body, self.answer.whole), (body, True))

    def test_what_is_held_is_let_out_where_the_end_breaks(self) -> None:
        """Usage, the events before it, and the error, and no end that would make it look whole."""
        self.flowing()
        self.exchange.last(sse(TWO, rpc_error(503, "UNAVAILABLE")))
        answer = self.answer
        self.assertIn(sse(TWO), answer.body)
        self.assertIn(b'"UNAVAILABLE"', answer.body)
        self.assertFalse(answer.whole)
        self.assertNotIn(TERMINATOR, self.client.received)
        self.assertTrue(self.client.dropped)

    def test_a_client_that_left_is_sent_nothing(self) -> None:
        """What is held goes nowhere."""
        self.flowing()
        self.client.leave()
        before = list(self.writes())
        self.exchange.last(sse(TWO))
        self.assertEqual(self.writes(), before)


class BeforeTheFirstEventTests(RelayCase):
    def test_nothing_is_written_before_the_first_good_event(self) -> None:
        """The commit rule: no status line, no header."""
        self.begin()
        self.exchange.send(b": comment\n\ndata: {")
        self.assertEqual(self.client.received, b"")

    def test_another_credential_may_still_answer(self) -> None:
        """The client sees one clean stream."""
        self.begin()
        self.world.wire.script.append(stream(TWO))
        self.exchange.end()
        self.assertEqual(self.answer.body, sse(TWO))
        self.assertEqual(len(self.world.wire.requests), 2)

    def test_a_failure_is_a_plain_error_also_for_the_array_form(self) -> None:
        """clients.md 2.3: the object itself, with its status, never wrapped in an array."""
        for query in ("?alt=sse", "?alt=json", ""):
            with self.subTest(query=query):
                world = Edge.build(refused(400, "INVALID_ARGUMENT", message="bad"))
                client = world.connect()
                client.post(PATH + query)
                answer = client.answer()
                self.assertEqual((answer.status, answer.json["error"]["message"]), (400, "bad"))
                self.assertEqual(answer.headers["content-type"], "application/json; charset=UTF-8")

    def test_a_client_that_leaves_closes_upstream_and_blames_nobody(self) -> None:
        """L1: 499, no second attempt."""
        self.begin()
        self.client.leave()
        self.assertTrue(self.exchange.aborted)
        end = self.world.ended
        self.assertEqual((end.status, end.reason), (499, "CLIENT_LEFT"))
        self.assertEqual((self.world.leases, len(self.world.wire.requests)), (0, 1))
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_a_client_that_leaves_before_the_head_cancels_the_request(self) -> None:
        """L1: while upstream has not answered at all."""
        self.world = Edge.build()
        self.world.wire.script.append(self.world.wire.hold())
        client = self.world.connect()
        client.post(PATH)
        client.leave()
        self.assertEqual((self.world.wire.cancelled, self.world.leases), (1, 0))
        self.assertEqual(self.world.ended.status, 499)


class BackPressureTests(RelayCase):
    def test_a_slow_client_pauses_upstream_and_a_fast_one_resumes_it(self) -> None:
        """L3: the transport's pause is upstream's pause."""
        self.flowing()
        producer = self.client.transport.producer
        producer.pauseProducing()
        self.assertTrue(self.exchange.paused)
        self.exchange.send(sse(TWO))
        self.assertEqual(self.answer.body, sse(ONE))
        producer.resumeProducing()
        self.assertFalse(self.exchange.paused)
        self.assertEqual(self.answer.body, sse(ONE, TWO))

    def test_a_client_that_is_slow_from_the_first_event_on_pauses_upstream(self) -> None:
        """L3: an image fills the client's buffer before the stream is even attached."""
        self.begin()
        transport = self.client.transport
        write = transport.write

        class Full:
            """What a real transport does when its buffer is full."""

            def __call__(self, data: bytes) -> None:
                write(data)
                transport.producer.pauseProducing()

        transport.write = Full()  # type: ignore[method-assign]
        transport.writeSequence = lambda data: transport.write(b"".join(data))  # type: ignore[method-assign]
        self.exchange.send(sse(ONE))
        self.assertTrue(self.exchange.paused)
        transport.producer.resumeProducing()
        self.assertFalse(self.exchange.paused)

    def test_a_slow_client_outlasts_upstreams_idle_limit(self) -> None:
        """C6: its slowness is not upstream's silence."""
        self.flowing()
        self.client.transport.producer.pauseProducing()
        self.world.clock.advance(Timeouts().idle * 5)
        self.assertFalse(self.exchange.aborted)

    def test_a_slow_client_that_leaves_closes_upstream(self) -> None:
        """L2: although upstream is paused."""
        self.flowing()
        self.client.transport.producer.pauseProducing()
        self.client.leave()
        self.assertTrue(self.exchange.aborted)
        self.assertEqual(self.world.leases, 0)

    def test_the_relay_is_a_push_producer(self) -> None:
        """Twisted's interface; being told to stop closes upstream."""
        stopped: list[str] = []

        class Stream:
            def abort(self) -> None:
                stopped.append("aborted")

        fake: Any = Stream()
        request: Any = Journal("x")
        relay = Relay(request, stream_call(), fake, Clock())
        self.assertTrue(verifyObject(IPushProducer, relay))
        relay.stopProducing()
        self.assertEqual(stopped, ["aborted"])


class LeavingTests(RelayCase):
    def test_a_client_that_leaves_mid_stream_closes_upstream(self) -> None:
        """L2: at once; the credential is free and as good as before."""
        self.flowing()
        self.client.leave()
        self.assertTrue(self.exchange.aborted)
        self.assertEqual(self.world.leases, 0)
        end = self.world.ended
        self.assertEqual((end.status, end.reason), (200, "CLIENT_LEFT"))
        self.assertEqual(self.world.recorder.out, [])
        self.assertEqual(self.world.clock.getDelayedCalls(), [])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_what_a_leaving_client_had_received_is_counted(self) -> None:
        """Usage that upstream had told by then is in the journal: it was billed."""
        self.flowing()
        self.exchange.send(sse(TWO))
        self.client.leave()
        usage = self.world.ended.usage
        assert usage is not None
        self.assertEqual((usage.prompt, usage.candidates), (3, 4))

    def test_upstream_that_goes_on_after_the_client_left_is_not_heard(self) -> None:
        """Its late bytes hurt nobody."""
        self.flowing()
        self.client.leave()
        self.exchange.aborted = False
        self.exchange.send(sse(TWO))
        self.exchange.end(WireError("reset"))
        self.assertEqual(len(self.world.recorder.ends), 1)
        self.assertEqual(self.flushLoggedErrors(), [])


class BreakingTests(RelayCase):
    def broken(self, client: Client) -> dict[str, Any]:
        """Return the error event that ends an SSE answer which never ended cleanly."""
        answer = client.answer()
        self.assertFalse(answer.whole)
        self.assertNotIn(TERMINATOR, client.received)
        *_, last, rest = answer.body.split(b"\n\n")
        self.assertEqual(rest, b"")
        self.assertTrue(last.startswith(b"data: "))
        error: dict[str, Any] = json.loads(last[6:])["error"]
        return error

    def test_a_broken_stream_is_one_error_event_and_a_dropped_connection(self) -> None:
        """C7, C6, C12: whatever broke it; the terminating chunk is missing."""
        for kind, code in (("truncated", 502), ("reset", 502), ("timeout-idle", 504), ("too-large", 502)):
            with self.subTest(kind=kind):
                self.flowing()
                self.exchange.end(WireError(kind))
                error = self.broken(self.client)
                self.assertEqual(error["code"], code)
                self.assertEqual(self.answer.body.count(b'"error"'), 1)
                self.assertTrue(self.client.dropped)
                self.client.leave()
                end = self.world.ended
                self.assertEqual((end.status, end.reason), (200, error["details"][0]["reason"]))
                self.assertEqual(self.world.leases, 0)
                self.assertEqual(self.world.clock.getDelayedCalls(), [])
                self.assertEqual(self.flushLoggedErrors(), [])

    def test_silence_breaks_a_stream(self) -> None:
        """C6: upstream is closed, the client told."""
        self.flowing()
        self.world.clock.advance(Timeouts().idle)
        self.assertTrue(self.exchange.aborted)
        self.assertEqual(self.broken(self.client)["status"], "DEADLINE_EXCEEDED")

    def test_usage_told_just_before_an_error_event_is_counted(self) -> None:
        """Both may come in one read: it was billed."""
        self.flowing()
        self.exchange.send(sse(TWO, rpc_error(503, "UNAVAILABLE", "overloaded")))
        self.client.leave()
        end = self.world.ended
        assert end.usage is not None
        self.assertEqual((end.usage.prompt, end.usage.candidates, end.reason), (3, 4, "UPSTREAM_ERROR_EVENT"))

    def test_an_error_event_of_upstreams_is_passed_on_and_the_connection_dropped(self) -> None:
        """U17: its own bytes, the events before it too; what follows it does not count."""
        self.flowing()
        error = rpc_error(503, "UNAVAILABLE", "overloaded")
        self.exchange.send(sse(TWO, error, event("three")))
        self.assertEqual(self.answer.body, sse(ONE, TWO, error))
        self.assertFalse(self.answer.whole)
        self.assertTrue(self.client.dropped and self.exchange.aborted)

    def test_an_error_event_that_came_with_the_first_is_passed_on_and_dropped(self) -> None:
        """U17: in one read with the event that committed."""
        self.begin()
        error = rpc_error(503, "UNAVAILABLE", "overloaded")
        self.exchange.send(sse(ONE, error))
        self.assertEqual(self.answer.body, sse(ONE, error))
        self.assertFalse(self.answer.whole)
        self.assertTrue(self.client.dropped and self.exchange.aborted)

    def test_a_broken_array_is_only_dropped(self) -> None:
        """A ``data:`` line would corrupt it; its closing bracket never comes."""
        for broken in ("end", "event"):
            with self.subTest(broken=broken):
                self.flowing("?alt=json")
                if broken == "end":
                    self.exchange.end(WireError("reset"))
                else:
                    self.exchange.send(sse(rpc_error(503, "UNAVAILABLE")))
                self.assertEqual((self.answer.body, self.answer.whole), (b"[" + ONE, False))
                self.assertNotIn(TERMINATOR, self.client.received)
                self.assertTrue(self.client.dropped)

    def test_a_client_that_does_not_read_the_rest_is_reset(self) -> None:
        """A close waits for what is unsent; after a while it does not any more."""
        self.flowing()
        self.exchange.end(WireError("reset"))
        self.world.clock.advance(CUT_SECONDS - 0.1)
        self.assertFalse(self.client.reset)
        self.world.clock.advance(0.2)
        self.assertTrue(self.client.reset)

    def test_an_http_1_0_client_is_reset(self) -> None:
        """There the connection's end is the answer's end, so that a close would look whole."""
        self.flowing(version="HTTP/1.0")
        self.assertNotIn("transfer-encoding", self.answer.headers)
        self.exchange.end(WireError("reset"))
        self.world.clock.advance(0)
        self.assertTrue(self.client.reset)

    def test_an_http_1_0_client_gets_a_whole_stream_and_a_close(self) -> None:
        """Without chunks."""
        self.flowing(version="HTTP/1.0")
        self.exchange.end()
        self.assertEqual(self.answer.body, sse(ONE))
        self.assertTrue(self.client.dropped)
        self.assertFalse(self.client.reset)

    def test_a_fault_of_ours_mid_stream_never_ends_it_cleanly(self) -> None:
        """P13: an error event, no terminating chunk, no traceback; the fault is in the log."""

        class Broken(FakeExchange):
            def resume(self) -> None:
                raise ZeroDivisionError

        exchange = Broken(200, SSE)
        # It is paused at the second read, and resumed when the first has been written.
        exchange.send(sse(ONE))
        exchange.send(sse(ONE))
        self.world = Edge.build(exchange)
        self.client = self.world.connect()
        self.client.post(PATH + "?alt=sse")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        error = self.broken(self.client)
        self.assertEqual((error["code"], error["status"]), (500, "INTERNAL"))
        self.assertNotIn("ZeroDivision", str(error))
        self.assertTrue(self.client.dropped and exchange.aborted)
        self.client.leave()
        self.assertEqual((self.world.leases, len(self.world.recorder.ends)), (0, 1))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_a_fault_of_ours_before_the_first_byte_is_a_plain_500(self) -> None:
        """P13: nothing was written, so nothing has to be cut."""

        class Broken(FakeExchange):
            def deliver(self, receiver: Any) -> None:
                super().deliver(receiver)
                receiver.attach = self.fail

            def fail(self, sink: object) -> None:
                raise ZeroDivisionError

        exchange = Broken(200, SSE)
        self.world = Edge.build(exchange)
        self.client = self.world.connect()
        self.client.post(PATH + "?alt=sse")
        exchange.send(sse(ONE))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((self.answer.status, self.answer.whole), (500, True))
        self.assertTrue(exchange.aborted)
        self.assertEqual((self.world.leases, len(self.world.recorder.ends)), (0, 1))

    def test_the_lease_of_a_broken_stream_is_free_at_once(self) -> None:
        """However long its client takes to go."""
        self.flowing()
        self.exchange.end(WireError("reset"))
        self.assertEqual(self.world.leases, 0)


class UnaryTests(SynchronousTestCase):
    PATH = "/v1beta/models/gemini-2.5-flash:generateContent"

    def test_a_client_that_leaves_during_a_unary_call_closes_upstream(self) -> None:
        """L1: the credential is free and unblamed."""
        exchange = FakeExchange(200, JSON)
        world = Edge.build(exchange)
        client = world.connect()
        client.post(self.PATH, BODY)
        self.assertEqual(world.leases, 1)
        client.leave()
        self.assertTrue(exchange.aborted)
        self.assertEqual((world.leases, world.ended.status, world.ended.reason), (0, 499, "CLIENT_LEFT"))

    def test_a_client_that_leaves_while_a_token_is_fetched_frees_its_lease(self) -> None:
        """L1: nothing goes upstream."""
        from tests.fakes import FakeTokens

        world = Edge.build(members=(member("a", FakeTokens(Deferred())),))
        client = world.connect()
        client.post(self.PATH)
        client.leave()
        self.assertEqual((world.leases, world.wire.requests), (0, []))
        self.assertEqual(world.ended.status, 499)
