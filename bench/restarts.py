"""Restart the gateway again and again under load, with its socket held by a parent as systemd holds it.

    python bench/restarts.py [--restarts N] [--per-second N] [--short] [--json FILE]

200 requests a second over kept connections and 50 open streams go on while one process drains and the next one starts.
Every request carries an id, which client and simulator write down.  Exits 1 unless none was lost, none doubled, none
refused, and no stream was cut; 2 when something did not start.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs
import http1
import observed
import processes
from machine import machine

PER_SECOND = 200
STREAMS = 50
CALM_SECONDS = 3.0
"""Between a start and the next end: what waited meanwhile is answered beside what comes."""
DRAIN_SECONDS = 30
ANSWER_SECONDS = 60.0
PACE_SECONDS = 0.06
"""Between two events of a stream, of which there are some twenty."""
POLL_SECONDS = 0.5
KEPT = 20_000
"""So many requests the simulator's record keeps: more than come between two looks, whatever the machine does."""
GOALS = ("lost", "never_seen_upstream", "doubled", "refused", "cut", "bad_exits")
"""What there must be none of."""
REST_SECONDS = 0.8
"""A kept connection that rested longer is not used again.  The gateway keeps an idle one for a second after SIGTERM, so
that none is closed under a request of a client that does so too."""
MODEL = "gemini-2.5-flash"
KEY = "restart-bench-key"

_ID = re.compile(r"id-[us][0-9]+")
_ACTIVATED = 'exec env LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http "$@" 3<&'
"""As systemd does: the socket is descriptor 3, and the process is told that it is the one that is meant."""


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@attrs.define
class Journal:
    """What the client saw of every request, by its id."""

    answered: dict[str, float] = attrs.Factory(dict)
    """In seconds from when it was due."""
    failed: dict[str, str] = attrs.Factory(dict)

    @property
    def refused(self) -> list[str]:
        """Those for which no connection was to be had."""
        return [one for one, why in self.failed.items() if why.startswith("refused")]

    @property
    def cut(self) -> list[str]:
        """Streams that began and did not come to their end."""
        return [one for one, why in self.failed.items() if why.startswith("cut")]


@attrs.define(eq=False)
class Client:
    """Kept connections to one port; each carries one exchange at a time."""

    port: int
    journal: Journal
    _idle: list[tuple[float, Streams]] = attrs.Factory(list)

    async def ask(self, name: str, streams: bool, due: float) -> None:
        """Make one request and write down what became of it."""
        stage = "refused"
        kept: Streams | None = None
        answer, body = http1.ResponseReader(), b""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                kept = await self._connection()
                stage = "lost"
                kept[1].write(_request(name, streams))
                while not answer.done:
                    data = await kept[0].read(65536)
                    if not data:
                        raise ConnectionResetError("the connection ended")
                    body += answer.feed(data)
                    stage = "cut" if streams and body else stage
            if answer.status != 200 or set(_ID.findall(body.decode("utf-8", "replace"))) != {name}:
                raise http1.BadAnswer(f"{answer.status} {body[:300]!r}")
            if streams and body.count(b"data: ") < 3:
                raise http1.BadAnswer(f"a stream of {body.count(b'data: ')} events")
        except (OSError, TimeoutError, http1.BadAnswer) as wrong:
            self.journal.failed[name] = f"{stage}: {type(wrong).__name__}: {wrong}"
            if kept is not None:
                kept[1].close()
            return
        self.journal.answered[name] = time.monotonic() - due
        if answer.headers.get(b"connection", b"").lower() == b"close":
            kept[1].close()
        else:
            self._idle.append((time.monotonic(), kept))

    async def _connection(self) -> Streams:
        while self._idle:
            since, (reader, writer) = self._idle.pop()
            fresh = time.monotonic() - since < REST_SECONDS
            if fresh and not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self.port)

    def close(self) -> None:
        """Close what is kept."""
        for _, (_, writer) in self._idle:
            writer.close()


def _request(name: str, streams: bool) -> bytes:
    said = f"{name} " + "and so on " * 10 if streams else name
    body = json.dumps({"contents": [{"role": "user", "parts": [{"text": said}]}]}).encode()
    verb = "streamGenerateContent?alt=sse" if streams else "generateContent"
    return (
        f"POST /v1beta/models/{MODEL}:{verb} HTTP/1.1\r\nHost: localhost\r\nx-goog-api-key: {KEY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


@attrs.define(eq=False)
class Load:
    """The requests and streams that go on until they are told to end."""

    client: Client
    per_second: float
    over: bool = False
    _asked: int = 0
    _tasks: set[asyncio.Task[None]] = attrs.Factory(set)

    async def run(self) -> None:
        """Make requests evenly and keep the streams open; returns when the last of them is answered."""
        streams = [asyncio.create_task(self._stream(number)) for number in range(STREAMS)]
        begun = time.monotonic()
        while not self.over:
            due = begun + self._asked / self.per_second
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
            self._asked += 1
            task = asyncio.create_task(self.client.ask(f"id-u{self._asked}", False, due))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await asyncio.gather(*self._tasks, *streams)

    async def _stream(self, number: int) -> None:
        count = 0
        await asyncio.sleep(number / STREAMS)
        while not self.over:
            count += 1
            await self.client.ask(f"id-s{number * 1_000_000 + count}", True, time.monotonic())


@attrs.define(eq=False)
class Parent:
    """Holds the socket, starts one process after the other, and hears what they tell."""

    directory: Path
    upstream: int
    listener: socket.socket = attrs.field(init=False)
    port: int = attrs.field(init=False)
    _told: socket.socket = attrs.field(init=False)
    _process: subprocess.Popen[bytes] | None = None

    def __attrs_post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = self.listener.getsockname()[1]
        self._told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._told.bind(str(self.directory / "notify"))
        state = self.directory / "state"
        state.mkdir(mode=0o700)
        credentials = [{"name": f"key-{n}", "api_key": f"good-{n}"} for n in range(4)]
        origin = f"http://127.0.0.1:{self.upstream}"
        document = {
            "proxy": {"listen": "systemd:domain=INET:name=http", "api_key": KEY},
            "admin": {"listen": ""},
            "upstreams": {"studio": {"kind": "aistudio", "base_urls": [origin], "credentials": credentials}},
            "timeouts": {"drain": DRAIN_SECONDS},
            "state_dir": str(state),
        }
        file = self.directory / "antigravity.yaml"
        file.touch(mode=0o600)
        file.write_text(json.dumps(document), "utf-8")

    async def start(self) -> float:
        """Start a process, and return how many seconds it took until it was ready."""
        begun = time.monotonic()
        process = self._process = self._spawned()
        loop = asyncio.get_running_loop()
        self._told.setblocking(False)
        async with asyncio.timeout(processes.START_SECONDS):
            told = b""
            while b"READY=1" not in told.split(b"\n") and process.poll() is None:
                told = await loop.sock_recv(self._told, 4096)
        if process.poll() is not None:
            raise processes.StartError((self.directory / "gateway.log").read_text("utf-8")[-2000:])
        return time.monotonic() - begun

    def _spawned(self) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(processes.FOREIGN)}
        environment["NOTIFY_SOCKET"] = str(self.directory / "notify")
        descriptor = self.listener.fileno()
        command = [processes.twistd(), "-n", "--pidfile=", "antigravity", "--config"]
        with (self.directory / "gateway.log").open("ab") as output:
            return subprocess.Popen(
                ["sh", "-c", f"{_ACTIVATED}{descriptor}", "sh", *command, str(self.directory / "antigravity.yaml")],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, pass_fds=(descriptor,),
            )  # fmt: skip

    async def stop(self) -> tuple[float, int]:
        """Send SIGTERM, and return how long the end took and its status."""
        assert self._process is not None
        begun = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        status = await asyncio.to_thread(self._process.wait)
        return time.monotonic() - begun, status

    def close(self) -> None:
        """End what is left."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self.listener.close()
        self._told.close()


async def _watch(control: observed.Control, seen: collections.Counter[str], over: asyncio.Event) -> None:
    """Write down the ids that reach the simulator, each entry of its record once."""
    last = 0
    while True:
        ended = over.is_set()
        fresh = (await control.ask("GET", f"/requests?after={last}"))["requests"]
        if fresh and fresh[0]["id"] != last + 1:
            raise observed.Lost(f"the simulator's record has a gap before {fresh[0]['id']}")
        for entry in fresh:
            last = entry["id"]
            found = _ID.search(entry["body"])
            if found:
                seen[found[0]] += 1
        if ended:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), POLL_SECONDS)


async def measure(restarts: int, per_second: float, directory: Path, upstream: int) -> dict[str, Any]:
    """Do it all, and return the figures."""
    parent, journal = Parent(directory, upstream), Journal()
    seen: collections.Counter[str] = collections.Counter()
    over = asyncio.Event()
    client = Client(parent.port, journal)
    load = Load(client, per_second)
    starts, stops, statuses = [await parent.start()], [], []
    watching = asyncio.create_task(_watch(observed.Control(upstream), seen, over))
    running = asyncio.create_task(load.run())
    try:
        for number in range(restarts):
            await asyncio.sleep(CALM_SECONDS)
            seconds, status = await parent.stop()
            stops.append(seconds)
            statuses.append(status)
            starts.append(await parent.start())
            if (number + 1) % 10 == 0:
                print(f"{number + 1} restarts, {len(journal.answered)} answered, {len(journal.failed)} not", flush=True)
        await asyncio.sleep(CALM_SECONDS)
        load.over = True
        await running
        over.set()
        await watching
    finally:
        for task in (running, watching):
            task.cancel()
        client.close()
        parent.close()
    waits = sorted(journal.answered.values())
    return {
        "restarts": restarts,
        "per_second": per_second,
        "requests": len(journal.answered) + len(journal.failed),
        "streams": sum(one.startswith("id-s") for one in journal.answered),
        "answered": len(journal.answered),
        "lost": sorted(set(journal.failed) - set(journal.refused) - set(journal.cut))[:20],
        "never_seen_upstream": sorted(set(journal.answered) - set(seen))[:20],
        "doubled": sorted(one for one, times in seen.items() if times > 1)[:20],
        "refused": journal.refused[:20],
        "cut": journal.cut[:20],
        "failures": dict(list(journal.failed.items())[:20]),
        "bad_exits": [status for status in statuses if status],
        "longest_wait_seconds": round(waits[-1], 3) if waits else None,
        "median_seconds": round(waits[len(waits) // 2], 4) if waits else None,
        "drain_seconds": {"median": round(sorted(stops)[len(stops) // 2], 2), "most": round(max(stops), 2)},
        "start_seconds": {"median": round(sorted(starts)[len(starts) // 2], 2), "most": round(max(starts), 2)},
        "machine": machine(),
    }


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--restarts", type=int, default=100)
    parser.add_argument("--per-second", type=float, default=PER_SECOND)
    parser.add_argument("--short", action="store_true", help="five restarts")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="restarts-") as name:
        directory = Path(name)
        port = processes.free_port()
        command = [processes.twistd(), "-n", "--pidfile=", "antigravity-simulator", "--port", str(port)]
        try:
            command += ["--pace", str(PACE_SECONDS), "--keep", str(KEPT)]
            simulator = processes.start("simulator", command, port, directory, cwd=directory)
            try:
                figures = asyncio.run(measure(5 if given.short else given.restarts, given.per_second, directory, port))
            finally:
                simulator.stop()
        except (processes.StartError, TimeoutError) as error:
            print(f"something did not start: {error}", file=sys.stderr)
            return 2
    print(json.dumps(figures, indent=2))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    wrong = [name for name in GOALS if figures[name]]
    print("FAILED: " + ", ".join(wrong) if wrong else "none lost, none doubled, none refused, none cut")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
