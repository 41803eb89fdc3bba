"""The routes of who would use the gateway: its models, where clients find it, and a prompt tried by the operator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypedDict

import msgspec
from twisted.web.server import Request

from gateway.operations.adminroutes import Route, Row, answer, body
from gateway.operations.adminsession import peer_of

Try = Callable[[str, bytes, str, Any], Awaitable[None]]
"""Takes a model, a request's body, the caller's address and a screen; raises GatewayError before the screen begins."""


class Model(TypedDict):
    """A model in the list."""

    id: str
    description: str
    input_tokens: int
    output_tokens: int
    methods: list[str]
    upstreams: list[str]


class Alias(TypedDict):
    """A pattern of model ids, and the id that is meant."""

    pattern: str
    target: str


class Models(TypedDict):
    """The models and the aliases."""

    models: list[Model]
    aliases: list[Alias]


class Clients(TypedDict):
    """Where clients find the gateway, and whether they have to show a key."""

    base_urls: list[str]
    listen: list[str]
    keys_required: bool


class Generate(msgspec.Struct):
    """A generateContent request, as the Gemini API takes it."""

    contents: list[dict[str, Any]]


class Looking(Protocol):
    """What can be seen."""

    def models(self) -> Row:
        """Return the models and the aliases."""

    def clients(self) -> Row:
        """Return where clients find the gateway."""


class TryingRoutes:
    """The routes over what can be seen, and over what tries a prompt."""

    def __init__(self, looking: Looking, run: Try) -> None:
        self._looking = looking
        self._run = run

    def routes(self) -> Sequence[Route]:
        """See adminroutes.Part."""
        return [
            Route("GET", "/v1/models", self._models, "List the models and the aliases.", Models),
            Route("GET", "/v1/clients", self._clients, "Return where clients find the gateway.", Clients),
            Route(
                "POST",
                "/v1/playground/<path:model>",
                self._try,
                "Stream a prompt's answer through the pool, as server-sent events; nothing of either is kept.",
                None,
                Generate,
                media="text/event-stream",
            ),
        ]

    def _models(self, request: Request) -> bytes:
        return answer(request, self._looking.models())

    def _clients(self, request: Request) -> bytes:
        return answer(request, self._looking.clients())

    async def _try(self, request: Request, model: str) -> bytes:
        body(request, Generate)
        assert request.content is not None
        request.content.seek(0)
        screen = _Screen(request)
        await self._run(model, request.content.read(), peer_of(request), screen)
        screen.end()
        return b""


class _Screen:
    """An answer in events."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._produced = False

    def begin(self, producer: Any, told: dict[str, str]) -> None:
        """Begin the answer; its first event says how the request was routed."""
        self._request.setHeader(b"content-type", b"text/event-stream")
        self._request.setHeader(b"cache-control", b"no-store")
        self._request.setHeader(b"x-accel-buffering", b"no")
        self._request.write(b"event: routed\ndata: " + msgspec.json.encode(told) + b"\n\n")
        if producer is not None:
            self._request.registerProducer(producer, True)
            self._produced = True

    def show(self, data: bytes) -> None:
        """Write an event."""
        # A line break in it would end the event; between JSON's tokens it means nothing.
        line = data.replace(b"\r", b" ").replace(b"\n", b" ")
        self._request.write(b"data: " + line + b"\n\n")

    def end(self) -> None:
        """End the answer."""
        if self._produced and self._request.producer is not None:
            self._request.unregisterProducer()
