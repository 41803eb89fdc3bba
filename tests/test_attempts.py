"""The retry and rotation loop: every verdict's consequence, clocks, cancellation, sessions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.oauth import Granted, TokenRevoked, TokenUnavailable
from gateway.accounts.tokens import FetchedToken
from gateway.calls import Call, GatewayError, Journal, Secret
from gateway.config import RoutingConfig, Timeouts
from gateway.routing.attempts import Live, Router, Whole
from gateway.routing.consequences import REFUSALS_MOST, REFUSED_SECONDS
from gateway.routing.outcome import Refusal
from gateway.routing.pool import Member
from gateway.upstreams.exchange import WireError
from tests.fakes import (
    ANSWER,
    SSE,
    FakeExchange,
    FakeRecorder,
    FakeTokens,
    FakeWire,
    Scripted,
    call,
    event,
    member,
    ok,
    reason,
    refused,
    retry_info,
    router,
    rpc_error,
    run,
    sse,
    stream,
    stream_call,
)

TWO_BASES = ("https://one.example", "https://two.example")
MINUTE = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "RequestsPerMinute"}]}
MODEL = "gemini-2.5-flash"
DAY = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "RequestsPerDay-FreeTier"}]}


def limited(delay: str = "30s") -> FakeExchange:
    """A 429 of the short kind."""
    return refused(429, "RESOURCE_EXHAUSTED", reason("RATE_LIMIT_EXCEEDED"), MINUTE, retry_info(delay))


class RouterCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.wire = FakeWire()
        self.recorder = FakeRecorder()
        self.router: Router

    def build(self, *members: Member, script: tuple[Scripted, ...] = (), **changes: Any) -> None:
        self.wire.script = list(script)
        self.router = router(self.wire, self.clock, *members, recorder=self.recorder, **changes)

    def start(self, request: Call | None = None) -> Deferred[Any]:
        self.journal = Journal("request-1")
        return run(self.router.run(request or call(), self.journal))

    def whole(self, request: Call | None = None) -> bytes:
        reply = self.successResultOf(self.start(request))
        self.assertIsInstance(reply, Whole)
        data: bytes = reply.event.data
        return data

    def live(self, request: Call | None = None) -> Live:
        reply = self.successResultOf(self.start(request or stream_call()))
        assert isinstance(reply, Live)
        return reply

    def refusal(self, request: Call | None = None) -> Refusal:
        reply = self.successResultOf(self.start(request))
        assert isinstance(reply, Refusal), reply
        return reply

    def error(self, request: Call | None = None) -> GatewayError:
        error = self.failureResultOf(self.start(request), GatewayError).value
        assert isinstance(error, GatewayError)
        return error

    def usable(self, one: Member, model: str = "gemini-2.5-flash") -> bool:
        return self.router.standings.availability(one.credential, model, self.clock.seconds()).usable

    @property
    def leases(self) -> int:
        return sum(self.router.standings.in_flight().values())

    @property
    def reasons(self) -> list[str]:
        return [attempt.reason for attempt in self.journal.attempts]


class RotationTests(RouterCase):
    def test_a_good_answer_is_delivered_byte_for_byte(self) -> None:
        """One request upstream, one attempt noted, no lease left."""
        self.build(member("a"), script=(ok(),))
        self.assertEqual(self.whole(), ANSWER)
        self.assertEqual((self.wire.keys, self.reasons, self.leases), (["a"], [""], 0))
        self.assertEqual(len(self.recorder.attempts), 1)

    def test_the_clients_own_error_is_passed_on_once(self) -> None:
        """U1: one attempt, and the credential is unharmed."""
        a, b = member("a"), member("b")
        self.build(a, b, script=(refused(400, "INVALID_ARGUMENT", message="bad field"),))
        self.assertEqual(self.refusal().status, 400)
        self.assertEqual(self.wire.keys, ["a"])
        self.assertTrue(self.usable(a))

    def test_another_credential_is_tried_at_once(self) -> None:
        """U9: without any wait."""
        self.build(member("a"), member("b"), member("c"), script=(limited(), limited(), ok()))
        self.assertEqual(self.whole(), ANSWER)
        self.assertEqual(self.wire.keys, ["a", "b", "c"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_no_more_than_max_attempts_go_upstream(self) -> None:
        """K9: however many credentials there are."""
        for most in (1, 2, 3):
            with self.subTest(most=most):
                self.setUp()
                members = [member(name) for name in "abcde"]
                script = tuple(limited() for _ in members)
                self.build(*members, script=script, routing=RoutingConfig(max_attempts=most))
                self.assertEqual(self.refusal().status, 429)
                self.assertEqual(len(self.wire.requests), most)

    def test_no_credential_is_used_twice_in_one_request(self) -> None:
        """Also where attempts are left, and whatever kind of failure it was."""
        for failing in (lambda: limited(), lambda: WireError("reset"), lambda: refused(403, "PERMISSION_DENIED")):
            self.setUp()
            self.build(member("a"), member("b"), script=(failing(), failing(), ok()))
            self.failOrRefuse()
            self.assertEqual(self.wire.keys, ["a", "b"])

    def failOrRefuse(self) -> None:
        started = self.start()
        started.addErrback(lambda failure: failure.trap(GatewayError))
        self.successResultOf(started)

    def test_a_project_that_cools_takes_all_of_its_credentials_along(self) -> None:
        """U9: Google counts by project, so the next one tried is of another."""
        a, b, c = member("a", project="p"), member("b", project="p"), member("c", project="q")
        self.build(a, b, c, script=(limited(), ok()))
        self.whole()
        self.assertEqual(self.wire.keys, ["a", "c"])

    def test_the_last_error_is_upstreams_own_with_what_was_tried(self) -> None:
        """Its body keeps its members; the details gain an ErrorInfo of the gateway's."""
        self.build(member("a"), member("b"), script=(limited(), refused(503, "UNAVAILABLE", message="busy")))
        refusal = self.refusal()
        error = json.loads(refusal.body)["error"]
        self.assertEqual((refusal.status, error["code"], error["message"]), (503, 503, "busy"))
        (tried,) = [detail for detail in error["details"] if detail.get("reason") == "ATTEMPTS"]
        self.assertEqual(
            tried["metadata"],
            {"attempt-1": "studio/a 429 RATE_LIMIT_EXCEEDED", "attempt-2": "studio/b 503 UNAVAILABLE"},
        )

    def test_a_403_that_may_be_the_clients_doing_quarantines_nobody(self) -> None:
        """U7: two credentials say so, then it is passed on."""
        a, b, c = member("a"), member("b"), member("c")
        self.build(a, b, c, script=(refused(403, "PERMISSION_DENIED"), refused(403, "PERMISSION_DENIED")))
        self.assertEqual(self.refusal().status, 403)
        self.assertEqual(self.recorder.out, [])
        self.assertTrue(self.usable(a, "another-model"))

    def test_a_200_that_holds_an_error_is_judged_by_the_error(self) -> None:
        """U17: a 429 in the body rotates like a 429."""
        inner = FakeExchange(200, body=rpc_error(429, "RESOURCE_EXHAUSTED"))
        self.build(member("a"), member("b"), script=(inner, ok()))
        self.assertEqual(self.whole(), ANSWER)

    def test_a_redirect_is_not_followed(self) -> None:
        """U16: 502, and no second request."""
        self.build(member("a"), member("b"), script=(FakeExchange(302, {b"location": b"https://evil.example"}, b""),))
        error = self.error()
        self.assertEqual((error.code, error.reason, len(self.wire.requests)), (502, "UPSTREAM_REDIRECT", 1))


class CoolDownTests(RouterCase):
    def test_a_pair_rests_to_the_millisecond_and_other_models_do_not(self) -> None:
        """U9: no request before RetryInfo is over, one right after it."""
        self.build(member("a"), script=(limited("30s"),))
        self.assertEqual(self.refusal().status, 429)
        self.wire.script = [ok(), ok()]
        self.whole(call(model="gemini-2.5-pro"))
        self.clock.advance(29.999)
        self.assertEqual(self.error().code, 429)
        self.assertEqual(len(self.wire.requests), 2)
        self.clock.advance(0.0011)
        self.whole()

    def test_a_daily_quota_outlasts_its_retry_info(self) -> None:
        """U10: 37 s are not believed."""
        day = refused(429, "RESOURCE_EXHAUSTED", DAY, retry_info("37s"))
        self.build(member("a"), script=(day,))
        self.refusal()
        self.clock.advance(38)
        error = self.error()
        self.assertGreater(error.retry_after_seconds or 0, 600)

    def test_a_rate_limit_that_says_nothing_doubles(self) -> None:
        """U11: 1, 2, 4 seconds, up to a minute."""
        self.build(member("a"))
        for seconds in (1, 2, 4, 8, 16, 32, 60, 60):
            self.wire.script = [refused(429, "RESOURCE_EXHAUSTED")]
            self.refusal()
            self.clock.advance(seconds - 0.01)
            self.assertEqual(self.error().code, 429, f"within {seconds} s")
            self.clock.advance(0.02)

    def test_an_answer_to_an_earlier_request_does_not_lift_a_rest(self) -> None:
        """U9: it was sent before the quota ran out, and says nothing of the quota since."""
        self.build(member("a"))
        slow = self.wire.hold()
        self.wire.script = [slow, limited("30s")]
        earlier = self.start()
        self.refusal()
        slow.callback(ok())
        self.successResultOf(earlier)
        self.assertEqual(self.error().code, 429)

    def test_all_cooling_is_a_429_that_names_the_earliest(self) -> None:
        """K4: nothing goes upstream; Retry-After and RetryInfo come from this."""
        self.build(member("a"), member("b"), script=(limited("50s"), limited("20s")))
        self.refusal()
        self.clock.advance(5)
        error = self.error()
        self.assertEqual((error.code, error.status, error.retry_after_seconds), (429, "RESOURCE_EXHAUSTED", 15.0))
        self.assertEqual(len(self.wire.requests), 2)

    def test_a_refusal_when_all_have_just_cooled_says_when_the_first_is_back(self) -> None:
        """K4: upstream's own body, the pool's own Retry-After."""
        self.build(member("a"), member("b"), script=(limited("50s"), limited("20s")))
        self.assertEqual(self.refusal().retry_after, b"20")


    def test_upstreams_retry_after_is_passed_on_in_seconds_and_not_taken_on_trust(self) -> None:
        """U13: seconds and dates become seconds, at most an hour; what makes no sense is left out."""
        table = [
            ("7", b"7"),
            ("99999999999", b"3600"),
            ("Thu, 01 Jan 1970 00:00:00 GMT", b"1"),
            ("soon\x7f", b""),
        ]
        for given, told in table:
            self.build(member("a"), script=(refused(503, "UNAVAILABLE", retry_after=given),))
            self.assertEqual(self.refusal().retry_after, told, given)


class QuarantineTests(RouterCase):
    def test_an_invalid_api_key_goes_out_and_is_never_shown(self) -> None:
        """U2: the client is told 503, not that its key is bad."""
        bad = refused(400, "INVALID_ARGUMENT", reason("API_KEY_INVALID"), message="API key not valid. key=AIzaX")
        a = member("a")
        self.build(a, script=(bad,))
        error = self.error()
        self.assertEqual((error.code, error.reason), (503, "UPSTREAM_CREDENTIALS_UNAVAILABLE"))
        self.assertNotIn("not valid", str(error) + repr(error.details))
        self.assertEqual(self.recorder.out, [("a", "API_KEY_INVALID", "")])
        self.assertFalse(self.usable(a, "any-model"))

    def test_after_an_invalid_api_key_the_next_credential_answers(self) -> None:
        """U2: and later requests leave the bad one alone."""
        bad = refused(400, "INVALID_ARGUMENT", reason("API_KEY_INVALID"))
        self.build(member("a"), member("b"), script=(bad, ok(), ok()))
        self.whole()
        self.whole()
        self.assertEqual(self.wire.keys, ["a", "b", "b"])

    def test_an_earlier_honest_error_is_shown_rather_than_a_credentials_fault(self) -> None:
        """U2: the client learns of the rate limit, not of the operator's dead key."""
        bad = refused(400, "INVALID_ARGUMENT", reason("API_KEY_INVALID"))
        self.build(member("a"), member("b"), script=(limited(), bad))
        self.assertEqual(self.refusal().status, 429)

    def test_with_nobody_left_it_is_503_without_a_retry_after(self) -> None:
        """K5: time alone will not mend it."""
        for members in ((), (member("a"),)):
            self.build(*members)
            for one in members:
                self.router.standings.quarantine(one.credential, "REVOKED", "", 0.0, 0.0)
            error = self.error()
            self.assertEqual((error.code, error.retry_after_seconds), (503, None))
            self.assertEqual(self.wire.requests, [])

    def test_an_account_with_invalid_grant_goes_out_and_the_next_serves(self) -> None:
        """K1: nothing is sent upstream for it."""
        dead = member("a", FakeTokens(TokenRevoked("invalid_grant")))
        self.build(dead, member("b"), script=(ok(),))
        self.whole()
        self.assertEqual(self.wire.keys, ["b"])
        self.assertEqual([(name, why) for name, why, _ in self.recorder.out], [("a", "INVALID_GRANT")])

    def test_an_account_whose_token_cannot_be_had_now_is_not_blamed(self) -> None:
        """K2: the endpoint is down, the next one serves."""
        a = member("a", FakeTokens(TokenUnavailable("no answer")))
        self.build(a, member("b"), script=(ok(),))
        self.whole()
        self.assertTrue(self.usable(a))
        self.assertEqual(self.reasons, ["TOKEN_UNAVAILABLE", ""])


class RefreshTests(RouterCase):
    def account(self, name: str, *tokens: Any) -> Member:
        return member(name, FakeTokens(*tokens), kind="codeassist", upstream="accounts", project=f"project-{name}")

    def test_a_stale_token_is_renewed_once_and_the_same_account_repeats(self) -> None:
        """U4: the client never sees the 401."""
        a = self.account("a", "a-1", "a-2")
        self.build(a, script=(refused(401, "UNAUTHENTICATED"), ok()))
        self.whole()
        self.assertEqual(self.wire.keys, ["a-1", "a-2"])
        self.assertTrue(self.usable(a))

    def test_a_second_401_rests_the_account_and_the_next_one_answers(self) -> None:
        """U4: one forced refresh in a request, not two; an outage of the identity service is no verdict for ever."""
        a = self.account("a", "a-1", "a-2", "a-3")
        script = (refused(401, "UNAUTHENTICATED"), refused(401, "UNAUTHENTICATED"), ok())
        self.build(a, self.account("b", "b-1"), script=script)
        self.whole()
        self.assertEqual(self.wire.keys, ["a-1", "a-2", "b-1"])
        self.assertFalse(self.usable(a))
        self.assertEqual(self.recorder.out, [])
        self.clock.advance(REFUSED_SECONDS * 1.2)
        self.assertTrue(self.usable(a))

    def test_credential_that_is_taken_out_during_the_wait_for_its_token_is_not_used(self) -> None:
        """U6, U9: nothing is sent to who rests or stands still by then, and it counts as no attempt."""
        one = self.account("a").credential
        for spoil in (
            lambda standings: standings.cool(one, MODEL, 60.0, 0.0),
            lambda standings: standings.set_enabled(one, False),
            lambda standings: standings.quarantine(one, "TOS_VIOLATION", "", 0.0, 0.0),
        ):
            token: Deferred[Any] = Deferred()
            self.wire.requests.clear()
            self.build(self.account("a", token), self.account("b", "b-1"), script=(ok(),))
            waiting = self.start()
            spoil(self.router.standings)
            token.callback("a-1")
            self.assertIsInstance(self.successResultOf(waiting), Whole)
            self.assertEqual((self.wire.keys, self.reasons, self.leases), (["b-1"], [""], 0))

    def test_only_credential_that_rests_after_the_wait_is_told_with_its_end(self) -> None:
        """K4: as if it had rested before."""
        token: Deferred[Any] = Deferred()
        a = self.account("a", token)
        self.build(a)
        waiting = self.start()
        self.router.standings.cool(a.credential, MODEL, 60.0, 0.0)
        token.callback("a-1")
        error = self.failureResultOf(waiting, GatewayError).value
        self.assertEqual((error.code, error.retry_after_seconds), (429, 60.0))

    def test_who_waited_for_a_token_is_the_probe_of_a_rest_that_is_over(self) -> None:
        """K10: one of those who waited goes out, and the others choose again."""
        granted: Deferred[Granted] = Deferred()
        a = member("a", FetchedToken(lambda: granted, self.clock.seconds))
        self.build(a, script=(probe := self.wire.hold(),))
        first, second = self.start(), self.start()
        self.router.standings.cool(a.credential, MODEL, 1.0, 0.0)
        self.clock.advance(1.0)
        granted.callback(Granted(Secret("a-1"), 3600.0, None))
        self.assertEqual(self.wire.keys, ["a-1"])
        self.assertEqual(self.failureResultOf(second, GatewayError).value.code, 429)
        probe.callback(ok())
        self.assertIsInstance(self.successResultOf(first), Whole)

    def test_account_that_is_taken_out_during_its_refresh_is_not_asked_again(self) -> None:
        """U4, U6: the fresh token is for later, and the 401 is held against nobody."""
        fresh: Deferred[Any] = Deferred()
        a = self.account("a", "a-1", fresh)
        self.build(a, self.account("b", "b-1"), script=(refused(401, "UNAUTHENTICATED"), ok()))
        waiting = self.start()
        self.router.standings.set_enabled(a.credential, False)
        fresh.callback("a-2")
        self.assertIsInstance(self.successResultOf(waiting), Whole)
        self.assertEqual(self.wire.keys, ["a-1", "b-1"])
        self.router.standings.set_enabled(a.credential, True)
        self.assertTrue(self.usable(a))

    def test_an_account_that_is_refused_takes_nobody_of_its_project_with_it(self) -> None:
        """U4: the next request is answered by the other one, and at once."""
        bad = self.account("bad", "bad-1", "bad-2")
        good = member("good", FakeTokens("good-1"), kind="codeassist", upstream="accounts", project="project-bad")
        script = (refused(401, "UNAUTHENTICATED"), refused(401, "UNAUTHENTICATED"), ok(), ok())
        self.build(bad, good, script=script)
        self.whole()
        self.whole()
        self.assertEqual(self.wire.keys, ["bad-1", "bad-2", "good-1", "good-1"])

    def test_used_up_quotas_do_not_count_as_refusals(self) -> None:
        """U4: one 401 after many 429s is the first of its kind."""
        a = self.account("a", *(f"a-{n}" for n in range(40)))
        unauthenticated = [refused(401, "UNAUTHENTICATED") for _ in range(2)]
        self.build(a, script=(*(limited("1s") for _ in range(REFUSALS_MOST + 1)), *unauthenticated))
        for _ in range(REFUSALS_MOST + 1):
            self.refusal()
            self.clock.advance(10)
        self.error()
        self.assertEqual(self.recorder.out, [])

    def test_an_account_refused_again_and_again_goes_out(self) -> None:
        """U4: fresh tokens that are refused for minutes are no outage; somebody has to act."""
        a = self.account("a", *(f"a-{n}" for n in range(40)))
        self.build(a, script=tuple(refused(401, "UNAUTHENTICATED") for _ in range(2 * (REFUSALS_MOST + 1))))
        for _ in range(REFUSALS_MOST):
            self.error()
            self.assertEqual(self.recorder.out, [])
            self.clock.advance(600)
        self.error()
        self.assertEqual([name for name, _, _ in self.recorder.out], ["a"])

    def test_an_api_key_refused_with_401_is_not_repeated(self) -> None:
        """U4: there is nothing to renew."""
        key = member("a", FakeTokens("a", TokenUnavailable("no other"), renewable=False))
        self.build(key, member("b"), script=(refused(401, "UNAUTHENTICATED"), ok()))
        self.whole()
        self.assertEqual(self.wire.keys, ["a", "b"])
        self.assertFalse(self.usable(key))

    def test_a_refresh_that_cannot_be_had_leads_to_the_next_without_blame(self) -> None:
        """K2: the token endpoint is down; the account may be well."""
        a = self.account("a", "a-1", TokenUnavailable("503"))
        self.build(a, self.account("b", "b-1"), script=(refused(401, "UNAUTHENTICATED"), ok()))
        self.whole()
        self.assertEqual(self.wire.keys, ["a-1", "b-1"])
        self.assertTrue(self.usable(a))

    def test_a_refresh_that_is_revoked_quarantines(self) -> None:
        """K1: by way of the 401."""
        a = self.account("a", "a-1", TokenRevoked("invalid_grant"))
        self.build(a, self.account("b", "b-1"), script=(refused(401, "UNAUTHENTICATED"), ok()))
        self.whole()
        self.assertEqual([(name, why) for name, why, _ in self.recorder.out], [("a", "INVALID_GRANT")])

    def test_an_account_counts_as_one_attempt_though_its_refresh_failed(self) -> None:
        """U4: 401 and no token after it are one credential's try, so the third is still reached."""
        down = TokenUnavailable("503")
        accounts = [self.account("a", "a-1", down), self.account("b", "b-1", down), self.account("c", "c-1")]
        self.build(*accounts, script=(refused(401, "UNAUTHENTICATED"), refused(401, "UNAUTHENTICATED"), ok()))
        self.whole()
        self.assertEqual(self.wire.keys, ["a-1", "b-1", "c-1"])

    def test_a_401_that_nobody_survives_is_hidden(self) -> None:
        """U4: the client would doubt its own key."""
        a = self.account("a", "a-1", "a-2")
        self.build(a, script=(refused(401, "UNAUTHENTICATED"), refused(401, "UNAUTHENTICATED")))
        self.assertEqual(self.error().code, 503)


class BaseTests(RouterCase):
    def test_the_next_base_is_tried_with_the_same_credential(self) -> None:
        """404, 408, 5xx and transport errors belong to the base."""
        failing: dict[str, Callable[[], Scripted]] = {
            **{str(code): (lambda code=code: refused(code)) for code in (404, 408, 500, 502, 503, 504)},
            **{kind: (lambda kind=kind: WireError(kind)) for kind in ("connect", "timeout-connect", "reset")},
        }
        for name, make in failing.items():
            with self.subTest(name=name):
                self.setUp()
                self.build(member("a", bases=TWO_BASES), member("b", bases=TWO_BASES), script=(make(), ok()))
                self.whole()
                self.assertEqual(self.wire.keys, ["a", "a"])
                self.assertEqual(self.wire.hosts, ["one.example", "two.example"])
                self.assertTrue(self.usable(self.router.members[0]))

    def test_a_429_belongs_to_the_account_and_not_to_the_base(self) -> None:
        """The next credential starts at the first base."""
        self.build(member("a", bases=TWO_BASES), member("b", bases=TWO_BASES), script=(limited(), ok()))
        self.whole()
        self.assertEqual((self.wire.keys, self.wire.hosts), (["a", "b"], ["one.example", "one.example"]))

    def test_bases_count_against_max_attempts(self) -> None:
        """K9: three requests, not three for every credential."""
        bases = (*TWO_BASES, "https://three.example", "https://four.example")
        script = tuple(refused(503, "UNAVAILABLE") for _ in range(8))
        self.build(member("a", bases=bases), member("b", bases=bases), script=script)
        self.refusal()
        self.assertEqual(len(self.wire.requests), 3)

    def test_a_404_everywhere_is_passed_on(self) -> None:
        """U7: the client's model does not exist; another credential of the same bases would not know it either."""
        script = (refused(404, "NOT_FOUND"), refused(404, "NOT_FOUND"))
        self.build(member("a", bases=TWO_BASES), member("b", bases=TWO_BASES), script=script)
        self.assertEqual(self.refusal().status, 404)
        self.assertEqual(self.wire.keys, ["a", "a"])

    def test_a_base_without_capacity_rests_and_no_credential_does(self) -> None:
        """U13: the next request begins at the other base."""
        busy = refused(503, "UNAVAILABLE", reason("MODEL_CAPACITY_EXHAUSTED"))
        a = member("a", bases=TWO_BASES)
        self.build(a, script=(busy, ok(), ok()))
        self.whole()
        self.whole()
        self.assertEqual(self.wire.hosts, ["one.example", "two.example", "two.example"])
        self.assertTrue(self.usable(a))


class PreconditionTests(RouterCase):
    def failing(self) -> FakeExchange:
        return refused(400, "FAILED_PRECONDITION", message="User location is not supported for the API use.")

    def test_only_another_project_is_tried(self) -> None:
        """U3: a second key of the same project would hear the same."""
        members = member("a", project="p"), member("b", project="p"), member("c", project="q")
        self.build(*members, script=(self.failing(), ok()))
        self.whole()
        self.assertEqual(self.wire.keys, ["a", "c"])

    def test_without_another_project_it_is_passed_on(self) -> None:
        """U3: as upstream said it."""
        self.build(member("a", project="p"), member("b", project="p"), script=(self.failing(),))
        self.assertEqual(self.refusal().status, 400)
        self.assertEqual(self.wire.keys, ["a"])

    def test_one_more_project_and_no_third(self) -> None:
        """U3: it is not the projects, then."""
        members = [member(name, project=name) for name in "pqr"]
        self.build(*members, script=(self.failing(), self.failing()))
        self.assertEqual(self.refusal().status, 400)
        self.assertEqual(len(self.wire.requests), 2)


class TimeTests(RouterCase):
    def test_a_unary_call_that_timed_out_is_not_repeated(self) -> None:
        """C5: it may be at work upstream, and would be billed twice."""
        a = member("a")
        self.build(a, member("b"), script=(WireError("timeout-first-byte"),))
        error = self.error()
        self.assertEqual((error.code, error.reason, self.wire.keys), (504, "UPSTREAM_TIMEOUT", ["a"]))
        self.assertTrue(self.usable(a))

    def test_a_stream_that_gave_no_event_is_tried_once_more(self) -> None:
        """C5: elsewhere, and not a third time."""
        members = [member(name) for name in "abc"]
        self.build(*members, script=(WireError("timeout-first-byte"), WireError("timeout-first-byte")))
        self.assertEqual(self.error(stream_call()).code, 504)
        self.assertEqual(self.wire.keys, ["a", "b"])

    def test_each_kind_of_call_has_its_own_limit(self) -> None:
        """C5: the first byte of a unary call is its whole answer."""
        self.build(member("a"), script=(ok(), stream(event("one"))))
        self.whole()
        self.live()
        self.assertEqual(self.wire.limits, [600.0, 120.0])

    def test_a_clients_server_timeout_shortens_the_limit(self) -> None:
        """X-Server-Timeout; it never lengthens one."""
        self.build(member("a"), script=(ok(), ok()))
        self.whole(call(server_timeout_seconds=5.0))
        self.whole(call(server_timeout_seconds=5000.0))
        self.assertEqual(self.wire.limits, [5.0, 600.0])

    def test_all_attempts_share_one_budget(self) -> None:
        """What the first one used is missing to the second."""
        self.build(member("a"), member("b"))
        first, second = self.wire.hold(), self.wire.hold()
        self.wire.script = [first, second]
        self.start(call(server_timeout_seconds=10.0))
        self.clock.advance(4)
        first.callback(limited())
        self.assertEqual(self.wire.limits, [10.0, 6.0])

    def test_with_the_budget_spent_nobody_else_is_tried(self) -> None:
        """The last failure is shown."""
        self.build(member("a"), member("b"))
        first = self.wire.hold()
        self.wire.script = [first, ok()]
        started = self.start(call(server_timeout_seconds=10.0))
        self.clock.advance(10)
        first.callback(limited())
        self.assertEqual(self.successResultOf(started).status, 429)
        self.assertEqual(self.wire.keys, ["a"])

    def test_waiting_for_a_token_is_within_the_budget(self) -> None:
        """A token endpoint that stalls does not outlast what the client allows."""
        other = FakeTokens("b")
        other.ready = False
        self.build(member("a", FakeTokens(Deferred())), member("b", other))
        started = self.start(call(server_timeout_seconds=5.0))
        self.clock.advance(4.999)
        self.assertNoResult(started)
        self.clock.advance(0.001)
        self.assertEqual(self.failureResultOf(started, GatewayError).value.code, 503)
        self.assertEqual((self.wire.requests, self.leases), ([], 0))

    def test_waiting_for_a_renewed_token_is_within_the_budget(self) -> None:
        """Also where a 401 led to it."""
        account = member("a", FakeTokens("a-1", Deferred()), kind="codeassist", project="p")
        self.build(account, script=(refused(401, "UNAUTHENTICATED"),))
        started = self.start(call(server_timeout_seconds=5.0))
        self.clock.advance(5)
        self.failureResultOf(started, GatewayError)
        self.assertEqual(self.leases, 0)

    def test_a_unary_answer_that_trickles_is_within_the_limit(self) -> None:
        """C5: its head does not stop the clock, since the client gets nothing before its end."""
        exchange = FakeExchange(200)
        self.build(member("a"), script=(exchange,))
        held = self.wire.hold()
        self.wire.script = [held]
        started = self.start(call(server_timeout_seconds=5.0))
        self.clock.advance(2)
        held.callback(exchange)
        self.assertEqual(exchange.allowed, 3.0)
        exchange.answer(WireError("timeout-first-byte"))
        self.assertEqual(self.failureResultOf(started, GatewayError).value.code, 504)

    def test_a_client_in_a_hurry_says_nothing_about_the_backend(self) -> None:
        """K9: one client's X-Server-Timeout must not use up what everybody may try again, nor eject a base."""
        a = member("a", bases=TWO_BASES)
        self.build(a, script=tuple(WireError("timeout-first-byte") for _ in range(10)))
        for _ in range(10):
            self.error(call(server_timeout_seconds=0.001))
        self.wire.script = [refused(500, "INTERNAL"), ok()]
        self.whole()
        self.assertEqual(self.wire.hosts[-2:], ["one.example", "two.example"])

    def test_an_error_body_that_trickles_is_judged_by_its_status(self) -> None:
        """U17: what the client allows is not spent on reading it."""
        exchange = FakeExchange(503)
        self.build(member("a"), script=(exchange,))
        started = self.start(call(server_timeout_seconds=5.0))
        self.assertEqual(exchange.allowed, 5.0)
        exchange.answer(WireError("timeout-first-byte"))
        self.assertEqual(self.successResultOf(started).status, 503)


class UnansweredTests(RouterCase):
    def test_no_credential_is_blamed_for_the_road(self) -> None:
        """C1: the next is tried, and the first one is as good as before."""
        for kind in ("connect", "timeout-connect", "reset"):
            with self.subTest(kind=kind):
                self.setUp()
                a = member("a")
                self.build(a, member("b"), script=(WireError(kind), ok()))
                self.whole()
                self.assertTrue(self.usable(a))

    def test_a_tls_fault_is_not_tried_again(self) -> None:
        """C3: 502, and nothing is sent in another way."""
        self.build(member("a"), member("b"), script=(WireError("tls"),))
        error = self.error()
        self.assertEqual((error.code, error.reason, len(self.wire.requests)), (502, "UPSTREAM_TLS", 1))

    def test_a_unary_answer_that_broke_off_is_not_repeated(self) -> None:
        """C7: it was at work, and never becomes a clean end."""
        exchange = FakeExchange(200)
        self.build(member("a"), member("b"), script=(exchange,))
        started = self.start()
        exchange.answer(WireError("truncated"))
        self.assertEqual(self.failureResultOf(started, GatewayError).value.code, 502)
        self.assertEqual(self.wire.keys, ["a"])

    def test_an_error_body_that_broke_off_is_judged_by_its_status(self) -> None:
        """U17: rotation does not depend on it."""
        exchange = FakeExchange(429)
        self.build(member("a"), member("b"), script=(exchange, ok()))
        started = self.start()
        exchange.answer(WireError("truncated"))
        self.assertIsInstance(self.successResultOf(started), Whole)


class StreamingTests(RouterCase):
    def test_a_stream_keeps_its_lease_until_it_is_over(self) -> None:
        """The pool counts it as busy; releasing it twice counts once."""
        self.build(member("a"), script=(stream(event("one")),))
        live = self.live()
        self.assertEqual(self.leases, 1)
        live.release()
        live.release()
        self.assertEqual(self.leases, 0)

    def test_before_the_first_event_another_attempt_is_free(self) -> None:
        """The commit rule: empty, not JSON, another content type, an error event, a reset."""
        error = sse(rpc_error(429, "RESOURCE_EXHAUSTED"))
        bad: dict[str, FakeExchange] = {
            "empty": FakeExchange(200, SSE, b""),
            "not json": FakeExchange(200, SSE, b"data: <html>\n\n"),
            "content type": FakeExchange(200, {b"content-type": b"text/html"}, b"data: {}\n\n"),
            "no content type": FakeExchange(200, {}, b"data: {}\n\n"),
            "error event": FakeExchange(200, SSE, error),
        }
        for name, exchange in bad.items():
            with self.subTest(name=name):
                self.setUp()
                self.build(member("a"), member("b"), script=(exchange, stream(event("good"))))
                self.assertEqual(self.live().first.data, event("good"))
                self.assertEqual(self.wire.keys, ["a", "b"])

    def test_an_abandoned_stream_is_closed(self) -> None:
        """Its connection must not stay open while another one serves."""
        exchange = FakeExchange(200, SSE)
        self.build(member("a"), member("b"), script=(exchange, stream(event("good"))))
        started = self.start(stream_call())
        exchange.send(sse(rpc_error(503, "UNAVAILABLE")))
        self.successResultOf(started)
        self.assertTrue(exchange.aborted)

    def test_a_stream_in_an_error_event_everywhere_ends_with_upstreams_error(self) -> None:
        """Its status is the event's own code, because nothing has been sent yet."""
        events = [FakeExchange(200, SSE, sse(rpc_error(429, "RESOURCE_EXHAUSTED"))) for _ in range(2)]
        self.build(member("a"), member("b"), script=tuple(events))
        self.assertEqual(self.refusal(stream_call()).status, 429)


class CancellationTests(RouterCase):
    """L1: whoever leaves frees its lease, closes upstream, and nobody is blamed."""

    def cancelled_at(self, one: Member, request: Call, *script: Scripted, advance: Callable[[], None]) -> None:
        tokens = FakeTokens("b")
        # It would be preferred to one whose token is awaited.
        tokens.ready = one.tokens.ready
        b = member("b", tokens)
        self.build(one, b, script=(*script, ok(), ok()))
        started = self.start(request)
        advance()
        before = len(self.wire.requests)
        self.assertNoResult(started)
        self.assertEqual(self.leases, 1)
        started.cancel()
        self.failureResultOf(started, CancelledError)
        self.assertEqual(self.leases, 0)
        self.assertEqual(len(self.wire.requests), before)
        self.assertTrue(self.usable(one) and self.usable(b))
        self.assertEqual(self.recorder.out, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_while_it_waits_for_a_token(self) -> None:
        """Nothing goes upstream."""
        self.cancelled_at(member("a", FakeTokens(Deferred())), call(), advance=lambda: None)
        self.assertEqual(self.wire.requests, [])

    def test_while_it_waits_for_the_head(self) -> None:
        """Upstream's connection is given up."""
        held = self.wire.hold()
        self.cancelled_at(member("a"), call(), held, advance=lambda: None)
        self.assertEqual(self.wire.cancelled, 1)

    def test_while_a_unary_answer_comes(self) -> None:
        """Upstream's connection is closed."""
        exchange = FakeExchange(200)
        self.cancelled_at(member("a"), call(), exchange, advance=lambda: None)
        self.assertTrue(exchange.aborted)

    def test_while_an_error_body_comes(self) -> None:
        """It is not judged any more."""
        exchange = FakeExchange(429)
        self.cancelled_at(member("a"), call(), exchange, advance=lambda: None)
        self.assertTrue(exchange.aborted)

    def test_while_a_stream_has_no_event_yet(self) -> None:
        """Upstream's connection is closed."""
        exchange = FakeExchange(200, SSE)
        self.cancelled_at(
            member("a"), stream_call(), exchange, advance=lambda: exchange.send(b"data: {")
        )
        self.assertTrue(exchange.aborted)

    def test_while_it_waits_for_a_renewed_token(self) -> None:
        """The 401 before it condemns nobody."""
        account = member("a", FakeTokens("a-1", Deferred()), kind="codeassist", project="p")
        self.cancelled_at(account, call(), refused(401, "UNAUTHENTICATED"), advance=lambda: None)

    def test_while_the_repetition_after_a_renewal_waits(self) -> None:
        """Upstream's connection is given up."""
        account = member("a", FakeTokens("a-1", "a-2"), kind="codeassist", project="p")
        held = self.wire.hold()
        self.cancelled_at(account, call(), refused(401, "UNAUTHENTICATED"), held, advance=lambda: None)
        self.assertEqual(self.wire.cancelled, 1)

    def test_while_the_second_base_waits(self) -> None:
        """The first base's failure is noted, the credential is not blamed."""
        held = self.wire.hold()
        one = member("a", bases=TWO_BASES)
        self.cancelled_at(one, call(), WireError("reset"), held, advance=lambda: None)


class SessionTests(RouterCase):
    def test_a_session_stays_with_its_credential(self) -> None:
        """Others are spread, it is not."""
        self.build(member("a"), member("b"), script=tuple(ok() for _ in range(6)))
        for request in (call(session="s"), call(), call(session="s"), call(), call(session="s"), call(session="s")):
            self.whole(request)
        self.assertEqual([self.wire.keys[at] for at in (0, 2, 4, 5)], ["a"] * 4)
        self.assertIn("b", self.wire.keys)

    def test_a_session_moves_with_its_rotation_and_stays_there(self) -> None:
        """After its credential cooled it has a new home, also when the old one is well again."""
        self.build(member("a"), member("b"), script=(ok(), limited("5s"), ok(), ok()))
        self.whole(call(session="s"))
        self.whole(call(session="s"))
        self.clock.advance(60)
        self.whole(call(session="s"))
        self.assertEqual(self.wire.keys, ["a", "a", "b", "b"])

    def test_a_session_that_everybody_refused_stays_where_it_was(self) -> None:
        """Only an answer moves it."""
        self.build(member("a"), member("b"), script=(ok(), limited("5s"), limited("5s"), ok()))
        self.whole(call(session="s"))
        self.refusal(call(session="s"))
        self.clock.advance(60)
        self.whole(call(session="s"))
        self.assertEqual(self.wire.keys[-1], "a")

    def test_a_session_is_by_model(self) -> None:
        """A cache belongs to a model."""
        self.build(member("a"), member("b"), script=(ok(), ok(), ok()))
        self.whole(call(session="s"))
        self.whole(call(session="s", model="gemini-2.5-pro"))
        self.whole(call(session="s"))
        self.assertEqual(self.wire.keys, ["a", "b", "a"])


class QuotaProjectTests(RouterCase):
    """Who pays, where the credentials' own file says so."""

    def test_request_names_the_project_that_is_to_be_counted(self) -> None:
        """In Google's own header, and only then."""
        tokens = FakeTokens("token")
        self.build(member("a", tokens, kind="vertex", upstream="cloud", project="p"), script=(ok(), ok()))
        self.whole()
        tokens.quota_project = "the-payer"
        self.whole()
        told = [dict(request.headers).get(b"x-goog-user-project") for request in self.wire.requests]
        self.assertEqual(told, [None, b"the-payer"])


class VerbTests(RouterCase):
    def test_a_request_goes_only_to_kinds_that_have_the_verb(self) -> None:
        """codeassist has no embedContent."""
        account = member("a", kind="codeassist", upstream="accounts", project="p")
        self.build(account, member("key"), script=(refused(500, "INTERNAL"), ok()))
        self.refusal(call(verb="embedContent"))
        self.assertEqual(self.wire.keys, ["key"])

    def test_a_verb_that_no_configured_kind_has_is_501(self) -> None:
        """It names the kinds which do."""
        self.build(member("a", kind="codeassist", upstream="accounts", project="p"))
        error = self.error(call(verb="embedContent"))
        self.assertEqual((error.code, error.status), (501, "UNIMPLEMENTED"))
        self.assertIn("aistudio", error.message)

    def test_a_model_that_no_upstream_serves_is_404(self) -> None:
        """The operator's own list decides, before anything is sent."""
        self.build(member("a", models=("gemini-2.5-*",)), script=(ok(),))
        self.assertEqual(self.error(call(model="imagen-4")).code, 404)
        self.whole(call(model="gemini-2.5-pro"))

    def test_a_body_that_the_kind_cannot_say_blames_nobody(self) -> None:
        """countTokens without contents: the client's error, no request, no lease left."""
        account = member("a", kind="codeassist", upstream="accounts", project="p")
        self.build(account)
        self.assertEqual(self.error(call(verb="countTokens", body=b"{}")).code, 400)
        self.assertEqual((self.wire.requests, self.leases), ([], 0))


class BackendBudgetTests(RouterCase):
    def test_a_backend_that_always_fails_is_hardly_asked_again(self) -> None:
        """K9: over a thousand requests at most 1.1 attempts each."""
        self.build(*[member(name) for name in "abc"], timeouts=Timeouts())
        self.wire.by = lambda request: refused(503, "UNAVAILABLE")
        for _ in range(1000):
            self.start().addErrback(lambda failure: failure.trap(GatewayError))
        self.assertLessEqual(len(self.wire.requests), 1100)
