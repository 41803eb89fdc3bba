"""The admin API of a real daemon: signed in to by a code and by a password, and steered over the network."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit

from twisted.trial.unittest import SynchronousTestCase

from gateway.config import passwords
from tests.clients.daemon import free_port, secret, spawn
from tests.clients.environments import REPOSITORY
from tests.processes import DaemonCase, Server, aistudio, logged, reactor

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
