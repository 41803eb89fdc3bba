"""A simulator, a configuration that names it, and the operator's commands.  Does I/O."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.clients.daemon import Child, secret, spawn
from tests.clients.environments import REPOSITORY
from tests.processes import DEADLINE_SECONDS, DaemonCase, Server, Simulator, aistudio, reactor

CANARY = "the-client-secret"


class OperatorCase(DaemonCase):
    """Two API keys and two accounts, a daemon or none, and ``antigravity``."""

    google: Simulator
    config: Path
    port: int

    async def prepare(self, **more: Any) -> None:
        """Write the configuration and the accounts, and start the simulator."""
        self.google = await self.simulator()
        self.write(**more)
        self.account_file("ann.json", {"name": "ann", "refresh_token": "1//sim-ann", "project": "project-a"})
        self.account_file("bob.json", {"email": "bob@b.example", "refresh_token": "1//sim-bob", "project": "project-b"})

    def write(self, **more: Any) -> None:
        """Write the configuration."""
        url = self.google.url
        pool = {
            "kind": "codeassist",
            "base_urls": [f"{url}/v1internal"],
            "oauth": {"client_id": "an-id", "client_secret": CANARY, "token_url": f"{url}/token"},
        }
        studio = aistudio(url, keys=("good-1", "good-2"))
        self.config, self.port = self.configured({"studio": studio, "pool": pool, **more})

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.home / f"state-{self.port}"

    def account_file(self, name: str, document: object) -> Path:
        """Write an account file."""
        path = self.state / "accounts" / name
        for directory in (self.state, path.parent):
            directory.mkdir(mode=0o700, exist_ok=True)
        secret(path, json.dumps(document))
        return path

    async def daemon(self) -> Server:
        """Start the daemon."""
        server = Server(self.twistd("antigravity", "--config", str(self.config)), self.port)
        await server.started()
        return server

    async def stopped(self, server: Server) -> None:
        """Stop the daemon."""
        server.child.signal("TERM")
        self.assertTrue(await server.child.ended_within(DEADLINE_SECONDS, reactor), server.printed)

    def begun(self, *arguments: str) -> Child:
        """Start ``antigravity``, with the configuration's file."""
        child = spawn(
            reactor,
            [sys.executable, "-m", "gateway.cli", *arguments, "--config", str(self.config)],
            self.home,
            {"PYTHONPATH": str(REPOSITORY), "HOME": str(self.home)},
        )
        self.addCleanup(self._gone, child)
        return child

    async def run_command(self, *arguments: str, status: int = 0) -> str:
        """Run ``antigravity`` to its end, and return what it printed; it shows no secret unless it says so."""
        child = self.begun(*arguments)
        self.assertTrue(await child.ended_within(DEADLINE_SECONDS, reactor), child.printed)
        self.assertEqual(child.exit_code, status, child.printed)
        for word in (CANARY, "ya29.", "1//sim"):
            self.assertNotIn(word, child.printed)
        return child.printed

    async def accounts(self, *arguments: str, status: int = 0) -> str:
        """Run ``antigravity accounts``."""
        return await self.run_command("accounts", *arguments, status=status)

    async def rows(self) -> dict[str, Any]:
        """Return what ``accounts list --json`` says, by full name."""
        document = json.loads(await self.accounts("list", "--json"))
        return {f"{row['upstream']}/{row['name']}": row for row in document["accounts"]}
