"""``antigravity explain`` as a process: on files, and against a running daemon before the simulator."""

from __future__ import annotations

import json

from tests.operator import OperatorCase
from tests.processes import GENERATE, MODEL, prompt


class ExplainTests(OperatorCase):
    """Where a request would go, and why not elsewhere."""

    async def test_running_daemon_tells_what_it_would_do_now(self) -> None:
        """And then does it."""
        await self.prepare()
        daemon = await self.daemon()
        await self.accounts("disable", "good-1")
        await self.google.fault("status", reason="PER_MINUTE", times=1, match={"credential": "good-2"})
        first = await daemon.ask(GENERATE, prompt())
        self.assertEqual(first.status, 200, first.body)
        document = json.loads(await self.run_command("explain", MODEL, "--json"))
        self.assertTrue(document["running"])
        options = {option["name"]: option for option in document["options"]}
        self.assertEqual(options["good-1"]["state"], "disabled")
        self.assertEqual(options["good-2"]["state"], "cooling")
        self.assertGreater(options["good-2"]["free_seconds"], 0)
        (chosen,) = [option["label"] for option in document["options"] if option["chosen"]]
        answer = await daemon.ask(GENERATE, prompt("another conversation"))
        self.assertEqual(answer.headers["x-antigravity-credential"], chosen)

    async def test_session_is_found_by_what_the_client_sends(self) -> None:
        """It stays where it is, and a new one goes elsewhere."""
        await self.prepare()
        daemon = await self.daemon()
        answer = await daemon.ask(GENERATE, prompt(), [("X-Session-Id", "my chat")])
        where = answer.headers["x-antigravity-credential"]
        document = json.loads(await self.run_command("explain", MODEL, "--session", "my chat", "--json"))
        self.assertEqual(document["session_on"], where)
        (chosen,) = [option["label"] for option in document["options"] if option["chosen"]]
        self.assertEqual(chosen, where)
        printed = await self.run_command("explain", MODEL, "--session", document["session"])
        self.assertIn(f"Session {document['session']}: on {where}.", printed)

    async def test_without_a_daemon_it_tells_how_it_would_begin(self) -> None:
        """From the configuration and what was kept."""
        await self.prepare()
        await self.accounts("disable", "good-1")
        printed = await self.run_command("explain", "text-embedding-004", "--verb", "embedContent")
        self.assertIn("embedContent of text-embedding-004 goes to studio/good-2.", printed)
        self.assertRegex(printed, r"->  studio/good-2 +ok +chosen")
        self.assertRegex(printed, r"studio/good-1 +disabled +DISABLED")
        self.assertRegex(printed, r"pool/ann +unable +METHOD_NOT_ON_UPSTREAM")
        self.assertIn("(The gateway does not run", printed)

    async def test_nobody_is_told_as_such(self) -> None:
        """Status 1, and when the first is back."""
        await self.prepare()
        await self.accounts("disable", "good-1", "good-2", "ann", "bob@b.example")
        printed = await self.run_command("explain", MODEL, status=1)
        self.assertIn(f"generateContent of {MODEL} goes to nobody now, and none comes back by itself.", printed)
        self.assertIn("explain takes one MODEL", await self.run_command("explain", status=1))
        self.assertIn("No configured upstream has", await self.run_command("explain", MODEL, "--verb", "x", status=1))
