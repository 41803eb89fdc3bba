"""The feed of whoever watches: what is told, to how many, and that nothing is kept without them."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from gateway.calls import Attempt, Decision, Ended, Journal, Option, Usage
from gateway.operations import feed as feeds
from gateway.operations.admin import Face
from gateway.operations.adminsocket import AdminSite
from gateway.operations.feed import Feed, Viewer
from gateway.operations.live import Live
from tests.fakes import Answer, Client

ROW = {"label": "studio/first", "state": "ok"}


def ended(number: int, status: int = 200, **more: Any) -> Ended:
    journal = Journal(f"id-{number}", key_id="key-1", verb="generateContent", model="m", started=1.0, first_byte=1.25)
    journal.attempts.append(Attempt("studio/first", "https://x", status, "", 0.25, "first"))
    journal.decisions.append(Decision((Option("studio/first", "studio", "ok", "", None, True),), "first", 0.0))
    return Ended(journal, status, more.pop("reason", ""), "upstream", 0.5, 10, 20, Usage(3, 4, 1, 0), "STOP")


class FeedCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.live = Live()
        self.rows: list[dict[str, Any]] = [ROW]
        self.watched: list[bool] = []
        self.alive = True
        self.feed = Feed(
            self.live, self.clock, lambda: 1000.0, lambda: {"in_flight": 0}, lambda: self.rows, self.watched.append,
            lambda request: self.alive,
        )  # fmt: skip
        self.site = AdminSite(Face([self.feed], "1").resource, self.clock)

    def watch(self) -> Client:
        client = Client(self.site)
        client.ask("GET", "/v1/live", version="HTTP/1.0")
        return client

    def ask(self, target: str) -> Answer:
        client = Client(self.site)
        client.ask("GET", target, version="HTTP/1.0")
        return client.answer()

    def events(self, client: Client, name: str) -> list[Any]:
        _, _, body = client.received.partition(b"\r\n\r\n")
        found = [event.split(b"\ndata: ", 1) for event in body.split(b"\n\n") if event]
        return [json.loads(data) for kind, data in found if kind == b"event: " + name.encode()]

    def turn(self, seconds: float = feeds.TURN_SECONDS) -> None:
        self.clock.pump([feeds.TURN_SECONDS] * round(seconds / feeds.TURN_SECONDS))


class TellingTests(FeedCase):
    def test_viewer_is_told_at_once_and_every_second(self) -> None:
        """What the gateway is, and of the credentials what is new."""
        client = self.watch()
        self.assertIn(b"text/event-stream", client.received)
        self.assertEqual(len(self.events(client, "state")), 1)
        self.assertEqual(self.events(client, "accounts"), [{"accounts": [ROW]}])
        self.turn(3.0)
        self.assertEqual(len(self.events(client, "state")), 4)
        told = len(self.events(client, "accounts"))
        self.turn(2.0)
        self.assertEqual(len(self.events(client, "accounts")), told)
        self.rows = [{**ROW, "state": "disabled"}]
        self.turn(1.0)
        self.assertEqual(self.events(client, "accounts")[-1]["accounts"][0]["state"], "disabled")
        client.leave()

    def test_ended_request_is_told_with_its_figures(self) -> None:
        """Within a quarter of a second; and the second's sums tell of it."""
        client = self.watch()
        self.live.ended(ended(1))
        self.live.ended(ended(2, 429, reason="RATE_LIMITED"))
        self.turn()
        rows = self.events(client, "requests")[-1]["requests"]
        self.assertEqual([row["id"] for row in rows], ["id-1", "id-2"])
        self.assertEqual((rows[0]["key"], rows[0]["credential"], rows[0]["first_seconds"]), ("key-1", "", 0.25))
        self.assertEqual((rows[0]["tokens_in"], rows[0]["tokens_out"]), (3, 4))
        self.turn(1.0)
        state = self.events(client, "state")[-1]
        self.assertEqual((state["requests"], state["errors"], state["tokens_out"]), (2, 1, 10))
        self.assertEqual((state["first_p50"], state["seconds_p95"]), (0.25, 0.5))
        self.turn(1.0)
        self.assertEqual(self.events(client, "state")[-1]["requests"], 0)
        client.leave()

    def test_more_requests_than_anybody_reads_are_counted(self) -> None:
        """A busy gateway's viewers cost it no more than a bounded number of rows."""
        client = self.watch()
        for number in range(feeds.REQUESTS_AT_ONCE + 7):
            self.live.ended(ended(number))
        self.turn()
        told = self.events(client, "requests")[-1]
        self.assertEqual((len(told["requests"]), told["skipped"]), (feeds.REQUESTS_AT_ONCE, 7))
        client.leave()

    def test_record_says_how_a_request_was_routed(self) -> None:
        """Attempts and choices; of one that is not kept, 404."""
        client = self.watch()
        self.live.ended(ended(1))
        record = self.ask("/v1/requests/id-1").json
        self.assertEqual(record["request"]["id"], "id-1")
        self.assertEqual(record["attempts"][0]["credential"], "studio/first")
        self.assertEqual(record["choices"][0]["options"][0]["label"], "studio/first")
        self.assertEqual(self.ask("/v1/requests/id-2").status, 404)
        client.leave()

    def test_health_checks_are_not_told(self) -> None:
        """They come from nobody, for nothing; whoever was refused did want something."""
        client = self.watch()
        self.live.ended(Ended(Journal("id"), 200, "", "gateway", 0.1, 0, 0))
        self.turn()
        self.assertEqual(self.events(client, "requests")[-1]["requests"], [])
        self.live.ended(Ended(Journal("id"), 401, "API_KEY_INVALID", "gateway", 0.1, 0, 0))
        self.turn()
        self.assertEqual(self.events(client, "requests")[-1]["requests"][0]["status"], 401)
        client.leave()


class ViewerTests(FeedCase):
    def test_without_viewers_nothing_is_kept(self) -> None:
        """Nor is any timer set; who loads a page anew finds its requests again."""
        self.live.ended(ended(1))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        first = self.watch()
        self.assertEqual(self.events(first, "requests")[0]["requests"], [])
        self.live.ended(ended(2))
        first.leave()
        self.live.ended(ended(3))
        again = self.watch()
        self.assertEqual([row["id"] for row in self.events(again, "requests")[0]["requests"]], ["id-2", "id-3"])
        again.leave()
        self.clock.advance(feeds.LINGER_SECONDS)
        self.assertEqual(self.watched, [True, False])
        self.assertIsNone(self.live.heard)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        last = self.watch()
        self.assertEqual(self.events(last, "requests")[0]["requests"], [])
        last.leave()

    def test_viewers_are_few(self) -> None:
        """One more is told to come again; one that leaves makes room."""
        clients = [self.watch() for _ in range(feeds.VIEWERS_MOST)]
        self.assertEqual(self.ask("/v1/live").status, 503)
        clients[0].leave()
        clients.append(self.watch())
        self.assertEqual(len(self.feed.viewers), feeds.VIEWERS_MOST)
        for client in clients[1:]:
            client.leave()
        self.assertEqual(self.feed.viewers, [])

    def test_viewer_that_takes_nothing_is_cut_off(self) -> None:
        """What waits for it is bounded; the others are told on."""
        slow, good = self.watch(), self.watch()
        slow.transport.producer.pauseProducing()
        self.rows = [{**ROW, "reason": "x" * 1000} for _ in range(100)]
        for number in range(10):
            self.rows[0] = {**ROW, "reason": str(number)}
            self.turn(1.0)
        self.assertTrue(slow.reset)
        slow.leave()
        self.assertFalse(good.reset)
        self.assertEqual(len(self.feed.viewers), 1)
        good.leave()

    def test_viewer_that_is_slow_for_a_while_stays(self) -> None:
        """What waited counts no more when it has been taken."""
        client = self.watch()
        self.rows = [{**ROW, "reason": "x" * 1000} for _ in range(100)]
        for number in range(20):
            client.transport.producer.pauseProducing()
            self.rows[0] = {**ROW, "reason": str(number)}
            self.turn(1.0)
            client.transport.producer.resumeProducing()
        self.assertFalse(client.reset)
        client.leave()

    def test_viewer_goes_with_its_session(self) -> None:
        """Whoever is signed out is told nothing more."""
        client = self.watch()
        self.turn(1.0)
        self.alive = False
        self.turn(1.0)
        self.assertTrue(client.dropped)
        self.assertEqual(self.feed.viewers, [])
        before = client.received
        self.turn(1.0)
        self.assertEqual(client.received, before)

    def test_viewers_who_are_dismissed_may_come_again(self) -> None:
        """As where the rules of who may look have changed."""
        client = self.watch()
        self.feed.dismiss()
        self.assertTrue(client.dropped)
        again = self.watch()
        self.assertEqual(len(self.feed.viewers), 1)
        again.leave()

    def test_gateway_that_ends_lets_its_viewers_go(self) -> None:
        """It would wait for them else."""
        client = self.watch()
        self.feed.stop()
        self.assertTrue(client.dropped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_viewer_is_what_twisted_wants(self) -> None:
        """A push producer."""
        from twisted.internet.interfaces import IPushProducer

        client = self.watch()
        verifyObject(IPushProducer, self.feed.viewers[0])
        self.assertIsInstance(self.feed.viewers[0], Viewer)
        self.assertIsInstance(client.transport, StringTransport)
        client.leave()
