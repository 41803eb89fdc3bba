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


HOUR_SECONDS = 3_600.0
DAY_SECONDS = 86_400.0


@frozen
class UsageConfig:
    """What is written down of requests, and for how long."""

    enabled: bool = True
    keep: float = 90 * DAY_SECONDS
    """For how many seconds requests are kept one by one."""
    keep_rollups: float = 800 * DAY_SECONDS
    """For how many their sums by hour and day are."""
    size: int = 1024**3
    """Bytes of the whole; beyond, the oldest goes first."""
    prices: tuple[tuple[str, Price], ...] = ()
    """Ids or ``*`` patterns and what they cost, before the package's own table."""


DEFAULT_USAGE = UsageConfig()
