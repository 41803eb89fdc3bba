"""``antigravity usage``, with a daemon and without one.  Opens sockets."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from gateway.commands.usage import separated, table
from gateway.usage.schema import MEASURES
from tests.operator import OperatorCase
from tests.processes import DEADLINE_SECONDS, GENERATE, MODEL, SSE, prompt, reactor


def sums(**some: Any) -> dict[str, Any]:
    return {**dict.fromkeys(MEASURES, 0), **some}


class TableTests(SynchronousTestCase):
    """What people see."""

    def told(self, by: str, *rows: dict[str, Any], **total: Any) -> dict[str, Any]:
        span = {"since": "2026-11-01T00:00:00Z", "until": "2026-11-08T00:00:00Z"}
        return {"by": by, **span, "rows": list(rows), "total": sums(**total), "lost": 0}

    def test_a_table_has_a_total_and_says_what_it_is_of(self) -> None:
        """Costs in dollars; what has no price is told apart."""
        rows = (
            {"model": "dear", **sums(requests=4, failed=1, prompt=100, micros=1_234_500, seconds=6.0)},
            {"model": "", **sums(requests=1, failed=1)},
            {"model": "odd", **sums(requests=1, prompt=7, unpriced=1)},
        )
        text = table(self.told("model", *rows, requests=6, failed=2, prompt=107, micros=1_234_500, unpriced=1))
        self.assertEqual(
            text.splitlines(),
            [
                "MODEL          REQUESTS  FAILED  PROMPT  CACHED  CANDIDATES  THOUGHTS  MEAN TIME  COST",
                "dear           4         1       100     0       0           0         1.50 s     1.2345 USD",
                "(none served)  1         1       0       0       0           0         0.00 s     0.0000 USD",
                "odd            1         0       7       0       0           0         0.00 s     0.0000 USD +?",
                "total          6         2       107     0       0           0         0.00 s     1.2345 USD +?",
                "",
                "From 2026-11-01T00:00:00Z to before 2026-11-08T00:00:00Z.",
                "+?: 1 requests have no known price and are not in the cost; usage.prices can set one.",
            ],
        )

    def test_csv_is_for_programs(self) -> None:
        """A header, plain numbers, and no total that would be summed up once more."""
        text = separated(self.told("key", {"key": 'a,"b', **sums(requests=2, micros=5)}, requests=2))
        (one,) = csv.DictReader(io.StringIO(text))
        self.assertEqual((one["key"], one["requests"], one["micros"], len(one)), ('a,"b', "2", "5", 1 + len(MEASURES)))


class CommandTests(OperatorCase):
    async def usage(self, *arguments: str) -> Any:
        return json.loads(await self.run_command("usage", "--json", *arguments))

    async def test_it_tells_the_same_of_a_daemon_and_of_its_file(self) -> None:
        """Up to the request just over; after a kill -9 as well, whose file nobody closed."""
        await self.prepare()
        daemon = await self.daemon()
        for target in (GENERATE, SSE, GENERATE):
            self.assertEqual((await daemon.ask(target, prompt())).status, 200)
        told = await self.usage("--by", "credential")
        self.assertEqual((told["total"]["requests"], told["total"]["failed"]), (3, 0))
        self.assertGreater(told["total"]["micros"], 0)
        daemon.child.signal("KILL")
        self.assertTrue(await daemon.child.ended_within(DEADLINE_SECONDS, reactor))
        after = await self.usage("--by", "credential")
        self.assertEqual((after["rows"], after["total"]), (told["rows"], told["total"]))
        text = await self.run_command("usage", "--by", "day", "--since", "1d")
        self.assertIn("DAY", text)
        self.assertIn("\ntotal ", text)
        rows = (await self.run_command("usage", "--csv", "--model", MODEL)).splitlines()
        self.assertEqual((rows[0].split(",")[:2], rows[1].split(",")[:2]), (["model", "requests"], [MODEL, "3"]))

    async def test_keys_are_told_by_their_names(self) -> None:
        """And can be asked for by them, of the daemon and of the file."""
        await self.prepare()
        made = json.loads(await self.run_command("keys", "create", "alice", "--json"))
        daemon = await self.daemon()
        answer = await daemon.ask(GENERATE, prompt(), [("x-goog-api-key", made["secret"])])
        self.assertEqual(answer.status, 200, answer.body)
        for _ in range(2):
            text = await self.run_command("usage", "--by", "key", "--key", "alice")
            self.assertRegex(text, rf"(?m)^alice \({made['key']['id']}\) +1 ")
            await self.stopped(daemon)
        self.assertEqual((await self.usage("--by", "key"))["rows"][0]["key"], made["key"]["id"])

    async def test_nothing_used_is_an_empty_table(self) -> None:
        """Where no gateway ever ran."""
        self.google = await self.simulator()
        self.write()
        self.assertEqual((await self.usage())["rows"], [])

    async def test_what_cannot_be_asked_is_told_with_the_cure(self) -> None:
        """By the daemon as without it."""
        await self.prepare()
        for daemon in (None, await self.daemon()):
            for arguments in (("--by", "colour"), ("--since", "yesterday"), ("--since", "1h", "--until", "2h")):
                text = await self.run_command("usage", *arguments, status=1)
                self.assertEqual(len(text.splitlines()), 1, text)
                self.assertIn("This cannot be asked", text, daemon)
        self.assertIn("not both", await self.run_command("usage", "--csv", "--json", status=1))
