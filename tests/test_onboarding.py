"""Which project an account works in: the rule, the wait, and what is said when there is none."""

from __future__ import annotations

import json
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.oauth import TokenUnavailable
from gateway.accounts.onboarding import OnboardingError, discover
from gateway.calls import HttpRequest, Secret

BASE = "https://c.example/v1internal"
FREE = {"id": "free-tier", "isDefault": True}
PAID = {"id": "standard-tier", "isDefault": True}
LINK = "https://accounts.google.com/verify?x=1"
INELIGIBLE = {
    "reasonCode": "VALIDATION_REQUIRED",
    "reasonMessage": "Verify your account.",
    "tierName": "Free",
    "validationUrl": LINK,
}
METADATA = {"ideType": "IDE_UNSPECIFIED", "platform": "PLATFORM_UNSPECIFIED", "pluginType": "GEMINI"}
DONE = {"name": "operations/1", "done": True, "response": {"cloudaicompanionProject": {"id": "made"}}}

Reply = dict[str, Any] | bytes | tuple[int, Any] | Exception


@attrs.define(eq=False)
class Google:
    """Answers by a script, the last answer of a method for ever; remembers what was asked."""

    replies: dict[str, list[Reply]]
    asked: list[tuple[str, str, Any]] = attrs.field(factory=list)
    requests: list[HttpRequest] = attrs.field(factory=list)

    async def send(self, request: HttpRequest) -> tuple[int, bytes]:
        self.requests.append(request)
        url = request.url.decode()
        assert url.startswith(BASE), url
        what = url.removeprefix(BASE)
        self.asked.append((request.method.decode(), what, json.loads(request.body) if request.body else None))
        replies = self.replies[what]
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if isinstance(reply, Exception):
            raise reply
        status, document = reply if isinstance(reply, tuple) else (200, reply)
        return status, document if isinstance(document, bytes) else json.dumps(document).encode()


class DiscoverTests(SynchronousTestCase):
    """``discover``."""

    def setUp(self) -> None:
        self.clock = Clock()

    def begin(
        self, loaded: Reply, *operations: Reply, project: str = "", polls: list[Reply] | None = None
    ) -> tuple[Google, Deferred[str]]:
        google = Google(
            {
                ":loadCodeAssist": [loaded],
                ":onboardUser": list(operations),
                "/operations/1": polls or [],
            }
        )
        found = Deferred.fromCoroutine(
            discover(google.send, BASE, Secret("hidden"), project, self.clock, user_agent="gateway/1")
        )
        return google, found

    def missing(self, found: Deferred[str]) -> OnboardingError:
        error = self.failureResultOf(found, OnboardingError).value
        self.assertNotIn("hidden", str(error))
        return error

    def test_account_with_a_tier_has_the_project_that_google_names(self) -> None:
        """One question; the operator's project is mentioned to Google and yields to its answer."""
        google, found = self.begin(
            {"currentTier": {"id": "free-tier"}, "cloudaicompanionProject": "theirs"}, project="mine"
        )
        self.assertEqual(self.successResultOf(found), "theirs")
        body = {"cloudaicompanionProject": "mine", "metadata": {**METADATA, "duetProject": "mine"}}
        self.assertEqual(google.asked, [("POST", ":loadCodeAssist", body)])
        headers = dict(google.requests[0].headers)
        self.assertEqual((headers[b"authorization"], headers[b"user-agent"]), (b"Bearer hidden", b"gateway/1"))

    def test_account_with_a_tier_and_no_project_takes_the_operators(self) -> None:
        """An empty name is none."""
        for named in ({}, {"cloudaicompanionProject": ""}, {"cloudaicompanionProject": None}):
            _, found = self.begin({"currentTier": {"id": "standard-tier"}, **named}, project="mine")
            self.assertEqual(self.successResultOf(found), "mine")

    def test_without_any_project_it_is_said_what_is_missing(self) -> None:
        """None is invented; a tier that is not open to it is told with its link."""
        google, found = self.begin({"currentTier": {"id": "standard-tier"}, "ineligibleTiers": [INELIGIBLE]})
        error = self.missing(found)
        self.assertIn("`project`", error.message)
        self.assertIn("Free: Verify your account.", error.message)
        self.assertEqual((error.link, error.transient), (LINK, False))
        self.assertEqual(google.asked, [("POST", ":loadCodeAssist", {"metadata": METADATA})])

    def test_new_account_is_onboarded_to_the_free_tier_without_a_project(self) -> None:
        """Not even the operator's; polled every 5 s until it is done."""
        google, found = self.begin(
            {"allowedTiers": [{"id": "standard-tier"}, FREE]},
            {"name": "operations/1", "done": False},
            project="mine",
            polls=[{"name": "operations/1"}, DONE],
        )
        self.assertEqual(google.asked[1], ("POST", ":onboardUser", {"tierId": "free-tier", "metadata": METADATA}))
        self.clock.advance(4.9)
        self.assertEqual(len(google.asked), 2)
        self.clock.advance(0.1)
        self.assertEqual(google.asked[2], ("GET", "/operations/1", None))
        self.assertNoResult(found)
        self.clock.advance(5)
        self.assertEqual(self.successResultOf(found), "made")
        self.assertEqual(len(google.asked), 4)

    def test_onboarding_that_is_done_at_once_is_not_polled(self) -> None:
        """The first answer may be the last."""
        _, found = self.begin({"allowedTiers": [FREE]}, DONE)
        self.assertEqual(self.successResultOf(found), "made")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_operation_without_a_name_is_asked_for_by_the_order_again(self) -> None:
        """So older backends do it; a name that leads elsewhere counts as none."""
        for name in ("", "../../v1/steal", "https://evil.example/", "a?b", "a b"):
            google, found = self.begin({"allowedTiers": [FREE]}, {"name": name}, DONE)
            self.clock.advance(5)
            self.assertEqual(self.successResultOf(found), "made")
            self.assertEqual([what for _, what, _ in google.asked], [":loadCodeAssist", ":onboardUser", ":onboardUser"])

    def test_paid_tier_takes_the_operators_project(self) -> None:
        """It goes into the order and its metadata; an answer that names none leaves it."""
        google, found = self.begin({"allowedTiers": [PAID]}, {"name": "operations/1", "done": True}, project="mine")
        self.assertEqual(self.successResultOf(found), "mine")
        body = {
            "tierId": "standard-tier",
            "metadata": {**METADATA, "duetProject": "mine"},
            "cloudaicompanionProject": "mine",
        }
        self.assertEqual(google.asked[1], ("POST", ":onboardUser", body))

    def test_paid_tier_without_a_project_says_so_and_orders_nothing(self) -> None:
        """With the reason why the free tier is not offered, and its link."""
        google, found = self.begin({"allowedTiers": [PAID], "ineligibleTiers": [INELIGIBLE]})
        error = self.missing(found)
        self.assertIn("standard-tier", error.message)
        self.assertIn("`project`", error.message)
        self.assertEqual(error.link, LINK)
        self.assertEqual(len(google.asked), 1)

    def test_account_without_a_default_tier_is_told(self) -> None:
        """No tier is chosen for it."""
        for loaded in ({}, {"allowedTiers": []}, {"allowedTiers": [{"id": "free-tier"}]}, {"allowedTiers": None}):
            google, found = self.begin(loaded, project="mine")
            self.assertIn("no tier", self.missing(found).message)
            self.assertEqual(len(google.asked), 1)

    def test_link_that_is_none_is_not_shown(self) -> None:
        """Only https, in printable ASCII."""
        for url in ("javascript:alert(1)", "http://a.example/", "https://a.example/\x1b[1m", "https://a b/", None):
            _, found = self.begin({"ineligibleTiers": [{**INELIGIBLE, "validationUrl": url}]})
            self.assertEqual(self.missing(found).link, "")

    def test_failed_polls_are_asked_again(self) -> None:
        """A 503, a 404 of a base that does not know it yet, no answer at all, and junk."""
        polls: list[Reply] = [(503, b"<html>"), (404, b""), TokenUnavailable("no answer"), b"junk", DONE]
        _, found = self.begin({"allowedTiers": [FREE]}, {"name": "operations/1"}, polls=polls)
        self.clock.pump([5] * 4)
        self.assertNoResult(found)
        self.clock.advance(5)
        self.assertEqual(self.successResultOf(found), "made")

    def test_refused_poll_ends_it(self) -> None:
        """A 403 will not become better, and its link is told."""
        problem = {"error": {"status": "PERMISSION_DENIED", "message": "Verify.", "details": [{}, 1, {
            "metadata": {"validation_link": LINK}}]}}  # fmt: skip
        _, found = self.begin({"allowedTiers": [FREE]}, {"name": "operations/1"}, polls=[(403, problem)])
        self.clock.advance(5)
        error = self.missing(found)
        self.assertIn("403: PERMISSION_DENIED Verify.", error.message)
        self.assertEqual((error.link, error.transient), (LINK, False))

    def test_deadline_ends_the_wait(self) -> None:
        """After two minutes the operator is told to come back; nothing is left behind on the clock."""
        google, found = self.begin({"allowedTiers": [FREE]}, {"name": "operations/1"}, polls=[{"name": "operations/1"}])
        self.clock.pump([5] * 23)
        self.assertNoResult(found)
        self.clock.advance(5)
        self.assertTrue(self.missing(found).transient)
        self.assertEqual(len(google.asked), 2 + 24)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failed_operation_is_told(self) -> None:
        """With Google's words."""
        _, found = self.begin({"allowedTiers": [FREE]}, {"done": True, "error": {"code": 9, "message": "Not\nyours."}})
        self.assertIn("Not yours.", self.missing(found).message)

    def test_first_question_that_fails_is_told(self) -> None:
        """Whether it may pass is said with it, for whoever asks again or elsewhere."""
        cases: list[tuple[Reply, bool]] = [
            ((503, b""), True),
            ((429, b""), True),
            ((401, b""), True),
            ((404, b"<html>"), True),
            (TokenUnavailable("no answer"), True),
            (b"junk", True),
            (b'{"currentTier": \xff}', True),
            ((400, {"error": {"status": "INVALID_ARGUMENT"}}), False),
            ((403, {"error": "odd"}), False),
        ]
        for reply, transient in cases:
            _, found = self.begin(reply)
            self.assertEqual(self.missing(found).transient, transient, reply)

    def test_project_that_is_none_is_not_taken(self) -> None:
        """What Google names goes into later requests: it has to be an id."""
        _, found = self.begin({"currentTier": {}, "cloudaicompanionProject": "a b\n"})
        self.missing(found)

    def test_one_who_leaves_takes_the_wait_along(self) -> None:
        """A cancelled wait polls no more."""
        google, found = self.begin({"allowedTiers": [FREE]}, {"name": "operations/1"}, polls=[DONE])
        found.cancel()
        self.failureResultOf(found, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(len(google.asked), 2)
