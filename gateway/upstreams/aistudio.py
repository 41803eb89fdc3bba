"""The public Gemini API with API keys: https://ai.google.dev/api.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec

from gateway import splice
from gateway.calls import Call, Credential, Event, HttpRequest, Secret
from gateway.config.values import UpstreamConfig
from gateway.upstreams.models import Model
from gateway.upstreams.sending import USER_AGENT, json_headers


class _Answer(msgspec.Struct):
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _ListedModel(msgspec.Struct, rename="camel"):
    name: str
    display_name: str = ""
    description: str = ""
    version: str = ""
    input_token_limit: int = 0
    output_token_limit: int = 0
    supported_generation_methods: list[str] = []


class _ModelPage(msgspec.Struct, rename="camel"):
    models: list[_ListedModel] = []
    next_page_token: str = ""


_ANSWER = msgspec.json.Decoder(_Answer)
_PAGE = msgspec.json.Decoder(_ModelPage)


class AiStudio:
    """Bodies and answers pass byte for byte; the key goes into a header, never into the URL."""

    verbs: ClassVar[frozenset[str]] = frozenset(
        {
            "generateContent",
            "streamGenerateContent",
            "countTokens",
            "embedContent",
            "batchEmbedContents",
            "predict",
            "generateAnswer",
        }
    )

    def __init__(self, config: UpstreamConfig) -> None:
        self._config = config

    def prepare(self, call: Call, base: str, credential: Credential, token: Secret) -> HttpRequest:
        """Return the request under the client's own API version; see Upstream."""
        url = f"{base}/{call.api_version}/models/{quote(call.model, safe='/@')}:{call.verb}"
        if call.streams:
            url += "?alt=sse"
        body = call.body
        if call.model != call.requested_model:
            body = retargeted(body, call.model)
        return HttpRequest(
            b"POST", url.encode("ascii"), (*json_headers(USER_AGENT), *_key(token)), body
        )

    def unwrap(self, data: bytes) -> Event:
        """Return the event as it is; see Upstream."""
        try:
            answer = _ANSWER.decode(data)
        except splice.UNREADABLE:
            try:
                answer = _ANSWER.decode(splice.shadow(data))
            except splice.UNREADABLE as problem:
                raise splice.NotAnObject(str(problem)) from None
        return Event(data, error=data if splice.given(answer.error) else b"")

    def listing(self, base: str, credential: Credential, token: Secret, page: str) -> HttpRequest | None:
        """Return the request for a page of ``models.list``; see Upstream."""
        url = f"{base}/v1beta/models?pageSize=1000"
        if page:
            url += f"&pageToken={quote(page, safe='')}"
        headers = ((b"user-agent", USER_AGENT.encode("ascii")), (b"accept-encoding", b"identity"))
        return HttpRequest(b"GET", url.encode("ascii"), (*headers, *_key(token)), b"")

    def listed(self, body: bytes) -> tuple[Sequence[Model], str]:
        """Read a page of ``models.list``; raises msgspec.DecodeError."""
        page = _PAGE.decode(body)
        models = [
            Model(
                id=entry.name.removeprefix("models/"),
                display_name=entry.display_name,
                description=entry.description,
                version=entry.version,
                input_tokens=entry.input_token_limit,
                output_tokens=entry.output_token_limit,
                verbs=tuple(entry.supported_generation_methods),
            )
            for entry in page.models
        ]
        return models, page.next_page_token


def retargeted(body: bytes, model: str) -> bytes:
    """Return the body with the places that repeat the URL's model naming ``model``.

    Google refuses a ``generateContentRequest`` or an embedding request whose model is not the URL's, so an
    alias has to be resolved there too.  Members without a model keep their bytes.
    """
    parts: dict[str, Any] = dict(splice.members(body))
    name = msgspec.Raw(splice.string(f"models/{model}"))
    if "model" in parts:
        parts["model"] = name
    for nested in ("generateContentRequest", "generate_content_request"):
        if nested in parts:
            parts[nested] = _with_model(parts[nested], name)
    if "requests" in parts:
        try:
            requests = splice.items(parts["requests"])
        except splice.NotAnObject:
            return body
        parts["requests"] = splice.array(_with_model(request, name) for request in requests)
    return splice.join(parts.items())


def _with_model(request: msgspec.Raw, name: msgspec.Raw) -> bytes | msgspec.Raw:
    try:
        parts = splice.members(request)
    except splice.NotAnObject:
        return request
    if "model" not in parts:
        return request
    return splice.join({**parts, "model": name}.items())


def _key(token: Secret) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"x-goog-api-key", token.reveal().encode("latin-1")),)
