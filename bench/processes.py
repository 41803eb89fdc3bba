"""Start, measure and stop the processes of the bench.  Does I/O."""

from __future__ import annotations

import asyncio
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import attrs

BENCH = Path(__file__).resolve().parent
START_SECONDS = 20.0
FOREIGN = ("GEMINI_", "GOOGLE_", "LITELLM_", "DATABASE_URL")
"""Variables of the person who runs the bench that would change what is measured."""
_PORTS = list(range(10_000, 32_000))
_LIBC = ctypes.CDLL(None, use_errno=True)


class StartError(Exception):
    """A process of the bench did not come up."""


class TreeChanged(Exception):
    """A process went and took its account with it."""


def _cpu_seconds(pid: int) -> float:
    """Read a process's CPU-time clock."""
    clock = ctypes.c_int()
    if _LIBC.clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise StartError(f"process {pid} is gone")
    return time.clock_gettime(clock.value)


@attrs.define(eq=False)
class Measured:
    """A running process and the port that it serves."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def cpu(self) -> dict[int, float]:
        """Return the CPU seconds of each process of the tree since its start, all threads, user and system.

        The CPU-time clock of clock_getcpuclockid(3): the scheduler's own account in ns, of which /proc/<pid>/stat
        shows the same in ticks of 10 ms.
        """
        if self.process.poll() is not None:
            raise StartError(f"{self.name} is gone:\n{self.tail()}")
        return {pid: _cpu_seconds(pid) for pid in self.tree()}

    def used_since(self, before: Mapping[int, float]) -> float:
        """Return the CPU seconds of the whole tree since ``before``; raises TreeChanged where some would be missed."""
        now = self.cpu()
        if gone := before.keys() - now.keys():
            raise TreeChanged(f"{len(gone)} processes of {self.name} ended while it was measured")
        return sum(seconds - before.get(pid, 0.0) for pid, seconds in now.items())

    def resident_bytes(self) -> int:
        """Return the memory that is resident now; what processes share counts once for each."""
        return self._memory("VmRSS")

    def forget_peak(self) -> None:
        """Let peak_bytes count from now on."""
        for pid in self.tree():
            Path(f"/proc/{pid}/clear_refs").write_text("5", "ascii")

    def peak_bytes(self) -> int:
        """Return the most memory that was resident since forget_peak; each process's own most, added up."""
        return self._memory("VmHWM")

    def _memory(self, field: str) -> int:
        total = 0
        for pid in self.tree():
            lines = Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
        if not total:
            raise StartError(f"no memory figures for {self.name}")
        return total

    def tree(self) -> list[int]:
        """Return the process and all that descend from it."""
        found = [self.process.pid]
        for pid in found:
            for each in Path(f"/proc/{pid}/task").glob("*/children"):
                found += [int(child) for child in each.read_text("ascii").split()]
        return found

    def tail(self) -> str:
        """Return the last lines of what the process wrote."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-20:])

    def stop(self) -> None:
        """Stop the process and wait for its end."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run(bench: Callable[[Path, ExitStack], Coroutine[Any, Any, int]]) -> int:
    """Run a bench in a directory of its own and return its exit status, or 2 where a process does not come up.

    What it leaves on the stack is stopped on the way out, whoever ends this process.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="antigravity-bench-")))
        try:
            return asyncio.run(bench(directory, stack))
        except StartError as error:
            print(error, file=sys.stderr)
            return 2


def free_port() -> int:
    """Return a port of loopback that nobody listens on.

    It lies below those that the kernel gives to whoever names none (ip(7), ip_local_port_range), so that no
    neighbour can be given it before the process that is to have it has started; and no two are the same.
    """
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _PORTS.remove(port)
            return port


def start(
    name: str,
    command: list[str],
    port: int,
    directory: Path,
    cwd: Path | None = None,
    seconds: float = START_SECONDS,
    more_environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> Measured:
    """Start ``command`` and return when its port accepts connections, which may take so many seconds."""
    log = directory / f"{name}.log"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
    environment.update({"NO_PROXY": "127.0.0.1,localhost"})
    environment.update(more_environment or {})
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=cwd,
            env=environment,
            pass_fds=pass_fds,
        )
    measured = Measured(name, process, port, log)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.005)
        else:
            return measured
    measured.stop()
    raise StartError(f"{name} did not start:\n{measured.tail()}")


def twistd() -> str:
    """Return the path of this environment's twistd."""
    beside = Path(sys.executable).with_name("twistd")
    found = str(beside) if beside.exists() else shutil.which("twistd")
    if found is None:
        raise StartError("there is no twistd; install the gateway first")
    return found
