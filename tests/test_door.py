"""The door of the admin API: who is let in, and for how long."""

from __future__ import annotations

import hashlib
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import GatewayError
from gateway.config import listeners, passwords
from gateway.edge.guesses import PER_MINUTE, Guesses
from gateway.edge.hosts import LOOPBACK_HOSTS
from gateway.operations.door import OPEN, Door, Knock, Rules
from gateway.operations.sessions import CODE_SECONDS, CODES_MOST, Codes, Sessions

TOKEN = b"a-token"


class SessionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sessions = Sessions(60.0, 600.0, limit=3)

    def test_session_ends_when_nothing_came_of_it(self) -> None:
        """Each use lets it go on."""
        session = self.sessions.begin("a", "password", 0.0)
        self.assertIs(self.sessions.find(["x", "a"], 59.0), session)
        self.assertIs(self.sessions.find(["a"], 118.0), session)
        self.assertIsNone(self.sessions.find(["a"], 178.0))
        self.assertTrue(session.over)
        self.assertEqual(len(self.sessions), 0)

    def test_session_ends_in_any_case(self) -> None:
        """However much it is used."""
        self.sessions.begin("a", "password", 0.0)
        for second in range(0, 600, 30):
            self.assertIsNotNone(self.sessions.find(["a"], float(second)))
        self.assertIsNone(self.sessions.find(["a"], 600.0))

    def test_their_number_is_bounded(self) -> None:
        """The one that was used least lately goes, and those that are over go first."""
        first, second, third = (self.sessions.begin(name, "code", 0.0) for name in "abc")
        self.sessions.find(["a"], 1.0)
        fourth = self.sessions.begin("d", "code", 2.0)
        self.assertEqual([one.over for one in (first, second, third, fourth)], [False, True, False, False])
        self.sessions.begin("e", "code", 61.5)
        self.assertEqual([one.over for one in (first, third, fourth)], [True, True, False])

    def test_signing_out_ends_one_and_another_password_ends_all(self) -> None:
        """At once."""
        first, second = (self.sessions.begin(name, "code", 0.0) for name in "ab")
        self.sessions.end(first)
        self.assertIsNone(self.sessions.find(["a"], 1.0))
        self.assertIs(self.sessions.find(["b"], 1.0), second)
        self.sessions.end_all()
        self.assertIsNone(self.sessions.find(["b"], 1.0))

    def test_token_itself_is_not_kept(self) -> None:
        """Whoever reads the memory's dump of it cannot sign in."""
        self.sessions.begin("the-canary", "code", 0.0)
        self.assertNotIn("the-canary", repr(self.sessions))

    def test_code_signs_in_once_and_soon(self) -> None:
        """And there are not many at a time."""
        codes = Codes()
        codes.make("a", 0.0)
        codes.make("b", 0.0)
        self.assertTrue(codes.take("a", 1.0))
        self.assertFalse(codes.take("a", 1.0))
        self.assertFalse(codes.take("b", CODE_SECONDS))
        self.assertFalse(codes.take("", 0.0))
        for number in range(CODES_MOST + 1):
            codes.make(str(number), 0.0)
        self.assertEqual([codes.take(str(number), 0.0) for number in (0, 1, CODES_MOST)], [False, True, True])


class DoorTests(SynchronousTestCase):
    def setUp(self) -> None:
        rules = Rules((hashlib.sha256(TOKEN).digest(),), "", LOOPBACK_HOSTS.admits)
        self.door = Door(rules, Sessions(60.0, 600.0), Guesses())
        self.door.sessions.begin("cookie", "password", 0.0)

    def knock(self, **more: Any) -> Knock:
        given: dict[str, Any] = {
            "method": b"GET",
            "path": b"/v1/status",
            "peer": "192.0.2.1",
            "hosts": [b"localhost:8046"],
            **more,
        }
        return Knock(**given)

    def refusal(self, **more: Any) -> tuple[int, str]:
        error = self.assertRaises(GatewayError, self.door.judge, self.knock(**more), 1.0)
        return error.code, error.reason

    def test_nobody_unknown_is_let_in(self) -> None:
        """But to where one signs in."""
        self.assertEqual(self.refusal(), (401, "NOT_SIGNED_IN"))
        self.assertEqual(self.refusal(cookies=["x", ""]), (401, "NOT_SIGNED_IN"))
        for method, path in OPEN:
            knock = self.knock(method=method.encode(), path=path.encode(), marked=True)
            self.assertIsNone(self.door.judge(knock, 1.0))
        self.assertEqual(self.refusal(method=b"DELETE", path=b"/v1/session", marked=True), (401, "NOT_SIGNED_IN"))

    def test_bearer_is_let_in_under_any_name(self) -> None:
        """No browser sends one by itself."""
        for method in (b"GET", b"POST"):
            knock = self.knock(method=method, hosts=[b"evil.example"], authorization=b"bearer " + TOKEN)
            self.assertEqual(str(self.door.judge(knock, 1.0)), "admin.token at 192.0.2.1")
        for wrong in (TOKEN, b"Basic " + TOKEN, b"Bearer " + TOKEN[:-1], b"Bearer"):
            self.assertEqual(self.refusal(authorization=wrong, cookies=["cookie"]), (401, "NOT_SIGNED_IN"))

    def test_who_tries_tokens_is_slowed_down(self) -> None:
        """The right one is let in all the while."""
        for _ in range(PER_MINUTE):
            self.assertEqual(self.refusal(authorization=b"Bearer x")[0], 401)
        self.assertEqual(self.refusal(authorization=b"Bearer x")[0], 429)
        self.assertEqual(self.refusal(authorization=b"Bearer x", peer="192.0.2.2")[0], 401)
        self.assertIsNotNone(self.door.judge(self.knock(authorization=b"Bearer " + TOKEN), 1.0))

    def test_who_tries_to_sign_in_is_slowed_down_before_anything_is_computed(self) -> None:
        """Whatever is shown: a hash costs memory and time."""
        for _ in range(PER_MINUTE):
            self.door.try_secret("192.0.2.1", 0.0)
        error = self.assertRaises(GatewayError, self.door.try_secret, "192.0.2.1", 0.0)
        self.assertEqual((error.code, error.reason), (429, "TOO_MANY_ATTEMPTS"))
        self.assertGreater(error.retry_after_seconds or 0, 0)
        self.door.try_secret("192.0.2.1", 7.0)

    def test_session_is_let_in_from_pages_of_its_own_alone(self) -> None:
        """A page of another origin, of another port as well, gets nothing with the cookie that its browser sends."""
        good: tuple[dict[str, Any], ...] = (
            {},
            {"sites": [b"same-origin"], "origins": [b"http://localhost:8046"]},
            {"sites": [b"none"]},
            {"origins": [b"https://localhost:8046"]},
            {"method": b"POST", "marked": True, "origins": [b"http://localhost:8046"]},
        )
        for more in good:
            caller = self.door.judge(self.knock(cookies=["other", "cookie"], **more), 1.0)
            self.assertIn("session-", str(caller))
        bad: tuple[tuple[dict[str, Any], str], ...] = (
            ({"sites": [b"cross-site"]}, "ORIGIN_NOT_ALLOWED"),
            ({"sites": [b"same-site"]}, "ORIGIN_NOT_ALLOWED"),
            ({"sites": [b"same-origin", b"cross-site"]}, "ORIGIN_NOT_ALLOWED"),
            ({"origins": [b"http://localhost:3000"]}, "ORIGIN_NOT_ALLOWED"),
            ({"origins": [b"null"]}, "ORIGIN_NOT_ALLOWED"),
            ({"origins": [b"http://localhost:8046", b"http://evil.example"]}, "ORIGIN_NOT_ALLOWED"),
            ({"hosts": [b"evil.example"], "origins": [b"http://evil.example"]}, "HOST_NOT_ALLOWED"),
            ({"hosts": [b"localhost", b"evil.example"]}, "HOST_NOT_ALLOWED"),
            ({"method": b"POST"}, "HEADER_MISSING"),
            ({"method": b"DELETE"}, "HEADER_MISSING"),
            ({"method": b"PROPFIND"}, "HEADER_MISSING"),
        )
        for more, reason in bad:
            self.assertEqual(self.refusal(cookies=["cookie"], **more), (403, reason), more)

    def test_other_pages_cannot_even_sign_in(self) -> None:
        """Nor find out whether somebody is."""
        for method in (b"GET", b"POST"):
            more = {"path": b"/v1/session", "method": method, "marked": True}
            self.assertEqual(self.refusal(sites=[b"cross-site"], **more)[0], 403)


class PasswordTests(SynchronousTestCase):
    def test_hash_is_that_of_its_password_alone(self) -> None:
        """argon2id, salted anew each time."""
        one, other = passwords.hashed("correct horse"), passwords.hashed("correct horse")
        self.assertNotEqual(one, other)
        self.assertTrue(passwords.is_hash(one))
        self.assertTrue(passwords.matches(one, "correct horse"))
        self.assertFalse(passwords.matches(one, "correct hors"))
        self.assertFalse(passwords.matches(one, "\udcff"))
        self.assertFalse(passwords.matches("$argon2id$nonsense", "correct horse"))

    def test_only_hashes_that_can_be_afforded_are_taken(self) -> None:
        """Neither another kind of hash, nor one that would take the machine's memory."""
        salt = "$c29tZXNhbHQxMjM0NTY$" + "A" * 43
        for cost, good in (
            ("$argon2id$v=19$m=65536,t=3,p=4", True),
            ("$argon2id$v=19$m=1048577,t=3,p=4", False),
            ("$argon2id$v=19$m=65536,t=65,p=4", False),
            ("$argon2id$v=19$m=65536,t=0,p=4", False),
            ("$argon2id$v=19$m=65536,t=3,p=17", False),
            ("$argon2id$v=19$m=4,t=3,p=1", False),
            ("$argon2i$v=19$m=65536,t=3,p=4", False),
            ("$argon2id$m=65536,t=3,p=4", False),
        ):
            self.assertEqual(passwords.is_hash(cost + salt), good, cost)
        self.assertFalse(passwords.is_hash("$2b$12$" + "A" * 53))


class PlaceTests(SynchronousTestCase):
    def test_listener_has_an_address_for_browsers(self) -> None:
        """Where it has one."""
        for description, url in (
            ("tcp:8046:interface=127.0.0.1", "http://127.0.0.1:8046"),
            ("tcp:8046", "http://localhost:8046"),
            ("tcp6:8046:interface=\\:\\:1", "http://[::1]:8046"),
            ("ssl:8446:interface=0.0.0.0:privateKey=k:certKey=c", "https://localhost:8446"),
            ("unix:/run/x:mode=600", ""),
            ("tcp:0:interface=127.0.0.1", ""),
            ("systemd:domain=INET:index=0", ""),
        ):
            self.assertEqual(listeners.url(description), url)
