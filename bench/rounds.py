"""The rounds: every load on every relay in turn, and the next round begins with another relay.  Does I/O."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import attrs
import awake
import figures
import load
import race
import shapes
from checks import Target

CONNECTIONS = 8
BURST_EVENTS = 200
PACED_STREAMS = 40
PACED_MS = 20
TTFT_MODEL, TTFT_EVENTS = "paced-3-20ms", 3
RATE_PER_SECOND = 40.0
RATE_OFTEN_PER_SECOND = 200.0
"""A few per cent of what a fast relay can do, at which no processor sleeps for long."""
RATE_LEAST_PER_SECOND = 10.0
"""For those that would be busy all the time at the first of them."""
_SLOW = 0.1


@attrs.frozen
class Size:
    """How much of everything a round has."""

    rounds: int
    unary_requests: int
    burst_streams: int
    paced_events: int
    timed_requests: int


def loads(size: Size, share: float) -> dict[str, race.Load]:
    """Return the loads whose CPU is measured, by the kind of figure; a slow relay gets its ``share`` of them."""
    requests = max(40, int(size.unary_requests * share))
    streams = max(1, int(size.burst_streams // 4 * share))
    paced = max(4, int(PACED_STREAMS * share))
    return {
        "cpu-unary": lambda target: load.unary(target, requests, CONNECTIONS),
        "cpu-burst": lambda target: load.streams(target, f"burst-{BURST_EVENTS}", BURST_EVENTS, streams, 4),
        "cpu-paced": lambda target: load.streams(
            target,
            f"paced-{size.paced_events}-{PACED_MS}ms",
            size.paced_events,
            1,
            paced,
            spread_seconds=PACED_MS / 1000,
        ),
    }


@attrs.define(eq=False)
class Rounds:
    """The relays over plain HTTP, those whose upstream speaks TLS, and the load straight on upstream."""

    plain: Sequence[race.Entrant]
    tls: Sequence[race.Entrant]
    direct: Target | None
    size: Size
    board: figures.Figures
    _times: dict[tuple[str, str], list[float]] = attrs.Factory(dict)

    async def warm_up(self) -> None:
        """Put every kind of load on every relay once, uncounted but checked."""
        small = attrs.evolve(self.size, unary_requests=400, burst_streams=8, paced_events=10)
        for entrant in self.plain:
            for kind, what in loads(small, entrant.relay.share).items():
                self._check(kind, entrant.name, await what(entrant.target))
        for entrant in self.tls:
            what = loads(small, entrant.relay.share)["cpu-unary"]
            self._check("cpu-tls", entrant.name, await what(entrant.target))

    def _check(self, kind: str, name: str, outcome: load.Outcome) -> None:
        for failure in outcome.failures[:1]:
            self.board.fail(kind, name, f"warm-up: {failure}")

    async def run(self) -> None:
        """Warm up and run the rounds; stop when the gateway or the baseline answers wrongly."""
        await self.warm_up()
        for number in range(self.size.rounds):
            if self.board.wrong():
                return
            await self._round(number)
            print(f"round {number + 1} of {self.size.rounds}", file=sys.stderr, flush=True)
        self._keep_times()

    async def _round(self, number: int) -> None:
        """Measure every load once on everybody; another one is first in the next round."""
        plain, tls = _turned(self.plain, number), _turned(self.tls, number)
        for kind in loads(self.size, 1.0):
            for entrant in plain:
                what = loads(self.size, entrant.relay.share)[kind]
                await race.measure_cost(entrant, kind, what, self.board)
        for entrant in tls:
            what = loads(self.size, entrant.relay.share)["cpu-unary"]
            await race.measure_cost(entrant, "cpu-tls", what, self.board)
        if self.direct is None:
            return
        for target, share in [(self.direct, 1.0), *((one.target, one.relay.share) for one in plain)]:
            await self._time(target, share)

    async def _time(self, target: Target, share: float) -> None:
        """Take the times of unary answers and of first events, at low rates on idle connections."""
        rate = RATE_LEAST_PER_SECOND if share < _SLOW else RATE_PER_SECOND
        await self._timed("unary", target, shapes.UNARY_MODEL, 0, rate)
        await self._timed("ttft", target, TTFT_MODEL, TTFT_EVENTS, rate)
        with awake.processors():
            await self._timed("awake", target, TTFT_MODEL, TTFT_EVENTS, rate)
        if share == 1:
            await self._timed("often", target, TTFT_MODEL, TTFT_EVENTS, RATE_OFTEN_PER_SECOND)
        else:
            self.board.fail("often-p50", target.name, f"given {rate:.0f} a second only")

    async def _timed(self, kind: str, target: Target, model: str, events: int, per_second: float) -> None:
        """Take the times of one kind of call at a rate."""
        count = int(self.size.timed_requests * per_second / RATE_PER_SECOND)
        outcome = await load.at_rate(target, model, events, count, per_second)
        if outcome.failures:
            self.board.fail(f"{kind}-p50", target.name, outcome.failures[0])
        elif not self.board.failed(f"{kind}-p50", target.name):
            milliseconds = [1000 * one for one in outcome.first_seconds]
            self._times.setdefault((kind, target.name), []).extend(milliseconds)
            self.board.add(f"{kind}-p50", target.name, figures.percentile(milliseconds, 0.5))

    def _keep_times(self) -> None:
        """Take the 99th percentile of all rounds together: a single round has too few for one."""
        for (kind, name), milliseconds in self._times.items():
            if not self.board.failed(f"{kind}-p50", name):
                self.board.add(f"{kind}-p99", name, figures.percentile(milliseconds, 0.99))


def _turned(entrants: Sequence[race.Entrant], number: int) -> list[race.Entrant]:
    """Return ``entrants`` with the first ones put at the end."""
    by = number % len(entrants) if entrants else 0
    return [*entrants[by:], *entrants[:by]]
