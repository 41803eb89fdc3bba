"""Usage's routes of the admin API, over something that remembers usage or does not."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import GatewayError
from gateway.operations.admin import Face
from gateway.operations.adminsocket import AdminSite
from gateway.operations.adminusage import BY, LIMIT, Report, Requests, Sums, UsageRoutes
from gateway.usage import reports
from gateway.usage.schema import COLUMNS, MEASURES
from tests.fakes import Answer, Client


class FakeKeeping:
    """Says what it was asked; see adminusage.Keeping."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.error: GatewayError | None = None

    async def report(self, by: str, since: str, until: str, key: str, model: str) -> dict[str, Any]:
        self.asked.append((by, since, until, key, model))
        if self.error is not None:
            raise self.error
        total = dict.fromkeys(MEASURES, 1)
        return {"by": by, "since": "s", "until": "u", "rows": [{by: "x", **total}], "total": total, "lost": 0}

    async def requests(self, limit: int, after: int, before: int) -> list[dict[str, Any]]:
        self.asked.append((limit, after, before))
        return []


class RouteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.keeping = FakeKeeping()
        self.site: Any = AdminSite(Face([UsageRoutes(self.keeping)], "1").resource, Clock())

    def get(self, target: str) -> Answer:
        client = Client(self.site)
        client.ask("GET", target, version="HTTP/1.0")
        return client.answer()

    def test_sums_are_asked_for_by_name(self) -> None:
        """What is left out is left to whoever answers; the answer is as described."""
        answer = self.get("/v1/usage?by=key&since=24h&until=2026-11-01&key=k&model=m")
        msgspec.convert(answer.json, Report)
        self.assertEqual(answer.json["rows"][0]["key"], "x")
        self.get("/v1/usage")
        self.assertEqual(self.keeping.asked, [("key", "24h", "2026-11-01", "k", "m"), ("model", "", "", "", "")])

    def test_requests_come_in_pages(self) -> None:
        """So many at a time, after one id and before another."""
        answer = self.get("/v1/requests?limit=5&after=7&before=9")
        msgspec.convert(answer.json, Requests)
        self.get("/v1/requests")
        self.assertEqual(self.keeping.asked, [(5, 7, 9), (LIMIT, 0, 0)])

    def test_what_makes_no_sense_is_refused(self) -> None:
        """Before anybody is asked."""
        for query in ("limit=0", "limit=1001", "limit=x", "after=-1", "before=1e5", "after=" + "9" * 30, "limit=%FF"):
            answer = self.get(f"/v1/requests?{query}")
            self.assertEqual((answer.status, answer.json["error"]["reason"]), (400, "QUERY_INVALID"), query)
        self.assertEqual(self.keeping.asked, [])

    def test_whoever_does_not_remember_says_so(self) -> None:
        """Where usage is turned off, say."""
        self.keeping.error = GatewayError(503, "UNAVAILABLE", "USAGE_UNAVAILABLE", "It is off.")
        answer = self.get("/v1/usage")
        self.assertEqual((answer.status, answer.json["error"]["reason"]), (503, "USAGE_UNAVAILABLE"))

    def test_the_document_tells_what_the_file_has(self) -> None:
        """Its sums, its columns, and what sums are told apart by."""
        self.assertEqual(set(Sums.__annotations__), set(MEASURES))
        one = Requests.__annotations__["requests"]
        self.assertIn("OneRequest", str(one))
        from gateway.operations.adminusage import LabelledSums, OneRequest

        self.assertEqual(set(OneRequest.__annotations__), {"at", *COLUMNS})
        self.assertEqual(set(LabelledSums.__annotations__), {*MEASURES, *BY})
        self.assertEqual(BY, reports.BY)
