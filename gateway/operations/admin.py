"""The admin face: the pool seen and steered over HTTP with JSON.  Who may reach it is its listener's business."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import Request, Site
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from gateway.calls import GatewayError

IDLE_SECONDS = 60.0

_log = Logger(namespace="gateway.admin")

Row = dict[str, Any]


class Steering(Protocol):
    """What can be seen and steered: plain values that hold no secret; each raises GatewayError."""

    def accounts(self) -> list[Row]:
        """Return a row for each credential."""

    def account(self, upstream: str, name: str) -> Row:
        """Return one credential's row."""

    def status(self) -> Row:
        """Return the state of the upstreams."""

    async def act(self, action: str, upstream: str, name: str) -> tuple[Row, bool]:
        """Disable, enable or clear a credential."""

    async def resume(self, upstream: str) -> bool:
        """Let a halted upstream go on."""

    async def test(self, upstream: str, name: str, model: str = "") -> Row:
        """Try a credential."""

    def explain(self, model: str, session: str = "", verb: str = "generateContent") -> Row:
        """Return how a request would be routed."""


def build(
    steering: Steering, version: str, reactor: Any, more: Callable[[], Row] = dict
) -> Site:
    """Return the site, to be put behind a listener that lets only the operator in.

    ``more`` is what the status tells beside the pool's.
    """
    resource = _Admin(steering, version, more).app.resource()
    site: Site = AdminSite(resource, reactor=reactor, parsePOSTFormSubmission=False)  # type: ignore[no-untyped-call]
    site.displayTracebacks = False
    site.timeOut = IDLE_SECONDS
    return site


class AdminSite(Site):
    """Without an access log of its own: what changes something is logged where it is done."""

    noisy = False

    def log(self, request: Any) -> None:
        """Log nothing."""


class _Admin:
    """The routes."""

    app = Klein()

    def __init__(self, steering: Steering, version: str, more: Callable[[], Row]) -> None:
        self._steering = steering
        self._version = version
        self._more = more

    @app.route("/v1/status", methods=["GET"])
    def status(self, request: Request) -> bytes:
        return _json(request, {"version": self._version, **self._more(), **self._steering.status()})

    @app.route("/v1/accounts", methods=["GET"])
    def accounts(self, request: Request) -> bytes:
        return _json(request, {"accounts": self._steering.accounts()})

    @app.route("/v1/accounts/<upstream>/<path:name>", methods=["GET"])
    def account(self, request: Request, upstream: str, name: str) -> bytes:
        return _json(request, {"account": self._steering.account(upstream, name)})

    @app.route("/v1/accounts/<upstream>/<path:name>/<any(disable, enable, clear):action>", methods=["POST"])
    async def act(self, request: Request, upstream: str, name: str, action: str) -> bytes:
        row, changed = await self._steering.act(action, upstream, name)
        _log.info(
            "{who}: {action} {credential}{without}, now {state}",
            who=_who(request),
            action=action,
            credential=row["label"],
            without="" if changed else " (changed nothing)",
            state=row["state"],
        )
        return _json(request, {"account": row, "changed": changed})

    @app.route("/v1/accounts/<upstream>/<path:name>/test", methods=["POST"])
    async def test(self, request: Request, upstream: str, name: str) -> bytes:
        result = await self._steering.test(upstream, name, _argument(request, b"model"))
        _log.info(
            "{who}: test {credential}: {result}",
            who=_who(request),
            credential=result["account"]["label"],
            result="good" if result["good"] else f"{result['status']} {result['reason']}",
        )
        return _json(request, result)

    @app.route("/v1/upstreams/<upstream>/resume", methods=["POST"])
    async def resume(self, request: Request, upstream: str) -> bytes:
        changed = await self._steering.resume(upstream)
        _log.info(
            "{who}: resume upstream {upstream}{without}",
            who=_who(request),
            upstream=upstream,
            without="" if changed else " (it was not halted)",
        )
        return _json(request, {"upstream": upstream, "changed": changed})

    @app.route("/v1/explain", methods=["GET"])
    def explain(self, request: Request) -> bytes:
        model = _argument(request, b"model")
        if not model:
            raise GatewayError(400, "INVALID_ARGUMENT", "MODEL_MISSING", "Name a model: ?model=gemini-2.5-flash")
        verb = _argument(request, b"verb") or "generateContent"
        return _json(request, self._steering.explain(model, _argument(request, b"session"), verb))

    @app.handle_errors(GatewayError)
    def refused(self, request: IRequest, failure: Failure) -> bytes:
        error: Any = failure.value
        return _error(request, error)

    @app.handle_errors(HTTPException)
    def not_routed(self, request: IRequest, failure: Failure) -> bytes:
        if failure.check(MethodNotAllowed):
            told = GatewayError(405, "UNIMPLEMENTED", "METHOD_NOT_ALLOWED", "This route wants another method.")
            return _error(request, told)
        return _error(request, GatewayError(404, "NOT_FOUND", "ROUTE_UNKNOWN", "There is no such route."))

    @app.handle_errors(CancelledError)
    def gone(self, request: IRequest, failure: Failure) -> bytes:
        return b""

    @app.handle_errors(Exception)
    def failed(self, request: IRequest, failure: Failure) -> bytes:
        _log.failure("the admin face failed", failure=failure)
        return _error(request, GatewayError(500, "INTERNAL", "INTERNAL", "The gateway failed; its log tells why."))


def _argument(request: Request, name: bytes) -> str:
    values: list[bytes] = (request.args or {}).get(name, [b""])
    return values[-1].decode("utf-8", "surrogateescape")


def _json(request: IRequest, value: object) -> bytes:
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"cache-control", b"no-store")
    return msgspec.json.encode(value) + b"\n"


def _error(request: IRequest, error: GatewayError) -> bytes:
    request.setResponseCode(error.code)
    told = {"code": error.code, "status": error.status, "reason": error.reason, "message": error.message}
    return _json(request, {"error": told})


def _who(request: Request) -> str:
    """Say who asks, as the kernel knows it: unix(7), SO_PEERCRED."""
    peer = getattr(getattr(request.channel, "transport", None), "socket", None)
    option = getattr(socket, "SO_PEERCRED", None)
    if peer is None or option is None or peer.family != socket.AF_UNIX:
        return "the operator"
    pid, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return f"user {uid} (process {pid})"
