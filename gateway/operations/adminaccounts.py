"""The routes that add and remove credentials, and sign accounts in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol, TypedDict

import msgspec
from twisted.logger import Logger
from twisted.web.server import Request

from gateway.calls import GatewayError
from gateway.operations.adminroutes import Route, Row, answer, body, who

_log = Logger(namespace="gateway.admin")

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$(?!\n)")]
"""The names that logs and answers show.  To Python ``$`` alone would also be before a line break at the end."""


class Filing(Protocol):
    """Adds and removes credentials; each raises GatewayError."""

    async def add(self, upstream: str, document: Mapping[str, Any]) -> bool:
        """Keep a credential; say whether it took an older one's place."""

    async def remove(self, upstream: str, name: str) -> None:
        """Remove one."""


class SigningIn(Protocol):
    """Signs accounts in; each raises GatewayError."""

    def begin(self, upstream: str, name: str) -> Row:
        """Begin."""

    def see(self, id: str) -> Row:
        """Return how one is."""

    def answer(self, id: str, text: str) -> Row:
        """Take what its owner pasted."""

    def cancel(self, id: str) -> Row:
        """Give one up."""


class NewCredential(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An API key, or a service account's key file, under a name."""

    name: Name
    api_key: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    service_account: dict[str, Any] = {}
    project: Annotated[str, msgspec.Meta(max_length=200)] = ""


class NewSignIn(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An account that is to be signed in; without a name it is called by its address."""

    name: Name | None = None


class Pasted(msgspec.Struct, forbid_unknown_fields=True):
    """The address of the browser's last page, or the code in it."""

    answer: Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]


class Added(TypedDict):
    """A credential that is kept, and whether it took the place of one of that name."""

    upstream: str
    name: str
    renewed: bool


class Removed(TypedDict):
    """A credential that was removed."""

    upstream: str
    name: str


class SignInRow(TypedDict):
    """A sign-in: ``waiting`` for a browser, ``working``, ``done`` or ``failed``."""

    id: str
    upstream: str
    url: str
    state: str
    account: str
    messages: list[str]


class AccountRoutes:
    """The routes over both."""

    def __init__(self, filing: Filing, signing_in: SigningIn) -> None:
        self._filing = filing
        self._signing_in = signing_in

    def routes(self) -> Sequence[Route]:
        """See adminroutes.Part."""
        one = "/v1/sign-ins/<id>"
        return [
            Route(
                "POST",
                "/v1/upstreams/<upstream>/credentials",
                self._add,
                "Add an API key or a service account; one of that name is replaced.",
                Added,
                NewCredential,
            ),
            Route(
                "DELETE",
                "/v1/accounts/<upstream>/<path:name>",
                self._remove,
                "Remove a credential that lies in a file; nothing is revoked at Google.",
                Removed,
            ),
            Route(
                "POST",
                "/v1/upstreams/<upstream>/sign-ins",
                self._begin,
                "Begin to sign an account in: its owner opens the URL in the answer.",
                SignInRow,
                NewSignIn,
            ),
            Route("GET", one, self._see, "Return how a sign-in is.", SignInRow),
            Route("POST", one, self._answer, "Take the address of the browser's last page.", SignInRow, Pasted),
            Route("DELETE", one, self._cancel, "Give a sign-in up.", SignInRow),
        ]

    async def _add(self, request: Request, upstream: str) -> bytes:
        given: NewCredential = body(request, NewCredential)
        if bool(given.api_key) == bool(given.service_account):
            raise GatewayError(
                400, "INVALID_ARGUMENT", "SECRET_MISSING", "Send one of api_key and service_account."
            )
        document: dict[str, Any] = msgspec.to_builtins(given)
        renewed = await self._filing.add(upstream, document)
        _log.info(
            "{who}: {what} {upstream}/{name}",
            who=who(request),
            what="renewed" if renewed else "added",
            upstream=upstream,
            name=given.name,
        )
        return answer(request, Added(upstream=upstream, name=given.name, renewed=renewed))

    async def _remove(self, request: Request, upstream: str, name: str) -> bytes:
        await self._filing.remove(upstream, name)
        _log.info("{who}: removed {upstream}/{name}", who=who(request), upstream=upstream, name=name)
        return answer(request, Removed(upstream=upstream, name=name))

    def _begin(self, request: Request, upstream: str) -> bytes:
        given: NewSignIn = body(request, NewSignIn)
        row = self._signing_in.begin(upstream, given.name or "")
        _log.info("{who}: begins a sign-in to {upstream}", who=who(request), upstream=upstream)
        return answer(request, row)

    def _see(self, request: Request, id: str) -> bytes:
        return answer(request, self._signing_in.see(id))

    def _answer(self, request: Request, id: str) -> bytes:
        given: Pasted = body(request, Pasted)
        return answer(request, self._signing_in.answer(id, given.answer))

    def _cancel(self, request: Request, id: str) -> bytes:
        return answer(request, self._signing_in.cancel(id))
