"""The admin face: the operator's routes over HTTP with JSON.  Who may reach it is its listener's business."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import Request, Site
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from gateway.calls import GatewayError
from gateway.operations.adminpool import PoolRoutes, Steering
from gateway.operations.adminroutes import Part, Route, Row, answer, problem
from gateway.operations.adminsocket import AdminSite
from gateway.operations.openapi import document

_log = Logger(namespace="gateway.admin")


def build(
    steering: Steering, version: str, reactor: Any, more: Callable[[], Row] = dict, parts: Sequence[Part] = ()
) -> Site:
    """Return the site, to be put behind a listener that lets only the operator in.

    ``more`` is what the status tells beside the pool's, ``parts`` are further routes.
    """
    resource = Face([PoolRoutes(steering, version, more), *parts], version).resource
    return AdminSite(resource, reactor)


class Face:
    """The routes of some parts as one tree, and the document that tells of them all."""

    def __init__(self, parts: Sequence[Part], version: str) -> None:
        described = Route("GET", "/v1/openapi.json", self._described, "Return this document.", dict[str, Any])
        self.routes = [route for part in parts for route in part.routes()] + [described]
        self._version = version
        self.app = Klein()
        for route in self.routes:
            self.app.route(route.path, methods=[route.method], endpoint=route.name)(_named(route))
        for kind, tell in _FAILURES.items():
            self.app.handle_errors(kind)(tell)
        self.resource: IResource = self.app.resource()

    def _described(self, request: Request) -> bytes:
        return answer(request, document(self.routes, self._version))


def _named(route: Route) -> Callable[..., Any]:
    """Return what runs a route as a function with a name, for which Klein looks."""

    def run(request: Request, **values: str) -> Any:
        return route.run(request, **values)

    run.__name__ = route.name
    return run


def _refused(request: IRequest, failure: Failure) -> bytes:
    error: Any = failure.value
    return problem(request, error)


def _not_routed(request: IRequest, failure: Failure) -> bytes:
    error: Any = failure.value
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(set(error.valid_methods or ()) - {"HEAD", "OPTIONS"}))
        headers = ((b"allow", allowed.encode("ascii")),)
        told = f"This route takes {allowed} only."
        return problem(request, GatewayError(405, "UNIMPLEMENTED", "METHOD_NOT_ALLOWED", told, headers=headers))
    return problem(request, GatewayError(404, "NOT_FOUND", "ROUTE_UNKNOWN", "There is no such route."))


def _gone(request: IRequest, failure: Failure) -> bytes:
    return b""


def _failed(request: IRequest, failure: Failure) -> bytes:
    _log.failure("the admin face failed", failure=failure)
    return problem(request, GatewayError(500, "INTERNAL", "INTERNAL", "The gateway failed; its log tells why."))


_FAILURES = {GatewayError: _refused, HTTPException: _not_routed, CancelledError: _gone, Exception: _failed}
"""What answers which exception; the first that fits does."""
