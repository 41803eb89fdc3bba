"""What signing an account in says and hears: the authorisation code grant with PKCE, and user info.  Pure.

RFC 6749 sections 4.1 and 5, RFC 7636 (PKCE), RFC 8252 (native applications, a loopback redirect).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import msgspec

from gateway.accounts.oauth import Granted, TokenRevoked, TokenUnavailable, form_request, read_answer
from gateway.calls import HttpRequest, Secret
from gateway.splice import UNREADABLE

SCOPES = tuple(
    f"https://www.googleapis.com/auth/{name}" for name in ("cloud-platform", "userinfo.email", "userinfo.profile")
)
PERMISSIONS_URL = "https://myaccount.google.com/permissions"
CHANCE_BYTES = 32
"""256 bits, in 43 characters: the least that RFC 7636 takes for a verifier."""

_ONCE = ("state", "code", "error", "error_description")
_FIELDS_MOST = 32
_CODE = re.compile(r"[A-Za-z0-9._~/%+-]{1,2048}\Z")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\Z")
_SHOWN_MOST = 200


class SignInFailed(Exception):
    """There is no account at the end of this sign-in; the message says why and what to do, never a secret."""


class NotOurs(Exception):
    """This is no answer to the sign-in under way, which waits on; the message says what it lacks."""


class _UserInfo(msgspec.Struct):
    email: str = ""


_USER_INFO = msgspec.json.Decoder(_UserInfo)


class Attempt(msgspec.Struct, frozen=True):
    """One sign-in under way: what its answer must bring, and what the code is redeemed with."""

    state: Secret
    verifier: Secret

    @property
    def challenge(self) -> str:
        """The S256 code challenge: RFC 7636 section 4.2."""
        return _base64url(hashlib.sha256(self.verifier.reveal().encode("ascii")).digest())


def begin(chance: Callable[[int], bytes]) -> Attempt:
    """Return a new attempt; ``chance(n)`` gives n bytes that nobody can guess."""
    return Attempt(Secret(_base64url(chance(CHANCE_BYTES))), Secret(_base64url(chance(CHANCE_BYTES))))


def authorisation_url(auth_url: str, client_id: str, redirect_uri: str, attempt: Attempt) -> str:
    """Return the address that the account's owner opens.

    ``prompt=consent`` makes Google give a refresh token at a second sign-in too.
    """
    query = urlencode(
        {
            "client_id": client_id,
            "redirect_uri": redirect_uri,
            "response_type": "code",
            "scope": " ".join(SCOPES),
            "state": attempt.state.reveal(),
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
            "access_type": "offline",
            "prompt": "consent",
        }
    )
    return f"{auth_url}?{query}"


def read_redirect(query: str, attempt: Attempt) -> Secret:
    """Return the code in the query of a redirect.

    Raises NotOurs where the state is another's (the state is judged first, so that a stranger's ``error=`` ends
    nothing), and SignInFailed where the answer is ours and a refusal.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_FIELDS_MOST)
    except ValueError:
        raise NotOurs("it has too many parameters") from None
    names = [name for name, _ in pairs]
    # RFC 6749 section 3.1: a parameter comes once.
    if any(names.count(name) > 1 for name in _ONCE):
        raise NotOurs("a parameter comes twice in it")
    found = dict(pairs)
    if "state" not in found:
        raise NotOurs("it has no `state`")
    if not hmac.compare_digest(found["state"].encode("utf-8", "replace"), attempt.state.reveal().encode("ascii")):
        raise NotOurs("its `state` is that of another sign-in")
    if "error" in found:
        told = shown(found.get("error_description", ""))
        reason = shown(found["error"]) + (f" ({told})" if told else "")
        raise SignInFailed(f"Google did not let this account in: {reason}. Sign in again to try once more.")
    if not _CODE.match(found.get("code", "")):
        raise NotOurs("it has no usable `code`")
    return Secret(found["code"])


def read_pasted(text: str, attempt: Attempt) -> Secret:
    """Return the code in what was pasted: the redirect's whole URL, its query, or the code alone.

    A code alone carries no state; that it was made for this attempt is what the PKCE verifier proves.  Raises as
    ``read_redirect`` does.
    """
    text = text.strip().strip("'\"").strip()
    if "code=" in text or "error=" in text or "state=" in text or "://" in text:
        try:
            query = urlsplit(text).query if "?" in text or "://" in text else text
        except ValueError:
            raise NotOurs("it is no URL") from None
        return read_redirect(query, attempt)
    if not _CODE.match(text):
        raise NotOurs("it is neither the address of the last page nor a code")
    # In an address bar the slash of a code is %2F.
    return Secret(unquote(text))


def code_request(
    token_url: str,
    client_id: str,
    client_secret: Secret,
    redirect_uri: str,
    code: Secret,
    attempt: Attempt,
    user_agent: str,
) -> HttpRequest:
    """Return the request that exchanges the code: RFC 6749 section 4.1.3, RFC 7636 section 4.5."""
    return form_request(
        token_url,
        {
            "grant_type": "authorization_code",
            "code": code.reveal(),
            "redirect_uri": redirect_uri,
            "client_id": client_id,
            "client_secret": client_secret.reveal(),
            "code_verifier": attempt.verifier.reveal(),
        },
        user_agent,
    )


def read_code_answer(status: int, body: bytes) -> tuple[Granted, Secret]:
    """Return what the token endpoint granted, and the refresh token in it; raises SignInFailed."""
    try:
        granted = read_answer(status, body)
    except TokenRevoked:
        raise SignInFailed(
            "The token endpoint does not take this code (invalid_grant): it was used already, is too old, or belongs"
            " to another sign-in. Sign in again."
        ) from None
    except TokenUnavailable as error:
        raise SignInFailed(
            f"The code could not be exchanged: {error}. If it says invalid_client or unauthorized_client, check"
            " client_id and client_secret under `oauth`."
        ) from None
    if granted.refresh_token is None:
        raise SignInFailed(
            "The token endpoint gave no refresh token, so the account would work for an hour only. Remove this OAuth"
            f" client's access at {PERMISSIONS_URL} and sign in again."
        )
    return granted, granted.refresh_token


def userinfo_request(userinfo_url: str, token: Secret, user_agent: str) -> HttpRequest:
    """Return the question who signed in."""
    headers = (
        (b"accept", b"application/json"),
        (b"accept-encoding", b"identity"),
        (b"user-agent", user_agent.encode("latin-1")),
        (b"authorization", b"Bearer " + token.reveal().encode("latin-1")),
    )
    return HttpRequest(b"GET", userinfo_url.encode("ascii"), headers, b"")


def read_userinfo(status: int, body: bytes) -> str:
    """Return the e-mail address of who signed in; raises SignInFailed."""
    if status != 200:
        raise SignInFailed(f"Who signed in could not be asked: the user info endpoint answered {status}.")
    try:
        email = _USER_INFO.decode(body).email.strip()
    except UNREADABLE:
        raise SignInFailed("Who signed in could not be read: the user info endpoint's answer is no JSON.") from None
    if not _EMAIL.match(email) or not email.isprintable():
        raise SignInFailed("Who signed in is not known: the user info endpoint's answer has no usable e-mail address.")
    return email


def shown(text: str) -> str:
    """Return a stranger's text for a terminal: one short line, without control characters."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= _SHOWN_MOST else text[: _SHOWN_MOST - 3] + "..."


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
