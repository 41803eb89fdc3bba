"""The systemd units: their hardening, and a real start of their command as systemd would make it.  Opens sockets."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterable, Mapping
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater

from tests.clients.daemon import Child, free_port, secret, surroundings
from tests.clients.environments import REPOSITORY
from tests.processes import GENERATE, SSE, DaemonCase, Server, Simulator, logged, prompt, reactor, until

SERVICE = REPOSITORY / "conf" / "antigravity.service"
SOCKET = REPOSITORY / "conf" / "antigravity.socket"
KEY = "a-client-key"
CREDENTIAL = "good-1"


class _Repeated(dict[str, Any]):
    """A section in which a key may stand more than once: the later value is added on a line of its own."""

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, list) and key in self:
            self[key].extend(value)
            return
        super().__setitem__(key, value)


def unit(path: Path) -> dict[str, dict[str, list[str]]]:
    """Read a unit: each key's values, in their order."""
    parser = RawConfigParser(strict=False, dict_type=_Repeated, interpolation=None, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(path, "utf-8")
    return {name: {key: value.split("\n") for key, value in parser.items(name)} for name in parser.sections()}


class Supervisor(DatagramProtocol):
    """The socket that a service notifies: what it was told, and when."""

    def __init__(self) -> None:
        self.told: list[tuple[float, dict[str, str]]] = []

    def datagramReceived(self, data: bytes, addr: Any) -> None:
        fields = dict(line.split("=", 1) for line in data.decode().splitlines())
        self.told.append((reactor.seconds(), fields))

    def said(self, name: str) -> list[float]:
        """When a field came."""
        return [at for at, fields in self.told if name in fields]

    def order(self) -> list[str]:
        """The states in their order, without the watchdog's."""
        return [next(iter(fields)) for _, fields in self.told if "WATCHDOG" not in fields]


class UnitCase(DaemonCase):
    """The unit's command, with its paths put where the test is, a socket and a supervisor."""

    google: Simulator

    async def prepare(self, **sections: Any) -> None:
        """Write a configuration that listens on the socket passed on, and open that socket."""
        self.google = await self.simulator()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.addCleanup(self.listener.close)
        self.port = int(self.listener.getsockname()[1])
        credentials = self.home / "credentials"
        credentials.mkdir(mode=0o700)
        secret(credentials / "gemini-key", CREDENTIAL)
        # As systemd shows it where the file system has access lists.
        (credentials / "gemini-key").chmod(0o440)
        (self.home / "state").mkdir(mode=0o700)
        (self.home / "link").symlink_to(self.home / "state")
        document = {
            "proxy": {"listen": "systemd:domain=INET:name=http", "api_key": KEY},
            "admin": {"listen": ""},
            "upstreams": {
                "studio": {
                    "kind": "aistudio",
                    "base_urls": [self.google.url],
                    "credentials": [{"name": "first", "api_key_file": str(credentials / "gemini-key")}],
                }
            },
            **sections,
        }
        secret(self.home / "antigravity.yaml", json.dumps(document))
        self.supervisor = Supervisor()
        # The path of a socket may have no more than 107 bytes, and the test's own directory may lie deep.
        self.sockets = tempfile.TemporaryDirectory(prefix="agw-")
        self.addCleanup(self.sockets.cleanup)
        port = reactor.listenUNIXDatagram(f"{self.sockets.name}/notify", self.supervisor)
        self.addCleanup(port.stopListening)

    def command(self) -> list[str]:
        """Return the unit's ExecStart with this environment's paths."""
        (line,) = unit(SERVICE)["Service"]["ExecStart"]
        replaced = line.replace("/opt/antigravity/bin/", str(Path(sys.executable).parent) + "/")
        return shlex.split(replaced.replace("/etc/antigravity/", str(self.home) + "/"))

    def start(self, options: Iterable[str] = (), environ: Mapping[str, str] | None = None) -> Server:
        """Start it as systemd would."""
        child = Child()
        launcher = [sys.executable, str(REPOSITORY / "tests" / "activated.py"), "http", *options, "--", *self.command()]
        more = {
            "PYTHONPATH": str(REPOSITORY),
            "HOME": "/nonexistent",
            "NOTIFY_SOCKET": f"{self.sockets.name}/notify",
            "CREDENTIALS_DIRECTORY": str(self.home / "credentials"),
            "STATE_DIRECTORY": str(self.home / "link"),
            **(environ or {}),
        }
        descriptors: dict[int, Any] = {0: "w", 1: "r", 2: "r", 3: self.listener.fileno()}
        reactor.spawnProcess(
            child, launcher[0], launcher, env=surroundings(more), path=str(self.home), childFDs=descriptors
        )
        self.addCleanup(self._gone, child)
        return Server(child, self.port)

    async def ready(self, server: Server, times: int = 1) -> None:
        """Wait until it has said so."""
        await until(lambda: len(self.supervisor.said("READY")) >= times or not server.child.running)
        self.assertTrue(server.child.running, server.printed)


class HardeningTests(DaemonCase):
    async def test_exposure_is_low(self) -> None:
        """S27: systemd's own judge gives 1.5 or better."""
        command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", str(SERVICE)]
        child = Child()
        reactor.spawnProcess(child, shutil.which(command[0]) or command[0], command, env=surroundings())
        self.assertTrue(await child.ended_within(30, reactor), child.printed)
        self.assertEqual(child.exit_code, 0, child.printed)
        self.assertIn("Overall exposure level", child.printed)

    async def test_units_fit_together(self) -> None:
        """The socket's name is the one that the documents tell, and the stop's limit is beyond the drain's."""
        service, listener = unit(SERVICE)["Service"], unit(SOCKET)["Socket"]
        self.assertEqual(listener["FileDescriptorName"], ["http"])
        page = (REPOSITORY / "docs" / "install.rst").read_text("utf-8")
        self.assertIn("systemd:domain=INET:name=http", page)
        self.assertEqual((service["Type"], service["RestartPreventExitStatus"]), (["notify"], ["78"]))
        self.assertGreater(int(service["TimeoutStopSec"][0]), 60 + 5)
        self.assertEqual((service["DynamicUser"], service["LimitCORE"]), (["yes"], ["0"]))


class StartTests(UnitCase):
    async def test_the_units_command_serves_on_the_socket_passed_on(self) -> None:
        """READY comes when it listens; the credential and the state directory are systemd's; STOPPING at the end."""
        await self.prepare()
        server = self.start()
        await self.ready(server)
        answer = await server.ask(GENERATE, prompt(), [("x-goog-api-key", KEY)])
        self.assertEqual(answer.status, 200)
        self.assertEqual(await self.google.credentials(), [CREDENTIAL])
        server.child.signal("TERM")
        self.assertTrue(await server.child.ended_within(10, reactor))
        self.assertEqual(server.child.exit_code, 0, server.printed)
        self.assertEqual(self.supervisor.order(), ["READY", "STOPPING"])
        self.assertTrue((self.home / "state" / "lock").exists())

    async def test_a_reload_is_told_with_its_time(self) -> None:
        """RELOADING with MONOTONIC_USEC, then READY, whether the new configuration is good or not."""
        await self.prepare()
        server = self.start()
        await self.ready(server)
        for times, text in ((2, (self.home / "antigravity.yaml").read_text()), (3, "proxy: [")):
            (self.home / "antigravity.yaml").write_text(text)
            server.child.signal("HUP")
            await self.ready(server, times)
        self.assertEqual(self.supervisor.order(), ["READY", "RELOADING", "READY", "RELOADING", "READY"])
        told = [int(fields["MONOTONIC_USEC"]) for _, fields in self.supervisor.told if "RELOADING" in fields]
        self.assertEqual(told, sorted(told))
        self.assertGreater(told[0], 0)

    async def test_the_watchdog_is_fed_by_a_reactor_that_turns_and_by_no_other(self) -> None:
        """P14: at half of the interval; while the reactor is stuck nothing comes."""
        await self.prepare()
        server = self.start(environ={"WATCHDOG_USEC": "400000"})
        await self.ready(server)
        await until(lambda: len(self.supervisor.said("WATCHDOG")) >= 4)
        path = self.home / "antigravity.yaml"
        text = path.read_text()
        path.unlink()
        os.mkfifo(path)
        server.child.signal("HUP")
        await until(lambda: bool(self.supervisor.said("RELOADING")))
        stuck = len(self.supervisor.said("WATCHDOG"))
        await deferLater(reactor, 1.2)
        self.assertLessEqual(len(self.supervisor.said("WATCHDOG")), stuck + 1)
        path.write_text(text)
        await until(lambda: len(self.supervisor.said("WATCHDOG")) >= stuck + 3)

    async def test_there_is_no_tls_without_executable_memory(self) -> None:
        """Why the unit says MemoryDenyWriteExecute=no; where this fails, a library was mended, and it may say yes."""
        import trustme

        trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(self.home / "tls.pem"))
        (self.home / "tls.pem").chmod(0o600)
        listen = f"ssl:{free_port()}:interface=127.0.0.1:privateKey={self.home / 'tls.pem'}"
        await self.prepare(proxy={"listen": ["systemd:domain=INET:name=http", listen], "api_key": KEY})
        refused = self.start(["--mdwe"])
        self.assertTrue(await refused.child.ended_within(10, reactor))
        if "no PR_SET_MDWE" in refused.printed:
            print("tests.test_units: this kernel is older than 6.3, so memory was not forbidden to become executable")
        else:
            self.assertIn("write+execute memory", refused.printed)
        await self.ready(self.start())
        self.assertEqual(unit(SERVICE)["Service"]["MemoryDenyWriteExecute"], ["no"])


class RestartTests(UnitCase):
    async def test_what_comes_during_a_restart_is_answered_by_the_next_process(self) -> None:
        """P2: it waits in the socket while the old one drains, and nobody is refused."""
        await self.prepare()
        server = self.start()
        await self.ready(server)
        await self.google.fault("stall", after=1, seconds=1.0, times=1)
        stream = await server.begin(SSE, prompt(), [("x-goog-api-key", KEY)])
        await stream.has(b"data: ")
        server.child.signal("TERM")
        await logged(server, "waiting up to")
        waiting = [await server.begin(GENERATE, prompt(f"Hello {n}"), [("x-goog-api-key", KEY)]) for n in range(20)]
        self.assertTrue((await stream.ended()).whole)
        self.assertTrue(await server.child.ended_within(10, reactor))
        self.assertFalse(any(one.over for one in waiting))
        following = self.start()
        await self.ready(following, 2)
        answers = [await one.ended() for one in waiting]
        self.assertEqual([answer.status for answer in answers], [200] * 20)


if not shutil.which("systemd-analyze"):
    del HardeningTests.test_exposure_is_low
    print("tests.test_units: systemd-analyze is not installed: nobody judged the unit's exposure")
