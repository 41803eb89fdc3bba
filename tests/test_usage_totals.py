"""Usage totals against what the simulator says it produced, over whole answers, streams and all that is cut off.

ANTIGRAVITY_USAGE_REQUESTS says how many requests are made; `.ci/full usage` makes ten thousand.  Opens sockets.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
from collections import Counter
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred, gatherResults

from tests.processes import DaemonCase, Server, Simulator, aistudio, reactor

REQUESTS = int(os.environ.get("ANTIGRAVITY_USAGE_REQUESTS", "400"))
AT_ONCE = 16
SEED = 20261126
MODELS = ("gemini-2.5-flash", "gemini-2.5-pro", "gemini-2.5-flash-lite")
COUNTS = ("prompt", "candidates", "thoughts", "cached")


@attrs.frozen
class Kind:
    """What happens to a request, and what its client sees of it."""

    word: str
    """In the prompt; by it the simulator knows what to do."""
    streams: bool
    order: Mapping[str, Any] | None = None
    """The simulator's fault."""
    events: int = 0
    """After so many the client leaves."""
    status: int = 200
    reason: str = ""
    """How a stream ends that is cut off."""
    weight: int = 1


KINDS = (
    Kind("whole", False, weight=8),
    Kind("stream", True, weight=8),
    Kind("again", False, {"action": "status", "code": 503, "each": 4}, weight=2),
    Kind("after", True, {"action": "status", "code": 503, "each": 4}, weight=2),
    Kind("halved", False, {"action": "truncate"}, status=502),
    Kind("wrong", False, {"action": "status", "code": 400}, status=400),
    Kind("cut1", True, {"action": "truncate", "after": 1}, reason="UPSTREAM_TRUNCATED"),
    Kind("cut3", True, {"action": "truncate", "after": 3}, reason="UPSTREAM_TRUNCATED"),
    Kind("broken", True, {"action": "error_event", "after": 2}, reason="UPSTREAM_ERROR_EVENT"),
    Kind("left1", True, {"action": "stall", "after": 1}, events=1, reason="CLIENT_LEFT"),
    Kind("left2", True, {"action": "stall", "after": 2}, events=2, reason="CLIENT_LEFT"),
)


class TotalsTests(DaemonCase):
    timeout = 120 + REQUESTS

    daemon: Server
    google: Simulator
    seen: Counter[tuple[int, str]]
    """What clients saw: statuses, and how streams ended."""
    unlucky: int

    async def test_totals_are_what_the_simulator_produced(self) -> None:
        """Requests and tokens of each kind, by model, those cut off included; the sums agree with the rows."""
        self.seen, self.unlucky = Counter(), 0
        self.google = await self.simulator()
        for kind in KINDS:
            if kind.order is not None:
                order = dict(kind.order)
                await self.google.fault(order.pop("action"), match={"prompt": f"kind-{kind.word}-"}, **order)
        studio = aistudio(self.google.url, keys=("good-1", "good-2", "good-3"))
        self.daemon = await self.gateway({"studio": studio}, routing={"strategy": "round_robin"})
        chance = random.Random(SEED)
        wanted = chance.choices(KINDS, [kind.weight for kind in KINDS], k=REQUESTS)
        due = iter([(kind, self.body(kind, number, chance), chance.choice(MODELS))
                    for number, kind in enumerate(wanted)])  # fmt: skip

        async def works() -> None:
            for kind, body, model in due:
                await self.request(kind, body, model)

        await gatherResults([Deferred.fromCoroutine(works()) for _ in range(AT_ONCE)], consumeErrors=True)
        self.daemon.child.signal("TERM")
        self.assertTrue(await self.daemon.child.ended_within(60, reactor), self.daemon.printed)
        produced = (await self.google.control("GET", "state"))["produced"]
        self.check_rows(produced)

    def body(self, kind: Kind, number: int, chance: random.Random) -> bytes:
        words = " ".join(f"word{chance.randrange(1000)}" for _ in range(chance.randrange(1, 30)))
        document: dict[str, Any] = {
            "contents": [{"role": "user", "parts": [{"text": f"kind-{kind.word}-{number} {words}"}]}]
        }
        if chance.random() < 0.3:
            document["generationConfig"] = {"thinkingConfig": {"includeThoughts": True, "thinkingBudget": 100}}
        return json.dumps(document).encode()

    async def request(self, kind: Kind, body: bytes, model: str) -> None:
        """Have one served, and note what its client saw."""
        verb = "streamGenerateContent?alt=sse" if kind.streams else "generateContent"
        connection = await self.daemon.begin(f"/v1beta/models/{model}:{verb}", body)
        if kind.events:
            counted = connection.received.count
            await connection.until(lambda: counted(b'"usageMetadata"') >= kind.events or connection.over)
        if kind.events and not connection.over:
            connection.leave()
            await connection.until(lambda: connection.over)
            status = 200
        else:
            answer = await connection.ended()
            status = answer.status
            self.assertEqual(answer.whole, not (kind.streams and kind.reason and status == 200), kind)
        self.seen[status, kind.reason if status == 200 else ""] += 1
        # While upstream fails more often than retries are allowed for, one may be passed on that should have gone well.
        self.unlucky += status != kind.status

    def check_rows(self, produced: Mapping[str, Any]) -> None:
        path = self.home / f"state-{self.daemon.port}" / "usage.db"
        db = sqlite3.connect(path)
        self.addCleanup(db.close)
        self.assertEqual(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
        self.assertEqual(db.execute("SELECT count(*), count(DISTINCT request_id) FROM requests").fetchone(),
                         (REQUESTS, REQUESTS))  # fmt: skip
        rows = db.execute("SELECT status, iif(status = 200, reason, '') FROM requests").fetchall()
        self.assertEqual(Counter(rows), self.seen)
        self.assertLess(self.unlucky, REQUESTS / 20)
        self.assertEqual({reason for _, reason in self.seen}, {kind.reason for kind in KINDS if kind.status == 200})
        sums = ", ".join(f"sum({name})" for name in COUNTS)
        rows = db.execute(f"SELECT model, count(prompt), {sums} FROM requests WHERE prompt NOT NULL GROUP BY 1")
        told = {model: dict(zip(("answers", *COUNTS), numbers, strict=True)) for model, *numbers in rows}
        self.assertEqual(told, produced)
        self.assertEqual(set(told), set(MODELS))
        self.assertTrue(all(of["thoughts"] for of in told.values()), told)
        measures = ", ".join(f"sum({name})" for name in (*COUNTS, "micros", "bytes_out"))
        (of_rows,) = db.execute(f"SELECT count(*), {measures} FROM requests").fetchall()
        for table in ("hours", "days"):
            self.assertEqual(db.execute(f"SELECT sum(requests), {measures} FROM {table}").fetchall(), [of_rows])
