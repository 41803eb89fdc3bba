"""Tokens that are refreshed in the background, and requests that do not wait for those that are not there yet."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.oauth import Granted, TokenRevoked, TokenUnavailable
from gateway.accounts.tokens import IDLE_SECONDS, JITTER, Ahead, FetchedToken, StaticToken
from gateway.calls import GatewayError, Journal, Secret
from gateway.config import RoutingConfig, Timeouts
from gateway.routing.attempts import TOKEN_SECONDS
from gateway.routing.outcome import Refusal
from tests.fakes import FakeTokens, FakeWire, call, member, ok, refused, router

LIFE = 3600.0


class TimerCase(SynchronousTestCase):
    """A source whose fetches the test answers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.waiting: list[Deferred[Granted]] = []
        self.fetches = 0
        self.jitter = 0.0
        self.ahead = Ahead(self.clock.callLater, lambda: self.jitter)
        self.source = FetchedToken(self.fetch, self.clock.seconds, self.ahead)

    async def fetch(self) -> Granted:
        self.fetches += 1
        waiting: Deferred[Granted] = Deferred()
        self.waiting.append(waiting)
        return await waiting

    def grant(self, life: float = LIFE) -> None:
        self.waiting.pop(0).callback(Granted(Secret(f"token-{self.fetches}"), life, None))

    def fail(self, error: Exception | None = None) -> None:
        self.waiting.pop(0).errback(error or TokenUnavailable("no network"))

    def get(self) -> Deferred[Secret]:
        return Deferred.fromCoroutine(self.source.get())

    def have(self, life: float = LIFE) -> None:
        asked = self.get()
        self.grant(life)
        self.successResultOf(asked)


class BackgroundTests(TimerCase):
    """Refreshed by a timer."""

    def test_token_is_refreshed_at_80_percent_of_its_life(self) -> None:
        """K2: nobody has to ask for it, and the old one serves meanwhile."""
        self.have()
        self.clock.advance(0.8 * LIFE - 0.01)
        self.assertEqual(self.fetches, 1)
        self.clock.advance(0.01)
        self.assertEqual(self.fetches, 2)
        self.assertTrue(self.source.ready)
        self.assertEqual(self.successResultOf(self.get()), Secret("token-1"))
        self.grant()
        self.assertEqual(self.successResultOf(self.get()), Secret("token-2"))
        self.assertEqual(self.fetches, 2)

    def test_jitter_makes_it_earlier_and_never_later(self) -> None:
        """K2, K10: accounts that signed in at one moment are not refreshed at one."""
        self.jitter = 0.5
        self.have()
        self.clock.advance(0.8 * LIFE * (1 - JITTER / 2) - 0.01)
        self.assertEqual(self.fetches, 1)
        self.clock.advance(0.02)
        self.assertEqual(self.fetches, 2)

    def test_short_life_is_refreshed_before_its_end(self) -> None:
        """A token that may be used for thirty seconds is there without a gap."""
        self.have(60.0)
        self.clock.advance(29.99)
        self.assertTrue(self.source.ready)
        self.clock.advance(0.01)
        self.assertEqual(self.fetches, 2)

    def test_idle_account_is_not_refreshed_for_ever(self) -> None:
        """After an hour that nobody asked for it the token is let go, and the next one to ask has it fetched."""
        self.have()
        for number in range(2, 5):
            self.clock.advance(0.8 * LIFE)
            self.successResultOf(self.get())
            self.assertEqual(self.fetches, number)
            self.grant()
        self.clock.advance(0.8 * LIFE)
        self.assertEqual(self.fetches, 5)
        self.grant()
        self.clock.advance(10 * IDLE_SECONDS)
        self.assertEqual(self.fetches, 5)
        self.assertEqual((self.source.ready, self.clock.getDelayedCalls()), (False, []))
        asked = self.get()
        self.grant()
        self.assertEqual(self.successResultOf(asked), Secret("token-6"))

    def test_failure_backs_off_while_the_old_token_lives(self) -> None:
        """K2: after one second, two, four, up to a minute; the old token serves until its last minute."""
        self.have()
        self.clock.advance(0.8 * LIFE)
        for seconds in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0):
            self.fail()
            self.assertTrue(self.source.ready)
            before = self.fetches
            self.clock.advance(seconds - 0.01)
            self.assertEqual(self.fetches, before, seconds)
            self.clock.advance(0.01)
            self.assertEqual(self.fetches, before + 1, seconds)
        self.grant()
        self.assertEqual(self.successResultOf(self.get()).reveal(), f"token-{self.fetches}")

    def test_first_token_that_failed_is_tried_for_again(self) -> None:
        """Who is passed over for others that are ready comes back without a request that has to wait."""
        asked = self.get()
        self.fail()
        self.failureResultOf(asked, TokenUnavailable)
        self.clock.advance(1.0)
        self.grant()
        self.assertTrue(self.source.ready)

    def test_revoked_account_is_left_alone(self) -> None:
        """K1: no retry of the token by itself."""
        asked = self.get()
        self.fail(TokenRevoked("invalid_grant"))
        self.failureResultOf(asked, TokenRevoked)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_fetches_are_counted_by_how_they_ended(self) -> None:
        """Those that nobody asked for as well."""
        self.have()
        self.clock.advance(0.8 * LIFE)
        self.fail()
        self.clock.advance(1.0)
        self.fail(TokenRevoked("invalid_grant"))
        self.assertEqual(self.ahead.fetched, {("ok",): 1, ("unavailable",): 1, ("revoked",): 1})

    def test_stopped_source_starts_nothing(self) -> None:
        """Its end waits for a refresh under way, whose token may have been exchanged."""
        self.have()
        self.clock.advance(0.8 * LIFE)
        ended = self.source.stop()
        self.assertNoResult(ended)
        self.grant()
        self.successResultOf(ended)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.successResultOf(self.get()), Secret("token-2"))

    def test_prefetch_fetches_once_and_not_in_the_back_off(self) -> None:
        """However often it is asked for."""
        for _ in range(3):
            self.source.prefetch()
        self.assertEqual(self.fetches, 1)
        self.fail()
        self.source.prefetch()
        self.assertEqual(self.fetches, 1)
        self.clock.advance(1.0)
        self.grant()
        self.source.prefetch()
        self.assertEqual((self.fetches, self.source.ready), (2, True))

    def test_api_key_is_always_ready(self) -> None:
        """There is nothing to fetch, and nothing to stop."""
        key = StaticToken(Secret("key"))
        key.prefetch()
        self.assertTrue(key.ready)
        self.successResultOf(key.stop())


class WaitingTests(SynchronousTestCase):
    """Requests that meet a token that is not at hand."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.slow = FakeTokens(Deferred())
        self.slow.ready = False

    def ask(self, routed: Any, **changes: Any) -> tuple[Deferred[Any], Journal]:
        journal = Journal("request-1")
        return Deferred.fromCoroutine(routed.run(call(**changes), journal)), journal

    def test_another_account_serves_meanwhile(self) -> None:
        """K2: among equals the one whose token is there is chosen, and the other's is fetched."""
        wire = FakeWire(ok())
        routed = router(wire, self.clock, member("slow", self.slow), member("quick"))
        asked, journal = self.ask(routed)
        self.successResultOf(asked)
        self.assertEqual((wire.keys, journal.credential), (["quick"], "studio/quick"))
        self.assertEqual(self.slow.prefetched, 1)

    def test_conversation_waits_for_its_own_account_and_then_moves(self) -> None:
        """A session's own is worth five seconds, no more; the details say why it moved."""
        wire = FakeWire(ok(), ok())
        quick = FakeTokens("quick")
        routed = router(wire, self.clock, member("slow", self.slow), member("quick", quick))
        routed.sessions.bind("s", call().model, routed.members[0].credential, 0.0)
        asked, journal = self.ask(routed, session="s")
        self.clock.advance(TOKEN_SECONDS - 0.01)
        self.assertNoResult(asked)
        self.clock.advance(0.02)
        self.successResultOf(asked)
        self.assertEqual(wire.keys, ["quick"])
        self.assertEqual([attempt.reason for attempt in journal.attempts], ["TOKEN_PENDING", ""])
        self.assertIsNone(routed.standings.quarantined(routed.members[0].credential))

    def test_only_account_is_waited_for(self) -> None:
        """Where nobody else could serve, a slow token endpoint costs patience and not the request."""
        token: Deferred[str] = Deferred()
        wire = FakeWire(ok())
        slow = FakeTokens(token)
        slow.ready = False
        asked, _ = self.ask(router(wire, self.clock, member("slow", slow)))
        self.clock.advance(25.0)
        self.assertNoResult(asked)
        token.callback("at last")
        self.successResultOf(asked)
        self.assertEqual(wire.keys, ["at last"])

    def test_last_attempt_is_not_cut_short(self) -> None:
        """Where no further attempt is allowed there is nobody to rotate to."""
        routed = router(
            FakeWire(), self.clock, member("slow", self.slow), member("quick"), routing=RoutingConfig(max_attempts=1)
        )
        routed.sessions.bind("s", call().model, routed.members[0].credential, 0.0)
        asked, _ = self.ask(routed, session="s")
        self.clock.advance(TOKEN_SECONDS * 2)
        self.assertNoResult(asked)
        asked.cancel()
        self.failureResultOf(asked)

    def test_wait_ends_with_the_requests_budget(self) -> None:
        """Then it is the gateway's 503, and no connection was made."""
        wire = FakeWire()
        routed = router(wire, self.clock, member("slow", self.slow), timeouts=Timeouts(budget=20.0))
        asked, journal = self.ask(routed)
        self.clock.advance(20.0)
        failed = self.failureResultOf(asked, GatewayError)
        self.assertEqual((failed.value.code, wire.requests), (503, []))
        self.assertEqual([attempt.reason for attempt in journal.attempts], ["TOKEN_PENDING"])

    def test_forced_refresh_is_not_waited_for_either(self) -> None:
        """U4: upstream's 401, a refresh that hangs, and another account that serves."""
        wire = FakeWire(refused(401, "UNAUTHENTICATED"), ok())
        stale = FakeTokens("stale", Deferred())
        routed = router(wire, self.clock, member("first", stale), member("second"))
        asked, journal = self.ask(routed)
        self.clock.advance(TOKEN_SECONDS)
        self.assertNotIsInstance(self.successResultOf(asked), Refusal)
        self.assertEqual(wire.keys, ["stale", "second"])
        self.assertIn("TOKEN_PENDING", [attempt.reason for attempt in journal.attempts])
