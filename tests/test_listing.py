"""The models that upstreams list: fetched in the background, kept when that fails."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.oauth import TokenUnavailable
from gateway.calls import Journal
from gateway.routing.listing import EVERY_SECONDS, PAGES_MOST, RETRY_SECONDS, Lister
from gateway.routing.pool import Member
from gateway.upstreams.exchange import WireError
from tests.fakes import FakeExchange, FakeTokens, FakeWire, Scripted, call, member, ok, refused, router


def page(*names: str, following: str = "") -> FakeExchange:
    """A page of models.list."""
    models = [{"name": f"models/{name}", "inputTokenLimit": 10} for name in names]
    return ok(json.dumps({"models": models, "nextPageToken": following}).encode())


class ListingTests(SynchronousTestCase):
    def begin(self, *script: Scripted, members: tuple[Member, ...] | None = None, chance: float = 0.0) -> None:
        self.clock = Clock()
        self.wire = FakeWire(*script)
        given = (member("a"),) if members is None else members
        self.router = router(self.wire, self.clock, *given)
        self.lister = Lister("studio", self.router, self.clock, lambda: chance)
        self.lister.start()

    @property
    def listed(self) -> list[str]:
        return list(self.router.catalog.listed.get("studio", ()))

    def test_a_list_is_fetched_at_once_and_shown(self) -> None:
        """Its models are in the catalogue, and the upstream is known to have them."""
        self.begin(page("new-model"))
        self.assertEqual(self.listed, ["new-model"])
        self.assertEqual(self.router.catalog.get("new-model").input_tokens, 10)
        self.assertTrue(self.router.catalog.knows("studio", "new-model"))

    def test_all_pages_are_fetched(self) -> None:
        """The token of one goes into the request for the next."""
        self.begin(page("a", following="p 2"), page("b", following="p3"), page("c"))
        self.assertEqual(self.listed, ["a", "b", "c"])
        self.assertIn(b"pageToken=p%202", self.wire.requests[1].url)

    def test_pages_without_end_are_not_followed_for_ever(self) -> None:
        """A broken upstream costs no more than this."""
        self.begin(*[page(f"m{number}", following="again") for number in range(PAGES_MOST + 5)])
        self.assertEqual(len(self.wire.requests), PAGES_MOST)

    def test_it_is_fetched_again_after_a_while(self) -> None:
        """And takes the old one's place as a whole."""
        self.begin(page("old"), page("new"))
        self.clock.advance(EVERY_SECONDS)
        self.assertEqual(self.listed, ["new"])

    def test_jitter_spreads_the_fetches(self) -> None:
        """A fleet that was started together does not ask together."""
        self.begin(page("old"), page("new"), chance=0.5)
        self.clock.advance(EVERY_SECONDS * 1.1 - 1)
        self.assertEqual(len(self.wire.requests), 1)
        self.clock.advance(2)
        self.assertEqual(len(self.wire.requests), 2)

    def test_the_last_list_is_kept_when_a_fetch_fails_and_tried_again_soon(self) -> None:
        """Whatever kind of failure it is; a half-fetched list is none."""
        for failing in (
            (WireError("connect"),),
            (refused(500, "INTERNAL"),),
            (FakeExchange(302, {}, b""),),
            (ok(b"<html>"),),
            (ok(b'{"models":[{"name":"\xff"}]}'),),
            (page("half", following="more"), WireError("reset")),
        ):
            with self.subTest(failing=failing):
                self.begin(page("kept"), *failing, page("later"))
                self.clock.advance(EVERY_SECONDS)
                self.assertEqual(self.listed, ["kept"])
                self.clock.advance(RETRY_SECONDS)
                self.assertEqual(self.listed, ["later"])
                self.assertEqual(self.flushLoggedErrors(), [])

    def test_without_a_token_nothing_is_sent(self) -> None:
        """The endpoint is down: later, then."""
        self.begin(members=(member("a", FakeTokens(TokenUnavailable("503"))),))
        self.assertEqual((self.wire.requests, self.listed), ([], []))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_a_quarantined_credential_is_not_used(self) -> None:
        """K1: nor is there any other here."""
        dead = member("a")
        self.begin(page("x"), members=(dead,))
        self.router.standings.quarantine(dead.credential, "REVOKED", "", 0.0, 0.0)
        self.clock.advance(EVERY_SECONDS)
        self.assertEqual(len(self.wire.requests), 1)

    def test_another_upstreams_credential_is_not_used(self) -> None:
        """Each upstream lists its own."""
        self.begin(members=(member("b", upstream="other"),))
        self.assertEqual(self.wire.requests, [])

    def test_a_model_that_the_upstream_is_not_to_serve_is_not_listed(self) -> None:
        """The operator's ``models``."""
        self.begin(page("gemini-2.5-pro", "veo"), members=(member("a", models=("gemini-*",)),))
        self.assertEqual(self.listed, ["gemini-2.5-pro"])

    def test_a_listed_model_draws_requests_to_its_upstream(self) -> None:
        """Another that is not known to have it comes after."""
        other = member("b", upstream="other")
        self.begin(page("new-model"), members=(other, member("a")))
        self.wire.script = [ok()]
        self.wire.requests.clear()
        self.successResultOf(self.start())
        self.assertEqual(self.wire.keys, ["a"])

    def start(self) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.router.run(call(model="new-model"), Journal("x")))

    def test_a_stopped_lister_leaves_no_timer(self) -> None:
        """Between two fetches."""
        self.begin(page("x"))
        self.lister.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopping_cancels_a_fetch_under_way(self) -> None:
        """And there is no other after it."""
        for step in ("head", "body", "token"):
            with self.subTest(step=step):
                exchange = FakeExchange(200)
                tokens = FakeTokens(Deferred()) if step == "token" else None
                wire = FakeWire()
                self.clock, self.wire = Clock(), wire
                wire.script = [wire.hold() if step == "head" else exchange]
                self.router = router(wire, self.clock, member("a", tokens))
                self.lister = Lister("studio", self.router, self.clock, lambda: 0.0)
                self.lister.start()
                self.lister.stop()
                self.assertEqual(self.clock.getDelayedCalls(), [])
                if step == "head":
                    self.assertEqual(wire.cancelled, 1)
                if step == "body":
                    self.assertTrue(exchange.aborted)

    def test_a_fault_of_ours_is_logged_and_does_not_end_the_fetching(self) -> None:
        """P13: the next one may be well."""
        self.begin(ZeroDivisionError(), page("x"))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.clock.advance(RETRY_SECONDS)
        self.assertEqual(self.listed, ["x"])
