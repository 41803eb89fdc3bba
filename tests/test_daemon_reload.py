"""The daemon reads its configuration anew on SIGHUP: all of it or nothing.  Opens sockets."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol

from tests.clients.daemon import free_port, secret
from tests.processes import (
    GENERATE,
    MODEL,
    SSE,
    Answer,
    Connection,
    DaemonCase,
    Server,
    Simulator,
    aistudio,
    kill,
    listens,
    logged,
    prompt,
    reactor,
    until,
)

KEY, OTHER = "a-client-key", "another-client-key"
TAKEN = "has read its configuration anew"
KEPT = "the configuration stays as it was"


def with_key(key: str) -> list[tuple[str, str]]:
    """The header that a client shows its key in."""
    return [("x-goog-api-key", key)]


def status_of(page: dict[str, Any]) -> dict[str, Any]:
    """What of the page's part about the configuration the operator's status has too."""
    return {name: value for name, value in page.items() if name != "source"}


class ReloadCase(DaemonCase):
    """A daemon in front of a simulator, whose configuration the test changes."""

    daemon: Server
    google: Simulator
    path: Path
    document: dict[str, Any]

    async def begin(self, keys: tuple[str, ...] = ("good-1",), **sections: Any) -> None:
        """Start both."""
        self.google = await self.simulator()
        self.watch_port = free_port()
        sections.setdefault("admin", {"listen": f"tcp:{self.watch_port}:interface=127.0.0.1"})
        self.path, port = self.configured({"studio": aistudio(self.google.url, keys=keys)}, **sections)
        self.document = json.loads(self.path.read_text())
        self.daemon = Server(self.twistd("antigravity", "--config", str(self.path)), port)
        self.watch = Server(self.daemon.child, self.watch_port)
        await self.daemon.started()

    async def reload(self, said: str = TAKEN) -> None:
        """Write the document, send SIGHUP, and wait until it is taken or refused."""
        self.path.write_text(json.dumps(self.document))
        await self.hup(said)

    async def hup(self, said: str = TAKEN) -> None:
        """Send SIGHUP and wait for what it says."""
        before = self.daemon.printed.count(said)
        self.daemon.child.signal("HUP")
        await until(lambda: self.daemon.printed.count(said) > before)

    async def ask(self, key: str = "", text: str = "Hello") -> Answer:
        """Ask for an answer."""
        return await self.daemon.ask(GENERATE, prompt(text), with_key(key) if key else ())

    async def operators_status(self) -> Any:
        """Return the status that admin.sock gives."""
        # The path itself may be too long for an address: unix(7).
        directory = os.open(self.document["state_dir"], os.O_RDONLY | os.O_DIRECTORY)
        self.addCleanup(os.close, directory)
        address = f"/proc/self/fd/{directory}/admin.sock"
        connection: Connection = await connectProtocol(UNIXClientEndpoint(reactor, address), Connection())
        connection.write(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return (await connection.ended()).json

    async def metric(self, name: str) -> float:
        """Return the value of a metric without labels."""
        page = (await self.watch.ask("/metrics")).body.decode()
        return next(float(line.split()[1]) for line in page.splitlines() if line.startswith(name + " "))


class ReloadTests(ReloadCase):
    async def test_client_keys_are_exchanged_at_once(self) -> None:
        """The new key is good, the old one is not, on connections of before too (P3)."""
        await self.begin(proxy={"api_key": KEY})
        kept = await self.daemon.connect()
        request = f"GET /v1beta/models HTTP/1.1\r\nHost: localhost\r\nx-goog-api-key: {KEY}\r\n\r\n".encode()
        kept.write(request)
        await kept.has(b"HTTP/1.1 200")
        self.document["proxy"]["api_key"] = OTHER
        await self.reload()
        kept.write(request)
        await kept.has(b"HTTP/1.1 401")
        self.assertEqual([(await self.ask(key)).status for key in (KEY, OTHER)], [401, 200])

    async def test_requests_under_way_end_as_they_began(self) -> None:
        """A stream goes on although its key, its credential and its upstream are gone (P3)."""
        await self.begin(proxy={"api_key": KEY})
        await self.google.fault("stall", after=1, seconds=1.0)
        stream = await self.daemon.begin(SSE, prompt(), with_key(KEY))
        await stream.has(b"data: ")
        self.document["proxy"]["api_key"] = OTHER
        self.document["upstreams"] = {"fresh": aistudio(self.google.url, keys=("good-2",))}
        await self.reload()
        self.assertTrue((await stream.ended()).whole)
        answer = await self.ask(OTHER)
        self.assertEqual(answer.headers["x-antigravity-credential"], "fresh/good-2")

    async def test_a_removed_credential_serves_no_new_request(self) -> None:
        """Sessions that were on it move (P3)."""
        await self.begin(keys=("good-1", "good-2"))
        first = (await self.ask()).headers["x-antigravity-credential"]
        self.assertEqual((await self.ask()).headers["x-antigravity-credential"], first)
        gone = first.split("/")[1]
        credentials = self.document["upstreams"]["studio"]["credentials"]
        self.document["upstreams"]["studio"]["credentials"] = [one for one in credentials if one["name"] != gone]
        await self.reload()
        answers = [await self.ask(text=f"Hello {n}") for n in range(3)] + [await self.ask()]
        self.assertEqual([answer.status for answer in answers], [200] * 4)
        self.assertNotIn(first, {answer.headers["x-antigravity-credential"] for answer in answers})

    async def test_the_rest_is_exchanged_too(self) -> None:
        """Aliases, models, limits, timeouts and the log's level (P3)."""
        await self.begin()
        self.document["routing"] = {"aliases": {"nick": MODEL}}
        self.document["models"] = {"made-up": {}}
        self.document["limits"] = {"body": "2KiB", "event": "1KiB", "queue": 7}
        self.document["timeouts"] = {"connect": "3s", "first_byte_unary": "1s"}
        self.document["log"] = {"level": "debug"}
        await self.reload()
        answer = await self.daemon.ask("/v1beta/models/nick:generateContent", prompt())
        self.assertEqual(answer.headers["x-antigravity-model"], MODEL)
        listed = (await self.daemon.ask("/v1beta/models")).body
        self.assertIn(b"made-up", listed)
        self.assertEqual((await self.ask(text="x" * 3000)).status, 413)
        await logged(self.daemon, " debug gateway.access: ")
        await self.google.fault("stall", seconds=5)
        self.assertEqual((await self.ask()).status, 504)
        del self.document["models"], self.document["log"]
        await self.reload()
        self.assertNotIn(b"made-up", (await self.daemon.ask("/v1beta/models")).body)

    async def test_standings_sessions_and_tokens_survive(self) -> None:
        """A cool-down goes on, a conversation stays where it is, and no account is asked for another token (P3)."""
        await self.begin()
        state = Path(self.document["state_dir"])
        (state / "accounts").mkdir(mode=0o700)
        secret(state / "accounts" / "a.json", json.dumps({"name": "a", "refresh_token": "1//first", "project": "p"}))
        pool = {
            "kind": "codeassist",
            "base_urls": [f"{self.google.url}/v1internal"],
            "oauth": {"client_id": "i", "client_secret": "s", "token_url": f"{self.google.url}/token"},
        }
        self.document["upstreams"] = {"pool": pool}
        await self.reload()
        self.assertEqual((await self.ask()).status, 200)
        before = (await self.google.control("GET", "state"))["refresh_calls"]
        # Everything about the upstream changes but who it is.
        pool["priority"], self.document["routing"] = 1, {"strategy": "round_robin", "sessions": {"limit": 10}}
        pool["models"] = ["gemini-*"]
        await self.reload()
        self.assertEqual((await self.ask()).status, 200)
        self.assertEqual((await self.google.control("GET", "state"))["refresh_calls"], before)
        await self.google.fault("status", code=429, times=1)
        self.assertEqual((await self.ask()).status, 429)
        await self.reload()
        self.assertEqual((await self.ask()).status, 429)

    async def test_listeners_are_exchanged(self) -> None:
        """A new one is open before the old one closes; connections of the old one carry no further request (P3)."""
        await self.begin()
        kept = await self.daemon.connect()
        old, new = self.daemon.port, free_port()
        self.document["proxy"]["listen"] = f"tcp:{new}:interface=127.0.0.1"
        await self.reload()
        await until(lambda: not listens(old))
        await kept.until(lambda: kept.over)
        self.daemon.port = new
        self.assertEqual((await self.ask()).status, 200)

    async def test_state_dir_waits_for_a_restart(self) -> None:
        """One line says so, and everything else takes effect (P3)."""
        await self.begin()
        self.document["state_dir"] = str(self.home / "elsewhere")
        self.document["routing"] = {"aliases": {"nick": MODEL}}
        await self.reload()
        await logged(self.daemon, "state_dir stays")
        self.assertFalse((self.home / "elsewhere").exists())
        self.assertEqual((await self.daemon.ask("/v1beta/models/nick:generateContent", prompt())).status, 200)

    async def test_the_simulators_gateway_reloads_too(self) -> None:
        """``--simulate`` keeps its simulator, and takes the rest of the file."""
        path, port = self.configured(None)
        server = Server(self.twistd("antigravity", "--simulate", "--config", str(path)), port)
        await server.started()
        document = json.loads(path.read_text())
        path.write_text(json.dumps({**document, "routing": {"aliases": {"nick": MODEL}}}))
        server.child.signal("HUP")
        await logged(server, TAKEN)
        self.assertEqual((await server.ask("/v1beta/models/nick:generateContent", prompt())).status, 200)


class BackgroundTests(DaemonCase):
    async def test_a_daemon_in_another_directory_finds_its_file_again(self) -> None:
        """P3: the path of the command line is that of the start, wherever the daemon works."""
        path, port = self.configured(None)
        elsewhere = self.home / "elsewhere"
        elsewhere.mkdir()
        log = self.home / "gateway.log"
        options = [f"--pidfile={self.home / 'gateway.pid'}", f"--logfile={log}", f"--rundir={elsewhere}"]
        child = await self.run_to_end("antigravity", "--simulate", "--config", path.name, options=options)
        self.assertEqual(child.exit_code, 0, child.printed)
        pid = int((self.home / "gateway.pid").read_text())
        self.addCleanup(kill, pid)
        document = json.loads(path.read_text())
        path.write_text(json.dumps({**document, "routing": {"aliases": {"nick": MODEL}}}))
        os.kill(pid, signal.SIGHUP)
        await until(lambda: TAKEN in log.read_text())
        server = Server(child, port)
        self.assertEqual((await server.ask("/v1beta/models/nick:generateContent", prompt())).status, 200)


class BrokenTests(ReloadCase):
    async def test_a_broken_configuration_changes_nothing(self) -> None:
        """Syntax, unknown key, loose file, missing file: the old one serves on, and it is told why (P4).

        In the log, in the metrics and in the status; ``--check`` gives the same verdict in the same words.
        """
        await self.begin(proxy={"api_key": KEY})
        loose = self.home / "loose"
        secret(loose, "a-secret")
        loose.chmod(0o644)
        good = self.path.read_text()

        def with_loose_file() -> str:
            document = json.loads(good)
            document["upstreams"]["studio"]["credentials"] = [{"name": "x", "api_key_file": str(loose)}]
            return json.dumps(document)

        port_taken = json.loads(good)
        port_taken["proxy"]["listen"] = [port_taken["proxy"]["listen"], f"tcp:{self.google.port}:interface=127.0.0.1"]
        cases = [
            ("proxy: [", "YAML"),
            (good.replace('"api_key": "a-c', '"api_kye": "a-c'), "api_key"),
            (with_loose_file(), "chmod 600"),
            (None, "cannot be read"),
        ]
        for number, (text, cure) in enumerate(cases, 1):
            self.path.unlink(missing_ok=True)
            if text is not None:
                secret(self.path, text)
            await self.hup(KEPT)
            told = next(line for line in reversed(self.daemon.printed.splitlines()) if KEPT in line)
            self.assertIn(cure, told)
            self.assertEqual((await self.ask(KEY)).status, 200)
            self.assertEqual(await self.metric("agw_config_reload_failed"), 1)
            self.assertEqual(await self.metric("agw_config_reload_failures_total"), number)
            status = (await self.watch.ask("/status")).json["configuration"]
            self.assertIn(status["last_failure"], told)
            self.assertEqual((await self.operators_status())["configuration"], status_of(status))
            check = await self.run_to_end("antigravity", "--config", str(self.path), "--check")
            self.assertEqual(check.exit_code, 78)
            self.assertIn(check.stderr.decode().strip().removeprefix("antigravity: "), told)
        secret(self.path, json.dumps(port_taken))
        await self.hup(KEPT)
        self.assertEqual((await self.ask(KEY)).status, 200)
        self.path.write_text(good)
        await self.hup()
        self.assertEqual(await self.metric("agw_config_reload_failed"), 0)
        self.assertEqual(await self.metric("agw_config_reloads_total"), 1)
        self.assertNotIn(KEY, self.daemon.printed)
        self.daemon.child.signal("TERM")
        self.assertTrue(await self.daemon.child.ended_within(10, reactor))
        self.assertEqual(self.daemon.child.exit_code, 0)

    async def test_a_loose_account_file_is_refused(self) -> None:
        """Files of credentials are checked at a reload as they are at the start (P4, P10)."""
        await self.begin()
        state = Path(self.document["state_dir"])
        (state / "accounts").mkdir(mode=0o700)
        secret(state / "accounts" / "a.json", json.dumps({"refresh_token": "1//first"}))
        (state / "accounts" / "a.json").chmod(0o644)
        self.document["upstreams"]["pool"] = {
            "kind": "codeassist",
            "oauth": {"client_id": "i", "client_secret": "s", "token_url": f"{self.google.url}/token"},
        }
        await self.reload(KEPT)
        self.assertIn("chmod 600", self.daemon.printed)
        self.assertEqual((await self.ask()).status, 200)
