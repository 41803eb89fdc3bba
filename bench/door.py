"""What strangers, slow clients and a mad upstream cost the gateway.  Starts processes; does I/O.

``python bench/door.py`` measures memory and a good client's latency under each of them, prints a table, and fails when
a figure is over its limit.  ``--short`` takes less of everything, ``--only NAME`` one part.  It needs slowhttptest.
"""

from __future__ import annotations

import argparse
import itertools
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import hostile
import processes

KIB, MIB, GIB = 1024, 1024**2, 1024**3
KEY = "a-client-key-of-the-bench"
BODY = b'{"contents":[{"role":"user","parts":[{"text":"Hello"}]}]}'
MORE_MOST = 16 * MIB
READER_MOST = 256 * KIB
P99_MOST = 2.0
DRIBBLE_SECONDS = 0.25


@attrs.frozen
class Row:
    """One figure, and what it may be."""

    what: str
    figure: float
    most: float
    unit: str

    @property
    def good(self) -> bool:
        return self.figure <= self.most


@attrs.frozen
class Sizes:
    """How much of everything."""

    body: int
    line: int
    bomb: int
    readers: int
    reader_seconds: float
    slow_connections: int
    calm_seconds: float
    slow_seconds: int


FULL = Sizes(GIB, 100_000_000, 10 * GIB, 200, 60.0, 2000, 20.0, 30)
SHORT = Sizes(128 * MIB, 100_000_000, 2 * GIB, 50, 8.0, 300, 4.0, 14)


@attrs.define(eq=False)
class House:
    """A gateway and the upstream behind it."""

    gateway: processes.Measured
    upstream: processes.Measured

    def stop(self) -> None:
        """Stop both."""
        self.gateway.stop()
        self.upstream.stop()

    def more(self, deed: Callable[[], object]) -> int:
        """Return by how much the gateway's peak memory grew while a deed was done."""
        before = self.gateway.resident_bytes()
        proc = Path(f"/proc/{self.gateway.process.pid}")
        # See proc(5): the peak begins anew at what is resident now.
        (proc / "clear_refs").write_text("5", "ascii")
        deed()
        line = next(line for line in (proc / "status").read_text("ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * KIB - before

    def connect(self, receive_buffer: int = 0) -> socket.socket:
        """Return a connection to the gateway."""
        client = socket.socket()
        if receive_buffer:
            # Before the connection: the window is agreed on with the handshake.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(120)
        client.connect(("127.0.0.1", self.gateway.port))
        return client


def start(directory: Path, size: int, **limits: Any) -> House:
    """Start an upstream that sends so many bytes where it sends too many, and a gateway in front of it."""
    directory.mkdir()
    port = processes.free_port()
    command = [sys.executable, str(processes.BENCH / "hostile.py"), "--port", str(port), "--bytes", str(size)]
    upstream = processes.start("hostile", command, port, directory)
    port = processes.free_port()
    credentials = [{"name": "bench", "api_key": "an-upstream-key-of-the-bench"}]
    configuration = {
        "proxy": {"listen": f"tcp:{port}:interface=127.0.0.1", "api_key": KEY},
        "upstreams": {
            "studio": {
                "kind": "aistudio",
                "base_urls": [f"http://127.0.0.1:{upstream.port}"],
                "credentials": credentials,
            }
        },
        "limits": limits,
        "admin": {"listen": ""},
        "state_dir": str(directory / "state"),
        "log": {"level": "error"},
    }
    file = directory / "antigravity.yaml"
    file.touch(0o600)
    file.write_text(json.dumps(configuration), "utf-8")  # JSON is YAML
    command = [processes.twistd(), "-n", "--pidfile=", "antigravity", "--config", str(file)]
    try:
        gateway = processes.start("gateway", command, port, directory, cwd=processes.BENCH.parent)
    except processes.StartError:
        upstream.stop()
        raise
    house = House(gateway, upstream)
    for _ in range(50):
        ask(house, "plain")
    return house


def head(model: str, verb: str = "generateContent", length: int = len(BODY), *fields: str, key: str = KEY) -> bytes:
    """Return a request's head."""
    query = "?alt=sse" if verb.startswith("stream") else ""
    lines = [f"POST /v1beta/models/{model}:{verb}{query} HTTP/1.1", "Host: localhost", f"x-goog-api-key: {key}"]
    return "\r\n".join([*lines, f"Content-Length: {length}", *fields, "\r\n"]).encode("ascii")


def ask(house: House, model: str, verb: str = "generateContent") -> bytes:
    """Ask once over a connection of its own and return what came first."""
    with house.connect() as client:
        client.sendall(head(model, verb, len(BODY), "Connection: close") + BODY)
        received = client.recv(65536)
        while client.recv(65536):
            pass
    return received


def poured(house: House, first: bytes, pieces: Iterator[bytes], expected: bytes) -> None:
    """Send all that the gateway takes, and see that it answered as expected."""
    with house.connect() as client:
        client.sendall(first)
        try:
            for piece in pieces:
                client.sendall(piece)
        except OSError:
            # It has heard enough.
            pass
        try:
            received = client.recv(65536)
        except OSError:
            received = b""
    if received and not received.startswith(expected):
        raise SystemExit(f"expected {expected!r}, got {received[:200]!r}")


def zeros(size: int) -> Iterator[bytes]:
    """Yield so many bytes in pieces."""
    return itertools.repeat(bytes(MIB), size // MIB)


def strangers(sizes: Sizes, directory: Path) -> list[Row]:
    """What who has no key costs, and bytes that are no head, no JSON or not what they seem."""
    house = start(directory / "strangers", sizes.line)
    try:
        length = sizes.body
        wrong = head("plain", "generateContent", length, key="a-wrong-key")
        length_field = b"Content-Length: %d" % len(BODY)
        chunked = head("plain", key="a-wrong-key").replace(length_field, b"Transfer-Encoding: chunked")
        deep = min(sizes.body, 64 * MIB)
        rows = []

        def row(what: str, first: bytes, pieces: Iterator[bytes], expected: bytes) -> None:
            more = house.more(lambda: poured(house, first, pieces, expected))
            rows.append(Row(what, more / MIB, MORE_MOST / MIB, "MiB more"))

        row(f"{length // MIB} MiB without a key", wrong, zeros(length), b"HTTP/1.1 401")
        pieces = (b"%x\r\n%s\r\n" % (MIB, bytes(MIB)) for _ in range(length // MIB))
        row(f"{length // MIB} MiB in chunks without a key", chunked, pieces, b"HTTP/1.1 401")
        row("a request line of 100 MB", b"GET /", zeros(sizes.line), b"HTTP/1.1 4")
        row("a header field of 100 MB", b"GET / HTTP/1.1\r\nX-A: ", itertools.repeat(b"a" * MIB, 95), b"HTTP/1.1 4")
        gzipped = head("plain", "generateContent", 10**12, "Content-Encoding: gzip")
        row(f"{sizes.bomb // GIB} GiB in gzip from a client", gzipped, hostile.members(sizes.bomb), b"HTTP/1.1 415")
        nested = head("plain", "generateContent", deep)
        row("64 MiB of open brackets", nested, itertools.repeat(b"[" * MIB, deep // MIB), b"HTTP/1.1 400")
        return rows
    finally:
        house.stop()


def upstreams(sizes: Sizes, directory: Path) -> list[Row]:
    """What an upstream costs that sends too much; an event within its limit has to be held, and is not counted."""
    rows = []
    for limit in (MIB, 64 * MIB):
        house = start(directory / f"upstream-{limit // MIB}", sizes.line, event=limit)
        try:
            for what, model, verb in (
                ("line in a stream", "line", "streamGenerateContent"),
                ("answer in one piece", "wide", "generateContent"),
            ):
                more = house.more(partial(ask, house, model, verb))
                most = (MORE_MOST + (limit if limit > MIB else 0)) / MIB
                rows.append(Row(f"100 MB {what}, limits.event {limit // MIB} MiB", more / MIB, most, "MiB more"))
        finally:
            house.stop()
    house = start(directory / "bomb", sizes.bomb)
    try:
        for verb in ("generateContent", "streamGenerateContent"):
            more = house.more(partial(ask, house, "bomb", verb))
            rows.append(Row(f"{sizes.bomb // GIB} GiB in gzip from upstream, {verb}", more / MIB, 16, "MiB more"))
    finally:
        house.stop()
    house = start(directory / "crumbs", sizes.line)
    try:
        more = house.more(partial(ask, house, "crumbs"))
        rows.append(Row("10 MB in chunks of one byte", more / MIB, (10_000_000 + MORE_MOST) / MIB, "MiB more"))
    finally:
        house.stop()
    return rows


def readers(sizes: Sizes, directory: Path) -> list[Row]:
    """What readers at 1 KiB/s of an upstream without an end cost, and whether that grows."""
    house = start(directory / "readers", sizes.line)
    request = head("endless", "streamGenerateContent") + BODY
    clients: list[socket.socket] = []
    try:
        before = house.gateway.resident_bytes()
        for _ in range(sizes.readers):
            client = house.connect(2048)
            client.sendall(request)
            client.setblocking(False)
            clients.append(client)
        # The buffers of so many streams take their time to fill; from then on nothing may grow.
        full = _dribble(house, clients, sizes.reader_seconds * 2 / 3)
        end = _dribble(house, clients, sizes.reader_seconds / 3)
    finally:
        for client in clients:
            client.close()
        house.stop()
    each = (max(full, end) - before) / sizes.readers / KIB
    return [
        Row(f"{sizes.readers} readers at 1 KiB/s, each", each, READER_MOST / KIB, "KiB"),
        Row("... and growth over the last third, each", (end - full) / sizes.readers / KIB, 8, "KiB"),
    ]


def _dribble(house: House, clients: list[socket.socket], seconds: float) -> int:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for client in clients:
            try:
                if not client.recv(int(KIB * DRIBBLE_SECONDS)):
                    raise SystemExit("a reader was cut off")
            except BlockingIOError:
                pass
        time.sleep(DRIBBLE_SECONDS)
    return house.gateway.resident_bytes()


class GoodClient(threading.Thread):
    """Asks short questions over one connection, one after the other, until it is told to stop."""

    def __init__(self, house: House) -> None:
        super().__init__(daemon=True)
        self._house = house
        self.seconds: list[float] = []
        self.over = threading.Event()
        self.failed = 0

    def run(self) -> None:
        """Ask; a new connection where one was lost."""
        request = head("plain") + BODY
        while not self.over.is_set():
            try:
                with self._house.connect() as client:
                    while not self.over.is_set():
                        began = time.perf_counter()
                        client.sendall(request)
                        if not client.recv(65536).startswith(b"HTTP/1.1 200"):
                            raise OSError("it was refused")
                        self.seconds.append(time.perf_counter() - began)
                        time.sleep(0.005)
            except OSError:
                self.failed += 1
                time.sleep(0.05)

    def p99(self) -> float:
        """Stop, and return the latency that one in a hundred exceeded, in seconds."""
        self.over.set()
        self.join(10)
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)]


SLOW = {
    "slow heads (-H)": ["-H", "-i", "5", "-x", "24", "-t", "GET"],
    "slow bodies (-B)": ["-B", "-i", "5", "-s", "8192", "-x", "10", "-t", "POST"],
    "slow reads (-X)": ["-X", "-w", "10", "-y", "20", "-n", "5", "-z", "8", "-k", "10", "-t", "GET"],
}


def slow(sizes: Sizes, directory: Path) -> list[Row]:
    """How a good client fares while thousands of slow ones hold connections."""
    rows = []
    for what, options in SLOW.items():
        house = start(directory / f"slow-{len(rows)}", sizes.line)
        try:
            calm = _latency(house, partial(time.sleep, sizes.calm_seconds))
            command = ["slowhttptest", "-c", str(sizes.slow_connections), "-r", "200", "-l", str(sizes.slow_seconds)]
            command += ["-p", "5", "-u", f"http://127.0.0.1:{house.gateway.port}/v1beta/models", *options]
            quiet = subprocess.DEVNULL
            hit = _latency(house, partial(subprocess.run, command, stdout=quiet, stderr=quiet, timeout=300, check=True))
            # Calm is measured on both sides of it, because machines have other things to do as well.
            calm = max(calm, _latency(house, partial(time.sleep, sizes.calm_seconds)))
            print(f"  {what}: p99 {calm * 1000:.2f} ms calm, {hit * 1000:.2f} ms under attack", flush=True)
            held = f"{sizes.slow_connections} connections of {what}, p99 to calm p99"
            rows.append(Row(held, hit / calm, P99_MOST, "x"))
        finally:
            house.stop()
    return rows


def _latency(house: House, deed: Callable[[], object]) -> float:
    client = GoodClient(house)
    client.start()
    deed()
    p99 = client.p99()
    if client.failed:
        raise SystemExit(f"the good client was refused {client.failed} times")
    return p99


PARTS: dict[str, Callable[[Sizes, Path], list[Row]]] = {
    "strangers": strangers,
    "upstreams": upstreams,
    "readers": readers,
    "slow": slow,
}


def main() -> int:
    """Run the parts, print their figures, and say whether all are within their limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="less of everything")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part alone")
    arguments = parser.parse_args()
    sizes = SHORT if arguments.short else FULL
    rows = []
    with tempfile.TemporaryDirectory(prefix="antigravity-door-") as directory:
        for name in arguments.only or PARTS:
            print(f"{name} ...", flush=True)
            rows += PARTS[name](sizes, Path(directory))
    for row in rows:
        verdict = "ok" if row.good else "TOO MUCH"
        print(f"{row.what:60} {row.figure:10.2f} {row.unit:10} (at most {row.most:g})  {verdict}")
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
