"""What is said to an OAuth token endpoint, and what it answers: RFC 6749 sections 5 and 6.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

import attrs
import msgspec

from gateway.calls import HttpRequest, Secret
from gateway.splice import UNREADABLE

LIFE_DEFAULT_SECONDS = 300.0
LIFE_LEAST_SECONDS = 60.0
LIFE_MOST_SECONDS = 86400.0


class _Granted(msgspec.Struct):
    access_token: str
    expires_in: float | str | None = None
    refresh_token: str = ""


class _Refused(msgspec.Struct):
    error: str | dict[str, object] = ""


_GRANTED = msgspec.json.Decoder(_Granted)
_REFUSED = msgspec.json.Decoder(_Refused)


class TokenUnavailable(Exception):
    """No access token now; later there may be one.  The message names the failure, never a secret."""


class TokenRevoked(Exception):
    """The token endpoint said ``invalid_grant``: this account is dead until its owner signs in again."""


@attrs.frozen
class Granted:
    """A fresh access token."""

    access_token: Secret
    life_seconds: float
    refresh_token: Secret | None
    """A new refresh token that takes the old one's place, if the endpoint sent one."""
    quota_project: str = ""
    """The project that requests with this token are counted to; empty for the one that they work in."""


def refresh_request(
    token_url: str, client_id: str, client_secret: Secret, refresh_token: Secret, user_agent: str
) -> HttpRequest:
    """Return the refresh request: RFC 6749 section 6."""
    return form_request(
        token_url,
        {
            "client_id": client_id,
            "client_secret": client_secret.reveal(),
            "refresh_token": refresh_token.reveal(),
            "grant_type": "refresh_token",
        },
        user_agent,
    )


def form_request(token_url: str, form: Mapping[str, str], user_agent: str) -> HttpRequest:
    """Return the request that brings a form to the token endpoint."""
    headers = (
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"accept", b"application/json"),
        (b"accept-encoding", b"identity"),
        (b"user-agent", user_agent.encode("latin-1")),
    )
    return HttpRequest(b"POST", token_url.encode("ascii"), headers, urlencode(form).encode("ascii"))


def read_answer(status: int, body: bytes) -> Granted:
    """Read the token endpoint's answer.

    Raises TokenRevoked for ``invalid_grant`` alone, and TokenUnavailable for everything else that is no token.
    """
    if status != 200:
        try:
            error = _REFUSED.decode(body).error
        except UNREADABLE:
            error = ""
        if error == "invalid_grant":
            raise TokenRevoked("the token endpoint answered invalid_grant")
        known = error if isinstance(error, str) and error.replace("_", "").isalpha() else "no OAuth error"
        raise TokenUnavailable(f"the token endpoint answered {status} ({known})")
    try:
        granted = _GRANTED.decode(body)
    except UNREADABLE:
        raise TokenUnavailable("the token endpoint's answer is not a token") from None
    if not granted.access_token or not granted.access_token.isascii() or not granted.access_token.isprintable():
        raise TokenUnavailable("the token endpoint's answer has no usable access_token")
    return Granted(
        Secret(granted.access_token),
        life(granted.expires_in),
        Secret(granted.refresh_token) if granted.refresh_token else None,
    )


def life(expires_in: float | str | None) -> float:
    """Return how long a token lives in seconds, by what its endpoint says, within reason."""
    try:
        seconds = float(expires_in) if expires_in is not None else LIFE_DEFAULT_SECONDS
    except ValueError:
        seconds = LIFE_DEFAULT_SECONDS
    if not seconds > 0:
        seconds = LIFE_LEAST_SECONDS
    return min(max(seconds, LIFE_LEAST_SECONDS), LIFE_MOST_SECONDS)
