"""Spans as they are made of a request, before anything is sent; tests.test_daemon_traces has them as they arrive."""

from __future__ import annotations

from typing import Any

from opentelemetry.trace import SpanKind, StatusCode
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import Attempt, Ended, Journal, Usage
from gateway.config import OtelConfig
from gateway.dialects.verbs import VERBS
from gateway.operations.spans import LEFT, LETTERS_MOST, OPERATIONS, PROVIDERS, SpanExport
from gateway.upstreams.kinds import KINDS
from tests.test_tracecontext import contexts

KINDS_OF = {"cloud": "vertex", "accounts": "codeassist"}


class SpanTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.export = SpanExport(OtelConfig("http://127.0.0.1:1"), KINDS_OF, 1.0)
        self.addCleanup(self.export.shutdown)

    def spans(self, *attempts: Attempt, status: int = 200, reason: str = "", **named: Any) -> list[Any]:
        """Of a request that took from 1000.0 to 1002.0."""
        usage = named.pop("usage", None)
        defaults = {"method": "POST", "verb": "generateContent", "model": "resolved", "requested_model": "alias"}
        journal = Journal("id-1", **defaults | named, started=10.0, trace=contexts().begin({}))
        for attempt in attempts:
            journal.attempts.append(attempt)
            assert journal.trace is not None
            journal.trace.judged()
        event = Ended(journal, status, reason, "upstream", 2.0, 1, 2, usage, "STOP" if usage else "")
        return self.export.spans(event, 1002.0)

    def test_every_method_and_every_kind_has_its_name(self) -> None:
        """One that is added is named here, too."""
        self.assertEqual(set(OPERATIONS), {verb for verb, entry in VERBS.items() if entry.served})
        self.assertEqual(set(PROVIDERS), set(KINDS))

    def test_attempts_are_named_for_the_backend_that_they_went_to(self) -> None:
        """By their upstream's kind; one that is configured no more has Google's general name."""
        providers = {"cloud/sa": "gcp.vertex_ai", "accounts/71d4": "gcp.gen_ai", "gone/x": "gcp.gen_ai"}
        for label, provider in providers.items():
            _, attempt = self.spans(Attempt(label, "https://one.example/v1", 200, "", 0.5))
            told = attempt.attributes
            self.assertEqual(told["gen_ai.provider.name"], provider)
            self.assertEqual((told["server.address"], told["server.port"]), ("one.example", 443))
            self.assertEqual((attempt.name, attempt.kind), ("generate_content resolved", SpanKind.CLIENT))

    def test_tokens_are_counted_as_the_conventions_have_it(self) -> None:
        """Thoughts are part of the output; whoever was refused used none."""
        refused = Attempt("cloud/a", "https://one.example", 429, "RATE", 0.1)
        good = Attempt("cloud/b", "https://one.example", 200, "", 0.2)
        server, first, second = self.spans(refused, good, usage=Usage(10, 20, 5, 4))
        for span in (server, second):
            told = span.attributes
            self.assertEqual((told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]), (10, 25))
            self.assertEqual(told["gen_ai.usage.reasoning.output_tokens"], 5)
            self.assertEqual(told["gen_ai.usage.cache_read.input_tokens"], 4)
        self.assertFalse([name for name in first.attributes if "usage" in name])
        self.assertEqual(server.attributes["gen_ai.request.model"], "alias")
        self.assertEqual(second.attributes["gen_ai.request.model"], "resolved")

    def test_statuses_are_judged_from_either_side(self) -> None:
        """What a client did wrong is no error of the server's, but 5xx is; every failed attempt is one of its own."""
        for status, reason, expected in (
            (200, "", StatusCode.UNSET), (404, "ROUTE_UNKNOWN", StatusCode.UNSET),
            (503, "OVERLOADED", StatusCode.ERROR),
            (499, "CLIENT_LEFT", StatusCode.UNSET), (200, "UPSTREAM_IDLE", StatusCode.ERROR),
            (200, "CLIENT_LEFT", StatusCode.UNSET),
        ):  # fmt: skip
            (server,) = self.spans(status=status, reason=reason)
            self.assertEqual(server.status.status_code, expected, reason)
            self.assertEqual(server.attributes.get("error.type", ""), reason)
        good = Attempt("cloud/b", "https://one.example", 200, "", 0.2)
        for reason, expected in (("UPSTREAM_IDLE", StatusCode.ERROR), (LEFT, StatusCode.UNSET)):
            _, attempt = self.spans(good, reason=reason)
            self.assertEqual((attempt.status.status_code, attempt.attributes["error.type"]), (expected, reason))
        none = Attempt("cloud/a", "", 0, "TOKEN_UNAVAILABLE", 0.1)
        _, attempt = self.spans(none, status=503, reason="TOKEN_UNAVAILABLE")
        self.assertEqual(attempt.status.status_code, StatusCode.ERROR)
        self.assertNotIn("server.address", attempt.attributes)

    def test_clients_words_are_bounded(self) -> None:
        """A method and a path that it made up."""
        (server,) = self.spans(method="BREW", verb="", path="/" + "x" * 5000, status=404, reason="ROUTE_UNKNOWN")
        self.assertEqual((server.name, server.attributes["http.request.method"]), ("HTTP", "_OTHER"))
        self.assertEqual(len(server.attributes["url.path"]), LETTERS_MOST)
        self.assertNotIn("gen_ai.operation.name", server.attributes)

    def test_times_never_run_backwards(self) -> None:
        """Where the wall clock was set meanwhile, a span takes no time rather than less."""
        (server,) = self.spans()
        self.assertEqual((server.start_time, server.end_time), (1_000_000_000_000, 1_002_000_000_000))
        event = Ended(Journal("id", trace=contexts().begin({})), 200, "", "", 1.0, 0, 0)
        (server,) = self.export.spans(event, 900.0)
        self.assertEqual(server.start_time, server.end_time)
