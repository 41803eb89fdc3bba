"""A watch over the reactor: what is said of a turn that takes long, and of which ones nothing."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from gateway.process.lag import BEAT_SECONDS, BLOCKED_SECONDS, LOOK_SECONDS, STUCK_SECONDS, LagWatch


class WatchTests(SynchronousTestCase):
    """Turns are told to have begun when it suits."""

    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.watch = LagWatch(self.clock)
        self.watch.start()
        self.addCleanup(self.watch.stop)

    def _held(self, seconds: float, seen: bool) -> list[str]:
        """End a turn of so long; return where the log says that the reactor was."""
        now = time.monotonic()
        self.watch.since = now - seconds
        if seen:
            self.watch._look(now)
        with capturedLogs() as events:
            self.watch.held(now)
        return [event["where"] for event in events]

    def test_who_was_seen_in_a_long_turn_is_named(self) -> None:
        """The thread looked while it lasted, and the log has the lines of code (P14)."""
        (where,) = self._held(1.0, True)
        self.assertIn("test_lag.py", where)
        self.assertEqual(self.watch.blocked, 1)
        self.assertGreaterEqual(self.watch.most_seconds, 1)

    def test_a_long_turn_counts_though_nobody_looked(self) -> None:
        """What lets no thread run is not seen, and told all the same; one seen in an earlier turn is not named."""
        self._held(1.0, True)
        (where,) = self._held(2.0, False)
        self.assertIn("before anybody looked", where)
        self.assertEqual(self.watch.blocked, 2)

    def test_a_turn_that_is_reported_is_sure_to_have_been_looked_at(self) -> None:
        """From some length on: who is seen in a turn for a while is looked at, however long it will take."""
        now = time.monotonic()
        self.watch.since = now - STUCK_SECONDS - 0.001
        self.watch._look(now)
        with capturedLogs() as events:
            self.watch.held(now + LOOK_SECONDS)
        self.assertGreaterEqual(STUCK_SECONDS + LOOK_SECONDS, BLOCKED_SECONDS)
        self.assertIn("test_lag.py", events[0]["where"])

    def test_a_stopped_process_is_not_blocked(self) -> None:
        """Nobody looked and nobody worked: not even a thread had its turn (P15)."""
        now = time.monotonic() + 60
        self.watch.since = now - 30
        self.watch.held(now)
        self.assertEqual(self.watch.blocked, 0)

    def test_a_beat_tells_how_late_it_is(self) -> None:
        """A reactor in time is not late, and with marks in its turns the beat alone says nothing of blocking."""
        self.watch.since = time.monotonic()
        self.watch._beaten -= BEAT_SECONDS + 1
        with capturedLogs() as events:
            self.clock.advance(BEAT_SECONDS)
        self.assertGreaterEqual(self.watch.last_seconds, 1)
        self.assertEqual((self.watch.blocked, events), (0, []))
        self.clock.advance(BEAT_SECONDS)
        self.assertEqual(self.watch.last_seconds, 0)

    def test_where_turns_have_no_marks_a_late_beat_is_a_blocked_reactor(self) -> None:
        """Nobody knows in what, and it is told and counted."""
        self.watch._beaten -= BEAT_SECONDS + 1
        with capturedLogs() as events:
            self.clock.advance(BEAT_SECONDS)
        self.assertEqual((self.watch.blocked, len(events)), (1, 1))
