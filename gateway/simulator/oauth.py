"""The face of Google's OAuth: authorise, token, user info.  Pure."""

import base64
import binascii
from collections.abc import Callable
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec

from gateway.simulator.actions import Shape
from gateway.simulator.credentials import Code, bearer, oauth_refusal
from gateway.simulator.generation import document
from gateway.simulator.protojson import Json
from gateway.simulator.reasons import Scene, refuse
from gateway.simulator.state import Ask, State
from gateway.simulator.steps import Answer, Unary

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
#: A login whose hint begins so is refused by its owner.
DENY = "deny"
_BAD_CLIENT = "bad"


def form_of(body: bytes) -> dict[str, str]:
    """A form as a mapping; of a repeated name the last value holds."""
    pairs = parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[-1] for name, values in pairs.items()}


def credential_of(form: dict[str, str], state: State) -> str:
    """The account that a token request is for, as far as it can be told before it is checked."""
    if "assertion" in form:
        try:
            return str(_claims(form["assertion"])[1].get("iss", ""))
        except ValueError:
            return ""
    token = form.get("refresh_token", "")
    return state.desk.accounts.get(token, token) or form.get("code", "")


def _segment(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _claims(assertion: str) -> tuple[Json, Json, bytes, bytes]:
    """Header, claims, signature and signed bytes of a JWT (RFC 7515, 3.1); raises ValueError."""
    head, _, rest = assertion.partition(".")
    middle, _, tail = rest.partition(".")
    try:
        header = msgspec.json.decode(_segment(head), type=Json)
        claims = msgspec.json.decode(_segment(middle), type=Json)
        return header, claims, _segment(tail), f"{head}.{middle}".encode()
    except (binascii.Error, msgspec.DecodeError, ValueError) as problem:
        raise ValueError("not a JWT") from problem


def _verify(pem: bytes, signature: bytes, signed: bytes) -> bool:
    """RS256 (RFC 7518, 3.3)."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key = serialization.load_pem_public_key(pem)
    assert isinstance(key, rsa.RSAPublicKey)
    try:
        key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def service_account(state: State, email: str, project: str, token_url: str) -> Json:
    """A new service account's key file, as Google's console gives it; the public half is kept for checking."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    state.services[email] = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": project,
        "private_key_id": state.word(),
        "private_key": private.decode(),
        "client_email": email,
        "client_id": "123456789012345678901",
        "token_uri": token_url,
    }


def _refresh(state: State, form: dict[str, str], ask: Ask) -> Json:
    if not form.get("refresh_token"):
        raise oauth_refusal("invalid_request", "Missing required parameter: refresh_token")
    return state.desk.refresh(form["refresh_token"], ask.now)


def _exchange(state: State, form: dict[str, str], ask: Ask) -> Json:
    if not form.get("code"):
        raise oauth_refusal("invalid_request", "Missing required parameter: code")
    return state.desk.exchange(form["code"], form.get("redirect_uri", ""), form.get("code_verifier", ""), ask.now)


def _assert(state: State, form: dict[str, str], ask: Ask) -> Json:
    try:
        header, claims, signature, signed = _claims(form.get("assertion", ""))
    except ValueError:
        raise oauth_refusal("invalid_grant", "Invalid JWT: Token must be a valid JWT.") from None
    email = str(claims.get("iss", ""))
    if email not in state.services or email in state.desk.revoked:
        raise oauth_refusal("invalid_grant", "Invalid grant: account not found")
    if header.get("alg") != "RS256" or not _verify(state.services[email], signature, signed):
        raise oauth_refusal("invalid_grant", "Invalid JWT Signature.")
    start, end = claims.get("iat"), claims.get("exp")
    if not isinstance(start, (int, float)) or not isinstance(end, (int, float)):
        raise oauth_refusal("invalid_grant", "Invalid JWT: iat and exp are required.")
    if not start - 300 <= ask.now < end or end - start > 3600:
        told = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
        raise oauth_refusal("invalid_grant", told)
    if not str(claims.get("aud", "")).endswith("/token"):
        raise oauth_refusal("invalid_grant", "Invalid JWT: Failed audience check.")
    if not claims.get("scope"):
        raise oauth_refusal("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
    return {
        "access_token": state.desk.issue(email, ask.now),
        "expires_in": state.desk.expires_in,
        "token_type": "Bearer",
    }


GRANTS: dict[str, Callable[[State, dict[str, str], Ask], Json]] = {
    "refresh_token": _refresh,
    "authorization_code": _exchange,
    JWT_BEARER: _assert,
}


def _token(state: State, ask: Ask) -> Answer:
    form = form_of(ask.body)
    grant = GRANTS.get(form.get("grant_type", ""))
    if grant is None:
        raise refuse("unsupported_grant_type", Scene())
    if grant is not _assert:
        if not form.get("client_id"):
            raise refuse("invalid_request", Scene())
        if form["client_id"].startswith(_BAD_CLIENT):
            raise refuse("invalid_client", Scene())
    headers = (("Cache-Control", "no-cache, no-store, max-age=0, must-revalidate"), ("Pragma", "no-cache"))
    return Unary(200, grant(state, form, ask), headers)


def _authorise(state: State, ask: Ask) -> Answer:
    query = ask.query
    target = query.get("redirect_uri", "")
    parts = urlsplit(target)
    if not query.get("client_id") or query.get("response_type") != "code":
        raise oauth_refusal("invalid_request", "client_id and response_type=code are required.")
    if parts.scheme != "http" or parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise oauth_refusal("redirect_uri_mismatch", "The redirect must go to a loopback address.")
    if query.get("code_challenge") and query.get("code_challenge_method") != "S256":
        raise oauth_refusal("invalid_request", "Only code_challenge_method=S256 is supported.")
    account = query.get("login_hint", "") or "someone"
    back = {"state": query["state"]} if "state" in query else {}
    if account.startswith(DENY):
        back["error"] = "access_denied"
    else:
        offline = query.get("access_type") == "offline"
        back["code"] = state.desk.authorise(Code(account, target, query.get("code_challenge", ""), offline))
        back["scope"] = query.get("scope", "")
    joint = "&" if parts.query else "?"
    return Unary(302, b"", (("Location", target + joint + urlencode(back)),))


def _user(state: State, ask: Ask) -> Answer:
    account = state.desk.check_token(bearer(ask.headers), ask.now, ask.scene)
    email = account if "@" in account else f"{account}@example.com"
    return document({"id": "1" + "0" * 20, "email": email, "verified_email": True, "name": account})


VERBS: dict[tuple[str, str], Callable[[State, Ask], Answer]] = {
    ("POST", "token"): _token,
    ("GET", "auth"): _authorise,
    ("GET", "userinfo"): _user,
}


def answer(state: State, ask: Ask, shape: Shape) -> Answer:
    """Answer a request of this face; raises Refusal."""
    verb = VERBS.get((ask.method, ask.verb))
    if verb is None:
        raise refuse("HTML_NOT_FOUND", ask.scene)
    return verb(state, ask)
