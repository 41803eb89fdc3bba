"""An upstream's answer in, a verdict out: the table row by row, with bodies of Google's shapes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import Action, Blame, Verdict
from gateway.upstreams.durations import BACKEND, LONG, SHORT
from gateway.upstreams.errordetails import BODY_LIMIT, read, rpc_name, scrubbed, status_body
from gateway.upstreams.unanswered import TRANSPORT_KINDS, failure, transport
from gateway.upstreams.verdict import (
    CAPACITY_SECONDS,
    LAPSED_SECONDS,
    PROJECT_SECONDS,
    REFUSED_SECONDS,
    RULES,
    Answer,
    judge,
    judge_error_object,
    rule,
)

NOW = datetime.fromisoformat("2026-07-01T12:00:00+00:00").timestamp()
"""Five in the morning, Pacific time: 19 hours before its midnight."""
TYPE = "type.googleapis.com/google.rpc."
CODE_ASSIST = "cloudcode-pa.googleapis.com"


def info(reason: str, domain: str = "googleapis.com", **metadata: str) -> dict[str, Any]:
    return {"@type": TYPE + "ErrorInfo", "reason": reason, "domain": domain, "metadata": metadata}


def retry(delay: object) -> dict[str, Any]:
    return {"@type": TYPE + "RetryInfo", "retryDelay": delay}


def help_links(*urls: str) -> dict[str, Any]:
    return {"@type": TYPE + "Help", "links": [{"description": "Learn more", "url": url} for url in urls]}


def quota(*ids: str) -> dict[str, Any]:
    metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests"
    return {
        "@type": TYPE + "QuotaFailure",
        "violations": [
            {
                "quotaMetric": metric,
                "quotaId": quota_id,
                "quotaDimensions": {"location": "global", "model": "gemini-2.5-flash"},
                "quotaValue": "20",
            }
            for quota_id in ids
        ],
    }


def error(code: int, message: str, *details: object, status: str = "") -> bytes:
    """A body as Google writes it."""
    inner: dict[str, Any] = {"code": code, "message": message, "status": status or rpc_name(code)}
    if details:
        inner["details"] = list(details)
    return json.dumps({"error": inner}, indent=2).encode()


BAD_KEY = error(
    400,
    "API key not valid. Please pass a valid API key.",
    info("API_KEY_INVALID", service="generativelanguage.googleapis.com"),
    {
        "@type": TYPE + "LocalizedMessage",
        "locale": "en-US",
        "message": "API key not valid. Please pass a valid API key.",
    },
)
BAD_REQUEST = error(
    400,
    'Invalid JSON payload received. Unknown name "foo": Cannot find field.',
    {
        "@type": TYPE + "BadRequest",
        "fieldViolations": [{"description": 'Invalid JSON payload received. Unknown name "foo"'}],
    },
)
BAD_SIGNATURE = error(400, "Thought signature is not valid for content at index 2.")
REGION = error(400, "User location is not supported for the API use.", status="FAILED_PRECONDITION")
BILLING = error(
    400,
    "Gemini API free tier is not available in your country. Please enable billing on your project in Google AI Studio.",
    status="FAILED_PRECONDITION",
)
NOT_ACTIVE = error(
    400,
    "The File 'billing' is not in an ACTIVE state and usage is not allowed.",
    status="FAILED_PRECONDITION",
)
STALE = error(
    401,
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other"
    " valid authentication credential.",
    info("ACCESS_TOKEN_EXPIRED", service=CODE_ASSIST, method="google.internal.cloud.code.v1internal"),
)
DISABLED = error(
    403,
    "Generative Language API has not been used in project 123 before or it is disabled.",
    help_links("https://console.developers.google.com/apis/api/generativelanguage.googleapis.com/overview"),
    info("SERVICE_DISABLED", activationUrl="https://console.developers.google.com/apis/api/x?project=123"),
)
VALIDATION = error(
    403,
    "Verify your account to continue.",
    info(
        "VALIDATION_REQUIRED",
        CODE_ASSIST,
        validation_error_message="Verify your account to continue.",
        validation_url="https://accounts.google.com/signin/continue?sarp=1&scc=1&plt=AKgnsb",
        validation_learn_more_url="https://support.google.com/accounts?p=al_alert",
    ),
    help_links("https://support.google.com/accounts?p=al_alert"),
)
SUSPENDED = error(
    403,
    "Permission denied: Consumer 'api_key:AIzaSyA0123456789abcdefghijklmnopqrstuv' has been suspended.",
    info("CONSUMER_SUSPENDED", service="generativelanguage.googleapis.com", consumer="projects/123"),
)
TERMS = error(
    403,
    "This service has been disabled in this account for violation of Terms of Service. If you believe this is"
    " an error, contact support@example.com.",
)
LICENCE = error(
    403,
    "You are currently configured to use a Google Cloud Project but lack a Gemini Code Assist license.",
    info("SUBSCRIPTION_REQUIRED", "cloudaicompanion.googleapis.com"),
)
LEAKED = error(403, "Your API key was reported as leaked. Please use another API key.")
FORBIDDEN = error(403, "You do not have permission to access the File abc or it may not exist.")
UNKNOWN_MODEL = error(404, "models/nope is not found for API version v1beta.")
DAILY = error(
    429,
    "You exceeded your current quota, please check your plan and billing details.\nPlease retry in 37.3s.",
    quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
    help_links("https://ai.google.dev/gemini-api/docs/rate-limits"),
    retry("37s"),
)
MINUTE = error(
    429,
    "You exceeded your current quota, please check your plan and billing details.",
    quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"),
    retry("34.074824224s"),
)
RATE_LIMIT = error(
    429,
    "You have exhausted your capacity on this model. Your quota will reset after 0s.",
    info(
        "RATE_LIMIT_EXCEEDED",
        CODE_ASSIST,
        quotaResetDelay="479.417207ms",
        quotaResetTimeStamp="2026-07-01T12:00:00Z",
    ),
    retry("12.479s"),
)
BARE_429 = error(429, "Resource has been exhausted (e.g. check quota).")
CAPACITY = error(
    429,
    "No capacity available for model gemini-2.5-pro on the server",
    info("MODEL_CAPACITY_EXHAUSTED", CODE_ASSIST, model="gemini-2.5-pro"),
)
HTML = b"<!DOCTYPE html><html><title>Error 502 (Server Error)!!1</title><p>That's an error.</html>"


def exhausted(*details: object, message: str = "You have exhausted your capacity on this model.") -> bytes:
    return error(429, message, *details)


def judged(status: int, body: bytes, headers: Mapping[bytes, bytes] | None = None) -> Verdict:
    return judge(status, headers or {}, body, NOW)


ROWS: tuple[tuple[str, str, int, bytes], ...] = (
    ("a good answer", "", 200, b'{"candidates": []}'),
    ("a bad API key", "U2", 400, BAD_KEY),
    ("a bad API key, without details", "U2", 400, error(400, "API key expired. Please renew the API key.")),
    ("a project out of its region or without billing", "U3", 400, REGION),
    ("another precondition", "U3", 400, NOT_ACTIVE),
    ("a stale token", "U4", 401, STALE),
    ("an account to be verified", "U6", 403, VALIDATION),
    ("a suspended consumer or broken terms", "U6", 403, SUSPENDED),
    ("broken terms, in words", "U6", 403, TERMS),
    ("a project that must pay", "U3", 403, LICENCE),
    ("a credential that may not", "U5", 403, DISABLED),
    ("a leaked API key", "U5", 403, LEAKED),
    ("a caller that may not use this", "U7", 403, FORBIDDEN),
    ("not found here", "U7", 404, UNKNOWN_MODEL),
    ("a timeout before the answer", "U8", 408, b""),
    ("no capacity", "U13", 429, CAPACITY),
    ("overloaded", "U13", 529, b""),
    ("a day's quota", "U10", 429, DAILY),
    ("a used-up quota", "U10", 429, exhausted(info("QUOTA_EXHAUSTED", CODE_ASSIST, quotaResetDelay="2h"))),
    (
        "a day's quota, in words",
        "U10",
        429,
        error(429, "Quota exceeded for quota metric 'Requests' and limit 'Requests per day'."),
    ),
    ("a rate limit that says how long", "U9", 429, MINUTE),
    ("a rate limit that says nothing", "U11", 429, BARE_429),
    ("an internal error", "U12", 500, error(500, "An internal error has occurred.")),
    ("a backend that is not there", "U13", 503, error(503, "The model is overloaded.")),
    ("a deadline passed upstream", "U14", 504, error(504, "Deadline expired.")),
    ("a redirect", "U16", 302, b""),
    ("a proxy's demand", "U15", 407, b""),
    ("the client's request", "U1", 400, BAD_REQUEST),
    ("another error", "U15", 418, b""),
)


class TableTests(SynchronousTestCase):
    """The table as a whole."""

    def test_every_row_is_reached_by_an_answer_of_its_own(self) -> None:
        """U1-U16: each row has an answer that it, and no row before it, takes."""
        for name, fault, status, body in ROWS:
            row, _ = rule(Answer(status, read(body), None, NOW))
            self.assertEqual((row.name, row.fault), (name, fault))
        self.assertEqual([name for name, *_ in ROWS], [row.name for row in RULES])

    def test_every_status_gives_a_verdict(self) -> None:
        """U15: 100 to 599, and numbers that are no status, are judged; only 200 is good."""
        for status in [*range(100, 600), -1, 0, 99, 600, 999, 10**9]:
            for body in (b"", HTML, error(status, "x")):
                verdict = judged(status, body)
                self.assertEqual(verdict.action is Action.DELIVER, status == 200, status)
                self.assertEqual(verdict.status, status)
                self.assertEqual(bool(verdict.reason), status != 200, status)
                self.assertTrue(0 <= verdict.cool_seconds <= LONG.most)

    def test_senseless_statuses_are_hidden(self) -> None:
        """U15: 1xx, 204, 206 and others that no upstream has cause to send become the gateway's 502."""
        for status in [100, 101, 103, 199, 201, 202, 204, 205, 206, 226, 407, 600, 0]:
            verdict = judged(status, b"")
            self.assertEqual((verdict.action, verdict.reason), (Action.PASS, "UPSTREAM_NONSENSE"), status)
            self.assertTrue(verdict.hides)
            self.assertEqual(failure(verdict).code, 502)

    def test_other_errors_are_passed_on_once(self) -> None:
        """U15: errors that no other row knows reach the client as they are, and blame nobody."""
        for status in [402, 405, 409, 410, 411, 413, 415, 416, 422, 451, 499, 501, 505, 511, 598]:
            verdict = judged(status, error(status, "x"))
            self.assertEqual((verdict.action, verdict.blame), (Action.PASS, Blame.NOBODY), status)
            self.assertFalse(verdict.hides)

    def test_only_a_known_cause_quarantines(self) -> None:
        """A bare status, of all there are, quarantines no credential but for a 401 that a refresh leaves."""
        for status in range(100, 600):
            blamed = judged(status, error(status, "x")).blame is Blame.CREDENTIAL
            self.assertEqual(blamed, status == 401, status)

    @given(
        st.integers(100, 599),
        st.dictionaries(st.just(b"retry-after"), st.binary() | st.integers().map(lambda n: b"%d" % n)),
        st.binary()
        | st.text().map(str.encode)
        | st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "error",
                            "code",
                            "message",
                            "status",
                            "details",
                            "@type",
                            "reason",
                            "domain",
                            "metadata",
                            "retryDelay",
                            "violations",
                            "quotaId",
                            "links",
                            "url",
                            "response",
                            "quotaResetDelay",
                            "quotaResetTimeStamp",
                            "validation_url",
                        ]
                    ),
                    inner | st.sampled_from([TYPE + "ErrorInfo", TYPE + "RetryInfo", TYPE + "Help"]),
                )
            ),
            max_leaves=12,
        ).map(lambda tree: json.dumps({"error": tree}).encode()),
        st.floats(),
    )
    def test_no_answer_raises_and_every_wait_is_clamped(
        self, status: int, headers: Mapping[bytes, bytes], body: bytes, now: float
    ) -> None:
        """U11, U17: garbage in headers, body and clock gives a verdict with a wait that can be kept."""
        for verdict in (judge(status, headers, body, now), judge_error_object(body, now)):
            assert math.isfinite(verdict.cool_seconds)
            assert 0 <= verdict.cool_seconds <= LONG.most
        json.loads(status_body(body, status))
        scrubbed(body)


class PageTests(SynchronousTestCase):
    """What docs/operate.rst says of reasons."""

    def test_every_reason_for_being_out_has_its_cure(self) -> None:
        """Those of the table's rows that put a credential out, families written with dots."""
        page = (Path(__file__).parent.parent / "docs" / "operate.rst").read_text("utf-8")
        for row in RULES:
            if row.verdict.blame is Blame.CREDENTIAL and row.verdict.action is Action.NEXT:
                found = row.verdict.reason or (row.reasons.pattern if row.reasons else "")
                for reason in found.split("|"):
                    family = reason.replace("API_KEY_LEAKED", "API_KEY_.*").replace(".*", "...")
                    self.assertIn(f"``{family}``", page, row.name)


class ClientsFaultTests(SynchronousTestCase):
    """What the client did is the client's."""

    def test_bad_request_is_passed_on_once(self) -> None:
        """U1: a 400 goes to the client as it is, no credential suffers, nothing is repeated."""
        self.assertEqual(judged(400, BAD_REQUEST), Verdict(Action.PASS, reason="INVALID_ARGUMENT", status=400))

    def test_thought_signature_complaint_is_passed_on(self) -> None:
        """U1: a complaint of the client's history is the client's to see."""
        self.assertEqual(judged(400, BAD_SIGNATURE).action, Action.PASS)

    def test_words_of_the_client_in_a_message_change_nothing(self) -> None:
        """U1: a message that quotes a client who wrote of API keys or terms of service blames nobody."""
        quoted = error(400, "Invalid value at 'contents' (oneof), \"API key not valid\"")
        self.assertEqual(judged(400, quoted).action, Action.PASS)
        for name in ("x violation of terms of service", "disabled terms of service"):
            for message in (f"No access to 'gs://b/{name}'.", f"No access to File b/{name}."):
                self.assertEqual(judged(403, error(403, message)).blame, Blame.PAIR)

    def test_model_that_is_not_there_is_asked_of_other_bases_only(self) -> None:
        """U7: a 404 goes to the next base where there is one, to no other credential, and is passed on."""
        verdict = judged(404, UNKNOWN_MODEL)
        self.assertEqual(verdict, Verdict(Action.BASE, reason="NOT_FOUND", status=404, other_base=True, max_tries=0))

    def test_plain_refusal_tries_one_more_and_never_quarantines(self) -> None:
        """U7: a 403 without a known cause cools the pair shortly and is passed on the second time."""
        verdict = judged(403, FORBIDDEN)
        self.assertEqual((verdict.action, verdict.blame), (Action.NEXT, Blame.PAIR))
        self.assertEqual((verdict.cool_seconds, verdict.max_tries), (REFUSED_SECONDS, 2))
        self.assertFalse(verdict.hides)


class CredentialTests(SynchronousTestCase):
    """What the credential is to blame for is never shown as the client's fault."""

    def test_bad_key_is_quarantined_and_hidden(self) -> None:
        """U2: Google's 400 for a bad key, with or without details, is the gateway's own trouble."""
        for body in (
            BAD_KEY,
            error(400, "API key expired. Please renew the API key.", info("API_KEY_INVALID")),
            error(400, "API key expired. Please renew the API key."),
            error(400, "API Key not found. Please pass a valid API key."),
        ):
            verdict = judged(400, body)
            self.assertEqual(
                (verdict.action, verdict.blame, verdict.reason, verdict.hides),
                (Action.NEXT, Blame.CREDENTIAL, "API_KEY_INVALID", True),
            )
            shown = failure(verdict)
            self.assertEqual((shown.code, shown.reason), (503, "UPSTREAM_CREDENTIALS_UNAVAILABLE"))

    def test_reason_in_a_later_detail_is_found(self) -> None:
        """U2: all details are read, not the first alone."""
        body = error(400, "x", "junk", None, help_links(), info("SOMETHING"), info("API_KEY_INVALID"))
        self.assertEqual(judged(400, body).reason, "API_KEY_INVALID")

    def test_region_or_billing_tries_one_other_project(self) -> None:
        """U3: the project cools for this model, one credential of another project is tried."""
        for body in (REGION, BILLING):
            verdict = judged(400, body)
            self.assertEqual((verdict.action, verdict.blame), (Action.NEXT, Blame.PAIR))
            self.assertEqual((verdict.max_tries, verdict.other_project), (2, True))
            self.assertEqual(verdict.cool_seconds, PROJECT_SECONDS)
            self.assertFalse(verdict.hides)

    def test_another_precondition_blames_nobody(self) -> None:
        """U3: a file that is not ready is a failed precondition too, and the client's own."""
        verdict = judged(400, NOT_ACTIVE)
        self.assertEqual((verdict.blame, verdict.cool_seconds), (Blame.NOBODY, 0.0))
        self.assertEqual((verdict.max_tries, verdict.other_project), (2, True))

    def test_project_that_must_pay_is_not_quarantined(self) -> None:
        """U3: a missing licence or billing account, said with a 403, is the project's as well."""
        for body in (LICENCE, error(403, "This API method requires billing.", info("BILLING_DISABLED"))):
            verdict = judged(403, body)
            self.assertEqual((verdict.blame, verdict.other_project), (Blame.PAIR, True))

    def test_stale_token_is_refreshed_and_hidden(self) -> None:
        """U4: a 401 asks for a refresh; a client never sees it, for it would doubt its own key."""
        verdict = judged(401, STALE)
        self.assertEqual((verdict.action, verdict.blame), (Action.REFRESH, Blame.CREDENTIAL))
        self.assertEqual((verdict.reason, verdict.hides), ("ACCESS_TOKEN_EXPIRED", True))
        self.assertEqual(judged(401, b"").reason, "UNAUTHENTICATED")

    def test_refused_credential_is_quarantined(self) -> None:
        """U5: reasons that name the credential or its project quarantine it, and hide the body."""
        for reason in (
            "SERVICE_DISABLED",
            "CONSUMER_INVALID",
            "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
            "API_KEY_SERVICE_BLOCKED",
            "API_KEY_IP_ADDRESS_BLOCKED",
        ):
            verdict = judged(403, error(403, "x", info(reason)))
            self.assertEqual(
                (verdict.action, verdict.blame, verdict.reason, verdict.hides, verdict.needs_owner),
                (Action.NEXT, Blame.CREDENTIAL, reason, True, False),
            )
        self.assertEqual(judged(403, LEAKED).reason, "API_KEY_LEAKED")

    def test_disabled_service_shows_where_to_enable_it(self) -> None:
        """U5: the link of the details is kept for the operator."""
        self.assertTrue(judged(403, DISABLED).link.endswith("?project=123"))

    def test_account_to_be_verified_gives_the_owners_link(self) -> None:
        """U6: VALIDATION_REQUIRED quarantines with the link that the owner must open."""
        verdict = judged(403, VALIDATION)
        self.assertEqual((verdict.blame, verdict.needs_owner), (Blame.CREDENTIAL, True))
        self.assertEqual(verdict.link, "https://accounts.google.com/signin/continue?sarp=1&scc=1&plt=AKgnsb")
        self.assertTrue(verdict.hides)

    def test_help_gives_the_link_where_metadata_has_none(self) -> None:
        """U6: without a link in its metadata the first one of Help is taken; both spellings are known."""
        url = "https://accounts.google.com/verify"
        for body in (
            error(403, "x", help_links(url, url + "2"), info("VALIDATION_REQUIRED", CODE_ASSIST)),
            error(403, "x", info("VALIDATION_REQUIRED", CODE_ASSIST, validation_link=url)),
        ):
            self.assertEqual(judged(403, body).link, url)

    def test_link_that_is_not_plain_https_is_dropped(self) -> None:
        """U6: what an operator may click on is an https URL without odd characters."""
        for url in (
            "javascript:alert(1)",
            "http://a.example",
            "https://a b",
            "https://a/\n",
            'https://a/"',
            "https://a" * 999,
        ):
            body = error(403, "x", info("VALIDATION_REQUIRED", CODE_ASSIST, validation_url=url))
            self.assertEqual(judged(403, body).link, "", url)

    def test_validation_counts_only_from_code_assist(self) -> None:
        """U6: the same reason from another domain is a plain refusal."""
        self.assertEqual(judged(403, error(403, "x", info("VALIDATION_REQUIRED"))).blame, Blame.PAIR)
        staging = error(403, "x", info("VALIDATION_REQUIRED", "staging-" + CODE_ASSIST))
        self.assertTrue(judged(403, staging).needs_owner)

    def test_broken_terms_and_suspension_need_the_owner(self) -> None:
        """U6: terms of service, by reason or in words, and a suspended consumer wait for an operator."""
        for body, reason in (
            (TERMS, "TOS_VIOLATION"),
            (error(403, "Your account violates our Terms of Service."), "TOS_VIOLATION"),
            (error(403, "x", info("TOS_VIOLATION", CODE_ASSIST)), "TOS_VIOLATION"),
            (SUSPENDED, "CONSUMER_SUSPENDED"),
        ):
            verdict = judged(403, body)
            self.assertEqual((verdict.blame, verdict.needs_owner, verdict.reason), (Blame.CREDENTIAL, True, reason))


class QuotaTests(SynchronousTestCase):
    """429."""

    def test_rate_limit_cools_the_pair_for_its_delay(self) -> None:
        """U9: RetryInfo's delay, to the fraction, and another credential at once."""
        verdict = judged(429, MINUTE)
        self.assertEqual(
            verdict,
            Verdict(Action.NEXT, Blame.PAIR, "RESOURCE_EXHAUSTED", status=429, cool_seconds=34.074824224),
        )
        self.assertEqual(judged(429, RATE_LIMIT).cool_seconds, 12.479)
        self.assertEqual(judged(429, RATE_LIMIT).reason, "RATE_LIMIT_EXCEEDED")

    def test_longest_of_several_delays_counts(self) -> None:
        """U9: two RetryInfos and a header: nothing is tried before the last of them."""
        body = error(429, "x", retry("3s"), retry({"seconds": 8, "nanos": 500000000}))
        self.assertEqual(judged(429, body).cool_seconds, 8.5)
        self.assertEqual(judged(429, body, {b"retry-after": b"20"}).cool_seconds, 20.0)

    def test_delay_is_found_where_there_is_no_retry_info(self) -> None:
        """U9: a quotaResetDelay, its timestamp or the message's own words say how long."""
        limited = "RATE_LIMIT_EXCEEDED"
        for body, seconds in (
            (error(429, "x", info(limited, quotaResetDelay="90s")), 90.0),
            (error(429, "x", info(limited, quotaResetTimeStamp="2026-07-01T12:05:00Z")), 300.0),
            (error(429, "You exceeded it. Please retry in 37.25s."), 37.25),
            (error(429, "Your quota will reset after 2m39s."), 159.0),
        ):
            self.assertEqual(judged(429, body).cool_seconds, seconds)

    def test_short_delay_is_clamped(self) -> None:
        """U9: nothing is taken on trust: no less than a second, no more than an hour."""
        for delay, seconds in (("0.2s", SHORT.least), ("0s", SHORT.least), ("999h", SHORT.most)):
            self.assertEqual(judged(429, error(429, "x", retry(delay))).cool_seconds, seconds)

    def test_daily_quota_cools_to_pacific_midnight(self) -> None:
        """U10: a PerDay quota is out for the day though RetryInfo says 37 s."""
        verdict = judged(429, DAILY)
        self.assertEqual(
            (verdict.blame, verdict.reason, verdict.cool_seconds),
            (Blame.PAIR, "QUOTA_EXHAUSTED", 19 * 3600.0),
        )

    def test_days_on_which_the_clocks_change_are_right(self) -> None:
        """U10: from Pacific midnight it is 23 hours on 2026-03-08 and 25 on 2026-11-01."""
        for midnight, hours in (("2026-03-08T00:00:00-08:00", 23), ("2026-11-01T00:00:00-07:00", 25)):
            now = datetime.fromisoformat(midnight).timestamp()
            self.assertEqual(judge(429, {}, DAILY, now).cool_seconds, hours * 3600.0)

    def test_retry_info_is_a_lower_bound_of_a_daily_quota(self) -> None:
        """U10: a minute before midnight RetryInfo's longer wait holds."""
        now = datetime.fromisoformat("2026-07-01T23:59:50-07:00").timestamp()
        self.assertEqual(judge(429, {}, DAILY, now).cool_seconds, 37.0)

    def test_one_daily_violation_among_others_decides(self) -> None:
        """U10: a minute's and a day's quota are both used up: the day's counts, in any order."""
        for ids in (("RequestsPerMinute", "RequestsPerDay"), ("RequestsPerDay", "RequestsPerMinute")):
            self.assertEqual(judged(429, error(429, "x", quota(*ids), retry("5s"))).reason, "QUOTA_EXHAUSTED")

    def test_daily_quota_is_known_by_metadata_and_words(self) -> None:
        """U10: quota_limit, quota_unit, another spelling, or only the message name the day."""
        for body in (
            error(429, "x", info("RATE_LIMIT_EXCEEDED", quota_limit="GenerateRequestsPerDayPerProject")),
            error(429, "x", info("RATE_LIMIT_EXCEEDED", quota_unit="1/d/{project}")),
            error(429, "x", quota("DailyLimit")),
            error(429, "x", quota("requests_per_day")),
            error(429, "Quota exceeded for metric 'requests per day' of consumer 'project_number:1'."),
        ):
            self.assertEqual(judged(429, body).cool_seconds, 19 * 3600.0)

    def test_exhausted_quota_cools_to_its_reset(self) -> None:
        """U10: quotaResetDelay, quotaResetTimeStamp or the message say when; RetryInfo does not shorten it."""
        reason = "QUOTA_EXHAUSTED"
        for details, seconds in (
            ([info(reason, CODE_ASSIST, quotaResetDelay="2h52m39s")], 10359.0),
            ([info(reason, CODE_ASSIST, quotaResetTimeStamp="2026-07-01T17:00:00Z"), retry("37s")], 18000.0),
            ([info(reason, CODE_ASSIST, quotaResetDelay="5s"), retry("37s")], 37.0),
            ([info(reason, CODE_ASSIST)], 19 * 3600.0),
            ([retry("37s"), info(reason, CODE_ASSIST)], 19 * 3600.0),
        ):
            verdict = judged(429, exhausted(*details))
            self.assertEqual((verdict.reason, verdict.cool_seconds), (reason, seconds))
        in_words = exhausted(info(reason), message="Your quota will reset after 2h36m24s.")
        self.assertEqual(judged(429, in_words).cool_seconds, 9384.0)

    def test_reset_beyond_a_day_is_clamped(self) -> None:
        """U10: seven days, or a hundred years, cool for one day: then a single attempt finds out."""
        for metadata in (
            {"quotaResetDelay": "168h0m0s"},
            {"quotaResetTimeStamp": "2126-07-01T12:00:00Z"},
        ):
            body = exhausted(info("QUOTA_EXHAUSTED", CODE_ASSIST, **metadata))
            self.assertEqual(judged(429, body).cool_seconds, LONG.most)

    def test_reset_in_the_past_cools_shortly(self) -> None:
        """U10: a reset behind our clock is neither a day's lock nor a loop."""
        body = exhausted(info("QUOTA_EXHAUSTED", CODE_ASSIST, quotaResetTimeStamp="2026-07-01T11:00:00Z"))
        self.assertEqual(judged(429, body).cool_seconds, LAPSED_SECONDS)

    def test_bare_limit_cools_for_a_second_that_grows(self) -> None:
        """U11: nothing said: one second, which the standing doubles."""
        for body in (BARE_429, b"", HTML, b"[]", b"{}", error(429, "x", info("RATE_LIMIT_EXCEEDED"))):
            verdict = judged(429, body)
            self.assertEqual((verdict.blame, verdict.cool_seconds, verdict.grows), (Blame.PAIR, 1.0, True))

    def test_retry_after_is_read_and_clamped(self) -> None:
        """U11: seconds and dates, past ones, garbage and ten to the ninth."""
        for field, seconds, grows in (
            (b"30", 30.0, False),
            (b"0", SHORT.least, False),
            (b"Wed, 01 Jul 2026 12:02:00 GMT", 120.0, False),
            (b"Wed, 01 Jul 2020 12:02:00 GMT", SHORT.least, False),
            (b"1000000000", SHORT.most, False),
            (b"soon", 1.0, True),
            (b"-1", 1.0, True),
        ):
            verdict = judged(429, BARE_429, {b"retry-after": field})
            self.assertEqual((verdict.cool_seconds, verdict.grows), (seconds, grows), field)


class BackendTests(SynchronousTestCase):
    """What the backend is to blame for, no credential is."""

    def test_missing_capacity_cools_the_base(self) -> None:
        """U13: MODEL_CAPACITY_EXHAUSTED under any status, and 529, cool (base, model) shortly."""
        for status in (429, 503, 529):
            body = error(status, "No capacity", info("MODEL_CAPACITY_EXHAUSTED", CODE_ASSIST))
            verdict = judged(status, body)
            self.assertEqual((verdict.action, verdict.blame), (Action.BASE, Blame.BASE))
            self.assertEqual(verdict.cool_seconds, CAPACITY_SECONDS)
        self.assertEqual(judged(529, b"").cool_seconds, CAPACITY_SECONDS)
        long = error(429, "x", info("MODEL_CAPACITY_EXHAUSTED"), retry("2h"))
        self.assertEqual(judged(429, long).cool_seconds, BACKEND.most)

    def test_internal_error_is_tried_once_more(self) -> None:
        """U12: a second 500 goes to the client; it counts against the base and cools nothing."""
        verdict = judged(500, error(500, "An internal error has occurred."))
        self.assertEqual(verdict, Verdict(Action.BASE, Blame.BASE, "INTERNAL", status=500, max_tries=2))

    def test_unavailable_backend_is_tried_within_the_budget(self) -> None:
        """U13: 502 and 503 have no limit of their own; a Retry-After cools the base, clamped."""
        for status in (502, 503):
            verdict = judged(status, HTML)
            self.assertEqual(verdict, Verdict(Action.BASE, Blame.BASE, "UNAVAILABLE", status=status))
            for field, seconds in ((b"7", 7.0), (b"0", BACKEND.least), (b"1000000000", BACKEND.most)):
                self.assertEqual(judged(status, b"", {b"retry-after": field}).cool_seconds, seconds)

    def test_upstreams_deadline_is_tried_once_more(self) -> None:
        """U14: a second 504 goes to the client."""
        verdict = judged(504, b"")
        self.assertEqual((verdict.action, verdict.max_tries), (Action.BASE, 2))
        self.assertEqual(verdict.reason, "DEADLINE_EXCEEDED")

    def test_request_timeout_is_shown_as_a_gateway_timeout(self) -> None:
        """U8: 408 is a timeout before the answer: once more, then 504."""
        verdict = judged(408, error(408, "x"))
        self.assertEqual((verdict.action, verdict.max_tries, verdict.hides), (Action.BASE, 2, True))
        self.assertEqual((failure(verdict).code, failure(verdict).status), (504, "DEADLINE_EXCEEDED"))

    def test_redirect_is_never_followed(self) -> None:
        """U16: every 3xx becomes the gateway's 502."""
        for status in range(300, 400):
            verdict = judged(status, b"", {b"location": b"https://elsewhere.example/"})
            self.assertEqual((verdict.action, verdict.hides), (Action.PASS, True))
            shown = failure(verdict)
            self.assertEqual((shown.code, shown.reason), (502, "UPSTREAM_REDIRECT"))


class ErrorObjectTests(SynchronousTestCase):
    """An error that came with a 200."""

    def test_its_own_code_decides(self) -> None:
        """U17: an error object in a stream is judged as an answer with its code would be."""
        for body, status in ((DAILY, 429), (BAD_KEY, 400), (STALE, 401), (BAD_REQUEST, 400)):
            self.assertEqual(judge_error_object(body, NOW), judge(status, {}, body, NOW))

    def test_without_a_code_the_status_name_decides(self) -> None:
        """U17: the name of the code, or an internal error where there is neither; never a delivery."""
        for inner, status in (
            ({"status": "RESOURCE_EXHAUSTED", "message": "x"}, 429),
            ({"status": "UNAVAILABLE"}, 503),
            ({"status": "FAILED_PRECONDITION"}, 400),
            ({"code": 8, "status": "RESOURCE_EXHAUSTED"}, 429),
            ({"code": 200}, 500),
            ({"code": 302, "message": "x"}, 500),
            ({"message": "x"}, 500),
            ({}, 500),
            ("broken", 500),
        ):
            verdict = judge_error_object(json.dumps({"error": inner}).encode(), NOW)
            self.assertEqual(verdict.status, status, inner)
            self.assertNotEqual(verdict.action, Action.DELIVER)


class BodyTests(SynchronousTestCase):
    """Reading and passing on error bodies."""

    def test_every_wrapping_is_read(self) -> None:
        """U17: plain, in Google's array, in the envelope's response: the verdict is the same."""
        for body in (
            BAD_KEY,
            b"[" + BAD_KEY + b"]",
            b" [ " + BAD_KEY + b"\n,{}]\n",
            b'{"response":' + BAD_KEY + b',"traceId":"1"}',
        ):
            self.assertEqual(judged(400, body).reason, "API_KEY_INVALID")
            self.assertEqual(json.loads(status_body(body, 400)), json.loads(BAD_KEY))

    def test_error_object_is_passed_on_byte_for_byte(self) -> None:
        """U1: upstream's own spelling, spaces and unknown members reach the client."""
        body = b'{ "error" :\n{"code":400,"message":"\\u003cx\\u003e","extra":1.50}, "traceId":"t" }\n'
        self.assertEqual(status_body(body, 400), body)
        self.assertEqual(status_body(b"[" + body.strip() + b"]", 400), body.strip())

    def test_what_is_no_error_object_is_made_one(self) -> None:
        """U17: HTML, text, other JSON and what is too big become a Status that quotes none of it."""
        deep = b'{"error":{"code":1,"details":' + b"[" * 20000 + b"]" * 20000 + b"}}"
        bodies = [b"", HTML, b"SECRET text", b"null", b"3", b"[]", b"[3]", b'"SECRET"', b'{"error":"SECRET"}',
                  b'{"error":{}}', b'{"error":{"SECRET":1}}', b'{"error":{"message":"SECRET', b"\xff\xfe",
                  b'{"error":{"message":"\xff"}}', deep, error(503, "SECRET" * 20000), b'{"response":[1]}',
                  b'{"error":{"code":' + b"9" * 5000 + b"}" ]  # fmt: skip
        for body in bodies:
            made = status_body(body, 503)
            self.assertNotIn(b"SECRET", made)
            self.assertLess(len(made), 1000)
            inner = json.loads(made)["error"]
            self.assertEqual((inner["code"], inner["status"]), (503, "UNAVAILABLE"))
            self.assertEqual(inner["details"][0]["domain"], "antigravity.gateway")
            self.assertEqual(judged(503, body).action, Action.BASE)

    def test_bodies_are_read_up_to_64_kib(self) -> None:
        """U17: at the limit a body is read, one byte beyond it only its status counts."""
        at_limit = BAD_KEY + b" " * (BODY_LIMIT - len(BAD_KEY))
        self.assertEqual(judged(400, at_limit).reason, "API_KEY_INVALID")
        self.assertEqual(judged(400, at_limit + b" ").action, Action.PASS)

    def test_reason_that_is_no_name_is_not_reported(self) -> None:
        """Reasons go into logs and answers: what is not UPPER_SNAKE_CASE is left out."""
        for reason in ("x\nforged line", "lower", "A" * 64, "", 5, None, ["A"]):
            body = error(403, "x", {"@type": TYPE + "ErrorInfo", "reason": reason})
            self.assertEqual(judged(403, body).reason, "PERMISSION_DENIED")


class ScrubbingTests(SynchronousTestCase):
    """Secrets in bodies that are passed on."""

    KEY = "AIzaSyA0123456789abcdefghijklmnopqrstuv"

    def test_secrets_become_dots(self) -> None:
        """S12: keys, tokens and addresses go, the words around them stay."""
        for text, clean in (
            (f"Consumer 'api_key:{self.KEY}' has been suspended.", "Consumer 'api_key:...' has been suspended."),
            (f"key {self.KEY}!", "key ...!"),
            ("GET /v1beta/models?key=abc123&alt=sse", "GET /v1beta/models?key=...&alt=sse"),
            ("alt=sse\\u0026key\\u003dabc123", "alt=sse\\u0026key\\u003d..."),
            ("Authorization: Bearer ya29.a0Af_x-y.z", "Authorization: Bearer ..."),
            ("Authorization: Basic dXNlcjpwYXNz0=", "Authorization: Basic ..."),
            ("token ya29.a0Af_x-y was refused", "token ... was refused"),
            ('{"access_token": "abc/def"}', '{"access_token": "..."}'),
            ('{\\"api_key\\": \\"abc\\"}', '{\\"api_key\\": \\"...\\"}'),
            ("client_secret=GOCSPX-abc_1", "client_secret=..."),
            ("refresh 1//0abcdefghijklmnopqrstuv", "refresh ..."),
            ("the key AQ.Ab8RN6Kabcdefghijklmnop", "the key ..."),
            ("mail to jane.doe+x@mail.example.com.", "mail to ...."),
            ("x@y.iam.gserviceaccount.com", "..."),
            ("a\\nbob@example.com", "a\\n..."),
            ("\\u003cbob@example.com\\u003e", "\\u003c...\\u003e"),
            ("bob\\u0040example.com", "..."),
        ):
            self.assertEqual(scrubbed(text.encode()), clean.encode())

    def test_everything_else_stays(self) -> None:
        """Google's own bodies without secrets are not changed by a byte."""
        for name, _, _, body in ROWS:
            if body not in (SUSPENDED, TERMS):
                self.assertEqual(scrubbed(body), body, name)
        for text in (
            '{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}',
            "models/text-embedding@001 is not found",
            "Expected OAuth 2 access token, bearer authentication",
            "API key not valid. Please pass a valid API key.",
            "max_tokens=5 ACCESS_TOKEN_EXPIRED",
            "\\u00e9 \\\\ \\n \xff",
        ):
            self.assertEqual(scrubbed(text.encode("latin-1")), text.encode("latin-1"))

    @given(
        st.recursive(
            st.none() | st.integers() | st.booleans() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
        st.booleans(),
    )
    def test_json_without_secrets_is_unchanged_or_stays_json(self, tree: object, ascii_only: bool) -> None:
        """What was JSON is JSON afterwards."""
        json.loads(scrubbed(json.dumps(tree, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")))

    @given(
        st.lists(
            st.sampled_from(
                ["api_key", "key=", ": ", ":", "=", '"', "'", "\\", "\n", "é", "<", "a1", "@", "x.com", ".",
                 "Bearer ", "access_token", "{", "}", "[", "]", ",", " ", KEY, "ya29.", "%40", "1//"]
            )
        ).map("".join),
        st.lists(st.sampled_from(["api_key", "api_key: ", "key=", "x@y.com", "Bearer "])),
    )  # fmt: skip
    def test_json_made_of_secrets_stays_json(self, text: str, names: list[str]) -> None:
        """However the shapes of secrets are mixed, quotes and escapes are not cut in two."""
        tree = [text, {name: [1, text, None, {text: 2}] for name in names}, dict.fromkeys(names, 3)]
        for body in (json.dumps(tree), json.dumps(tree, ensure_ascii=False, separators=(",", ":"))):
            nested = json.dumps(body)
            self.assertEqual(len(json.loads(scrubbed(body.encode()))), 3)
            self.assertIsInstance(json.loads(scrubbed(nested.encode())), str)
            self.assertNotIn(self.KEY.encode(), scrubbed(body.encode()))

    def test_hostile_bodies_are_scrubbed_in_time(self) -> None:
        """U17: 64 KiB made against the patterns take a fraction of a second of the reactor's time."""
        for piece in ("a", "a@", "bearer +", "+", "api_key  ", "key=", "a.", "\\", "1//", '"', "%20", "a@a."):
            body = (piece * BODY_LIMIT)[:BODY_LIMIT].encode()
            start = time.process_time()
            scrubbed(body)
            read(error(403, body.decode()))
            self.assertLess(time.process_time() - start, 2.0, piece)


class TransportTests(SynchronousTestCase):
    """Attempts that ended without an answer."""

    def test_no_credential_is_ever_blamed(self) -> None:
        """C1-C16: every kind, unary or stream, leaves the credentials alone and says what the client is told."""
        for kind in TRANSPORT_KINDS:
            for streams in (False, True):
                verdict = transport(kind, streams)
                self.assertIn(verdict.blame, (Blame.NOBODY, Blame.BASE), kind)
                self.assertEqual((verdict.status, verdict.hides), (0, True))
                self.assertEqual(verdict.action is Action.PASS, verdict.max_tries == 1)
                shown = failure(verdict)
                self.assertEqual(shown.reason, verdict.reason)
                self.assertIn(shown.code, (502, 503, 504))

    def test_unreachable_upstream_is_tried_elsewhere(self) -> None:
        """C1, C2: the request never left; in the end 503."""
        verdict = transport("connect")
        self.assertEqual((verdict.action, verdict.blame, verdict.max_tries), (Action.BASE, Blame.BASE, 0))
        self.assertEqual((failure(verdict).code, failure(verdict).status), (503, "UNAVAILABLE"))

    def test_tls_failure_has_no_fallback(self) -> None:
        """C3: a bad certificate ends the request with 502 UPSTREAM_TLS."""
        verdict = transport("tls")
        self.assertEqual((verdict.action, verdict.blame), (Action.PASS, Blame.NOBODY))
        self.assertEqual((failure(verdict).code, failure(verdict).reason), (502, "UPSTREAM_TLS"))

    def test_connect_timeout_is_tried_once_more(self) -> None:
        """C4: then 504."""
        verdict = transport("timeout-connect")
        self.assertEqual((verdict.action, verdict.max_tries), (Action.BASE, 2))
        self.assertEqual((failure(verdict).code, failure(verdict).status), (504, "DEADLINE_EXCEEDED"))

    def test_unary_call_that_was_at_work_is_not_repeated(self) -> None:
        """C5, C7: it would bill twice; a stream that gave no event is tried once more."""
        for kind in ("timeout-first-byte", "timeout-idle", "truncated"):
            self.assertEqual(transport(kind).action, Action.PASS, kind)
            self.assertEqual((transport(kind, True).action, transport(kind, True).max_tries), (Action.BASE, 2))
        self.assertEqual(failure(transport("timeout-first-byte")).code, 504)

    def test_stale_connection_and_senseless_content_are_tried_once_more(self) -> None:
        """C8, C14: nothing of an answer had come."""
        for kind in ("reset", "empty-stream", "bad-content-type", "not-json"):
            verdict = transport(kind)
            self.assertEqual((verdict.action, verdict.max_tries), (Action.BASE, 2), kind)
            self.assertEqual(failure(verdict).code, 502)

    def test_unknown_kind_is_a_mistake_of_ours(self) -> None:
        """A kind that nobody defined does not pass in silence."""
        with self.assertRaises(KeyError):
            transport("gremlins")
