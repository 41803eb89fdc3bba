"""What the admin API is made of: routes that say what they take and give, and what their answers share."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Protocol

import msgspec
from twisted.web.iweb import IRequest
from twisted.web.server import Request

from gateway.calls import GatewayError

Row = dict[str, Any]
Run = Callable[..., Any]
"""Takes a request and the path's values by name; returns bytes, or what is awaited for them, or raises GatewayError."""


class Detail(msgspec.Struct):
    """What went wrong."""

    code: Annotated[int, msgspec.Meta(description="The HTTP status.")]
    status: Annotated[str, msgspec.Meta(description="The name of a google.rpc.Code.")]
    reason: Annotated[str, msgspec.Meta(description="Which error it is, for programs.")]
    message: Annotated[str, msgspec.Meta(description="What to do, for people.")]


class Problem(msgspec.Struct):
    """An answer that is an error."""

    error: Detail


class Query(msgspec.Struct, frozen=True):
    """A member of a route's query; the last one of a name counts."""

    name: str
    told: str
    required: bool = False
    choices: Sequence[str] = ()


class Route(msgspec.Struct, frozen=True):
    """One operation: what runs it, and what its document says.

    ``path`` is a rule of Werkzeug's whose values are names: ``/v1/accounts/<upstream>/<path:name>``.
    """

    method: str
    path: str
    run: Run
    told: str
    """A sentence for people."""
    gives: Any
    """The type of the answer's JSON, or None for an answer that is none."""
    takes: Any = None
    """The msgspec type of the request's JSON body, None where there is none."""
    query: Sequence[Query] = ()
    media: str = "application/json"
    """The answer's type, where it is no JSON."""
    open: bool = False
    """Whether nobody has to be signed in for it."""

    @property
    def name(self) -> str:
        """What it is called among the routes: unique, and stable."""
        words = [word.strip("<>").rpartition(":")[2] for word in self.path.removeprefix("/v1/").split("/")]
        return "_".join([self.method.lower(), *words]).replace("-", "_").replace(".", "_")


class Part(Protocol):
    """Some routes that belong together."""

    def routes(self) -> Sequence[Route]:
        """Return them."""


def argument(request: Request, name: bytes) -> str:
    """Return a member of the query, empty where there is none; its bytes may be any."""
    values: list[bytes] = (request.args or {}).get(name, [b""])
    return values[-1].decode("utf-8", "surrogateescape")


def body(request: Request, kind: type[Any]) -> Any:
    """Return the request's JSON as a value of a msgspec type; raises GatewayError."""
    given = request.getHeader(b"content-type") or b""
    if given.partition(b";")[0].strip().lower() != b"application/json":
        raise GatewayError(
            415, "INVALID_ARGUMENT", "MEDIA_TYPE", "This route takes JSON: send Content-Type: application/json."
        )
    assert request.content is not None
    try:
        return msgspec.json.decode(request.content.read(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        # What msgspec says names members and types, and no value of a secret's type.
        raise GatewayError(
            400, "INVALID_ARGUMENT", "BODY_INVALID", f"The body is not what this route takes: {problem}."
        ) from None


def answer(request: IRequest, value: object) -> bytes:
    """Return a value as the answer's JSON, which nobody keeps."""
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"cache-control", b"no-store")
    return msgspec.json.encode(value) + b"\n"


def problem(request: IRequest, error: GatewayError) -> bytes:
    """Return an error as the answer."""
    request.setResponseCode(error.code)
    if error.retry_after_seconds is not None:
        request.setHeader(b"retry-after", b"%d" % max(round(error.retry_after_seconds), 1))
    for name, value in error.headers:
        request.setHeader(name, value)
    return answer(request, Problem(Detail(error.code, error.status, error.reason, error.message)))


def who(request: Request) -> str:
    """Say who asks: as the door knows it, or as the kernel does: unix(7), SO_PEERCRED."""
    known = getattr(request, "caller", None)
    if known is not None:
        return str(known)
    peer = getattr(getattr(request.channel, "transport", None), "socket", None)
    option = getattr(socket, "SO_PEERCRED", None)
    if peer is None or option is None or peer.family != socket.AF_UNIX:
        return "the operator"
    pid, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return f"user {uid} (process {pid})"
