"""The cell rate algorithm, held against a bucket that is counted in fractions."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.keys.gcra import NANOSECONDS, Gcra

MINUTE = 60 * NANOSECONDS
STEPS = st.lists(
    st.tuples(st.integers(0, 40 * NANOSECONDS), st.integers(1, 50)), min_size=1, max_size=60
)
"""How long after the last one, and how many units."""


class Bucket:
    """What the algorithm has to equal: full at first, refilled evenly, and below zero where more was taken."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.level = Fraction(limit)
        self.at = 0

    def turn(self, now: int) -> None:
        self.level = min(Fraction(self.limit), self.level + Fraction((now - self.at) * self.limit, MINUTE))
        self.at = now


class GcraTests(SynchronousTestCase):
    @given(st.integers(1, 10**6), STEPS)
    def test_it_is_a_bucket(self, limit: int, steps: list[tuple[int, int]]) -> None:
        """Whatever comes when: admitted, used, left and the wait are the bucket's, to the nanosecond."""
        gcra, bucket, now = Gcra(limit, MINUTE), Bucket(limit), 0
        for gap, units in steps:
            now += gap
            bucket.turn(now)
            self.assertEqual(gcra.admits(now), bucket.level >= 1)
            self.assertEqual(gcra.left(now), max(0, bucket.level.__floor__()))
            self.assertEqual(gcra.used(now), (limit - bucket.level).__ceil__())
            missing = max(Fraction(0), 1 - bucket.level) * MINUTE / limit
            self.assertEqual(gcra.wait(now), missing.__ceil__())
            gcra.take(now, units)
            bucket.level -= units

    @given(st.integers(1, 1000), st.integers(0, 10**18))
    def test_of_any_number_at_once_as_many_pass_as_may(self, limit: int, now: int) -> None:
        """And the next one exactly when it was told."""
        gcra, passed = Gcra(limit, MINUTE), 0
        for _ in range(limit + 50):
            admitted = gcra.admits(now)
            self.assertEqual(gcra.passes(now), admitted)
            passed += admitted
        self.assertEqual((passed, gcra.used(now)), (limit, limit))
        wait = gcra.wait(now)
        self.assertEqual((gcra.admits(now + wait - 1), gcra.admits(now + wait)), (False, True))

    @given(st.integers(1, 1000), st.lists(st.integers(0, 10 * NANOSECONDS), min_size=1, max_size=200))
    def test_no_minute_has_more_than_twice_the_limit(self, limit: int, gaps: list[int]) -> None:
        """A minute's worth that was saved up, and what comes free meanwhile."""
        gcra, now, let_in = Gcra(limit, MINUTE), 0, []
        for gap in gaps:
            now += gap
            if gcra.admits(now):
                gcra.take(now)
                let_in.append(now)
            self.assertLessEqual(sum(now - MINUTE < moment for moment in let_in), 2 * limit)

    def test_what_is_too_much_is_paid_off_by_time(self) -> None:
        """Tokens are known at a request's end: 250 of 100 a minute are a debt of 150, and the next comes after it."""
        gcra = Gcra(100, MINUTE)
        gcra.take(0, 250)
        self.assertEqual((gcra.admits(0), gcra.left(0), gcra.used(0)), (False, 0, 250))
        self.assertEqual(gcra.wait(0), (150 + 1) * MINUTE // 100)

    def test_another_limit_counts_what_was_used(self) -> None:
        """More lets more in at once; less does not make a debt of what was allowed."""
        gcra = Gcra(10, MINUTE)
        gcra.take(0, 4)
        self.assertEqual(gcra.refitted(20, 0).left(0), 16)
        less = gcra.refitted(2, 0)
        self.assertEqual((less.left(0), less.wait(0)), (0, MINUTE // 2))
