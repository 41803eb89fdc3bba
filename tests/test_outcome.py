"""What a request that failed everywhere ends with."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import Action, Attempt, Blame, GatewayError, Verdict
from gateway.routing.outcome import Failure, Refusal, final, nobody, tried

QUOTA = Verdict(Action.NEXT, Blame.PAIR, "RATE_LIMIT_EXCEEDED", 429)
MISTAKE = Verdict(Action.PASS, reason="INVALID_ARGUMENT", status=400)
HIDDEN = Verdict(Action.NEXT, Blame.CREDENTIAL, "API_KEY_INVALID", 400, hides=True)
GONE = Verdict(Action.BASE, Blame.BASE, "UPSTREAM_UNREACHABLE", hides=True)
ATTEMPTS = (
    Attempt("studio/first", "https://a.test", 429, "RATE_LIMIT_EXCEEDED", 0.1),
    Attempt("studio/second", "https://a.test", 0, "UPSTREAM_UNREACHABLE", 0.2),
)
LISTED = {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "reason": "ATTEMPTS",
    "domain": "antigravity.gateway",
    "metadata": {
        "attempt-1": "studio/first 429 RATE_LIMIT_EXCEEDED",
        "attempt-2": "studio/second no answer UPSTREAM_UNREACHABLE",
    },
}


def details(refusal: Refusal) -> Any:
    return json.loads(refusal.body)["error"]["details"]


class FinalTests(SynchronousTestCase):
    """The last upstream error that speaks of the client's request."""

    def test_attempts_are_listed_by_opaque_label(self) -> None:
        """What was tried, in order, with status and reason."""
        self.assertEqual(tried(ATTEMPTS), LISTED)

    def test_upstreams_own_error_is_shown_with_what_was_tried(self) -> None:
        """Its other members keep their bytes, its own details come first."""
        body = (
            b'{"x": 1e40, "error" : {"code":429, "status":"X", "message":"\\u00e9", "details": [ {"a" : 1.0} ],'
            b' "n": 1e40}}'
        )
        refusal = final([Failure(QUOTA, body)], ATTEMPTS, None)
        self.assertEqual(refusal.status, 429)
        self.assertTrue(
            refusal.body.startswith(
                b'{"x":1e40,"error":{"code":429,"status":"X","message":"\\u00e9","details":[{"a" : 1.0},{'
            ),
            refusal.body,
        )
        self.assertTrue(refusal.body.endswith(b'}],"n":1e40}}'), refusal.body)
        self.assertEqual(details(refusal), [{"a": 1.0}, LISTED])

    def test_error_without_details_gets_some(self) -> None:
        """Also one that is no JSON, of which nothing is quoted."""
        self.assertEqual(details(final([Failure(MISTAKE, b'{"error":{"code":400}}')], ATTEMPTS, None)), [LISTED])
        refusal = final([Failure(MISTAKE, b"<html>secret</html>")], ATTEMPTS, None)
        self.assertEqual(details(refusal)[-1], LISTED)
        self.assertNotIn(b"html", refusal.body)

    def test_details_of_another_type_are_left_as_they_are(self) -> None:
        """An error that cannot be added to is still passed on."""
        body = b'{"error":{"code":400,"details":7}}'
        self.assertEqual(final([Failure(MISTAKE, body)], ATTEMPTS, None), Refusal(400, body))

    def test_last_error_that_may_be_shown_is_shown(self) -> None:
        """U2, U4: what speaks of the operator's credential is not the client's business."""
        first, second = b'{"error":{"code":429,"message":"1"}}', b'{"error":{"code":400,"message":"2"}}'
        bad = b'{"error":{"code":400,"message":"API key not valid"}}'
        table = [
            ([Failure(QUOTA, first), Failure(MISTAKE, second)], (400, "2")),
            ([Failure(QUOTA, first), Failure(HIDDEN, bad)], (429, "1")),
            ([Failure(HIDDEN, bad), Failure(QUOTA, first), Failure(GONE)], (429, "1")),
        ]
        for failures, shown in table:
            refusal = final(failures, ATTEMPTS, None)
            self.assertEqual((refusal.status, json.loads(refusal.body)["error"]["message"]), shown)

    def test_where_nothing_may_be_shown_the_gateway_speaks(self) -> None:
        """U2: 503 and not the client's fault; with what was tried, and nothing of upstream's body."""
        for verdict, code in ((HIDDEN, 503), (GONE, 503)):
            error = self.assertRaises(GatewayError, final, [Failure(verdict, b"secret")], ATTEMPTS, None)
            self.assertEqual((error.code, error.details[-1]), (code, LISTED), verdict.reason)
            self.assertNotIn("secret", str(error))

    def test_retry_after_is_when_somebody_is_free(self) -> None:
        """U9: whole seconds, at least one; upstream's own where the gateway knows nothing, or it is no quota."""
        table: list[tuple[Verdict, float | None, bytes]] = [
            (QUOTA, 12.2, b"13"), (QUOTA, 0.001, b"1"), (QUOTA, 0.0, b"1"), (QUOTA, -5.0, b"1"), (QUOTA, None, b"99"),
            (MISTAKE, 12.2, b"99"),
        ]  # fmt: skip
        for verdict, free_in, header in table:
            refusal = final([Failure(verdict, b"{}", b"99")], ATTEMPTS, free_in)
            self.assertEqual(refusal.retry_after, header, f"{verdict.status} {free_in}")

    def test_keys_and_addresses_do_not_reach_the_client(self) -> None:
        """Upstream's words are passed on without what identifies the operator."""
        body = b'{"error":{"code":400,"message":"key AIzaSyA1234567890abcdefghijklmnop of owner@example.test"}}'
        refusal = final([Failure(MISTAKE, body)], ATTEMPTS, None)
        self.assertNotIn(b"AIza", refusal.body)
        self.assertNotIn(b"owner@", refusal.body)


class NobodyTests(SynchronousTestCase):
    """Nobody could even be tried."""

    def test_all_cooling_is_429_with_the_earliest_end(self) -> None:
        """K4: Retry-After and RetryInfo say when."""
        for free_in, seconds in ((0.0, 1.0), (0.2, 1.0), (37.01, 38.0)):
            error = nobody(free_in)
            self.assertEqual((error.code, error.status), (429, "RESOURCE_EXHAUSTED"), free_in)
            self.assertEqual(error.retry_after_seconds, seconds, free_in)

    def test_nobody_at_all_is_503_without_a_time(self) -> None:
        """K5: no waiting helps."""
        error = nobody(None)
        self.assertEqual((error.code, error.reason), (503, "UPSTREAM_CREDENTIALS_UNAVAILABLE"))
        self.assertIsNone(error.retry_after_seconds)
