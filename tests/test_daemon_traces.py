"""The daemon's traces, as a collector receives them: spans, their attributes, and what must not be in them.  Opens
sockets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.collector import PROTOBUF, Collector, attributes
from tests.processes import GENERATE, MODEL, SSE, DaemonCase, Server, aistudio, logged, prompt, reactor, until
from tests.test_daemon_watch import WatchCase
from tests.test_tracecontext import PARENT, SPAN, TRACE

SERVER_UNARY = "POST /v1beta/models/{model}:generateContent"
SERVER_STREAM = "POST /v1beta/models/{model}:streamGenerateContent"
ATTEMPT = f"generate_content {MODEL}"
PROMPT = "canary-of-the-prompt"


class TraceCase(WatchCase):
    """A daemon before a simulator, and a collector."""

    collector: Collector

    async def begin(self, *keys: str, **sections: Any) -> None:
        self.collector = Collector()
        self.addCleanup(self.collector.port.stopListening)
        otel = {"endpoint": self.collector.url, "headers": {"Authorization": "Bearer canary-of-the-collector"}}
        await super().begin(*keys, otel=otel | sections.pop("otel", {}), **sections)

    def children(self, parent: Any) -> list[Any]:
        found = [span for span in self.collector.spans if span.parent_span_id == parent.span_id]
        return sorted(found, key=lambda span: span.start_time_unix_nano)


class SpanTests(TraceCase):
    async def test_request_is_a_span_and_each_attempt_a_child(self) -> None:
        """Decoded as the collector's own protocol has it, with the names of the GenAI conventions."""
        await self.begin("canary-key-1", "canary-key-2")
        await self.google.fault("status", reason="PER_MINUTE", seconds=30, times=1)
        answer = await self.daemon.ask(GENERATE, prompt(PROMPT), [("traceparent", PARENT), ("tracestate", "a=1")])
        self.assertEqual(answer.status, 200)
        await self.collector.has(3)
        (server,) = self.collector.named(SERVER_UNARY)
        self.assertEqual((server.kind, server.trace_id.hex()), (Span.SPAN_KIND_SERVER, TRACE))
        self.assertEqual((server.parent_span_id.hex(), server.trace_state), (SPAN, "a=1"))
        found = attributes(server.attributes)
        self.assertEqual(found["antigravity.request_id"], answer.headers["x-request-id"])
        self.assertEqual(found["http.response.status_code"], 200)
        self.assertEqual(found["gen_ai.operation.name"], "generate_content")
        self.assertEqual(found["gen_ai.request.model"], MODEL)
        usage = answer.json["usageMetadata"]
        self.assertEqual(found["gen_ai.usage.input_tokens"], usage["promptTokenCount"])
        self.assertEqual(found["gen_ai.response.finish_reasons"], ("STOP",))
        self.assertNotIn("error.type", found)
        failed, good = self.children(server)
        for span in (failed, good):
            self.assertEqual((span.name, span.kind, span.trace_id.hex()), (ATTEMPT, Span.SPAN_KIND_CLIENT, TRACE))
            self.assertGreaterEqual(span.start_time_unix_nano, server.start_time_unix_nano)
            self.assertLessEqual(span.end_time_unix_nano, server.end_time_unix_nano)
            told = attributes(span.attributes)
            self.assertEqual(told["gen_ai.provider.name"], "gcp.gemini")
            self.assertEqual((told["server.address"], told["server.port"]), ("127.0.0.1", self.google.port))
        told = attributes(failed.attributes)
        self.assertEqual(failed.status.code, Status.STATUS_CODE_ERROR)
        self.assertEqual((told["error.type"], told["http.response.status_code"]), ("RESOURCE_EXHAUSTED", 429))
        self.assertNotIn("gen_ai.usage.input_tokens", told)
        told = attributes(good.attributes)
        self.assertEqual((told["http.request.resend_count"], told["gen_ai.response.model"]), (1, MODEL))
        self.assertNotEqual(attributes(failed.attributes)["antigravity.credential"], told["antigravity.credential"])

    async def test_stream_says_when_it_began_and_how_it_broke(self) -> None:
        """Its good attempt lasts as long as the stream does, and has the error that ended it."""
        await self.begin()
        await self.google.fault("reset", after=2, times=1)
        self.assertFalse((await self.daemon.ask(SSE, prompt())).whole)
        await self.collector.has(2)
        (server,) = self.collector.named(SERVER_STREAM)
        (attempt,) = self.children(server)
        for span in (server, attempt):
            told = attributes(span.attributes)
            self.assertEqual(span.status.code, Status.STATUS_CODE_ERROR)
            self.assertTrue(told["error.type"].startswith("UPSTREAM_"), told)
            self.assertIs(told["gen_ai.request.stream"], True)
            self.assertGreater(told["gen_ai.response.time_to_first_chunk"], 0)
        self.assertEqual(attempt.end_time_unix_nano, server.end_time_unix_nano)

    async def test_client_that_leaves_ends_the_attempt_under_way(self) -> None:
        """The attempt that nobody waited for is there too."""
        await self.begin()
        await self.google.fault("stall", after=0, seconds=30)
        left = await self.daemon.begin(GENERATE, prompt())
        await self.google.seen(lambda entries: bool(entries))
        left.leave()
        await self.collector.has(2)
        (server,) = self.collector.named(SERVER_UNARY)
        (attempt,) = self.children(server)
        self.assertEqual(attributes(attempt.attributes)["error.type"], "CLIENT_LEFT")
        self.assertEqual(server.status.code, Status.STATUS_CODE_UNSET)

    async def test_refusals_are_spans_with_few_names(self) -> None:
        """A path that a client made up is an attribute; the name is the method's."""
        await self.begin(proxy={"api_key": "canary-of-the-client"})
        self.assertEqual((await self.daemon.ask("/made/up?key=canary-of-a-stranger")).status, 401)
        self.assertEqual((await self.daemon.ask("/healthz")).status, 200)
        await self.collector.has(1)
        (span,) = self.collector.spans
        told = attributes(span.attributes)
        self.assertEqual((span.name, told["url.path"], told["error.type"]), ("GET", "/made/up", "CLIENT_KEY_INVALID"))
        self.assertEqual((span.status.code, span.parent_span_id), (Status.STATUS_CODE_UNSET, b""))

    async def test_nothing_secret_is_told(self) -> None:
        """No prompt, no answer, no key of anybody's; the collector's own goes to it in its header alone."""
        await self.begin("canary-key-1", proxy={"api_key": "canary-of-the-client"})
        headers = [("x-goog-api-key", "canary-of-the-client")]
        unary = await self.daemon.ask(GENERATE, prompt(PROMPT), headers)
        stream = await self.daemon.ask(SSE + "&key=canary-of-the-client", prompt(PROMPT))
        self.assertEqual((unary.status, stream.whole), (200, True))
        await self.collector.has(4)
        for text in (b"canary", unary.text.encode()):
            self.assertNotIn(text, self.collector.bodies.replace(b"studio/canary-key-1", b""))
        (head, *_) = self.collector.heads
        self.assertEqual((head["path"], head["authorization"]), ("/v1/traces", "Bearer canary-of-the-collector"))
        self.assertEqual(head["content-type"], PROTOBUF.decode())
        resource = self.collector.resources[0]
        self.assertEqual(resource["service.name"], "antigravity-gateway")
        self.assertTrue(resource["service.version"])

    async def test_log_names_the_trace(self) -> None:
        """Sampled or not: the line says where to look, and for which."""
        await self.begin(otel={"sample": 0}, log={"format": "json"})
        await self.daemon.ask(GENERATE, prompt())
        await until(lambda: re.search(r'generateContent.*"trace_id": ?"[0-9a-f]{32}"', self.daemon.printed) is not None)
        self.assertRegex(self.daemon.printed, r'"span_id": ?"[0-9a-f]{16}"')
        await self.daemon.ask(GENERATE, prompt(), [("traceparent", PARENT)])
        await self.collector.has(2)
        self.assertIn(TRACE, self.daemon.printed)
        self.assertEqual({span.trace_id.hex() for span in self.collector.spans}, {TRACE})


class CollectorTests(TraceCase):
    async def test_collector_that_is_gone_costs_traces_alone(self) -> None:
        """Requests are served as before, the loss is counted and told once; when it is back traces go on."""
        await self.begin()
        self.collector.status = 400
        for _ in range(3):
            self.assertEqual((await self.daemon.ask(GENERATE, prompt())).status, 200)
        await logged(self.daemon, "does not take them")

        async def lost() -> float:
            return (await self.samples())["agw_traces_lost_total",]

        while await lost() < 3:
            pass
        self.collector.status = 200
        self.assertEqual((await self.daemon.ask(GENERATE, prompt())).status, 200)
        await logged(self.daemon, "takes traces again; 3 requests were not told")
        self.assertEqual((await self.samples())["agw_traces_total",], 1)
        self.assertEqual(self.daemon.printed.count("does not take them"), 1)
        self.assertNotIn("canary", self.daemon.printed)

    async def test_traces_go_where_the_configuration_says_and_nowhere_else(self) -> None:
        """Proxies of the environment are not asked, a ~/.netrc has no say, and a redirect is a refusal."""
        nowhere = "http://127.0.0.1:9"
        netrc = self.home / "netrc"
        netrc.write_text("machine 127.0.0.1 login a password canary-of-the-netrc\n")
        netrc.chmod(0o600)
        environ = {"HTTP_PROXY": nowhere, "http_proxy": nowhere, "ALL_PROXY": nowhere, "NETRC": str(netrc)}
        await self.begin(environ=environ)
        self.assertEqual((await self.daemon.ask(GENERATE, prompt())).status, 200)
        await self.collector.has(2)
        self.assertEqual(self.collector.heads[0]["authorization"], "Bearer canary-of-the-collector")
        elsewhere = Collector()
        self.addCleanup(elsewhere.port.stopListening)
        self.collector.status, self.collector.elsewhere = 307, f"{elsewhere.url}/v1/traces"
        self.assertEqual((await self.daemon.ask(GENERATE, prompt())).status, 200)
        await logged(self.daemon, "does not take them")
        self.assertEqual((len(self.collector.spans), elsewhere.heads), (2, []))

    async def test_what_is_left_is_told_at_the_end(self) -> None:
        """SIGTERM at once after an answer: its span is there."""
        await self.begin()
        self.assertEqual((await self.daemon.ask(GENERATE, prompt())).status, 200)
        self.daemon.child.signal("TERM")
        self.assertTrue(await self.daemon.child.ended_within(15, reactor))
        self.assertEqual((self.daemon.child.exit_code, len(self.collector.spans)), (0, 2), self.daemon.printed)

    async def test_reload_begins_and_ends_it(self) -> None:
        """The section counts from the reload on."""
        await self.begin()
        path = next(self.home.glob(f"antigravity-{self.daemon.port}.yaml"))
        text = path.read_text()
        for changed, spans in ((re.sub(r'"endpoint": "[^"]*"', '"endpoint": ""', text), 0), (text, 2)):
            path.write_text(changed)
            before = self.daemon.printed.count("has read its configuration anew")
            self.daemon.child.signal("HUP")
            await until(lambda before=before: self.daemon.printed.count("has read its configuration anew") > before)
            self.assertEqual((await self.daemon.ask(GENERATE, prompt())).status, 200)
            await self.collector.has(spans)
        self.assertEqual(len(self.collector.spans), 2)


def mapped(daemon: Server) -> str:
    """What a process has in its memory, by its files."""
    return Path(f"/proc/{daemon.child.transport.pid}/maps").read_text()


class AbsentTests(DaemonCase):
    async def test_library_is_imported_only_where_it_is_asked_for(self) -> None:
        """A daemon without the section has nothing of it in memory."""
        google = await self.simulator()
        daemon: Server = await self.gateway({"studio": aistudio(google.url)})
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)
        self.assertNotIn("google/_upb", mapped(daemon))
