"""By when answers have to come: who is late is cancelled, at the time, by one timer for all."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.upstreams.deadlines import Deadlines


class DeadlineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock)

    def begun(self, seconds: float) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        self.deadlines.begin(waiting, seconds)
        return waiting

    def test_who_is_late_is_cancelled_when_it_is_due(self) -> None:
        """Whatever the order in which the deadlines became known; nobody is before its own."""
        waiting = {seconds: self.begun(seconds) for seconds in (30.0, 10.0, 20.0)}
        for seconds in (10.0, 20.0, 30.0):
            self.clock.advance(9.99)
            self.assertNoResult(waiting[seconds])
            self.clock.advance(0.01)
            self.failureResultOf(waiting[seconds], CancelledError)
            self.assertFalse(self.deadlines.end(waiting[seconds]), "it is told that it was late")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_timer_serves_all_and_stays_for_the_next(self) -> None:
        """What came in time is never cancelled, nor is the timer, which ends by itself when it finds nobody."""
        first, second = self.begun(10.0), self.begun(10.0)
        (timer,) = self.clock.getDelayedCalls()
        self.assertTrue(self.deadlines.end(first))
        self.assertTrue(self.deadlines.end(second))
        self.clock.advance(5)
        third = self.begun(10.0)
        self.assertEqual(self.clock.getDelayedCalls(), [timer])
        self.assertTrue(self.deadlines.end(third))
        self.clock.advance(5)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(20)
        for waiting in (first, second, third):
            self.assertNoResult(waiting)

    def test_when_nothing_more_begins_the_timer_is_there_for_who_waits_alone(self) -> None:
        """A request that is under way while the gateway stops has its deadline yet."""
        first = self.begun(10.0)
        self.deadlines.close()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.deadlines.end(first)
        self.deadlines.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_has_less_time_is_not_kept_by_a_timer_that_stayed(self) -> None:
        """It was set for one who had more, and who is through."""
        self.deadlines.end(self.begun(30.0))
        short = self.begun(10.0)
        self.clock.advance(9.99)
        self.assertNoResult(short)
        self.clock.advance(0.01)
        self.failureResultOf(short, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_timer_that_finds_nobody_late_stands_at_the_next_deadline(self) -> None:
        """The one for whom it was set has come in time."""
        first = self.begun(10.0)
        self.clock.advance(5)
        second = self.begun(10.0)
        self.deadlines.end(first)
        self.clock.advance(9.99)
        self.assertNoResult(second)
        self.clock.advance(0.01)
        self.failureResultOf(second, CancelledError)

    def test_the_end_of_one_may_end_another(self) -> None:
        """Who is late at the same moment but was let go by the first is not cancelled; one that begins then counts."""
        first, second = self.begun(10.0), self.begun(10.0)
        third: list[Deferred[Any]] = []

        def let_go(failure: object) -> None:
            self.deadlines.end(second)
            third.append(self.begun(1.0))

        first.addErrback(let_go)
        self.clock.advance(10)
        self.assertNoResult(second)
        self.clock.advance(1)
        self.failureResultOf(third[0], CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
