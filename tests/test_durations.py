"""The times that upstreams write."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, tzinfo
from email.utils import format_datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.upstreams.durations import (
    BACKEND,
    LONG,
    SHORT,
    Bounds,
    duration,
    pacific,
    retry_after,
    timestamp,
    until_midnight_pacific,
)

NOW = datetime(2026, 7, 1, 12, 0, 0, tzinfo=UTC).timestamp()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["seconds", "nanos", "x"]), inner),
    max_leaves=8,
)


def at(text: str) -> float:
    """Unix seconds of an ISO time."""
    return datetime.fromisoformat(text).timestamp()


class DurationTests(SynchronousTestCase):
    """`duration`."""

    def test_every_notation_is_read(self) -> None:
        """Go's, protobuf's and plain numbers give the same seconds."""
        for value, seconds in [
            ("34.07s", 34.07),
            ("34.074824224s", 34.074824224),
            ("900ms", 0.9),
            ("479.417207ms", 0.479417207),
            ("2h1m1s", 7261.0),
            ("2h52m39.5s", 10359.5),
            ("15us", 15e-6),
            ("15µs", 15e-6),
            ("7ns", 7e-9),
            ("1d", 86400.0),
            ("0s", 0.0),
            (".5s", 0.5),
            (" 37s ", 37.0),
            ("37", 37.0),
            ("37.5", 37.5),
            (37, 37.0),
            (1.5, 1.5),
            ({"seconds": 34, "nanos": 70000000}, 34.07),
            ({"seconds": "34"}, 34.0),
            ({"nanos": 500000000}, 0.5),
        ]:
            got = duration(value)
            assert got is not None, value
            self.assertAlmostEqual(got, seconds, places=9, msg=repr(value))

    def test_what_is_no_duration_is_none(self) -> None:
        """Garbage, negative times and what is not finite do not become numbers."""
        for value in [
            None, True, False, "", " ", "s", "soon", "-5s", -5, "1s2", "1 s", "1y", "1e9s", "1.2.3s", "٣s",
            "inf", "nan", math.inf, math.nan, 10**400, "9" * 400, "1s" * 40, [], [1], {}, {"seconds": None},
            {"seconds": "x"}, {"seconds": -1}, {"minutes": 3}, b"3s",
        ]:  # fmt: skip
            self.assertIsNone(duration(value), repr(value))

    @given(JSON)
    def test_no_json_value_raises(self, value: object) -> None:
        """Whatever JSON carries, the answer is None or a finite number that is not negative."""
        got = duration(value)
        assert got is None or (math.isfinite(got) and got >= 0)

    @given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
    def test_go_notation_reads_back(self, hours: int, minutes: int, seconds: int, millis: int) -> None:
        """Hours, minutes, seconds and milliseconds add up."""
        got = duration(f"{hours}h{minutes}m{seconds}s{millis}ms")
        assert got is not None
        self.assertAlmostEqual(got, hours * 3600 + minutes * 60 + seconds + millis / 1000)


class TimestampTests(SynchronousTestCase):
    """`timestamp`."""

    def test_rfc3339_is_read(self) -> None:
        """Z, offsets, lower case and nine digits of a fraction."""
        for text in [
            "2026-07-01T12:00:00Z",
            "2026-07-01t12:00:00z",
            "2026-07-01 12:00:00Z",
            "2026-07-01T05:00:00-07:00",
            "2026-07-01T12:00:00.000000000Z",
        ]:
            self.assertEqual(timestamp(text), NOW, text)

    def test_what_is_no_timestamp_is_none(self) -> None:
        """A time without an offset is not guessed at."""
        for value in [
            None, 5, "", "tomorrow", "2026-07-01", "2026-07-01T12:00:00", "2026-13-01T12:00:00Z",
            "2026-07-01T25:00:00Z", "2026-07-01T12:00:00+99:00", "9" * 999, "2026-W27-3T12:00:00Z",
        ]:  # fmt: skip
            self.assertIsNone(timestamp(value), repr(value))

    @given(st.text() | st.from_regex(r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)\Z"))
    def test_no_text_raises(self, text: str) -> None:
        """Every text is a finite moment or None."""
        got = timestamp(text)
        assert got is None or math.isfinite(got)


class RetryAfterTests(SynchronousTestCase):
    """`retry_after`."""

    def test_seconds_and_all_three_dates_are_read(self) -> None:
        """U11: RFC 9110's IMF-fixdate, RFC 850 and asctime forms count from the moment given."""
        for field, seconds in [
            (b"120", 120.0),
            (b" 120 ", 120.0),
            (b"0", 0.0),
            (b"1.5", 1.5),
            (b"1000000000", 1e9),
            (b"Wed, 01 Jul 2026 12:02:00 GMT", 120.0),
            (b"Wednesday, 01-Jul-26 12:02:00 GMT", 120.0),
            (b"Wed Jul  1 12:02:00 2026", 120.0),
        ]:
            self.assertEqual(retry_after(field, NOW), seconds, field)

    def test_a_past_date_asks_for_no_wait(self) -> None:
        """U11: a date behind us is zero seconds, never a negative wait."""
        self.assertEqual(retry_after(b"Sun, 06 Nov 1994 08:49:37 GMT", NOW), 0.0)

    def test_garbage_is_none(self) -> None:
        """U11: what is neither seconds nor a date says nothing."""
        for field in [b"", b" ", b"soon", b"-5", b"1e9", b"12, 13", b"\xff\x00", b"9" * 400, b"x" * 70000,
                      b"Wed, 99 Jul 2026 12:02:00 GMT", b"inf", b"nan", b"1_000"]:  # fmt: skip
            self.assertIsNone(retry_after(field, NOW), field)

    @given(st.binary() | st.text().map(str.encode), st.floats(0, 4e9))
    def test_no_field_raises(self, field: bytes, now: float) -> None:
        """U11: whatever the header holds, the answer is None or finite and not negative."""
        got = retry_after(field, now)
        assert got is None or (math.isfinite(got) and got >= 0)
        for bounds in (SHORT, LONG, BACKEND):
            assert got is None or bounds.least <= bounds.clamp(got) <= bounds.most

    @given(st.integers(0, 10**7))
    def test_a_date_reads_back(self, ahead: int) -> None:
        """U11: a date so many seconds ahead is a wait of so many seconds."""
        when = datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=ahead)
        self.assertEqual(retry_after(format_datetime(when, usegmt=True).encode(), NOW), float(ahead))


class BoundsTests(SynchronousTestCase):
    """`Bounds`."""

    @given(st.floats())
    def test_clamped_is_within(self, seconds: float) -> None:
        """Even infinity and what is not a number come out within the bounds."""
        for bounds in (SHORT, LONG, BACKEND, Bounds(0.0, 0.0)):
            self.assertTrue(bounds.least <= bounds.clamp(seconds) <= bounds.most)

    def test_within_stays(self) -> None:
        """What is within the bounds is not changed."""
        self.assertEqual(SHORT.clamp(34.07), 34.07)


class PacificMidnightTests(SynchronousTestCase):
    """U10: daily quotas reset at midnight US Pacific."""

    def test_summer_and_winter(self) -> None:
        """Midnight is 07:00 UTC in summer and 08:00 UTC in winter."""
        self.assertEqual(until_midnight_pacific(at("2026-07-01T12:00:00+00:00")), 19 * 3600.0)
        self.assertEqual(until_midnight_pacific(at("2026-01-15T12:00:00+00:00")), 20 * 3600.0)

    def test_spring_day_has_23_hours(self) -> None:
        """On 2026-03-08 the clocks go forward: from midnight to midnight is 23 hours."""
        self.assertEqual(until_midnight_pacific(at("2026-03-08T00:00:00-08:00")), 23 * 3600.0)
        self.assertEqual(until_midnight_pacific(at("2026-03-08T01:59:59-08:00")), 21 * 3600.0 + 1)
        self.assertEqual(until_midnight_pacific(at("2026-03-08T03:00:00-07:00")), 21 * 3600.0)

    def test_autumn_day_has_25_hours(self) -> None:
        """On 2026-11-01 the clocks go back: both of the two 01:30 count."""
        self.assertEqual(until_midnight_pacific(at("2026-11-01T00:00:00-07:00")), 25 * 3600.0)
        self.assertEqual(until_midnight_pacific(at("2026-11-01T01:30:00-07:00")), 23.5 * 3600)
        self.assertEqual(until_midnight_pacific(at("2026-11-01T01:30:00-08:00")), 22.5 * 3600)

    def test_at_midnight_a_whole_day_is_left(self) -> None:
        """Midnight itself begins a day; the second before has one second left."""
        self.assertEqual(until_midnight_pacific(at("2026-07-01T00:00:00-07:00")), 24 * 3600.0)
        self.assertEqual(until_midnight_pacific(at("2026-06-30T23:59:59-07:00")), 1.0)

    @given(st.floats(0, 4e9))
    def test_it_is_always_within_a_day(self, now: float) -> None:
        """At every moment the next midnight is ahead, by 25 hours at most, and the day changes there."""
        left = until_midnight_pacific(now)
        self.assertTrue(0 < left <= LONG.most, left)
        zone = ZoneInfo("America/Los_Angeles")
        there = datetime.fromtimestamp(round(now + left), zone)
        self.assertEqual((there.hour, there.minute, there.second), (0, 0, 0))

    def test_absurd_clocks_do_not_raise(self) -> None:
        """A clock beyond the calendar gives a day."""
        for now in (1e300, -1e300, math.inf, math.nan, 253402300799.0):
            self.assertTrue(0 < until_midnight_pacific(now) <= LONG.most)

    def test_without_a_time_zone_database_it_is_never_early(self) -> None:
        """Where neither the system nor the tzdata package has the zone, standard time is assumed."""

        def missing(name: str) -> tzinfo:
            raise ZoneInfoNotFoundError(name)

        zone = pacific(missing)
        self.assertEqual(until_midnight_pacific(at("2026-01-15T12:00:00+00:00"), zone), 20 * 3600.0)
        self.assertEqual(until_midnight_pacific(at("2026-07-01T12:00:00+00:00"), zone), 20 * 3600.0)
