"""Requests that wait for a credential."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.routing.queue import ESTIMATE_MOST_SECONDS, Waiting, worth_waiting
from gateway.routing.rotation import Nobody

BUSY = Nobody(None, True)


class QueueCase(SynchronousTestCase):
    """A queue over named places."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.waiting: Waiting[str] = Waiting(self.clock, 3)
        self.free: list[str] = []
        self.got: list[tuple[str, str | None]] = []

    def come(self, who: str, *places: str, seconds: float = 10.0, key: object = None) -> Deferred[Any]:
        def claim() -> str | Nobody:
            for place in places:
                if place in self.free:
                    self.free.remove(place)
                    return place
            return BUSY

        given = self.waiting.wait(key or places, claim, seconds, None)
        given.addCallback(lambda place: self.got.append((who, place)))
        return given

    def freed(self, *places: str) -> None:
        self.free += places
        self.waiting.offer()


class OrderTests(QueueCase):
    """Who is served first."""

    def test_first_come_is_first_served(self) -> None:
        """One place at a time, in the order of arrival."""
        for who in "abc":
            self.come(who, "x")
        for _ in range(3):
            self.freed("x")
        self.assertEqual(self.got, [("a", "x"), ("b", "x"), ("c", "x")])
        self.assertEqual((len(self.waiting), self.clock.getDelayedCalls()), (0, []))

    def test_freed_credential_goes_to_the_first_that_may_use_it(self) -> None:
        """Who waits for something else neither gets it nor blocks who comes after."""
        self.come("a", "x")
        self.come("b", "y", "x")
        self.come("c", "y")
        self.freed("y")
        self.assertEqual(self.got, [("b", "y")])
        self.freed("y", "x")
        self.assertEqual(self.got, [("b", "y"), ("a", "x"), ("c", "y")])

    def test_client_that_leaves_gives_up_its_place(self) -> None:
        """L1: the next one moves up, and nothing is left of it."""
        gone = self.come("a", "x")
        self.come("b", "x")
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.freed("x")
        self.assertEqual(self.got, [("b", "x")])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_waits_are_counted_by_what_came_of_them(self) -> None:
        """How long each waited: who was served, who waited in vain, whose client left."""
        self.come("a", "x")
        gone = self.come("b", "x")
        self.come("c", "y", seconds=3.0)
        self.clock.advance(2.0)
        self.freed("x")
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        self.clock.advance(1.0)
        found = {outcome: (sum(one.counts), one.total) for outcome, one in self.waiting.waits.items()}
        self.assertEqual(found, {"served": (1, 2.0), "left": (1, 2.0), "in_vain": (1, 3.0)})

    def test_waiter_that_ends_at_once_passes_its_place_on(self) -> None:
        """What frees something while the queue is served serves the next; each is asked in turn."""
        first = self.come("a", "x")
        first.addCallback(lambda _: self.freed("x"))
        self.come("b", "x")
        self.freed("x")
        self.assertEqual(self.got, [("a", "x"), ("b", "x")])

    def test_waiter_that_leaves_while_another_is_served_gets_nothing(self) -> None:
        """Its credential stays free for others."""
        leaving: list[Deferred[Any]] = []
        self.come("a", "x").addCallback(lambda _: leaving[0].cancel())
        leaving.append(self.come("b", "y"))
        self.come("c", "y")
        self.freed("x", "y")
        self.failureResultOf(leaving[0], CancelledError)
        self.assertEqual(self.got, [("a", "x"), ("c", "y")])

    @given(st.lists(st.tuples(st.sampled_from(["come", "free", "leave"]), st.integers(0, 2)), max_size=60))
    @settings(deadline=None)
    def test_nobody_is_overtaken(self, steps: list[tuple[str, int]]) -> None:
        """Whatever comes, leaves and is freed: of those who wait for the same the first always goes first."""
        self.setUp()
        self.waiting = Waiting(self.clock, 1000)
        expected: dict[str, list[str]] = {place: [] for place in "xyz"}
        left: dict[str, Deferred[Any]] = {}
        served: list[tuple[str, str]] = []
        for number, (what, index) in enumerate(steps):
            place = "xyz"[index]
            queue = expected[place]
            if what == "come":
                queue.append(str(number))
                left[str(number)] = self.come(str(number), place)
            elif what == "free" and queue:
                served.append((queue.pop(0), place))
                self.freed(place)
            elif what == "leave" and queue:
                gone = left[queue.pop(len(queue) // 2)]
                gone.addErrback(lambda _: None)
                gone.cancel()
        self.assertEqual(self.got, served)
        self.assertEqual(len(self.waiting), sum(map(len, expected.values())))


class LimitTests(QueueCase):
    """How many wait, and for how long."""

    def test_wait_has_an_end(self) -> None:
        """Each waiter's own; the place is gone with it."""
        self.come("a", "x", seconds=1.0)
        self.come("b", "x", seconds=5.0)
        self.clock.advance(0.999)
        self.assertEqual(self.got, [])
        self.clock.advance(0.001)
        self.assertEqual(self.got, [("a", None)])
        self.freed("x")
        self.assertEqual(self.got, [("a", None), ("b", "x")])

    def test_queue_is_bounded(self) -> None:
        """K4: it says when it is full; whoever leaves makes room."""
        waiters = [self.come(who, "x") for who in "abc"]
        self.assertTrue(self.waiting.full)
        waiters[1].addErrback(lambda _: None)
        waiters[1].cancel()
        self.assertFalse(self.waiting.full)

    def test_cool_down_that_ends_is_noticed(self) -> None:
        """K4: by the clock alone, to the moment, and again for the next one."""
        ends = [2.0, 5.0]

        def claim() -> str | Nobody:
            if ends and self.clock.seconds() >= ends[0]:
                return f"until {ends.pop(0)}"
            return Nobody(ends[0])

        found = [self.waiting.wait("m", claim, 10.0, ends[0]) for _ in range(2)]
        self.clock.advance(1.999)
        self.assertNoResult(found[0])
        self.clock.advance(0.001)
        self.assertEqual(self.successResultOf(found[0]), "until 2.0")
        self.assertNoResult(found[1])
        self.clock.pump([1.0, 1.0, 1.0])
        self.assertEqual(self.successResultOf(found[1]), "until 5.0")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_wait_without_hope_ends_early(self) -> None:
        """Where all are out by now nobody is kept waiting for the answer that says so."""
        for nobody in (Nobody(None), Nobody(50.0)):
            state: list[Nobody] = [BUSY]
            given = self.waiting.wait("m", lambda state=state: state[0], 10.0, None)  # type: ignore[misc]
            self.waiting.offer()
            self.assertNoResult(given)
            state[0] = nobody
            self.waiting.offer()
            self.assertIsNone(self.successResultOf(given))

    def test_waiting_is_worth_while_where_somebody_may_become_free(self) -> None:
        """Busy ones at any moment, cooling ones when their time is over."""
        table = [
            (BUSY, True), (Nobody(None), False), (Nobody(9.9), True), (Nobody(10.0), False), (Nobody(11.0, True), True),
        ]  # fmt: skip
        for nobody, worth in table:
            self.assertIs(worth_waiting(nobody, 10.0), worth, nobody)

    def test_timer_that_fires_a_moment_early_asks_again(self) -> None:
        """Seconds do not add up exactly, and the queue does not spin on that."""
        asked: list[float] = []

        def claim() -> str | Nobody:
            asked.append(self.clock.seconds())
            return Nobody(self.clock.seconds() + 1e-12)

        self.waiting.wait("m", claim, 10.0, 1.0)
        self.clock.advance(1.0)
        self.clock.pump([0.001] * 5)
        self.assertLessEqual(len(asked), 7)


class EstimateTests(QueueCase):
    """When it would be a newcomer's turn."""

    def test_estimate_follows_how_long_requests_took(self) -> None:
        """K4: more for more waiters, less for more places, and never beyond a minute."""
        for _ in range(60):
            self.waiting.held(8.0)
        self.assertAlmostEqual(self.waiting.estimate(1), 8.0, places=3)
        self.assertAlmostEqual(self.waiting.estimate(4), 2.0, places=3)
        self.come("a", "x")
        self.assertAlmostEqual(self.waiting.estimate(4), 4.0, places=3)
        for _ in range(60):
            self.waiting.held(1e6)
        self.assertEqual(self.waiting.estimate(1), ESTIMATE_MOST_SECONDS)
