"""What is said to a token endpoint, and what it answers."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.oauth import (
    LIFE_DEFAULT_SECONDS,
    LIFE_LEAST_SECONDS,
    LIFE_MOST_SECONDS,
    TokenRevoked,
    TokenUnavailable,
    read_answer,
    refresh_request,
)
from gateway.calls import Secret


def answer(**members: Any) -> bytes:
    return json.dumps({"access_token": "ya29.token", **members}).encode()


class RequestTests(SynchronousTestCase):
    """The refresh request."""

    def test_refresh_is_a_form_with_four_members(self) -> None:
        """RFC 6749 section 6, with the client's id and secret in the form, quoted."""
        request = refresh_request(
            "https://token.test/token", "client&id", Secret("s=e+c"), Secret("1//0g é"), "gateway/1"
        )
        self.assertEqual((request.method, request.url), (b"POST", b"https://token.test/token"))
        self.assertEqual(
            parse_qs(request.body.decode("ascii"), strict_parsing=True),
            {
                "client_id": ["client&id"],
                "client_secret": ["s=e+c"],
                "refresh_token": ["1//0g é"],
                "grant_type": ["refresh_token"],
            },
        )
        self.assertEqual(
            request.headers,
            (
                (b"content-type", b"application/x-www-form-urlencoded"),
                (b"accept", b"application/json"),
                (b"accept-encoding", b"identity"),
                (b"user-agent", b"gateway/1"),
            ),
        )

    def test_request_does_not_show_its_secrets(self) -> None:
        """Its repr goes into logs of failures."""
        request = refresh_request("https://token.test/", "id", Secret("hush"), Secret("hush"), "gateway/1")
        self.assertNotIn("hush", repr(request))


class AnswerTests(SynchronousTestCase):
    """The endpoint's answer."""

    def test_good_answer_is_a_token(self) -> None:
        """With a new refresh token, where there is one."""
        granted = read_answer(200, answer(expires_in=3599, scope="a b", token_type="Bearer"))
        self.assertEqual((granted.access_token, granted.life_seconds), (Secret("ya29.token"), 3599.0))
        self.assertIsNone(granted.refresh_token)
        self.assertEqual(read_answer(200, answer(refresh_token="new")).refresh_token, Secret("new"))
        self.assertIsNone(read_answer(200, answer(refresh_token="")).refresh_token)

    def test_life_is_clamped(self) -> None:
        """K3: missing, negative, enormous and senseless lives are made sense of."""
        table: list[tuple[Any, float]] = [
            (3599, 3599.0), (3599.5, 3599.5), ("3599", 3599.0), (None, LIFE_DEFAULT_SECONDS),
            ("soon", LIFE_DEFAULT_SECONDS), (10**30, LIFE_MOST_SECONDS), ("1e400", LIFE_MOST_SECONDS),
            (0, LIFE_LEAST_SECONDS), (-1, LIFE_LEAST_SECONDS), (59, LIFE_LEAST_SECONDS), ("nan", LIFE_LEAST_SECONDS),
            (10**9, LIFE_MOST_SECONDS), ("inf", LIFE_MOST_SECONDS), ("-inf", LIFE_LEAST_SECONDS),
        ]  # fmt: skip
        for life, seconds in table:
            self.assertEqual(read_answer(200, answer(expires_in=life)).life_seconds, seconds, repr(life))
        self.assertEqual(read_answer(200, answer()).life_seconds, LIFE_DEFAULT_SECONDS)

    def test_junk_is_a_failure_and_not_a_token(self) -> None:
        """K3: nothing that is not one is taken for a token, and nothing of it raises another error."""
        bodies = [
            b"", b"<html>", b"[]", b"null", b"{}", b'{"access_token":null}', b'{"access_token":1}',
            b'{"access_token":""}',
            b'{"access_token":"a\\nb"}', b'{"access_token":"\\u00e9"}', b'{"access_token":"\xff"}',
            b'{"access_token":"a"',
            b'{"access_token":"a","expires_in":{}}', b'{"access_token":"a","expires_in":1e400}',
            b'{"access_token":"a","x":' + b"[" * 100_000, b'{"error":"invalid_grant"}',
        ]  # fmt: skip
        for body in bodies:
            error = self.assertRaises(TokenUnavailable, read_answer, 200, body)
            self.assertTrue(str(error), repr(body[:40]))

    def test_only_invalid_grant_means_that_the_account_is_dead(self) -> None:
        """K1, K2: whatever else the endpoint says may pass."""
        table: list[tuple[int, bytes, type[Exception]]] = [
            (400, b'{"error":"invalid_grant","error_description":"Token has been expired or revoked."}', TokenRevoked),
            (401, b'{"error":"invalid_grant"}', TokenRevoked),
            (400, b'{"error":"invalid_client"}', TokenUnavailable),
            (401, b'{"error":"unauthorized_client"}', TokenUnavailable),
            (400, b'{"error":{"status":"invalid_grant"}}', TokenUnavailable),
            (400, b'{"error":"Invalid_grant "}', TokenUnavailable),
            (400, b"invalid_grant", TokenUnavailable),
            (400, b'{"error":"\xff"}', TokenUnavailable),
            (400, b'{"error":' + b"[" * 100_000, TokenUnavailable),
            (403, b"", TokenUnavailable),
            (429, b"{}", TokenUnavailable),
            (500, b'{"error":"internal_failure"}', TokenUnavailable),
            (503, b"<html>", TokenUnavailable),
            (302, b"", TokenUnavailable),
            (201, answer(), TokenUnavailable),
        ]
        for status, body, kind in table:
            error = self.assertRaises(kind, read_answer, status, body)
            self.assertIs(type(error), kind, repr(body[:40]))

    def test_failure_names_the_oauth_error_and_nothing_else(self) -> None:
        """What an endpoint says goes into logs only where it is one of OAuth's names."""
        table = [
            (b'{"error":"invalid_client"}', "the token endpoint answered 400 (invalid_client)"),
            (b'{"error":"<b>ya29.secret</b>"}', "the token endpoint answered 400 (no OAuth error)"),
            (b'{"error":"a\\nb"}', "the token endpoint answered 400 (no OAuth error)"),
            (b'{"error":{"message":"ya29.secret"}}', "the token endpoint answered 400 (no OAuth error)"),
        ]
        for body, said in table:
            self.assertEqual(str(self.assertRaises(TokenUnavailable, read_answer, 400, body)), said)

    @given(st.integers(100, 599), st.binary(max_size=80))
    @settings(deadline=None)
    def test_any_answer_is_a_token_or_one_of_two_failures(self, status: int, body: bytes) -> None:
        """K3: nothing else is ever raised."""
        try:
            granted = read_answer(status, body)
        except (TokenUnavailable, TokenRevoked):
            return
        self.assertEqual(status, 200)
        self.assertTrue(granted.access_token)
