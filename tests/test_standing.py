"""What every credential is good for right now."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.standing import COOL_LIMIT_SECONDS, STRIKES_SECONDS, Quarantine, Standings
from gateway.calls import Credential


def credential(name: str, project: str = "", upstream: str = "up") -> Credential:
    return Credential(name, upstream, "aistudio", f"{upstream}/{name}", project)


ONE, TWO = credential("one"), credential("two")


class CoolingTests(SynchronousTestCase):
    """Rests of (quota owner, model)."""

    def setUp(self) -> None:
        self.standings = Standings()

    def rests(self, who: Credential, model: str, now: float) -> bool:
        return self.standings.cooling_until(who, model, now) > now

    def test_rest_is_the_pairs_alone(self) -> None:
        """U9: one model's quota locks neither the credential's other models nor other credentials."""
        self.standings.cool(ONE, "m", 10.0, 0.0)
        table = [(ONE, "m", 0.0, True), (ONE, "m", 9.999, True), (ONE, "m", 10.0, False), (ONE, "n", 0.0, False),
                 (TWO, "m", 0.0, False), (credential("one", upstream="other"), "m", 0.0, False)]  # fmt: skip
        for who, model, now, resting in table:
            self.assertIs(self.rests(who, model, now), resting, f"{who.label} {model} at {now}")

    def test_credentials_of_one_project_rest_together(self) -> None:
        """Google's quotas belong to projects, so a second key of the same project is no help."""
        self.standings.cool(credential("a", "p"), "m", 10.0, 0.0)
        self.assertTrue(self.rests(credential("b", "p"), "m", 0.0))
        self.assertTrue(self.rests(credential("c", "p", "other"), "m", 0.0))
        self.assertFalse(self.rests(credential("d", "q"), "m", 0.0))

    def test_longer_rest_already_ordered_stands(self) -> None:
        """A late answer that asks for less does not shorten it."""
        self.standings.cool(ONE, "m", 10.0, 0.0)
        self.standings.cool(ONE, "m", 5.0, 1.0)
        self.assertEqual(self.standings.cooling_until(ONE, "m", 1.0), 10.0)
        self.standings.cool(ONE, "m", 20.0, 1.0)
        self.assertEqual(self.standings.cooling_until(ONE, "m", 1.0), 20.0)

    def test_rest_has_a_limit(self) -> None:
        """No upstream puts a credential away for ever."""
        self.standings.cool(ONE, "m", 1e12, 100.0)
        self.assertEqual(self.standings.cooling_until(ONE, "m", 100.0), 100.0 + COOL_LIMIT_SECONDS)

    def test_success_that_began_before_a_rest_does_not_end_it(self) -> None:
        """U9: no attempt before the rest is over, though a call from before it may still end well."""
        self.standings.cool(ONE, "m", 10.0, 0.0)
        self.standings.succeeded(ONE, "m")
        self.assertTrue(self.rests(ONE, "m", 9.0))
        self.assertFalse(self.rests(ONE, "m", 10.0))

    def test_strikes_count_until_an_answer(self) -> None:
        """U11: a guessed rest doubles at each repetition and starts anew after a good answer."""
        self.assertEqual(self.standings.strikes(ONE, "m"), 0)
        for count in (1, 2, 3):
            self.standings.cool(ONE, "m", 1.0, 0.0)
            self.assertEqual(self.standings.strikes(ONE, "m"), count)
        self.assertEqual((self.standings.strikes(ONE, "n"), self.standings.strikes(TWO, "m")), (0, 0))
        self.standings.succeeded(ONE, "m")
        self.assertEqual(self.standings.strikes(ONE, "m"), 0)

    def test_tidying_up_keeps_the_strikes_of_a_rest_just_over(self) -> None:
        """U11: a rest that happens to end before the tidying has not lost its count when the next 429 comes."""
        self.standings.cool(ONE, "m", 10.0, 0.0)
        self.standings.prune(10.0 + STRIKES_SECONDS - 1)
        self.assertEqual(self.standings.strikes(ONE, "m"), 1)
        self.assertFalse(self.rests(ONE, "m", 10.0))
        self.standings.prune(10.0 + STRIKES_SECONDS)
        self.assertEqual(self.standings.strikes(ONE, "m"), 0)

    def test_tidying_up_leaves_nothing_of_what_is_over(self) -> None:
        """A client's invented model names do not gather; what still rests stays."""
        for number in range(100):
            self.standings.cool(ONE, f"invented-{number}", 5.0, 0.0)
            self.standings.cool_base("https://a.test", f"invented-{number}", 5.0)
        self.standings.cool(ONE, "m", 1000.0, 0.0)
        self.standings.cool_base("https://a.test", "m", 1000.0)
        self.standings.prune(5.0 + STRIKES_SECONDS)
        self.assertEqual(self.standings._cooling, {(ONE.owner, "m"): 1000.0})
        self.assertEqual(self.standings._strikes, {(ONE.owner, "m"): 1})
        self.assertEqual(self.standings._bases, {("https://a.test", "m"): 1000.0})

    def test_base_rests_for_a_model_alone(self) -> None:
        """U13: other models and other bases go on; a longer rest stands."""
        self.standings.cool_base("https://a.test", "m", 10.0)
        self.standings.cool_base("https://a.test", "m", 5.0)
        table = [("https://a.test", "m", 10.0), ("https://a.test", "n", 1.0), ("https://b.test", "m", 1.0)]
        for base, model, until in table:
            self.assertEqual(self.standings.base_until(base, model, 1.0), until, f"{base} {model}")

    @given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6))))
    @settings(deadline=None)
    def test_rest_never_gets_shorter(self, orders: list[tuple[float, float]]) -> None:
        """Whatever is ordered, and in whatever order."""
        standings = Standings()
        until = 0.0
        for ordered, now in orders:
            standings.cool(ONE, "m", ordered, now)
            found = standings.cooling_until(ONE, "m", 0.0)
            self.assertGreaterEqual(found, until)
            until = found


class QuarantineTests(SynchronousTestCase):
    """Out until somebody acts."""

    def test_quarantine_is_the_credentials_and_the_first_reason_stands(self) -> None:
        """U5: its other models are out too, another credential of its project is not; told once."""
        standings = Standings()
        self.assertIsNone(standings.quarantined(ONE))
        self.assertTrue(standings.quarantine(ONE, "API_KEY_INVALID", "https://example.test/fix"))
        self.assertFalse(standings.quarantine(ONE, "OTHER"))
        self.assertEqual(standings.quarantined(ONE), Quarantine("API_KEY_INVALID", "https://example.test/fix"))
        self.assertIsNone(standings.quarantined(TWO))
        self.assertIsNone(standings.quarantined(credential("one", upstream="other")))

    def test_quarantine_outlives_tidying_and_success(self) -> None:
        """U6: only somebody who acts lifts it."""
        standings = Standings()
        standings.quarantine(ONE, "R")
        standings.succeeded(ONE, "m")
        standings.prune(1e9)
        self.assertEqual(standings.quarantined(ONE), Quarantine("R"))


class LoadTests(SynchronousTestCase):
    """How busy a credential is."""

    def test_load_is_requests_in_flight_and_then_last_use(self) -> None:
        """What is released counts as used, and not as busy."""
        standings = Standings()
        self.assertEqual(standings.load(ONE), (0, 0))
        standings.lease(ONE)
        standings.lease(TWO)
        standings.lease(ONE)
        self.assertEqual((standings.load(ONE), standings.load(TWO)), ((2, 3), (1, 2)))
        self.assertEqual(standings.in_flight(), {("up", "one"): 2, ("up", "two"): 1})
        standings.release(ONE)
        standings.release(ONE)
        standings.release(TWO)
        self.assertEqual((standings.load(ONE), standings.load(TWO)), ((0, 3), (0, 2)))
