"""What the operator's side costs a request: CPU of the gateway with usage, and with keys and limits, against without.

    python bench/cost.py [--rounds N] [--requests N] [--short] [--json FILE]

Three kinds of gateway at one upstream: with `usage.enabled: false` and a key in the configuration; with usage
written down; and with usage and a key of `antigravity keys` that has every limit there is. There are two of each,
since no two processes cost quite the same. They are loaded in turn, round by round, with whole answers over kept
connections, and the CPU seconds of the whole process are read, the writer's thread included. The cheapest round of
each kind, which others on the machine disturbed the least, is compared: a tenth more than without may be spent.
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

CONNECTIONS = 32
"""Each makes as many requests as the others: numbers of requests are multiples of it."""
INSTANCES = 2
WARM_REQUESTS = 1024
SETTLE_SECONDS = 1.5
"""After a load: what waited for the writer is written."""
SHARE_MOST = 0.10
LIMITS = (
    "--requests-per-minute=100000000", "--concurrent=100000", "--tokens-per-minute=100000000000",
    "--tokens-per-day=100000000000", "--budget-per-day=1000000", "--budget-per-month=1000000",
)  # fmt: skip


@attrs.define(eq=False)
class Instance:
    """One gateway."""

    process: processes.Measured
    target: Target
    state: Path

    async def loaded(self, requests: int) -> float:
        """Have so many requests served, and return the CPU microseconds that one took."""
        before = self.process.cpu()
        outcome = await load.unary(self.target, requests, CONNECTIONS)
        if outcome.failures:
            raise processes.StartError(f"{self.target.name}: {outcome.failures[0]}")
        await asyncio.sleep(SETTLE_SECONDS)
        return self.process.used_since(before) / requests * 1e6

    def written(self) -> int:
        """Return how many requests are in its usage.db."""
        db = sqlite3.connect(f"file:{self.state / 'usage.db'}?mode=ro", uri=True)
        try:
            return int(db.execute("SELECT sum(requests) FROM days").fetchone()[0])
        finally:
            db.close()


@attrs.define(eq=False)
class Kind:
    """Some gateways alike, and what their requests cost."""

    name: str
    usage: bool
    has_key: bool = False
    """Whether their clients show a key of the key book, with all limits."""
    instances: list[Instance] = attrs.field(factory=list)
    micros: list[float] = attrs.field(factory=list)
    """CPU microseconds a request, by round."""
    done: int = 0

    def start(self, ground: ours.Ground) -> Instance:
        """Start one more, on a ground of its own."""
        port = processes.free_port()
        file = ours.configure(ground, f"tcp:{port}:interface=127.0.0.1")
        document = json.loads(file.read_text("utf-8"))
        document["usage"] = {"enabled": self.usage}
        file.write_text(json.dumps(document), "utf-8")
        key = _key(file) if self.has_key else shapes.CLIENT_KEY
        command = [processes.twistd(), "-n", "--pidfile=", "antigravity", "--config", str(file)]
        process = processes.start(f"gateway-{self.name}", command, port, ground.directory, processes.BENCH.parent)
        instance = Instance(process, Target(self.name, port, faces.gemini(key)), Path(document["state_dir"]))
        self.instances.append(instance)
        return instance

    async def loaded(self, number: int, requests: int) -> float:
        """Load the one whose round it is."""
        self.done += requests
        return await self.instances[number % len(self.instances)].loaded(requests)


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
    for kind in kinds * INSTANCES:
        stack.callback(kind.start(upstream.ground()).process.stop)
    for number in range(INSTANCES):
        for kind in kinds:
            await kind.loaded(number, WARM_REQUESTS)
    for number in range(options.rounds):
        # Whatever the machine does in the meantime meets each of them as often first as last.
        for kind in kinds[number % 3 :] + kinds[: number % 3]:
            kind.micros.append(await kind.loaded(number, options.requests))
    without = min(kinds[0].micros)
    good = True
    for kind in kinds:
        share = min(kind.micros) / without - 1
        memory = max(one.process.resident_bytes() for one in kind.instances) / 1e6
        words = f"{kind.name}: {min(kind.micros):.1f} us of CPU a request, {share:+.1%}"
        words += f" (median {statistics.median(kind.micros):.1f}), {memory:.1f} MB"
        good = good and share <= SHARE_MOST
        print(f"{'pass' if share <= SHARE_MOST else 'FAIL'}: {words}")
    for kind in kinds[1:]:
        found = sum(one.written() for one in kind.instances)
        good = good and found == kind.done
        print(f"{'pass' if found == kind.done else 'FAIL'}: {kind.name}: {found} of {kind.done} written down")
    if options.json is not None:
        costs = {one.name: one.micros for one in kinds}
        document = {"machine": machine(), "requests": options.requests, "cpu_us": costs}
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 0 if good else 1


def main() -> int:
    """Run everything and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, metavar="N", help="(16)")
    parser.add_argument("--requests", type=int, default=3008, metavar="N", help="in each round (3,008)")
    parser.add_argument("--short", action="store_true", help="8 rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    options = parser.parse_args()
    options.requests = max(options.requests // CONNECTIONS, 1) * CONNECTIONS
    options.rounds = options.rounds or (8 if options.short else 16)
    return processes.run(lambda directory, stack: measure(options, directory, stack))


if __name__ == "__main__":
    sys.exit(main())
