"""What a service account says to the token endpoint, and the tokens that it gets."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from typing import Any
from urllib.parse import parse_qs

import attrs
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.oauth import TokenRevoked
from gateway.accounts.serviceaccount import assertion, grant_request, private_key, token_source
from gateway.calls import HttpRequest, Secret
from gateway.config import ServiceAccountConfig
from tests.keyfiles import pem, rsa_key

ACCOUNT = ServiceAccountConfig(
    "robot@its-project.iam.gserviceaccount.com",
    Secret(pem(rsa_key())),
    "key-id-1",
    "https://token.test/token",
    "its-project",
)
NOW = 1_800_000_000.75


def unpacked(segment: str) -> bytes:
    return urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def claims(jwt: str) -> Any:
    return json.loads(unpacked(jwt.split(".")[1]))


class AssertionTests(SynchronousTestCase):
    """The JWT."""

    def test_signature_is_the_keys_over_header_and_claims(self) -> None:
        """RS256 (RFC 7518, 3.3): the public half verifies it, and no other text."""
        jwt = assertion(ACCOUNT, private_key(ACCOUNT), NOW)
        signed, _, signature = jwt.rpartition(".")
        public = rsa_key().public_key()
        public.verify(unpacked(signature), signed.encode(), PKCS1v15(), SHA256())
        with self.assertRaises(InvalidSignature):
            public.verify(unpacked(signature), signed.encode() + b"x", PKCS1v15(), SHA256())

    def test_header_names_algorithm_and_key(self) -> None:
        """RFC 7515, 4.1; a key file without a key id leaves it out."""
        for key_id, more in (("key-id-1", {"kid": "key-id-1"}), ("", {})):
            jwt = assertion(attrs.evolve(ACCOUNT, private_key_id=key_id), rsa_key(), NOW)
            self.assertEqual(json.loads(unpacked(jwt.split(".")[0])), {"alg": "RS256", "typ": "JWT", **more})

    def test_claims_are_who_what_whereto_and_an_hour(self) -> None:
        """RFC 7523, section 3; times are whole seconds, and the audience is the token URL."""
        self.assertEqual(
            claims(assertion(ACCOUNT, rsa_key(), NOW)),
            {
                "iss": "robot@its-project.iam.gserviceaccount.com",
                "scope": "https://www.googleapis.com/auth/cloud-platform",
                "aud": "https://token.test/token",
                "iat": 1_800_000_000,
                "exp": 1_800_003_600,
            },
        )

    def test_segments_are_base64url_without_padding(self) -> None:
        """RFC 7515, section 2: whatever the lengths."""
        for extra in range(4):
            jwt = assertion(attrs.evolve(ACCOUNT, client_email="a" * extra), rsa_key(), NOW)
            self.assertRegex(jwt, r"\A[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")

    def test_key_that_is_not_rsa_is_refused(self) -> None:
        """RS256 needs one; the error does not show the key."""
        for text in (pem(ec.generate_private_key(ec.SECP256R1())), "nothing"):
            account = attrs.evolve(ACCOUNT, private_key=Secret(text))
            error = self.assertRaises(ValueError, private_key, account)
            self.assertNotIn(text, str(error))

    def test_account_does_not_show_its_key(self) -> None:
        """Its repr goes into logs of failures."""
        self.assertNotIn("PRIVATE", repr(ACCOUNT))


class GrantTests(SynchronousTestCase):
    """The token request."""

    def test_grant_is_a_form_with_the_assertion(self) -> None:
        """RFC 7523, 2.1."""
        request = grant_request(ACCOUNT, rsa_key(), NOW, "gateway/1")
        self.assertEqual((request.method, request.url), (b"POST", b"https://token.test/token"))
        form = parse_qs(request.body.decode("ascii"), strict_parsing=True)
        self.assertEqual(form.pop("grant_type"), ["urn:ietf:params:oauth:grant-type:jwt-bearer"])
        self.assertEqual(form, {"assertion": [assertion(ACCOUNT, rsa_key(), NOW)]})
        self.assertIn((b"content-type", b"application/x-www-form-urlencoded"), request.headers)
        self.assertIn((b"user-agent", b"gateway/1"), request.headers)


class TokenTests(SynchronousTestCase):
    """The token source."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.requests: list[HttpRequest] = []
        self.answers: list[Deferred[tuple[int, bytes]]] = []
        self.source = token_source(
            ACCOUNT, self.send, self.clock.seconds, lambda: NOW + self.clock.seconds(), "gateway/1"
        )

    async def send(self, request: HttpRequest) -> tuple[int, bytes]:
        self.requests.append(request)
        answer: Deferred[tuple[int, bytes]] = Deferred()
        self.answers.append(answer)
        return await answer

    def get(self) -> Deferred[Secret]:
        return ensureDeferred(self.source.get())

    def grant(self, token: str) -> None:
        self.answers.pop(0).callback((200, json.dumps({"access_token": token, "expires_in": 3599}).encode()))

    def test_all_who_wait_share_one_grant(self) -> None:
        """K2: one request, whatever their number."""
        waiting = [self.get() for _ in range(100)]
        self.grant("ya29.one")
        self.assertEqual({self.successResultOf(one) for one in waiting}, {Secret("ya29.one")})
        self.assertEqual(len(self.requests), 1)

    def test_each_grant_is_signed_at_its_own_time(self) -> None:
        """An assertion lives an hour: a kept one would be refused."""
        first = self.get()
        self.grant("ya29.one")
        self.successResultOf(first)
        self.clock.advance(4000)
        second = self.get()
        self.grant("ya29.two")
        self.assertEqual(self.successResultOf(second), Secret("ya29.two"))
        times = [claims(parse_qs(request.body.decode())["assertion"][0])["iat"] for request in self.requests]
        self.assertEqual(times, [1_800_000_000, 1_800_004_000])

    def test_refused_token_is_exchanged_for_another(self) -> None:
        """U4: the source is renewable, and a refusal of the old token leads to one grant."""
        self.assertTrue(self.source.renewable)
        first = self.get()
        self.grant("ya29.one")
        renewed = [ensureDeferred(self.source.renew(self.successResultOf(first))) for _ in range(3)]
        self.grant("ya29.two")
        self.assertEqual({self.successResultOf(one) for one in renewed}, {Secret("ya29.two")})
        self.assertEqual(len(self.requests), 2)

    def test_deleted_account_is_dead(self) -> None:
        """K1: Google says invalid_grant where it knows no such account."""
        waiting = self.get()
        self.answers.pop(0).callback((400, b'{"error":"invalid_grant","error_description":"account not found"}'))
        self.failureResultOf(waiting, TokenRevoked)
