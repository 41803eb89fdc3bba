"""A gateway with a counter beside it, on a pool of accounts at the stand-in that does as it is told.  Does I/O."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import http1
import processes

CLIENT_KEY = "bench-client-key"
REST_SECONDS = 75.0
"""Longer than the gateway keeps what it knows of a connection that upstream has closed."""


@attrs.frozen
class Held:
    """What the gateway's process holds at one moment."""

    resident: int
    descriptors: int
    deferreds: int
    objects: int
    timers: int

    @property
    def promised(self) -> tuple[int, int]:
        """What has to come back to where it began."""
        return self.descriptors, self.deferreds


@attrs.frozen
class Pool:
    """The running processes."""

    gateway: processes.Measured
    standin: processes.Measured
    counter_port: int

    async def held(self) -> Held:
        """Return what the gateway holds now."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.counter_port)
        told = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        return Held(**json.loads(told))

    def resident(self) -> int:
        """Return the gateway's resident bytes, without asking it."""
        with open(f"/proc/{self.gateway.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    async def rest(self) -> dict[str, Any]:
        """Have the stand-in close its idle connections; return what it says it served."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.standin.port)
        writer.write(b"POST /rest HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        answer, body = http1.ResponseReader(), b""
        while not answer.done:
            data = await asyncio.wait_for(reader.read(1 << 16), 30)
            if not data:
                raise processes.StartError("the stand-in went away")
            body += answer.feed(data)
        writer.close()
        told: dict[str, Any] = json.loads(body)
        return told

    async def at_rest(self, due: Held | None = None) -> Held:
        """Return what is held REST_SECONDS after everybody left, or earlier when it is no more than is due."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + REST_SECONDS
        while True:
            await self.rest()
            await asyncio.sleep(1.0)
            now = await self.held()
            back = due is not None and all(a <= b for a, b in zip(now.promised, due.promised, strict=True))
            if back or loop.time() >= deadline:
                return now


def start(stack: ExitStack, directory: Path, accounts: int, **sections: Any) -> Pool:
    """Start the stand-in and a gateway with so many accounts there; they are stopped with the stack."""
    port = processes.free_port()
    command = [sys.executable, str(processes.BENCH / "standin.py"), "--port", str(port)]
    standin = processes.start("standin", command, port, directory)
    stack.callback(standin.stop)
    gateway_port, counter_port = processes.free_port(), processes.free_port()
    file = _configured(directory, port, gateway_port, accounts, sections)
    command = [sys.executable, str(processes.BENCH / "counted.py"), str(counter_port), "-n", "--pidfile="]
    command += ["antigravity", "--config", str(file)]
    gateway = processes.start("gateway", command, gateway_port, directory, cwd=processes.BENCH.parent)
    stack.callback(gateway.stop)
    return Pool(gateway, standin, counter_port)


def _configured(directory: Path, standin_port: int, port: int, accounts: int, sections: dict[str, Any]) -> Path:
    state = directory / "state"
    files = state / "accounts"
    files.mkdir(parents=True, mode=0o700)
    state.chmod(0o700)
    origin = f"http://127.0.0.1:{standin_port}"
    configuration = {
        "proxy": {"listen": f"tcp:{port}:interface=127.0.0.1", "api_key": CLIENT_KEY},
        "upstreams": {
            "accounts": {
                "kind": "codeassist",
                # Two names of one backend, so that there is another base to try.
                "base_urls": [f"{origin}/v1internal", f"{origin}/other/v1internal"],
                "oauth": {"client_id": "bench", "client_secret": "bench-secret", "token_url": f"{origin}/token"},
                "credentials_dir": "accounts",
            }
        },
        "admin": {"listen": ""},
        "state_dir": str(state),
        **sections,
    }
    file = directory / "antigravity.yaml"
    contents = {file: json.dumps(configuration, indent=2)}  # JSON is YAML
    for number in range(accounts):
        account = {"name": f"a{number}", "refresh_token": f"refresh-{number}", "project": f"project-{number}"}
        contents[files / f"a{number}.json"] = json.dumps(account)
    for path, text in contents.items():
        path.touch(0o600)
        path.write_text(text, "utf-8")
    return file


def raise_descriptors(needed: int) -> None:
    """Let this process and its children open so many files; raises StartError where the system does not."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    enough = most == resource.RLIM_INFINITY or most >= needed
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most if enough else needed))
    except (ValueError, OSError):
        raise processes.StartError(f"{needed} descriptors are needed, and this system allows {most}") from None
