"""What the configuration says of usage: what tokens cost, and how long it is kept.  Pure."""

from __future__ import annotations

from attrs import frozen


@frozen
class Rates:
    """US dollars per million tokens, which are micro-dollars per token."""

    input: float
    """Of prompt tokens that were not cached."""
    output: float
    """Of candidates' tokens and thoughts."""
    cached: float
    """Of prompt tokens that came out of a cache."""


@frozen
class Price:
    """What a model's tokens cost."""

    rates: Rates
    long: Rates | None = None
    """Of all tokens of a request whose prompt has more than 200 000; None where they cost the same."""
