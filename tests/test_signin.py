"""Signing in, as bytes: the address, the redirect, the code's exchange, and who it was."""

from __future__ import annotations

import base64
import hashlib
import json
from urllib.parse import parse_qs, urlencode, urlsplit

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts import signin
from gateway.accounts.signin import Attempt, NotOurs, SignInFailed
from gateway.calls import Secret

ATTEMPT = Attempt(Secret("the-state"), Secret("the-verifier"))
REDIRECT = "http://127.0.0.1:4711/callback"


def query(**parameters: str) -> str:
    return urlencode({"state": "the-state", **parameters})


class BeginTests(SynchronousTestCase):
    """What chance makes of an attempt, and what the owner opens."""

    def test_state_and_verifier_come_from_chance(self) -> None:
        """32 bytes each, of two draws, in the characters that RFC 7636 allows a verifier."""
        draws = iter((b"\x00" * 32, b"\xff" * 32))
        asked: list[int] = []

        def chance(size: int) -> bytes:
            asked.append(size)
            return next(draws)

        attempt = signin.begin(chance)
        self.assertEqual(asked, [32, 32])
        self.assertEqual(attempt.state.reveal(), "A" * 43)
        self.assertEqual(attempt.verifier.reveal(), "_" * 42 + "8")

    def test_challenge_is_the_one_of_the_rfc(self) -> None:
        """RFC 7636 appendix B gives a verifier and its S256 challenge."""
        attempt = Attempt(Secret("s"), Secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"))
        self.assertEqual(attempt.challenge, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")

    def test_address_asks_for_a_code_and_a_refresh_token(self) -> None:
        """All parameters are there once, and the verifier is not."""
        url = signin.authorisation_url("https://a.example/auth", "client & id", REDIRECT, ATTEMPT)
        parts = urlsplit(url)
        self.assertEqual(f"{parts.scheme}://{parts.netloc}{parts.path}", "https://a.example/auth")
        challenge = base64.urlsafe_b64encode(hashlib.sha256(b"the-verifier").digest()).rstrip(b"=").decode()
        self.assertEqual(
            parse_qs(parts.query, strict_parsing=True),
            {
                "client_id": ["client & id"],
                "redirect_uri": [REDIRECT],
                "response_type": ["code"],
                "scope": [
                    "https://www.googleapis.com/auth/cloud-platform https://www.googleapis.com/auth/userinfo.email"
                    " https://www.googleapis.com/auth/userinfo.profile"
                ],
                "state": ["the-state"],
                "code_challenge": [challenge],
                "code_challenge_method": ["S256"],
                "access_type": ["offline"],
                "prompt": ["consent"],
            },
        )
        self.assertNotIn("the-verifier", url)

    def test_attempt_does_not_show_its_secrets(self) -> None:
        """Neither state nor verifier is in its text."""
        self.assertNotIn("the-", repr(ATTEMPT))


class RedirectTests(SynchronousTestCase):
    """What comes back."""

    def test_code_of_the_right_state_is_taken(self) -> None:
        """Beside other parameters, and with what the query encodes."""
        code = signin.read_redirect(query(code="4/0A-b_c", scope="x y", iss="https://accounts.google.com"), ATTEMPT)
        self.assertEqual(code.reveal(), "4/0A-b_c")

    def test_strangers_redirect_is_not_ours(self) -> None:
        """Without the state, with another's, or with a parameter twice it ends nothing, whatever else it says."""
        for text in (
            "",
            "code=c",
            "error=access_denied",
            "state=&code=c",
            "state=the-stat&code=c",
            "state=the-state2&error=access_denied",
            "state=%C3%A9%F0%9F&code=c",
            "state=the-state&state=the-state&code=c",
            "state=the-state&code=a&code=b",
            "state=the-state",
            "state=the-state&code=",
            "state=the-state&code=a%0D%0Ab",
            "state=the-state&code=" + "a" * 5000,
            "&".join(f"p{n}=1" for n in range(100)) + "&state=the-state&code=c",
        ):
            error = self.assertRaises(NotOurs, signin.read_redirect, text, ATTEMPT)
            self.assertNotIn("the-state", str(error))

    def test_refusal_is_told(self) -> None:
        """With Google's word and description, on one short line without control characters."""
        text = query(error="access_denied", error_description="No\x1b[31m\n way " + "x" * 500)
        message = str(self.assertRaises(SignInFailed, signin.read_redirect, text, ATTEMPT))
        self.assertIn("access_denied (No [31m way xxx", message)
        self.assertTrue(message.isprintable())
        self.assertLess(len(message), 400)

    def test_paste_may_be_the_address_its_query_or_the_code(self) -> None:
        """As terminals and people give it: with spaces, quotes and an encoded slash."""
        for text in (
            f"{REDIRECT}?{query(code='4/0Abc')}",
            f"  '{REDIRECT}?{query(code='4/0Abc')}'\n",
            f"http://[::1]:9/callback?{query(code='4/0Abc')}#fragment",
            query(code="4/0Abc"),
            "?" + query(code="4/0Abc"),
            "4/0Abc",
            "4%2F0Abc ",
        ):
            self.assertEqual(signin.read_pasted(text, ATTEMPT).reveal(), "4/0Abc", text)

    def test_pasted_nonsense_is_not_ours(self) -> None:
        """An address with another's state, an address without a query, and prose."""
        for text in (
            f"{REDIRECT}?state=another&code=c",
            REDIRECT,
            "https://[broken?code=c&state=the-state",
            "two words",
            "",
            "é",
        ):
            self.assertRaises(NotOurs, signin.read_pasted, text, ATTEMPT)

    def test_pasted_refusal_is_told(self) -> None:
        """As one that the browser brings."""
        self.assertRaises(
            SignInFailed, signin.read_pasted, f"{REDIRECT}?{query(error='access_denied')}", ATTEMPT
        )

    @given(st.text())
    @example("https://[")
    @example("code=1&state=\ud800")
    @example("%zz")
    def test_any_text_is_a_code_or_one_of_two_failures(self, text: str) -> None:
        """Whatever is pasted."""
        try:
            signin.read_pasted(text, ATTEMPT)
        except (NotOurs, SignInFailed):
            pass


class CodeTests(SynchronousTestCase):
    """The code's exchange."""

    def test_form_has_the_verifier_and_the_same_redirect(self) -> None:
        """RFC 6749 section 4.1.3 and RFC 7636 section 4.5."""
        request = signin.code_request(
            "https://t.example/token", "id", Secret("hidden"), REDIRECT, Secret("4/0A"), ATTEMPT, "gateway/1"
        )
        self.assertEqual((request.method, request.url), (b"POST", b"https://t.example/token"))
        self.assertEqual(dict(request.headers)[b"content-type"], b"application/x-www-form-urlencoded")
        self.assertEqual(
            parse_qs(request.body.decode(), strict_parsing=True),
            {
                "grant_type": ["authorization_code"],
                "code": ["4/0A"],
                "redirect_uri": [REDIRECT],
                "client_id": ["id"],
                "client_secret": ["hidden"],
                "code_verifier": ["the-verifier"],
            },
        )
        self.assertNotIn("hidden", repr(request))

    def test_good_answer_has_both_tokens(self) -> None:
        """An access token to ask on with, and a refresh token to keep."""
        body = json.dumps({"access_token": "a", "refresh_token": "r", "expires_in": 3599}).encode()
        granted, refresh_token = signin.read_code_answer(200, body)
        self.assertEqual((granted.access_token, refresh_token), (Secret("a"), Secret("r")))

    def test_answer_without_a_refresh_token_says_what_to_do(self) -> None:
        """Google gives one with consent only: the way is to take the consent back."""
        error = self.assertRaises(SignInFailed, signin.read_code_answer, 200, b'{"access_token": "hidden"}')
        self.assertIn("https://myaccount.google.com/permissions", str(error))
        self.assertNotIn("hidden", str(error))

    def test_refusals_say_what_to_look_at(self) -> None:
        """A used code, a wrong client, and an endpoint in trouble."""
        for status, body, word in (
            (400, b'{"error": "invalid_grant"}', "Sign in again"),
            (401, b'{"error": "invalid_client"}', "client_secret"),
            (503, b"<html>", "503"),
            (200, b"[]", "not a token"),
        ):
            error = self.assertRaises(SignInFailed, signin.read_code_answer, status, body)
            self.assertIn(word, str(error))


class UserInfoTests(SynchronousTestCase):
    """Who it was."""

    def test_question_carries_the_token(self) -> None:
        """In the Authorization header alone."""
        request = signin.userinfo_request("https://u.example/info", Secret("a"), "gateway/1")
        self.assertEqual((request.method, request.url, request.body), (b"GET", b"https://u.example/info", b""))
        self.assertEqual(dict(request.headers)[b"authorization"], b"Bearer a")

    def test_answer_is_an_address(self) -> None:
        """The e-mail address, and nothing else is looked at."""
        self.assertEqual(signin.read_userinfo(200, b'{"email": " a@b.example ", "id": 1, "x": []}'), "a@b.example")

    def test_answer_without_an_address_is_none(self) -> None:
        """A refusal, junk, and what a terminal should not show."""
        for status, body in (
            (401, b'{"email": "a@b.example"}'),
            (200, b"junk"),
            (200, b"{}"),
            (200, b'{"email": 1}'),
            (200, b'{"email": "nobody"}'),
            (200, b'{"email": "a\\u001b[1m@b"}'),
            (200, b'{"email": "\xff@b"}'),
        ):
            self.assertRaises(SignInFailed, signin.read_userinfo, status, body)
