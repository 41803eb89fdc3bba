"""Run the bench: the gateway beside a bare Klein and treq relay, same upstream, same load, same run.

    python bench/run.py [--short] [--json FILE]

Rounds alternate between the two; CPU is the measured process's own by the kernel's account, divided by
the requests or events that were counted and found right; ratios are taken pair by pair.  Exits 1 when
any answer was wrong, 2 when something did not start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path

import attrs
import load
import processes
import report

Load = Callable[[load.Target], Awaitable[load.Outcome]]


@attrs.frozen
class Size:
    """How much of everything."""

    rounds: int
    unary_requests: int
    burst_streams: int
    paced_events: int
    ttft_streams: int


FULL = Size(rounds=7, unary_requests=4000, burst_streams=100, paced_events=250, ttft_streams=200)
SHORT = Size(rounds=3, unary_requests=1000, burst_streams=40, paced_events=100, ttft_streams=100)
CONNECTIONS = 8
BURST_EVENTS = 200
PACED_STREAMS = 40
PACED_MS = 20
TTFT_PER_SECOND = 50.0
TTFT_EVENTS = 3


def loads(size: Size) -> dict[str, Load]:
    """Return the loads whose CPU is measured, by the title of their row."""
    return {
        "unary request, 2 KB": lambda target: load.unary(target, size.unary_requests, CONNECTIONS),
        "SSE event, burst": lambda target: load.streams(
            target, f"burst-{BURST_EVENTS}", BURST_EVENTS, size.burst_streams // 4, 4
        ),
        f"SSE event, {PACED_MS} ms apart": lambda target: load.streams(
            target,
            f"paced-{size.paced_events}-{PACED_MS}ms",
            size.paced_events,
            1,
            PACED_STREAMS,
            spread_seconds=PACED_MS / 1000,
        ),
    }


def first_events(size: Size) -> Load:
    """Return the load that times first events, at a low fixed rate."""
    model = f"paced-{TTFT_EVENTS}-{PACED_MS}ms"
    return lambda target: load.streams_at_rate(
        target, model, TTFT_EVENTS, size.ttft_streams, TTFT_PER_SECOND
    )


async def settled_cpu(measured: processes.Measured) -> float:
    """Return the CPU time once the process rests: under 0.1 ms used in 20 ms, or after a second."""
    before = measured.cpu_seconds()
    for _ in range(50):
        await asyncio.sleep(0.02)
        now = measured.cpu_seconds()
        if now - before < 1e-4:
            return now
        before = now
    return before


@attrs.define
class Run:
    """One run: the processes and what was seen so far."""

    subjects: tuple[processes.Measured, processes.Measured]
    upstream: processes.Measured
    failures: list[str] = attrs.Factory(list)
    costs: dict[str, tuple[list[float], list[float]]] = attrs.Factory(dict)
    first: dict[str, list[float]] = attrs.Factory(dict)

    def _note(self, name: str, title: str, outcome: load.Outcome) -> None:
        """Keep the failures of ``outcome``."""
        self.failures += [f"{name}, {title}: {failure}" for failure in outcome.failures]

    async def cost_us(self, measured: processes.Measured, title: str, what: Load) -> float:
        """Return the CPU in microseconds per request, or per event where there are any."""
        before = await settled_cpu(measured)
        outcome = await what(load.Target(measured.name, measured.port))
        used = await settled_cpu(measured) - before
        self._note(measured.name, title, outcome)
        if measured.children():
            self.failures.append(f"{measured.name} has children whose CPU is not counted")
        return 1e6 * used / max(1, outcome.events or outcome.requests)

    async def round(self, size: Size, number: int) -> None:
        """Measure every load once on both, the first one first in every other round."""
        order = (0, 1) if number % 2 == 0 else (1, 0)
        for title, what in loads(size).items():
            costs = self.costs.setdefault(title, ([], []))
            for which in order:
                costs[which].append(await self.cost_us(self.subjects[which], title, what))
        for measured in (self.upstream, *(self.subjects[which] for which in order)):
            await self.time_first_events(measured, size)

    async def time_first_events(self, measured: processes.Measured, size: Size) -> None:
        """Keep the times to the first event."""
        name = "upstream, direct" if measured is self.upstream else measured.name
        outcome = await first_events(size)(load.Target(name, measured.port))
        self._note(name, "first events", outcome)
        self.first.setdefault(name, []).extend(outcome.first_event_seconds)

    async def warm_up(self, size: Size) -> None:
        """Put every kind of load on both once, uncounted but checked."""
        small = attrs.evolve(size, unary_requests=400, burst_streams=8, paced_events=10, ttft_streams=10)
        for measured in self.subjects:
            for title, what in (loads(small) | {"first events": first_events(small)}).items():
                outcome = await what(load.Target(measured.name, measured.port))
                self._note(measured.name, f"warm-up, {title}", outcome)

    async def whole(self, size: Size) -> None:
        """Warm up and run the rounds; stop early when something was wrong."""
        await self.warm_up(size)
        for number in range(size.rounds):
            if self.failures:
                return
            await self.round(size, number)
            print(f"round {number + 1} of {size.rounds}", file=sys.stderr, flush=True)

    def rows(self) -> list[report.Row]:
        """Return the finished rows."""
        return [report.Row(title, tuple(a), tuple(b)) for title, (a, b) in self.costs.items()]


def machine() -> dict[str, object]:
    """Return what figures depend on."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "time": time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime()),
        "versions": {name: metadata.version(name) for name in ("Twisted", "treq", "klein", "msgspec")},
    }


def main() -> int:
    """Run everything and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--short", action="store_true", help="fewer rounds and requests")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    parser.add_argument(
        "--self-check", action="store_true", help="measure the bare relay beside itself: ratios should be 1"
    )
    options = parser.parse_args()
    size = SHORT if options.short else FULL
    facts = machine()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="antigravity-bench-")))
        try:
            upstream = processes.start_upstream(directory)
            stack.callback(upstream.stop)
            baseline = processes.start_bare("bare", upstream, directory)
            stack.callback(baseline.stop)
            if options.self_check:
                subject = processes.start_bare("bare again", upstream, directory)
            else:
                subject = processes.start_gateway(upstream, directory)
            stack.callback(subject.stop)
            run = Run((baseline, subject), upstream)
            idle = {each.name: each.resident_bytes() for each in run.subjects}
            asyncio.run(run.whole(size))
            memory = {each.name: (idle[each.name], each.resident_bytes()) for each in run.subjects}
        except processes.StartError as error:
            print(error, file=sys.stderr)
            return 2
        logs = {each.name: each.tail() for each in run.subjects}
    print(", ".join(f"{name} {value}" for name, value in facts.items() if name != "versions"))
    if run.failures:
        for failure in run.failures[:20]:
            print(f"wrong: {failure}", file=sys.stderr)
        for name, text in logs.items():
            print(f"--- {name} wrote at last:\n{text}", file=sys.stderr)
        return 1
    print("\n" + report.cpu_table(run.rows(), baseline.name, subject.name))
    print("\n" + report.ttft_table(run.first))
    print("\n" + report.memory_table(memory))
    if options.json is not None:
        document = {
            "machine": facts,
            "size": attrs.asdict(size),
            "cpu": [attrs.asdict(row) | {"times_cheaper": attrs.asdict(row.ratio)} for row in run.rows()],
            "first_event_seconds": run.first,
            "memory_bytes": memory,
        }
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
