"""Times as usage/moments.py reads them."""

from __future__ import annotations

from datetime import UTC, datetime

from twisted.trial.unittest import SynchronousTestCase

from gateway.usage.moments import moment
from tests.usage_rows import NOON


class MomentTests(SynchronousTestCase):
    def test_spans_are_before_now(self) -> None:
        """In minutes, hours, days and weeks, and never before time began."""
        for text, at in (("now", 0), ("30m", 1800), ("24h", 86_400), ("7d", 604_800), ("2w", 1_209_600), ("0m", 0)):
            self.assertEqual(moment(text, NOON), NOON - at, text)
        self.assertEqual(moment("999999999w", NOON), 0)

    def test_dates_are_of_utc_unless_they_say_otherwise(self) -> None:
        """As ISO 8601 writes them."""
        noon = datetime(2026, 11, 1, 12, tzinfo=UTC).timestamp()
        for text, at in (
            ("2026-11-01", noon - 43_200),
            ("2026-11-01T12:00", noon),
            ("2026-11-01 12:00:00", noon),
            ("2026-11-01T12:00:00Z", noon),
            ("2026-11-01T12:00:00+02:00", noon - 7200),
        ):
            self.assertEqual(moment(text, NOON), at, text)

    def test_what_is_no_time_is_told_with_the_cure(self) -> None:
        """Whatever was written."""
        impossible = ("2026-13-01", "1969-12-31", "0001-01-01", "9" * 5000)
        for text in ("", "yesterday", "7", "7 d", "-7d", "7y", "\ud800", *impossible):
            error = self.assertRaises(ValueError, moment, text, NOON)
            self.assertIn("7d or 2w", str(error))
