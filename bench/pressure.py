"""Press the gateway for memory: more bodies at once than it may hold, within a process that may not grow.

    python bench/pressure.py [--short] [--json FILE]

Each client brings a body of 1 MiB at the same time, four times as many as ``limits.buffered`` has room for, and the
process's address space may grow by four times that room and no more.  Each is either served in full or told 503
OVERLOADED with Retry-After, nobody's connection just breaks, and a request after it is served as one before.  Exits 1
where something is not so, 2 where something did not start.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import resource
import sys
from contextlib import ExitStack
from pathlib import Path

import attrs
import http1
import pool
import processes
import soak

MIB = 1024 * 1024
BODY_BYTES = MIB
BUFFERED = 48 * MIB
HELD_MS = 1500
"""How long upstream thinks about each, so that the bodies are there together."""
COPIES_MOST = 4
"""What a body may cost while it is taken in, put into its envelope and sent: itself, and three copies."""
TIMEOUT_SECONDS = 120.0


def request(number: int, port: int, size: int) -> bytes:
    """Return a request whose body has ``size`` bytes."""
    order = f"order {number} answer 1 {HELD_MS}"
    turns = [{"role": "user", "parts": [{"text": "x" * size}]}, {"role": "user", "parts": [{"text": order}]}]
    body = json.dumps({"contents": turns}).encode()
    head = (
        f"POST /v1beta/models/gemini-2.5-flash:generateContent HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"x-goog-api-key: {pool.CLIENT_KEY}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def ask(number: int, port: int, size: int) -> str:
    """Make one request on a connection of its own, and return what became of it."""
    _, line = await asyncio.get_running_loop().create_connection(soak.Line, "127.0.0.1", port)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            reader, body = await line.exchange(request(number, port, size))
    except (TimeoutError, http1.BadAnswer) as problem:
        return f"{type(problem).__name__}: {problem}"
    finally:
        if line.transport is not None:
            line.transport.abort()
    if not reader.done:
        return f"the connection broke after status {reader.status or 'none'}"
    if reader.status == 200:
        return "served" if soak.said(body).startswith(f"{number} 0 ") else "another's answer"
    reasons = [one.get("reason") for one in json.loads(body)["error"].get("details", ())]
    if reader.status == 503 and "OVERLOADED" in reasons and reader.headers.get(b"retry-after") == b"1":
        return "told to come back"
    return f"{reader.status} {reasons}"


def limit_address_space(pid: int, more: int) -> int:
    """Let a process take so many bytes more than it has; return its limit."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        most = int(file.read().split()[0]) * resource.getpagesize() + more
    resource.prlimit(pid, resource.RLIMIT_AS, (most, most))
    return most


def peak(pid: int) -> int:
    """Return the most resident bytes that a process ever had."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


async def pressure(options: argparse.Namespace, directory: Path, stack: ExitStack) -> int:
    """Run, print, and return the exit status."""
    clients = options.rounds_of
    running = pool.start(stack, directory, 20, limits={"body": 2 * BODY_BYTES, "buffered": BUFFERED})
    port, pid = running.gateway.port, running.gateway.process.pid
    before = await ask(0, port, 100)
    first = await running.at_rest()
    limit_address_space(pid, BUFFERED * COPIES_MOST)
    seen: collections.Counter[str] = collections.Counter()
    for number in range(options.rounds):
        start = 1 + number * clients
        seen.update(await asyncio.gather(*(ask(start + one, port, BODY_BYTES) for one in range(clients))))
    most = peak(pid)
    after = await ask(10**6, port, 100)
    last = await running.at_rest(first)
    total = options.rounds * clients
    print(
        f"{total} bodies of {BODY_BYTES / MIB:.0f} MiB, {clients} at once, room for {BUFFERED / MIB:.0f} MiB: "
        + ", ".join(f"{count} {what}" for what, count in seen.most_common())
        + f"\nresident {first.resident / MIB:.1f} MiB before, {most / MIB:.1f} at most, {last.resident / MIB:.1f} after"
    )
    served, told = seen["served"], seen["told to come back"]
    fit = options.rounds * BUFFERED // (2 * BODY_BYTES)
    checks = [
        (f"each served or told to come back, {total - served - told} not", served + told == total),
        (f"{told} told to come back", told > 0),
        (f"{served} served, at least {fit}", served >= fit),
        (f"at most {COPIES_MOST} times the room more", most - first.resident <= COPIES_MOST * BUFFERED),
        (f"a small request before: {before}, after: {after}", before == after == "served"),
        (f"descriptors {first.descriptors} before, {last.descriptors} after", last.descriptors <= first.descriptors),
        (f"Deferreds {first.deferreds} before, {last.deferreds} after", last.deferreds <= first.deferreds),
    ]
    for words, good in checks:
        print(f"{'pass' if good else 'FAIL'}: {words}")
    good = all(good for _, good in checks)
    if not good:
        lines = running.gateway.log.read_text("utf-8", "replace").splitlines()
        lines = [line for line in lines if " info " not in line]
        print("--- the gateway wrote beside its requests:", *lines[-40:], sep="\n")
    if options.json is not None:
        document = {"seen": seen, "first": attrs.asdict(first), "last": attrs.asdict(last), "most_resident": most}
        options.json.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    return 0 if good else 1


def main() -> int:
    """Run everything and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one round instead of five")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure to FILE")
    options = parser.parse_args()
    options.rounds = 1 if options.short else 5
    options.rounds_of = 4 * BUFFERED // BODY_BYTES
    return processes.run(lambda directory, stack: pressure(options, directory, stack))


if __name__ == "__main__":
    sys.exit(main())
