"""The Klein tree: Google's paths and the control routes.  The only module that imports klein."""

from typing import TYPE_CHECKING, Any

import msgspec
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException

from gateway.simulator import aistudio, codeassist, control, oauth
from gateway.simulator.actions import Shape, compose
from gateway.simulator.asking import Place, ask_of, located
from gateway.simulator.generation import is_array
from gateway.simulator.player import Player
from gateway.simulator.prompts import everything_said
from gateway.simulator.reasons import REASONS, Refusal, Scene
from gateway.simulator.rules import Probe
from gateway.simulator.site import raw_headers
from gateway.simulator.state import Ask
from gateway.simulator.steps import Answer, Unary

if TYPE_CHECKING:
    from gateway.simulator.world import Simulator

FACES = {
    "aistudio": aistudio.answer,
    "vertex": aistudio.answer,
    "codeassist": codeassist.answer,
    "oauth": oauth.answer,
}


def _said(body: bytes) -> str:
    try:
        return everything_said(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def _refused(refusal: Refusal, ask: Ask) -> Answer:
    """A refusal as an answer; in front of an array stream Google wraps it in an array."""
    body: Any = refusal.body
    if isinstance(body, str):
        return Unary(refusal.code, body.encode(), (("Content-Type", "text/html; charset=UTF-8"),))
    return Unary(refusal.code, [body] if is_array(ask) else body, refusal.headers)


def serve(simulator: "Simulator", request: Request, place: Place) -> "Deferred[None]":
    """Answer a request to one of Google's paths, with whatever fault is due."""
    assert request.content is not None
    ask = ask_of(simulator, request, place, request.content.read())
    entry = simulator.records.begin(ask, request.uri.partition(b"?")[2].decode("latin-1"), raw_headers(request))
    probe = Probe(ask.face, ask.verb, ask.model, ask.credential, ask.method, ask.path, lambda: _said(ask.body))
    # A stock request, in tests without a socket, was not judged at its head.
    early = False if getattr(request, "judged_early", False) else None
    standing = simulator.rules.choose(probe, ask.now, early)
    entry.rule = standing.number if standing else None
    actions = standing.rule.actions() if standing else ()

    def backend(shape: Shape) -> Answer:
        try:
            return FACES[ask.face](simulator.state, ask, shape)
        except Refusal as refusal:
            return _refused(refusal, ask)

    steps = compose(actions, ask.scene, backend, simulator.pace_seconds, simulator.framing)
    return Player(request, simulator.clock, steps, simulator.records, entry).play()


def tree(simulator: "Simulator") -> IResource:
    """All routes over one simulator."""
    app = Klein()
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False

    def google(request: Request, **_: str) -> "Deferred[None] | bytes":
        place = located(request.path.decode("utf-8", "replace"))
        return missing(request) if place is None else serve(simulator, request, place)

    for number, rule in enumerate(ROUTES):
        app.route(rule, endpoint=f"google_{number}")(google)

    @app.handle_errors(HTTPException)
    def unknown(request: IRequest, failure: Failure) -> bytes:
        return missing(request)

    control.add(app, simulator)
    return app.resource()


def missing(request: IRequest) -> bytes:
    """Google's page for a path that is not there."""
    reason = REASONS["HTML_NOT_FOUND"]
    request.setResponseCode(reason.code)
    request.setHeader("Content-Type", reason.content_type)
    return reason.body(Scene())


#: Klein routes of Google's paths; what is in them, ``asking.PLACES`` says.
ROUTES = (
    "/<any(v1beta, v1, v1alpha):version>/models",
    "/<any(v1beta, v1, v1alpha):version>/models/<path:rest>",
    "/<any(v1, v1beta1):version>/projects/<path:rest>",
    "/v1internal:<verb>",
    "/v1internal/<path:name>",
    "/token",
    "/o/oauth2/v2/auth",
    "/oauth2/v2/userinfo",
)
