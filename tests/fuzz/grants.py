"""What a token endpoint answers, and what a browser brings back: a grant, or the stated refusal.  Pure."""

from __future__ import annotations

from gateway.accounts.oauth import LIFE_LEAST_SECONDS, LIFE_MOST_SECONDS, TokenRevoked, TokenUnavailable, read_answer
from gateway.accounts.signin import (
    Attempt,
    NotOurs,
    SignInFailed,
    code_request,
    read_code_answer,
    read_pasted,
    read_redirect,
    read_userinfo,
    userinfo_request,
)
from gateway.calls import Secret

STATE = "state-of-this-attempt"
ATTEMPT = Attempt(Secret(STATE), Secret("v" * 43))
SEEDS = (
    b'{"access_token":"ya29.a","expires_in":3599,"token_type":"Bearer","refresh_token":"1//r"}',
    b'{"access_token":"a","expires_in":"12"}', b'{"error":"invalid_grant","error_description":"x"}',
    b'{"error":{"code":400}}',
    b'{"email":"ann@example.com"}', b'{"access_token":"\\u0000"}', b"{", b"",
    b"state=state-of-this-attempt&code=4/0AY0e-g7&scope=x",
    b"state=state-of-this-attempt&error=access_denied&error_description=%07",
    b"http://127.0.0.1:1/?state=state-of-this-attempt&code=4%2F0A", b"state=other&code=1", b"code=1&code=2",
    b"http://[", b"4/0AY0e",
)  # fmt: skip
DICTIONARY = (
    b'"access_token":"', b'"expires_in":', b'"refresh_token":"', b"1e999", b"NaN", b'"error":"invalid_grant"',
    b'"email":"', b"\\ud800",
    b"state=state-of-this-attempt", b"&code=", b"&error=", b"%2F", b"%00", b"://", b"[::1]", b"&error_description=",
    b"\xe2\x80\xae",
)  # fmt: skip


def one_input(data: bytes) -> None:
    """Raise where anything but the stated errors comes out, or a grant that no request could carry."""
    for status in (200, 400, 503):
        _token(status, data)
    text = data.decode("utf-8", "replace")
    for read in (read_redirect, read_pasted):
        try:
            code = read(text, ATTEMPT)
        except (NotOurs, SignInFailed) as error:
            _sentence(str(error))
            continue
        code_request("https://token.test", "c", Secret("s"), "http://127.0.0.1:1", code, ATTEMPT, "x")
        assert read is read_pasted or STATE in text, "a code was taken without its state"


def _token(status: int, data: bytes) -> None:
    try:
        granted = read_answer(status, data)
    except TokenRevoked:
        assert status != 200
        assert b"invalid_grant" in data or b"\\u" in data, data
    except TokenUnavailable as error:
        _sentence(str(error))
    else:
        assert status == 200
        assert LIFE_LEAST_SECONDS <= granted.life_seconds <= LIFE_MOST_SECONDS, granted
        userinfo_request("https://info.test", granted.access_token, "x")
    try:
        read_code_answer(status, data)
    except SignInFailed as error:
        _sentence(str(error))
    try:
        email = read_userinfo(status, data)
    except SignInFailed as error:
        _sentence(str(error))
    else:
        assert "@" in email, email
        assert email.isprintable(), email


def _sentence(said: str) -> None:
    assert said.isprintable(), said
