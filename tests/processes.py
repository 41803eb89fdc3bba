"""The daemon and the simulator as processes, and a raw HTTP client to talk to them.  Does I/O."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.clients.daemon import Child, free_port, secret, spawn
from tests.clients.environments import REPOSITORY

reactor: Any = _reactor

AGENT = os.environ.get("ANTIGRAVITY_TEST_AGENT", "")
"""The HTTP agent that daemons are to have, where it is not the default; `.ci/full agents` runs the suite so."""

DEADLINE_SECONDS = 30.0
"""What anything may take on a machine with other things to do."""
POLL_SECONDS = 0.02

MODEL = "gemini-2.5-flash"
GENERATE = f"/v1beta/models/{MODEL}:generateContent"
STREAM = f"/v1beta/models/{MODEL}:streamGenerateContent"
SSE = STREAM + "?alt=sse"
ARRAY = STREAM + "?alt=json"

Headers = Iterable[tuple[str, str]]


def prompt(text: str = "Hello there") -> bytes:
    """A request body with one user turn."""
    return json.dumps({"contents": [{"role": "user", "parts": [{"text": text}]}]}).encode()


@attrs.frozen
class Answer:
    """What a client saw, to the last byte."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; of a repeated name the last value."""
    body: bytes
    whole: bool
    """Whether the body came to the end that its framing promised."""
    reset: bool
    """Whether the connection ended with a reset."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def reasons(self) -> list[str]:
        """The reasons of the error's ErrorInfos."""
        return [entry["reason"] for entry in self.error["details"] if entry["@type"].endswith("ErrorInfo")]

    @property
    def text(self) -> str:
        """What the model said, in a unary answer."""
        return "".join(part["text"] for part in self.json["candidates"][0]["content"]["parts"])


def parsed(data: bytes, reset: bool = False) -> Answer:
    """Read one HTTP/1.1 answer from all that a connection gave."""
    head, found, rest = data.partition(b"\r\n\r\n")
    if not found:
        raise AssertionError(f"no whole head of an answer in {data[:200]!r}")
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ")[1])
    if status < 200:
        return parsed(rest, reset)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    if headers.get("transfer-encoding") == "chunked":
        body, whole = _dechunked(rest)
    elif "content-length" in headers:
        body, whole = rest, len(rest) == int(headers["content-length"])
    else:
        body, whole = rest, not reset
    return Answer(status, headers, body, whole, reset)


def _dechunked(data: bytes) -> tuple[bytes, bool]:
    body = b""
    while True:
        size, found, data = data.partition(b"\r\n")
        if not found:
            return body, False
        length = int(size, 16)
        if not length:
            return body, data == b"\r\n"
        body += data[:length]
        if len(data) < length + 2:
            return body, False
        data = data[length + 2 :]


class Connection(Protocol):
    """A raw connection: what came in, and how it ended."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.over = False
        self.reset = False
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._look()

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.over = True
        self.reset = reason is not None and not reason.check(ConnectionDone)
        self._look()

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def leave(self) -> None:
        """Go away at once, with a reset."""
        self.transport.abortConnection()

    async def until(self, condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until the condition holds; it is looked at whenever something has happened here."""
        if condition():
            return
        waiter: Deferred[None] = Deferred()
        self._waiting.append((condition, waiter))
        waiter.addTimeout(seconds, reactor)
        try:
            await waiter
        except Exception as problem:
            seen = bytes(self.received[-500:])
            raise AssertionError(f"waited {seconds} s in vain; seen so far: {seen!r}") from problem

    async def has(self, data: bytes) -> None:
        await self.until(lambda: data in self.received or self.over)
        if data not in self.received:
            raise AssertionError(f"the connection ended without {data!r}: {bytes(self.received)!r}")

    async def ended(self, seconds: float = DEADLINE_SECONDS) -> Answer:
        """Wait for the connection's end and read the answer."""
        await self.until(lambda: self.over, seconds)
        return parsed(bytes(self.received), self.reset)

    def _look(self) -> None:
        for condition, waiter in list(self._waiting):
            if condition():
                self._waiting.remove((condition, waiter))
                if not waiter.called:
                    waiter.callback(None)


def head(
    target: str, body: bytes | None = None, headers: Headers = (), method: str = "", version: str = "HTTP/1.1"
) -> bytes:
    """The bytes of a request's head, for a connection that carries it alone."""
    method = method or ("GET" if body is None else "POST")
    lines = [f"{method} {target} {version}", "Host: localhost", "Connection: close"]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@attrs.define(eq=False)
class Server:
    """A process of ours that listens on loopback."""

    child: Child
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def printed(self) -> str:
        return self.child.printed

    async def connect(self) -> Connection:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port, timeout=10)
        connection: Connection = await connectProtocol(endpoint, Connection())
        return connection

    async def begin(
        self, target: str, body: bytes | None = None, headers: Headers = (), method: str = "",
        version: str = "HTTP/1.1",
    ) -> Connection:  # fmt: skip
        """Send a request and leave the answer to come."""
        connection = await self.connect()
        connection.write(head(target, body, headers, method, version) + (body or b""))
        return connection

    async def ask(
        self, target: str, body: bytes | None = None, headers: Headers = (), method: str = "",
        version: str = "HTTP/1.1",
    ) -> Answer:  # fmt: skip
        """Send a request and read the answer to the connection's end."""
        return await (await self.begin(target, body, headers, method, version)).ended()

    async def started(self) -> None:
        """Wait until GET /healthz has any answer of HTTP."""
        deadline = reactor.seconds() + DEADLINE_SECONDS
        while self.child.running and reactor.seconds() < deadline:
            try:
                connection = await self.begin("/healthz")
            except ConnectError:
                await deferLater(reactor, POLL_SECONDS)
                continue
            await connection.ended()
            return
        raise AssertionError(f"it does not listen:\n{self.printed}")

    def rss(self) -> int:
        """Resident bytes of the process."""
        with open(f"/proc/{self.child.transport.pid}/statm") as file:
            return int(file.read().split()[1]) * 4096

    def peak_rss(self) -> int:
        """The most resident bytes that the process ever had."""
        with open(f"/proc/{self.child.transport.pid}/status") as file:
            line = next(line for line in file if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024


class Simulator(Server):
    """The stand-in for Google, through its control routes."""

    async def control(self, method: str, path: str, document: object = None) -> Any:
        body = None if document is None else json.dumps(document).encode()
        answer = await self.ask("/_simulator/" + path, body, method=method)
        if answer.status != 200:
            raise AssertionError(f"{method} {path}: {answer.status} {answer.body!r}")
        return answer.json

    async def fault(self, action: str, /, *more: dict[str, Any], match: object = None, **settings: Any) -> int:
        """Set a fault; ``times``, ``nth`` and such belong to the rule, the rest to the action.

        One that counts, and does not say what, counts generations: the daemon asks for lists at times of its own.
        """
        counts = {"times", "nth", "each"} & settings.keys()
        rule: dict[str, Any] = {"match": match or ({"verb": "*enerateContent"} if counts else {})}
        for name in ("times", "nth", "each", "name"):
            if name in settings:
                rule[name] = settings.pop(name)
        rule["do"] = [{"action": action, **settings}, *more]
        return int((await self.control("POST", "faults", rule))["id"])

    async def clear(self) -> None:
        await self.control("DELETE", "faults")

    async def requests(self, verb: str = "*") -> list[Any]:
        """What came, the oldest first, without the lists of models that the daemon fetches by itself."""
        found: list[Any] = (await self.control("GET", f"requests?verb={verb}"))["requests"]
        return [entry for entry in found if entry["verb"] in ("generateContent", "streamGenerateContent", verb)]

    async def credentials(self) -> list[str]:
        """The credentials of the requests that came."""
        return [entry["credential"] for entry in await self.requests()]

    async def seen(self, condition: Callable[[list[Any]], bool], seconds: float = DEADLINE_SECONDS) -> list[Any]:
        """Poll what came until a condition holds."""
        deadline = reactor.seconds() + seconds
        while True:
            found = await self.requests()
            if condition(found):
                return found
            if reactor.seconds() > deadline:
                raise AssertionError(f"not within {seconds} s: {found}")
            await deferLater(reactor, POLL_SECONDS)


def aistudio(*bases: str, keys: Iterable[str] = ("good-1",)) -> dict[str, Any]:
    """An upstream with API keys, each named as it is written."""
    credentials = [{"name": key, "api_key": key} for key in keys]
    return {"kind": "aistudio", "base_urls": list(bases), "credentials": credentials}


def listens(port: int) -> bool:
    """Say whether somebody takes connections on a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def kill(pid: int) -> None:
    """End a process that is nobody's child any more."""
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        pass


async def until(condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
    """Poll until a condition holds."""
    deadline = reactor.seconds() + seconds
    while not condition():
        if reactor.seconds() > deadline:
            raise AssertionError("waited in vain")
        await deferLater(reactor, POLL_SECONDS)


async def logged(server: Server, text: str) -> None:
    """Wait until the daemon has printed a text."""
    try:
        await until(lambda: text in server.printed)
    except AssertionError:
        raise AssertionError(f"{text!r} is not in:\n{server.printed}") from None


class DaemonCase(TestCase):
    """A test with processes: it starts what it needs, and they end with it."""

    mode = "P"
    timeout = 90

    def setUp(self) -> None:
        self.home = Path(self.mktemp()).absolute()
        self.home.mkdir(parents=True, mode=0o700)

    def twistd(
        self, *arguments: str, environ: Mapping[str, str] | None = None, options: Iterable[str] = ("-n", "--pidfile=")
    ) -> Child:
        """Start twistd in a directory of the test's own; it is killed at the end of the test."""
        program = Path(sys.executable).with_name("twistd")
        child = spawn(
            reactor,
            [str(program), *options, *arguments],
            self.home,
            {"PYTHONPATH": str(REPOSITORY), "HOME": str(self.home), **(environ or {})},
        )
        self.addCleanup(self._gone, child)
        return child

    async def run_to_end(self, *arguments: str, **named: Any) -> Child:
        """Run twistd and wait for its end."""
        child = self.twistd(*arguments, **named)
        self.assertTrue(await child.ended_within(DEADLINE_SECONDS, reactor), child.printed)
        return child

    async def _gone(self, child: Child) -> None:
        child.signal("KILL")
        await child.ended()
        # Whatever a client does, and upstream, nothing of it may be unforeseen.
        self.assertNotIn("Traceback", child.printed)

    def configured(self, upstreams: Mapping[str, Any] | None = None, **sections: Any) -> tuple[Path, int]:
        """Write a configuration file with a free port, and return both; JSON is YAML."""
        port = free_port()
        proxy = {"listen": f"tcp:{port}:interface=127.0.0.1", **sections.pop("proxy", {})}
        # Several daemons run at a time, and the default port is one.
        admin = sections.pop("admin", {"listen": ""})
        document = {"proxy": proxy, "admin": admin, "state_dir": str(self.home / f"state-{port}"), **sections}
        if AGENT:
            document.setdefault("wire", {"agent": AGENT})
        if upstreams is not None:
            document["upstreams"] = upstreams
        path = self.home / f"antigravity-{port}.yaml"
        secret(path, json.dumps(document))
        return path, port

    async def gateway(
        self,
        upstreams: Mapping[str, Any] | None = None,
        *,
        arguments: Iterable[str] = (),
        environ: Mapping[str, str] | None = None,
        **sections: Any,
    ) -> Server:
        """Start the daemon with a configuration of these sections."""
        path, port = self.configured(upstreams, **sections)
        child = self.twistd("antigravity", *arguments, "--config", str(path), environ=environ)
        server = Server(child, port)
        await server.started()
        return server

    async def simulator(self, pace: float = 0.0) -> Simulator:
        """Start the simulator."""
        port = free_port()
        child = self.twistd("antigravity-simulator", "--port", str(port), "--pace", str(pace))
        server = Simulator(child, port)
        await server.started()
        return server

    async def both(self, *keys: str, pace: float = 0.0, **sections: Any) -> tuple[Server, Simulator]:
        """Start a simulator and a daemon that has it for its one upstream, with these API keys."""
        port = free_port()
        child = self.twistd("antigravity-simulator", "--port", str(port), "--pace", str(pace))
        simulator = Simulator(child, port)
        daemon = await self.gateway({"studio": aistudio(simulator.url, keys=keys or ("good-1",))}, **sections)
        await simulator.started()
        return daemon, simulator


class SlowReader:
    """A client with a small receive buffer that takes its answer at a given pace."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.socket()
        # Before the connection: the window is agreed on with the handshake.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(request)
        self.socket.setblocking(False)
        self.taken = 0

    def take(self, size: int) -> None:
        """Read at most so many bytes, if any are there."""
        try:
            self.taken += len(self.socket.recv(size))
        except BlockingIOError:
            pass

    def close(self) -> None:
        self.socket.close()
