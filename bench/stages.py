"""The stages of a run, and how much each of them has in a full and in a short one.  Does I/O."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import bodies
import crowd
import faces
import figures
import load
import ours
import processes
import race
import relays
import rounds
import shapes
import throughput
from checks import Target


@attrs.frozen
class Size:
    """How much of everything."""

    rounds: rounds.Size
    bodies: tuple[int, int]
    """Requests with 1 MB and with 20 MB, in each of two phases."""
    bodies_rounds: int
    wrk_seconds: int
    wrk_rounds: int
    streams: int
    streams_ramp_seconds: float
    streams_seconds: float
    starts: int


FULL = Size(
    rounds.Size(rounds=7, unary_requests=3000, burst_streams=60, paced_events=100, timed_requests=80),
    bodies=(20, 5),
    bodies_rounds=2,
    wrk_seconds=6,
    wrk_rounds=2,
    streams=5000,
    streams_ramp_seconds=12.0,
    streams_seconds=12.0,
    starts=3,
)
SHORT = Size(
    rounds.Size(rounds=2, unary_requests=1000, burst_streams=24, paced_events=50, timed_requests=40),
    bodies=(5, 2),
    bodies_rounds=1,
    wrk_seconds=2,
    wrk_rounds=1,
    streams=1000,
    streams_ramp_seconds=3.0,
    streams_seconds=3.0,
    starts=1,
)
_CROWD = ("crowd-cpu", "crowd-events", "crowd-p50", "crowd-p99")
_PAIR = rounds.Size(rounds=7, unary_requests=4000, burst_streams=100, paced_events=250, timed_requests=120)
_PAIR_SHORT = rounds.Size(rounds=5, unary_requests=1000, burst_streams=60, paced_events=100, timed_requests=80)


def size(*, short: bool, many: bool) -> Size:
    """Return the size of a run; where few take part there is time for more of each."""
    whole = SHORT if short else FULL
    return whole if many else attrs.evolve(whole, rounds=_PAIR_SHORT if short else _PAIR)


@attrs.define(eq=False)
class Run:
    """One run: who takes part, on which upstream, and what was seen so far."""

    contestants: Sequence[relays.Relay]
    upstream: ours.Upstream
    size: Size
    directory: Path
    board: figures.Figures
    stack: ExitStack
    plain: list[race.Entrant] = attrs.Factory(list)
    with_tls: bool = True

    @property
    def direct(self) -> Target:
        """The load's way without a relay."""
        return Target(figures.DIRECT, self.upstream.process.port, faces.gemini(shapes.UPSTREAM_KEY))

    def enter_all(self) -> None:
        """Start everybody; who does not start or answers wrongly is out, and the figures say so."""
        for relay in self.contestants:
            try:
                ground = self.upstream.ground()
                entrant = race.enter(relay, ground, self.stack)
                version = relay.version()
            except race.PROBLEMS as error:
                self._out(relay, error)
                continue
            self.board.subjects[relay.name] = figures.Subject(version, relay.does)
            self.plain.append(entrant)
        for entrant in self.plain:
            self.board.add("memory-idle", entrant.name, entrant.process.resident_bytes() / 1e6)

    def _out(self, relay: relays.Relay, error: Exception) -> None:
        print(f"{relay.name} is out: {error}", file=sys.stderr, flush=True)
        self.board.subjects[relay.name] = figures.Subject("", relay.does, str(error))

    @contextmanager
    def _attempt(self, kinds: Sequence[str], name: str) -> Iterator[ExitStack]:
        """Run a block with processes of its own; when it fails, ``kinds`` of ``name`` are missing."""
        try:
            with ExitStack() as stack:
                yield stack
        except race.PROBLEMS as error:
            for kind in kinds:
                self.board.fail(kind, name, str(error) or type(error).__name__)

    def measure_rounds(self) -> None:
        """CPU and times, in turns."""
        over_tls = []
        for entrant in self.plain if self.with_tls else []:
            relay = entrant.relay
            if not relay.tls:
                self.board.fail("cpu-tls", relay.name, "not measured")
                continue
            with self._attempt(["cpu-tls"], relay.name) as stack:
                race.refuse(relay, self.upstream.ground(tls=True, trusts=False), stack)
                over_tls.append(race.enter(relay, self.upstream.ground(tls=True), self.stack))
        asyncio.run(rounds.Rounds(self.plain, over_tls, self.direct, self.size.rounds, self.board).run())

    def measure_bodies(self) -> None:
        """Inline images."""
        bodies.run(self.plain, self.size.bodies, self.size.bodies_rounds, self.board)

    def measure_throughput(self) -> None:
        """Requests a second, of one process and of two."""
        for _ in range(self.size.wrk_rounds):
            for target in (self.direct, *(entrant.target for entrant in self.plain)):
                with self._attempt(["rps"], target.name):
                    self.board.add("rps", target.name, self._wrk(target))
        if any(entrant.name == figures.OURS for entrant in self.plain):
            with self._attempt(["rps-two"], figures.OURS) as stack:
                pair = ours.start_gateways([self.upstream.ground(), self.upstream.ground()])
                for process in pair:
                    stack.callback(process.stop)
                target = Target(figures.OURS, pair[0].port, faces.gemini())
                # Their sockets listened before they did: only now both are known to answer.
                if failures := asyncio.run(load.unary(target, 64, 32)).failures:
                    raise processes.StartError(failures[0])
                for _ in range(self.size.wrk_rounds):
                    before = [process.cpu() for process in pair]
                    rate = self._wrk(target)
                    shares = [process.used_since(one) for process, one in zip(pair, before, strict=True)]
                    if min(shares) < 0.1 * max(shares):
                        raise processes.StartError("one of the two processes had nearly nothing to do")
                    self.board.add("rps-two", figures.OURS, rate)

    def _wrk(self, target: Target) -> float:
        return throughput.requests_a_second(target, self.size.wrk_seconds, self.directory)

    def measure_crowd(self) -> None:
        """Memory per stream, and thousands of streams; each relay starts anew, so that its heap is not used yet."""
        size = self.size
        ramp, watched = size.streams_ramp_seconds, size.streams_seconds
        with self._attempt(["crowd-events", "crowd-p50", "crowd-p99"], figures.DIRECT):
            direct = crowd.gather(self.direct, self.upstream.process, size.streams, ramp, watched)
            self._keep_lags(figures.DIRECT, asyncio.run(direct))
        for entrant in self.plain:
            relay = entrant.relay
            count = min(size.streams, relay.streams_most)
            kinds = ["memory-streams", *(_CROWD if count == size.streams else ())]
            with self._attempt(kinds, relay.name) as stack:
                fresh = race.enter(relay, self.upstream.ground(), stack)
                seen = asyncio.run(crowd.warmed(fresh, count, ramp, watched))
                self.board.add("memory-streams", relay.name, seen.megabytes_per_1000)
                if count == size.streams:
                    self.board.add("crowd-cpu", relay.name, seen.cores)
                    self._keep_lags(relay.name, seen)
            for kind in _CROWD if count < size.streams else ():
                self.board.fail(kind, relay.name, f"given {count} streams only")

    def _keep_lags(self, name: str, seen: crowd.Seen) -> None:
        self.board.add("crowd-events", name, 100 * seen.share)
        for kind, share in (("crowd-p50", 0.5), ("crowd-p99", 0.99)):
            self.board.add(kind, name, 1000 * figures.percentile(seen.lags_seconds, share))

    def measure_starts(self) -> None:
        """From nothing to the first right answer."""
        for _ in range(self.size.starts):
            for entrant in self.plain:
                with self._attempt(["start"], entrant.name) as stack:
                    _, seconds = race.first_answer(entrant.relay, self.upstream.ground(), stack)
                    self.board.add("start", entrant.name, seconds)


STAGES: Mapping[str, Callable[[Run], None]] = {
    "rounds": Run.measure_rounds,
    "bodies": Run.measure_bodies,
    "throughput": Run.measure_throughput,
    "crowd": Run.measure_crowd,
    "starts": Run.measure_starts,
}
