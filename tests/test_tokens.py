"""Access tokens: one refresh for everybody, ahead of time, with a back-off, and waiters that leave alone."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.oauth import TokenRevoked, TokenUnavailable
from gateway.accounts.tokens import Ahead, RefreshedToken, StaticToken
from gateway.calls import HttpRequest, Secret
from tests.fakes import run


def granted(token: str, life: float = 3600, **more: str) -> tuple[int, bytes]:
    """A token endpoint's good answer."""
    return 200, json.dumps({"access_token": token, "expires_in": life, **more}).encode()


REVOKED = 400, b'{"error":"invalid_grant"}'


class Endpoint:
    """A token endpoint that answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.waiting: list[Deferred[tuple[int, bytes]]] = []

    async def send(self, request: HttpRequest) -> tuple[int, bytes]:
        self.asked.append(request.body)
        waiting: Deferred[tuple[int, bytes]] = Deferred()
        self.waiting.append(waiting)
        return await waiting

    def answer(self, answer: tuple[int, bytes]) -> None:
        self.waiting.pop(0).callback(answer)

    def fail(self, error: Exception) -> None:
        self.waiting.pop(0).errback(error)


class TokenCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.endpoint = Endpoint()
        self.saved: list[str] = []
        self.source = self.make()

    def make(self, save: Any = None, ahead: Ahead | None = None) -> RefreshedToken:
        return RefreshedToken(
            lambda refresh: HttpRequest(b"POST", b"https://token.example", (), refresh.reveal().encode()),
            Secret("refresh-1"),
            self.endpoint.send,
            self.clock.seconds,
            save or (lambda secret: self.saved.append(secret.reveal())),
            ahead,
            whose="accounts/71d4f55f",
        )

    def get(self) -> Deferred[Secret]:
        return run(self.source.get())

    def renew(self, stale: str) -> Deferred[Secret]:
        return run(self.source.renew(Secret(stale)))

    def have(self, token: str = "token-1", life: float = 3600) -> None:
        """Let the source have a token."""
        asked = self.get()
        self.endpoint.answer(granted(token, life))
        self.assertEqual(self.successResultOf(asked).reveal(), token)


class SingleFlightTests(TokenCase):
    def test_a_hundred_requests_that_meet_one_stale_token_make_one_refresh(self) -> None:
        """U4: each gets the fresh token, the endpoint is asked once."""
        self.have()
        self.endpoint.asked.clear()
        waiting = [self.renew("token-1") for _ in range(100)]
        self.assertEqual(len(self.endpoint.asked), 1)
        self.endpoint.answer(granted("token-2"))
        self.assertEqual({self.successResultOf(one).reveal() for one in waiting}, {"token-2"})
        self.assertEqual(len(self.endpoint.asked), 1)

    def test_one_who_comes_late_with_the_stale_token_makes_no_second_refresh(self) -> None:
        """A refresh that already happened is not made again."""
        self.have()
        first = self.renew("token-1")
        self.endpoint.answer(granted("token-2"))
        self.successResultOf(first)
        self.assertEqual(self.successResultOf(self.renew("token-1")).reveal(), "token-2")
        self.assertEqual(len(self.endpoint.asked), 2)

    def test_who_asks_while_a_renewal_is_under_way_waits_for_it(self) -> None:
        """A token that upstream refused is given to nobody any more."""
        self.have()
        self.renew("token-1")
        asked = self.get()
        self.assertNoResult(asked)
        self.endpoint.answer(granted("token-2"))
        self.assertEqual(self.successResultOf(asked).reveal(), "token-2")

    def test_a_waiter_that_is_cancelled_takes_nothing_from_the_others(self) -> None:
        """One client leaves; the refresh goes on and the others get its token."""
        leaving, staying = self.get(), self.get()
        leaving.cancel()
        self.failureResultOf(leaving, CancelledError)
        self.assertNoResult(staying)
        self.endpoint.answer(granted("token-1"))
        self.assertEqual(self.successResultOf(staying).reveal(), "token-1")
        self.assertEqual(len(self.endpoint.asked), 1)

    def test_the_token_is_kept_although_everybody_left(self) -> None:
        """The next request need not wait."""
        leaving = self.get()
        leaving.cancel()
        self.failureResultOf(leaving, CancelledError)
        self.endpoint.answer(granted("token-1"))
        self.assertEqual(self.successResultOf(self.get()).reveal(), "token-1")

    def test_a_waiter_may_send_another_away_as_it_gets_its_token(self) -> None:
        """What one does with the token is its own affair; nobody after the other is passed over."""
        for answer in (granted("token-1"), REVOKED):
            with self.subTest(answer=answer):
                self.setUp()
                first, second, third = self.get(), self.get(), self.get()
                first.addBoth(lambda _, second=second: second.cancel())
                self.endpoint.answer(answer)
                self.failureResultOf(second, CancelledError)
                third.addErrback(lambda failure: failure.trap(TokenRevoked))
                self.successResultOf(third)

    def test_every_waiter_gets_an_exception_of_its_own(self) -> None:
        """A shared one would gather the traceback of each."""
        waiting = [self.get(), self.get()]
        self.endpoint.answer((503, b""))
        first, second = (self.failureResultOf(one, TokenUnavailable).value for one in waiting)
        self.assertIsNot(first, second)


class RefreshAheadTests(TokenCase):
    def test_a_token_before_80_percent_of_its_life_is_given_out_without_a_refresh(self) -> None:
        """K2: the endpoint is left alone."""
        self.have(life=1000)
        self.clock.advance(799.9)
        self.assertEqual(self.successResultOf(self.get()).reveal(), "token-1")
        self.assertEqual(len(self.endpoint.asked), 1)

    def test_at_80_percent_of_its_life_a_token_still_serves_while_one_refresh_runs(self) -> None:
        """K2: nobody waits, and the next one is fetched once."""
        self.have(life=1000)
        self.clock.advance(800)
        self.assertEqual(self.successResultOf(self.get()).reveal(), "token-1")
        self.assertEqual(self.successResultOf(self.get()).reveal(), "token-1")
        self.assertEqual(len(self.endpoint.asked), 2)
        self.endpoint.answer(granted("token-2"))
        self.assertEqual(self.successResultOf(self.get()).reveal(), "token-2")

    def test_a_token_is_not_used_in_its_last_minute(self) -> None:
        """K6: clocks differ and requests take time."""
        self.have(life=1000)
        self.clock.advance(940)
        self.assertNoResult(self.get())

    def test_with_a_timer_the_token_is_refreshed_although_nobody_asks(self) -> None:
        """K2: at 80 % of its life, less the jitter."""
        self.source = self.make(ahead=Ahead(self.clock.callLater, lambda: 0.5))
        self.have(life=1000)
        self.clock.advance(759.9)
        self.assertEqual(len(self.endpoint.asked), 1)
        self.clock.advance(0.2)
        self.assertEqual(len(self.endpoint.asked), 2)

    def test_a_source_that_is_stopped_leaves_no_timer(self) -> None:
        """What runs in the background ends with the daemon."""
        self.source = self.make(ahead=Ahead(self.clock.callLater, lambda: 0.0))
        self.have()
        self.successResultOf(self.source.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopping_waits_for_a_refresh_under_way(self) -> None:
        """A rotated refresh token that nobody took in would be lost."""
        asked = self.get()
        stopped = self.source.stop()
        self.assertNoResult(stopped)
        self.endpoint.answer(granted("token-1", refresh_token="refresh-2"))
        self.successResultOf(stopped)
        self.successResultOf(asked)
        self.assertEqual(self.saved, ["refresh-2"])


class BackoffTests(TokenCase):
    def failed(self) -> None:
        asked = self.get()
        self.endpoint.answer((503, b""))
        self.failureResultOf(asked, TokenUnavailable)

    def test_after_a_failure_the_endpoint_is_left_alone_for_a_second(self) -> None:
        """K2: who asks meanwhile hears of the failure at once."""
        self.failed()
        self.clock.advance(0.999)
        self.failureResultOf(self.get(), TokenUnavailable)
        self.assertEqual(len(self.endpoint.asked), 1)
        self.clock.advance(0.001)
        self.assertNoResult(self.get())
        self.assertEqual(len(self.endpoint.asked), 2)

    def test_the_pause_doubles_up_to_a_minute(self) -> None:
        """K2: 1, 2, 4, ... 32, 60, 60 seconds."""
        for pause in (1, 2, 4, 8, 16, 32, 60, 60):
            self.failed()
            asked = len(self.endpoint.asked)
            self.clock.advance(pause - 0.001)
            self.failureResultOf(self.get(), TokenUnavailable)
            self.assertEqual(len(self.endpoint.asked), asked)
            self.clock.advance(0.001)

    def test_a_success_ends_the_doubling(self) -> None:
        """The next failure is a first one again."""
        self.failed()
        self.clock.advance(1)
        self.failed()
        self.clock.advance(2)
        self.have(life=60)
        self.clock.advance(60)
        self.failed()
        self.clock.advance(1)
        self.assertNoResult(self.get())

    def test_a_refresh_ahead_that_fails_takes_nothing_from_a_token_that_is_still_good(self) -> None:
        """K2: valid until it expires, however the endpoint does."""
        self.have(life=1000)
        self.clock.advance(800)
        self.successResultOf(self.get())
        self.endpoint.answer((500, b"oops"))
        self.assertEqual(self.successResultOf(self.get()).reveal(), "token-1")
        self.assertEqual(len(self.endpoint.asked), 2)

    def test_an_endpoint_that_cannot_be_reached_is_unavailable_and_not_revoked(self) -> None:
        """K1: only invalid_grant condemns an account."""
        asked = self.get()
        self.endpoint.fail(TokenUnavailable("no answer"))
        self.failureResultOf(asked, TokenUnavailable)

    def test_invalid_grant_is_told_as_such(self) -> None:
        """K1: the account is dead until its owner signs in again."""
        asked = self.get()
        self.endpoint.answer(REVOKED)
        self.failureResultOf(asked, TokenRevoked)

    def test_a_revoked_account_is_not_passed_over_for_ever(self) -> None:
        """K1: passed over for want of a token, it would be refreshed again and again, and nobody told."""
        self.source.prefetch()
        self.assertFalse(self.source.ready)
        self.endpoint.answer(REVOKED)
        self.assertTrue(self.source.ready)
        self.clock.advance(3600)
        self.source.prefetch()
        self.assertEqual(len(self.endpoint.asked), 1)

    def test_an_unexpected_exception_is_logged_and_lets_go_of_the_waiters(self) -> None:
        """P13: a fault of ours leaves nobody waiting for ever, and shows no secret."""
        asked = self.get()
        self.endpoint.fail(ZeroDivisionError("refresh-1"))
        error = self.failureResultOf(asked, TokenUnavailable).value
        self.assertNotIn("refresh-1", str(error))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_fetch_that_is_cancelled_from_below_lets_go_of_the_waiters(self) -> None:
        """CancelledError is an Exception in Twisted; the waiters themselves were not cancelled."""
        asked = self.get()
        self.endpoint.fail(CancelledError())
        self.failureResultOf(asked, TokenUnavailable)


class LogTests(TokenCase):
    """What an operator learns of an endpoint that gives no token."""

    def setUp(self) -> None:
        super().setUp()
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def refused(self, error: str) -> list[str]:
        """Have the endpoint refuse, and return what is logged of it."""
        self.clock.advance(120)
        asked = self.get()
        self.endpoint.answer((401, json.dumps({"error": error}).encode()))
        self.failureResultOf(asked)
        return self.told()

    def told(self) -> list[str]:
        lines = [f"{event['log_level'].name} {formatEvent(event)}" for event in self.events]
        self.events.clear()
        return lines

    def test_why_there_is_no_token_is_told_once_and_when_it_is_over(self) -> None:
        """With the credential's label and the endpoint's own word; a revoked one is told as a quarantine, elsewhere."""
        no_token = "warn no access token for accounts/71d4f55f, tried again: the token endpoint answered 401"
        self.assertEqual(self.refused("invalid_client"), [f"{no_token} (invalid_client)"])
        self.assertEqual(self.refused("invalid_client"), [])
        self.assertEqual(self.refused("slow_down"), [f"{no_token} (slow_down)"])
        self.clock.advance(120)
        self.have()
        self.assertEqual(self.told(), ["info access tokens for accounts/71d4f55f come again"])

    def test_good_tokens_are_not_spoken_of(self) -> None:
        """Neither the first nor the next."""
        self.have()
        self.clock.advance(3600)
        self.have("token-2")
        self.assertEqual(self.told(), [])


class RotatedRefreshTokenTests(TokenCase):
    def test_a_rotated_refresh_token_is_saved_and_used_next(self) -> None:
        """RFC 6749 section 6: the old one may be void from now on."""
        asked = self.get()
        self.endpoint.answer(granted("token-1", refresh_token="refresh-2"))
        self.successResultOf(asked)
        self.assertEqual(self.saved, ["refresh-2"])
        self.renew("token-1")
        self.assertEqual(self.endpoint.asked, [b"refresh-1", b"refresh-2"])

    def test_the_same_refresh_token_again_is_not_saved(self) -> None:
        """Nothing has changed, so no file is written."""
        asked = self.get()
        self.endpoint.answer(granted("token-1", refresh_token="refresh-1"))
        self.successResultOf(asked)
        self.assertEqual(self.saved, [])

    def test_a_refresh_token_that_cannot_be_saved_costs_nobody_the_access_token(self) -> None:
        """P6: serve on from memory, with the new refresh token."""

        def save(secret: Secret) -> None:
            raise OSError("no space left")

        self.source = self.make(save)
        asked = self.get()
        self.endpoint.answer(granted("token-1", refresh_token="refresh-2"))
        self.assertEqual(self.successResultOf(asked).reveal(), "token-1")
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)
        self.renew("token-1")
        self.assertEqual(self.endpoint.asked[-1], b"refresh-2")


class StaticTokenTests(SynchronousTestCase):
    def test_an_api_key_is_given_out_as_it_is(self) -> None:
        """There is nothing to fetch."""
        self.assertEqual(self.successResultOf(run(StaticToken(Secret("key")).get())).reveal(), "key")

    def test_an_api_key_cannot_be_renewed(self) -> None:
        """There is no other key."""
        self.assertFalse(StaticToken.renewable)
        self.failureResultOf(run(StaticToken(Secret("key")).renew(Secret("key"))), TokenUnavailable)
