"""Large bodies: what a request with an inline image costs, how much memory, and who waits meanwhile.  Does I/O."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import figures
import load
import processes
import race
import shapes

SIZES_MB = (1, 20)
_REST_SECONDS = 2.0
_PROBED = 5
"""Bodies that are sent while somebody else asks: each of them gives one longest wait."""


def probed(port: int, what: Callable[[], None]) -> float:
    """Return the longest wait of a tiny request, in ms, while ``what`` goes on."""
    command = [sys.executable, str(processes.BENCH / "probe.py"), str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as probe:
        try:
            assert probe.stdout is not None
            probe.stdout.readline()
            what()
            told, _ = probe.communicate(timeout=60)
        finally:
            probe.kill()
    waits: list[float] = json.loads(told or b"[]")
    if not waits:
        raise processes.StartError("no tiny request was answered")
    return 1000 * max(waits)


def _send(entrant: race.Entrant, megabytes: int, times: int) -> None:
    """Send bodies, one after the other; raises StartError for a wrong answer."""
    outcome = asyncio.run(load.unary(entrant.target, times, 1, f"image-{megabytes}"))
    if outcome.failures:
        raise processes.StartError(outcome.failures[0])


def _one(entrant: race.Entrant, megabytes: int, count: int, board: figures.Figures) -> None:
    """Measure one relay: first CPU and memory, then who waits."""
    kinds = [f"{kind}-{megabytes}mb" for kind in ("cpu", "peak", "wait")]
    process = entrant.process
    try:
        idle = process.resident_bytes()
        process.forget_peak()
        _send(entrant, megabytes, 1)
        before = asyncio.run(race.settle(process))
        _send(entrant, megabytes, count)
        asyncio.run(race.settle(process))
        used, peak = process.used_since(before), process.peak_bytes() - idle
        waits = [probed(process.port, lambda: _send(entrant, megabytes, 1)) for _ in range(min(count, _PROBED))]
    except race.PROBLEMS as error:
        for kind in kinds:
            board.fail(kind, entrant.name, str(error))
        return
    board.add(kinds[0], entrant.name, 1000 * used / count)
    board.add(kinds[1], entrant.name, peak / 1e6)
    for waited in waits:
        board.add(kinds[2], entrant.name, waited)


def run(entrants: Sequence[race.Entrant], counts: Sequence[int], rounds: int, board: figures.Figures) -> None:
    """Measure every relay; beside them what json alone takes, and the waits where nothing passes."""
    for _ in range(rounds):
        for megabytes, count in zip(SIZES_MB, counts, strict=True):
            board.add(f"cpu-{megabytes}mb", figures.JSON, json_alone_ms(megabytes, count))
            for entrant in entrants:
                if not board.failed(f"cpu-{megabytes}mb", entrant.name):
                    _one(entrant, megabytes, count, board)
                if entrant.name == figures.OURS:
                    waited = probed(entrant.process.port, lambda: time.sleep(_REST_SECONDS))
                    board.add(f"wait-{megabytes}mb", figures.REST, waited)


def json_alone_ms(megabytes: int, count: int) -> float:
    """Return the CPU that json.loads and json.dumps of the body take, in ms."""
    body = shapes.request_body(megabytes)
    began = time.process_time()
    for _ in range(count):
        json.dumps(json.loads(body)).encode()
    return 1000 * (time.process_time() - began) / count
