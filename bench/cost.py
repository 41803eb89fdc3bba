"""What the operator's side costs a request: CPU of the gateway with usage, and with keys and limits, against without.

    python bench/cost.py [--rounds N] [--requests N] [--short] [--json FILE]

Three kinds of gateway at one upstream: with `usage.enabled: false` and a key in the configuration; with usage
written down; and with usage and a key of `antigravity keys` that has every limit there is. Each is started anew in
every round, since no two processes cost quite the same for as long as they live, and loaded in turn with whole answers
over as many kept connections as the rounds of run.py have. The CPU seconds of the whole process are read, the
writer's thread included. Rounds are compared by themselves: the median may be a tenth more than without.
Exits 1 where it is more, or where usage.db does not have every request, and 2 where something did not start.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import attrs
import faces
import load
import ours
import processes
import shapes
from checks import Target
from machine import machine
from rounds import CONNECTIONS

WARM_REQUESTS = 1024
SETTLE_SECONDS = 1.5
"""After a load: what waited for the writer is written."""
SHARE_MOST = 0.10
LIMITS = (
    "--requests-per-minute=100000000", "--concurrent=100000", "--tokens-per-minute=100000000000",
    "--tokens-per-day=100000000000", "--budget-per-day=1000000", "--budget-per-month=1000000",
)  # fmt: skip


@attrs.define(eq=False)
class Kind:
    """Gateways alike, one in each round, and what their requests cost."""

    name: str
    usage: bool
    has_key: bool = False
    """Whether their clients show a key of the key book, with all limits."""
    micros: list[float] = attrs.field(factory=list)
    """CPU microseconds a request, by round."""
    memory_bytes: int = 0
    done: int = 0
    written: int = 0
    """How many requests their usage.db had in the end."""

    async def round(self, ground: ours.Ground, requests: int) -> None:
        """Start one, warm it up, load it, stop it, and see what it has written."""
        port = processes.free_port()
        file = ours.configure(ground, f"tcp:{port}:interface=127.0.0.1")
        document = json.loads(file.read_text("utf-8"))
        document["usage"] = {"enabled": self.usage}
        file.write_text(json.dumps(document), "utf-8")
        target = Target(self.name, port, faces.gemini(_key(file) if self.has_key else shapes.CLIENT_KEY))
        command = [processes.twistd(), "-n", "--pidfile=", "antigravity", "--config", str(file)]
        process = processes.start(f"gateway-{self.name}", command, port, ground.directory, processes.BENCH.parent)
        try:
            await _loaded(process, target, WARM_REQUESTS)
            self.micros.append(await _loaded(process, target, requests))
            self.memory_bytes = max(self.memory_bytes, process.resident_bytes())
        finally:
            process.stop()
        self.done += WARM_REQUESTS + requests
        if self.usage:
            self.written += _written(Path(document["state_dir"]))


async def _loaded(process: processes.Measured, target: Target, requests: int) -> float:
    """Have so many requests served, and return the CPU microseconds that one took."""
    before = process.cpu()
    outcome = await load.unary(target, requests, CONNECTIONS)
    if outcome.failures:
        raise processes.StartError(f"{target.name}: {outcome.failures[0]}")
    await asyncio.sleep(SETTLE_SECONDS)
    return process.used_since(before) / requests * 1e6


def _written(state: Path) -> int:
    """Return how many requests are in a usage.db."""
    db = sqlite3.connect(f"file:{state / 'usage.db'}?mode=ro", uri=True)
    try:
        return int(db.execute("SELECT sum(requests) FROM days").fetchone()[0])
    finally:
        db.close()


def _key(file: Path) -> str:
    command = [sys.executable, "-m", "gateway.cli", "keys", "create", "bench", *LIMITS, "--json", "--config", str(file)]
    made = subprocess.run(command, capture_output=True, check=False, text=True, cwd=processes.BENCH.parent)
    if made.returncode:
        raise processes.StartError(made.stderr)
    return str(json.loads(made.stdout)["secret"])


async def measure(options: argparse.Namespace, directory: Path, stack: ExitStack) -> int:
    """Measure, print and judge."""
    kinds = [Kind("off", False), Kind("usage", True), Kind("all", True, True)]
    upstream = ours.Upstream.start(directory)
    stack.callback(upstream.process.stop)
    for number in range(options.rounds):
        # Whatever the machine does in the meantime meets each of them as often first as last.
        for kind in kinds[number % 3 :] + kinds[: number % 3]:
            await kind.round(upstream.ground(), options.requests)
    good = True
    for kind in kinds:
        shares = [micros / without - 1 for micros, without in zip(kind.micros, kinds[0].micros, strict=True)]
        share = statistics.median(shares)
        fits = share <= SHARE_MOST
        good = good and fits
        print(
            f"{'pass' if fits else 'FAIL'}: {kind.name}: {statistics.median(kind.micros):.1f} us of CPU a request,"
            f" {share:+.1%} ({min(shares):+.1%} to {max(shares):+.1%}), {kind.memory_bytes / 1e6:.1f} MB"
        )
    for kind in kinds[1:]:
        fits = kind.written == kind.done
        good = good and fits
        print(f"{'pass' if fits else 'FAIL'}: {kind.name}: {kind.written} of {kind.done} written down")
    if options.json is not None:
        costs = {one.name: one.micros for one in kinds}
        document = {"machine": machine(), "requests": options.requests, "cpu_us": costs}
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 0 if good else 1


def main() -> int:
    """Run everything and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, metavar="N", help="(36)")
    parser.add_argument("--requests", type=int, default=6000, metavar="N", help="in each round (6,000)")
    parser.add_argument("--short", action="store_true", help="18 rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    options = parser.parse_args()
    options.rounds = options.rounds or (18 if options.short else 36)
    return processes.run(lambda directory, stack: measure(options, directory, stack))


if __name__ == "__main__":
    sys.exit(main())
