"""Run the daemon, the simulator, aimock and the client programs as processes of their own.  Does I/O.

Everything listens on loopback, on a port that was free a moment ago, and sees an environment without
anybody's credentials or proxies.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, readBody

from tests.clients.environments import HERE, NODE, REPOSITORY, Environment

CLIENT_KEY = "a-client-key"
UPSTREAM_KEY = "an-upstream-key"
START_SECONDS = 30
STOP_SECONDS = 20
CLIENT_SECONDS = 180

_PORTS = list(range(10_000, 32_000))


class Child(ProcessProtocol):
    """A process: what it printed, and how it ended."""

    def __init__(self) -> None:
        self.stdout = b""
        self.stderr = b""
        #: The exit status; of a process that a signal ended, the signal's number, negative.
        self.exit_code: int | None = None
        self.running = True
        self._waiting: list[Deferred[None]] = []

    @property
    def printed(self) -> str:
        """Both streams, for a message about a failure."""
        return (self.stdout + self.stderr).decode("utf-8", "replace")

    def outReceived(self, data: bytes) -> None:
        self.stdout += data

    def errReceived(self, data: bytes) -> None:
        self.stderr += data

    def processEnded(self, reason: Failure) -> None:
        self.running = False
        status = reason.value
        self.exit_code = status.exitCode if status.exitCode is not None else -status.signal
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def ended(self) -> Deferred[None]:
        """Fires when the process is gone."""
        result: Deferred[None] = Deferred()
        if self.running:
            self._waiting.append(result)
        else:
            result.callback(None)
        return result

    async def ended_within(self, seconds: float, reactor: Any) -> bool:
        """Wait for its end; False if it had to be killed."""
        try:
            await self.ended().addTimeout(seconds, reactor)
        except TimeoutError:
            self.signal("KILL")
            await self.ended()
            return False
        return True

    def signal(self, name: str) -> None:
        """Send a signal, if there is still someone to receive it."""
        try:
            self.transport.signalProcess(name)
        except error.ProcessExitedAlready:
            pass


class Server:
    """A process that listens, and the address at which it does."""

    def __init__(self, name: str, child: Child, url: str) -> None:
        self.name = name
        self.child = child
        self.url = url

    async def started(self, reactor: Any, path: str) -> Server:
        """Return when GET of the path is answered 200; else end the process and raise what it printed."""
        seen = "it ended"
        try:
            seen = await self._answer(reactor, path)
        finally:
            if seen != "200":
                self.child.signal("KILL")
                await self.child.ended()
        if seen != "200":
            raise AssertionError(f"{self.name} did not start ({seen}):\n{self.child.printed}")
        return self

    async def _answer(self, reactor: Any, path: str) -> str:
        """The status of an answer that is 200, or what came last before time was up."""
        agent = Agent(reactor, connectTimeout=2, pool=HTTPConnectionPool(reactor, persistent=False))
        deadline = reactor.seconds() + START_SECONDS
        seen = "no answer"
        while self.child.running and seen != "200" and reactor.seconds() < deadline:
            await deferLater(reactor, 0.05)
            try:
                answer = await agent.request(b"GET", f"{self.url}{path}".encode())
                await readBody(answer)
                seen = str(answer.code)
            except CancelledError:
                raise
            except Exception as problem:
                seen = str(problem)
        return seen

    async def get(self, reactor: Any, path: str) -> Any:
        """The JSON document at a path."""
        agent = Agent(reactor, pool=HTTPConnectionPool(reactor, persistent=False))
        return json.loads(await readBody(await agent.request(b"GET", f"{self.url}{path}".encode())))

    async def stop(self, reactor: Any) -> None:
        """Ask it to end, and raise AssertionError if it must be killed."""
        self.child.signal("TERM")
        if not await self.child.ended_within(STOP_SECONDS, reactor):
            raise AssertionError(f"{self.name} did not stop:\n{self.child.printed}")


def free_port() -> int:
    """A port on loopback that nobody listens on.

    It lies below those that the kernel gives to whoever names none (ip(7), ip_local_port_range), so that no
    neighbour can be given it before the process that is to have it has started; and no two are the same.
    """
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _PORTS.remove(port)
            return port


def surroundings(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment for a child: no proxy, no credential, no setting of the person who runs the tests."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore", **(more or {})}


def spawn(
    reactor: IReactorProcess, command: list[str], directory: Path, more: Mapping[str, str] | None = None
) -> Child:
    """Start a process."""
    child = Child()
    reactor.spawnProcess(child, command[0], command, env=surroundings(more), path=str(directory))
    return child


def twistd(reactor: IReactorProcess, directory: Path, *arguments: str) -> Child:
    """Start one of our daemons in the foreground, from this tree and with this interpreter."""
    program = Path(sys.executable).with_name("twistd")
    command = [str(program), "-n", "--pidfile=", *arguments]
    return spawn(reactor, command, directory, {"PYTHONPATH": str(REPOSITORY)})


def aistudio(base: str) -> dict[str, Any]:
    """An upstream that takes an API key."""
    return {
        "kind": "aistudio",
        "base_urls": [base],
        "credentials": [{"name": "first", "api_key": UPSTREAM_KEY}],
    }


def codeassist(base: str, state: Path) -> dict[str, Any]:
    """An upstream with one account, whose file and secret are written under the state directory."""
    accounts = state / "accounts"
    accounts.mkdir(mode=0o700)
    secret(
        accounts / "first.json",
        json.dumps({"name": "first", "refresh_token": "1//first", "project": "first-project"}),
    )
    secret(state / "client-secret", "a-client-secret")
    return {
        "kind": "codeassist",
        "base_urls": [f"{base}/v1internal"],
        "oauth": {
            "client_id": "a-client-id",
            "client_secret_file": str(state / "client-secret"),
            "token_url": f"{base}/token",
        },
        "credentials_dir": "accounts",
    }


def secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    path.touch(mode=0o600)
    path.write_text(text, "utf-8")


async def start_gateway(reactor: Any, directory: Path, upstreams: Mapping[str, Any] | None = None) -> Server:
    """Start the daemon before these upstreams; without any, before the simulator inside it."""
    port = free_port()
    configuration: dict[str, Any] = {
        "proxy": {"listen": f"tcp:{port}:interface=127.0.0.1", "api_key": CLIENT_KEY},
        "admin": {"listen": ""},
        "state_dir": str(directory),
    }
    # --simulate puts the simulator in the place of what a file names; nobody listens on port 1.
    configuration["upstreams"] = upstreams or {"nobody": aistudio("http://127.0.0.1:1")}
    # JSON is YAML.
    secret(directory / "antigravity.yaml", json.dumps(configuration))
    simulated = [] if upstreams else ["--simulate"]
    child = twistd(reactor, directory, "antigravity", *simulated, "--config", str(directory / "antigravity.yaml"))
    return await Server("the gateway", child, f"http://127.0.0.1:{port}").started(reactor, "/healthz")


async def start_simulator(reactor: Any, directory: Path, script: Mapping[str, Any] | None = None) -> Server:
    """Start the simulator as a daemon of its own, with faults if a script has some."""
    port = free_port()
    (directory / "script.json").write_text(json.dumps(script or {}), "utf-8")
    child = twistd(
        reactor,
        directory,
        "antigravity-simulator",
        "--listen",
        f"tcp:{port}:interface=127.0.0.1",
        "--script",
        str(directory / "script.json"),
    )
    server = Server("the simulator", child, f"http://127.0.0.1:{port}")
    return await server.started(reactor, "/_simulator/state")


async def start_aimock(reactor: Any, directory: Path, fixtures: Path) -> Server:
    """Start the upstream that is not ours, with these answers."""
    port = free_port()
    program = NODE.directory / "node_modules" / ".bin" / "llmock"
    command = [str(program), "--port", str(port), "--host", "127.0.0.1", "--fixtures", str(fixtures)]
    child = spawn(reactor, command, directory)
    return await Server("aimock", child, f"http://127.0.0.1:{port}").started(reactor, "/health")


def program(environment: Environment, script: str, directory: Path) -> list[str]:
    """The command that runs a client's program in its environment."""
    if environment is not NODE:
        return [str(environment.directory / "bin" / "python"), str(HERE / script)]
    # Node looks for packages beside the program, so the program is put beside them.
    for source in HERE.glob("*.mjs"):
        shutil.copy(source, directory)
    (directory / "node_modules").symlink_to(environment.directory / "node_modules")
    node = shutil.which("node")
    assert node is not None, "Node is not installed"
    return [node, str(directory / script)]


async def run_client(
    reactor: Any, environment: Environment, script: str, directory: Path, arguments: Iterable[str]
) -> list[dict[str, Any]]:
    """Run a client's program to its end and return the lines that it printed."""
    child = spawn(reactor, [*program(environment, script, directory), *arguments], directory)
    if not await child.ended_within(CLIENT_SECONDS, reactor):
        raise AssertionError(f"{script} in {environment.name} did not end:\n{child.printed}")
    try:
        lines = [json.loads(line) for line in child.stdout.splitlines()]
    except ValueError:
        lines = []
    failed = [line for line in lines if not line["ok"]]
    if child.exit_code != 0 or failed or not lines:
        raise AssertionError(f"{script} in {environment.name} ended with {child.exit_code}:\n{child.printed}")
    return lines
