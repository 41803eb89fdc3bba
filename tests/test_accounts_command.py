"""``antigravity accounts`` as a process: on files, and against a running daemon before the simulator."""

from __future__ import annotations

import json
import os
import re
import stat
from typing import Any

from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.statedir import SOCKET
from gateway.commands import tables
from gateway.commands.pool import Place
from gateway.config import ConfigError
from tests.operator import OperatorCase
from tests.processes import GENERATE, POLL_SECONDS, Server, prompt, reactor

ALL = {"studio/good-1", "studio/good-2", "pool/ann", "pool/bob@b.example"}


class RunningTests(OperatorCase):
    """With a daemon."""

    async def test_socket_is_the_owners_alone_and_gone_at_the_end(self) -> None:
        """0600 in a directory of 0700; one that a killed daemon left is replaced."""
        await self.prepare()
        daemon = await self.daemon()
        path = self.state / SOCKET
        self.assertEqual(stat.S_IMODE(path.lstat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.state.stat().st_mode), 0o700)
        daemon.child.signal("KILL")
        await daemon.child.ended()
        self.assertTrue(path.exists())
        self.assertIn("does not run", await self.accounts("list"))
        daemon = await self.daemon()
        self.assertNotIn("does not run", await self.accounts("list"))
        await self.stopped(daemon)
        self.assertFalse(path.exists())

    async def test_list_needs_no_credential_of_the_configuration(self) -> None:
        """Keys that only the daemon's environment has are not the command's business."""
        await self.prepare()
        document = json.loads(self.config.read_bytes())
        document["upstreams"]["studio"]["credentials"] = [{"name": "one", "api_key_env": "ONE_KEY"}]
        self.config.write_text(json.dumps(document))
        child = self.twistd("antigravity", "--config", str(self.config), environ={"ONE_KEY": "good-1"})
        await Server(child, self.port).started()
        self.assertIn("studio/one", await self.accounts("list"))

    async def test_disabled_account_serves_nobody_until_enabled(self) -> None:
        """At once; the log says who did it; and a restart does not forget it."""
        await self.prepare()
        daemon = await self.daemon()
        printed = await self.accounts("disable", "good-1", "pool/ann", "bob@b.example")
        self.assertIn("studio/good-1 is disabled.", printed)
        self.assertIn(f"user {os.getuid()} (process ", daemon.printed)
        self.assertIn("disable studio/good-1, now disabled", daemon.printed)
        self.assertNotIn("bob@b.example", daemon.printed)
        for _ in range(4):
            answer = await daemon.ask(GENERATE, prompt())
            self.assertEqual(answer.headers["x-antigravity-credential"], "studio/good-2")
        await self.stopped(daemon)
        daemon = await self.daemon()
        rows = await self.rows()
        self.assertEqual(rows["studio/good-1"]["state"], "disabled")
        self.assertIsNotNone(rows["studio/good-2"]["last_used"])
        self.assertIn("as it was", await self.accounts("disable", "good-1"))
        await self.accounts("enable", "good-1")
        self.assertEqual((await self.rows())["studio/good-1"]["state"], "ok")

    async def test_cool_down_is_listed_and_cleared(self) -> None:
        """With its reason and its end; cleared, the credential serves again."""
        await self.prepare()
        daemon = await self.daemon()
        await self.accounts("disable", "good-2", "ann", "bob@b.example")
        await self.google.fault("status", reason="PER_MINUTE", times=1, match={"verb": "generateContent"})
        answer = await daemon.ask(GENERATE, prompt())
        self.assertEqual(answer.status, 429, answer.body)
        printed = await self.accounts("list")
        self.assertRegex(printed, r"studio/good-1 +aistudio +cooling +gemini-2.5-flash: \S+ +in \d+ s")
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 429)
        self.assertIn("studio/good-1 is ok.", await self.accounts("clear", "good-1"))
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)

    async def test_test_tells_in_words_how_it_went(self) -> None:
        """Of a key and an account, good and bad; the exit status follows."""
        await self.prepare()
        await self.daemon()
        printed = await self.accounts("test", "good-1", "ann")
        self.assertIn("studio/good-1 works: it answered countTokens of gemini-2.5-flash", printed)
        self.assertIn("pool/ann works", printed)
        await self.google.fault("status", reason="API_KEY_INVALID", match={"credential": "good-1"})
        printed = await self.accounts("test", "good-1", status=1)
        self.assertIn("studio/good-1 does not work: status 400, API_KEY_INVALID", printed)
        (result,) = json.loads(await self.accounts("test", "good-1", "--json", status=1))["results"]
        self.assertEqual((result["good"], result["account"]["state"]), (False, "ok"))

    async def test_quota_is_fetched_and_shown(self) -> None:
        """What Google says is left, for accounts."""
        await self.prepare()
        quota = {"credential": "*", "model": "gemini-2.5-flash", "daily": 4}
        await self.google.control("POST", "quota", quota)
        await self.daemon()
        rows: dict[str, Any] = {}
        deadline = reactor.seconds() + 20
        while not rows.get("pool/ann", {}).get("quota") and reactor.seconds() < deadline:
            await deferLater(reactor, POLL_SECONDS)
            rows = await self.rows()
        figures = {one["model"]: one["remaining"] for one in rows["pool/ann"]["quota"]}
        self.assertEqual(figures["gemini-2.5-flash"], 1.0)
        self.assertEqual(rows["studio/good-1"]["quota"], [])
        self.assertRegex(await self.accounts("list"), r"pool/ann .* 100 %")

    async def test_halted_upstream_goes_on_when_told(self) -> None:
        """Two accounts that need their owners stop the pool; the operator says go."""
        await self.prepare()
        daemon = await self.daemon()
        await self.accounts("disable", "good-1", "good-2")
        await self.google.fault("status", reason="VALIDATION_REQUIRED", match={"verb": "generateContent"})
        answer = await daemon.ask(GENERATE, prompt())
        self.assertEqual(answer.status, 503, answer.body)
        rows = await self.rows()
        self.assertEqual({rows["pool/ann"]["state"], rows["pool/bob@b.example"]["state"]}, {"halted"})
        self.assertIn("pool goes on.", await self.accounts("resume", "pool"))
        self.assertIn("pool was not halted.", await self.accounts("resume", "pool"))
        printed = await self.accounts("list")
        self.assertRegex(printed, r"pool/ann +codeassist +quarantined +VALIDATION_REQUIRED +cleared")
        self.assertIn("its owner must open https://", printed)
        await self.google.clear()
        await self.accounts("clear", "ann")
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)
        printed = await self.accounts("resume", "nowhere", status=1)
        self.assertIn("There is no upstream 'nowhere'; there is: studio, pool.", printed)


class AtRestTests(OperatorCase):
    """Without a daemon."""

    async def test_files_and_what_was_kept_are_listed(self) -> None:
        """Names, states and last uses, as the next start will find them."""
        await self.prepare()
        daemon = await self.daemon()
        answer = await daemon.ask(GENERATE, prompt())
        self.assertEqual(answer.status, 200)
        await self.accounts("disable", "ann")
        await self.stopped(daemon)
        rows = await self.rows()
        self.assertEqual(set(rows), ALL)
        self.assertEqual(rows["pool/ann"]["state"], "disabled")
        self.assertEqual(sum(row["last_used"] is not None for row in rows.values()), 1)
        self.assertIn("(The gateway does not run", await self.accounts("list"))

    async def test_changes_wait_for_the_next_start(self) -> None:
        """They are kept where the daemon keeps its own."""
        await self.prepare()
        self.assertIn("pool/ann is disabled.", await self.accounts("disable", "pool/ann"))
        self.assertIn("as it was", await self.accounts("disable", "ann"))
        daemon = await self.daemon()
        rows = await self.rows()
        self.assertEqual((rows["pool/ann"]["state"], rows["studio/good-1"]["state"]), ("disabled", "ok"))
        await self.stopped(daemon)
        await self.accounts("enable", "ann")
        self.assertEqual((await self.rows())["pool/ann"]["state"], "ok")

    async def test_test_goes_out_by_itself(self) -> None:
        """With the token that it fetches for itself."""
        await self.prepare()
        self.assertIn("pool/ann works", await self.accounts("test", "ann"))

    async def test_wrong_names_and_configurations_are_told_in_a_sentence(self) -> None:
        """Status 1 for what is asked, 78 for the configuration."""
        await self.prepare()
        self.assertIn("There is no credential 'nobody'", await self.accounts("disable", "nobody", status=1))
        self.assertIn("takes one or more NAME", await self.accounts("disable", status=1))
        self.assertIn("--all", await self.accounts("clear", status=1))
        self.assertIn("option --wrong not recognized", await self.accounts("list", "--wrong", status=1))
        self.account_file("bad.json", {"name": "x"})
        printed = await self.accounts("list", status=1)
        self.assertIn("bad.json: `refresh_token` is missing", printed)
        self.config.write_text("{")
        self.assertIn(str(self.config), await self.accounts("list", status=78))

    async def test_standings_that_cannot_be_read_are_told_in_a_sentence(self) -> None:
        """And nothing is changed."""
        await self.prepare()
        (self.state / "standing.json").mkdir()
        printed = await self.accounts("list", status=1)
        self.assertIn("standing.json", printed)
        self.assertIn("cannot be read: Is a directory", printed)
        self.assertTrue((self.state / "standing.json").is_dir())

    async def test_name_that_is_no_text_is_told_in_a_sentence(self) -> None:
        """With a daemon and without."""
        await self.prepare()
        self.assertIn("is not valid UTF-8", await self.run_command("explain", "\udcff", status=1))
        await self.daemon()
        self.assertIn("is not valid UTF-8", await self.run_command("explain", "\udcff", status=1))

    async def test_clear_all_is_said_so(self) -> None:
        """Each credential is named with its state."""
        await self.prepare()
        printed = await self.accounts("clear", "--all")
        self.assertEqual(len(printed.splitlines()), 4)


class PlaceTests(SynchronousTestCase):
    """Which gateway is meant."""

    def test_who_names_none_is_told_how(self) -> None:
        """Not how to start one: that is for the daemon to say."""
        why = str(self.assertRaises(ConfigError, Place().read, {"HOME": "/home/somebody"}))
        self.assertIn("GEMINI_API_KEY: it is not set", why)
        self.assertIn("--config FILE, or the state directory of one that runs with --state-dir DIR", why)
        self.assertNotIn("--simulate", why)


class TableTests(SynchronousTestCase):
    """Text for people."""

    def row(self, **changes: Any) -> dict[str, Any]:
        row: dict[str, Any] = {
            "name": "a", "upstream": "u", "kind": "aistudio", "label": "u/a", "project": "", "state": "ok",
            "reason": "", "link": "", "since": None, "models": [], "quota": [], "last_used": None, "in_flight": 0,
            "weight": 1.0, "priority": 0, "max_concurrent": 0,
        }  # fmt: skip
        return {**row, **changes}

    def test_times_have_two_units_at_most(self) -> None:
        """So that one can read them aloud."""
        for seconds, text in (
            (0.2, "1 s"), (59, "59 s"), (60, "1 min"), (150, "2 min"), (3599, "1 h"), (7980, "2 h 13 min"),
            (86_400, "24 h"), (200_000, "2 d 8 h"), (2 * 86_400, "2 d"),
        ):  # fmt: skip
            self.assertEqual(tables.span(seconds), text)
        self.assertEqual(tables.later(7980), "in 2 h 13 min")
        self.assertEqual(tables.ago("1970-01-01T00:00:10Z", 40.0), "30 s ago")
        self.assertEqual(tables.ago(None, 40.0), "never")

    def test_each_resting_model_has_a_line(self) -> None:
        """The first beside the name."""
        models = [
            {"model": "m", "state": "cooling", "reason": "R", "until": "1970-01-01T00:01:00Z", "next_try": None},
            {"model": "n", "state": "half-open", "reason": "", "until": None, "next_try": None},
        ]
        printed = tables.accounts([self.row(state="cooling", models=models)], 0.0).splitlines()
        first = ["u/a", "aistudio", "cooling", "m: R", "in 1 min", "unknown", "never", "-"]
        self.assertEqual(re.split("  +", printed[1]), first)
        self.assertEqual(re.split("  +", printed[2].strip()), ["half-open", "n: -", "-"])

    def test_quota_shows_the_least(self) -> None:
        """And of which model, where they differ."""
        one, two = {"model": "m", "remaining": 0.999, "reset": None}, {"model": "n", "remaining": 0.5, "reset": None}
        self.assertEqual(tables.quota([one, two]), "50 % (n)")
        self.assertEqual(tables.quota([one]), "99 %")
        self.assertEqual(tables.quota([]), "unknown")

    def test_terms_have_a_column_only_where_some_are_not_as_most(self) -> None:
        """The table is wide enough."""
        self.assertNotIn("TERMS", tables.accounts([self.row()], 0.0))
        other = self.row(name="b", weight=0.5, priority=-2, max_concurrent=4)
        head, first, second = tables.accounts([self.row(), other], 0.0).splitlines()
        self.assertTrue(head.endswith("TERMS") and first.endswith(" -"), (head, first))
        self.assertTrue(second.endswith("weight 0.5, priority -2, at most 4 at a time"), second)

    def test_names_cannot_move_the_cursor(self) -> None:
        """They come from files; wide letters keep their columns."""
        printed = tables.accounts([self.row(name="\x1b[2Jx\n"), self.row(name="名前")], 0.0)
        self.assertNotIn("\x1b", printed)
        self.assertEqual(len(printed.splitlines()), 3)
        lines = printed.splitlines()
        self.assertEqual(lines[1].index("aistudio"), lines[2].index("aistudio") + 2)
