"""What usage/prices.py puts on usage."""

from __future__ import annotations

from datetime import UTC, date, datetime

from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import Usage
from gateway.config.tariff import Price, Rates
from gateway.usage.prices import AS_OF, LONG_TOKENS, TABLE, Prices

NOW = datetime(2026, 11, 1, tzinfo=UTC).timestamp()


class CostTests(SynchronousTestCase):
    def test_each_kind_of_token_has_its_rate(self) -> None:
        """What was cached is part of the prompt and costs less; thoughts cost as candidates do."""
        for usage, micros in (
            (Usage(prompt=1000), 1250),
            (Usage(prompt=1000, cached=400), 750 + 50),
            (Usage(candidates=100), 1000),
            (Usage(candidates=100, thoughts=50), 1500),
            (Usage(1000, 100, 50, 400), 750 + 50 + 1500),
            (Usage(), 0),
        ):
            with self.subTest(usage=usage):
                self.assertEqual(Prices().cost("gemini-2.5-pro", usage, NOW), micros)

    def test_micro_dollars_are_rounded_to_the_nearest(self) -> None:
        """3 tokens of 0.10 are none, 5 are one."""
        prices = Prices()
        self.assertEqual([prices.cost("gemini-2.5-flash-lite", Usage(n), NOW) for n in (3, 5, 14, 15)], [0, 1, 1, 2])

    def test_all_of_a_long_prompts_request_costs_more(self) -> None:
        """From one token over 200 000 on, its answer too, where Google's price has such a tier."""
        prices = Prices()
        short, long = Usage(LONG_TOKENS, 1000), Usage(LONG_TOKENS + 1, 1000)
        self.assertEqual(prices.cost("gemini-2.5-pro", short, NOW), 250_000 + 10_000)
        self.assertEqual(prices.cost("gemini-2.5-pro", long, NOW), 500_003 + 15_000)
        self.assertEqual(prices.cost("gemini-2.5-flash", long, NOW), 60_000 + 2_500)

    def test_an_unknown_model_has_no_cost(self) -> None:
        """Which is not the same as costing nothing; it stays so when asked again."""
        prices = Prices()
        for _ in range(2):
            self.assertIsNone(prices.cost("gemini-2.5-flash-image", Usage(1, 1), NOW))
        self.assertEqual(prices.cost("gemini-embedding-001", Usage(0, 5), NOW), 0)

    def test_a_price_changes_on_its_day(self) -> None:
        """Forth and back: the price is that of the time of the answer."""
        prices = Prices()
        new_year = datetime(2027, 1, 1, tzinfo=UTC).timestamp()
        for at, micros in ((new_year - 1, 3750), (new_year, 7500), (new_year + 1e9, 7500)):
            self.assertEqual(prices.cost("gemini-3.8-flash", Usage(0, 1000), at), micros)

    def test_many_models_names_are_not_kept(self) -> None:
        """Names are the clients' choice."""
        prices = Prices()
        for number in range(5000):
            prices.cost(f"made-up-{number}", Usage(1), NOW)
        self.assertLessEqual(len(prices._at_hand), 1000)
        self.assertEqual(prices.cost("gemini-2.5-pro", Usage(1000), NOW), 1250)


class OperatorTests(SynchronousTestCase):
    """The prices that the configuration sets."""

    def test_the_operators_price_comes_first(self) -> None:
        """An id before patterns, of patterns the one with the longest text, whatever their order."""
        prices = Prices(
            (
                ("*", Price(Rates(1, 1, 1))),
                ("gemini-*", Price(Rates(2, 2, 2))),
                ("gemini-2.5-*", Price(Rates(3, 3, 3), Rates(5, 5, 5))),
                ("gemini-2.5-pro", Price(Rates(4, 4, 4))),
            )
        )
        for model, rate in (("claude-x", 1), ("gemini-9", 2), ("gemini-2.5-flash", 3), ("gemini-2.5-pro", 4)):
            with self.subTest(model=model):
                self.assertEqual(prices.cost(model, Usage(10), NOW), 10 * rate)
        self.assertEqual(prices.cost("gemini-2.5-flash", Usage(LONG_TOKENS + 1), NOW), 5 * (LONG_TOKENS + 1))

    def test_nothing_may_be_what_it_costs(self) -> None:
        """For accounts that are paid for otherwise."""
        self.assertEqual(Prices([("*", Price(Rates(0, 0, 0)))]).cost("gemini-2.5-pro", Usage(10, 10), NOW), 0)


class TableTests(SynchronousTestCase):
    def test_prices_stand_in_the_order_of_time(self) -> None:
        """Each holds from its time to that of the next."""
        for model, dated in TABLE.items():
            times = [since for since, _ in dated]
            self.assertEqual(times, sorted(set(times)), model)
            self.assertEqual(times[0], float("-inf"), model)

    def test_what_was_cached_never_costs_more(self) -> None:
        """A slip of the pen would."""
        for model, dated in TABLE.items():
            for _, price in dated:
                for rates in filter(None, (price.rates, price.long)):
                    self.assertLessEqual(rates.cached, rates.input, model)

    def test_the_table_has_a_day(self) -> None:
        """On which it was what Google's page said."""
        self.assertLess(date(2026, 1, 1), date.fromisoformat(AS_OF))


class TokenTests(SynchronousTestCase):
    def test_tokens_are_prompt_candidates_and_thoughts(self) -> None:
        """What was cached is part of the prompt."""
        self.assertEqual(Usage(10, 5, 3, 7).taken, 18)
