"""The pool's routes of the admin API: credentials seen and steered, and how a request would be routed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NotRequired, Protocol, TypedDict

import attrs
from twisted.logger import Logger
from twisted.web.server import Request

from gateway.calls import GatewayError
from gateway.operations.adminroutes import Query, Route, Row, answer, argument, who

_log = Logger(namespace="gateway.admin")
ACTIONS = {
    "disable": "Use a credential no more, until it is enabled; requests under way end as they would.",
    "enable": "Use a credential again that was disabled.",
    "clear": "Forget a credential's cool-downs and quarantine.",
}


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


class Rest(TypedDict):
    """A cool-down of one model with one credential."""

    model: str
    state: str
    reason: str
    until: str | None
    next_try: str | None


class Quota(TypedDict):
    """What is left of a quota, from 0 to 1."""

    model: str
    remaining: float
    reset: str | None


class Account(TypedDict):
    """A credential, as its operator sees it."""

    name: str
    upstream: str
    kind: str
    label: str
    project: str
    in_file: bool
    state: str
    reason: str
    link: str
    since: str | None
    models: list[Rest]
    quota: list[Quota]
    last_used: str | None
    in_flight: int
    weight: float
    priority: int
    max_concurrent: int


class Accounts(TypedDict):
    """All credentials."""

    accounts: list[Account]


class OneAccount(TypedDict):
    """One credential."""

    account: Account


class Acted(TypedDict):
    """A credential after what was done, and whether that changed anything."""

    account: Account
    changed: bool


class Tested(TypedDict):
    """How a test of a credential went."""

    account: Account
    good: bool
    model: str
    status: int
    reason: str
    message: str
    seconds: float
    tokens: int | None
    link: str


class Upstream(TypedDict):
    """An upstream, and how many of its credentials can be used."""

    name: str
    kind: str
    state: str
    reason: str
    credentials: int
    usable: int


class Configuration(TypedDict):
    """What became of reading the configuration anew."""

    loaded: str
    good: int
    failed: int
    last_failure: str


class Status(TypedDict):
    """How the gateway is."""

    version: str
    configuration: NotRequired[Configuration]
    strategy: str
    in_flight: int
    upstreams: list[Upstream]


class Resumed(TypedDict):
    """An upstream, and whether it had stood still."""

    upstream: str
    changed: bool


class Candidate(TypedDict):
    """What one credential is to a request."""

    label: str
    name: str
    upstream: str
    state: str
    reason: str
    free_seconds: float | None
    chosen: bool


class Explained(TypedDict):
    """How a request would be routed."""

    model: str
    resolved: str
    verb: str
    strategy: str
    session: str
    session_on: str
    options: list[Candidate]


class PoolRoutes:
    """The routes over a steering."""

    def __init__(self, steering: Steering, version: str, more: Callable[[], Row]) -> None:
        self._steering = steering
        self._version = version
        self._more = more

    def routes(self) -> Sequence[Route]:
        """See adminroutes.Part."""
        one = "/v1/accounts/<upstream>/<path:name>"
        model = Query("model", "The model to ask for; empty for the upstream's own choice.")
        return [
            Route("GET", "/v1/status", self._status, "Return how the gateway and its upstreams are.", Status),
            Route("GET", "/v1/accounts", self._accounts, "List the credentials.", Accounts),
            Route("GET", one, self._account, "Return one credential.", OneAccount),
            *(
                Route("POST", f"{one}/{action}", partial(self._act, action=action), told, Acted)
                for action, told in ACTIONS.items()
            ),
            Route("POST", f"{one}/test", self._test, "Have a credential count a word's tokens.", Tested, query=[model]),
            Route(
                "POST",
                "/v1/upstreams/<upstream>/resume",
                self._resume,
                "Let an upstream go on that stands still.",
                Resumed,
            ),
            Route(
                "GET",
                "/v1/explain",
                self._explain,
                "Return which credential a request would be given now, and why each other would not.",
                Explained,
                query=[
                    Query("model", "The model that is asked for.", required=True),
                    Query("session", "A session's fingerprint, or what a client sends as X-Session-Id."),
                    Query("verb", "The method; generateContent unless given."),
                ],
            ),
        ]

    def _status(self, request: Request) -> bytes:
        return answer(request, {"version": self._version, **self._more(), **self._steering.status()})

    def _accounts(self, request: Request) -> bytes:
        return answer(request, {"accounts": self._steering.accounts()})

    def _account(self, request: Request, upstream: str, name: str) -> bytes:
        return answer(request, {"account": self._steering.account(upstream, name)})

    async def _act(self, request: Request, upstream: str, name: str, action: str) -> bytes:
        row, changed = await self._steering.act(action, upstream, name)
        _log.info(
            "{who}: {action} {credential}{without}, now {state}",
            who=who(request),
            action=action,
            credential=row["label"],
            without="" if changed else " (changed nothing)",
            state=row["state"],
        )
        return answer(request, {"account": row, "changed": changed})

    async def _test(self, request: Request, upstream: str, name: str) -> bytes:
        result = await self._steering.test(upstream, name, argument(request, b"model"))
        _log.info(
            "{who}: test {credential}: {result}",
            who=who(request),
            credential=result["account"]["label"],
            result="good" if result["good"] else f"{result['status']} {result['reason']}",
        )
        return answer(request, result)

    async def _resume(self, request: Request, upstream: str) -> bytes:
        changed = await self._steering.resume(upstream)
        _log.info(
            "{who}: resume upstream {upstream}{without}",
            who=who(request),
            upstream=upstream,
            without="" if changed else " (it was not halted)",
        )
        return answer(request, {"upstream": upstream, "changed": changed})

    def _explain(self, request: Request) -> bytes:
        model = argument(request, b"model")
        if not model:
            raise GatewayError(400, "INVALID_ARGUMENT", "MODEL_MISSING", "Name a model: ?model=gemini-2.5-flash")
        verb = argument(request, b"verb") or "generateContent"
        try:
            return answer(request, self._steering.explain(model, argument(request, b"session"), verb))
        except GatewayError as error:
            if error.code < 500:
                raise
            # What a client would be told of an unknown method is no failure of this question's.
            raise attrs.evolve(error, code=400, status="INVALID_ARGUMENT") from None
