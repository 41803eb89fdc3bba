"""Those that take part, and the CPU that a load costs one of them.  Does I/O."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import attrs
import environments
import figures
import load
import ours
import processes
import relays
from checks import Target

Load = Callable[[Target], Awaitable[load.Outcome]]
PROBLEMS = (
    processes.StartError,
    processes.TreeChanged,
    environments.CannotSetUp,
    subprocess.SubprocessError,
    OSError,
)
_REST_SECONDS = 0.02


@attrs.frozen
class Entrant:
    """A running relay."""

    relay: relays.Relay
    process: processes.Measured
    target: Target

    @property
    def name(self) -> str:
        """Return its name."""
        return self.relay.name


def enter(relay: relays.Relay, ground: ours.Ground, stack: ExitStack) -> Entrant:
    """Start a relay, to be stopped with ``stack``; raises one of PROBLEMS."""
    process = relay.start(ground)
    stack.callback(process.stop)
    return Entrant(relay, process, Target(relay.name, process.port, relay.face(ground)))


def first_answer(relay: relays.Relay, ground: ours.Ground, stack: ExitStack) -> tuple[Entrant, float]:
    """Start a relay and return with its first right answer, and how many seconds that took."""
    began = time.perf_counter()
    entrant = enter(relay, ground, stack)
    outcome = asyncio.run(load.unary(entrant.target, 1, 1))
    took = time.perf_counter() - began
    if outcome.failures:
        raise processes.StartError(f"{relay.name} answers wrongly: {outcome.failures[0]}\n{entrant.process.tail()}")
    return entrant, took


def refuse(relay: relays.Relay, ground: ours.Ground, stack: ExitStack) -> None:
    """Start a relay that must not trust upstream's certificate; raises StartError when it gives a right answer."""
    entrant = enter(relay, ground, stack)
    if asyncio.run(load.unary(entrant.target, 1, 1)).requests:
        raise processes.StartError(f"{relay.name} does not verify upstream's certificate")


async def settle(process: processes.Measured) -> dict[int, float]:
    """Return the CPU account once the process rests: under 0.1 ms used in 20 ms, or after a second."""
    before = process.cpu()
    for _ in range(50):
        await asyncio.sleep(_REST_SECONDS)
        now = process.cpu()
        if sum(now.values()) - sum(before.values()) < 1e-4:
            return now
        before = now
    return before


async def cost(entrant: Entrant, what: Load) -> tuple[float, load.Outcome]:
    """Return the CPU seconds per request, or per event where there are any, and how the load went."""
    before = await settle(entrant.process)
    outcome = await what(entrant.target)
    await settle(entrant.process)
    used = entrant.process.used_since(before)
    return used / max(1, outcome.events or outcome.requests), outcome


async def measure_cost(
    entrant: Entrant, kind: str, what: Load, board: figures.Figures, units_per_second: float = 1e6
) -> None:
    """Keep what a load costs, or why it cannot be said."""
    if board.failed(kind, entrant.name):
        return
    try:
        seconds, outcome = await cost(entrant, what)
    except PROBLEMS as error:
        board.fail(kind, entrant.name, str(error) or type(error).__name__)
        return
    if outcome.failures:
        board.fail(kind, entrant.name, outcome.failures[0])
    else:
        board.add(kind, entrant.name, units_per_second * seconds)
