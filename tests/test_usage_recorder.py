"""What usage/recorder.py makes of a request's end."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import Ended, Usage
from gateway.config.tariff import Price, Rates
from gateway.usage.prices import Prices
from gateway.usage.recorder import UsageRecorder
from gateway.usage.schema import COLUMNS
from tests.usage_rows import KEY, MODEL, NOON, ended


class RecorderTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.now = NOON
        self.recorder = UsageRecorder(Prices(), lambda: self.now, self.take)

    def test_names_that_clients_make_up_are_no_models(self) -> None:
        """Whatever becomes of such a request, as where its client leaves at once; one that answers is a model."""
        self.recorder = UsageRecorder(Prices(), lambda: self.now, self.take, {MODEL}.__contains__)
        for status, reason in ((400, "INVALID_ARGUMENT"), (404, "NOT_FOUND"), (429, "QUOTA"), (499, "CLIENT_LEFT")):
            row = self.told(ended(status, reason, model="made-up", requested_model="made-up", usage=None))
            self.assertEqual((row["model"], row["requested_model"]), ("", "made-up"))
            self.assertEqual(self.told(ended(status, reason, usage=None))["model"], MODEL)
        self.assertEqual(self.told(ended(model="not-listed"))["model"], "not-listed")
        self.assertEqual(self.told(ended(model="not-listed", usage=None))["model"], "not-listed")

    def take(self, row: tuple[Any, ...]) -> None:
        self.rows.append(dict(zip(COLUMNS, row, strict=True)))

    def told(self, event: Ended) -> dict[str, Any]:
        self.recorder.ended(event)
        return self.rows[-1]

    def test_a_row_says_what_happened(self) -> None:
        """Every column, and nothing beside: no path, no address, no text."""
        self.assertEqual(
            self.told(ended()),
            {
                "id": int(NOON * 1e6),
                "request_id": "id-1",
                "key": KEY,
                "session": "session-1",
                "method": "generateContent",
                "requested_model": "asked-for",
                "model": MODEL,
                "upstream": "studio",
                "credential": "studio/first",
                "attempts": 0,
                "status": 200,
                "reason": "",
                "origin": "upstream",
                "first_seconds": 0.5,
                "seconds": 2.0,
                "bytes_in": 100,
                "bytes_out": 200,
                "prompt": 10,
                "candidates": 5,
                "thoughts": 3,
                "cached": 4,
                "finish": "STOP",
                "micros": 88,
            },
        )

    def test_what_was_not_told_is_not_known(self) -> None:
        """No usage is no tokens and no cost, which is not zero; no first byte is no time."""
        row = self.told(ended(503, "UPSTREAM_UNREACHABLE", usage=None, first_byte=None))
        self.assertEqual({row[name] for name in ("prompt", "cached", "micros", "first_seconds")}, {None})

    def test_an_unknown_model_has_tokens_and_no_cost(self) -> None:
        """It is told as unknown."""
        row = self.told(ended(model="unheard-of", usage=Usage(1, 2, 3, 0)))
        self.assertEqual((row["prompt"], row["thoughts"], row["micros"]), (1, 3, None))

    def test_prices_can_be_exchanged(self) -> None:
        """As a reload does."""
        self.recorder.prices = Prices([("*", Price(Rates(1, 1, 1)))])
        self.assertEqual(self.told(ended())["micros"], 18)

    def test_what_asks_for_no_model_is_told_by_its_method(self) -> None:
        """A list of models, say."""
        self.assertEqual(self.told(ended(verb="", method="GET", usage=None))["method"], "GET")

    def test_who_was_not_let_in_leaves_no_row(self) -> None:
        """Whoever guesses keys does not fill the disk."""
        self.recorder.ended(ended(401, "CLIENT_KEY_INVALID", key_id="", usage=None))
        self.assertEqual(self.rows, [])

    def test_ids_grow_even_where_the_clock_does_not(self) -> None:
        """Two ends in one microsecond, and a clock that is corrected by a little; one that is set back is believed."""
        ids = []
        for now in (NOON, NOON, NOON - 0.5, NOON - 3600, NOON - 3600, NOON + 1):
            self.now = now
            ids.append(self.told(ended())["id"] - int(NOON * 1e6))
        hour = 3600 * 1_000_000
        self.assertEqual(ids, [0, 1, 2, -hour, 1 - hour, 1_000_000])
