"""Traces: what is taken down, that nothing waits for it, and that what is lost is counted.  One has a thread."""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from gateway.calls import Attempt, Ended, Journal, Secret
from gateway.config import OtelConfig
from gateway.operations import tracing
from gateway.operations.recorders import Recorders
from gateway.operations.tracing import QUEUE_MOST, Tracing
from gateway.traces import Traces
from tests.fakes import BODY, Edge, FakeRecorder, World, config, member, ok, reason, refused
from tests.processes import GENERATE
from tests.test_tracecontext import PARENT, SPAN, TRACE, contexts

OTEL = OtelConfig("http://127.0.0.1:4318")


def ended(sampled: bool = True, path: str = GENERATE) -> Ended:
    """A request's end."""
    trace = contexts(1.0 if sampled else 0.0).begin({})
    return Ended(Journal("id-1", path=path, trace=trace), 200, "", "upstream", 0.5, 1, 2)


class Collector:
    """Takes, refuses, breaks, or is slow; see tracing.Exporter."""

    def __init__(self) -> None:
        self.batches: list[list[Ended]] = []
        self.refuses = False
        self.breaks = False
        self.over = threading.Event()
        self.goes = threading.Event()
        self.goes.set()

    def export(self, batch: Any) -> int:
        self.goes.wait(30)
        if self.breaks:
            raise ValueError("a secret")
        if self.refuses or self.over.is_set():
            return len(batch)
        self.batches.append([event for event, _ in batch])
        return 0

    def shutdown(self) -> None:
        self.over.set()
        self.goes.set()


class RecorderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.tracing = Tracing(OTEL, {}, Clock())

    def test_requests_that_are_not_traced_cost_nothing(self) -> None:
        """Without a trace, not sampled, or asked every few seconds."""
        for event in (Ended(Journal("id"), 200, "", "", 0.1, 0, 0), ended(False), ended(path="/healthz")):
            self.tracing.ended(event)
        self.tracing.attempted(Journal("id"), Attempt("a", "b", 200, "", 0.1))
        self.assertEqual(len(self.tracing._queue), 0)

    def test_queue_is_bounded_and_what_is_beyond_it_counted(self) -> None:
        """A collector that hangs costs so much memory and no more."""
        for _ in range(QUEUE_MOST + 5):
            self.tracing.ended(ended())
        self.assertEqual((len(self.tracing._queue), self.tracing.missed), (QUEUE_MOST, 5))

    def test_recorder_can_be_exchanged_while_others_stay(self) -> None:
        """As a reload does; with nobody in its place it is as if it had never been."""
        stays, first, second = FakeRecorder(), FakeRecorder(), FakeRecorder()
        recorders = Recorders(stays)
        for gone, come in ((None, first), (first, second), (second, None)):
            recorders.exchange(gone, come)
            recorders.ended(ended())
        self.assertEqual((len(stays.ends), len(first.ends), len(second.ends)), (3, 1, 1))


class ThreadTests(TestCase):
    """The thread that tells."""

    def setUp(self) -> None:
        self.collector = Collector()
        self.tracing = Tracing(OTEL, {}, reactor, make=lambda config, kinds: self.collector)
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self._line)
        self.addCleanup(globalLogPublisher.removeObserver, self._line)
        self.addCleanup(self._joined)
        self.addCleanup(self.collector.shutdown)

    def _joined(self) -> Deferred[None]:
        """What a thread still says is not to be heard by the next test."""
        thread = self.tracing._thread
        return deferToThread(thread.join, 30) if thread is not None else succeed(None)

    def _line(self, event: Any) -> None:
        if event.get("log_namespace") == "gateway.tracing":
            self.lines.append(formatEvent(event))

    async def test_everything_is_told_before_the_end(self) -> None:
        """In batches; nobody who is served waits for it."""
        for _ in range(600):
            self.tracing.ended(ended())
        self.tracing.start()
        await self.tracing.stop()
        sizes = [len(batch) for batch in self.collector.batches]
        self.assertEqual((sum(sizes), max(sizes)), (600, tracing.BATCH_MOST))
        self.assertEqual((self.tracing.told, self.tracing.missed), (600, 0))

    async def test_collector_that_refuses_is_told_of_once(self) -> None:
        """What it does not take is counted, and one line says so, not one for each batch."""
        self.collector.refuses = True
        for _ in range(600):
            self.tracing.ended(ended())
        self.tracing.start()
        await self.tracing.stop()
        self.assertEqual((self.tracing.told, self.tracing.missed), (0, 600))
        self.assertEqual(len(self.lines), 1, self.lines)
        self.assertIn("http://127.0.0.1:4318 does not take them", self.lines[0])

    async def test_what_cannot_be_made_is_lost_and_no_more(self) -> None:
        """The thread goes on, and the log has the fault's kind alone."""
        self.collector.breaks = True
        self.tracing.ended(ended())
        self.tracing.start()
        await self.tracing.stop()
        self.assertEqual(self.tracing.missed, 1)
        self.assertIn("(ValueError)", self.lines[0])
        self.assertNotIn("a secret", str(self.lines))

    async def test_collector_that_hangs_holds_no_end_up(self) -> None:
        """Whoever waits for the end may give up; what was still to be told is told no more."""
        self.collector.goes.clear()
        self.tracing.ended(ended())
        self.tracing.start()
        waiting = self.tracing.stop()
        waiting.cancel()
        await waiting
        self.assertTrue(self.collector.over.is_set())

    async def test_library_that_is_broken_costs_traces_alone(self) -> None:
        """As where it was removed while the gateway ran."""
        def broken(config: Any, kinds: Any) -> Any:
            raise ImportError("no")

        self.tracing = Tracing(OTEL, {}, reactor, make=broken)
        self.tracing.start()
        await self.tracing.stop()
        self.assertEqual(len(self.flushLoggedErrors(ImportError)), 1)


class FollowingTests(SynchronousTestCase):
    """Who traces, as the configuration asks for it."""

    def setUp(self) -> None:
        self.recorders = Recorders()
        self.traces = Traces(self.recorders, Clock())
        self.site: Any = World.build().composition.site

    def follow(self, otel: OtelConfig) -> None:
        self.traces.follow(config(otel=otel), self.site)

    def test_nobody_does_unless_asked_for(self) -> None:
        """No recorder and no context: a request pays for neither."""
        self.follow(OtelConfig())
        self.assertIsNone(self.site.contexts)
        self.assertEqual(len(self.recorders._ended), 0)

    def test_reload_begins_changes_and_ends_it(self) -> None:
        """What was counted stays counted; the same section changes nothing."""
        self.follow(OTEL)
        first = self.traces._tracing
        assert first is not None
        first.told = 3
        begun = self.site.contexts
        self.follow(OTEL)
        self.assertIs(self.site.contexts, begun)
        self.follow(OtelConfig("http://127.0.0.1:4318", sample=0.5))
        self.assertEqual((self.site.contexts.sample, self.traces.told, len(self.recorders._ended)), (0.5, 3, 1))
        self.follow(OtelConfig())
        self.assertEqual((self.site.contexts, self.traces.told, len(self.recorders._ended)), (None, 3, 0))

    def test_collectors_key_is_not_shown(self) -> None:
        """Neither the configuration's text nor a traceback has it."""
        self.assertNotIn("canary", repr(OtelConfig("http://x", (("authorization", Secret("Bearer canary")),))))


class PathTests(SynchronousTestCase):
    """From a client's header to upstream's."""

    def sent(self, propagates: bool, *script: Any) -> tuple[Edge, Any]:
        world = Edge.build(*script, members=(member("a"), member("b")))
        world.site.contexts = contexts(propagates=propagates)
        world.recorder = Tracing(OTEL, {}, Clock())  # type: ignore[assignment]
        client = world.connect()
        client.post(GENERATE, BODY, ("traceparent", PARENT), ("tracestate", "a=1"))
        return world, client

    def test_upstream_learns_of_no_trace(self) -> None:
        """Unless propagate_upstream says so: then each attempt has a span of its own."""
        world, _ = self.sent(False, ok())
        self.assertEqual([name for name, _ in world.wire.requests[0].headers if name.startswith(b"trace")], [])
        exhausted = refused(429, "RESOURCE_EXHAUSTED", reason("RATE_LIMIT_EXCEEDED"))
        world, _ = self.sent(True, exhausted, ok())
        told = [dict(request.headers)[b"traceparent"].decode() for request in world.wire.requests]
        self.assertEqual(len(set(told)), 2)
        for one in told:
            self.assertTrue(one.startswith(f"00-{TRACE}-") and one.endswith("-01"))
            self.assertNotIn(SPAN, one)

    def test_request_without_context_has_no_trace(self) -> None:
        """A client's header is then a header like others, and ends here."""
        world = Edge.build(ok())
        client = world.connect()
        client.post(GENERATE, BODY, ("traceparent", PARENT))
        self.assertIsNone(world.recorder.ends[0].journal.trace)
        self.assertNotIn(b"traceparent", dict(world.wire.requests[0].headers))
