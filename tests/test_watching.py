"""The watchers' pages over a transport: who is let in, and what they are told."""

from __future__ import annotations

import hashlib
import json
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.operations.watching import Pages, WatchSite
from tests.fakes import Answer, Client

TOKEN = "a-watchers-token"


class WatchCase(SynchronousTestCase):
    def begin(self, token: str = "", why: str = "", **pages: Any) -> None:
        tokens = [hashlib.sha256(token.encode()).digest()] if token else []
        shown = Pages(
            lambda: why,
            pages.get("pool", lambda: {"credentials": [{"label": "studio/first", "state": "ok", "reason": ""}]}),
            pages.get("status", lambda: {"version": "1"}),
            pages.get("metrics", lambda accept: (b"agw_x 1\n", accept.encode() or b"text/plain")),
        )
        self.site = WatchSite(shown, tokens, Clock())

    def ask(self, path: str, *headers: tuple[str, str], host: str = "localhost:8046", method: str = "GET") -> Answer:
        client = Client(self.site)
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
        client.send(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n".encode())
        return client.answer()


class PageTests(WatchCase):
    def test_health_is_one_word(self) -> None:
        """S4: whatever else is wrong, and to whoever asks."""
        self.begin(TOKEN, "DRAINING")
        answer = self.ask("/healthz", host="anything.example")
        self.assertEqual((answer.status, answer.json), (200, {"status": "ok"}))

    def test_readiness_says_why_not(self) -> None:
        """K5, P1: 503 and the reason."""
        self.begin()
        self.assertEqual(self.ask("/readyz").status, 200)
        self.begin(why="DRAINING")
        answer = self.ask("/readyz")
        self.assertEqual((answer.status, answer.json["reason"]), (503, "DRAINING"))

    def test_readiness_names_each_credential(self) -> None:
        """With its state and the reason for it, whether ready or not; to whoever may ask."""
        for why in ("", "UPSTREAM_CREDENTIALS_UNAVAILABLE"):
            self.begin(TOKEN, why)
            answer = self.ask("/readyz", ("Authorization", f"Bearer {TOKEN}"))
            self.assertEqual(answer.json["credentials"], [{"label": "studio/first", "state": "ok", "reason": ""}])
            self.assertNotIn("credentials", self.ask("/readyz").json)

    def test_status_is_json_and_metrics_are_text(self) -> None:
        """Neither is kept by anybody on the way."""
        self.begin()
        status, metrics = self.ask("/status"), self.ask("/metrics")
        self.assertEqual(status.json, {"version": "1"})
        self.assertEqual((metrics.body, metrics.headers["content-type"]), (b"agw_x 1\n", "text/plain"))
        accepted = self.ask("/metrics", ("Accept", "application/openmetrics-text"))
        self.assertEqual(accepted.headers["content-type"], "application/openmetrics-text")
        for answer in (status, metrics):
            self.assertEqual(answer.headers["cache-control"], "no-store")

    def test_page_that_takes_its_time_holds_nobody_up(self) -> None:
        """Others are answered meanwhile; it comes when it is ready, to whoever still waits."""
        waiting: list[Deferred[bytes]] = []

        def later(accept: str) -> tuple[Deferred[bytes], bytes]:
            waiting.append(Deferred())
            return waiting[-1], b"text/plain"

        self.begin(metrics=later)
        clients = [Client(self.site) for _ in range(3)]
        for client in clients:
            client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.assertEqual(self.ask("/readyz").status, 200)
        waiting[0].callback(b"agw_x 1\n")
        answer = clients[0].answer()
        self.assertEqual((answer.status, answer.body), (200, b"agw_x 1\n"))
        self.assertEqual(answer.headers["content-type"], "text/plain")
        clients[1].leave()
        self.assertTrue(waiting[1].called)
        waiting[2].errback(ZeroDivisionError())
        self.assertEqual(clients[2].answer().status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_capped_it_goes_by_its_own_name(self) -> None:
        """The log's line about its listener says WatchSite."""
        self.begin()
        self.assertEqual(cast(Any, self.site.capped()).logPrefix(), "WatchSite")

    def test_other_paths_and_methods_are_refused(self) -> None:
        """404, and 405 with Allow."""
        self.begin()
        self.assertEqual(self.ask("/v1/accounts").status, 404)
        refused = self.ask("/status", method="POST")
        self.assertEqual((refused.status, refused.headers["allow"]), (405, "GET, HEAD"))

    def test_a_body_is_let_pass(self) -> None:
        """Nothing of it is kept, in memory or on disk."""
        self.begin()
        client = Client(self.site)
        client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n" + bytes(200_000))
        (request,) = client.protocol._channel.requests
        self.assertEqual(request.content.read(), b"")
        client.send(bytes(100_000))
        self.assertEqual(client.answer().status, 200)

    def test_a_page_that_fails_says_nothing_of_why(self) -> None:
        """The log has the traceback."""
        self.begin(status=lambda: {"x": 1 // 0})
        answer = self.ask("/status")
        self.assertEqual((answer.status, answer.json["error"]["reason"]), (500, "INTERNAL"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class AccessTests(WatchCase):
    def test_without_a_token_only_names_of_loopback_are_answered(self) -> None:
        """S4, S20: a page in a browser that points a name of its own here learns nothing."""
        self.begin()
        good = ("localhost", "127.0.0.1:8046", "[::1]:8046", "LOCALHOST:1", "127.9.9.9")
        bad = ("evil.example", "localhost.evil.example", "10.0.0.1", "127.0.0.1@x", "", "0", "[::2]")
        self.assertEqual({self.ask("/metrics", host=host).status for host in good}, {200})
        for host in bad:
            self.assertEqual(self.ask("/metrics", host=host).status, 403, host)

    def test_a_token_is_asked_for_where_there_is_one(self) -> None:
        """S4: as a bearer, of the whole token; then the name does not matter."""
        self.begin(TOKEN)
        for given in ("", "Bearer wrong", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}"):
            answer = self.ask("/status", ("Authorization", given))
            self.assertEqual(answer.status, 401)
            self.assertIn("Bearer", answer.headers["www-authenticate"])
        answer = self.ask("/status", ("Authorization", f"bearer {TOKEN}"), host="gateway.example")
        self.assertEqual(answer.status, 200)
        self.assertNotIn(TOKEN, json.dumps(answer.headers))
