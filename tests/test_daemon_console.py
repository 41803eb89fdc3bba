"""The admin API of a real daemon: signed in to by a code and by a password, and steered over the network."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from gateway.config import passwords
from tests.clients.daemon import free_port, secret, spawn
from tests.clients.environments import REPOSITORY
from tests.processes import (
    DEADLINE_SECONDS,
    GENERATE,
    MODEL,
    POLL_SECONDS,
    DaemonCase,
    Server,
    aistudio,
    logged,
    prompt,
    reactor,
)
from tests.test_login import pool

TOKEN = "an-admin-token"
PASSWORD = "correct horse battery"
MARK = ("X-Antigravity-Request", "1")
JSON = ("Content-Type", "application/json")


class ConsoleTests(DaemonCase):
    async def begin(self) -> None:
        self.admin_port = free_port()
        self.admin = {"listen": f"tcp:{self.admin_port}:interface=127.0.0.1"}
        self.daemon = await self.gateway({"studio": aistudio("http://127.0.0.1:9", keys=("good-1",))}, admin=self.admin)
        self.config = self.home / f"antigravity-{self.daemon.port}.yaml"
        self.face = Server(self.daemon.child, self.admin_port)

    async def antigravity(self, *arguments: str) -> str:
        child = spawn(
            reactor,
            [sys.executable, "-m", "gateway.cli", *arguments],
            self.home,
            {"PYTHONPATH": str(REPOSITORY), "HOME": str(self.home)},
        )
        self.addCleanup(self._gone, child)
        self.assertTrue(await child.ended_within(30.0, reactor), child.printed)
        self.assertEqual(child.exit_code, 0, child.printed)
        return child.printed.strip()

    async def sign_in(self, **given: str) -> Any:
        body = json.dumps(given).encode()
        return await self.face.ask("/v1/session", body, [JSON, MARK])

    async def test_browser_signs_in_by_a_code_and_then_by_a_password(self) -> None:
        """The address is good once; a password is put into force by a reload, and signs everybody else out."""
        await self.begin()
        self.assertEqual((await self.face.ask("/v1/accounts")).status, 401)
        address = urlsplit(await self.antigravity("dashboard", "--config", str(self.config)))
        self.assertEqual((address.port, address.path), (self.admin_port, "/dashboard/"))
        code = address.fragment.removeprefix("code=")
        signed = await self.sign_in(code=code)
        self.assertEqual(signed.status, 200, signed.body)
        self.assertEqual((await self.sign_in(code=code)).status, 401)
        cookie = ("Cookie", signed.headers["set-cookie"].partition(";")[0])
        acted = await self.face.ask("/v1/accounts/studio/good-1/disable", b"", [cookie, MARK], method="POST")
        self.assertEqual(acted.json["account"]["state"], "disabled")
        await logged(self.daemon, "disable studio/good-1")
        self.assertNotIn(code, self.daemon.printed)

        document = json.loads(self.config.read_text())
        document["admin"]["password"] = passwords.hashed(PASSWORD)
        secret(self.config, json.dumps(document))
        self.daemon.child.signal("HUP")
        await logged(self.daemon, "has read its configuration anew")
        self.assertEqual((await self.face.ask("/v1/accounts", headers=[cookie])).status, 401)
        self.assertEqual((await self.sign_in(password="wrong horse")).status, 401)
        self.assertEqual((await self.sign_in(password=PASSWORD)).status, 200)
        self.assertNotIn(PASSWORD, self.daemon.printed)


class WatchingTests(DaemonCase):
    async def test_viewer_is_told_and_does_not_hold_up_the_end(self) -> None:
        """Over a real connection: a request as it ends; and a gateway that is told to end lets its viewers go."""
        port = free_port()
        admin = {"listen": f"tcp:{port}:interface=127.0.0.1", "token": TOKEN}
        daemon = await self.gateway({"studio": aistudio("http://127.0.0.1:9", keys=("good-1",))}, admin=admin)
        viewer = await Server(daemon.child, port).begin("/v1/live", headers=[("Authorization", f"Bearer {TOKEN}")])
        await viewer.until(lambda: b"event: accounts" in viewer.received)
        answer = await daemon.ask(GENERATE, prompt("a canary in the prompt"))
        await viewer.until(lambda: answer.headers["x-request-id"].encode() in viewer.received)
        self.assertNotIn(b"canary", viewer.received)
        daemon.child.signal("TERM")
        self.assertTrue(await daemon.child.ended_within(DEADLINE_SECONDS, reactor), daemon.printed)
        self.assertEqual(daemon.child.exit_code, 0)
        self.assertTrue(viewer.over)


class AddingTests(DaemonCase):
    """With the token, as scripts do."""

    async def begin(self) -> None:
        self.google = await self.simulator()
        self.daemon = await self.gateway(
            {"studio": aistudio(self.google.url, keys=("good-1",)), "pool": pool(self.google.url)},
            admin={"listen": f"tcp:{free_port()}:interface=127.0.0.1", "token": TOKEN},
        )
        admin = json.loads((self.home / f"antigravity-{self.daemon.port}.yaml").read_text())["admin"]
        self.face = Server(self.daemon.child, int(admin["listen"].split(":")[1]))

    async def ask(self, method: str, target: str, document: object = None, status: int = 200) -> Any:
        body = None if document is None else json.dumps(document).encode()
        bearer = ("Authorization", f"Bearer {TOKEN}")
        answer = await self.face.ask(target, body, [bearer, JSON], method=method)
        self.assertEqual(answer.status, status, answer.body)
        for secret_text in ("good-2", "1//sim", "ya29."):
            self.assertNotIn(secret_text, answer.body.decode().replace("added-good-2", ""))
        return answer.json

    async def row(self, name: str, state: str) -> None:
        """Wait until a credential is there and so."""
        deadline = reactor.seconds() + DEADLINE_SECONDS
        while True:
            rows = (await self.ask("GET", "/v1/accounts"))["accounts"]
            if any((f"{one['upstream']}/{one['name']}", one["state"]) == (name, state) for one in rows):
                return
            self.assertLess(reactor.seconds(), deadline, rows)
            await deferLater(reactor, POLL_SECONDS)

    async def test_key_is_added_used_and_removed(self) -> None:
        """It is kept as a file, which the gateway watches; one of the configuration is not removed."""
        await self.begin()
        told = await self.ask(
            "POST", "/v1/upstreams/studio/credentials", {"name": "added", "api_key": "good-2", "project": "p"}
        )
        path = told.pop("path")
        self.assertTrue(path.endswith("/credentials/studio/added.json"), path)
        self.assertEqual(told, {"upstream": "studio", "name": "added", "label": "studio/added", "renewed": False})
        await self.row("studio/added", "ok")
        self.assertTrue((await self.ask("POST", "/v1/accounts/studio/added/test"))["good"])
        await self.ask("POST", "/v1/accounts/studio/good-1/disable")
        answer = await self.daemon.ask(GENERATE, prompt())
        self.assertEqual(answer.headers["x-antigravity-credential"], "studio/added")
        await self.ask("DELETE", "/v1/accounts/studio/added")
        await logged(self.daemon, "removed studio/added")
        for method, target, document, status in (
            ("DELETE", "/v1/accounts/studio/added", None, 404),
            ("DELETE", "/v1/accounts/studio/good-1", None, 409),
            ("PATCH", "/v1/accounts/studio/good-1/terms", {"weight": 2}, 409),
            ("PATCH", "/v1/accounts/studio/added/terms", {"weight": 2}, 404),
            ("POST", "/v1/upstreams/studio/credentials", {"name": "good-1", "api_key": "x"}, 409),
            ("POST", "/v1/upstreams/studio/credentials", {"name": "x", "service_account": {"a": 1}}, 400),
            ("POST", "/v1/upstreams/studio/credentials", {"name": "x", "api_key": "two words"}, 400),
            ("POST", "/v1/upstreams/studio/credentials", {"name": "../x", "api_key": "x"}, 400),
            ("POST", "/v1/upstreams/pool/credentials", {"name": "x", "api_key": "x"}, 400),
            ("POST", "/v1/upstreams/none/credentials", {"name": "x", "api_key": "x"}, 404),
        ):
            await self.ask(method, target, document, status)
        self.assertNotIn("good-2", self.daemon.printed)

    async def test_account_is_signed_in_by_what_its_owner_pastes(self) -> None:
        """Also where the browser cannot come back by itself; the account is used at once."""
        await self.begin()
        begun = await self.ask("POST", "/v1/upstreams/pool/sign-ins", {"name": "ann"})
        self.assertEqual(begun["state"], "waiting")
        path = f"/v1/sign-ins/{begun['id']}"
        await self.ask("POST", path, {"answer": "not a code at all"}, 400)
        there = await self.google.ask(begun["url"].removeprefix(self.google.url) + "&login_hint=ann")
        await self.ask("POST", path, {"answer": there.headers["location"]})
        deadline = reactor.seconds() + DEADLINE_SECONDS
        while (row := await self.ask("GET", path))["state"] not in ("done", "failed"):
            self.assertLess(reactor.seconds(), deadline, row)
            await deferLater(reactor, POLL_SECONDS)
        self.assertEqual((row["state"], row["account"]), ("done", "ann"), row)
        await self.row("pool/ann", "ok")
        await self.ask("POST", path, {"answer": "4/code"}, 409)

    async def test_sign_in_ends_with_the_browser_or_is_given_up(self) -> None:
        """The redirect's listener is on the gateway's machine; nobody signs in to an upstream of keys."""
        await self.begin()
        await self.ask("POST", "/v1/upstreams/studio/sign-ins", {}, 409)
        begun = [await self.ask("POST", "/v1/upstreams/pool/sign-ins", {}) for _ in range(4)]
        await self.ask("POST", "/v1/upstreams/pool/sign-ins", {}, 429)
        there = await self.google.ask(begun[0]["url"].removeprefix(self.google.url) + "&login_hint=bob")
        parts = urlsplit(there.headers["location"])
        page = await Server(self.daemon.child, int(parts.port or 0)).ask(f"{parts.path}?{parts.query}")
        self.assertIn(b"Signed in", page.body)
        await self.row("pool/bob@example.com", "ok")
        given_up = await self.ask("DELETE", f"/v1/sign-ins/{begun[1]['id']}")
        self.assertEqual(given_up["state"], "failed")
        await self.ask("GET", "/v1/sign-ins/none", status=404)

    async def test_models_clients_and_playground(self) -> None:
        """What is listed, where clients come in, and a prompt through the pool."""
        await self.begin()
        models = await self.ask("GET", "/v1/models")
        self.assertIn(MODEL, [one["id"] for one in models["models"]])
        clients = await self.ask("GET", "/v1/clients")
        self.assertEqual(clients["base_urls"], [f"http://127.0.0.1:{self.daemon.port}"])
        bearer = ("Authorization", f"Bearer {TOKEN}")
        shown = await self.face.ask(f"/v1/playground/{MODEL}", prompt("Hello"), [bearer, JSON])
        self.assertEqual((shown.status, shown.headers["content-type"]), (200, "text/event-stream"))
        self.assertTrue(shown.body.startswith(b"event: routed\ndata: {"))
        self.assertIn(b"usageMetadata", shown.body)
        await logged(self.daemon, "/v1/playground 200")


class PasswordTests(SynchronousTestCase):
    def made(self, given: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "gateway.cli", "password"]
        return subprocess.run(program, input=given, capture_output=True, text=True, check=False, cwd=REPOSITORY)

    def test_command_makes_the_hash_that_the_configuration_takes(self) -> None:
        """From standard input, where that is no terminal; one that is easily guessed is refused."""
        made = self.made(PASSWORD + "\n")
        self.assertEqual((made.returncode, made.stderr), (0, ""))
        self.assertTrue(passwords.is_hash(made.stdout.strip()))
        self.assertTrue(passwords.matches(made.stdout.strip(), PASSWORD))
        short = self.made("short\n")
        self.assertEqual((short.returncode, short.stdout), (1, ""))
