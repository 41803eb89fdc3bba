"""Answers and events of upstreams taken out of their envelopes, lists of models, quotas.  Pure."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from gateway.calls import Credential, Event, Secret
from gateway.config.values import UpstreamConfig
from gateway.dialects import gemini
from gateway.splice import NotAnObject
from gateway.upstreams.kinds import Metered, build
from gateway.upstreams.verdict import judge_error_object

SEEDS = (
    b'{"candidates":[{"content":{"parts":[{"text":"Hi"}],"role":"model"},"finishReason":"STOP","index":0}],'
    b'"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":"2","totalTokenCount":3},"modelVersion":"m"}',
    b'{"response":{"candidates":[{"finishReason":2}],"usageMetadata":null},"traceId":"abc","metadata":{}}',
    b'{"response": {"a": "\\ud800 \\udc00"} , "traceId": 7}',
    b'{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"},"response":null}',
    b'{"traceId":"x"}', b'{"response":[]}', b'{"response":{},"response":{"a":1}}', b"[]", b"null", b"{",
    b'{"error":null}',
    b'{"models":[{"name":"models/m","displayName":"M","inputTokenLimit":5,"supportedGenerationMethods":["x"]}],"nextPageToken":"n"}',
    b'{"models":{"m":{"displayName":"M","maxTokens":1,"quotaInfo":{"remainingFraction":0.5,"resetTime":"2026-03-08T08:00:00Z"}}}}',
    b'{"buckets":[{"modelId":"m","remainingFraction":1e300,"resetTime":""},{"modelId":"","remainingFraction":-1}]}',
)  # fmt: skip
DICTIONARY = (
    b'"response":{', b'"error":', b'"traceId":"', b'"metadata":', b'"candidates":[', b'"finishReason":',
    b'"usageMetadata":{',
    b'"promptTokenCount":', b"\\ud83d", b"null", b"\\u", b"1e400", b'"models":', b'"quotaInfo":',
    b'"remainingFraction":',
)  # fmt: skip

_CREDENTIAL = Credential("one", "any", "any", "any/one", "p")
_UPSTREAMS = tuple(
    (kind, build(UpstreamConfig(kind, kind, ("https://one.test",), location="global")))
    for kind in ("aistudio", "codeassist", "vertex")
)
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)


def one_input(data: bytes) -> None:
    """Raise where an answer is lost or changed on its way out of the envelope, or is no JSON object after it."""
    try:
        due = json.loads(data.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        due = None
    for kind, upstream in _UPSTREAMS:
        try:
            event = upstream.unwrap(data)
        except NotAnObject:
            event = None
        _kept(kind, event, due)
        _read(upstream, data)
    usage, reason = gemini.summary(data)
    assert isinstance(reason, str)
    for count in (usage.prompt, usage.candidates, usage.taken) if usage else ():
        assert isinstance(count, int), usage


def _refuse(name: str) -> None:
    raise ValueError(name)


def _kept(kind: str, event: Event | None, due: Any) -> None:
    if event is None:
        return
    assert isinstance(event.trace_id, str)
    if event.error:
        assert isinstance(json.loads(event.error.decode("utf-8", "replace")), dict), event.error
        judge_error_object(event.error, 0.0)
        return
    if due is None or not event.data:
        # What no parser takes as a whole may pass as the bytes that it is.
        return
    assert isinstance(due, dict), f"{kind}: {event.data!r} came of what is no object"
    found = json.loads(event.data)
    if kind != "codeassist":
        assert found == due, event.data
    elif isinstance(due.get("response"), dict):
        assert found == due["response"], event.data
    else:
        assert found.keys() >= due.keys() - {"traceId", "metadata"}, event.data


def _read(upstream: Any, data: bytes) -> None:
    """Lists and quotas raise what they say, and figures stay within 0 and 1."""
    try:
        models, page = upstream.listed(data)
        request = upstream.listing("https://one.test", _CREDENTIAL, Secret("t"), page)
        assert request is None or request.url.startswith(b"https://one.test"), request
        assert all(isinstance(model.id, str) for model in models)
    except _UNREADABLE:
        pass
    if isinstance(upstream, Metered):
        try:
            assert all(0.0 <= figure.remaining <= 1.0 for figure in upstream.figures(data)), data
        except _UNREADABLE:
            pass
