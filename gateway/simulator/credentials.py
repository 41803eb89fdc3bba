"""Who may call: API keys, access tokens, refresh tokens, codes.  Pure: time and chance are arguments."""

import base64
import hashlib
from typing import Annotated

import attrs
from msgspec import Meta, Struct

from gateway.simulator.reasons import Refusal, Scene, refuse

#: A name that begins so is never good, without any setting.
BAD_KEYS = "bad"
REVOKED = "revoked"
LIFETIME = 3599
KEPT_TOKENS = 20_000


class TokenOrder(Struct, frozen=True, forbid_unknown_fields=True):
    """What the control route may do to keys and tokens; every member is optional, and all given are done.

    ``revoke`` and ``restore`` name API keys or refresh tokens.  ``expire`` is an account, or "*" for all:
    its access tokens end now.  ``expires_in`` is the life of tokens issued from now on; ``rotate`` answers each
    refresh with a new refresh token and retires the old one.  ``issue`` names an account that gets an access
    token without any grant; the answer contains it.
    """

    revoke: list[str] = []
    restore: list[str] = []
    expire: str | None = None
    expires_in: Annotated[int, Meta(ge=0)] | None = None
    rotate: bool | None = None
    issue: str | None = None


@attrs.frozen
class Issued:
    """An access token's account and the time of its end."""

    account: str
    ends: float


@attrs.frozen
class Code:
    """An authorisation code, good for one exchange."""

    account: str
    redirect_uri: str
    challenge: str
    offline: bool


@attrs.define(eq=False)
class Desk:
    """All keys and tokens.  An account is known by the first refresh token it came with."""

    expires_in: int = LIFETIME
    rotate: bool = False
    revoked: set[str] = attrs.Factory(set)
    retired: set[str] = attrs.Factory(set)
    issued: dict[str, Issued] = attrs.Factory(dict)
    accounts: dict[str, str] = attrs.Factory(dict)
    codes: dict[str, Code] = attrs.Factory(dict)
    refreshes: dict[str, int] = attrs.Factory(dict)
    serial: int = 0

    def check_key(self, key: str, scene: Scene) -> None:
        """Raise Google's refusal unless the API key is good: 403 without one, 400 for a bad one."""
        if not key:
            raise refuse("UNREGISTERED", scene)
        if key.startswith(BAD_KEYS) or key in self.revoked:
            raise refuse("API_KEY_INVALID", scene)

    def account_of(self, token: str) -> str:
        """The account of an access token, expired or not; the token itself if it was not issued here."""
        found = self.issued.get(token)
        return found.account if found else token

    def check_token(self, token: str, now: float, scene: Scene) -> str:
        """The account of a good access token; raises the 401 of a missing, unknown or expired one."""
        found = self.issued.get(token)
        if not token:
            raise refuse("UNAUTHENTICATED", scene)
        if found is None:
            raise refuse("ACCESS_TOKEN_UNKNOWN", scene)
        if found.ends <= now or found.account in self.revoked:
            raise refuse("ACCESS_TOKEN_EXPIRED", scene)
        return found.account

    def issue(self, account: str, now: float, lifetime: int | None = None) -> str:
        """A new access token."""
        self.serial += 1
        token = f"ya29.sim-{self.serial}-{hashlib.sha256(account.encode()).hexdigest()[:24]}"
        if len(self.issued) >= KEPT_TOKENS:
            self.issued = {name: known for name, known in self.issued.items() if known.ends > now}
        lifetime = self.expires_in if lifetime is None else lifetime
        self.issued[token] = Issued(account, now + lifetime)
        return token

    def refresh(self, refresh_token: str, now: float) -> dict[str, object]:
        """The answer to a refresh; raises invalid_grant for a revoked or retired refresh token."""
        account = self.accounts.get(refresh_token, refresh_token)
        self.refreshes[account] = self.refreshes.get(account, 0) + 1
        revoked = {refresh_token, account} & self.revoked or account.startswith(REVOKED)
        if not refresh_token or refresh_token in self.retired or revoked:
            raise refuse("invalid_grant", Scene())
        answer: dict[str, object] = {
            "access_token": self.issue(account, now),
            "expires_in": self.expires_in,
            "scope": "https://www.googleapis.com/auth/cloud-platform",
            "token_type": "Bearer",
        }
        if self.rotate:
            self.retired.add(refresh_token)
            self.accounts.pop(refresh_token, None)
            answer["refresh_token"] = self._new_refresh_token(account)
        return answer

    def _new_refresh_token(self, account: str) -> str:
        self.serial += 1
        token = f"1//sim-{self.serial}-{hashlib.sha256(account.encode()).hexdigest()[:24]}"
        self.accounts[token] = account
        return token

    def authorise(self, code: Code) -> str:
        """A code for the redirect."""
        self.serial += 1
        name = f"4/sim-{self.serial}"
        self.codes[name] = code
        return name

    def exchange(self, name: str, redirect_uri: str, verifier: str, now: float) -> dict[str, object]:
        """The answer to an authorisation code; raises invalid_grant if anything does not fit."""
        code = self.codes.pop(name, None)
        if code is None or code.redirect_uri != redirect_uri or not _proves(code.challenge, verifier):
            raise refuse("invalid_grant", Scene())
        answer: dict[str, object] = {
            "access_token": self.issue(code.account, now),
            "expires_in": self.expires_in,
            "scope": "https://www.googleapis.com/auth/cloud-platform",
            "token_type": "Bearer",
        }
        if code.offline:
            answer["refresh_token"] = self._new_refresh_token(code.account)
        return answer

    def order(self, order: TokenOrder, now: float) -> dict[str, object]:
        """Carry out what the control route asks."""
        self.revoked |= set(order.revoke)
        self.revoked -= set(order.restore)
        self.retired -= set(order.restore)
        if order.expires_in is not None:
            self.expires_in = order.expires_in
        if order.rotate is not None:
            self.rotate = order.rotate
        ended = 0
        for token, known in list(self.issued.items()):
            if order.expire in ("*", known.account) and known.ends > now:
                self.issued[token] = attrs.evolve(known, ends=now)
                ended += 1
        answer: dict[str, object] = {"expired": ended, "expires_in": self.expires_in, "rotate": self.rotate}
        if order.issue is not None:
            answer["access_token"] = self.issue(order.issue, now)
        return answer


def _proves(challenge: str, verifier: str) -> bool:
    """PKCE S256 (RFC 7636, 4.6); a login without a challenge needs no verifier."""
    if not challenge:
        return not verifier
    digest = hashlib.sha256(verifier.encode("ascii", "replace")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == challenge


def bearer(headers: dict[str, str]) -> str:
    """The token of an Authorization header, or ""."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def oauth_refusal(name: str, text: str, code: int = 400) -> Refusal:
    """An OAuth error with a sentence of its own (RFC 6749, 5.2)."""
    return Refusal(code, {"error": name, "error_description": text})
