"""What each client key has used, and whether there is more for it.  Pure.

Requests under way and requests a minute are counted before anything is done for a request, so that of any number at
once exactly as many pass as may.  Tokens and money are known at a request's end alone: a key is let in as long as
something of them is left, and what it then uses is counted in full.  Days and months are those of UTC.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import attrs
import msgspec

from gateway.calls import Usage
from gateway.config import Limits
from gateway.keys.gcra import NANOSECONDS, Gcra
from gateway.keys.grants import NOTHING, Grant
from gateway.keys.refusals import Over, refusal
from gateway.usage.spending import Spending, Spent

DAY_SECONDS = 86400
_MINUTE = 60 * NANOSECONDS
_BOUNDLESS = 1 << 62
"""More than anybody uses."""


class Window(msgspec.Struct):
    """What was used in a day or month of UTC."""

    began: float = 0.0
    ends: float = 0.0
    """Seconds since 1970, as ``began``."""
    requests: int = 0
    tokens: int = 0
    micros: int = 0

    def add(self, spent: Spent) -> None:
        """Count what was used before."""
        self.requests += spent.requests
        self.tokens += spent.tokens
        self.micros += spent.micros


def day_of(wall: float) -> Window:
    """Return the day of a time, empty."""
    began = wall - wall % DAY_SECONDS
    return Window(began, began + DAY_SECONDS)


def month_of(wall: float) -> Window:
    """Return the month of a time, empty."""
    now = datetime.fromtimestamp(wall, UTC)
    year, month = divmod(now.year * 12 + now.month, 12)
    return Window(datetime(now.year, now.month, 1, tzinfo=UTC).timestamp(),
                  datetime(year, month + 1, 1, tzinfo=UTC).timestamp())  # fmt: skip


class Meter(msgspec.Struct):
    """One key's."""

    grant: Grant
    """With no default left open."""
    under_way: int = 0
    requests: Gcra | None = None
    tokens: Gcra | None = None
    bounded: bool = False
    """Whether there is any limit at all."""
    windowed: bool = False
    """Whether there is one on a day or a month."""
    concurrent: int = _BOUNDLESS
    tokens_per_day: int = _BOUNDLESS
    micros_per_day: int = _BOUNDLESS
    micros_per_month: int = _BOUNDLESS
    day: Window = msgspec.field(default_factory=Window)
    month: Window = msgspec.field(default_factory=Window)
    last: float | None = None
    """When its last request ended."""

    def fit(self, grant: Grant, now: int) -> None:
        """Go on under another grant, which leaves no default open; what was counted counts."""
        self.requests = _fitted(self.requests, grant.requests_per_minute, now)
        self.tokens = _fitted(self.tokens, grant.tokens_per_minute, now)
        self.concurrent = grant.concurrent or _BOUNDLESS
        self.tokens_per_day = grant.tokens_per_day or _BOUNDLESS
        self.micros_per_day = grant.micros_per_day or _BOUNDLESS
        self.micros_per_month = grant.micros_per_month or _BOUNDLESS
        self.windowed = bool(grant.tokens_per_day or grant.micros_per_day or grant.micros_per_month)
        self.bounded = bool(self.windowed or grant.concurrent or self.requests or self.tokens)
        self.grant = grant

    def left(self) -> None:
        """A request that was under way is over."""
        self.under_way -= 1

    def turn(self, wall: float) -> None:
        """Begin another day and month, where it is time; also where the clock was set back by more than one."""
        if not self.day.began <= wall < self.day.ends:
            self.day = day_of(wall)
        if not self.month.began <= wall < self.month.ends:
            self.month = month_of(wall)

    def spent(self, wall: float) -> bool:
        """Say whether a day's or a month's share is used up."""
        day = self.day
        if not day.began <= wall < day.ends:
            self.turn(wall)
            day = self.day
        return (
            day.tokens >= self.tokens_per_day
            or day.micros >= self.micros_per_day
            or self.month.micros >= self.micros_per_month
        )

    def over(self, now: int, wall: float) -> list[Over]:
        """Return the limits at which it is."""
        self.turn(wall)
        grant, found = self.grant, []
        if grant.concurrent and self.under_way >= grant.concurrent:
            found.append(Over("concurrent", grant.concurrent, None))
        for name, bucket in (("requests_per_minute", self.requests), ("tokens_per_minute", self.tokens)):
            if bucket is not None and not bucket.admits(now):
                found.append(Over(name, bucket.limit, bucket.wait(now) / NANOSECONDS))
        for name, limit, used, window in self.shares():
            if limit and used >= limit:
                found.append(Over(name, limit, window.ends - wall))
        return found

    def shares(self) -> tuple[tuple[str, int | None, int, Window], ...]:
        """Return what a day and a month may have and had, by the limits' names."""
        return (
            ("tokens_per_day", self.grant.tokens_per_day, self.day.tokens, self.day),
            ("micros_per_day", self.grant.micros_per_day, self.day.micros, self.day),
            ("micros_per_month", self.grant.micros_per_month, self.month.micros, self.month),
        )


def _fitted(bucket: Gcra | None, limit: int | None, now: int) -> Gcra | None:
    if not limit:
        return None
    if bucket is None:
        return Gcra(limit, _MINUTE)
    return bucket if bucket.limit == limit else bucket.refitted(limit, now)


@attrs.define(eq=False, repr=False)
class Meters:
    """The meters of all keys that are used, also of those that the configuration knows.

    ``now`` is monotonic seconds in all that follows; ``wall_seconds`` is asked where a day or a month counts.
    """

    defaults: Limits
    wall_seconds: Callable[[], float]
    cost: Callable[[str, Usage, float], int | None] = lambda model, usage, at: None
    """Returns the micro-dollars of an answer of a model at a time, None where nobody knows."""
    _grants: dict[str, Grant] = attrs.field(factory=dict)
    _meters: dict[str, Meter] = attrs.field(factory=dict)

    def enter(self, key_id: str, now: float) -> Meter:
        """Count a request under way, and return the meter, to be told once that it has left.

        Raises GatewayError where the key has no more: then it counts as one that came.
        """
        meter = self._meters.get(key_id)
        if meter is None:
            meter = self._made(key_id)
        if meter.bounded:
            at, requests, tokens = int(now * NANOSECONDS), meter.requests, meter.tokens
            if (
                meter.under_way >= meter.concurrent
                or (tokens is not None and not tokens.admits(at))
                or (meter.windowed and meter.spent(self.wall_seconds()))
                # The last, because it counts the request.
                or (requests is not None and not requests.passes(at))
            ):
                wall = self.wall_seconds()
                # There is none if midnight has come meanwhile.
                if over := meter.over(at, wall):
                    meter.day.requests += 1
                    meter.month.requests += 1
                    raise refusal(key_id, over, wall, self._grants.get(key_id))
        meter.under_way += 1
        return meter

    def charge(self, meter: Meter, model: str, usage: Usage | None, now: float) -> int | None:
        """Count a request that has ended, and what it has used; return the micro-dollars, None where nobody knows."""
        wall = meter.last = self.wall_seconds()
        day, month = meter.day, meter.month
        if not day.began <= wall < day.ends:
            meter.turn(wall)
            day, month = meter.day, meter.month
        day.requests += 1
        month.requests += 1
        if usage is None:
            return None
        used, micros = usage.taken, self.cost(model, usage, wall)
        day.tokens += used
        month.tokens += used
        if micros:
            day.micros += micros
            month.micros += micros
        if meter.tokens is not None and used:
            meter.tokens.take(int(now * NANOSECONDS), used)
        return micros

    def grant(self, key_id: str, grant: Grant, now: float) -> None:
        """Put what a key may have into force; what it has used counts on."""
        self._grants[key_id] = grant
        if key_id in self._meters:
            self._meters[key_id].fit(self._whole(grant), int(now * NANOSECONDS))

    def forget(self, key_id: str) -> None:
        """A key is no more."""
        self._grants.pop(key_id, None)
        self._meters.pop(key_id, None)

    def renew(self, defaults: Limits, now: float) -> None:
        """Put other defaults into force."""
        self.defaults = defaults
        for key_id, meter in self._meters.items():
            meter.fit(self._whole(self._grants.get(key_id, NOTHING)), int(now * NANOSECONDS))

    def restore(self, spending: Spending) -> None:
        """Take up what was used before this run in the day and the month of now."""
        wall = self.wall_seconds()
        day, month = day_of(wall), month_of(wall)
        for name, window in (("day", day), ("month", month)):
            for key_id, spent in spending.spent(window.began).items():
                meter = self.meter(key_id)
                meter.turn(wall)
                getattr(meter, name).add(spent)

    def meter(self, key_id: str) -> Meter:
        """Return a key's meter."""
        return self._meters.get(key_id) or self._made(key_id)

    def under_way(self) -> dict[str, int]:
        """Return how many requests each key has under way that has any."""
        return {key_id: meter.under_way for key_id, meter in self._meters.items() if meter.under_way}

    def _made(self, key_id: str) -> Meter:
        grant = self._whole(self._grants.get(key_id, NOTHING))
        meter = self._meters[key_id] = Meter(grant)
        meter.fit(grant, 0)
        return meter

    def _whole(self, grant: Grant) -> Grant:
        """Return a grant with the configuration's defaults where it says nothing."""
        changes: dict[str, Any] = {}
        if grant.requests_per_minute is None:
            changes["requests_per_minute"] = self.defaults.key_per_minute
        if grant.concurrent is None:
            changes["concurrent"] = self.defaults.key_concurrent
        return attrs.evolve(grant, **changes) if changes else grant
