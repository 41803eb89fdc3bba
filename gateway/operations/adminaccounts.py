"""The routes that add and remove credentials, and sign accounts in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol, TypedDict

import msgspec
from msgspec import UNSET, UnsetType
from twisted.logger import Logger
from twisted.web.server import Request

from gateway.calls import GatewayError
from gateway.config.values import CONCURRENT_MOST, PRIORITY_MOST, WEIGHT_MOST
from gateway.operations.adminroutes import Route, Row, answer, body, who

_log = Logger(namespace="gateway.admin")

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$(?!\n)")]
"""The names that logs and answers show.  To Python ``$`` alone would also be before a line break at the end."""


_PRINTED = r"^[^\x00-\x20\x7f/-][^\x00-\x1f\x7f/]*$(?!\n)"
AnyName = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=_PRINTED)]
"""The names of credentials: an account's may be its owner's address, so that logs have its label in place of it."""


class Filing(Protocol):
    """Adds, changes and removes credentials, and returns names, label and more of each; each raises GatewayError."""

    async def add(self, upstream: str, document: Mapping[str, Any]) -> Row:
        """Keep a credential."""

    async def put(self, upstream: str, name: str, changes: Mapping[str, Any]) -> Row:
        """Change how much one is used; None is what its upstream says."""

    async def remove(self, upstream: str, name: str) -> Row:
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


_Weight = Annotated[float, msgspec.Meta(gt=0, le=WEIGHT_MOST)]
_Priority = Annotated[int, msgspec.Meta(ge=-PRIORITY_MOST, le=PRIORITY_MOST)]
_Concurrent = Annotated[int, msgspec.Meta(ge=0, le=CONCURRENT_MOST)]


class NewCredential(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An API key, a service account's key file, or an account's refresh token, under a name."""

    name: AnyName
    api_key: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    service_account: dict[str, Any] = {}
    refresh_token: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    email: Annotated[str, msgspec.Meta(max_length=320)] = ""
    project: Annotated[str, msgspec.Meta(max_length=200)] = ""
    weight: _Weight | None = None
    priority: _Priority | None = None
    max_concurrent: _Concurrent | None = None


class TermsChange(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """How much a credential is used; null is what its upstream says, and what is left out stays."""

    weight: _Weight | UnsetType | None = UNSET
    priority: _Priority | UnsetType | None = UNSET
    max_concurrent: _Concurrent | UnsetType | None = UNSET


class NewSignIn(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """An account that is to be signed in; without a name it is called by its address."""

    name: Name | None = None


class Pasted(msgspec.Struct, forbid_unknown_fields=True):
    """The address of the browser's last page, or the code in it."""

    answer: Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]


class Filed(TypedDict):
    """A credential that lies in a file, or lay there."""

    upstream: str
    name: str
    label: str


class Added(Filed):
    """A credential that is kept, and whether it took the place of one of that name."""

    path: str
    renewed: bool


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
                "Add an API key, a service account or an account; one of that name is replaced.",
                Added,
                NewCredential,
            ),
            Route(
                "DELETE",
                "/v1/accounts/<upstream>/<path:name>",
                self._remove,
                "Remove a credential that lies in a file; nothing is revoked at Google.",
                Filed,
            ),
            Route(
                "PATCH",
                "/v1/accounts/<upstream>/<path:name>/terms",
                self._put,
                "Change how much a credential that lies in a file is used.",
                Filed,
                TermsChange,
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
        if sum(map(bool, (given.api_key, given.service_account, given.refresh_token))) != 1:
            raise GatewayError(
                400, "INVALID_ARGUMENT", "SECRET_MISSING", "Send one of api_key, service_account and refresh_token."
            )
        row = await self._filing.add(upstream, msgspec.to_builtins(given))
        return self._told(request, "renewed" if row["renewed"] else "added", row)

    async def _put(self, request: Request, upstream: str, name: str) -> bytes:
        given: TermsChange = body(request, TermsChange)
        return self._told(request, "changed", await self._filing.put(upstream, name, msgspec.to_builtins(given)))

    async def _remove(self, request: Request, upstream: str, name: str) -> bytes:
        return self._told(request, "removed", await self._filing.remove(upstream, name))

    def _told(self, request: Request, what: str, row: Row) -> bytes:
        _log.info("{who}: {what} {credential}", who=who(request), what=what, credential=row["label"])
        return answer(request, row)

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
