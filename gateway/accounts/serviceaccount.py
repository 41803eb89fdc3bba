"""What a service account says to the token endpoint: a JWT as a grant, RFC 7523.  Sends nothing by itself."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping

import msgspec
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.accounts.oauth import form_request
from gateway.accounts.tokens import Ahead, RefreshedToken, Send
from gateway.calls import HttpRequest, Secret
from gateway.config import ServiceAccountConfig

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIFE_SECONDS = 3600
"""Google takes no assertion that is meant to live longer."""


def private_key(account: ServiceAccountConfig) -> RSAPrivateKey:
    """Return the account's key, ready to sign; raises ValueError where it is no RSA key in PEM."""
    key = load_pem_private_key(account.private_key.reveal().encode("utf-8"), None)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("the private key is no RSA key")
    return key


def assertion(account: ServiceAccountConfig, key: RSAPrivateKey, wall_seconds: float) -> str:
    """Return a JWT that asks for a token in the account's name: RFC 7523 section 3, signed with RS256.

    Signing takes about a millisecond, once an hour.
    """
    header = {"alg": "RS256", "typ": "JWT"}
    if account.private_key_id:
        header["kid"] = account.private_key_id
    now = int(wall_seconds)
    claims = {
        "iss": account.client_email,
        "scope": SCOPE,
        "aud": account.token_url,
        "iat": now,
        "exp": now + LIFE_SECONDS,
    }
    signed = _segment(msgspec.json.encode(header)) + b"." + _segment(msgspec.json.encode(claims))
    signature = key.sign(signed, PKCS1v15(), SHA256())
    return (signed + b"." + _segment(signature)).decode("ascii")


def grant_request(
    account: ServiceAccountConfig, key: RSAPrivateKey, wall_seconds: float, user_agent: str
) -> HttpRequest:
    """Return the request for an access token: RFC 7523 section 2.1."""
    form: Mapping[str, str] = {"grant_type": GRANT_TYPE, "assertion": assertion(account, key, wall_seconds)}
    return form_request(account.token_url, form, user_agent)


def token_source(
    account: ServiceAccountConfig,
    send: Send,
    seconds: Callable[[], float],
    wall_seconds: Callable[[], float],
    user_agent: str,
    ahead: Ahead | None = None,
    whose: str = "",
) -> RefreshedToken:
    """Return where the account's access tokens come from; raises as ``private_key`` does."""
    key = private_key(account)

    def request(refresh_token: Secret) -> HttpRequest:
        # There is no refresh token: each grant is a new assertion.
        return grant_request(account, key, wall_seconds(), user_agent)

    return RefreshedToken(request, Secret(""), send, seconds, lambda refresh_token: None, ahead, whose=whose)


def _segment(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
