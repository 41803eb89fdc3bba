"""What usage/reports.py reads out of a file, and how usage/spans.py takes a span of time apart."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import Usage
from gateway.config.tariff import UsageConfig
from gateway.usage.reports import BY, Question, ReportError, report, requests, spent, stamp
from gateway.usage.schema import DAY, HOUR, Row
from gateway.usage.spans import DAYS, HOURS, REQUESTS, Piece, pieces
from gateway.usage.spending import Spent
from gateway.usage.store import Store
from tests.usage_rows import NOON, fill, row

MIDNIGHT = NOON - 12 * HOUR
KEPT = 0.0
"""All requests are kept."""


class SpanTests(SynchronousTestCase):
    def test_each_table_is_asked_for_what_it_has(self) -> None:
        """Whole days of the days', whole hours around them of the hours', and the edges of the requests'."""
        since, until = MIDNIGHT - 2.5 * HOUR, MIDNIGHT + 2 * DAY + 1.25 * HOUR
        self.assertEqual(
            pieces(since, until, KEPT),
            [
                Piece(REQUESTS, since, MIDNIGHT - 2 * HOUR),
                Piece(HOURS, MIDNIGHT - 2 * HOUR, MIDNIGHT),
                Piece(DAYS, MIDNIGHT, MIDNIGHT + 2 * DAY),
                Piece(HOURS, MIDNIGHT + 2 * DAY, MIDNIGHT + 2 * DAY + HOUR),
                Piece(REQUESTS, MIDNIGHT + 2 * DAY + HOUR, until),
            ],
        )

    def test_hours_can_be_told_apart(self) -> None:
        """Then no day is asked for."""
        found = pieces(MIDNIGHT, MIDNIGHT + 3 * DAY, KEPT, hourly=True)
        self.assertEqual(found, [Piece(HOURS, MIDNIGHT, MIDNIGHT + 3 * DAY)])

    def test_a_span_within_an_hour_is_of_requests(self) -> None:
        """Or none at all."""
        self.assertEqual(pieces(NOON + 1, NOON + 2, KEPT), [Piece(REQUESTS, NOON + 1, NOON + 2)])
        self.assertEqual(pieces(NOON + 2, NOON + 2, KEPT), [])
        self.assertEqual(pieces(NOON + 3, NOON + 2, KEPT), [])

    def test_a_span_grows_to_whole_hours_where_requests_are_no_longer_kept(self) -> None:
        """At its beginning, and at its end."""
        kept = NOON + 5 * HOUR
        self.assertEqual(pieces(NOON + 60, kept + 60, kept)[0], Piece(HOURS, NOON, kept))
        self.assertEqual(pieces(NOON + 60, NOON + 90, kept), [Piece(HOURS, NOON, NOON + HOUR)])

    @given(st.integers(0, 5 * DAY), st.integers(0, 5 * DAY), st.booleans())
    def test_pieces_follow_one_another(self, since: int, length: int, hourly: bool) -> None:
        """Nothing is counted twice, and nothing left out."""
        found = pieces(MIDNIGHT + since, MIDNIGHT + since + length, KEPT, hourly)
        at = MIDNIGHT + since
        for piece in found:
            self.assertEqual(piece.since, at)
            self.assertLess(piece.since, piece.until)
            at = piece.until
        self.assertEqual(at, MIDNIGHT + since + length)


class ReportCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()).resolve()
        self.store = Store(self.path, UsageConfig())
        self.addCleanup(self.store.close)

    def asked(self, by: str, since: float = 0, until: float = NOON + 100 * DAY, **more: Any) -> dict[str, Any]:
        return report(self.path, Question(by, since, until, **more), more.pop("kept", KEPT))


class ReportTests(ReportCase):
    def test_sums_are_told_apart_by_what_is_asked(self) -> None:
        """The most costly first, times in their order."""
        self.store.write(
            [
                row(NOON, key_id="a", model="gemini-2.5-flash"),
                row(NOON + HOUR, key_id="b", upstream="cloud"),
                row(NOON + DAY, key_id="b", credential="studio/second", status=503, reason="X"),
            ]
        )
        for by, expected in {
            "model": [("gemini-2.5-pro", 2), ("gemini-2.5-flash", 1)],
            "key": [("b", 2), ("a", 1)],
            "upstream": [("studio", 2), ("cloud", 1)],
            "credential": [("studio/first", 2), ("studio/second", 1)],
            "hour": [(stamp(NOON), 1), (stamp(NOON + HOUR), 1), (stamp(NOON + DAY), 1)],
            "day": [(stamp(MIDNIGHT), 2), (stamp(MIDNIGHT + DAY), 1)],
        }.items():
            rows = self.asked(by)["rows"]
            if by not in ("hour", "day"):
                rows.sort(key=lambda one: -one["requests"])
            self.assertEqual([(one[by], one["requests"]) for one in rows], expected, by)
        total = self.asked("model")["total"]
        self.assertEqual((total["requests"], total["failed"], total["prompt"], total["bytes_out"]), (3, 1, 30, 600))
        self.assertEqual((total["firsts"], total["first_seconds"], total["seconds"]), (3, 1.5, 6.0))

    def test_costs_come_in_their_order(self) -> None:
        """The dearest model first."""
        self.store.write([row(NOON, model="gemini-2.5-flash"), row(NOON + 1), row(NOON + 2, model="unheard-of")])
        rows = self.asked("model")["rows"]
        self.assertEqual(
            [(one["model"], one["micros"], one["unpriced"]) for one in rows],
            [("gemini-2.5-pro", 88, 0), ("gemini-2.5-flash", 22, 0), ("unheard-of", 0, 1)],
        )

    def test_only_one_key_or_model_can_be_asked_for(self) -> None:
        """Whichever table the answer comes from."""
        self.store.write([row(NOON + n * HOUR / 2, key_id="ab"[n % 2], model="mn"[n % 3 == 0]) for n in range(120)])
        since, until = NOON + HOUR / 4, NOON + 59.6 * HOUR
        whole = self.asked("model", since, until)["total"]["requests"]
        self.assertEqual(whole, 119)
        self.assertEqual(self.asked("day", since, until, key="a")["total"]["requests"], 59)
        self.assertEqual(self.asked("key", since, until, model="n")["total"]["requests"], 39)
        self.assertEqual(self.asked("key", since, until, model="n", key="c")["rows"], [])

    def test_any_span_is_exact_while_requests_are_kept(self) -> None:
        """As counting the requests themselves says."""
        chance = random.Random(7)
        times = sorted(chance.uniform(MIDNIGHT, MIDNIGHT + 4 * DAY) for _ in range(2000))
        fill(self.store, [row(at, usage=Usage(number)) for number, at in enumerate(times)])
        for by in BY:
            for _ in range(10):
                since, until = sorted(chance.uniform(MIDNIGHT - DAY, MIDNIGHT + 5 * DAY) for _ in range(2))
                total = self.asked(by, since, until)["total"]
                inside = [number for number, at in enumerate(times) if since <= at < until]
                self.assertEqual((total["requests"], total["prompt"]), (len(inside), sum(inside)), (by, since, until))

    def test_sums_outlast_the_requests(self) -> None:
        """Of what is no longer kept one by one, whole hours are told, and the answer says which."""
        fill(self.store, [row(NOON + number * 60) for number in range(600)])
        self.store.config = UsageConfig(keep=5 * HOUR)
        now = NOON + 10 * HOUR
        self.store.prune(now)
        told = report(self.path, Question("model", NOON + 90 * 60, now), now - 5 * HOUR)
        self.assertEqual((told["since"], told["total"]["requests"]), (stamp(NOON + HOUR), 540))
        self.assertEqual(len(requests(self.path, 1000)), 300)

    def test_no_file_and_an_empty_one_tell_nothing(self) -> None:
        """It is no error: nothing has happened yet."""
        self.assertEqual(self.asked("model")["rows"], [])
        self.assertEqual(self.asked("model")["total"]["requests"], 0)
        self.assertEqual((requests(self.path, 10), spent(self.path, 0, NOON, KEPT)), ([], {}))
        self.path.touch()
        self.assertEqual((requests(self.path, 10), spent(self.path, 0, NOON, KEPT)), ([], {}))

    def test_a_file_that_cannot_be_read_is_told_of(self) -> None:
        """In a sentence that names it: no database, or another version's."""
        self.path.write_bytes(b"hello" * 1000)
        self.assertIn("cannot be read", str(self.assertRaises(ReportError, self.asked, "model")))
        self.path.unlink()
        self.store.open()
        self.store.close()
        db = sqlite3.connect(self.path)
        db.execute("PRAGMA user_version = 99")
        db.close()
        self.assertIn("schema 99", str(self.assertRaises(ReportError, requests, self.path, 1)))


class RequestsTests(ReportCase):
    def test_the_newest_come_first_in_pages(self) -> None:
        """Onward by ``before``, and what is new by ``after``."""
        self.store.write([row(NOON + number, request_id=f"id-{number}") for number in range(10)])
        first = requests(self.path, 4)
        self.assertEqual([one["request_id"] for one in first], ["id-9", "id-8", "id-7", "id-6"])
        second = requests(self.path, 4, before=first[-1]["id"])
        self.assertEqual([one["request_id"] for one in second], ["id-5", "id-4", "id-3", "id-2"])
        self.assertEqual(requests(self.path, 4, after=first[0]["id"]), [])
        self.assertEqual([one["request_id"] for one in requests(self.path, 9, after=first[2]["id"])], ["id-9", "id-8"])
        self.assertEqual(first[0]["at"], stamp(NOON + 9))


class SpentTests(ReportCase):
    def test_it_is_told_by_key(self) -> None:
        """Requests, tokens of all kinds and cost, since a time."""
        rows: list[Row] = [row(NOON + number * HOUR, key_id="ab"[number % 2]) for number in range(5)]
        self.store.write(rows)
        found = spent(self.path, NOON + HOUR, NOON + 9 * HOUR, KEPT)
        self.assertEqual(found, {"a": Spent(2, 36, 176), "b": Spent(2, 36, 176)})
