"""An account from its sign-in to its revocation and back, with the commands and the daemon as processes."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import deferLater

from tests.processes import DEADLINE_SECONDS, GENERATE, POLL_SECONDS, Server, prompt, reactor
from tests.test_login import LoginCase

NAME = "newcomer"


class StoryTests(LoginCase):
    """One operator, one owner, and what Google does."""

    async def signed_in(self) -> str:
        """Sign the account in, as its owner's browser does, and return what the command printed."""
        child = self.login()
        await self.follow(child, await self.redirect(child, NAME))
        return await self.end(child, 0)

    async def started(self) -> Server:
        daemon = Server(self.twistd("antigravity", "--config", str(self.config)), self.port)
        await daemon.started()
        return daemon

    async def row(self) -> dict[str, Any]:
        """Return what ``accounts list`` says of the account."""
        child = self.command("accounts", "list", "--json", "--config", str(self.config))
        (row,) = json.loads(await self.end(child, 0))["accounts"]
        found: dict[str, Any] = row
        return found

    async def until(self, name: str, value: object) -> dict[str, Any]:
        """Wait until the row has something."""
        deadline = reactor.seconds() + DEADLINE_SECONDS
        while (row := await self.row())[name] != value:
            self.assertLess(reactor.seconds(), deadline, row)
            await deferLater(reactor, POLL_SECONDS)
        return row

    async def test_account_is_onboarded_refreshed_metered_revoked_and_signed_in_again(self) -> None:
        """U4, K1: as its operator sees it; a dead account stays out over a restart, and a new sign-in is a new one."""
        await self.prepare()
        await self.google.control("POST", "quota", {"credential": "*", "model": "gemini-2.5-flash", "daily": 4})
        printed = await self.signed_in()
        self.assertIn(f"{NAME}@example.com", printed)
        account = self.saved()
        self.assertTrue(account["project"], "onboarded, and its project discovered")
        daemon = await self.started()
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)
        row = await self.until("state", "ok")
        deadline = reactor.seconds() + DEADLINE_SECONDS
        while not (row := await self.row())["quota"]:
            self.assertLess(reactor.seconds(), deadline, row)
            await deferLater(reactor, POLL_SECONDS)
        self.assertIn("gemini-2.5-flash", {one["model"] for one in row["quota"]})

        before = (await self.google.control("GET", "state"))["refresh_calls"]
        await self.google.control("POST", "tokens", {"expire": "*"})
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)
        self.assertEqual((await self.google.control("GET", "state"))["refresh_calls"], before + 1)

        await self.google.control("POST", "tokens", {"revoke": [account["refresh_token"]], "expire": "*"})
        answer = await daemon.ask(GENERATE, prompt())
        self.assertEqual(answer.status, 503, answer.body)
        self.assertIn("UPSTREAM_CREDENTIALS_UNAVAILABLE", answer.reasons)
        row = await self.row()
        self.assertEqual((row["state"], row["reason"]), ("quarantined", "INVALID_GRANT"))
        daemon.child.signal("TERM")
        self.assertTrue(await daemon.child.ended_within(DEADLINE_SECONDS, reactor), daemon.printed)
        daemon = await self.started()
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 503)
        self.assertEqual((await self.row())["reason"], "INVALID_GRANT")

        self.assertIn(f"{NAME}@example.com", await self.signed_in())
        self.assertNotEqual(self.saved()["refresh_token"], account["refresh_token"])
        await self.until("state", "ok")
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)
