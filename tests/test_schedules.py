"""Random schedules on a virtual clock: what holds whatever comes, answers, leaves and passes, in any order."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import GatewayError, Journal
from gateway.routing.rotation import STRATEGIES
from tests.fakes import FakeWire, call, member, ok, refused, router, run
from tests.schedules import ANSWERS, Plan, Schedule

LONG = settings().max_examples >= 2000
"""Whether the long profile is on; see tests/__init__.py."""
MANY = 100_000 if LONG else 300
STEPS = 14

PROJECTS = ("", "", "p")
CAPS = (0, 0, 1, 2)
PRIORITIES = (0, 0, 1)
UPSTREAMS = ("studio", "studio", "pool")
QUEUES = (0.0, 5.0, 40.0)
STORMS = (False,) * 7 + (True,)


class Schedules(RuleBasedStateMachine):
    """Hypothesis decides what comes next, and finds the shortest schedule that breaks a rule."""

    schedule: Schedule | None = None

    @initialize(
        strategy=st.sampled_from(sorted(STRATEGIES)),
        credentials=st.lists(
            st.tuples(*map(st.sampled_from, (PROJECTS, CAPS, PRIORITIES, (False, True), UPSTREAMS))),
            min_size=1,
            max_size=5,
        ),
        renews=st.booleans(),
        queue=st.sampled_from(QUEUES),
        storm=st.sampled_from(STORMS),
        seed=st.integers(0, 1000),
    )
    def begin(
        self,
        strategy: str,
        credentials: list[tuple[str, int, int, bool, str]],
        renews: bool,
        queue: float,
        storm: bool,
        seed: int,
    ) -> None:
        rows = tuple((*row[:3], row[3] and renews, row[4]) for row in credentials)
        self.schedule = Schedule(Plan(strategy, rows, queue, storm), random.Random(seed).random)

    @rule(data=st.data())
    def something_happens(self, data: st.DataObject) -> None:
        assert self.schedule is not None
        pick = lambda options: data.draw(st.sampled_from(options))  # noqa: E731
        pick(list(self.schedule.possible()))(pick)

    @invariant()
    def all_holds(self) -> None:
        if self.schedule is not None:
            self.schedule.check()

    def teardown(self) -> None:
        if self.schedule is not None:
            self.schedule.finish()


class ScheduleTests(SynchronousTestCase):
    """The router under all of them."""

    def test_rules_hold_under_any_schedule(self) -> None:
        """U4, U6, U9, U10, K4, K6, K10, L1: tests/schedules.py says what holds, in sentences."""
        run_state_machine_as_test(Schedules, settings=settings(max_examples=max(150, settings().max_examples)))

    def test_rules_hold_under_very_many_schedules(self) -> None:
        """The same of 10^5 schedules in the long profile; how many there were of each event is printed there."""
        seen: Counter[str] = Counter()
        held = 0
        for seed in range(MANY):
            chance = random.Random(seed)
            schedule = Schedule(self.plan(chance), chance.random)
            try:
                for _ in range(STEPS):
                    chance.choice(list(schedule.possible()))(chance.choice)
                    schedule.check()
                schedule.finish()
            except AssertionError as problem:
                raise AssertionError(f"schedule {seed}: {problem}") from problem
            held += 1
            seen += schedule.seen
        self.assertEqual(held, MANY)
        happened = {"storms", "restarts", "probes", "refreshes", "told to come back", "token: good"}
        rare = {"halts", "probes of a day"} if LONG else set()
        self.assertLessEqual({*ANSWERS, *happened, *rare}, set(seen))
        if LONG:
            print(f"\n{held} schedules, in all of which everything held: {dict(sorted(seen.items()))}")

    @staticmethod
    def plan(chance: random.Random) -> Plan:
        """Return who there is, and under which rules."""
        renews = chance.random() < 0.5
        credentials = tuple(
            (
                *map(chance.choice, (PROJECTS, CAPS, PRIORITIES)),
                renews and chance.random() < 0.7,
                chance.choice(UPSTREAMS),
            )
            for _ in range(chance.choice((1, 2, 3, 4)))
        )
        return Plan(chance.choice(sorted(STRATEGIES)), credentials, chance.choice(QUEUES), chance.choice(STORMS))


class AmplificationTests(SynchronousTestCase):
    """What a backend in trouble is spared."""

    REQUESTS = 10_000

    def amplification(self, *names: str, share: float) -> float:
        """Return upstream calls per request while a share of all calls fails with 503."""
        chance = random.Random(7)
        clock = Clock()
        wire = FakeWire(by=lambda request: refused(503, "UNAVAILABLE") if chance.random() < share else ok())
        asked = router(wire, clock, *map(member, names))
        asked.chance = chance.random
        for _ in range(self.REQUESTS):
            ended = run(asked.run(call(), Journal("r")))
            ended.addErrback(lambda failure: failure.trap(GatewayError))
            self.successResultOf(ended)
            clock.advance(chance.random() * 0.2)
        return len(wire.requests) / self.REQUESTS

    def test_steady_503_is_hardly_retried(self) -> None:
        """K9: at most 1.10 calls a request while everything answers 503."""
        self.assertLessEqual(self.amplification("a", "b", "c", share=1.0), 1.10)

    def test_backend_that_fails_half_the_time_is_not_stormed(self) -> None:
        """K9: the budget lives on what succeeds, a tenth of an attempt for each."""
        self.assertLessEqual(self.amplification("a", "b", "c", share=0.5), 1.10)
