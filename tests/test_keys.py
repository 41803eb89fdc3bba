"""Client keys: how they are spelled, what is granted with them, whose they are, and the book of them all."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import GatewayError
from gateway.config import Limits
from gateway.keys import grants
from gateway.keys.book import KEYS_MOST, Book
from gateway.keys.bookfile import NAME, BookError, BookFile
from gateway.keys.grants import NOTHING, Grant
from gateway.keys.holders import Holder, Holders, Key
from gateway.keys.meters import Meters
from gateway.keys.spelling import LENGTH, PREFIX, SECRET_BYTES, digest_of, seems_ours, spelled

NOW = 1_795_680_000.0
"""2026-11-26, 08:00 UTC."""
SECRETS = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)


def is_ours(key: bytes) -> bool:
    """What a secret scanner does."""
    return len(key) == LENGTH and key[:4] == PREFIX.encode() and key[-8:] == b"%08x" % crc32(key[:-8])


class SpellingTests(SynchronousTestCase):
    @given(SECRETS)
    def test_a_key_is_160_random_bits_and_says_whose_it_is(self, secret: bytes) -> None:
        """All of them are in it, and it is one word that no client has to escape."""
        key = spelled(secret)
        self.assertEqual((key[:4], len(key)), (PREFIX, LENGTH))
        self.assertEqual(base64.b32decode(key[4:36].upper()), secret)
        self.assertTrue(seems_ours(key.encode()) and is_ours(key.encode()))
        self.assertRegex(key, r"\Aagw_[a-z2-7]{32}[0-9a-f]{8}\Z")

    @given(SECRETS, st.integers(0, LENGTH - 1), st.integers(1, 255))
    def test_a_typing_error_is_found(self, secret: bytes, at: int, change: int) -> None:
        """Any one letter that is another."""
        wrong = bytearray(spelled(secret).encode())
        wrong[at] ^= change
        self.assertFalse(is_ours(bytes(wrong)))

    @given(SECRETS, st.integers(4, LENGTH - 2))
    def test_two_letters_the_other_way_round_are_found(self, secret: bytes, at: int) -> None:
        """Unless they are the same letter."""
        key = spelled(secret)
        turned = key[:at] + key[at + 1] + key[at] + key[at + 2 :]
        self.assertEqual(is_ours(turned.encode()), turned == key)

    @given(st.binary(max_size=200))
    def test_a_digest_is_the_sha_256_that_everybody_has(self, key: bytes) -> None:
        """Whoever computes it: it is in files, and in configurations."""
        self.assertEqual(digest_of(key), hashlib.sha256(key).digest())

    @given(st.binary(max_size=60))
    def test_whatever_else_comes_is_not_ours(self, key: bytes) -> None:
        """And nothing is raised."""
        self.assertFalse(seems_ours(key))
        self.assertEqual(seems_ours(b"agw_" + key), len(key) == LENGTH - 4)


class GrantTests(SynchronousTestCase):
    def test_what_is_granted_is_read_as_it_is_written(self) -> None:
        """Each field, there and back."""
        grant = grants.granted(
            {
                "expires": "2027-01-31T12:00:00Z",
                "models": ["gemini-2.5-*", "fast"],
                "networks": ["10.0.0.0/8", "2001:db8::1", "unix"],
                "requests_per_minute": 60,
                "concurrent": 0,
                "tokens_per_minute": 1000,
                "tokens_per_day": 10**6,
                "micros_per_day": 2_500_000,
                "micros_per_month": None,
            },
            NOTHING,
        )
        self.assertEqual(grant.networks, ("10.0.0.0/8", "2001:db8::1/128", "unix"))
        self.assertEqual((grant.concurrent, grant.micros_per_month), (0, None))
        self.assertEqual(grants.granted(json.loads(json.dumps(grants.members(grant))), NOTHING), grant)

    def test_what_is_not_named_stays(self) -> None:
        """A change is of what it names."""
        before = Grant(models=("a",), requests_per_minute=5)
        self.assertEqual(grants.granted({"models": []}, before), Grant(requests_per_minute=5))

    def test_what_cannot_be_is_told_with_the_cure(self) -> None:
        """Of each kind of field."""
        rows: list[tuple[str, Any, str]] = [
            ("expires", "tomorrow", "2027-01-31"),
            ("expires", 5, "2027-01-31"),
            ("models", "gemini", "list"),
            ("models", ["a b"], "gemini-*"),
            ("models", ["a"] * 101, "100"),
            ("networks", ["10.0.0.1/8"], "10.0.0.0/24"),
            ("networks", ["here"], "unix"),
            ("requests_per_minute", -1, "whole number"),
            ("concurrent", True, "whole number"),
            ("tokens_per_day", 1.5, "whole number"),
            ("micros_per_day", 10**16, "whole number"),
            ("colour", "red", "nothing that a key has"),
        ]
        for name, value, told in rows:
            with self.assertRaises(ValueError, msg=name) as caught:
                grants.granted({name: value}, NOTHING)
            self.assertIn(told, str(caught.exception))
            self.assertIn(f"`{name}`", str(caught.exception))

    def test_money_is_read_and_told_to_the_micro_dollar(self) -> None:
        """Never by way of a binary fraction."""
        rows = [("12.50", 12_500_000, "$12.50"), ("$3", 3_000_000, "$3.00"), ("0.000001", 1, "$0.000001"),
                ("0.10", 100_000, "$0.10"), ("7.125", 7_125_000, "$7.125")]  # fmt: skip
        for text, micros, told in rows:
            self.assertEqual((grants.micros_of(text), grants.dollars(micros)), (micros, told))
        for text in ("", "1,5", "1.0000001", "-1", "1e3", "ten"):
            self.assertRaises(ValueError, grants.micros_of, text)

    def test_a_time_without_an_offset_is_utc(self) -> None:
        """A day is its first moment."""
        self.assertEqual(grants.moment("2026-11-26"), NOW - 8 * 3600)
        self.assertEqual(grants.moment("2026-11-26T09:00:00+01:00"), NOW)


def key(name: str = "team", **changes: Any) -> tuple[Key, bytes]:
    """Return a key, and itself as its holder has it."""
    text = spelled(name.encode().ljust(SECRET_BYTES, b"."))[:LENGTH].encode()
    return Key("key-" + name, name, digest_of(text), NOW, **changes), text


class HolderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.wall = NOW
        self.holders = Holders(lambda: self.wall)

    def test_who_shows_a_good_key_is_known(self) -> None:
        """Also among others; nobody is known by a key that was not made, or is spelled wrongly."""
        (one, text), (other, other_text) = key("one"), key("other")
        self.holders.take([one, other])
        self.assertEqual([self.holders.find([shown]).id for shown in (text, other_text)], ["key-one", "key-other"])  # type: ignore[union-attr]
        self.assertEqual(self.holders.find([b"AIza-something", other_text]).id, "key-other")  # type: ignore[union-attr]
        for wrong in ([], [b"agw_"], [text[:-1] + b"!"], [text.upper()], [key("third")[1]]):
            self.assertIsNone(self.holders.find(wrong))

    def test_a_revoked_key_is_nobodys_and_the_door_stays_shut(self) -> None:
        """Its end is not the end of asking for keys."""
        self.assertFalse(self.holders.exist)
        one, text = key("one", revoked=NOW)
        self.holders.take([one])
        self.assertIsNone(self.holders.find([text]))
        self.assertTrue(self.holders.exist)

    def test_an_expired_key_is_told_so_from_that_second_on(self) -> None:
        """401, with the time: whoever has it may know."""
        one, text = key("one", grant=Grant(expires=NOW + 10))
        self.holders.take([one])
        self.wall = NOW + 9.999
        self.assertIsNotNone(self.holders.find([text]))
        self.wall = NOW + 10
        with self.assertRaises(GatewayError) as caught:
            self.holders.find([text])
        self.assertEqual((caught.exception.code, caught.exception.reason), (401, "CLIENT_KEY_EXPIRED"))
        self.assertIn("2026-11-26T08:00:10Z", caught.exception.message)

    def test_a_former_secret_is_good_until_its_grace_is_over(self) -> None:
        """The holder is the same one."""
        old, now = key("old"), key("new")
        self.holders.take([Key("key-1", "team", now[0].digest, NOW, former=((old[0].digest, NOW + 60),))])
        self.assertEqual([self.holders.find([text]).id for text in (old[1], now[1])], ["key-1", "key-1"])  # type: ignore[union-attr]
        self.wall = NOW + 60
        self.assertIsNone(self.holders.find([old[1]]))
        self.assertIsNotNone(self.holders.find([now[1]]))

    def test_models_are_judged_by_the_name_asked_for_and_the_one_it_stands_for(self) -> None:
        """403 names what is allowed; a path without a model is for everybody."""
        holder = Holder(key(grant=Grant(models=("gemini-2.5-flash*", "fast")))[0])
        resolve = {"fast": "gemini-3-pro", "cheap": "gemini-2.5-flash-lite"}
        for model, good in (("gemini-2.5-flash", True), ("gemini-2.5-flash-lite", True), ("fast", True),
                            ("cheap", True), ("gemini-3-pro", False), ("x/gemini-2.5-flash", False)):  # fmt: skip
            for path in (f"/v1beta/models/{model}:generateContent", f"/v1/models/{model}", f"/v1alpha/models/{model}"):
                if good:
                    holder.judge("127.0.0.1", path, lambda name: resolve.get(name, name))
                    continue
                with self.assertRaises(GatewayError) as caught:
                    holder.judge("127.0.0.1", path, lambda name: resolve.get(name, name))
                error = caught.exception
                self.assertEqual((error.code, error.reason), (403, "CLIENT_KEY_MODEL"))
                self.assertIn("gemini-2.5-flash*, fast", error.message)
                told = {"key": "key-team", "model": model, "allowedModels": "gemini-2.5-flash*, fast"}
                self.assertEqual(error.metadata, told)
        holder.judge("127.0.0.1", "/v1beta/models", str)
        holder.judge("127.0.0.1", "/antigravity/me", str)

    def test_addresses_are_judged_in_their_plain_form(self) -> None:
        """IPv4 in IPv6, zones, unix sockets; what is no address is nobody's."""
        holder = Holder(key(grant=Grant(networks=("10.0.0.0/8", "2001:db8::/32")))[0])
        local = Holder(key(grant=Grant(networks=("unix",)))[0])
        rows = [("10.9.8.7", True), ("::ffff:10.9.8.7", True), ("2001:db8::5%eth0", True), ("11.0.0.1", False),
                ("::1", False), ("local", False), ("", False), ("nonsense", False)]  # fmt: skip
        for peer, good in rows * 2:
            if good:
                holder.judge(peer, "/", str)
            else:
                with self.assertRaises(GatewayError) as caught:
                    holder.judge(peer, "/", str)
                self.assertEqual((caught.exception.code, caught.exception.reason), (403, "CLIENT_KEY_ADDRESS"))
        local.judge("local", "/", str)
        self.assertRaises(GatewayError, local.judge, "127.0.0.1", "/", str)


class BookCase(SynchronousTestCase):
    """A book in a directory of its own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(0o700)
        self.wall, self.count = NOW, 0
        self.limits = Limits()
        self.book = self.opened()

    def opened(self, in_thread: Callable[[Callable[[], None]], Deferred[None]] = maybeDeferred) -> Book:
        def wall() -> float:
            return self.wall

        book = Book(BookFile(self.directory), Holders(wall), Meters(self.limits, wall), lambda: self.wall, wall,
                    self.random, in_thread, ("key-of-the-file",))  # fmt: skip
        book.load()
        return book

    def random(self, count: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(count, "big")

    def create(self, name: str = "team", **members: Any) -> tuple[dict[str, Any], bytes]:
        row, text = self.successResultOf(self.book.create({"name": name, **members}))
        return row, text.encode()

    def refused(self, waiting: Deferred[Any]) -> GatewayError:
        error = self.failureResultOf(waiting, GatewayError).value
        assert isinstance(error, GatewayError)
        return error

    def knows(self, text: bytes, book: Book | None = None) -> bool:
        return (book or self.book).holders.find([text]) is not None


class BookTests(BookCase):
    def test_a_key_that_is_made_is_good_at_once_and_after_a_restart(self) -> None:
        """With all that was granted."""
        row, text = self.create(models=["a-*"], requests_per_minute=3)
        self.assertTrue(self.knows(text))
        self.assertEqual((row["state"], row["models"], row["requests_per_minute"]), ("active", ["a-*"], 3))
        again = self.opened()
        self.assertTrue(self.knows(text, again))
        self.assertEqual(again.row("team"), row)

    def test_only_digests_are_kept(self) -> None:
        """Neither the key nor its secret part is anywhere in the directory or in a row."""
        row, text = self.create()
        rotated, fresh = self.successResultOf(self.book.rotate("team", 60))
        kept = b"".join(path.read_bytes() for path in self.directory.iterdir())
        kept += repr((row, rotated, self.book)).encode()
        for word in (text, fresh.encode()):
            for part in (word, word[4:36], word[4:20], word[20:36]):
                self.assertNotIn(part, kept)
        self.assertEqual((self.directory / NAME).stat().st_mode & 0o777, 0o600)

    def test_a_rotated_key_has_the_same_id_and_another_secret(self) -> None:
        """Without a grace the old secret ends at once, with one when that is over; what was used stays."""
        row, first = self.create()
        self.book.meters.charge(self.book.meters.meter(row["id"]), "m", None, 0.0)
        rotated, second = self.successResultOf(self.book.rotate("team"))
        self.assertEqual((rotated["id"], rotated["usage"]["day"]["requests"]), (row["id"], 1))
        self.assertEqual((self.knows(first), self.knows(second.encode())), (False, True))
        graced, third = self.successResultOf(self.book.rotate(row["id"], 60))
        self.assertEqual(graced["former_good_until"], "2026-11-26T08:01:00Z")
        self.assertEqual((self.knows(second.encode()), self.knows(third.encode())), (True, True))
        self.assertTrue(self.knows(second.encode(), self.opened()))
        self.wall += 60
        self.assertEqual((self.knows(second.encode()), self.knows(third.encode())), (False, True))

    def test_a_rotation_without_grace_ends_the_secrets_of_earlier_ones(self) -> None:
        """It is what one does with a secret that has got out."""
        _, first = self.create()
        _, second = self.successResultOf(self.book.rotate("team", 3600))
        self.successResultOf(self.book.rotate("team"))
        self.assertEqual((self.knows(first), self.knows(second.encode())), (False, False))

    def test_a_revoked_key_is_refused_for_good(self) -> None:
        """Its row stays, its name is free."""
        row, text = self.create()
        revoked, changed = self.successResultOf(self.book.revoke("team"))
        self.assertEqual((revoked["state"], changed, self.knows(text)), ("revoked", True, False))
        self.assertEqual(self.successResultOf(self.book.revoke(row["id"]))[1], False)
        self.assertEqual(self.refused(self.book.rotate(row["id"])).reason, "KEY_REVOKED")
        self.assertEqual(self.refused(self.book.change("team", {"concurrent": 1})).reason, "KEY_REVOKED")
        other, _ = self.create()
        self.assertNotEqual(other["id"], row["id"])
        self.assertEqual(self.book.row("team")["id"], other["id"])
        again = self.opened()
        self.assertEqual((self.knows(text, again), again.holders.exist), (False, True))

    def test_a_change_is_in_force_at_once(self) -> None:
        """What is not named stays; the name is one of its fields."""
        row, text = self.create(requests_per_minute=1)
        self.book.meters.enter(row["id"], self.wall)
        self.assertRaises(GatewayError, self.book.meters.enter, row["id"], self.wall)
        changed = self.successResultOf(self.book.change("team", {"requests_per_minute": 2, "name": "crew"}))
        self.assertEqual((changed["name"], changed["id"]), ("crew", row["id"]))
        self.book.meters.enter(row["id"], self.wall)
        self.assertRaises(GatewayError, self.book.meters.enter, row["id"], self.wall)
        self.successResultOf(self.book.change("crew", {"networks": ["10.0.0.1"]}))
        holder = self.book.holders.find([text])
        assert holder is not None
        self.assertRaises(GatewayError, holder.judge, "10.0.0.2", "/", str)

    def test_what_cannot_be_is_refused_and_changes_nothing(self) -> None:
        """With a reason for programs and a sentence for people."""
        self.create()
        rows: list[tuple[Deferred[Any], int, str]] = [
            (self.book.create({"name": "team"}), 409, "KEY_NAME_TAKEN"),
            (self.book.create({"name": "key-123"}), 409, "KEY_NAME_TAKEN"),
            (self.book.create({"name": " "}), 400, "KEY_FIELD_INVALID"),
            (self.book.create({"name": "a/b"}), 400, "KEY_FIELD_INVALID"),
            (self.book.create({"models": []}), 400, "KEY_FIELD_INVALID"),
            (self.book.create({"name": "new", "concurrent": -1}), 400, "KEY_FIELD_INVALID"),
            (self.book.create({"name": "new", "expires": "2026-01-01"}), 400, "KEY_FIELD_INVALID"),
            (self.book.rotate("team", -1), 400, "KEY_FIELD_INVALID"),
            (self.book.change("nobody", {}), 404, "KEY_UNKNOWN"),
            (self.book.revoke("key-of-the-file"), 400, "KEY_CONFIGURED"),
        ]
        for waiting, code, reason in rows:
            error = self.refused(waiting)
            self.assertEqual((error.code, error.reason), (code, reason))
        self.assertEqual([row["name"] for row in self.book.rows()], ["team", ""])

    def test_a_change_that_cannot_be_kept_is_not_made(self) -> None:
        """Except for a revocation, which counts from the moment on at which it was asked for."""
        _, text = self.create()
        self.directory.rename(self.directory.with_suffix(".gone"))
        self.assertEqual(self.refused(self.book.create({"name": "other"})).reason, "KEYS_NOT_KEPT")
        self.assertEqual(self.refused(self.book.rotate("team")).reason, "KEYS_NOT_KEPT")
        self.assertTrue(self.knows(text))
        self.assertEqual(self.refused(self.book.revoke("team")).reason, "KEYS_NOT_KEPT")
        self.assertFalse(self.knows(text))

    def test_changes_are_made_one_after_the_other_and_to_their_end(self) -> None:
        """Also where whoever asked has gone: what is on disk is in force."""
        waiting: list[tuple[Callable[[], None], Deferred[None]]] = []

        def in_thread(write: Callable[[], None]) -> Deferred[None]:
            waiting.append((write, Deferred()))
            return waiting[-1][1]

        def written() -> None:
            write, done = waiting.pop(0)
            write()
            done.callback(None)

        self.book = self.opened(in_thread)
        first, second = self.book.create({"name": "first"}), self.book.create({"name": "second"})
        self.assertEqual(len(waiting), 1)
        first.cancel()
        self.failureResultOf(first)
        written()
        written()
        self.successResultOf(second)
        self.assertEqual([row["name"] for row in self.book.rows()][:2], ["first", "second"])
        self.assertEqual([row["name"] for row in self.opened().rows()][:2], ["first", "second"])

    def test_the_longest_revoked_are_forgotten_where_there_are_too_many(self) -> None:
        """Those in use never; over that many in use no more are made."""
        many = {f"key-{n}": Key(f"key-{n}", f"n{n}", n.to_bytes(32, "big"), NOW, revoked=NOW + n if n < 5 else None)
                for n in range(KEYS_MOST)}  # fmt: skip
        self.book.file.save(many.values())
        self.book = self.opened()
        self.create("one-more")
        self.assertEqual(len(self.book.rows()), KEYS_MOST + 1)
        self.assertEqual(self.refused(self.book.change("key-0", {})).reason, "KEY_UNKNOWN")
        self.assertEqual(self.refused(self.book.change("key-1", {})).reason, "KEY_REVOKED")


class BookFileTests(BookCase):
    """What is on disk is what was written, or nobody is let in by it."""

    def test_a_file_that_was_changed_is_refused_with_the_cure(self) -> None:
        """One letter, half of it, another version's, none of JSON: to go on without could be to open the door."""
        self.create()
        path = self.directory / NAME
        good = path.read_bytes()
        (row,) = json.loads(good)["keys"]
        rows = [
            (good.replace(b'"team"', b'"teem"'), "checksum"),
            (good[: len(good) // 2], "JSONDecodeError"),
            (b"[]", "TypeError"),
            (b'{"schema":1}', "KeyError"),
            (self.signed([{**row, "grant": []}]), "AttributeError"),
            (self.signed([{**row, "former": 5}]), "TypeError"),
            (self.signed([{**row, "sha256": "xx"}]), "ValueError"),
            (self.signed([{**row, "grant": {"models": ["a b"]}}]), "ValueError"),
            (good.replace(b'"schema":1', b'"schema":2'), "newer version"),
        ]
        for text, told in rows:
            path.write_bytes(text)
            with self.assertRaises(BookError) as caught:
                self.opened()
            self.assertIn(told, str(caught.exception))
            self.assertIn(str(path), str(caught.exception))
            self.assertEqual(path.read_bytes(), text)

    @staticmethod
    def signed(rows: list[Any]) -> bytes:
        """Return a file of these rows whose checksum is right."""
        body = json.dumps(rows, sort_keys=True, separators=(",", ":"))
        return json.dumps({"schema": 1, "sha256": hashlib.sha256(body.encode()).hexdigest(), "keys": rows}).encode()

    def test_a_file_that_others_may_read_is_refused(self) -> None:
        """As all private files of the gateway are."""
        self.create()
        (self.directory / NAME).chmod(0o644)
        with self.assertRaises(BookError) as caught:
            self.opened()
        self.assertIn("chmod 600", str(caught.exception))
