"""A prompt tried by the operator, from the admin face to a scripted upstream."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.operations.admin import Face
from gateway.operations.adminsocket import AdminSite
from gateway.operations.admintrying import TryingRoutes
from gateway.playground import KEY_ID, Playground
from gateway.upstreams.exchange import WireError
from tests.fakes import (
    BODY,
    SSE,
    Client,
    FakeExchange,
    FakeRecorder,
    FakeWire,
    Scripted,
    event,
    member,
    refused,
    router,
    sse,
    stream,
)

JSON = ("Content-Type", "application/json")
USAGE = {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 5}}


class PlaygroundTests(SynchronousTestCase):
    def begin(self, *script: Scripted) -> None:
        self.clock, self.wire, self.recorder = Clock(), FakeWire(*script), FakeRecorder()
        routing = router(self.wire, self.clock, member("first"), member("second"), recorder=self.recorder)
        composition: Any = SimpleNamespace(router=routing, recorder=self.recorder)
        ids = iter(("id-1", "id-2"))
        playground = Playground(lambda: composition, self.clock, lambda: next(ids))
        routes = TryingRoutes(cast(Any, None), playground.run)
        self.site = AdminSite(Face([routes], "1").resource, self.clock)

    def ask(self, model: str = "gemini-2.5-flash", body: bytes = BODY) -> Client:
        client = Client(self.site)
        client.ask("POST", f"/v1/playground/{model}", body, JSON, version="HTTP/1.0")
        return client

    def shown(self, client: Client) -> list[Any]:
        _, _, body = client.received.partition(b"\r\n\r\n")
        return [json.loads(part.rpartition(b"data: ")[2]) for part in body.split(b"\n\n") if part]

    def test_answer_is_streamed_and_reported_like_a_clients(self) -> None:
        """First how it was routed, then each event; the report knows who asked and what it used."""
        self.begin(stream(event("Hel"), event("lo", **USAGE)))
        client = self.ask()
        routed, first, second = self.shown(client)
        self.assertEqual((routed["id"], routed["credential"]), ("id-1", "studio/first"))
        texts = [one["candidates"][0]["content"]["parts"][0]["text"] for one in (first, second)]
        self.assertEqual(texts, ["Hel", "lo"])
        (told,) = self.recorder.ends
        self.assertEqual((told.journal.key_id, told.status, told.reason), (KEY_ID, 200, ""))
        self.assertEqual((told.usage.prompt, told.usage.candidates), (3, 5))

    def test_another_credential_is_tried_as_for_clients(self) -> None:
        """And upstream's last word is shown where none helps."""
        limited = refused(429, "RESOURCE_EXHAUSTED")
        self.begin(limited, stream(event("well")))
        self.assertEqual(self.shown(self.ask())[0]["credential"], "studio/second")
        self.begin(refused(400, "INVALID_ARGUMENT"))
        routed, error = self.shown(self.ask())
        self.assertEqual((routed["id"], error["error"]["code"]), ("id-1", 400))
        self.assertEqual(self.recorder.ends[0].status, 400)

    def test_stream_that_breaks_ends_with_its_error(self) -> None:
        """The report says why."""
        broken = FakeExchange(200, SSE)
        self.begin(broken)
        client = self.ask()
        broken.send(sse(event("Hel")))
        broken.end(WireError("reset"))
        shown = self.shown(client)
        self.assertIn("error", shown[-1])
        self.assertTrue(self.recorder.ends[0].reason)

    def test_what_is_no_request_goes_nowhere(self) -> None:
        """It is refused as a client's is, and nothing is reported."""
        self.begin()
        for model, body in (("gemini-2.5-flash", b"[]"), ("gemini-2.5-flash", b'{"a":'), ("..", BODY)):
            answer = self.ask(model, body).answer()
            self.assertIn(answer.status, (400, 404), body)
        self.assertEqual((self.wire.requests, self.recorder.ends), ([], []))

    def test_leaving_closes_the_connection_to_upstream(self) -> None:
        """Nobody pays for an answer that nobody sees."""
        self.begin()
        held: Deferred[Any] = self.wire.hold()
        self.wire.script.append(held)
        client = self.ask()
        client.leave()
        self.assertEqual(self.wire.cancelled, 1)
        self.assertEqual(self.recorder.ends[0].reason, "CLIENT_LEFT")
