"""Vertex AI's publisher models with service accounts: https://cloud.google.com/vertex-ai/docs/reference/rest.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar
from urllib.parse import quote

import msgspec

from gateway import splice
from gateway.calls import Call, Credential, Event, HttpRequest, Secret
from gateway.config.values import UpstreamConfig
from gateway.upstreams.models import Model
from gateway.upstreams.sending import USER_AGENT, json_headers


class _Answer(msgspec.Struct):
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_ANSWER = msgspec.json.Decoder(_Answer)

_WHOLE_REQUESTS = ("generateContentRequest", "generate_content_request")
_COUNTED = frozenset(
    {
        "contents",
        "systemInstruction",
        "system_instruction",
        "tools",
        "generationConfig",
        "generation_config",
    }
)
"""What a CountTokensRequest has of a whole request; Vertex refuses members that it does not know."""


class Vertex:
    """Bodies and answers pass byte for byte, but for what the public API says in another place.

    The path names the model with its project and location, so a body's own ``model``, which is the public
    API's short name, is taken out.
    """

    # batchEmbedContents is in generated clients alone and not in the REST reference: it is left out.
    verbs: ClassVar[frozenset[str]] = frozenset(
        {"generateContent", "streamGenerateContent", "countTokens", "embedContent", "predict"}
    )

    def __init__(self, config: UpstreamConfig) -> None:
        self._location = config.location

    def prepare(self, call: Call, base: str, credential: Credential, token: Secret) -> HttpRequest:
        """Return the request under the credential's project; see Upstream."""
        project, location = quote(credential.project, safe=""), quote(self._location, safe="")
        model = quote(call.model, safe="@")
        url = (
            f"{base}/v1/projects/{project}/locations/{location}/publishers/google/models/{model}:{call.verb}"
        )
        if call.streams:
            url += "?alt=sse"
        authorization = (b"authorization", b"Bearer " + token.reveal().encode("latin-1"))
        return HttpRequest(
            b"POST", url.encode("ascii"), (*json_headers(USER_AGENT), authorization), _body(call)
        )

    def unwrap(self, data: bytes) -> Event:
        """Return the event as it is; see Upstream."""
        try:
            answer = _ANSWER.decode(data)
        except splice.UNREADABLE as problem:
            raise splice.NotAnObject(str(problem)) from None
        return Event(data, error=data if splice.given(answer.error) else b"")

    def listing(self, base: str, credential: Credential, token: Secret, page: str) -> HttpRequest | None:
        """Return nothing: Vertex does not say which publisher models a project may use."""
        return None

    def listed(self, body: bytes) -> tuple[Sequence[Model], str]:
        """Return nothing, as there is no list."""
        return (), ""


def _body(call: Call) -> bytes:
    parts = splice.members(call.body) if call.members is None else dict(call.members)
    foreign = ("model", *_WHOLE_REQUESTS) if call.verb == "countTokens" else ("model",)
    taken = {name: parts.pop(name) for name in foreign if name in parts}
    whole = next((taken[name] for name in _WHOLE_REQUESTS if name in taken and splice.given(taken[name])), None)
    if whole is not None:
        return splice.join(_counted(whole).items())
    return splice.join(parts.items()) if taken else call.body


def _counted(request: msgspec.Raw) -> Mapping[str, msgspec.Raw]:
    try:
        parts = splice.members(request)
    except splice.NotAnObject:
        # Upstream says what is wrong with a request without contents.
        return {}
    return {name: value for name, value in parts.items() if name in _COUNTED}
