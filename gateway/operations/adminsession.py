"""The routes that sign somebody in to the admin API and out again, and those that make codes for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypedDict

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.server import Request

from gateway.calls import GatewayError
from gateway.operations.adminroutes import Route, answer, body
from gateway.operations.door import COOKIE, Caller, Door, known
from gateway.operations.sessions import CODE_SECONDS, Codes, Session

PATH = "/v1"
CHECKS_MOST = 4
"""Passwords that are checked or wait for it at a time: each takes memory and a core for a while."""

_log = Logger(namespace="gateway.admin")

Check = Callable[[str, str], Deferred[bool]]
"""Says whether a hash is that of a password."""


class SignIn(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One of the three, to sign in with."""

    password: Annotated[str, msgspec.Meta(max_length=1024, description="admin.password, in clear.")] = ""
    token: Annotated[str, msgspec.Meta(max_length=1024, description="admin.token, in clear.")] = ""
    code: Annotated[str, msgspec.Meta(max_length=1024, description="What `antigravity dashboard` made.")] = ""


class SignedIn(TypedDict):
    """Whether somebody is signed in, how long for, and what one could sign in with."""

    signed_in: bool
    how: str
    left_seconds: float
    ways: list[str]
    version: str


class Code(TypedDict):
    """A code that signs in once, and where."""

    code: str
    seconds: float
    urls: list[str]


class SessionRoutes:
    """The routes of the network's face.  Nothing but who is signed in is kept."""

    def __init__(
        self, door: Door, codes: Codes, check: Check, chance: Callable[[], str], clock: IReactorTime, version: str
    ) -> None:
        """``chance`` makes 256 bits of it."""
        self._door = door
        self._codes = codes
        self._check = check
        self._chance = chance
        self._clock = clock
        self._version = version
        self._checking = 0

    def routes(self) -> Sequence[Route]:
        """See adminroutes.Part."""
        path = f"{PATH}/session"
        return [
            Route("GET", path, self._tell, "Say whether the caller is signed in.", SignedIn, open=True),
            Route("POST", path, self._begin, "Sign in; the answer sets the cookie.", SignedIn, SignIn, open=True),
            Route("DELETE", path, self._end, "Sign out.", SignedIn),
        ]

    def _tell(self, request: Request) -> bytes:
        caller: Caller | None = getattr(request, "caller", None)
        if caller is not None and caller.session is None:
            return self._answer(request, None, "token")
        return self._answer(request, caller.session if caller else None)

    async def _begin(self, request: Request) -> bytes:
        given: SignIn = body(request, SignIn)
        peer, now = peer_of(request), self._clock.seconds()
        if sum(map(bool, (given.password, given.token, given.code))) != 1:
            raise GatewayError(
                400, "INVALID_ARGUMENT", "SECRET_MISSING", "Send one of password, token and code to sign in with."
            )
        self._door.try_secret(peer, now)
        how = next(name for name in ("password", "token", "code") if getattr(given, name))
        if not await self._is_good(given, now):
            _log.warn("an attempt to sign in from {peer} with a wrong {how}", peer=peer, how=how)
            raise GatewayError(401, "UNAUTHENTICATED", "SIGN_IN_FAILED", f"This {how} is not good here.")
        token = self._chance()
        session = self._door.sessions.begin(token, how, self._clock.seconds())
        _log.info("{session} from {peer}: signed in with a {how}", session=session.name, peer=peer, how=how)
        _cookie(request, token)
        return self._answer(request, session)

    async def _is_good(self, given: SignIn, now: float) -> bool:
        rules = self._door.rules
        if given.code:
            return self._codes.take(given.code, now)
        if given.token:
            return known(given.token.encode("utf-8", "surrogatepass"), rules.tokens)
        if not rules.password:
            return False
        if self._checking >= CHECKS_MOST:
            raise GatewayError(
                503,
                "UNAVAILABLE",
                "OVERLOADED",
                "Other passwords are being checked; try again.",
                retry_after_seconds=1.0,
            )
        return await self._checked(rules.password, given.password)

    def _checked(self, hashed: str, password: str) -> Deferred[bool]:
        """Check a password; it counts until that is done, also where whoever asked has left meanwhile."""
        waiter: Deferred[bool] = Deferred()

        def done(result: Any) -> None:
            self._checking -= 1
            if not waiter.called:
                waiter.callback(result)

        self._checking += 1
        self._check(hashed, password).addBoth(done)
        return waiter

    def _end(self, request: Request) -> bytes:
        caller: Caller | None = getattr(request, "caller", None)
        if caller is not None and caller.session is not None:
            self._door.sessions.end(caller.session)
            _log.info("{who}: signed out", who=str(caller))
        _cookie(request, "", seconds=0)
        return self._answer(request, None)

    def _answer(self, request: Request, session: Session | None, how: str = "") -> bytes:
        rules = self._door.rules
        told = SignedIn(
            signed_in=session is not None or bool(how),
            how=session.how if session else how,
            left_seconds=self._door.sessions.left(session, self._clock.seconds()) if session else 0.0,
            ways=[way for way, there in (("password", rules.password), ("token", rules.tokens)) if there] + ["code"],
            version=self._version,
        )
        return answer(request, told)


class CodeRoutes:
    """The routes of ``admin.sock`` alone."""

    def __init__(
        self, codes: Codes, chance: Callable[[], str], clock: IReactorTime, places: Callable[[], Sequence[str]]
    ) -> None:
        """``places`` are the URLs at which the dashboard is."""
        self._codes = codes
        self._chance = chance
        self._clock = clock
        self._places = places

    def routes(self) -> Sequence[Route]:
        """See adminroutes.Part."""
        told = "Make a code that signs in once, within five minutes."
        return [Route("POST", f"{PATH}/sign-in-codes", self._make, told, Code)]

    def _make(self, request: Request) -> bytes:
        code = self._chance()
        self._codes.make(code, self._clock.seconds())
        return answer(request, Code(code=code, seconds=CODE_SECONDS, urls=list(self._places())))


def peer_of(request: Request) -> str:
    """Return the address that a request came from."""
    return str(getattr(request.getClientAddress(), "host", "unix"))


def _cookie(request: Request, value: str, seconds: int | None = None) -> None:
    request.addCookie(
        COOKIE,
        value,
        path=PATH,
        max_age=None if seconds is None else b"%d" % seconds,
        secure=request.isSecure(),
        httpOnly=True,
        sameSite="strict",
    )
