"""The control routes under ``/_simulator/``: faults, requests, state, quotas, tokens."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import Request

from gateway.simulator.credentials import TokenOrder
from gateway.simulator.protojson import Json
from gateway.simulator.quotas import Quota
from gateway.simulator.reasons import REASONS, pretty
from gateway.simulator.rules import Rule

if TYPE_CHECKING:
    from klein import Klein

    from gateway.simulator.world import Simulator


class ServiceAccountOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The service account to make; ``token_url`` goes into its key file."""

    email: str
    project: str = "simulated-project"
    token_url: str = "https://oauth2.googleapis.com/token"  # noqa: S105


T = TypeVar("T")


def _body(request: Request, kind: type[T]) -> T:
    assert request.content is not None
    return msgspec.json.decode(request.content.read() or b"{}", type=kind)


def _query(request: Request, name: str, default: str) -> str:
    values = (request.args or {}).get(name.encode())
    return values[0].decode("utf-8", "replace") if values else default


def add(app: "Klein", simulator: "Simulator") -> None:
    """Put the control routes into an app."""

    def route(path: str, method: str) -> Callable[[Callable[..., Json]], Callable[..., bytes]]:
        """A route whose function answers a JSON document."""

        def decorate(function: Callable[..., Json]) -> Callable[..., bytes]:
            def render(request: IRequest, **arguments: Any) -> bytes:
                request.setHeader("Content-Type", "application/json")
                return pretty(function(request, **arguments))

            app.route("/_simulator" + path, methods=[method], endpoint=f"control_{method}_{path}")(render)
            return render

        return decorate

    @app.handle_errors(msgspec.DecodeError)
    def wrong(request: IRequest, failure: Failure) -> bytes:
        request.setResponseCode(400)
        request.setHeader("Content-Type", "application/json")
        return pretty({"error": str(failure.value)})

    @route("/faults", "POST")
    def add_fault(request: Request) -> Json:
        return {"id": simulator.add(_body(request, Rule))}

    @route("/faults", "GET")
    def list_faults(request: Request) -> Json:
        return {"faults": [standing.report() for standing in simulator.rules.standing]}

    @route("/faults", "DELETE")
    def clear_faults(request: Request) -> Json:
        return {"removed": simulator.clear_faults()}

    @route("/faults/<int:number>", "DELETE")
    def remove_fault(request: Request, number: int) -> Json:
        return {"removed": simulator.rules.remove(number)}

    @route("/reasons", "GET")
    def reasons(request: Request) -> Json:
        return {"reasons": {name: reason.code for name, reason in REASONS.items()}}

    @route("/requests", "GET")
    def requests(request: Request) -> Json:
        after = _query(request, "after", "0")
        found = simulator.requests(_query(request, "face", "*"), _query(request, "verb", "*"))
        last = int(after) if after.isascii() and after.isdigit() else 0
        return {"requests": [entry.report() for entry in found if entry.number > last]}

    @route("/requests", "DELETE")
    def forget(request: Request) -> Json:
        return {"removed": simulator.records.clear()}

    @route("/state", "GET")
    def state(request: Request) -> Json:
        return simulator.report()

    @route("/quota", "POST")
    def quota(request: Request) -> Json:
        simulator.quota(_body(request, Quota))
        return {"quotas": simulator.state.quotas.report()}

    @route("/quota", "DELETE")
    def no_quota(request: Request) -> Json:
        removed = len(simulator.state.quotas.quotas)
        simulator.state.quotas = type(simulator.state.quotas)()
        return {"removed": removed}

    @route("/tokens", "POST")
    def tokens(request: Request) -> Json:
        return simulator.tokens(_body(request, TokenOrder))

    @route("/service-accounts", "POST")
    def service_account(request: Request) -> Json:
        order = _body(request, ServiceAccountOrder)
        return simulator.service_account(order.email, order.project, order.token_url)

    @route("/", "DELETE")
    def reset(request: Request) -> Json:
        simulator.reset()
        return {"reset": True}
