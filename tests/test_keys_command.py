"""What ``antigravity keys`` reads from its options, and what it prints."""

from __future__ import annotations

from typing import Any

from twisted.python.usage import UsageError

from gateway.calls import Usage
from gateway.cli import Options
from gateway.commands import keytables
from gateway.commands.adminclient import Refused
from gateway.commands.keys import chosen, wished
from gateway.keys.meters import Meters
from tests.test_keys import NOW, BookCase


class OptionTests(BookCase):
    def given(self, *words: str) -> dict[str, Any]:
        options = Options()
        options.parseOptions(["keys", *words])
        found: dict[str, Any] = options.subOptions.subOptions
        return found

    def wish(self, *words: str) -> dict[str, Any]:
        return wished(self.given("create", "team", *words), NOW)

    def test_options_become_what_is_granted(self) -> None:
        """Times from now or by the calendar, lists, numbers, money; what is not said is not there."""
        self.assertEqual(self.wish(), {})
        self.assertEqual(
            self.wish("--expires", "2d", "--models", "a-*, b", "--networks", "10.0.0.1,unix", "--concurrent", "5",
                      "--tokens-per-day", "none", "--requests-per-minute", "default", "--budget-per-day", "2.50"),
            {"expires": "2026-11-28T08:00:00Z", "models": ["a-*", "b"], "networks": ["10.0.0.1", "unix"],
             "concurrent": 5, "tokens_per_day": 0, "requests_per_minute": None, "micros_per_day": 2_500_000},
        )  # fmt: skip
        self.assertEqual(self.wish("--expires", "never", "--models", "all", "--networks", "all"),
                         {"expires": None, "models": [], "networks": []})  # fmt: skip
        self.assertEqual(self.wish("--expires", "2027-01-31"), {"expires": "2027-01-31T00:00:00Z"})

    def test_what_cannot_be_is_told_with_its_option(self) -> None:
        """Before anything is asked of the gateway."""
        for option, value in (("--expires", "soon"), ("--concurrent", "0"), ("--tokens-per-day", "1.5"),
                              ("--budget-per-day", "0"), ("--budget-per-month", "ten")):  # fmt: skip
            with self.assertRaises(Refused) as caught:
                self.wish(option, value)
            self.assertIn(f"{option} {value!r}", str(caught.exception))

    def test_commands_want_their_names(self) -> None:
        """And ``change`` something to change."""
        for words in ([], ["create"], ["create", "a", "b"], ["change", "a"], ["revoke"], ["list", "a"]):
            self.assertRaises(UsageError, self.given, *words)

    def test_a_name_is_the_key_that_lives(self) -> None:
        """Also where older ones of that name are revoked; an id is always one."""
        old, _ = self.create()
        self.successResultOf(self.book.revoke("team"))
        new, _ = self.create()
        rows = self.book.rows()
        self.assertEqual([chosen(rows, name)["id"] for name in ("team", old["id"], new["id"])],
                         [new["id"], old["id"], new["id"]])  # fmt: skip
        self.assertRaises(Refused, chosen, rows, "")


class TableTests(BookCase):
    def test_a_key_is_shown_with_what_is_left(self) -> None:
        """And none of its secret."""
        self.book.meters = Meters(self.limits, lambda: self.wall, lambda model, usage, at: 1_500_000)
        row, text = self.create(micros_per_day=5_000_000, tokens_per_day=100, models=["a-*"], expires="2026-11-27")
        self.book.meters.charge(self.book.meters.meter(row["id"]), "a-1", Usage(3, 4, 5), 0.0)
        row = self.book.row("team")
        shown = keytables.shown(row, NOW)
        for words in ("in 16 h", "a-*", "$5.00/day: $3.50 left", "100 tokens/day: 88 left", "1 req, 12 tokens, $1.50"):
            self.assertIn(words, shown)
        listed = keytables.listed(self.book.rows(), NOW)
        self.assertIn("100 tokens/day, $5.00/day; models", listed)
        self.assertIn("(configuration)", listed)
        self.assertNotIn(text.decode(), shown + listed)

    def test_a_secret_is_printed_with_what_becomes_of_the_old_one(self) -> None:
        """By what makes one alone."""
        row, _ = self.create()
        self.assertIn("\nagw_x\n", keytables.secret(row, "agw_x", "Made"))
        rotated, _ = self.successResultOf(self.book.rotate("team"))
        self.assertIn("refused from now on", keytables.secret(rotated, "agw_x", "Rotated"))
        graced, _ = self.successResultOf(self.book.rotate("team", 3600))
        self.assertIn("good until 2026-11-26T09:00:00Z", keytables.secret(graced, "agw_x", "Rotated"))
