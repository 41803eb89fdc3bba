"""The Klein tree: the routes of the Gemini API, nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from klein import Klein
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import BaseConverter

from gateway.calls import Call, GatewayError, Headers, Journal
from gateway.config import DoneMarker
from gateway.dialects import gemini
from gateway.dialects.verbs import UNSERVED_COLLECTIONS, VERBS
from gateway.edge import selfservice
from gateway.edge.relay import Relay
from gateway.edge.request import GatewayRequest
from gateway.edge.routes import Routes
from gateway.folding import unfolded
from gateway.modelid import is_model_id, no_model_id
from gateway.routing.asking import Live, Reply, Whole
from gateway.routing.catalog import Catalog, resource
from gateway.routing.outcome import Refusal
from gateway.routing.session import fingerprint

STEP_BYTES = 4 * 1024 * 1024
"""Of how large a body everybody else has a turn between the steps of reading it, each of which takes milliseconds."""
NOT_KEPT: Headers = ((b"cache-control", b"no-store"),)
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,9}\Z")


class Routing(Protocol):
    """What the routes need of the routing."""

    @property
    def catalog(self) -> Catalog:
        """The models and aliases of now."""

    async def run(self, call: Call, journal: Journal) -> Reply:
        """Find an answer; see routing.attempts.Router."""


class _ModelConverter(BaseConverter):
    """A model id: it may hold slashes, and ends at the colon before a verb."""

    regex = "[^:]+"
    part_isolating = False


def build(
    routing: Routing, clock: IReactorTime, done_marker: DoneMarker, own: Callable[[str], dict[str, Any]]
) -> IResource:
    """Return the resource tree of the clients' routes; ``own`` says of a key what its holder may know."""
    return Routes(_Api(routing, clock, done_marker, own).app)


class _Api:
    """The routes; each finds its request's path in plain form, judged and with its body read."""

    app = Klein()
    app.url_map.converters["model"] = _ModelConverter

    def __init__(
        self, routing: Routing, clock: IReactorTime, done_marker: DoneMarker, own: Callable[[str], dict[str, Any]]
    ) -> None:
        self._routing = routing
        self._clock = clock
        self._done_marker = done_marker
        self._own = own

    @app.route("/healthz", methods=["GET", "HEAD"])
    def health(self, request: GatewayRequest) -> None:
        request.answer(200, b'{"status":"ok"}')

    @app.route("/antigravity/me", methods=["GET", "HEAD"])
    def own(self, request: GatewayRequest) -> None:
        request.answer(200, msgspec.json.encode(self._own(request.key_id)), NOT_KEPT)

    @app.route("/antigravity/usage", methods=["GET", "HEAD"])
    @app.route("/antigravity/usage.css", methods=["GET", "HEAD"])
    @app.route("/antigravity/usage.js", methods=["GET", "HEAD"])
    def usage_page(self, request: GatewayRequest) -> None:
        selfservice.answer(request)

    @app.route("/<any(v1beta, v1, v1alpha):version>/models", methods=["GET", "HEAD"])
    def models(self, request: GatewayRequest, version: str) -> None:
        size = _last(request, b"pageSize") or _last(request, b"page_size")
        if size and not _WHOLE_NUMBER.match(size):
            raise GatewayError(400, "INVALID_ARGUMENT", "PAGE_SIZE", "`pageSize` must be a whole number.")
        token = _last(request, b"pageToken") or _last(request, b"page_token")
        allows = None if request.holder is None else request.holder.allows
        page, following = self._routing.catalog.page(int(size) if size else None, token, allows)
        body: dict[str, Any] = {"models": [resource(model) for model in page]}
        if following:
            body["nextPageToken"] = following
        request.answer(200, msgspec.json.encode(body))

    @app.route("/<any(v1beta, v1, v1alpha):version>/models/<model:model>", methods=["GET", "HEAD"])
    def model(self, request: GatewayRequest, version: str, model: str) -> None:
        if "/operations/" in model:
            raise _unserved("operations")
        request.answer(200, msgspec.json.encode(resource(self._routing.catalog.get(model))))

    @app.route("/<any(v1beta, v1, v1alpha):version>/models/<model:model>:<verb>", methods=["POST"])
    async def call(self, request: GatewayRequest, version: str, model: str, verb: str) -> None:
        call = await self._understood(request, version, model, verb)
        if call.streams:
            request.take_stream()
        journal = request.journal
        journal.requested_model, journal.model, journal.session = call.requested_model, call.model, call.session
        reply = await self._routing.run(call, journal)
        if isinstance(reply, Live):
            journal.trace_id = reply.first.trace_id
            relay = Relay(request, call, reply.stream, self._clock, reply.release, reply.failed)
            request.let_go()
            del call, reply
            await relay.run(_headers(journal))
        elif isinstance(reply, Whole):
            request.origin = "upstream"
            journal.trace_id = reply.event.trace_id
            request.usage, request.finish_reason = gemini.summary(reply.event.data)
            request.answer(200, reply.event.data, _headers(journal))
        else:
            _refused(request, reply)

    async def _understood(self, request: GatewayRequest, version: str, model: str, verb: str) -> Call:
        if verb not in VERBS:
            known = ", ".join(name for name, entry in VERBS.items() if entry.served)
            raise GatewayError(
                404, "NOT_FOUND", "METHOD_UNKNOWN", f"There is no method of that name; the known ones are: {known}."
            )
        if not VERBS[verb].served:
            raise _unserved(verb)
        request.journal.verb = verb
        if not is_model_id(model):
            raise no_model_id()
        framing, forwards_done = gemini.framing(verb, request.args, self._done_marker)
        body = request.body()
        large = len(body.text) > STEP_BYTES
        if large:
            await self._step()
        body, members = gemini.taken_apart(body)
        large = len(body.text) > STEP_BYTES
        if large:
            await self._step()
        session = ""
        if VERBS[verb].session:
            session_id = request.header(b"x-session-id")
            turn = unfolded(gemini.first_user_turn(members), body.folds)
            session = fingerprint(request.key_id, session_id, *turn)
            if large:
                await self._step()
        return Call(
            request_id=request.journal.request_id,
            verb=verb,
            model=self._routing.catalog.resolve(model),
            requested_model=model,
            body=body.text,
            folds=body.folds,
            session=session,
            framing=framing,
            forwards_done=forwards_done,
            api_version=version,
            server_timeout_seconds=gemini.server_timeout(request.header(b"x-server-timeout")),
            fixed=request.fixed,
            members=members,
        )

    async def _step(self) -> None:
        """Let everybody else have a turn."""
        await deferLater(self._clock, 0)

    @app.handle_errors(GatewayError)
    def gateway_error(self, request: Any, failure: Failure) -> None:
        error = failure.value
        assert isinstance(error, GatewayError)
        request.fail(error, _headers(request.journal))

    @app.handle_errors(NotFound)
    def not_found(self, request: Any, failure: Failure) -> None:
        segments = request.path.decode("ascii").strip("/").split("/")
        for collection in UNSERVED_COLLECTIONS:
            if collection in segments[:3] or any(part.startswith(collection + ":") for part in segments[:3]):
                request.fail(_unserved(collection))
                return
        if segments[0] in ("ws", "upload"):
            request.fail(_unserved("the Live API" if segments[0] == "ws" else "uploads"))
            return
        request.fail(
            GatewayError(
                404,
                "NOT_FOUND",
                "ROUTE_UNKNOWN",
                "There is no such route; the gateway serves /v1beta/models, /v1beta/models/<id>,"
                " /v1beta/models/<id>:<method>, /antigravity/me and /healthz.",
            )
        )

    @app.handle_errors(MethodNotAllowed)
    def method_not_allowed(self, request: Any, failure: Failure) -> None:
        error = failure.value
        assert isinstance(error, MethodNotAllowed)
        allowed = ", ".join(sorted(error.valid_methods or ()))
        request.fail(
            GatewayError(
                405,
                "INVALID_ARGUMENT",
                "HTTP_METHOD_WRONG",
                f"This route takes {allowed} only.",
                headers=((b"allow", allowed.encode("ascii")),),
            )
        )

    @app.handle_errors(Exception)
    def internal(self, request: Any, failure: Failure) -> None:
        # Klein asks nobody when the client has left.  A CancelledError that comes here is some other cancellation,
        # and the client waits for an answer.
        request.processingFailed(failure)


def _refused(request: GatewayRequest, refusal: Refusal) -> None:
    request.origin = "upstream"
    request.reason = request.journal.attempts[-1].reason if request.journal.attempts else ""
    headers = _headers(request.journal)
    if refusal.retry_after:
        headers = (*headers, (b"retry-after", refusal.retry_after))
    request.answer(refusal.status, refusal.body, headers)


def _headers(journal: Journal) -> Headers:
    """Return the header fields that say how a request was routed."""
    fields: Headers = ()
    if journal.model:
        fields += ((b"x-antigravity-model", journal.model.encode("ascii", "replace")),)
    if journal.credential:
        fields += ((b"x-antigravity-credential", journal.credential.encode("ascii", "replace")),)
    if journal.trace_id:
        fields += ((b"x-upstream-trace-id", journal.trace_id.encode("ascii", "replace")),)
    return fields


def _last(request: IRequest, name: bytes) -> str:
    values = request.args.get(name)
    return values[-1].decode("utf-8", "replace") if values else ""


def _unserved(what: str) -> GatewayError:
    return GatewayError(
        501,
        "UNIMPLEMENTED",
        "NOT_SERVED_YET",
        f"This gateway does not serve {what} yet: the result would live upstream with one credential, and later"
        " requests for it have to find that credential again. Call Google directly for it.",
    )


