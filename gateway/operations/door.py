"""Who is let in to the admin API over the network: a request's head in, who that is out.  Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import attrs
import msgspec

from gateway.calls import GatewayError
from gateway.operations.sessions import Session, Sessions

COOKIE = "antigravity_session"
MARK = b"x-antigravity-request"
"""A header that no page of another origin can have a browser send without asking first."""
OPEN = (("GET", "/v1/session"), ("HEAD", "/v1/session"), ("POST", "/v1/session"))
"""What is there for whoever is not signed in: method and path."""
_READING = (b"GET", b"HEAD")
_OWN_PAGES = (b"same-origin", b"none")


class Attempts(Protocol):
    """Who tries what they do not know; see edge.guesses."""

    def failed(self, address: str, keys: int, now: float) -> GatewayError | None:
        """Count attempts; return what to tell whoever had too many."""


class Rules(msgspec.Struct, frozen=True):
    """Who may come in."""

    tokens: Sequence[bytes] = ()
    """SHA-256 digests of ``admin.token``."""
    password: str = ""
    """The hash of ``admin.password``; empty for none."""
    admits: Callable[[bytes, str], bool] = lambda host, local: False
    """Whether a Host names the gateway, given the address that was connected to."""


class Knock(msgspec.Struct, frozen=True):
    """What of a request's head the door looks at."""

    method: bytes
    path: bytes
    peer: str
    local: str = ""
    hosts: Sequence[bytes] = ()
    origins: Sequence[bytes] = ()
    sites: Sequence[bytes] = ()
    """``Sec-Fetch-Site``."""
    authorization: bytes = b""
    marked: bool = False
    cookies: Sequence[str] = ()
    """The values of the session's cookie."""


class Caller(msgspec.Struct, frozen=True):
    """Who was let in."""

    session: Session | None
    peer: str

    def __str__(self) -> str:
        return f"{self.session.name if self.session else 'admin.token'} at {self.peer}"


@attrs.define(eq=False, repr=False)
class Door:
    """Judges requests by the rules of now."""

    rules: Rules
    sessions: Sessions
    attempts: Attempts

    def judge(self, knock: Knock, now: float) -> Caller | None:
        """Return who asks, None for somebody unknown at what is open to all; raises GatewayError."""
        if knock.authorization:
            if not matches(knock.authorization, self.rules.tokens):
                raise self.attempts.failed(knock.peer, 1, now) or _unknown("This is not admin.token.")
            return Caller(None, knock.peer)
        self._own_page(knock)
        session = self.sessions.find(knock.cookies, now)
        if session is not None:
            return Caller(session, knock.peer)
        if (knock.method.decode("latin-1"), knock.path.decode("latin-1")) in OPEN:
            return None
        raise _unknown("Sign in, or show admin.token as a bearer.")

    def _own_page(self, knock: Knock) -> None:
        """Refuse what a browser was led to ask by a page of somebody else's."""
        if not all(self.rules.admits(host, knock.local) for host in knock.hosts):
            # A name of somebody's may point here, and would be at home here.
            raise GatewayError(
                403,
                "PERMISSION_DENIED",
                "HOST_NOT_ALLOWED",
                "Ask under a name of loopback's or the listener's own, or write the name into proxy.hosts.",
            )
        own = {scheme + host for host in knock.hosts for scheme in (b"http://", b"https://")}
        if any(site.lower() not in _OWN_PAGES for site in knock.sites) or any(one not in own for one in knock.origins):
            raise GatewayError(
                403, "PERMISSION_DENIED", "ORIGIN_NOT_ALLOWED", "Pages of other origins may ask nothing here."
            )
        if knock.method not in _READING and not knock.marked:
            raise GatewayError(
                403,
                "PERMISSION_DENIED",
                "HEADER_MISSING",
                "What changes something needs the header X-Antigravity-Request: 1, which other pages cannot send.",
            )

    def try_secret(self, peer: str, now: float) -> None:
        """Count an attempt to sign in, before anything is computed for it; raises GatewayError."""
        refusal = self.attempts.failed(peer, 1, now)
        if refusal is not None:
            raise attrs.evolve(
                refusal, reason="TOO_MANY_ATTEMPTS", message="Too many attempts came from this address; wait a while."
            )


def matches(authorization: bytes, tokens: Iterable[bytes]) -> bool:
    """Say whether a bearer is one of the tokens; compared with all of them, in the same time whichever it is."""
    scheme, _, token = authorization.partition(b" ")
    return known(token.strip(), tokens) and scheme.lower() == b"bearer"


def known(token: bytes, tokens: Iterable[bytes]) -> bool:
    """Say whether a token is one of those whose digests are given, in constant time."""
    digest = hashlib.sha256(token).digest()
    found = False
    for one in tokens:
        found = hmac.compare_digest(digest, one) or found
    return found


def _unknown(message: str) -> GatewayError:
    headers = ((b"www-authenticate", b'Bearer realm="antigravity-gateway"'),)
    return GatewayError(401, "UNAUTHENTICATED", "NOT_SIGNED_IN", message, headers=headers)
