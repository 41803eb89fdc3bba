"""Measure availability: ten credentials, three of them out at any time, the gateway and LiteLLM's proxy beside it.

    python bench/availability.py [--requests N] [--short] [--kind aistudio|codeassist] [--gateway-only] [--json FILE]

Each runs alone against a simulator of its own, under the same load and the same outages.  Exits 1 when the gateway
misses what is expected of it, 2 when something did not start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import attrs
import availability_report
import contenders
import http1
import observed
import outages
import processes
import steady
import talks
from machine import machine

SEED = 3
WARM_UP = 20
WARM_UP_PER_SECOND = 4.0
WARM_UP_FIRST = 1_000_000
"""The number of the first request of the warm-up: its conversations are not those of the run."""
LEAD_SECONDS = 4.0
"""From setting the outages to the first request."""

Start = Callable[[processes.Measured, Path], contenders.Contender]


@attrs.frozen
class Size:
    """How much, how fast, and how long an outage lasts."""

    requests: int
    per_second: float
    outage_seconds: float

    @property
    def seconds(self) -> float:
        """How long the load lasts."""
        return self.requests / self.per_second


FULL = Size(requests=10_000, per_second=25.0, outage_seconds=60.0)
SHORT = Size(requests=1_500, per_second=25.0, outage_seconds=20.0)


async def measure(
    contender: contenders.Contender, simulator: processes.Measured, size: Size, schedule: Sequence[outages.Outage]
) -> availability_report.Outcome:
    """Warm a contender up without outages, then put the load and the outages on it."""
    control = observed.Control(simulator.port)
    load = steady.Load(contender.process.port, contender.headers, SEED, talks.DIALECTS[contender.dialect])
    warm = await load.run(WARM_UP, WARM_UP_PER_SECOND, time.time(), WARM_UP_FIRST)
    wrong = [one for one in warm if one.failure]
    if wrong:
        raise processes.StartError(
            f"{contender.title} answers wrongly while nobody is out: {wrong[0]}\n{contender.process.tail()}"
        )
    observer = observed.Observer(control)
    await observer.begin()
    load = attrs.evolve(load)
    starts_at = time.time() + LEAD_SECONDS
    await control.schedule(schedule, contender.face, starts_at)
    if time.time() > starts_at:
        raise processes.StartError("the outages could not be set in time")
    watching = asyncio.create_task(observer.watch())
    try:
        results = await load.run(size.requests, size.per_second, starts_at)
        if watching.done():
            watching.result()
    finally:
        watching.cancel()
    await observer.poll()
    return availability_report.Outcome(
        title=contender.title,
        version=contender.version,
        face=contender.face,
        settings=contender.settings,
        results=results,
        attempts=observer.attempts,
        statuses=dict(observer.statuses),
        others=dict(observer.others),
        served=dict(observer.served),
        most_open=load.most_open,
        began_at=starts_at,
    )


def one_run(
    start: Start, size: Size, schedule: Sequence[outages.Outage], keep: Path | None, title: str
) -> availability_report.Outcome:
    """Start a simulator and a contender, measure, and stop both."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="antigravity-bench-")))
        simulator = contenders.start_simulator(directory)
        stack.callback(simulator.stop)
        print(f"{title}: starting", file=sys.stderr, flush=True)
        contender = start(simulator, directory)
        stack.callback(contender.process.stop)
        print(f"{title}: {size.requests} requests in {size.seconds:.0f} s", file=sys.stderr, flush=True)
        outcome = asyncio.run(measure(contender, simulator, size, schedule))
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            name = title.replace(" ", "-").replace(",", "").lower()
            (keep / f"{name}.log").write_bytes(contender.process.log.read_bytes())
        return outcome


def starts(options: argparse.Namespace, size: Size) -> dict[str, Start]:
    """Return what is to be measured, by title."""
    found: dict[str, Start] = {
        "gateway": lambda simulator, directory: contenders.start_gateway(options.kind, simulator, directory)
    }
    if options.gateway_only:
        return found

    def litellm(title: str, settings: dict[str, object]) -> Start:
        return lambda simulator, directory: contenders.start_litellm(
            title, options.route, settings, simulator, directory
        )

    ways = contenders.litellm_settings(size.outage_seconds)
    return found | {title: litellm(title, settings) for title, settings in ways.items()}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, metavar="N", help="so many requests at the same rate")
    parser.add_argument("--short", action="store_true", help="1,500 requests in a minute, outages of 20 s")
    parser.add_argument(
        "--kind",
        choices=["aistudio", "codeassist"],
        default="codeassist",
        help="the gateway's credentials: API keys or OAuth accounts (default)",
    )
    parser.add_argument(
        "--route",
        choices=["openai", "gemini"],
        default="openai",
        help="how LiteLLM is asked: by its OpenAI route (default) or its Gemini one,\non which nothing cools down",
    )
    parser.add_argument("--seed", type=int, default=SEED, help="another schedule")
    parser.add_argument("--gateway-only", action="store_true", help="without LiteLLM")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    parser.add_argument("--logs", type=Path, metavar="DIRECTORY", help="keep what the contenders wrote")
    options = parser.parse_args()
    if options.requests is not None and options.requests < 1:
        parser.error("--requests is a number from 1")
    return options


def main() -> int:
    """Run everything and return the exit status."""
    # The processes are stopped on the way out, whoever ends this one.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    options = arguments()
    size = SHORT if options.short else FULL
    if options.requests is not None:
        size = attrs.evolve(size, requests=options.requests)
    schedule = outages.outages(options.seed, size.seconds, size.outage_seconds)
    facts = machine()
    outcomes: list[availability_report.Outcome] = []
    try:
        if not options.gateway_only:
            contenders.set_up_litellm()
        for title, start in starts(options, size).items():
            outcomes.append(one_run(start, size, schedule, options.logs, title))
    except (processes.StartError, observed.Lost, http1.BadAnswer, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    finally:
        if outcomes:
            print(", ".join(f"{name} {value}" for name, value in facts.items() if name != "versions"))
            kinds = f"gateway on {options.kind}, {size.outage_seconds:.0f} s outages, seed {options.seed}"
            print(f"{kinds}, load average {os.getloadavg()[0]:.1f} at the end\n")
            print(availability_report.table(outcomes))
        if outcomes and options.json is not None:
            document = {
                "machine": facts,
                "size": attrs.asdict(size),
                "seed": options.seed,
                "runs": [one.document(schedule) for one in outcomes],
            }
            options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    checks = outcomes[0].checks()
    for words, good in checks:
        print(f"{'pass' if good else 'FAIL'}: gateway: {words}")
    return 0 if all(good for _, good in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
