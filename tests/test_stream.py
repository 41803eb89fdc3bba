"""A stream from its first event on: the commit rule, its clocks, its pauses, and every split of its bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import Call, Event, Framing
from gateway.config import UpstreamConfig
from gateway.dialects.gemini import StreamEncoder
from gateway.routing.silence import Silences
from gateway.routing.stream import EventStream
from gateway.upstreams import kinds
from gateway.upstreams.exchange import WireError
from tests.fakes import SSE, FakeExchange, event, rpc_error, run, sse, stream_call

UPSTREAM = kinds.build(UpstreamConfig("studio", "aistudio", ("https://one.example",)))
ENVELOPED = kinds.build(UpstreamConfig("accounts", "codeassist", ("https://two.example",)))
IDLE = 30.0


class FakeSink:
    """Takes a stream and keeps what it was given."""

    def __init__(self, stream: EventStream | None = None) -> None:
        self.data: list[bytes] = []
        self.reads: list[int] = []
        self.ends: list[str] = []
        self.foretold = 0
        self.pauses = stream

    def event(self, event: Event) -> None:
        self.events([event])

    def events(self, events: list[Event]) -> None:
        self.data += [one.data for one in events]
        self.reads.append(len(events))
        if self.pauses is not None:
            self.pauses.pause()

    def ending(self) -> None:
        self.foretold += 1

    def ended(self, error: WireError | None) -> None:
        self.ends.append("whole" if error is None else error.kind)


class StreamCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.exchange = FakeExchange(200, SSE)
        self.stream = EventStream(self.exchange, UPSTREAM.unwrap, Silences(self.clock, IDLE), 1000)
        self.sink = FakeSink()

    def first(self, seconds: float = 10.0) -> Deferred[Event]:
        return run(self.stream.first(seconds))

    def committed(self) -> None:
        """Bring the stream to where a sink has its first event."""
        first = self.first()
        self.exchange.send(sse(event("one")))
        self.successResultOf(first)
        self.stream.attach(self.sink)


class CommitTests(StreamCase):
    def test_the_first_event_is_returned_and_still_given_to_the_sink(self) -> None:
        """It decides on the commit and is part of the answer."""
        first = self.first()
        self.exchange.send(sse(event("one")))
        self.assertEqual(self.successResultOf(first).data, event("one"))
        self.stream.attach(self.sink)
        self.assertEqual(self.sink.data, [event("one")])
        self.assertEqual(self.exchange.headers, {})

    def test_half_an_event_commits_nothing(self) -> None:
        """Until an event is whole another attempt is free."""
        first = self.first()
        self.exchange.send(sse(event("one"))[:-2])
        self.assertNoResult(first)

    def test_upstream_waits_between_a_read_after_the_first_event_and_the_sink(self) -> None:
        """Nobody takes its bytes yet.  One read more is held, because the sink nearly always comes before it."""
        self.first()
        self.exchange.send(sse(event("one")))
        paused = [self.exchange.paused]
        self.exchange.send(sse(event("two")))
        paused.append(self.exchange.paused)
        self.stream.attach(self.sink)
        self.exchange.send(sse(event("three")))
        self.assertEqual((paused, self.exchange.paused), ([False, True], False))
        self.assertEqual(self.sink.data, [event("one"), event("two"), event("three")])

    def test_a_stream_that_nobody_takes_yet_is_late_with_nothing(self) -> None:
        """The first event ends the wait for it; the clock of silence begins with the sink."""
        first = self.first()
        self.exchange.send(sse(event("one")))
        self.clock.advance(10 * IDLE)
        self.stream.attach(self.sink)
        self.clock.advance(IDLE - 0.001)
        self.assertEqual((self.successResultOf(first).data, self.sink.ends), (event("one"), []))
        self.clock.advance(0.001)
        self.assertEqual(self.sink.ends, ["timeout-idle"])

    def test_events_that_came_with_the_first_are_given_in_one_go(self) -> None:
        """In their order."""
        self.first()
        self.exchange.send(sse(event("one"), event("two"), event("three")))
        self.stream.attach(self.sink)
        self.assertEqual(self.sink.data, [event("one"), event("two"), event("three")])
        self.assertEqual(self.sink.reads, [3])

    def test_a_stream_that_ends_without_an_event_has_failed(self) -> None:
        """Before the commit: ``empty-stream``, comments and blank lines notwithstanding."""
        first = self.first()
        self.exchange.send(b": hello\n\n\n\n")
        self.exchange.end()
        self.assertEqual(self.failureResultOf(first, WireError).value.kind, "empty-stream")

    def test_a_done_marker_alone_is_no_event(self) -> None:
        """There is nothing in it for a client."""
        first = self.first()
        self.exchange.send(sse(b"[DONE]"))
        self.assertNoResult(first)
        self.exchange.end()
        self.assertEqual(self.failureResultOf(first, WireError).value.kind, "empty-stream")

    def test_a_first_event_that_is_no_json_object_has_failed(self) -> None:
        """Before the commit it is upstream's fault; its connection is closed."""
        for payload in (b"<html>", b"[1]", b'"text"', b'{"a":'):
            with self.subTest(payload=payload):
                self.setUp()
                first = self.first()
                self.exchange.send(sse(payload))
                self.assertEqual(self.failureResultOf(first, WireError).value.kind, "not-json")
                self.assertTrue(self.exchange.aborted)

    def test_a_first_event_that_is_an_error_shows_it(self) -> None:
        """U17: whoever waits for it judges it and aborts; nothing has gone to the client."""
        first = self.first()
        self.exchange.send(sse(rpc_error(429, "RESOURCE_EXHAUSTED")))
        self.assertEqual(self.successResultOf(first).error, rpc_error(429, "RESOURCE_EXHAUSTED"))

    def test_a_stream_that_breaks_before_its_first_event_raises_what_broke_it(self) -> None:
        """C7: nothing is committed."""
        first = self.first()
        self.exchange.end(WireError("truncated"))
        self.assertEqual(self.failureResultOf(first, WireError).value.kind, "truncated")

    def test_a_last_event_without_its_blank_line_counts(self) -> None:
        """A cleanly ended body completes it, also where it is the only one."""
        first = self.first()
        self.exchange.send(sse(event("one"))[:-1])
        self.exchange.end()
        self.successResultOf(first)
        self.stream.attach(self.sink)
        self.assertEqual((self.sink.data, self.sink.ends), ([event("one")], ["whole"]))

    def test_a_later_event_that_is_no_json_breaks_the_stream(self) -> None:
        """C14: what came before it is passed on, and no client is given what none can read."""
        self.committed()
        self.exchange.send(sse(event("two"), b"not json", event("three")))
        self.assertEqual(self.sink.data[-1], event("two"))
        self.assertEqual(self.sink.ends, ["not-json"])
        self.assertTrue(self.exchange.aborted)

    def test_a_later_event_that_comes_alone_and_is_no_json_breaks_the_stream(self) -> None:
        """C14: the short way for such events is as strict as the other."""
        for payload in (b'{"a":', b'{"a":1}{', b"{]", b'{"a":"\xff"'):
            with self.subTest(payload=payload):
                self.setUp()
                self.committed()
                before = list(self.sink.data)
                self.exchange.send(sse(payload))
                self.assertEqual((self.sink.data, self.sink.ends), (before, ["not-json"]))
                self.assertTrue(self.exchange.aborted)

    def test_an_envelope_with_nothing_in_it_is_no_event(self) -> None:
        """Neither the first one, which would commit the stream, nor a later one."""
        self.stream = EventStream(
            self.exchange, lambda data: Event(b"" if data == b"{}" else data), Silences(self.clock, IDLE), 1000
        )
        first = self.first()
        self.exchange.send(sse(b"{}"))
        self.assertNoResult(first)
        self.exchange.send(sse(event("one"), b"{}", event("two")))
        self.assertEqual(self.successResultOf(first).data, event("one"))
        self.stream.attach(self.sink)
        self.assertEqual(self.sink.data, [event("one"), event("two")])

    def test_an_event_over_the_limit_breaks_the_stream(self) -> None:
        """C12: before the commit and after it, with upstream closed."""
        first = self.first()
        self.exchange.send(b"data: " + b"x" * 1001)
        self.assertEqual(self.failureResultOf(first, WireError).value.kind, "too-large")
        self.assertTrue(self.exchange.aborted)
        self.setUp()
        self.committed()
        self.exchange.send(b"data: " + b"x" * 1001)
        self.assertEqual(self.sink.ends, ["too-large"])
        self.assertTrue(self.exchange.aborted)


class ClockTests(StreamCase):
    def test_no_first_event_in_time_fails_and_closes_upstream(self) -> None:
        """C5: to the millisecond; a comment is no event and does not put it off."""
        first = self.first(10)
        self.clock.advance(9)
        self.exchange.send(b": still here\n\n")
        self.clock.advance(0.999)
        self.assertNoResult(first)
        self.clock.advance(0.001)
        self.assertEqual(self.failureResultOf(first, WireError).value.kind, "timeout-first-byte")
        self.assertTrue(self.exchange.aborted)

    def test_silence_after_the_first_event_ends_the_stream(self) -> None:
        """C6: the idle timeout, counted from the last byte."""
        self.committed()
        self.clock.advance(IDLE - 0.001)
        self.exchange.send(b"data: ")
        self.clock.advance(IDLE - 0.001)
        self.assertEqual(self.sink.ends, [])
        self.clock.advance(0.001)
        self.assertEqual(self.sink.ends, ["timeout-idle"])
        self.assertTrue(self.exchange.aborted)

    def test_a_slow_client_is_not_upstreams_silence(self) -> None:
        """No idle timeout runs while the client has the stream paused."""
        self.committed()
        self.stream.pause()
        self.clock.advance(10 * IDLE)
        self.assertEqual(self.sink.ends, [])
        self.stream.resume()
        self.clock.advance(IDLE)
        self.assertEqual(self.sink.ends, ["timeout-idle"])

    def test_a_whole_stream_leaves_no_timer(self) -> None:
        """Neither does one that was aborted."""
        self.committed()
        self.exchange.end()
        self.assertEqual(self.sink.ends, ["whole"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.setUp()
        self.committed()
        self.stream.abort()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class SilencesTests(SynchronousTestCase):
    """Many streams, one timer."""

    class Speaker:
        heard = 0.0

        def __init__(self) -> None:
            self.told = 0
            self.then: Callable[[], object] = lambda: None

        def silent(self) -> None:
            self.told += 1
            self.then()

    def setUp(self) -> None:
        self.clock = Clock()
        self.silences = Silences(self.clock, IDLE)
        self.one, self.two = self.Speaker(), self.Speaker()

    def test_each_is_told_at_its_own_time(self) -> None:
        """Once, by a timer that they share."""
        self.silences.listen(self.one)
        self.clock.advance(10)
        self.silences.listen(self.two)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        told = []
        for seconds in (IDLE - 10.25, 0.25, 9.75, 0.25, IDLE):
            self.clock.advance(seconds)
            told.append((self.one.told, self.two.told))
        self.assertEqual(told, [(0, 0), (1, 0), (1, 0), (1, 1), (1, 1)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_speaks_is_put_off(self) -> None:
        """From when it was heard last."""
        self.silences.listen(self.one)
        self.clock.advance(IDLE - 1)
        self.one.heard = self.clock.seconds()
        self.clock.advance(IDLE - 0.25)
        self.assertEqual(self.one.told, 0)
        self.clock.advance(0.25)
        self.assertEqual(self.one.told, 1)

    def test_the_end_of_one_may_be_that_of_another(self) -> None:
        """Who leaves is told nothing more, nor is anybody twice who is listened to again meanwhile."""
        three = self.Speaker()
        for speaker in (self.one, three):
            self.silences.listen(speaker)
        self.clock.advance(1)
        self.silences.listen(self.two)
        self.one.then = three.then = lambda: self.silences.leave(self.two)
        self.clock.advance(3 * IDLE)
        self.assertEqual((self.one.told, self.two.told, three.told), (1, 0, 1))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class FlowTests(StreamCase):
    def test_a_pause_reaches_upstream_and_so_does_its_end(self) -> None:
        """C18: upstream's bytes wait in its socket."""
        self.committed()
        self.stream.pause()
        self.assertTrue(self.exchange.paused)
        self.exchange.send(sse(event("two")))
        self.assertEqual(self.sink.data, [event("one")])
        self.stream.resume()
        self.assertEqual(self.sink.data, [event("one"), event("two")])

    def test_a_sink_that_pauses_on_its_first_events_stays_paused(self) -> None:
        """L3: attaching is not resuming: a first event may fill the client's buffer by itself."""
        self.first()
        self.exchange.send(sse(event("one")))
        self.stream.attach(FakeSink(self.stream))
        self.assertTrue(self.exchange.paused)
        self.clock.advance(10 * IDLE)
        self.assertFalse(self.exchange.aborted)

    def test_pausing_twice_and_resuming_once_flows(self) -> None:
        """Transports repeat themselves."""
        self.committed()
        self.stream.pause()
        self.stream.pause()
        self.stream.resume()
        self.stream.resume()
        self.assertFalse(self.exchange.paused)
        self.clock.advance(IDLE)
        self.assertEqual(self.sink.ends, ["timeout-idle"])

    def test_cancelling_the_wait_for_the_first_event_closes_upstream(self) -> None:
        """L1: the client has left."""
        first = self.first()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertTrue(self.exchange.aborted)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_aborted_stream_says_nothing_more(self) -> None:
        """Whatever still comes."""
        self.committed()
        self.stream.abort()
        self.stream.data(sse(event("two")))
        self.stream.ended(None)
        self.stream.resume()
        self.assertEqual((self.sink.data, self.sink.ends), ([event("one")], []))

    def test_a_stream_that_ended_before_it_was_taken_tells_the_sink(self) -> None:
        """Its events first, then its end."""
        first = self.first()
        self.stream.data(sse(event("one")))
        self.stream.ended(WireError("truncated"))
        self.successResultOf(first)
        self.stream.attach(self.sink)
        self.assertEqual((self.sink.data, self.sink.ends), ([event("one")], ["truncated"]))


def through(pieces: list[bytes], upstream: Any, call: Call) -> bytes:
    """Return what a client gets of a body that comes in these pieces."""
    exchange = FakeExchange(200, SSE)
    stream = EventStream(exchange, upstream.unwrap, Silences(Clock(), IDLE), 10_000)
    encoder = StreamEncoder(call)
    out: list[bytes] = []

    class Sink:
        def event(self, event: Event) -> None:
            self.events([event])

        def events(self, events: list[Event]) -> None:
            out.append(encoder.encode(events))

        def ending(self) -> None:
            out.append(b"")

        def ended(self, error: WireError | None) -> None:
            out.append(encoder.end() if error is None else b"broken")

    first = run(stream.first(10))
    for piece in pieces[:-1]:
        exchange.send(piece)
    if not first.called:
        exchange.send(pieces[-1])
        exchange.end()
        stream.attach(Sink())
    else:
        stream.attach(Sink())
        exchange.send(pieces[-1])
        exchange.end()
    return b"".join(out)


GOLDEN_PAYLOADS = (
    b'{"candidates":[{"content":{"parts":[{"text":"gr\xc3\xbc\xc3\x9fe \xf0\x9f\x8c\x8d"}]}}],"n":1.50}',
    b'{"candidates":[{"content":{"parts":[{"text":"data: \\n\\n"}]},"finishReason":"STOP"}]}',
)


def golden(line: bytes, wrap: bool = False) -> bytes:
    """A stream with everything in it that a client must not see."""
    payloads = [b'{"response":' + one + b',"traceId":"t"}' for one in GOLDEN_PAYLOADS] if wrap else GOLDEN_PAYLOADS
    lines = [b"\xef\xbb\xbf: a comment", b"", b"id: 1", b"data: " + payloads[0], b""]
    lines += [b"event: message", b"data:" + payloads[1], b"retry: 5", b"", b"", b"data: [DONE]", b"", b""]
    return line.join(lines)


class EverySplitTests(SynchronousTestCase):
    """A golden stream cut in two at every byte, in each framing, gives the client the same bytes."""

    def check(self, body: bytes, upstream: Any, call: Call, expected: bytes) -> None:
        for at in range(len(body) + 1):
            self.assertEqual(through([body[:at], body[at:]], upstream, call), expected, f"cut at {at}")

    SSE_BYTES = b"".join(b"data: " + payload + b"\n\n" for payload in GOLDEN_PAYLOADS)

    def test_sse_with_any_line_end_is_the_one_shape_that_all_clients_take(self) -> None:
        """LF, CRLF and CR; no comment, no other field, no BOM, no [DONE]."""
        for line in (b"\n", b"\r\n", b"\r"):
            with self.subTest(line=line):
                self.check(golden(line), UPSTREAM, stream_call(), self.SSE_BYTES)

    def test_the_bare_form_keeps_an_upstream_done(self) -> None:
        """Where no ``alt`` was given."""
        expected = self.SSE_BYTES + b"data: [DONE]\n\n"
        self.check(golden(b"\n"), UPSTREAM, stream_call(forwards_done=True), expected)

    def test_an_array_opens_and_closes_with_its_brackets(self) -> None:
        """Nothing before the one, nothing after the other."""
        expected = b"[" + b",\r\n".join(GOLDEN_PAYLOADS) + b"]"
        self.check(golden(b"\n"), UPSTREAM, stream_call(framing=Framing.ARRAY), expected)

    def test_an_envelope_is_taken_off_and_the_rest_keeps_its_bytes(self) -> None:
        """codeassist: ``response`` alone goes to the client."""
        self.check(golden(b"\r\n", wrap=True), ENVELOPED, stream_call(), self.SSE_BYTES)

    def test_byte_by_byte_is_no_different(self) -> None:
        """The worst of all splits."""
        body = golden(b"\r\n")
        pieces = [body[at : at + 1] for at in range(len(body))]
        exchange = FakeExchange(200, SSE)
        stream = EventStream(exchange, UPSTREAM.unwrap, Silences(Clock(), IDLE), 10_000)
        sink = FakeSink()
        first = run(stream.first(10))
        attached = False
        for piece in pieces:
            exchange.send(piece)
            if first.called and not attached:
                attached = True
                stream.attach(sink)
        exchange.end()
        encoder = StreamEncoder(stream_call())
        got = encoder.encode([Event(data) for data in sink.data])
        self.assertEqual((got, sink.ends), (self.SSE_BYTES, ["whole"]))
