"""Quota figures: read, fetched in the background, taken as advice."""

from __future__ import annotations

import json
from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.oauth import TokenUnavailable
from gateway.calls import HttpRequest, Journal, Secret
from gateway.config.values import UpstreamConfig
from gateway.routing.figures import Quotas
from gateway.routing.pool import Member
from gateway.routing.quota import EVERY_SECONDS, FIRST_SECONDS, RECENT_SECONDS, QuotaWatch
from gateway.routing.rotation import Choice, choose
from gateway.upstreams.codeassist import CodeAssist
from gateway.upstreams.exchange import WireError
from gateway.upstreams.kinds import KINDS, Metered
from gateway.upstreams.models import Figure
from tests.fakes import FakeTokens, FakeWire, Scripted, call, member, ok, refused, router, run

MODEL = "gemini-2.5-flash"
WALL = 1_767_225_600.0


def buckets(*rows: dict[str, object]) -> bytes:
    return json.dumps({"buckets": rows}).encode()


def account(name: str, tokens: FakeTokens | None = None) -> Member:
    return member(name, tokens, kind="codeassist", upstream="pool", project=f"project-of-{name}")


class ReadTests(SynchronousTestCase):
    """What the two answers say."""

    def setUp(self) -> None:
        self.kind = CodeAssist(UpstreamConfig("pool", "codeassist", ("https://one.example",)))

    def test_buckets_and_models_are_read(self) -> None:
        """A share and a time for each model."""
        body = buckets(
            {"modelId": "a", "remainingFraction": 0.5, "resetTime": "2026-01-01T00:00:00Z", "tokenType": "REQUESTS"}
        )
        self.assertEqual(self.kind.figures(body), [Figure("a", 0.5, WALL)])
        body = b'{"models":{"b":{"quotaInfo":{"remainingFraction":0,"resetTime":"2026-01-01T00:00:00Z"},"x":1}}}'
        self.assertEqual(self.kind.figures(body), [Figure("b", 0.0, WALL)])

    def test_what_is_not_said_is_not_known(self) -> None:
        """No share is no figure, and a time that is none is no time."""
        body = buckets({"modelId": "a", "resetTime": "2026-01-01T00:00:00Z"}, {"remainingFraction": 0.1})
        self.assertEqual(self.kind.figures(body), [])
        self.assertEqual(self.kind.figures(b'{"models":{"b":{}}}'), [])
        self.assertEqual(self.kind.figures(b"{}"), [])
        body = buckets({"modelId": "a", "remainingFraction": 7.5, "resetTime": "tomorrow"})
        self.assertEqual(self.kind.figures(body), [Figure("a", 1.0, None)])

    def test_both_are_asked_with_the_project(self) -> None:
        """Within the envelope's own style, with the account's token."""
        one = account("ann").credential
        requests = self.kind.quota("https://one.example/v1internal", one, Secret("t"))
        self.assertEqual(
            [request.url for request in requests],
            [
                b"https://one.example/v1internal:retrieveUserQuota",
                b"https://one.example/v1internal:fetchAvailableModels",
            ],
        )
        for request in requests:
            self.assertEqual(json.loads(request.body), {"project": "project-of-ann"})
            self.assertEqual(dict(request.headers)[b"authorization"], b"Bearer t")

    def test_one_kind_can_be_asked(self) -> None:
        """The others have no such method."""
        metered = [name for name, kind in KINDS.items() if hasattr(kind, "quota")]
        self.assertEqual(metered, ["codeassist"])
        self.assertIsInstance(self.kind, Metered)


class AdviceTests(SynchronousTestCase):
    """Figures and choosing."""

    def setUp(self) -> None:
        self.one, self.two = member("1").credential, member("2").credential
        self.quotas = Quotas()
        self.standings = router(FakeWire(), Clock()).standings

    def chosen(self, now: float = 0.0, model: str = MODEL) -> Choice:
        both = [self.one, self.two]
        spent = self.quotas.spent(both, model, now)
        found = choose(both, set(), self.standings, None, set(), model, now, spent=spent)
        assert isinstance(found, Choice)
        return found

    def test_spent_credential_comes_after_its_equals(self) -> None:
        """For that model, until the quota is full again."""
        self.quotas.learn(self.one, [Figure(MODEL, 0.0, WALL + 60.0)], 0.0, WALL)
        self.assertEqual(self.chosen().credential, self.two)
        self.assertEqual(self.chosen(model="another").credential, self.one)
        self.assertEqual(self.chosen(now=60.0).credential, self.one)

    def test_advice_excludes_nobody(self) -> None:
        """Where all are said to be spent, it is as if nothing had been said."""
        for one in (self.one, self.two):
            self.quotas.learn(one, [Figure(MODEL, 0.0)], 0.0, WALL)
        self.assertEqual(self.chosen().credential, self.one)

    def test_session_stays_where_it_is(self) -> None:
        """What it would lose by moving is certain, and the figure is not."""
        self.quotas.learn(self.one, [Figure(MODEL, 0.0)], 0.0, WALL)
        spent = self.quotas.spent([self.one], MODEL, 0.0)
        found = choose([self.one, self.two], set(), self.standings, self.one, set(), MODEL, 0.0, spent=spent)
        assert isinstance(found, Choice)
        self.assertEqual(found.credential, self.one)

    def test_old_advice_is_none(self) -> None:
        """An hour later nobody believes it."""
        self.quotas.learn(self.one, [Figure(MODEL, 0.0, WALL + 86_400.0)], 0.0, WALL)
        self.assertEqual(self.chosen(now=3599.0).credential, self.two)
        self.assertEqual(self.chosen(now=3600.0).credential, self.one)
        self.assertEqual(self.quotas.figures(self.one, 3601.0, WALL), [])

    def test_lower_of_two_figures_counts(self) -> None:
        """Two kinds of tokens, one of them used up; and a quota that is full again is not shown."""
        told = [Figure("a", 0.5), Figure("a", 0.2), Figure("b", 0.1, WALL + 10.0)]
        self.quotas.learn(self.one, told, 0.0, WALL)
        self.assertEqual(self.quotas.figures(self.one, 0.0, WALL), [Figure("a", 0.2), Figure("b", 0.1, WALL + 10.0)])
        self.assertEqual(self.quotas.figures(self.one, 11.0, WALL + 11.0), [Figure("a", 0.2)])

    def test_credentials_that_went_are_forgotten(self) -> None:
        """Whoever comes in their place begins without a figure."""
        self.quotas.learn(self.one, [Figure(MODEL, 0.0)], 0.0, WALL)
        self.quotas.keep({self.two})
        self.assertEqual(self.quotas.figures(self.one, 0.0, WALL), [])
        self.assertEqual(self.chosen().credential, self.one)

    def test_request_goes_where_quota_is_left(self) -> None:
        """Through the whole router."""
        clock, wire = Clock(), FakeWire(ok())
        the_router = router(wire, clock, member("1"), member("2"))
        the_router.chooser.quotas.learn(self.one, [Figure(MODEL, 0.0)], 0.0, WALL)
        self.successResultOf(run(the_router.run(call(), Journal("r"))))
        self.assertEqual(wire.keys, ["2"])


class WatchTests(SynchronousTestCase):
    """The background."""

    def begin(self, by: Callable[[HttpRequest], Scripted], *members: Member) -> None:
        self.clock, self.wire = Clock(), FakeWire(by=by)
        self.router = router(self.wire, self.clock, *members)
        self.watch = QuotaWatch(self.router, lambda: 0.0)
        self.watch.start()

    def asked(self) -> list[str]:
        """Whose quota was asked for since the last time."""
        keys = [key for key, request in zip(self.wire.keys, self.wire.requests, strict=True) if b"Quota" in request.url]
        self.wire.requests.clear()
        return keys

    @staticmethod
    def good(request: HttpRequest) -> Scripted:
        if request.url.endswith(b":retrieveUserQuota"):
            return ok(buckets({"modelId": MODEL, "remainingFraction": 0.75}))
        return ok(b'{"models":{"other":{"quotaInfo":{"remainingFraction":0.5}}}}')

    def test_each_account_is_asked_about_once_and_then_those_in_use(self) -> None:
        """API keys are never, for there is nothing to ask."""
        ann, bob = account("ann"), account("bob")
        self.begin(self.good, ann, bob, member("key"))
        self.assertEqual(self.asked(), [])
        self.clock.advance(FIRST_SECONDS)
        self.assertEqual(self.asked(), ["ann", "bob"])
        figures = self.router.chooser.quotas.figures(ann.credential, self.clock.seconds(), WALL)
        self.assertEqual(figures, [Figure(MODEL, 0.75), Figure("other", 0.5)])
        self.router.standings.lease(bob.credential, MODEL, self.clock.seconds())
        self.clock.advance(EVERY_SECONDS)
        self.assertEqual(self.asked(), ["bob"])
        self.clock.pump([EVERY_SECONDS] * int(RECENT_SECONDS / EVERY_SECONDS))
        self.asked()
        self.clock.advance(EVERY_SECONDS)
        self.assertEqual(self.asked(), [])
        self.watch.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_accounts_that_are_out_are_left_alone(self) -> None:
        """Disabled, quarantined, halted: no call goes out with them."""
        ann, bob = account("ann"), account("bob")
        self.begin(self.good, ann, bob)
        self.router.standings.set_enabled(ann.credential, False)
        self.router.standings.quarantine(bob.credential, "TOS", "", 0.0, 0.0)
        self.clock.advance(FIRST_SECONDS)
        self.assertEqual(self.asked(), [])
        self.router.standings.set_enabled(ann.credential, True)
        self.clock.advance(EVERY_SECONDS)
        self.assertEqual(self.asked(), ["ann"])

    def test_failure_leaves_the_quota_unknown_and_blames_nobody(self) -> None:
        """A refusal, no answer, nonsense, no token: the next account is asked, and all may be used."""
        answers: list[Scripted] = [
            refused(403, "PERMISSION_DENIED"), refused(404),
            WireError("connect"),
            ok(b"<html>"),
        ]  # fmt: skip
        members = [account("a"), account("b"), account("c"), account("d", FakeTokens(TokenUnavailable("no")))]
        self.begin(lambda request: answers.pop(0), *members)
        self.clock.advance(FIRST_SECONDS)
        self.assertEqual(answers, [])
        for one in members:
            self.assertEqual(self.router.chooser.quotas.figures(one.credential, 2.0, WALL), [])
            self.assertTrue(self.router.standings.availability(one.credential, MODEL, 2.0).usable)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_stop_cancels_what_is_under_way(self) -> None:
        """And nothing comes after."""
        ann = account("ann")
        self.begin(lambda request: self.wire.hold(), ann)
        self.clock.advance(FIRST_SECONDS)
        self.watch.stop()
        self.assertEqual(self.wire.cancelled, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
