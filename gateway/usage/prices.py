"""What tokens cost: the list prices of the public Gemini API, dated, and those that the operator sets.  Pure.

The table holds what https://ai.google.dev/gemini-api/docs/pricing stated for the paid tier on 7 October 2026, for text
and standard processing.  Left out, and so of no known price, are models whose output tokens cost differently by what
they are (images, speech, video), because usage counts do not tell them apart.  Audio input, searches, and what caches
cost while they are kept are not in it either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from gateway.calls import Usage
from gateway.config.tariff import Price, Rates

AS_OF = "2026-10-07"
"""The day on which the table was what Google's page said."""
LONG_TOKENS = 200_000
"""A prompt of more is a long one."""

_ALWAYS = float("-inf")
_NEVER = float("inf")
_2027 = datetime(2027, 1, 1, tzinfo=UTC).timestamp()
_KNOWN_MOST = 1000
"""So many models' prices are kept at hand."""

Dated = tuple[tuple[float, Price], ...]
"""Prices and the Unix times from which they hold, in the order of time."""


def _since_ever(price: Price) -> Dated:
    return ((_ALWAYS, price),)


_PRO_3 = _since_ever(Price(Rates(2.00, 12.00, 0.20), Rates(4.00, 18.00, 0.40)))
_FLASH_3_HALF_PRICE: Dated = ((_ALWAYS, Price(Rates(0.75, 3.75, 0.075))), (_2027, Price(Rates(1.50, 7.50, 0.15))))
"""Half of what it is from 2027 on."""

TABLE: Mapping[str, Dated] = {
    "gemini-3.8-flash": _FLASH_3_HALF_PRICE,
    "gemini-3.7-flash": _FLASH_3_HALF_PRICE,
    "gemini-3.6-flash": _FLASH_3_HALF_PRICE,
    "gemini-3.5-flash": _since_ever(Price(Rates(1.50, 9.00, 0.15))),
    "gemini-3.5-flash-lite": _since_ever(Price(Rates(0.30, 2.50, 0.03))),
    "gemini-3.1-pro-preview": _PRO_3,
    "gemini-3.1-pro-preview-customtools": _PRO_3,
    "gemini-3.1-flash-lite": _since_ever(Price(Rates(0.25, 1.50, 0.025))),
    "gemini-3.1-flash-lite-preview": _since_ever(Price(Rates(0.25, 1.50, 0.025))),
    "gemini-3-pro-preview": _PRO_3,
    "gemini-3-flash-preview": _since_ever(Price(Rates(0.50, 3.00, 0.05))),
    "gemini-2.5-pro": _since_ever(Price(Rates(1.25, 10.00, 0.125), Rates(2.50, 15.00, 0.25))),
    "gemini-2.5-flash": _since_ever(Price(Rates(0.30, 2.50, 0.03))),
    "gemini-2.5-flash-lite": _since_ever(Price(Rates(0.10, 0.40, 0.01))),
    "gemini-2.0-flash": _since_ever(Price(Rates(0.10, 0.40, 0.025))),
    "gemini-2.0-flash-001": _since_ever(Price(Rates(0.10, 0.40, 0.025))),
    "gemini-2.0-flash-lite": _since_ever(Price(Rates(0.075, 0.30, 0.075))),
    "gemini-2.0-flash-lite-001": _since_ever(Price(Rates(0.075, 0.30, 0.075))),
    "gemini-embedding-001": _since_ever(Price(Rates(0.15, 0.00, 0.15))),
    "gemini-embedding-2": _since_ever(Price(Rates(0.20, 0.00, 0.20))),
}


class Prices:
    """Puts a price on usage; the operator's own prices come before the table's."""

    def __init__(self, own: Iterable[tuple[str, Price]] = ()) -> None:
        """``own`` are ids or ``*`` patterns and what they cost; of several that fit, the longest counts."""
        self._own = sorted(own, key=lambda pair: ("*" in pair[0], -len(pair[0].replace("*", ""))))
        self._at_hand: dict[str, tuple[float, Price | None]] = {}
        """By model: the price, and until when it holds."""

    def cost(self, model: str, usage: Usage, at: float) -> int | None:
        """Return what an answer costs in micro-dollars (10^-6 USD), None where the model has no known price.

        ``at`` is when it was given, in Unix seconds, by which the table has changed prices.
        """
        found = self._at_hand.get(model)
        if found is None or at >= found[0]:
            found = self._found(model, at)
        price = found[1]
        if price is None:
            return None
        prompt, cached = usage.prompt, usage.cached
        rates = price.long if prompt > LONG_TOKENS and price.long is not None else price.rates
        whole = (prompt - cached) * rates.input + cached * rates.cached
        return int(whole + (usage.candidates + usage.thoughts) * rates.output + 0.5)

    def _found(self, model: str, at: float) -> tuple[float, Price | None]:
        found = self._of_operator(model) or _of_table(model, at)
        if len(self._at_hand) >= _KNOWN_MOST:
            self._at_hand.clear()
        self._at_hand[model] = found
        return found

    def _of_operator(self, model: str) -> tuple[float, Price | None] | None:
        for pattern, price in self._own:
            if fnmatchcase(model, pattern):
                return _NEVER, price
        return None


def _of_table(model: str, at: float) -> tuple[float, Price | None]:
    """Return a model's price at a time, and until when it holds."""
    price: Price | None = None
    for since, one in TABLE.get(model, ()):
        if since > at:
            return since, price
        price = one
    return _NEVER, price
