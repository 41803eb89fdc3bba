"""The daemon and its account files: what is added, changed and removed while it runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater

from gateway.accounts.sealing import Seal
from gateway.accounts.store import load
from gateway.calls import Secret
from tests.clients.daemon import secret
from tests.processes import DEADLINE_SECONDS, GENERATE, POLL_SECONDS, DaemonCase, Server, Simulator, prompt, reactor

KEY = bytes(range(32))


class AccountTests(DaemonCase):
    """One ``codeassist`` upstream before the simulator."""

    async def started(
        self, *names: str, rotate: bool = False, **members: Any
    ) -> tuple[Server, Simulator, Path]:
        simulator = await self.simulator()
        # Before the daemon starts: it wants tokens for purposes of its own too.
        await simulator.control("POST", "tokens", {"rotate": rotate})
        accounts = self.home / "state" / "accounts"
        for directory in (accounts.parent, accounts):
            directory.mkdir(mode=0o700)
        self.accounts = accounts
        for name in names:
            self.put(name)
        upstream = {
            "kind": "codeassist",
            "base_urls": [f"{simulator.url}/v1internal"],
            "oauth": {"client_id": "an-id", "client_secret": "a-secret", "token_url": f"{simulator.url}/token"},
            **members,
        }
        daemon = await self.gateway({"pool": upstream}, state_dir=str(accounts.parent))
        return daemon, simulator, accounts

    def put(self, name: str, **members: str) -> None:
        """Write an account file as an editor does: beside its place, and then into it."""
        fresh = self.home / "fresh"
        secret(fresh, json.dumps({"name": name, "refresh_token": name, "project": f"project-{name}", **members}))
        fresh.rename(self.accounts / f"{name}.json")

    async def logged(self, daemon: Server, text: str) -> None:
        deadline = reactor.seconds() + DEADLINE_SECONDS
        while text not in daemon.printed:
            self.assertLess(reactor.seconds(), deadline, f"{text!r} is not in:\n{daemon.printed}")
            await deferLater(reactor, POLL_SECONDS)

    async def serving(self, daemon: Server, simulator: Simulator, count: int = 4) -> set[str]:
        """Ask several times, and return which accounts served."""
        before = len(await simulator.requests())
        for number in range(count):
            answer = await daemon.ask(GENERATE, prompt(f"Question {before}-{number}"))
            self.assertEqual(answer.status, 200, answer.body)
        return {entry["credential"] for entry in (await simulator.requests())[before:]}

    async def test_accounts_come_and_go_while_the_daemon_runs(self) -> None:
        """Added: used; of the wrong mode: not used, with the cure in the log; removed: used no more."""
        daemon, simulator, accounts = await self.started("first")
        self.assertEqual(await self.serving(daemon, simulator), {"first"})
        self.put("second")
        await self.logged(daemon, "added pool/")
        self.assertEqual(await self.serving(daemon, simulator), {"first", "second"})
        secret(accounts / "third.json", json.dumps({"refresh_token": "third", "project": "p"}))
        (accounts / "third.json").chmod(0o644)
        await self.logged(daemon, "chmod 600")
        self.assertEqual(await self.serving(daemon, simulator), {"first", "second"})
        (accounts / "third.json").unlink()
        (accounts / "first.json").unlink()
        await self.logged(daemon, "removed pool/")
        self.assertEqual(await self.serving(daemon, simulator), {"second"})
        refreshes = (await simulator.control("GET", "state"))["refresh_calls_by_account"]
        self.assertEqual(refreshes, {"first": 1, "second": 1})

    async def test_first_account_may_come_after_the_start(self) -> None:
        """An empty pool answers 503 until there is one; the directory need not be there either."""
        daemon, simulator, accounts = await self.started()
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 503)
        accounts.rmdir()
        accounts.mkdir(0o700)
        self.put("first")
        await self.logged(daemon, "added pool/")
        self.assertEqual(await self.serving(daemon, simulator), {"first"})

    async def test_rotated_tokens_are_sealed_and_used_after_a_restart(self) -> None:
        """S9: with a key nothing of a new refresh token is on disk in clear, and the account is not reset by it."""
        secret(self.home / "accounts.key", KEY.hex())
        daemon, simulator, accounts = await self.started("first", rotate=True, credentials_key_file="accounts.key")
        self.assertEqual(await self.serving(daemon, simulator), {"first"})
        written = (accounts / "first.json").read_bytes()
        self.assertEqual(set(json.loads(written)), {"sealed", "nonce", "data"})
        (account,) = load(accounts, Seal(Secret(KEY.hex()), os.urandom))
        self.assertTrue(account.refresh_token.reveal().startswith("1//sim-"))
        self.put("second")
        await self.logged(daemon, "added pool/")
        self.assertEqual(await self.serving(daemon, simulator), {"first", "second"})
        refreshes = (await simulator.control("GET", "state"))["refresh_calls_by_account"]
        self.assertEqual(refreshes, {"first": 1, "second": 1})
        daemon.child.signal("TERM")
        self.assertTrue(await daemon.child.ended_within(DEADLINE_SECONDS, reactor), daemon.printed)
        config = str(next(self.home.glob("antigravity-*.yaml")))
        again = Server(self.twistd("antigravity", "--config", config), daemon.port)
        await again.started()
        self.assertEqual(await self.serving(again, simulator), {"first", "second"})

    async def test_sealed_accounts_without_their_key_are_refused_at_the_start(self) -> None:
        """Status 78 and one sentence with the cure."""
        secret(self.home / "accounts.key", KEY.hex())
        daemon, simulator, _ = await self.started("first", rotate=True, credentials_key_file="accounts.key")
        await self.serving(daemon, simulator, 1)
        daemon.child.signal("TERM")
        await daemon.child.ended_within(DEADLINE_SECONDS, reactor)
        path = next(self.home.glob("antigravity-*.yaml"))
        document = json.loads(path.read_bytes())
        for change, cure in (({}, "write credentials_key_file"), ({"credentials_key_file": "other"}, "another key")):
            secret(self.home / "other", "11" * 32)
            del document["upstreams"]["pool"]["credentials_key_file"]
            document["upstreams"]["pool"].update(change)
            secret(path, json.dumps(document))
            ended = await self.run_to_end("antigravity", "--config", str(path))
            self.assertEqual(ended.exit_code, 78, ended.printed)
            self.assertIn(cure, ended.printed)
            document["upstreams"]["pool"].setdefault("credentials_key_file", "")

    async def test_account_without_a_project_finds_its_own(self) -> None:
        """Discovered in the background, saved, and used; one that Google refuses is told with its link."""
        daemon, simulator, accounts = await self.started()
        self.put("known", project="")
        await self.logged(daemon, "works in project project-of-known")
        self.assertEqual(await self.serving(daemon, simulator), {"known"})
        self.assertEqual(json.loads((accounts / "known.json").read_bytes())["project"], "project-of-known")
        self.put("ineligible-one", project="")
        await self.logged(daemon, "https://accounts.google.com/signin/continue")
        self.assertIn("Verify your account", daemon.printed)
        self.assertEqual(await self.serving(daemon, simulator), {"known"})
