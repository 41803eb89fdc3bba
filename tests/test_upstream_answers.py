"""What a client sees of each answer that upstream may give, through edge, router and table.  Bodies are Google's."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.oauth import TokenUnavailable
from tests.fakes import (
    ANSWER,
    BODY,
    JSON,
    SSE,
    Answer,
    Client,
    Edge,
    FakeExchange,
    FakeTokens,
    Member,
    event,
    member,
    ok,
    sse,
)
from tests.test_verdict import (
    BAD_KEY,
    BAD_REQUEST,
    BARE_429,
    BILLING,
    CAPACITY,
    DAILY,
    DISABLED,
    FORBIDDEN,
    HTML,
    LEAKED,
    MINUTE,
    REGION,
    SUSPENDED,
    TERMS,
    UNKNOWN_MODEL,
    VALIDATION,
    error,
)

PATH = "/v1beta/models/gemini-2.5-flash:generateContent"
STREAM = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
KIB = 1024


def said(status: int, body: bytes, **fields: str) -> FakeExchange:
    """An answer of upstream's."""
    more = {name.replace("_", "-").encode(): value.encode() for name, value in fields.items()}
    return FakeExchange(status, {**JSON, **more}, body)


class AnswerCase(SynchronousTestCase):
    def build(
        self, *script: Any, names: tuple[str, ...] = ("a", "b", "c"), members: Any = None, **changes: Any
    ) -> None:
        given: list[Member] = [member(name) for name in names] if members is None else list(members)
        self.edge = Edge.build(*script, members=given, **changes)

    def begin(self, target: str = PATH, *headers: tuple[str, str]) -> Client:
        client = self.edge.connect()
        client.post(target, BODY, *headers)
        return client

    def ask(self, *script: Any, target: str = PATH) -> Answer:
        """Ask once more, with more answers of upstream's to come."""
        self.edge.wire.script += script
        return self.begin(target).answer()

    @property
    def calls(self) -> int:
        return len(self.edge.wire.requests)

    def is_upstreams(self, answer: Answer, status: int, message: str) -> None:
        self.assertEqual((answer.status, answer.json["error"]["message"]), (status, message))
        self.assertEqual(answer.headers["x-antigravity-origin"], "upstream")

    def is_ours(self, answer: Answer, status: int, reason: str) -> None:
        self.assertEqual((answer.status, answer.json["error"]["details"][0]["reason"]), (status, reason))
        self.assertEqual(answer.headers["x-antigravity-origin"], "gateway")


class RequestTests(AnswerCase):
    """What is the client's own doing."""

    def test_bad_request_is_the_clients(self) -> None:
        """U1: as Google said it, after one attempt, and the same credential answers the next request."""
        self.build(names=("a",))
        self.is_upstreams(self.ask(said(400, BAD_REQUEST)), 400, json.loads(BAD_REQUEST)["error"]["message"])
        self.assertEqual((self.calls, self.ask(ok()).status), (1, 200))

    def test_unknown_model_is_the_clients(self) -> None:
        """U7: a 404 and a 403 about a model are passed on, and the credential is as good as before."""
        for status, body, calls in ((404, UNKNOWN_MODEL, 1), (403, FORBIDDEN, 2)):
            self.build()
            answer = self.ask(*[said(status, body)] * 3)
            self.is_upstreams(answer, status, json.loads(body)["error"]["message"])
            self.assertEqual(self.calls, calls)
            self.assertEqual(self.edge.recorder.out, [])


class CredentialTests(AnswerCase):
    """What is the operator's business."""

    def test_bad_key_is_never_the_clients_fault(self) -> None:
        """U2: another key answers, the bad one is not used again; where all are bad it is 503, and no word of it."""
        self.build(names=("a", "b"))
        self.assertEqual(self.ask(said(400, BAD_KEY), ok()).status, 200)
        self.assertEqual(self.ask(ok()).status, 200)
        bad, good, again = self.edge.wire.keys
        self.assertNotEqual(bad, good)
        self.assertEqual(again, good)
        answer = self.ask(said(400, BAD_KEY))
        self.is_ours(answer, 503, "UPSTREAM_CREDENTIALS_UNAVAILABLE")
        self.assertNotIn(b"API key not valid", answer.body)
        self.assertNotIn("retry-after", answer.headers)

    def test_precondition_of_a_project_is_tried_in_one_other(self) -> None:
        """U3: two credentials of one project are one try; another project answers, or it is passed on."""
        for body in (REGION, BILLING):
            self.build(members=[member("a", project="p"), member("b", project="p"), member("c", project="q")])
            self.assertEqual(self.ask(said(400, body), ok()).status, 200)
            self.build(members=[member("a", project="p"), member("b", project="q"), member("c", project="r")])
            answer = self.ask(*[said(400, body)] * 3)
            self.is_upstreams(answer, 400, json.loads(body)["error"]["message"])
            self.assertEqual(self.calls, 2)

    def test_credential_that_may_not_is_replaced(self) -> None:
        """U5: another one answers; with none left it is 503, and the operator is told of each."""
        for body in (DISABLED, LEAKED):
            self.build(names=("a", "b"))
            self.assertEqual(self.ask(said(403, body), ok()).status, 200)
            self.is_ours(self.ask(said(403, body)), 503, "UPSTREAM_CREDENTIALS_UNAVAILABLE")
            self.assertEqual(sorted(name for name, *_ in self.edge.recorder.out), ["a", "b"])

    def test_refusals_over_terms_stop_the_upstream(self) -> None:
        """U6: the second within ten minutes halts it: the third account is not burnt, and clients get 503."""
        for body in (TERMS, SUSPENDED):
            self.build()
            self.assertEqual(self.ask(said(403, body), ok()).status, 200)
            self.edge.clock.advance(599)
            self.is_ours(self.ask(said(403, body)), 503, "UPSTREAM_CREDENTIALS_UNAVAILABLE")
            self.assertEqual(self.edge.recorder.halts, ["studio"])
            calls = self.calls
            self.is_ours(self.ask(), 503, "UPSTREAM_CREDENTIALS_UNAVAILABLE")
            self.assertEqual(self.calls, calls)

    def test_refusals_over_terms_far_apart_are_each_its_own(self) -> None:
        """U6: more than ten minutes apart they halt nobody."""
        self.build()
        self.assertEqual(self.ask(said(403, TERMS), ok()).status, 200)
        self.edge.clock.advance(601)
        self.assertEqual(self.ask(said(403, TERMS), ok()).status, 200)
        self.assertEqual(self.edge.recorder.halts, [])

    def test_account_to_be_verified_gives_its_owner_the_link(self) -> None:
        """U6: the operator sees Google's link; the client does not."""
        accounts = [member("a", kind="codeassist", upstream="one"), member("b", kind="aistudio", upstream="two")]
        self.build(members=accounts)
        answer = self.ask(*[said(403, VALIDATION)] * 2)
        self.assertNotIn(b"accounts.google.com", answer.body)
        links = {name: link for name, _, link in self.edge.recorder.out}
        self.assertIn("https://accounts.google.com/signin/continue", links["a"])


class QuotaTests(AnswerCase):
    """Quotas, by the words of Google's that tell them apart."""

    def test_minutes_quota_rests_the_credential_for_as_long_as_is_said(self) -> None:
        """U9: 34.074824224 s, to the millisecond; another credential answers meanwhile."""
        self.build(names=("a", "b"))
        self.assertEqual(self.ask(said(429, MINUTE), ok()).status, 200)
        spent = self.edge.wire.keys[0]
        self.edge.clock.advance(34.074)
        for _ in range(4):
            self.assertEqual(self.ask(ok()).status, 200)
        self.assertEqual(self.edge.wire.keys.count(spent), 1)
        (resting,) = [one for one in self.edge.router.members if one.credential.name == spent]
        self.edge.clock.advance(0.0005)
        self.assertFalse(self.usable(resting))
        self.edge.clock.advance(0.001)
        self.assertTrue(self.usable(resting))

    def usable(self, one: Member) -> bool:
        standings, now = self.edge.router.standings, self.edge.clock.seconds()
        return bool(standings.availability(one.credential, "gemini-2.5-flash", now).usable)

    def test_days_quota_outlasts_the_37_seconds_that_it_names(self) -> None:
        """U10: with everybody's day spent the client is told of the next probe, in a quarter of an hour."""
        self.build(names=("a",))
        self.assertEqual(self.ask(said(429, DAILY)).headers["retry-after"], "900")
        self.edge.clock.advance(899)
        self.assertEqual((self.ask().status, self.calls), (429, 1))

    def test_limit_that_says_nothing_is_guessed_and_doubled(self) -> None:
        """U11: a second at first, two then, and a client is told so."""
        self.build(names=("a",))
        for seconds in (1, 2, 4):
            self.assertEqual(self.ask(said(429, BARE_429)).headers["retry-after"], str(seconds))
            self.edge.clock.advance(seconds + 0.001)


class BackendTests(AnswerCase):
    """What is the backend's own."""

    def test_timeout_upstream_is_tried_once_more(self) -> None:
        """U8: another credential answers; twice in a row is the gateway's 504, and nobody is blamed."""
        self.build()
        self.assertEqual(self.ask(said(408, b""), ok()).status, 200)
        self.assertEqual(self.calls, 2)
        self.is_ours(self.ask(said(408, b""), said(408, b"")), 504, "UPSTREAM_TIMEOUT")
        self.assertEqual((self.calls, self.edge.recorder.out), (4, []))

    def test_internal_error_is_tried_once_more(self) -> None:
        """U12: another credential answers; twice in a row upstream's own error is passed on."""
        body = error(
            500, "An internal error has occurred. Please retry or report in https://developers.generativeai.google"
        )
        self.build()
        self.assertEqual(self.ask(said(500, body), ok()).status, 200)
        self.is_upstreams(self.ask(said(500, body), said(500, body)), 500, json.loads(body)["error"]["message"])
        self.assertEqual(self.calls, 4)

    def test_overload_is_tried_within_the_budget(self) -> None:
        """U13: up to three attempts, then upstream's own 503 with its Retry-After; nobody is blamed."""
        body = error(503, "The model is overloaded. Please try again later.")
        for status, one in ((503, body), (502, HTML), (429, CAPACITY)):
            self.build()
            answer = self.ask(*[said(status, one, retry_after="7")] * 3)
            self.assertEqual((answer.status, self.calls), (status, 3))
            self.assertEqual(self.edge.recorder.out, [])
            self.assertGreaterEqual(int(answer.headers["retry-after"]), 1)

    def test_deadline_upstream_is_tried_once_more(self) -> None:
        """U14: another credential answers; twice in a row upstream's own error is passed on."""
        body = error(504, "The request timed out. Please try again.")
        self.build()
        self.assertEqual(self.ask(said(504, body), ok()).status, 200)
        self.is_upstreams(self.ask(said(504, body), said(504, body)), 504, "The request timed out. Please try again.")
        self.assertEqual(self.calls, 4)

    def test_deadline_upstream_is_not_tried_past_the_clients_own(self) -> None:
        """U14: with the client's time up nobody else is asked."""
        self.build()
        late: Deferred[Any] = Deferred()
        self.edge.wire.script = [late, ok()]
        client = self.begin(PATH, ("X-Server-Timeout", "5"))
        self.edge.clock.advance(4.999)
        self.assertEqual(client.received, b"")
        # The head comes in time; the little that is left is gone before anybody else could answer.
        self.edge.clock.rightNow += 0.001
        late.callback(said(504, error(504, "Deadline expired before operation could complete.")))
        self.assertEqual((client.answer().status, self.calls), (504, 1))


class OddTests(AnswerCase):
    """Everything else."""

    def test_every_status_has_its_answer(self) -> None:
        """U15: of 100 to 599, errors reach the client under their status, what makes no sense as 502."""
        otherwise = {401: 503, 407: 502, 408: 504}
        for status in range(100, 600):
            key = FakeTokens("a", TokenUnavailable("an API key is not renewed"), renewable=False)
            self.build(members=[member("a", key)])
            answer = self.ask(said(status, ANSWER if status == 200 else error(status, "Something.")))
            wanted = otherwise.get(status, status if status == 200 or status >= 400 else 502)
            self.assertEqual(answer.status, wanted, status)
            origin = "upstream" if wanted == status else "gateway"
            self.assertEqual(answer.headers["x-antigravity-origin"], origin, status)
            self.assertEqual(answer.json == json.loads(ANSWER), status == 200, status)

    def test_redirect_is_never_followed(self) -> None:
        """U16: with any status and target it is 502; nothing goes anywhere else, and no Location to the client."""
        for status in (300, 301, 302, 303, 305, 307, 308):
            self.build()
            answer = self.ask(said(status, b"", location="https://evil.example/steal"))
            self.is_ours(answer, 502, "UPSTREAM_REDIRECT")
            self.assertEqual(self.edge.wire.hosts, ["one.example"])
            self.assertNotIn(b"evil", self.edge.wire.requests[0].url + answer.body)
            self.assertNotIn("location", answer.headers)

    def test_error_bodies_of_any_kind_become_googles(self) -> None:
        """U17: a page, a text, nothing, broken JSON, a megabyte: a google.rpc.Status of at most 64 KiB."""
        huge = error(400, "x" * KIB * KIB)
        for body in (HTML, b"upstream connect error", b"", b'{"error": {"code": 400', b"[]", b"\xff\xfe", huge):
            self.build(names=("a",))
            answer = self.ask(said(400, body))
            self.assertEqual((answer.status, answer.json["error"]["code"]), (400, 400), body[:30])
            self.assertEqual(answer.json["error"]["status"], "INVALID_ARGUMENT")
            self.assertLess(len(answer.body), 66 * KIB)
            self.assertNotIn(b"<html", answer.body.lower())

    def test_error_with_a_200_is_an_error(self) -> None:
        """U17: in one piece and as a stream's first event it is judged as if its status had been said."""
        for target, exchange in (
            (PATH, lambda: said(200, MINUTE)),
            (STREAM, lambda: FakeExchange(200, SSE, sse(json.dumps(json.loads(MINUTE)).encode()))),
        ):
            self.build(names=("a",))
            answer = self.ask(exchange(), target=target)
            self.assertEqual((answer.status, answer.headers["retry-after"]), (429, "35"))

    def test_compressed_answer_is_refused_unread(self) -> None:
        """C15: gzip, br, both, an unknown one: 502, the connection closed, the body neither read nor shown."""
        for encoding in ("gzip", "br", "gzip, gzip", "deflate", "zstd", "x"):
            for target in (PATH, STREAM):
                self.build(names=("a",))
                exchange = FakeExchange(
                    200, {**(SSE if target == STREAM else JSON), b"content-encoding": encoding.encode()}
                )
                answer = self.ask(exchange, target=target)
                self.is_ours(answer, 502, "UPSTREAM_ENCODED")
                self.assertTrue(exchange.aborted)
                self.assertEqual(exchange.reads, [])

    def test_compressed_error_is_judged_by_its_status(self) -> None:
        """C15: a 429 stays one, with its Retry-After; of its body nothing is read."""
        self.build(names=("a",))
        exchange = said(429, b"\x1f\x8b\x08", content_encoding="gzip", retry_after="7")
        answer = self.ask(exchange)
        self.assertEqual((answer.status, answer.headers["retry-after"]), (429, "7"))
        self.assertEqual((exchange.aborted, exchange.reads), (True, []))

    def test_identity_is_no_encoding(self) -> None:
        """C15: a server may say so."""
        self.build(names=("a",))
        self.assertEqual(self.ask(said(200, ANSWER, content_encoding="Identity")).body, ANSWER)

    def test_stream_of_another_type_is_never_passed_off_as_one(self) -> None:
        """C14: HTML, JSON or no type at all with a 200 is 502 in JSON; an error in JSON stays upstream's."""
        for headers in ({b"content-type": b"text/html"}, JSON, {}):
            self.build(names=("a",))
            answer = self.ask(FakeExchange(200, headers, sse(event("x"))), target=STREAM)
            self.is_ours(answer, 502, "UPSTREAM_CONTENT_TYPE")
            self.assertEqual(answer.headers["content-type"], "application/json; charset=UTF-8")
        self.build(names=("a",))
        self.is_upstreams(
            self.ask(said(400, BAD_REQUEST), target=STREAM), 400, json.loads(BAD_REQUEST)["error"]["message"]
        )
