"""Requests a second, as wrk counts them.  Does I/O."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

import environments
import load
import processes
import shapes
from checks import Target

CONNECTIONS = 32
_SCRIPT = """
local file = assert(io.open("{body}", "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
{headers}
"""


def requests_a_second(target: Target, seconds: int, directory: Path) -> float:
    """Put as much on a port as it takes, and return how much that was; raises StartError for any wrong answer.

    wrk sees statuses only.  So one connection is compared in full before and after, and the bytes that wrk read
    must be those of as many answers.
    """
    length = len(shapes.request_body())
    _compare(target)
    body, script = directory / "wrk-body.json", directory / "wrk.lua"
    body.write_bytes(target.face.body(shapes.UNARY_MODEL, False))
    fields = {"Content-Type": "application/json", **target.face.headers}
    headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in fields.items())
    script.write_text(_SCRIPT.format(body=body, headers=headers), "utf-8")
    url = f"http://127.0.0.1:{target.port}{target.face.path(shapes.UNARY_MODEL, False)}"
    command = [environments.program("wrk", "wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
    command += ["--timeout", "30s", "-s", str(script), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    _compare(target)
    return read(done.stdout, length)


def read(printed: str, least_bytes: int) -> float:
    """Return what wrk counted in a second; raises StartError where an answer was wrong or short."""
    if wrong := re.search(r"Non-2xx or 3xx responses: \d+|Socket errors:.*", printed):
        raise processes.StartError(f"wrk: {wrong[0]}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    total = re.search(r"(\d+) requests in [\d.]+\w+, ([\d.]+)([KMG]?B) read", printed)
    if rate is None or total is None:
        raise processes.StartError(f"wrk said: {printed[-500:]}")
    units = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}
    # It prints two decimals.
    if float(total[2]) * units[total[3]] * 1.01 < int(total[1]) * least_bytes:
        raise processes.StartError(f"wrk read less than {least_bytes} bytes an answer: {total[0]}")
    return float(rate[1])


def _compare(target: Target) -> None:
    outcome = asyncio.run(load.unary(target, 10, 2))
    if outcome.failures:
        raise processes.StartError(outcome.failures[0])
