"""Requests as OpenTelemetry's spans, sent over OTLP.  Needs the extra ``otel``; sends, and blocks while it does.

A request is a span of kind SERVER, named as HTTP servers' are, and each attempt upstream a child of kind CLIENT, named
as GenAI clients' are: https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-spans.md.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import TraceState

from gateway import __version__
from gateway.calls import Attempt, Ended
from gateway.config import OtelConfig
from gateway.operations.tracing import Batch
from gateway.tracecontext import Trace, Tried

OPERATIONS: Mapping[str, str] = {
    "generateContent": "generate_content",
    "streamGenerateContent": "generate_content",
    "embedContent": "embeddings",
    "batchEmbedContents": "embeddings",
    "generateAnswer": "generate_answer",
    "countTokens": "count_tokens",
    "predict": "predict",
}
"""``gen_ai.operation.name``; the last three are no well-known ones, since there are none for them."""
PROVIDERS: Mapping[str, str] = {"aistudio": "gcp.gemini", "vertex": "gcp.vertex_ai", "codeassist": "gcp.gen_ai"}
"""``gen_ai.provider.name`` by the upstream's kind."""
METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH")
LEFT = "CLIENT_LEFT"
"""Nobody's error."""
STREAMS = "streamGenerateContent"
LETTERS_MOST = 256
"""Of a path, or whatever else a client chose."""

Attributes = dict[str, Any]

_SCOPE = InstrumentationScope("gateway", __version__)
_OK = Status(StatusCode.UNSET)


class SpanExport:
    """See tracing.Exporter."""

    def __init__(self, config: OtelConfig, kinds: Mapping[str, str], seconds: float) -> None:
        # What it has to say is told by the gateway's own log, once and not for each batch.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._kinds = kinds
        self._resource = Resource.create(
            {
                "service.name": config.service_name,
                "service.version": __version__,
                "service.instance.id": str(uuid.uuid4()),
            }
        )
        session = requests.Session()
        # Neither proxies of the environment nor a ~/.netrc, whose password would take the place of config.headers.
        session.trust_env, session.max_redirects = False, 0
        self._exporter = OTLPSpanExporter(
            config.traces_url,
            session=session,
            headers={name: value.reveal() for name, value in config.headers} or None,
            timeout=seconds,
        )

    def export(self, batch: Batch) -> int:
        """See tracing.Exporter."""
        spans = [span for event, ended in batch for span in self.spans(event, ended)]
        return 0 if self._exporter.export(spans) is SpanExportResult.SUCCESS else len(batch)

    def shutdown(self) -> None:
        """See tracing.Exporter."""
        self._exporter.shutdown()

    def spans(self, event: Ended, ended: float) -> list[ReadableSpan]:
        """Return a request's span and those of its attempts."""
        trace = event.journal.trace
        assert trace is not None
        server = self._span(
            trace,
            trace.span_id,
            None if trace.parent is None else (trace.parent.span_id, True),
            _server_name(event),
            SpanKind.SERVER,
            _server(event),
            _server_status(event),
            (trace.began, ended),
        )
        attempts = zip(event.journal.attempts, trace.tried, strict=False)
        found = [server, *(self._attempt(event, ended, *one, number) for number, one in enumerate(attempts))]
        if trace.under_way:
            # Its client did not wait for it.
            left = Attempt(event.journal.credential, "", 0, event.reason or "CANCELLED", ended - trace.under_way_since)
            found.append(self._attempt(event, ended, left, Tried(trace.under_way, ended), len(trace.tried)))
        return found

    def _attempt(self, event: Ended, ended: float, attempt: Attempt, tried: Tried, number: int) -> ReadableSpan:
        trace = event.journal.trace
        assert trace is not None
        good = not attempt.reason
        error = attempt.reason or (event.reason if event.status == 200 else "")
        attributes = self._client(event, attempt, number)
        if error:
            attributes["error.type"] = error
        return self._span(
            trace,
            tried.span_id,
            (trace.span_id, False),
            f"{_operation(event.journal.verb)} {event.journal.model}".strip(),
            SpanKind.CLIENT,
            attributes,
            Status(StatusCode.ERROR) if error and error != LEFT else _OK,
            # A stream that was good goes on after its first event, by which it was judged.
            (tried.ended - attempt.seconds, ended if good else tried.ended),
        )

    def _client(self, event: Ended, attempt: Attempt, number: int) -> Attributes:
        journal = event.journal
        found = _generation(event) if not attempt.reason else {}
        found.update({
            "gen_ai.operation.name": _operation(journal.verb),
            "gen_ai.provider.name": PROVIDERS.get(self._kinds.get(attempt.credential.split("/")[0], ""), "gcp.gen_ai"),
            "gen_ai.request.model": journal.model,
            "antigravity.credential": attempt.credential,
        })  # fmt: skip
        if journal.verb == STREAMS:
            found["gen_ai.request.stream"] = True
            if not attempt.reason:
                found["gen_ai.response.time_to_first_chunk"] = attempt.seconds
        if attempt.status:
            found["http.response.status_code"] = attempt.status
        if number:
            found["http.request.resend_count"] = number
        if attempt.waited:
            found["antigravity.waited_seconds"] = attempt.waited
        base = urlsplit(attempt.base)
        if base.hostname:
            found["server.address"] = base.hostname
            found["server.port"] = base.port or (443 if base.scheme == "https" else 80)
        return found

    def _span(
        self,
        trace: Trace,
        span_id: str,
        parent: tuple[str, bool] | None,
        name: str,
        kind: SpanKind,
        attributes: Attributes,
        status: Status,
        times: tuple[float, float],
    ) -> ReadableSpan:
        state = TraceState.from_header([trace.parent.state]) if trace.parent and trace.parent.state else None
        return ReadableSpan(
            name,
            _context(trace.trace_id, span_id, False, state),
            parent=None if parent is None else _context(trace.trace_id, *parent, state),
            resource=self._resource,
            attributes=attributes,
            kind=kind,
            instrumentation_scope=_SCOPE,
            status=status,
            start_time=int(times[0] * 1e9),
            end_time=int(max(times) * 1e9),
        )


def _context(trace_id: str, span_id: str, remote: bool, state: TraceState | None) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), remote, TraceFlags(TraceFlags.SAMPLED), state)


def _operation(verb: str) -> str:
    return OPERATIONS.get(verb, verb)


def _server_name(event: Ended) -> str:
    """Return method and route, of which there are few; what no route was found for has its method alone."""
    journal = event.journal
    method = journal.method if journal.method in METHODS else "HTTP"
    return f"{method} /v1beta/models/{{model}}:{journal.verb}" if journal.verb else method


def _server_status(event: Ended) -> Status:
    """Judge as HTTP servers do: what a client did wrong, or left, is no error of theirs."""
    broken = event.reason and event.status == 200 and event.reason != LEFT
    return Status(StatusCode.ERROR) if event.status >= 500 or broken else _OK


def _server(event: Ended) -> Attributes:
    journal = event.journal
    known = journal.method in METHODS
    found: Attributes = {
        "http.request.method": journal.method if known else "_OTHER",
        "url.path": journal.path[:LETTERS_MOST],
        "http.response.status_code": event.status,
        "antigravity.request_id": journal.request_id,
        "antigravity.origin": event.origin,
    }
    if journal.peer:
        found["client.address"] = journal.peer
    if journal.key_id:
        found["antigravity.key"] = journal.key_id
    if event.reason:
        found["error.type"] = event.reason
    if journal.verb:
        found["http.route"] = f"/v1beta/models/{{model}}:{journal.verb}"
        found["gen_ai.operation.name"] = _operation(journal.verb)
        found["gen_ai.request.model"] = journal.requested_model
        found.update(_generation(event))
        if journal.verb == STREAMS:
            found["gen_ai.request.stream"] = True
            if journal.first_byte is not None and event.status == 200:
                found["gen_ai.response.time_to_first_chunk"] = journal.first_byte - journal.started
    return found


def _generation(event: Ended) -> Attributes:
    """Return what is known of what was generated; thoughts are part of the output, and what was cached of the input."""
    found: Attributes = {}
    if event.status == 200:
        found["gen_ai.response.model"] = event.journal.model
    if event.finish_reason:
        found["gen_ai.response.finish_reasons"] = (event.finish_reason,)
    usage = event.usage
    if usage is not None:
        found["gen_ai.usage.input_tokens"] = usage.prompt
        found["gen_ai.usage.output_tokens"] = usage.candidates + usage.thoughts
        if usage.thoughts:
            found["gen_ai.usage.reasoning.output_tokens"] = usage.thoughts
        if usage.cached:
            found["gen_ai.usage.cache_read.input_tokens"] = usage.cached
    return found
