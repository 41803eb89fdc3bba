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
from twisted.internet.task import Clock

from gateway import splice
from gateway.edge.intake import Intake
from gateway.edge.reading import READ_BYTES
from gateway.edge.storing import Spare

SIZES_MB = (1, 20)
_FIRST_BYTES = 64 * 1024
"""The first read's, as of any connection; those behind it are larger."""
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
    """Measure every relay; beside them what JSON alone takes, json's and ours, and the waits where nothing passes."""
    for _ in range(rounds):
        for megabytes, count in zip(SIZES_MB, counts, strict=True):
            board.add(f"cpu-{megabytes}mb", figures.JSON, json_alone_ms(megabytes, count))
            board.add(f"cpu-{megabytes}mb", figures.LOOK, look_alone_ms(megabytes, count))
            for entrant in entrants:
                if not board.failed(f"cpu-{megabytes}mb", entrant.name):
                    _one(entrant, megabytes, count, board)
                if entrant.name == figures.OURS:
                    waited = probed(entrant.process.port, lambda: time.sleep(_REST_SECONDS))
                    board.add(f"wait-{megabytes}mb", figures.REST, waited)


def json_alone_ms(megabytes: int, count: int) -> float:
    """Return the CPU that json.loads and json.dumps of the body take, in ms."""
    body = shapes.request_body(megabytes)
    return _each_ms(lambda: json.dumps(json.loads(body)).encode(), count)


def look_alone_ms(megabytes: int, count: int) -> float:
    """Return the CPU that the gateway's own look at the body takes, and taking its object apart, in ms.

    The bytes lie where they are: that they come into their place is the socket's part, and no JSON's.
    """
    body, spare = shapes.request_body(megabytes), Spare(Clock())  # type: ignore[arg-type]

    def look() -> None:
        intake = Intake(len(body), True, spare)
        _feed(intake, body)
        splice.members(intake.take().text)
        intake.drop()

    return _each_ms(look, count)


def _each_ms(what: Callable[[], object], count: int) -> float:
    """Return the CPU that something takes each time, after a first time, in ms."""
    what()
    began = time.process_time()
    for _ in range(count):
        what()
    return 1000 * (time.process_time() - began) / count


def _feed(intake: Intake, body: bytes) -> None:
    """Give a body to who takes it in, in the pieces in which a connection's reads bring it."""
    intake.add(body[:_FIRST_BYTES])
    whole = memoryview(body)
    at = _FIRST_BYTES
    while at < len(body):
        place = intake.place(READ_BYTES)
        part = whole[at : at + (READ_BYTES if place is None else len(place))]
        if place is None or not intake.placed(part):
            intake.add(bytes(part))
        at += len(part)
    intake.end()
