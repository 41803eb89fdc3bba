"""Who met a server fault lately: accounts/doubts.py."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.doubts import FIRST_SECONDS, MOST_SECONDS, Doubts
from gateway.accounts.standing import Standings
from gateway.calls import Credential, Terms
from gateway.routing.rotation import Choice, choose

ONE = Credential("one", "studio", "aistudio", "studio/one")
TWO = Credential("two", "studio", "aistudio", "studio/two")
MODEL = "gemini-2.5-flash"


class DoubtsTests(SynchronousTestCase):
    """How long there is a doubt."""

    def test_doubt_grows_with_each_fault_after_it_and_is_bounded(self) -> None:
        """U13: 1, 2, 4 ... 30 seconds, to the end of each and no longer."""
        doubts, now = Doubts(), 100.0
        for expected in (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
            doubts.failed(ONE, MODEL, now)
            self.assertTrue(doubts.about(ONE, MODEL, now + expected - 0.001))
            now += expected
            self.assertFalse(doubts.about(ONE, MODEL, now))

    def test_faults_of_requests_under_way_together_count_once(self) -> None:
        """A burst of faults in one moment is one sign, not many."""
        doubts = Doubts()
        for _ in range(50):
            doubts.failed(ONE, MODEL, 0.0)
        self.assertFalse(doubts.about(ONE, MODEL, FIRST_SECONDS))

    def test_good_answer_ends_it(self) -> None:
        """One good answer, and the next doubt is a first one again."""
        doubts = Doubts()
        doubts.failed(ONE, MODEL, 0.0)
        doubts.failed(ONE, MODEL, 5.0)
        doubts.answered(ONE, MODEL)
        self.assertFalse(doubts.about(ONE, MODEL, 5.0))
        doubts.failed(ONE, MODEL, 6.0)
        self.assertFalse(doubts.about(ONE, MODEL, 6.0 + FIRST_SECONDS))

    def test_another_model_is_not_doubted(self) -> None:
        """A backend may fail for one model and serve the next."""
        doubts = Doubts()
        doubts.failed(ONE, MODEL, 0.0)
        self.assertFalse(doubts.about(ONE, "gemini-2.5-pro", 0.0))

    def test_old_doubts_leave_nothing_behind(self) -> None:
        """A client's invented model names do not gather."""
        doubts = Doubts()
        for number in range(100):
            doubts.failed(ONE, f"model-{number}", 0.0)
        doubts.prune(FIRST_SECONDS + MOST_SECONDS)
        self.assertFalse(doubts.until)


class ChoosingTests(SynchronousTestCase):
    """What a doubt does."""

    def chosen(self, standings: Standings, bound: Credential | None = None, now: float = 0.0) -> Credential:
        choice = choose((ONE, TWO), set(), standings, bound, set(), MODEL, now)
        assert isinstance(choice, Choice)
        return choice.credential

    def test_doubted_credential_comes_after_the_others_even_for_its_session(self) -> None:
        """U13: a 503 for one project does not strike the next request too."""
        standings = Standings()
        standings.doubts.failed(ONE, MODEL, 0.0)
        self.assertEqual(self.chosen(standings), TWO)
        self.assertEqual(self.chosen(standings, bound=ONE), TWO)
        self.assertEqual(self.chosen(standings, bound=ONE, now=FIRST_SECONDS), ONE)

    def test_doubt_does_not_reach_for_a_fallback(self) -> None:
        """A credential of a higher priority number waits for one that cannot be used, not for one in doubt."""
        standings = Standings()
        standings.doubts.failed(ONE, MODEL, 0.0)
        paid = attrs.evolve(TWO, terms=Terms(priority=1))
        choice = choose((ONE, paid), set(), standings, None, set(), MODEL, 0.0)
        assert isinstance(choice, Choice)
        self.assertEqual(choice.credential, ONE)

    def test_nobody_is_out_when_all_are_doubted(self) -> None:
        """An outage of the whole backend changes nothing in who is chosen."""
        standings = Standings()
        standings.doubts.failed(ONE, MODEL, 0.0)
        standings.doubts.failed(TWO, MODEL, 0.0)
        self.assertEqual(self.chosen(standings, bound=ONE), ONE)
