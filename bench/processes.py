"""Start, measure and stop the processes of the bench.  Does I/O."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import attrs
import shapes

BENCH = Path(__file__).resolve().parent
START_SECONDS = 20.0
FOREIGN = ("GEMINI_", "GOOGLE_", "LITELLM_", "DATABASE_URL")
"""Variables of the person who runs the bench that would change what is measured."""
_LIBC = ctypes.CDLL(None, use_errno=True)


class StartError(Exception):
    """A process of the bench did not come up."""


@attrs.define(eq=False)
class Measured:
    """A running process and the port that it serves."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def cpu_seconds(self) -> float:
        """Return the CPU time of all threads since the start, user and system, in ns resolution.

        The process's CPU-time clock of clock_getcpuclockid(3): the scheduler's own account, of which
        /proc/<pid>/stat shows the same in ticks of 10 ms and /proc/<pid>/schedstat one thread's share.
        """
        clock = ctypes.c_int()
        failed = _LIBC.clock_getcpuclockid(self.process.pid, ctypes.byref(clock))
        if failed or self.process.poll() is not None:
            raise StartError(f"{self.name} is gone:\n{self.tail()}")
        return time.clock_gettime(clock.value)

    def resident_bytes(self) -> int:
        """Return the memory that is resident now."""
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text("ascii").splitlines():
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
        raise StartError(f"no memory figures for {self.name}")

    def children(self) -> list[int]:
        """Return the process's children, whose CPU time would not be counted."""
        task = Path(f"/proc/{self.process.pid}/task")
        return [int(pid) for each in task.glob("*/children") for pid in each.read_text("ascii").split()]

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


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(
    name: str,
    command: list[str],
    port: int,
    directory: Path,
    cwd: Path | None = None,
    seconds: float = START_SECONDS,
    more_environment: Mapping[str, str] | None = None,
) -> Measured:
    """Start ``command`` and return when its port accepts connections, which may take so many seconds."""
    log = directory / f"{name}.log"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
    environment.update(more_environment or {})
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=cwd, env=environment
        )
    measured = Measured(name, process, port, log)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
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


def start_upstream(directory: Path) -> Measured:
    """Start the stand-in upstream."""
    port = free_port()
    command = [sys.executable, str(BENCH / "upstream.py"), "--port", str(port)]
    return start("upstream", command, port, directory)


def start_bare(name: str, upstream: Measured, directory: Path) -> Measured:
    """Start the baseline."""
    port = free_port()
    base = f"http://127.0.0.1:{upstream.port}/v1internal"
    command = [sys.executable, str(BENCH / "bare.py"), "--port", str(port), "--upstream", base]
    return start(name, command, port, directory)


def start_gateway(upstream: Measured, directory: Path) -> Measured:
    """Start the gateway as users run it, with one account of a codeassist upstream."""
    port = free_port()
    state = directory / "state"
    accounts = state / "accounts"
    accounts.mkdir(parents=True, mode=0o700)
    state.chmod(0o700)
    secret = directory / "client-secret"
    account = {"name": "bench", "refresh_token": "bench-refresh-token", "project": "bench-project"}
    origin = f"http://127.0.0.1:{upstream.port}"
    configuration = {
        "proxy": {"listen": f"tcp:{port}:interface=127.0.0.1", "api_key": shapes.CLIENT_KEY},
        "upstreams": {
            "accounts": {
                "kind": "codeassist",
                "base_urls": [f"{origin}/v1internal"],
                "oauth": {
                    "client_id": "bench-client",
                    "client_secret_file": str(secret),
                    "token_url": f"{origin}/token",
                },
                "credentials_dir": "accounts",
            }
        },
        "admin": {"listen": ""},
        "state_dir": str(state),
    }
    file = directory / "antigravity.yaml"
    contents = {
        secret: "bench-secret",
        accounts / "bench.json": json.dumps(account),
        file: json.dumps(configuration, indent=2),  # JSON is YAML
    }
    for path, text in contents.items():
        path.touch(0o600)
        path.write_text(text, "utf-8")
    command = [twistd(), "-n", "--pidfile=", "antigravity", "--config", str(file)]
    return start("gateway", command, port, directory, cwd=BENCH.parent)
