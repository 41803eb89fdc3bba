"""The ``v1internal`` backend with OAuth accounts: the client's body in an envelope.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import ClassVar

import msgspec

from gateway import splice
from gateway.calls import Call, Credential, Event, GatewayError, Headers, HttpRequest, Secret
from gateway.config.values import EnvelopeConfig, UpstreamConfig
from gateway.upstreams.durations import timestamp
from gateway.upstreams.models import Figure, Model
from gateway.upstreams.sending import USER_AGENT, json_headers


class _Envelope(msgspec.Struct, rename="camel"):
    response: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    trace_id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Plain(msgspec.Struct, rename="camel"):
    """An envelope as it nearly always is; what is otherwise does not decode as one."""

    response: msgspec.Raw
    trace_id: str = ""
    error: None = None


class _Left(msgspec.Struct, rename="camel"):
    model_id: str = ""
    remaining_fraction: float | None = None
    reset_time: str = ""


class _Metered(msgspec.Struct, rename="camel"):
    quota_info: _Left = msgspec.field(default_factory=_Left)


class _QuotaAnswer(msgspec.Struct):
    buckets: list[_Left] = []
    models: dict[str, _Metered] = {}


class _AvailableModel(msgspec.Struct, rename="camel"):
    display_name: str = ""
    max_tokens: int = 0
    max_output_tokens: int = 0


class _AvailableModels(msgspec.Struct):
    models: dict[str, _AvailableModel] = {}


_TEXT = msgspec.json.Decoder(str)
_PLAIN = msgspec.json.Decoder(_Plain)
_ENVELOPE = msgspec.json.Decoder(_Envelope)
_AVAILABLE = msgspec.json.Decoder(_AvailableModels)
_QUOTA = msgspec.json.Decoder(_QuotaAnswer)

_CAMEL = {
    "system_instruction": "systemInstruction",
    "cached_content": "cachedContent",
    "tool_config": "toolConfig",
    "safety_settings": "safetySettings",
    "generation_config": "generationConfig",
}
_ENVELOPE_ONLY = ("traceId", "metadata")
_SEARCH_TOOLS = {"googleSearch", "google_search", "googleSearchRetrieval", "google_search_retrieval"}


_TOUCHED = frozenset({"model", *_CAMEL})
"""Members that are not passed on as they are."""

_Request = Mapping[str, msgspec.Raw]


def _antigravity(call: Call, project: str, request: _Request, envelope: EnvelopeConfig) -> bytes:
    if "image" in call.model:
        kind = "image_gen"
    else:
        kind = "web_search" if "tools" in request and _searches(request["tools"]) else envelope.request_type
    before, after = _wrapping(project, call.model, envelope.user_agent or USER_AGENT, kind)
    return b"".join((before, splice.string(call.request_id), b',"request":', _passed_on(call, request), after))


@lru_cache(maxsize=256)
def _wrapping(project: str, model: str, user_agent: str, kind: str) -> tuple[bytes, bytes]:
    """Return what of an envelope stands before the request's id, and what stands after the request."""
    after = {"model": model, "userAgent": user_agent, "requestType": kind}
    return b'{"project":%b,"requestId":' % splice.string(project), b"," + msgspec.json.encode(after)[1:]


def _gemini_cli(call: Call, project: str, request: _Request, envelope: EnvelopeConfig) -> bytes:
    inner = _passed_on(call, request)
    if call.session:
        members: dict[str, bytes | msgspec.Raw] = dict(splice.members(inner))
        members["session_id"] = splice.string(call.session)
        inner = splice.join(members.items())
    return splice.join(
        (
            ("model", splice.string(call.model)),
            ("project", splice.string(project)),
            ("user_prompt_id", splice.string(call.request_id)),
            ("request", inner),
        )
    )


def _passed_on(call: Call, request: _Request) -> bytes:
    """Return the client's body as upstream wants it within the envelope; as nearly all come, it is the very same."""
    if _TOUCHED.isdisjoint(request):
        return call.body
    rest = {name: value for name, value in request.items() if name != "model"}
    return splice.join(splice.renamed(rest, _CAMEL).items())


PROFILES: Mapping[str, Callable[[Call, str, _Request, EnvelopeConfig], bytes]] = {
    "antigravity": _antigravity,
    "gemini-cli": _gemini_cli,
}
"""What makes the envelope, by the configuration's ``envelope.profile``."""


class CodeAssist:
    """Wraps the client's body, unwraps ``response``; the client's values keep their bytes."""

    verbs: ClassVar[frozenset[str]] = frozenset({"generateContent", "streamGenerateContent", "countTokens"})

    def __init__(self, config: UpstreamConfig) -> None:
        self._envelope = config.envelope or EnvelopeConfig()

    def prepare(self, call: Call, base: str, credential: Credential, token: Secret) -> HttpRequest:
        """Return the request in its envelope; raises GatewayError for a countTokens without contents."""
        parts = splice.members(call.body) if call.members is None else call.members
        if call.verb == "countTokens":
            body = _count_body(call, parts)
        else:
            body = PROFILES[self._envelope.profile](call, credential.project, parts, self._envelope)
        return self._post(base, f"{call.verb}?alt=sse" if call.streams else call.verb, token, body)

    def unwrap(self, data: bytes) -> Event:
        """Return what ``response`` holds, or the answer as it is where there is none; see Upstream."""
        try:
            plain = _PLAIN.decode(data)
        except splice.UNREADABLE:
            return self._unwrap_odd(data)
        inner = bytes(plain.response)
        return Event(inner, plain.trace_id) if inner.startswith(b"{") else self._unwrap_odd(data)

    def _unwrap_odd(self, data: bytes) -> Event:
        try:
            envelope = _ENVELOPE.decode(data)
            shadow = data
        except splice.UNREADABLE:
            shadow = splice.shadow(data)
            try:
                envelope = _ENVELOPE.decode(shadow)
            except splice.UNREADABLE as problem:
                raise splice.NotAnObject(str(problem)) from None
        trace_id = "" if envelope.trace_id is msgspec.UNSET else _trace_id(bytes(envelope.trace_id))
        if envelope.error is not msgspec.UNSET and splice.given(envelope.error):
            error = splice.join([("error", envelope.error)])
            return Event(error, trace_id, error=error)
        inner = b"" if envelope.response is msgspec.UNSET else bytes(envelope.response)
        if not inner or inner == b"null":
            return Event(_bare(data), trace_id)
        if not inner.startswith(b"{"):
            raise splice.NotAnObject("`response` is not an object")
        if shadow is not data:
            at = shadow.index(inner)
            inner = data[at : at + len(inner)]
        return Event(inner, trace_id)

    def listing(self, base: str, credential: Credential, token: Secret, page: str) -> HttpRequest | None:
        """Return the ``fetchAvailableModels`` request; see Upstream."""
        body = splice.join([("project", splice.string(credential.project))])
        return self._post(base, "fetchAvailableModels", token, body)

    def listed(self, body: bytes) -> tuple[Sequence[Model], str]:
        """Read a ``fetchAvailableModels`` answer; raises msgspec.DecodeError."""
        available = _AVAILABLE.decode(body)
        models = [
            Model(
                id=name,
                display_name=entry.display_name,
                input_tokens=entry.max_tokens,
                output_tokens=entry.max_output_tokens,
            )
            for name, entry in available.models.items()
        ]
        return models, ""

    def quota(self, base: str, credential: Credential, token: Secret) -> Sequence[HttpRequest]:
        """Return the requests that ask what is left of an account's quota; see kinds.Metered."""
        body = splice.join([("project", splice.string(credential.project))])
        return [self._post(base, verb, token, body) for verb in ("retrieveUserQuota", "fetchAvailableModels")]

    def figures(self, body: bytes) -> Sequence[Figure]:
        """Read the answer to one of these; raises msgspec.DecodeError."""
        answer = _QUOTA.decode(body)
        named = [(one.model_id, one) for one in answer.buckets]
        named += [(name, one.quota_info) for name, one in answer.models.items()]
        # What has no share says nothing, and nothing means that it may be used.
        return [
            Figure(name, min(max(one.remaining_fraction, 0.0), 1.0), timestamp(one.reset_time))
            for name, one in named
            if name and one.remaining_fraction is not None
        ]

    def _post(self, base: str, method: str, token: Secret, body: bytes) -> HttpRequest:
        headers = _headers(self._envelope.user_agent or USER_AGENT, token.reveal())
        return HttpRequest(b"POST", _url(base, method), headers, body)


@lru_cache(maxsize=256)
def _url(base: str, method: str) -> bytes:
    return f"{base}:{method}".encode("ascii")


@lru_cache(maxsize=1024)
def _headers(user_agent: str, token: str) -> Headers:
    return (*json_headers(user_agent), (b"authorization", b"Bearer " + token.encode("latin-1")))


def _bare(data: bytes) -> bytes:
    """Return an answer that came without ``response``, less what the envelope adds; empty where that is all."""
    if not any(b'"%b"' % name.encode("ascii") in data for name in _ENVELOPE_ONLY):
        return data
    parts = splice.members(data)
    rest = {name: value for name, value in parts.items() if name not in _ENVELOPE_ONLY}
    return splice.join(rest.items()) if rest else b""


def _count_body(call: Call, parts: Mapping[str, msgspec.Raw]) -> bytes:
    nested = parts.get("generateContentRequest") or parts.get("generate_content_request")
    if nested is not None:
        try:
            parts = splice.members(nested)
        except splice.NotAnObject:
            parts = {}
    contents = parts.get("contents")
    if contents is None:
        raise GatewayError(
            400,
            "INVALID_ARGUMENT",
            "CONTENTS_MISSING",
            "countTokens needs `contents`, at the top or within `generateContentRequest`.",
        )
    model = splice.string(f"models/{call.model}")
    return splice.join([("request", splice.join([("model", model), ("contents", contents)]))])


@lru_cache(maxsize=256)
def _trace_id(raw: bytes) -> str:
    """Return what a trace's id says; every event of a stream has the same."""
    try:
        return _TEXT.decode(raw)
    except splice.UNREADABLE:
        # It is for the log alone, and no reason to lose an answer.
        return ""


def _searches(tools: msgspec.Raw) -> bool:
    try:
        return any(_SEARCH_TOOLS & splice.members(tool).keys() for tool in splice.items(tools))
    except splice.NotAnObject:
        return False
