"""The daemon and its client keys: ``antigravity keys`` beside it, limits that hold, and nothing of a key on disk."""

from __future__ import annotations

import json
from typing import Any

from tests.operator import OperatorCase
from tests.processes import GENERATE, Connection, Server, head, logged, prompt, until

AT_ONCE = 200


class KeysCase(OperatorCase):
    async def keys(self, *arguments: str, status: int = 0) -> str:
        """Run ``antigravity keys``."""
        return await self.run_command("keys", *arguments, status=status)

    async def made(self, name: str, *options: str) -> tuple[str, dict[str, Any]]:
        """Create a key, and return it and its row."""
        document = json.loads(await self.keys("create", name, "--json", *options))
        return document["secret"], document["key"]

    async def status(self, server: Server, key: str, target: str = "/v1beta/models") -> int:
        return (await server.ask(target, headers=(("x-goog-api-key", key),))).status

    async def own(self, server: Server, key: str) -> Any:
        answer = await server.ask("/antigravity/me", headers=(("x-goog-api-key", key),))
        self.assertEqual(answer.status, 200, answer.body)
        return answer.json


class CommandTests(KeysCase):
    async def test_keys_are_steered_with_and_without_a_daemon(self) -> None:
        """In the files before the start, and on the running daemon, at once.  Nothing of a secret is left anywhere."""
        await self.prepare()
        first, row = await self.made("first", "--models", "gemini-*", "--requests-per-minute", "100")
        daemon = await self.daemon()
        self.assertEqual([await self.status(daemon, key) for key in (first, "", "other")], [200, 401, 401])
        second, _ = await self.made("second", "--expires", "1h", "--networks", "10.0.0.0/8")
        self.assertEqual(await self.status(daemon, second), 403)
        changed = await self.keys("change", "second", "--networks", "all", "--budget-per-month", "5")
        self.assertIn("$5.00/month", changed)
        self.assertEqual(await self.status(daemon, second), 200)
        rotated = json.loads(await self.keys("rotate", "first", "--json", "--grace", "1h"))
        self.assertEqual(rotated["key"]["id"], row["id"])
        self.assertEqual([await self.status(daemon, key) for key in (first, rotated["secret"])], [200, 200])
        self.assertIn("(" + row["id"] + ") is revoked", await self.keys("revoke", "first"))
        self.assertEqual([await self.status(daemon, key) for key in (first, rotated["secret"])], [401, 401])
        listed = await self.keys("list", "--all")
        self.assertIn("revoked", listed)
        self.assertIn("100/min; models", listed)
        self.assertIn("There is a key named 'second'", await self.keys("create", "second", status=1))
        daemon.child.signal("HUP")
        await logged(daemon, "has read its configuration anew")
        self.assertEqual([await self.status(daemon, key) for key in (second, "")], [200, 401])
        await self.stopped(daemon)
        self.assertIn("7 at a time", await self.keys("change", "second", "--concurrent", "7"))
        self.assertIn("There is no key 'nobody'", await self.keys("show", "nobody", status=1))
        daemon = await self.daemon()
        self.assertEqual([await self.status(daemon, key) for key in (second, first, "")], [200, 401, 401])
        limits = {one["limit"]: one["value"] for one in (await self.own(daemon, second))["limits"]}
        self.assertEqual(limits, {"concurrent": 7, "micros_per_month": 5_000_000})
        kept = b"".join(path.read_bytes() for path in self.home.rglob("*") if path.is_file())
        self.assertIn(row["id"].encode(), kept)
        for secret in (first, second, rotated["secret"]):
            for word in (secret, secret[4:36], secret[4:20], secret[20:36]):
                self.assertNotIn(word.encode(), kept)
                self.assertNotIn(word, daemon.printed)
        self.assertEqual((self.state / "keys.json").stat().st_mode & 0o777, 0o600)


class RestartTests(KeysCase):
    async def test_what_was_used_counts_after_a_restart(self) -> None:
        """Requests, tokens and money of the month, from what is written down: a key at its limit stays there."""
        await self.prepare()
        key, _ = await self.made("team", "--budget-per-month", "0.000001")
        headers = (("x-goog-api-key", key),)
        daemon = await self.daemon()
        answer = await daemon.ask(GENERATE, prompt(), headers)
        self.assertEqual(answer.status, 200)
        counts = answer.json["usageMetadata"]
        refused = await daemon.ask(GENERATE, prompt(), headers)
        self.assertEqual((refused.status, refused.reasons[0]), (429, "KEY_BUDGET_PER_MONTH_EXCEEDED"))
        before = (await self.own(daemon, key))["usage"]["month"]
        self.assertEqual((before["requests"], before["tokens"]), (2, counts["totalTokenCount"]))
        self.assertGreater(before["micros"], 1)
        await self.stopped(daemon)
        self.assertEqual(json.loads(await self.keys("show", "team", "--json"))["key"]["usage"]["month"], before)
        daemon = await self.daemon()
        self.assertEqual((await self.own(daemon, key))["usage"]["month"], before)
        refused = await daemon.ask(GENERATE, prompt(), headers)
        self.assertEqual((refused.status, refused.reasons[0]), (429, "KEY_BUDGET_PER_MONTH_EXCEEDED"))


class ExactTests(KeysCase):
    async def opened(self, daemon: Server, key: str) -> list[Connection]:
        """Send the heads of many requests at once, whose bodies are to come."""
        connections = [await daemon.connect() for _ in range(AT_ONCE)]
        for connection in connections:
            connection.write(head(GENERATE, prompt(), (("x-goog-api-key", key),)))
        return connections

    async def test_of_200_requests_at_once_exactly_as_many_pass_as_may(self) -> None:
        """Those that may wait for their bodies; the others are told so by their heads, and never touch the pool."""
        await self.prepare()
        many, _ = await self.made("many", "--concurrent", "37")
        once, _ = await self.made("once", "--requests-per-minute", "1")
        daemon = await self.daemon()
        for key, may, reason in ((many, 37, "KEY_CONCURRENCY_EXCEEDED"), (once, 1, "KEY_RATE_EXCEEDED")):
            before = len(await self.google.requests())
            connections = await self.opened(daemon, key)
            await until(lambda: sum(b" 429 " in one.received for one in connections) == AT_ONCE - may)  # noqa: B023
            self.assertEqual((await self.own(daemon, key))["under_way"], may)
            for connection in connections:
                connection.write(prompt())
            answers = [await connection.ended() for connection in connections]
            statuses = [answer.status for answer in answers]
            self.assertEqual((statuses.count(200), statuses.count(429)), (may, AT_ONCE - may))
            self.assertEqual({answer.reasons[0] for answer in answers if answer.status == 429}, {reason})
            self.assertEqual(len(await self.google.requests()) - before, may)
            self.assertEqual((await self.own(daemon, key))["under_way"], 0)
