"""What every credential is good for right now."""

from __future__ import annotations

import json
import math

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.bases import EJECT_AFTER, EJECT_LIMIT_SECONDS, EJECT_SECONDS
from gateway.accounts.pace import MODELS_MOST, Pace
from gateway.accounts.rests import ANY, PROBE_EVERY_SECONDS, State
from gateway.accounts.standing import (
    COOL_LIMIT_SECONDS,
    FORGET_SECONDS,
    LONG_SECONDS,
    PROBE_JITTER,
    Condemned,
    Standings,
)
from gateway.calls import Credential


def credential(name: str, project: str = "", upstream: str = "up") -> Credential:
    return Credential(name, upstream, "aistudio", f"{upstream}/{name}", project)


ONE, TWO = credential("one"), credential("two")
BASE = "https://a.test"


class StandingCase(SynchronousTestCase):
    """Fresh standings."""

    def setUp(self) -> None:
        self.standings = Standings()

    def state(self, who: Credential, model: str, now: float) -> State:
        return self.standings.availability(who, model, now).state

    def usable(self, who: Credential, model: str, now: float) -> bool:
        return self.standings.availability(who, model, now).usable


class CoolingTests(StandingCase):
    """Rests of (quota owner, model)."""

    def test_rest_is_the_pairs_alone(self) -> None:
        """U9: one model's quota locks neither the credential's other models nor other credentials."""
        self.standings.cool(ONE, "m", 10.0, 0.0, "R")
        table = [
            (ONE, "m", 0.0, False),
            (ONE, "m", 9.999, False),
            (ONE, "m", 10.0, True),
            (ONE, "n", 0.0, True),
            (TWO, "m", 0.0, True),
            (credential("one", upstream="other"), "m", 0.0, True),
        ]
        for who, model, now, usable in table:
            self.assertIs(self.usable(who, model, now), usable, f"{who.label} {model} at {now}")
        found = self.standings.availability(ONE, "m", 1.0)
        self.assertEqual((found.state, found.free_at, found.reason), (State.COOLING, 10.0, "R"))

    def test_credentials_of_one_project_rest_together(self) -> None:
        """Google's quotas belong to projects, so a second key of the same project is no help."""
        self.standings.cool(credential("a", "p"), "m", 10.0, 0.0)
        table = [("b", "p", "up", False), ("c", "p", "other", False), ("d", "q", "up", True), ("a", "", "up", True)]
        for name, project, upstream, usable in table:
            self.assertIs(self.usable(credential(name, project, upstream), "m", 0.0), usable, name)

    def test_longer_rest_already_ordered_stands(self) -> None:
        """A late answer that asks for less does not shorten it."""
        for ordered, now, until in ((10.0, 0.0, 10.0), (5.0, 1.0, 10.0), (20.0, 1.0, 20.0)):
            self.standings.cool(ONE, "m", ordered, now)
            self.assertEqual(self.standings.availability(ONE, "m", now).free_at, until, ordered)

    def test_rest_has_a_limit(self) -> None:
        """No upstream puts a credential away for ever."""
        self.standings.cool(ONE, "m", 1e12, 100.0)
        self.assertTrue(self.usable(ONE, "m", 100.0 + COOL_LIMIT_SECONDS))

    def test_success_that_began_before_a_rest_does_not_end_it(self) -> None:
        """U9: no attempt before the rest is over, though a call from before it may still end well."""
        before = self.standings.lease(ONE, "m", 0.0)
        self.standings.cool(ONE, "m", 10.0, 0.0)
        self.standings.succeeded(before)
        self.assertFalse(self.usable(ONE, "m", 9.999))
        self.assertEqual(self.standings.strikes(ONE, "m"), 1)

    def test_one_probe_at_a_time_goes_out_after_a_rest(self) -> None:
        """K10: who comes while it is out is told to wait; its success frees all."""
        self.standings.cool(ONE, "m", 10.0, 0.0)
        self.assertEqual((self.state(ONE, "m", 10.0), self.usable(ONE, "m", 10.0)), (State.HALF_OPEN, True))
        probe = self.standings.lease(ONE, "m", 10.0)
        found = self.standings.availability(ONE, "m", 11.0)
        self.assertEqual((found.state, found.usable), (State.HALF_OPEN, False))
        self.assertGreater(found.free_at or 0.0, 11.0)
        self.standings.succeeded(probe)
        self.assertEqual(self.state(ONE, "m", 11.0), State.OK)
        self.standings.release(probe)
        self.assertEqual(self.standings.in_flight(), {("up", "one"): 0})

    def test_probe_that_decides_nothing_lets_another_go(self) -> None:
        """L1: a client that left blames nobody and blocks nobody."""
        self.standings.cool(ONE, "m", 10.0, 0.0)
        self.standings.release(self.standings.lease(ONE, "m", 10.0))
        self.assertTrue(self.usable(ONE, "m", 10.0))

    def test_long_rest_is_probed_now_and_then(self) -> None:
        """U10: a day's quota may have been raised; probes are a quarter of an hour apart."""
        self.standings.cool(ONE, "m", 10 * LONG_SECONDS, 0.0)
        self.assertFalse(self.usable(ONE, "m", PROBE_EVERY_SECONDS - 0.001))
        probe = self.standings.lease(ONE, "m", PROBE_EVERY_SECONDS)
        self.assertTrue(probe.probe)
        self.standings.cool(ONE, "m", 10 * LONG_SECONDS, PROBE_EVERY_SECONDS)
        self.standings.release(probe)
        self.assertFalse(self.usable(ONE, "m", 2 * PROBE_EVERY_SECONDS - 0.001))
        self.assertTrue(self.usable(ONE, "m", 2 * PROBE_EVERY_SECONDS))
        self.standings.cool(TWO, "m", LONG_SECONDS, 0.0)
        self.assertFalse(self.usable(TWO, "m", LONG_SECONDS - 0.001))

    def test_probes_of_long_rests_are_spread(self) -> None:
        """K10: those that were sent to rest in one moment are not probed in one; each gap is a quarter of an hour."""
        chances = iter([0.0, 0.5, 0.999, 0.25, 0.75])
        standings = Standings(chance=lambda: next(chances))
        firsts = []
        for name in ("a", "b", "c"):
            one = attrs.evolve(ONE, name=name)
            standings.cool(one, "m", 10 * LONG_SECONDS, 0.0)
            firsts.append(standings.availability(one, "m", 0.0).free_at)
        self.assertEqual(firsts[0], PROBE_EVERY_SECONDS)
        self.assertEqual(firsts[1], PROBE_EVERY_SECONDS * (1 + PROBE_JITTER / 2))
        self.assertLess(firsts[2] or 0.0, PROBE_EVERY_SECONDS * (1 + PROBE_JITTER))
        one = attrs.evolve(ONE, name="a")
        standings.release(standings.lease(one, "m", 1000.0))
        after = standings.availability(one, "m", 1000.0)
        self.assertEqual((after.state, after.free_at), (State.COOLING, 1000.0 + 900.0 * (1 + PROBE_JITTER / 4)))
        restored = Standings(chance=lambda: next(chances))
        kept = {**Standings().dump(0.0, 0.0), "rests": standings.dump(1000.0, 0.0)["rests"][:1]}
        restored.restore(kept, 0.0, 0.0)
        self.assertEqual(restored.availability(one, "m", 0.0).free_at, 900.0 * (1 + PROBE_JITTER * 0.75))

    def test_probe_is_expected_back_as_other_answers_of_the_model_were(self) -> None:
        """K4: a slow model's takes longer; one that is late is expected to be late by as much again."""
        self.standings.cool(ONE, "slow", 10.0, 0.0)
        self.standings.cool(ONE, "new", 10.0, 0.0)
        self.standings.pace.took("slow", 30.0)
        for model in ("slow", "new"):
            self.standings.lease(ONE, model, 10.0)
        told = [self.standings.availability(ONE, "slow", now) for now in (10.0, 15.0, 39.5, 45.0, 500.0)]
        self.assertEqual([one.free_at for one in told], [40.0, 40.0, 40.5, 50.0, 560.0])
        self.assertTrue(all(one.probed and not one.usable for one in told))
        self.assertEqual(self.standings.availability(ONE, "new", 10.0).free_at, 11.0)

    def test_probe_of_a_long_rest_leaves_the_next_one_to_wait_for(self) -> None:
        """K4: it will most likely fail, and nobody is told to come back in a moment for that."""
        self.standings.cool(ONE, "m", 10 * LONG_SECONDS, 0.0)
        self.standings.lease(ONE, "m", 1000.0)
        found = self.standings.availability(ONE, "m", 1001.0)
        self.assertEqual((found.free_at, found.probed), (1000.0 + PROBE_EVERY_SECONDS, True))

    def test_pace_is_a_mean_of_bounded_memory(self) -> None:
        """The last answer counts for a fifth, and names that a client invents push out the oldest alone."""
        pace = Pace()
        pace.took("m", 10.0)
        pace.took("m", 20.0)
        self.assertEqual(pace.left("m", 0.0), 12.0)
        for number in range(MODELS_MOST):
            pace.took(f"m{number}", 5.0)
        self.assertEqual((pace.left("m", 0.0), pace.left("m0", 0.0)), (1.0, 5.0))

    def test_strikes_count_until_a_good_probe(self) -> None:
        """U11: a guessed rest doubles at each repetition and starts anew after a good answer."""
        self.assertEqual(self.standings.strikes(ONE, "m"), 0)
        for count in (1, 2, 3):
            self.standings.cool(ONE, "m", 1.0, 0.0)
            self.assertEqual(self.standings.strikes(ONE, "m"), count)
        self.assertEqual((self.standings.strikes(ONE, "n"), self.standings.strikes(TWO, "m")), (0, 0))
        self.standings.succeeded(self.standings.lease(ONE, "m", 1.0))
        self.assertEqual(self.standings.strikes(ONE, "m"), 0)

    def test_strikes_stay_a_number_that_two_can_be_raised_to(self) -> None:
        """U11: a pair that was refused all day long must not overflow the next guess."""
        for _ in range(5000):
            self.standings.cool(ONE, "m", 1.0, 0.0)
        self.assertLess(1.0 * 2 ** self.standings.strikes(ONE, "m"), 1e12)

    def test_tidying_up_keeps_the_strikes_of_a_rest_just_over(self) -> None:
        """U11: a rest that happens to end before the tidying has not lost its count when the next 429 comes."""
        self.standings.cool(ONE, "m", 10.0, 0.0)
        self.standings.prune(10.0 + FORGET_SECONDS - 1)
        self.assertEqual(self.standings.strikes(ONE, "m"), 1)
        self.standings.prune(10.0 + FORGET_SECONDS)
        self.assertEqual((self.standings.strikes(ONE, "m"), self.state(ONE, "m", 200.0)), (0, State.OK))

    def test_tidying_up_leaves_nothing_of_what_is_over(self) -> None:
        """A client's invented model names do not gather; what still rests stays."""
        for number in range(100):
            self.standings.cool(ONE, f"invented-{number}", 5.0, 0.0)
        self.standings.cool(ONE, "m", 1000.0, 0.0)
        self.standings.prune(5.0 + FORGET_SECONDS)
        self.assertEqual(list(self.standings.rests(ONE, 200.0)), ["m"])

    @given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1e4))))
    @settings(deadline=None)
    def test_rest_never_gets_shorter(self, orders: list[tuple[float, float]]) -> None:
        """Whatever is ordered, the pair is not free before the latest end that was within the limit."""
        standings = Standings()
        now, latest = 0.0, 0.0
        for seconds, passing in orders:
            now += passing
            standings.cool(ONE, "m", now + seconds, now)
            latest = max(latest, now + min(seconds, COOL_LIMIT_SECONDS))
            free_at = standings.availability(ONE, "m", now).free_at
            if free_at is not None:
                earliest = min(latest, now + PROBE_EVERY_SECONDS)
                self.assertGreaterEqual(free_at, earliest - 1e-6)


class QuarantineTests(StandingCase):
    """Out until somebody acts."""

    def condemn(self, who: Credential, now: float = 0.0, needs_owner: bool = False) -> Condemned:
        return self.standings.quarantine(who, "R", "https://example.test/fix", now, 1e9 + now, needs_owner)

    def test_quarantine_is_the_credentials_and_told_once(self) -> None:
        """U5: all its models are out, another credential is not."""
        self.assertIsNone(self.standings.quarantined(ONE))
        self.assertEqual(self.condemn(ONE), Condemned(True, False))
        self.assertEqual(self.standings.quarantine(ONE, "OTHER", "", 0.0, 0.0), Condemned(False, False))
        found = self.standings.quarantined(ONE)
        assert found is not None
        self.assertEqual((found.reason, found.link), ("R", "https://example.test/fix"))
        self.assertEqual([self.state(ONE, model, 0.0) for model in "mn"], [State.QUARANTINED] * 2)
        self.assertTrue(self.usable(TWO, "m", 0.0))
        self.assertTrue(self.usable(credential("one", upstream="other"), "m", 0.0))

    def test_quarantine_outlives_tidying_and_success(self) -> None:
        """U6: only somebody who acts lifts it."""
        lease = self.standings.lease(ONE, "m", 0.0)
        self.condemn(ONE)
        self.standings.succeeded(lease)
        self.standings.prune(1e9)
        self.assertFalse(self.usable(ONE, "m", 1e9))
        self.standings.clear(ONE)
        self.assertTrue(self.usable(ONE, "m", 1e9))

    def test_two_that_need_their_owner_within_ten_minutes_halt_the_upstream(self) -> None:
        """U6: and no other upstream; apart, or for another reason, they do not."""
        names = [credential(name) for name in "abcd"]
        self.assertFalse(self.condemn(names[0], 0.0, True).halts)
        self.assertFalse(self.condemn(names[1], 600.0, True).halts)
        self.assertFalse(self.condemn(names[2], 601.0).halts)
        self.assertTrue(self.condemn(names[3], 1199.0, True).halts)
        self.assertEqual(self.state(ONE, "m", 1199.0), State.HALTED)
        self.assertTrue(self.usable(credential("one", upstream="other"), "m", 1199.0))
        self.assertTrue(self.standings.resume("up"))
        self.assertTrue(self.usable(ONE, "m", 1199.0))


class LoadTests(StandingCase):
    """How busy a credential is."""

    def test_load_is_requests_in_flight_and_then_last_use(self) -> None:
        """What is released, once or more often, counts as used and not as busy."""
        self.assertEqual(self.standings.load(ONE), (0, 0))
        leases = [self.standings.lease(who, "m", 0.0) for who in (ONE, TWO, ONE)]
        self.assertEqual((self.standings.load(ONE), self.standings.load(TWO)), ((2, 3), (1, 2)))
        self.assertEqual(self.standings.in_flight(), {("up", "one"): 2, ("up", "two"): 1})
        for lease in leases * 2:
            self.standings.release(lease)
        self.assertEqual((self.standings.load(ONE), self.standings.load(TWO)), ((0, 3), (0, 2)))


class BaseTests(StandingCase):
    """The backend's own health."""

    def test_base_rests_for_a_model_alone(self) -> None:
        """U13: other models and other bases go on; a longer rest stands, and tidying ends it."""
        self.standings.bases.cool(BASE, "m", 10.0)
        self.standings.bases.cool(BASE, "m", 5.0)
        for base, model, until in ((BASE, "m", 10.0), (BASE, "n", 1.0), ("https://b.test", "m", 1.0)):
            self.assertEqual(self.standings.bases.until(base, model, 1.0), until, f"{base} {model}")
        self.standings.prune(10.0)
        self.assertEqual(self.standings.bases.until(BASE, "m", 0.0), 0.0)

    def test_five_failures_in_a_row_eject_a_base_for_longer_each_time(self) -> None:
        """U13: 30 s, 60 s, and so on to five minutes; an answer in between starts anew."""
        for _ in range(EJECT_AFTER - 1):
            self.assertEqual(self.standings.bases.failed(BASE, 0.0), 0.0)
        self.standings.bases.answered(BASE)
        for times in range(1, 13):
            ejected = [self.standings.bases.failed(BASE, 0.0) for _ in range(EJECT_AFTER)]
            seconds = min(EJECT_SECONDS * times, EJECT_LIMIT_SECONDS)
            self.assertEqual(ejected, [0.0] * (EJECT_AFTER - 1) + [seconds], f"time {times}")
            self.assertEqual(self.standings.bases.until(BASE, "m", 0.0), seconds, f"time {times}")


class KeptTests(StandingCase):
    """What outlasts a restart."""

    def test_rests_and_quarantines_survive_in_wall_time(self) -> None:
        """K6: monotonic clocks begin anew, so deadlines are carried over by the wall's."""
        self.standings.cool(ONE, "m", 100.0, 50.0, "R")
        self.standings.cool(TWO, "m", 10.0, 0.0)
        self.standings.quarantine(TWO, "DEAD", "", 50.0, 1000.0)
        self.standings.unusable(credential("three"), "PROJECT_MISSING")
        kept = json.loads(json.dumps(self.standings.dump(50.0, 1000.0)))
        again = Standings()
        again.restore(kept, 7.0, 1020.0)
        found = again.availability(ONE, "m", 7.0)
        self.assertEqual((found.state, found.free_at, found.reason), (State.COOLING, 37.0, "R"))
        self.assertEqual(again.strikes(ONE, "m"), 1)
        self.assertEqual(again.availability(TWO, "m", 7.0).state, State.QUARANTINED)
        self.assertEqual(again.availability(credential("three"), "m", 7.0).state, State.OK)

    def test_clock_that_jumped_locks_nobody_out(self) -> None:
        """K6: whatever the file says, no rest exceeds the limit, and what is past is past."""
        row = {"owner": ONE.owner, "model": "m", "strikes": 1, "reason": "R"}
        empty: dict[str, object] = {"quarantined": [], "disabled": [], "halted": []}
        table = [(1e300, COOL_LIMIT_SECONDS), (math.inf, COOL_LIMIT_SECONDS), (-1e300, 0.0), (math.nan, 0.0)]
        for until, seconds in table:
            standings = Standings()
            standings.restore({"rests": [{**row, "until": until}], **empty}, 0.0, 1000.0)
            self.assertTrue(standings.availability(ONE, "m", seconds).usable, until)


SHARED_ONE = Credential("one", "studio", "aistudio", "studio/one", "project", "mark-1")
SHARED_TWO = Credential("two", "studio", "aistudio", "studio/two", "project", "mark-2")


class OwnRestTests(SynchronousTestCase):
    """What is held against one credential and not against its project."""

    def test_refused_credential_rests_alone_and_for_every_model(self) -> None:
        """U4: a token is one credential's, whoever it shares its project with, and for every model the same."""
        standings = Standings()
        standings.cool(SHARED_ONE, ANY, 15.0, 0.0, "UNAUTHENTICATED", own=True)
        for model in ("m", "another"):
            self.assertFalse(standings.availability(SHARED_ONE, model, 14.9).usable)
            self.assertTrue(standings.availability(SHARED_TWO, model, 0.0).usable)
            self.assertTrue(standings.availability(SHARED_ONE, model, 15.0).usable)

    def test_longest_of_several_rests_counts(self) -> None:
        """A quota that is used up is not free because a shorter rest of the credential's own is over."""
        standings = Standings()
        standings.cool(SHARED_ONE, "m", 60.0, 0.0, "QUOTA")
        standings.cool(SHARED_ONE, ANY, 15.0, 0.0, "UNAUTHENTICATED", own=True)
        found = standings.availability(SHARED_ONE, "m", 20.0)
        self.assertEqual((found.usable, found.free_at, found.reason), (False, 60.0, "QUOTA"))

    def test_own_rests_outlast_a_restart_and_are_cleared(self) -> None:
        """They are kept and forgotten as others are."""
        standings, after = Standings(), Standings()
        standings.cool(SHARED_ONE, ANY, 100.0, 0.0, "UNAUTHENTICATED", own=True)
        after.restore(standings.dump(0.0, 1000.0), 0.0, 1000.0)
        self.assertFalse(after.availability(SHARED_ONE, "m", 0.0).usable)
        self.assertIn(ANY, after.rests(SHARED_ONE, 0.0))
        after.clear(SHARED_ONE)
        self.assertTrue(after.availability(SHARED_ONE, "m", 0.0).usable)


class ProbeIdentityTests(SynchronousTestCase):
    """A probe is of one rest."""

    def test_old_probe_neither_frees_nor_ends_a_newer_rest(self) -> None:
        """K10: its release lets no second probe out, and its success ends nothing that began since."""
        standings = Standings()
        standings.cool(SHARED_ONE, "m", 10.0, 0.0)
        old = standings.lease(SHARED_ONE, "m", 10.0)
        standings.cool(SHARED_ONE, "m", 100.0, 11.0)
        new = standings.lease(SHARED_ONE, "m", 100.0)
        self.assertTrue(new.probe)
        standings.succeeded(old)
        standings.release(old)
        self.assertFalse(standings.availability(SHARED_ONE, "m", 100.0).usable)
        standings.succeeded(new)
        standings.release(new)
        self.assertTrue(standings.availability(SHARED_ONE, "m", 100.0).usable)

    def test_probe_of_a_long_rest_that_decides_nothing_is_not_followed_at_once(self) -> None:
        """A client that leaves does not make every next request a probe."""
        standings = Standings()
        standings.cool(SHARED_ONE, "m", 10 * LONG_SECONDS, 0.0)
        standings.release(standings.lease(SHARED_ONE, "m", PROBE_EVERY_SECONDS))
        self.assertFalse(standings.availability(SHARED_ONE, "m", PROBE_EVERY_SECONDS + 1).usable)
        self.assertTrue(standings.availability(SHARED_ONE, "m", 2 * PROBE_EVERY_SECONDS).usable)


class UnusableTests(SynchronousTestCase):
    """What is missing in the configuration is held apart from what Google said."""

    def test_what_was_kept_does_not_make_an_unusable_credential_usable(self) -> None:
        """A quarantine of an older secret, taken up after the start, hides nothing."""
        before = Standings()
        before.quarantine(SHARED_ONE, "TOS_VIOLATION", "", 0.0, 0.0)
        after = Standings()
        renewed = attrs.evolve(SHARED_ONE, mark="mark-of-a-new-sign-in")
        after.unusable(renewed, "PROJECT_MISSING")
        after.restore(before.dump(0.0, 0.0), 0.0, 0.0)
        self.assertEqual(after.availability(renewed, "m", 0.0).reason, "PROJECT_MISSING")

    def test_project_that_is_found_does_not_end_a_quarantine(self) -> None:
        """Both have to be mended."""
        standings = Standings()
        standings.quarantine(SHARED_ONE, "TOS_VIOLATION", "", 0.0, 0.0)
        standings.unusable(SHARED_ONE, "PROJECT_MISSING")
        standings.usable(SHARED_ONE)
        self.assertEqual(standings.availability(SHARED_ONE, "m", 0.0).reason, "TOS_VIOLATION")


class OwnersTests(SynchronousTestCase):
    """Refusals that an owner must mend."""

    def refused(self, standings: Standings, who: Credential, now: float) -> bool:
        return standings.quarantine(who, "TOS_VIOLATION", "", now, now, needs_owner=True).halts

    def test_one_account_refused_twice_halts_nobody(self) -> None:
        """U6: it takes two accounts; one that was cleared and refused again is still one."""
        standings = Standings()
        self.assertFalse(self.refused(standings, SHARED_ONE, 0.0))
        standings.clear(SHARED_ONE)
        self.assertFalse(self.refused(standings, SHARED_ONE, 10.0))
        self.assertTrue(self.refused(standings, SHARED_TWO, 20.0))

    def test_account_that_was_cleared_does_not_count(self) -> None:
        """U6: what its owner has mended is no sign of danger any more."""
        standings = Standings()
        self.assertFalse(self.refused(standings, SHARED_ONE, 0.0))
        standings.clear(SHARED_ONE)
        self.assertFalse(self.refused(standings, SHARED_TWO, 10.0))

    def test_quarantine_outlasts_a_restart_after_a_rotation(self) -> None:
        """K1, U6: the account's new refresh token is the same account's."""
        for rotates_first in (True, False):
            standings, after = Standings(), Standings()
            if rotates_first:
                standings.rotated(SHARED_ONE, "mark-of-the-new-token")
            self.refused(standings, SHARED_ONE, 0.0)
            if not rotates_first:
                standings.rotated(SHARED_ONE, "mark-of-the-new-token")
            after.restore(standings.dump(0.0, 0.0), 0.0, 0.0)
            next_start = attrs.evolve(SHARED_ONE, mark="mark-of-the-new-token")
            self.assertEqual(after.availability(next_start, "m", 0.0).reason, "TOS_VIOLATION", rotates_first)
            self.assertFalse(standings.availability(SHARED_ONE, "m", 0.0).usable)
