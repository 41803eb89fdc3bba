"""The document of the admin API: routes in, OpenAPI 3.1 out.  See https://spec.openapis.org/oas/v3.1.1."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gateway.operations.adminroutes import Problem, Query, Route

Node = dict[str, Any]

REFERENCE = "#/components/schemas/{name}"
EVENTS = "text/event-stream"
_EVENT: Node = {
    "type": "object",
    "description": "One event of the stream; its data is JSON.",
    "required": ["data"],
    "properties": {"event": {"type": "string"}, "data": {"type": "string", "contentMediaType": "application/json"}},
}
_VALUE = re.compile(r"<(?:[^:<>]+:)?([a-z_]+)>")
_ERRORS = {"4XX": "The request is refused; the answer says why.", "5XX": "The gateway could not do it."}
_ABOUT = """\
The operator's side of the gateway: what `antigravity` and the dashboard use.  Over the network a request shows
`admin.token` as a bearer, or the cookie of a session; what changes something with a cookie also needs the header
`X-Antigravity-Request: 1`.  Through `admin.sock` nobody has to sign in: who may open that socket is the operator."""


def template(path: str) -> str:
    """Return a rule's path as OpenAPI writes it: ``/v1/accounts/{upstream}/{name}``."""
    return _VALUE.sub(r"{\1}", path)


def document(routes: Iterable[Route], version: str) -> Node:
    """Return the whole document."""
    routes = list(routes)
    types = [one for route in routes for one in (route.gives, route.takes) if one is not None]
    shapes, components = msgspec.json.schema_components([*types, Problem], ref_template=REFERENCE)
    shown = dict(zip(map(id, types), shapes, strict=False))
    paths: dict[str, Node] = {}
    for route in routes:
        paths.setdefault(template(route.path), {})[route.method.lower()] = _operation(route, shown, shapes[-1])
    return {
        "openapi": "3.1.0",
        "info": {"title": "Antigravity Gateway, admin API", "version": version, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "admin.token"},
                "session": {"type": "apiKey", "in": "cookie", "name": "antigravity_session"},
            },
        },
    }


def _operation(route: Route, shown: dict[int, Any], error: Any) -> Node:
    given = _EVENT if route.media == EVENTS else _schema(route.gives, shown)
    operation: Node = {
        "operationId": route.name,
        "summary": route.told,
        "tags": [route.path.split("/")[2]],
        "responses": {
            "200": {"description": "It is done.", "content": {route.media: {"schema": given}}},
            **{
                code: {"description": told, "content": {"application/json": {"schema": error}}}
                for code, told in _ERRORS.items()
            },
        },
    }
    if parameters := [*_in_path(route.path), *map(_in_query, route.query)]:
        operation["parameters"] = parameters
    if route.takes is not None:
        content = {"application/json": {"schema": _schema(route.takes, shown)}}
        operation["requestBody"] = {"required": True, "content": content}
    if route.open:
        operation["security"] = [{}]
    return operation


def _schema(kind: Any, shown: dict[int, Any]) -> Any:
    return {"type": "string"} if kind is None else shown[id(kind)]


def _in_path(path: str) -> Sequence[Node]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _VALUE.findall(path)
    ]


def _in_query(query: Query) -> Node:
    schema: Node = {"type": "string"}
    if query.choices:
        # An empty one is as if it were not there.
        schema["enum"] = [*query.choices, *([] if query.required else [""])]
    elif query.required:
        schema["minLength"] = 1
    return {
        "name": query.name,
        "in": "query",
        "required": query.required,
        "description": query.told,
        "schema": schema,
    }
