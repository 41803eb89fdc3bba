"""What client keys use: requests and concurrency exactly, tokens and money when known, days and months of UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import GatewayError, Usage
from gateway.config import Limits
from gateway.edge import errors
from gateway.keys import accounting
from gateway.keys.grants import Grant
from gateway.keys.meters import Meters, day_of, month_of
from gateway.keys.refusals import LIMITS
from gateway.operations.exposition import KEY_REASONS
from gateway.usage.spending import Spent

NOW = 1_795_680_000.0
"""2026-11-26, 08:00 UTC."""
DAY_LEFT = 16 * 3600.0
MONTH_LEFT = DAY_LEFT + 4 * 86400.0
USAGE = Usage(prompt=30, candidates=60, thoughts=10, cached=5)


def cost(model: str, usage: Usage, at: float) -> int | None:
    """Two micro-dollars a token of the one model whose price is known."""
    return 2 * (usage.prompt + usage.candidates + usage.thoughts) if model == "priced" else None


class MeterCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.wall = NOW
        self.meters = Meters(Limits(), lambda: self.wall, cost)

    def have(self, **grant: Any) -> None:
        self.meters.grant("key", Grant(**grant), 0.0)

    def refusal(self, now: float = 0.0) -> GatewayError:
        with self.assertRaises(GatewayError) as caught:
            self.meters.enter("key", now)
        return caught.exception

    def is_over(self, reason: str, limit: str, value: str, seconds: float, frees: str | None, now: float = 0.0) -> None:
        error = self.refusal(now)
        self.assertEqual((error.code, error.status, error.reason), (429, "RESOURCE_EXHAUSTED", reason))
        self.assertEqual((error.metadata["limit"], error.metadata["value"], error.metadata.get("frees")),
                         (limit, value, frees))  # fmt: skip
        self.assertAlmostEqual(error.retry_after_seconds or 0, seconds)
        self.assertIn(value, error.message)

    def let_in(self, count: int, now: float = 0.0) -> int:
        passed = 0
        for _ in range(count):
            try:
                self.meters.enter("key", now)
            except GatewayError:
                continue
            passed += 1
        return passed


class ExactTests(MeterCase):
    @given(st.integers(1, 250), st.integers(1, 250))
    def test_of_any_number_at_once_exactly_as_many_pass_as_may(self, rate: int, concurrent: int) -> None:
        """The smaller limit decides, and a refused request counts against neither."""
        self.setUp()
        self.have(requests_per_minute=rate, concurrent=concurrent)
        self.assertEqual(self.let_in(200), min(200, rate, concurrent))
        meter = self.meters.meter("key")
        self.assertEqual((meter.under_way, meter.requests.used(0)), (min(200, rate, concurrent),) * 2)  # type: ignore[union-attr]

    def test_one_that_leaves_makes_room_for_one(self) -> None:
        """And never for more than there are."""
        self.have(concurrent=2)
        self.assertEqual(self.let_in(5), 2)
        self.meters.meter("key").left()
        self.assertEqual(self.let_in(5), 1)
        for _ in range(2):
            self.meters.meter("key").left()
        self.assertEqual(self.let_in(5), 2)


class RefusalTests(MeterCase):
    """Each limit says which it is, its value, and when it frees."""

    def test_concurrency(self) -> None:
        """Nobody knows when it frees."""
        self.have(concurrent=1)
        self.let_in(1)
        self.is_over("KEY_CONCURRENCY_EXCEEDED", "concurrent", "1", 1.0, None)

    def test_requests_a_minute(self) -> None:
        """The next is let in when it was told."""
        self.have(requests_per_minute=4)
        self.let_in(4)
        self.is_over("KEY_RATE_EXCEEDED", "requests_per_minute", "4", 15.0, "2026-11-26T08:00:15Z")
        self.assertEqual((self.let_in(1, 14.99), self.let_in(1, 15.0)), (0, 1))

    def test_tokens_a_minute(self) -> None:
        """Counted at a request's end, in full; the debt is paid off by time."""
        self.have(tokens_per_minute=100)
        self.assertEqual(self.let_in(3), 3)
        for _ in range(3):
            self.meters.charge(self.meters.meter("key"), "m", USAGE, 0.0)
        self.is_over("KEY_TOKENS_PER_MINUTE_EXCEEDED", "tokens_per_minute", "100", 120.6, "2026-11-26T08:02:01Z")
        self.assertEqual((self.let_in(1, 120.59), self.let_in(1, 120.61)), (0, 1))

    def test_a_debt_that_nobody_lives_to_see_the_end_of(self) -> None:
        """It is told as the last time that there is."""
        self.have(tokens_per_minute=1)
        self.meters.charge(self.meters.meter("key"), "m", Usage(prompt=10**13), 0.0)
        self.assertEqual(self.refusal().metadata["frees"], "9999-12-31T23:59:59Z")
        told = accounting.own("key", None, self.meters.meter("key"), 0.0, NOW)
        self.assertEqual(told["limits"][0]["renews"], "9999-12-31T23:59:59Z")

    def test_tokens_a_day(self) -> None:
        """They are back at midnight UTC."""
        self.have(tokens_per_day=200)
        self.meters.charge(self.meters.meter("key"), "m", USAGE, 0.0)
        self.assertEqual(self.let_in(1), 1)
        self.meters.charge(self.meters.meter("key"), "m", USAGE, 0.0)
        self.is_over("KEY_TOKENS_PER_DAY_EXCEEDED", "tokens_per_day", "200", DAY_LEFT, "2026-11-27T00:00:00Z")
        self.wall += DAY_LEFT - 1
        self.assertEqual(self.let_in(1), 0)
        self.wall += 1
        self.assertEqual(self.let_in(1), 1)

    def test_money_a_day_and_a_month(self) -> None:
        """What frees last is told first; tokens without a known price cost nothing."""
        self.have(micros_per_day=400, micros_per_month=500)
        self.meters.charge(self.meters.meter("key"), "free", USAGE, 0.0)
        self.meters.charge(self.meters.meter("key"), "priced", USAGE, 0.0)
        self.assertEqual(self.let_in(1), 1)
        self.meters.charge(self.meters.meter("key"), "priced", USAGE, 0.0)
        self.is_over("KEY_BUDGET_PER_DAY_EXCEEDED", "micros_per_day", "$0.0004", DAY_LEFT, "2026-11-27T00:00:00Z")
        self.wall += DAY_LEFT
        self.assertEqual(self.let_in(1), 1)
        self.meters.charge(self.meters.meter("key"), "priced", USAGE, 0.0)
        self.is_over("KEY_BUDGET_PER_MONTH_EXCEEDED", "micros_per_month", "$0.0005", MONTH_LEFT - DAY_LEFT,
                     "2026-12-01T00:00:00Z")  # fmt: skip
        self.wall = NOW + MONTH_LEFT
        self.assertEqual(self.let_in(1), 1)

    def test_every_limit_has_a_reason_by_which_refusals_are_counted(self) -> None:
        """agw_key_refusals_total tells them apart; and a quota's name, which is one of its own too."""
        self.assertTrue(all(one.reason.startswith(KEY_REASONS) for one in LIMITS.values()))
        self.assertEqual(len({one.reason for one in LIMITS.values()} | {one.quota for one in LIMITS.values()}), 12)

    def test_a_refusal_is_googles_object(self) -> None:
        """ErrorInfo, RetryInfo and a QuotaFailure that has every limit at which the key is."""
        self.have(requests_per_minute=1, tokens_per_day=1)
        self.let_in(1)
        self.meters.charge(self.meters.meter("key"), "m", USAGE, 0.0)
        error = self.refusal()
        self.assertEqual(error.reason, "KEY_TOKENS_PER_DAY_EXCEEDED")
        body = errors.body(error).decode()
        for word in ("google.rpc.ErrorInfo", "google.rpc.RetryInfo", '"retryDelay":"57600s"', "google.rpc.QuotaFailure",
                     '"subject":"key:key"', "RequestsPerMinutePerClientKey", "TokensPerDayPerClientKey",
                     '"quotaValue":"1"'):  # fmt: skip
            self.assertIn(word, body)
        self.assertIn((b"retry-after", b"57600"), errors.headers(error))


class DefaultTests(MeterCase):
    def test_the_configuration_counts_for_keys_that_have_nothing_of_their_own(self) -> None:
        """Which the refusal names; 0 of a key's own is no limit."""
        self.meters.renew(Limits(key_per_minute=2), 0.0)
        self.assertEqual(self.let_in(5), 2)
        self.assertIn("(limits.key_per_minute)", self.refusal().message)
        self.have(requests_per_minute=3)
        self.assertEqual(self.let_in(5), 1)
        self.assertNotIn("limits.", self.refusal().message)
        self.have(requests_per_minute=0)
        self.assertEqual(self.let_in(100), 100)

    def test_other_defaults_count_at_once_and_what_was_used_counts(self) -> None:
        """After a SIGHUP."""
        self.meters.renew(Limits(key_per_minute=2, key_concurrent=9), 0.0)
        self.assertEqual(self.let_in(5), 2)
        self.meters.renew(Limits(key_per_minute=3, key_concurrent=9), 0.0)
        self.assertEqual(self.let_in(5), 1)
        bucket = self.meters.meter("key").requests
        self.meters.renew(Limits(key_per_minute=3, key_concurrent=8), 0.0)
        self.assertIs(self.meters.meter("key").requests, bucket)
        self.meters.renew(Limits(key_concurrent=9), 0.0)
        self.assertEqual(self.let_in(20), 6)


class WindowTests(MeterCase):
    def test_a_limit_that_frees_while_it_is_looked_at_is_none(self) -> None:
        """Midnight may come between two looks at the clock: the request is the new day's first."""
        times = [NOW, NOW, NOW + DAY_LEFT]
        meters = Meters(Limits(), lambda: times.pop(0), cost)
        meters.grant("key", Grant(micros_per_day=200), 0.0)
        meters.charge(meters.meter("key"), "priced", USAGE, 0.0)
        self.assertEqual(meters.enter("key", 0.0).under_way, 1)
        self.assertEqual(times, [])

    @given(st.floats(0, 4e9))
    def test_days_and_months_are_utcs(self, wall: float) -> None:
        """As the calendar has them."""
        now = datetime.fromtimestamp(wall, UTC)
        day, month = day_of(wall), month_of(wall)
        self.assertEqual(datetime.fromtimestamp(day.began, UTC), now.replace(hour=0, minute=0, second=0, microsecond=0))
        self.assertEqual(day.ends - day.began, 86400)
        first = datetime.fromtimestamp(month.began, UTC)
        self.assertEqual((first.year, first.month, first.day, first.hour), (now.year, now.month, 1, 0))
        following = datetime.fromtimestamp(month.ends, UTC)
        self.assertEqual((following.day, following.hour), (1, 0))
        self.assertEqual((following.year * 12 + following.month) - (first.year * 12 + first.month), 1)

    def test_a_clock_that_is_set_back_does_not_hold_a_key_for_years(self) -> None:
        """A machine that started with a wrong date."""
        self.wall = NOW + 12 * 365 * 86400
        self.have(tokens_per_day=1)
        self.meters.charge(self.meters.meter("key"), "m", USAGE, 0.0)
        self.assertEqual(self.let_in(1), 0)
        self.wall = NOW
        self.assertEqual(self.let_in(1), 1)

    def test_what_was_used_before_the_start_counts(self) -> None:
        """In the day and in the month of now."""

        class Remembered:
            def spent(self, since: float) -> Mapping[str, Spent]:
                return {
                    NOW - 8 * 3600: {"key": Spent(3, 150, 40)},
                    NOW - 25 * 86400 - 8 * 3600: {"key": Spent(9, 900, 400), "other": Spent(1, 1, 1)},
                }[since]

        self.have(tokens_per_day=200, micros_per_month=401)
        self.meters.restore(Remembered())
        told = accounting.used(self.meters.meter("key"), 0.0, NOW)
        self.assertEqual({one["limit"]: (one["used"], one["left"]) for one in told["limits"]},
                         {"tokens_per_day": (150, 50), "micros_per_month": (400, 1)})  # fmt: skip
        self.assertEqual((told["usage"]["day"]["requests"], told["usage"]["month"]["tokens"]), (3, 900))
        self.meters.charge(self.meters.meter("key"), "m", USAGE, 0.0)
        self.is_over("KEY_TOKENS_PER_DAY_EXCEEDED", "tokens_per_day", "200", DAY_LEFT, "2026-11-27T00:00:00Z")


class OwnTests(MeterCase):
    def test_a_holder_is_told_what_is_left_and_when_the_rest_is_back(self) -> None:
        """Of each limit; nothing is used by asking."""
        self.have(
            concurrent=5, requests_per_minute=4, tokens_per_minute=1000, tokens_per_day=10_000, micros_per_day=500
        )
        self.let_in(2)
        self.meters.charge(self.meters.meter("key"), "priced", USAGE, 0.0)
        told = [accounting.own("key", None, self.meters.meter("key"), 0.0, NOW) for _ in range(3)][-1]
        rows = {one["limit"]: (one["value"], one["used"], one["left"], one["renews"]) for one in told["limits"]}
        self.assertEqual(
            rows,
            {
                "concurrent": (5, 2, 3, None),
                "requests_per_minute": (4, 2, 2, "2026-11-26T08:00:30Z"),
                "tokens_per_minute": (1000, 100, 900, "2026-11-26T08:00:06Z"),
                "tokens_per_day": (10_000, 100, 9_900, "2026-11-27T00:00:00Z"),
                "micros_per_day": (500, 200, 300, "2026-11-27T00:00:00Z"),
            },
        )
        self.assertEqual((told["under_way"], told["usage"]["day"]["micros"]), (2, 200))
