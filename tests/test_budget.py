"""The retry budget: routing/budget.py."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from gateway.routing.budget import RetryBudget


class RetryBudgetTests(SynchronousTestCase):
    """How much is tried again while the backend fails."""

    def test_steady_failure_is_hardly_repeated(self) -> None:
        """K9: while everything fails, upstream calls per request stay at or below 1.10 over 10^4 requests."""
        budget = RetryBudget()
        calls = 0
        for _ in range(10_000):
            for attempt in range(3):
                calls += 1
                budget.failed()
                if attempt == 2 or not budget.allows():
                    break
        self.assertLessEqual(calls / 10_000, 1.10)

    def test_rare_failure_is_repeated(self) -> None:
        """One failure in twenty always gets its second try."""
        budget = RetryBudget()
        for _ in range(1000):
            for _ in range(19):
                budget.succeeded()
            budget.failed()
            self.assertTrue(budget.allows())

    def test_budget_recovers_with_the_backend(self) -> None:
        """After a long outage good answers buy the right to try again back."""
        budget = RetryBudget()
        for _ in range(1000):
            budget.failed()
        self.assertFalse(budget.allows())
        for _ in range(51):
            budget.succeeded()
        self.assertTrue(budget.allows())
