"""The clients' routes: spellings, the model list, headers, errors, and what no answer and no log line may show."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import Secret
from gateway.config import RoutingConfig
from gateway.edge.keys import identity
from gateway.operations.journal import LogRecorder
from gateway.operations.logs import json_line, text_line
from gateway.routing.catalog import Aliases, Catalog
from gateway.routing.models import TABLE
from gateway.upstreams.exchange import WireError
from tests.fakes import (
    ANSWER,
    BODY,
    KEY_CANARY,
    LABEL,
    SSE,
    UPSTREAM_CANARY,
    Answer,
    Client,
    Edge,
    FakeExchange,
    FakeTokens,
    call,
    event,
    member,
    ok,
    reason,
    refused,
    retry_info,
    rpc_error,
    sse,
    stream,
)

MODEL = "gemini-2.5-flash"
PATH = f"/v1beta/models/{MODEL}:generateContent"


class EdgeCase(SynchronousTestCase):
    def begin(self, *script: Any, **changes: Any) -> Client:
        self.world = Edge.build(*script, **changes)
        return self.world.connect()

    def get(self, target: str, **changes: Any) -> Answer:
        client = self.begin(**changes)
        client.ask("GET", target)
        return client.answer()

    def post(self, target: str, *script: Any, body: bytes = BODY, **changes: Any) -> Answer:
        client = self.begin(*script, **changes)
        client.post(target, body)
        return client.answer()

    def is_error(self, answer: Answer, code: int, reason: str) -> str:
        """Check that an answer is the gateway's own error, and return its message."""
        error = answer.json["error"]
        self.assertEqual((answer.status, error["code"], error["details"][0]["reason"]), (code, code, reason))
        self.assertEqual(answer.headers["content-type"], "application/json; charset=UTF-8")
        self.assertEqual(answer.headers["x-antigravity-origin"], "gateway")
        self.assertEqual(answer.headers["cache-control"], "no-store")
        self.assertEqual(answer.headers["x-request-id"], "id-1")
        message: str = error["message"]
        return message


class SpellingTests(EdgeCase):
    def test_every_spelling_of_the_route_reaches_the_one_model(self) -> None:
        """As base URLs and copied names produce them."""
        for prefix in ("/v1beta", "/v1", "/v1alpha", ""):
            self.arrives(f"{prefix}/models/{MODEL}:generateContent")
        for path in (
            f"//v1beta/models/{MODEL}:generateContent",
            f"/v1beta//models//{MODEL}:generateContent",
            f"/v1beta/models/{MODEL}:generateContent/",
            f"/v1beta/models/{MODEL}%3AgenerateContent",
            f"/v1beta/models/{MODEL}%3agenerateContent",
            f"/v1beta/models/models/{MODEL}:generateContent",
            f"/v1beta/models/models%2F{MODEL}:generateContent",
            f"/v1beta/v1beta/models/{MODEL}:generateContent",
            f"/v1beta1/publishers/google/models/{MODEL}:generateContent",
            f"/v1beta/models/{MODEL}:generateContent?alt=json",
            f"/v1beta/models/{MODEL}:generateContent?%24alt=json%3Benum-encoding%3Dint",
        ):
            self.arrives(path)

    def arrives(self, path: str) -> None:
        with self.subTest(path=path):
            answer = self.post(path, ok())
            self.assertEqual((answer.status, answer.body), (200, ANSWER))
            url = self.world.wire.requests[0].url.decode()
            self.assertRegex(url, rf"^https://one\.example/v1(beta|alpha)?/models/{MODEL}:generateContent$")

    def test_count_tokens_may_be_written_with_a_slash(self) -> None:
        """The tutorial's own spelling."""
        answer = self.post(f"/v1beta/models/{MODEL}/countTokens", ok(b'{"totalTokens":5}'))
        self.assertEqual(answer.json, {"totalTokens": 5})
        self.assertTrue(self.world.wire.requests[0].url.endswith(b":countTokens"))

    def test_the_clients_version_goes_upstream(self) -> None:
        """google-genai 3 calls /v1."""
        self.post(f"/v1/models/{MODEL}:generateContent", ok())
        self.assertIn(b"/v1/models/", self.world.wire.requests[0].url)

    def test_a_query_key_does_not_go_upstream(self) -> None:
        """L12: nor does any other parameter of the client's."""
        self.post(PATH + f"?key={KEY_CANARY}&x=y", ok(), keys=(KEY_CANARY,))
        request = self.world.wire.requests[0]
        self.assertNotIn(b"?", request.url)
        self.assertNotIn(KEY_CANARY.encode(), repr(request).encode() + request.body)

    def test_a_models_id_may_hold_slashes_and_nothing_that_bends_a_url(self) -> None:
        """L11: the upstream path is built anew."""
        self.post("/v1beta/models/tuned/my-model:generateContent", ok())
        self.assertIn(b"/models/tuned/my-model:", self.world.wire.requests[0].url)
        for model in ("-x", "a..%2fb%20c", "a b", "~x", "x" * 300):
            with self.subTest(model=model):
                answer = self.post(f"/v1beta/models/{model}:generateContent")
                self.assertIn(answer.status, (400, 404))
                self.assertEqual(self.world.wire.requests, [])


class AnswerTests(EdgeCase):
    def test_a_unary_answer_has_its_length_and_its_headers(self) -> None:
        """Upstream's bytes, the gateway's header fields, none of upstream's."""
        exchange = ok()
        exchange.headers = {**exchange.headers, b"set-cookie": b"a=b", b"server": b"ESF", b"alt-svc": b"h3"}
        answer = self.post(PATH, exchange)
        self.assertEqual((answer.body, answer.headers["content-length"]), (ANSWER, str(len(ANSWER))))
        expected = {
            "content-type": "application/json; charset=UTF-8",
            "x-request-id": "id-1",
            "x-antigravity-model": MODEL,
            "x-antigravity-credential": LABEL,
            "x-antigravity-origin": "upstream",
            "cache-control": "no-store",
        }
        self.assertEqual({name: answer.headers.get(name) for name in expected}, expected)
        for name in ("set-cookie", "server", "alt-svc", "x-upstream-trace-id"):
            self.assertNotIn(name, answer.headers)

    def test_an_alias_is_resolved_and_the_resolved_name_is_visible(self) -> None:
        """The journal keeps both."""
        catalog = Catalog(TABLE, {}, aliases=Aliases.build([("gpt-4*", MODEL)]))
        answer = self.post("/v1beta/models/gpt-4o:generateContent", ok(), catalog=catalog)
        self.assertEqual(answer.headers["x-antigravity-model"], MODEL)
        self.assertIn(f"/models/{MODEL}:".encode(), self.world.wire.requests[0].url)
        journal = self.world.ended.journal
        self.assertEqual((journal.requested_model, journal.model), ("gpt-4o", MODEL))

    def test_an_id_that_nobody_lists_goes_upstream_as_it_is(self) -> None:
        """Upstream decides."""
        self.post("/v1beta/models/gemini-99:generateContent", refused(404, "NOT_FOUND"))
        self.assertIn(b"/models/gemini-99:", self.world.wire.requests[0].url)

    def test_a_trace_id_is_a_header_and_not_in_the_body(self) -> None:
        """codeassist: the envelope is taken off."""
        account = member("token", kind="codeassist", upstream="accounts", project="p")
        answer = self.post(PATH, ok(b'{"response":' + ANSWER + b',"traceId":"t-1"}'), members=(account,))
        self.assertEqual((answer.body, answer.headers["x-upstream-trace-id"]), (ANSWER, "t-1"))

    def test_usage_and_finish_reason_are_in_the_journal(self) -> None:
        """With how the request was routed."""
        counts = b'{"promptTokenCount":7,"candidatesTokenCount":2}'
        usage = b'{"candidates":[{"finishReason":"STOP"}],"usageMetadata":' + counts + b"}"
        self.post(PATH, ok(usage))
        end = self.world.ended
        assert end.usage is not None
        self.assertEqual((end.usage.prompt, end.usage.taken, end.finish_reason), (7, 9, "STOP"))
        self.assertEqual((end.status, end.bytes_in, end.bytes_out), (200, len(BODY), len(usage)))
        self.assertEqual((end.journal.credential, end.journal.upstream), (LABEL, "studio"))

    def test_who_called_and_for_what_is_in_the_journal(self) -> None:
        """Whom nobody let in is nobody, and what counts against nobody is nobody's; a method that there is not is
        none.
        """
        right, wrong = ("X-Goog-Api-Key", "right-key"), ("X-Goog-Api-Key", "wrong-key")
        caller = identity(hashlib.sha256(b"right-key").digest())
        for method, path, header, key_id, verb in (
            ("POST", PATH, right, caller, "generateContent"),
            ("POST", PATH.replace("generate", "regenerate"), right, caller, ""),
            ("POST", PATH, wrong, "", ""),
            ("GET", "/healthz", right, "", ""),
        ):
            with self.subTest(method=method, path=path, header=header):
                client = self.begin(ok(), keys=("right-key",))
                client.ask(method, path, BODY if method == "POST" else b"", header)
                journal = self.world.ended.journal
                self.assertEqual((journal.key_id, journal.verb), (key_id, verb))

    def test_an_embedding_passes_through(self) -> None:
        """As do the further verbs of the table that answer at once."""
        for verb in ("embedContent", "batchEmbedContents", "predict"):
            answer = self.post(f"/v1beta/models/m:{verb}", ok(b'{"embedding":{"values":[0.10]}}'))
            self.assertEqual(answer.body, b'{"embedding":{"values":[0.10]}}')

    def test_a_session_id_keeps_requests_on_their_credential(self) -> None:
        """X-Session-Id wins over the first user turn."""
        script = [ok() for _ in range(4)]
        client = self.begin(*script)
        for number in range(4):
            body = json.dumps({"contents": [{"parts": [{"text": f"question {number}"}]}]}).encode()
            client.post(PATH, body, ("X-Session-Id", "s"))
        self.assertEqual(len(set(self.world.wire.keys)), 1)

    def test_sessions_of_two_client_keys_are_two(self) -> None:
        """The same X-Session-Id from another client says nothing about whose conversation it is."""
        client = self.begin(*(ok() for _ in range(4)), keys=("first-key", "second-key"))
        for key in ("first-key", "second-key") * 2:
            client.post(PATH, BODY, ("X-Session-Id", "s"), ("X-Goog-Api-Key", key))
        served = self.world.wire.keys
        self.assertEqual(len({end.journal.session for end in self.world.recorder.ends}), 2)
        self.assertEqual((served[0], served[1]), (served[2], served[3]))
        self.assertNotEqual(served[0], served[1])

    def test_server_timeout_reaches_the_router(self) -> None:
        """X-Server-Timeout; nonsense is ignored."""
        for value, limit in (("5", 5.0), ("0.5", 0.5), ("-1", 600.0), ("nan", 600.0), ("inf", 600.0), ("x", 600.0)):
            with self.subTest(value=value):
                client = self.begin(ok())
                client.post(PATH, BODY, ("X-Server-Timeout", value))
                self.assertEqual(self.world.wire.limits, [limit])


class ErrorTests(EdgeCase):
    def test_an_unknown_path_is_404_in_json(self) -> None:
        """Never HTML; GET, POST and HEAD."""
        for path in ("/", "/nope", "/v1beta", "/v1beta/nope", "/v2/models", "/favicon.ico"):
            with self.subTest(path=path):
                self.is_error(self.get(path), 404, "ROUTE_UNKNOWN")
        client = self.begin()
        client.ask("HEAD", "/nope")
        answer = client.answer(bodyless=True)
        self.assertEqual((answer.status, answer.headers["content-type"]), (404, "application/json; charset=UTF-8"))
        self.assertTrue(client.received.endswith(b"\r\n\r\n"))

    def test_a_wrong_http_method_is_405_with_allow(self) -> None:
        """RFC 9110 section 15.5.6."""
        for method, path, allow in (
            ("POST", "/v1beta/models", "GET, HEAD"),
            ("GET", PATH, "POST"),
            ("DELETE", PATH, "POST"),
            ("POST", "/healthz", "GET, HEAD"),
        ):
            with self.subTest(method=method, path=path):
                client = self.begin()
                client.ask(method, path, b"{}" if method == "POST" else b"")
                answer = client.answer()
                self.is_error(answer, 405, "HTTP_METHOD_WRONG")
                self.assertEqual(answer.headers["allow"], allow)

    def test_an_unknown_verb_is_404_with_the_known_ones(self) -> None:
        """Nothing goes upstream."""
        message = self.is_error(self.post(f"/v1beta/models/{MODEL}:generateContents"), 404, "METHOD_UNKNOWN")
        self.assertIn("generateContent, streamGenerateContent, countTokens", message)
        self.assertNotIn("predictLongRunning", message)

    def test_what_lives_upstream_is_501(self) -> None:
        """Later with affinity; it says so."""
        for method, path in (
            ("POST", "/v1beta/models/veo:predictLongRunning"),
            ("POST", f"/v1beta/models/{MODEL}:batchGenerateContent"),
            ("GET", "/v1beta/files"),
            ("GET", "/v1beta/files/abc"),
            ("POST", "/upload/v1beta/files"),
            ("POST", "/v1beta/cachedContents"),
            ("GET", "/v1beta/batches/1"),
            ("GET", "/v1beta/operations/1"),
            ("GET", "/v1beta/models/veo/operations/1"),
            ("GET", "/v1beta/tunedModels"),
            ("POST", "/v1beta/tunedModels/x:generateContent"),
            ("GET", "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"),
        ):
            with self.subTest(path=path):
                client = self.begin()
                client.ask(method, path, b"{}" if method == "POST" else b"")
                self.is_error(client.answer(), 501, "NOT_SERVED_YET")

    def test_an_unknown_alt_is_400(self) -> None:
        """Before anything goes upstream."""
        self.is_error(self.post(PATH + "?alt=xml"), 400, "ALT_UNKNOWN")

    def test_upstreams_error_is_passed_on_with_its_details(self) -> None:
        """And with who made it, whose it was, and when to come back."""
        limited = refused(429, "RESOURCE_EXHAUSTED", retry_info("30s"), message="slow down")
        answer = self.post(PATH, limited, members=(member("a"),))
        error = answer.json["error"]
        self.assertEqual((answer.status, error["message"], answer.headers["retry-after"]), (429, "slow down", "30"))
        self.assertEqual(answer.headers["x-antigravity-origin"], "upstream")
        self.assertEqual(answer.headers["x-antigravity-credential"], LABEL)
        self.assertIn(retry_info("30s"), error["details"])
        end = self.world.ended
        self.assertEqual((end.status, end.origin, end.reason), (429, "upstream", "RESOURCE_EXHAUSTED"))

    def test_all_cooling_is_429_with_retry_after_and_retry_info(self) -> None:
        """K4: of the earliest."""
        client = self.begin(refused(429, "RESOURCE_EXHAUSTED", retry_info("30s")), members=(member("a"),))
        client.post(PATH)
        self.world.clock.advance(10)
        client.post(PATH)
        _, answer = client.answers()
        self.assertEqual((answer.status, answer.headers["retry-after"]), (429, "20"))
        self.assertIn(retry_info("20s"), answer.json["error"]["details"])
        self.assertEqual(answer.headers["x-antigravity-origin"], "gateway")

    def test_upstreams_html_becomes_googles_json(self) -> None:
        """U17: also from a proxy in between."""
        html = FakeExchange(503, {b"content-type": b"text/html"}, b"<html>502 Bad Gateway</html>")
        answer = self.post(PATH, html, members=(member("a"),))
        self.assertEqual((answer.status, answer.json["error"]["code"]), (503, 503))
        self.assertNotIn(b"<html", answer.body)

    def test_no_answer_from_upstream_is_the_gateways_own_error(self) -> None:
        """C1: with what was tried."""
        answer = self.post(PATH, WireError("connect"), members=(member("a"),))
        self.is_error(answer, 503, "UPSTREAM_UNREACHABLE")

    def test_health_answers_get_and_head(self) -> None:
        """``{"status":"ok"}``; HEAD has its length and no body."""
        self.assertEqual(self.get("/healthz").body, b'{"status":"ok"}')
        client = self.begin()
        client.ask("HEAD", "/healthz")
        answer = client.answer(bodyless=True)
        self.assertEqual((answer.status, answer.headers["content-length"]), (200, "15"))
        self.assertTrue(client.received.endswith(b"\r\n\r\n"))


class OwnFaultTests(EdgeCase):
    def test_a_fault_of_ours_is_500_without_a_traceback(self) -> None:
        """P13: the request id is in the answer and in the log."""

        def explode(_: object) -> Any:
            raise ZeroDivisionError("a secret in a message")

        client = self.begin()
        self.world.wire.by = explode
        client.post(PATH)
        answer = client.answer()
        message = self.is_error(answer, 500, "INTERNAL")
        self.assertIn("id-1", message)
        for word in (b"Traceback", b"ZeroDivision", b"secret", b".py"):
            self.assertNotIn(word, answer.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((self.world.leases, self.world.ended.status), (0, 500))
        client.ask("GET", "/healthz")
        self.assertEqual([one.status for one in client.answers()], [500, 200])

    def test_a_fault_of_ours_while_a_token_is_had_frees_the_lease(self) -> None:
        """P13: at that await too."""
        client = self.begin(members=(member("a", FakeTokens(ZeroDivisionError())),))
        client.post(PATH)
        self.is_error(client.answer(), 500, "INTERNAL")
        self.assertEqual(self.world.leases, 0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_something_cancelled_below_is_no_empty_200(self) -> None:
        """P13: the client is still there, and has to be told something."""
        client = self.begin(CancelledError())
        client.post(PATH)
        self.is_error(client.answer(), 500, "INTERNAL")
        self.flushLoggedErrors(CancelledError)


class ModelListTests(EdgeCase):
    def names(self, answer: Answer) -> list[str]:
        return [model["name"] for model in answer.json["models"]]

    def test_the_list_has_googles_shape(self) -> None:
        """name, displayName = id, limits and methods."""
        answer = self.get("/v1beta/models")
        self.assertEqual(answer.status, 200)
        (flash,) = [model for model in answer.json["models"] if model["name"] == f"models/{MODEL}"]
        self.assertEqual(flash["displayName"], MODEL)
        self.assertEqual(flash["inputTokenLimit"], 1_048_576)
        self.assertIn("generateContent", flash["supportedGenerationMethods"])
        self.assertNotIn("nextPageToken", answer.json)

    def test_pages_follow_one_another_to_the_end(self) -> None:
        """Each model once, in order, in camelCase and in snake_case."""
        everything = self.names(self.get("/v1/models"))
        for size, token in (("pageSize", "pageToken"), ("page_size", "page_token")):
            found: list[str] = []
            target = f"/v1/models?{size}=4"
            while target:
                answer = self.get(target)
                self.assertLessEqual(len(self.names(answer)), 4)
                found += self.names(answer)
                following = answer.json.get("nextPageToken")
                target = f"/v1/models?{size}=4&{token}={following}" if following else ""
            self.assertEqual(found, everything)

    def test_bad_page_arguments_are_400(self) -> None:
        """Never 500."""
        for query, why in (
            ("pageSize=x", "PAGE_SIZE"),
            ("pageSize=-1", "PAGE_SIZE"),
            ("pageSize=--5", "PAGE_SIZE"),
            ("pageSize=-", "PAGE_SIZE"),
            ("pageSize=1.5", "PAGE_SIZE"),
            ("pageSize=99999999999999999999", "PAGE_SIZE"),
            ("pageSize=%D9%A3", "PAGE_SIZE"),
            ("pageToken=%FF", "PAGE_TOKEN"),
            ("pageToken=!!!!!", "PAGE_TOKEN"),
        ):
            with self.subTest(query=query):
                self.is_error(self.get(f"/v1beta/models?{query}"), 400, why)

    def test_one_model_is_found_by_its_id(self) -> None:
        """In every prefix; llama-index asks for it at its start."""
        for path in (f"/v1beta/models/{MODEL}", f"/models/{MODEL}", f"/v1beta/models/models/{MODEL}/"):
            answer = self.get(path)
            self.assertEqual((answer.status, answer.json["name"]), (200, f"models/{MODEL}"))

    def test_an_unknown_model_is_404(self) -> None:
        """In Google's shape."""
        self.is_error(self.get("/v1beta/models/nope"), 404, "MODEL_NOT_LISTED")

    def test_the_list_needs_no_upstream(self) -> None:
        """It is never in a request's way."""
        self.get("/v1beta/models", members=())
        self.assertEqual(self.world.wire.requests, [])


PROMPT, REPLY, TOKEN = "prompt-canary", "answer-canary", "token-canary"
CANARIES = (KEY_CANARY, UPSTREAM_CANARY, TOKEN, PROMPT, REPLY)
CANARY_BODY = json.dumps({"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]}).encode()


class SecrecyTests(EdgeCase):
    """S12: no key, token, prompt or answer in a log event, whatever happens; S10: none in an error's body."""

    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def check(self, client: Client, *, at_least: int = 1) -> None:
        """Look for the canaries in all that was logged, as text, as JSON, and in every field."""
        self.assertGreaterEqual(len(self.events), at_least)
        for entry in self.events:
            shown = [text_line(entry, "debug"), json_line(entry, "debug"), formatEvent(entry)]
            shown += [repr(value) for name, value in entry.items() if not name.startswith("log_")]
            for canary in CANARIES:
                self.assertNotIn(canary, "\n".join(shown))
        for answer in client.answers():
            if answer.status != 200:
                for canary in CANARIES:
                    self.assertNotIn(canary.encode(), answer.body)
        self.flushLoggedErrors()

    def ask(self, *script: Any, path: str = PATH, **changes: Any) -> Client:
        recorder = LogRecorder()
        account = member("b", FakeTokens(TOKEN, TOKEN + "-2"), kind="codeassist", upstream="accounts", project="p")
        self.world = Edge.build(
            *script,
            members=(member("a", FakeTokens(UPSTREAM_CANARY, renewable=False)), account),
            keys=(KEY_CANARY,),
            routing=RoutingConfig(max_attempts=5),
            explains=True,
            **changes,
        )
        self.world.router.recorder = self.world.site.recorder = recorder
        client = self.world.connect()
        client.post(f"{path}?key={KEY_CANARY}", CANARY_BODY, ("Authorization", f"Bearer {KEY_CANARY}"))
        return client

    def test_a_good_answer_leaves_no_trace_of_either_side(self) -> None:
        """One line at info, without the query."""
        good = ok(json.dumps({"candidates": [{"content": {"parts": [{"text": REPLY}]}}]}).encode())
        self.check(self.ask(good))

    def test_a_rotation_over_failures_leaves_none(self) -> None:
        """Upstream's messages may quote the key, the token or the prompt."""
        said = f"API key not valid: {UPSTREAM_CANARY}"
        bad_key = refused(400, "INVALID_ARGUMENT", reason("API_KEY_INVALID"), message=said)
        stale = refused(401, "UNAUTHENTICATED", message=f"token {TOKEN} expired")
        self.check(self.ask(bad_key, stale, refused(401, "UNAUTHENTICATED", message=TOKEN)), at_least=3)

    def test_a_broken_stream_leaves_none(self) -> None:
        """Neither a fault of the road nor an event."""
        exchange = FakeExchange(200, SSE)
        path = f"/v1beta/models/{MODEL}:streamGenerateContent"
        client = self.ask(exchange, path=path)
        exchange.send(sse(event(REPLY)))
        exchange.end(WireError("truncated"))
        client.leave()
        self.check(client)

    def test_an_error_event_shows_none_and_costs_the_credential_its_standing(self) -> None:
        """U2: past the first byte too, upstream's word about the operator's key is not the client's to read."""
        exchange = FakeExchange(200, SSE)
        client = self.ask(exchange, path=f"/v1beta/models/{MODEL}:streamGenerateContent?alt=sse&x=")
        exchange.send(sse(event("first")))
        said = rpc_error(400, "INVALID_ARGUMENT", f"API key not valid: {UPSTREAM_CANARY}", reason("API_KEY_INVALID"))
        exchange.send(sse(said))
        written = client.transport.value()
        self.assertIn(b'data: {"error":', written)
        self.assertIn(b"UPSTREAM_CREDENTIALS_UNAVAILABLE", written)
        self.assertNotIn(UPSTREAM_CANARY.encode(), written)
        out = [one for one in self.world.router.members if self.world.router.standings.quarantined(one.credential)]
        self.assertEqual([one.credential.name for one in out], ["a"])
        client.leave()
        self.check(client)

    def test_an_error_event_that_is_the_clients_is_scrubbed(self) -> None:
        """U17: passed on, less what looks like a secret."""
        exchange = FakeExchange(200, SSE)
        client = self.ask(exchange, path=f"/v1beta/models/{MODEL}:streamGenerateContent?alt=sse&x=")
        exchange.send(sse(event("first")))
        exchange.send(sse(rpc_error(500, "INTERNAL", "of bob@example.com, ya29.a0AfB_byC1234567890abcdef")))
        written = client.transport.value()
        self.assertIn(b'"code":500', written.replace(b" ", b""))
        self.assertNotIn(b"bob@example.com", written)
        self.assertNotIn(b"ya29.a0AfB", written)
        client.leave()
        self.check(client)

    def test_a_client_that_leaves_leaves_none(self) -> None:
        """499."""
        client = self.ask(FakeExchange(200))
        client.leave()
        self.check_events_only()

    def check_events_only(self) -> None:
        text = "".join(text_line(entry, "debug") + json_line(entry, "debug") for entry in self.events)
        for canary in CANARIES:
            self.assertNotIn(canary, text)
        self.assertIn("CLIENT_LEFT", text)

    def test_a_refused_client_leaves_none(self) -> None:
        """401 with a wrong key that is still somebody's secret."""
        self.world = Edge.build(keys=("another",))
        self.world.site.recorder = LogRecorder()
        client = self.world.connect()
        client.post(f"{PATH}?key={KEY_CANARY}", CANARY_BODY, ("x-api-key", KEY_CANARY))
        self.check(client)

    def test_a_fault_of_ours_leaves_none(self) -> None:
        """The traceback is logged without the local variables, which hold all of it."""
        client = self.ask(ZeroDivisionError())
        self.check(client, at_least=2)

    def test_a_body_that_is_no_json_leaves_none(self) -> None:
        """The message says where it goes wrong, and quotes nothing."""
        self.world = Edge.build()
        self.world.site.recorder = LogRecorder()
        client = self.world.connect()
        client.post(PATH, b'{"contents":"' + PROMPT.encode() + b'" ' + PROMPT.encode())
        self.check(client)

    def test_values_do_not_show_bodies_or_secrets(self) -> None:
        """S11: neither a request's nor an event's repr holds what it carries."""
        one = member("a")
        request = one.upstream.prepare(
            call(body=CANARY_BODY), "https://one.example", one.credential, Secret(UPSTREAM_CANARY)
        )
        self.assertNotIn(PROMPT, repr(request))
        self.assertNotIn(REPLY, repr(one.upstream.unwrap(event(REPLY))))


class StreamErrorTests(EdgeCase):
    def test_the_query_decides_the_framing_of_a_stream(self) -> None:
        """More in test_relay."""
        answer = self.post(f"/v1beta/models/{MODEL}:streamGenerateContent?alt=json", stream(event("a")))
        self.assertEqual(answer.body, b"[" + event("a") + b"]")

    def test_a_stream_that_failed_everywhere_has_upstreams_status(self) -> None:
        """Nothing was committed."""
        script = [FakeExchange(200, SSE, sse(rpc_error(429, "RESOURCE_EXHAUSTED", "later"))) for _ in range(2)]
        answer = self.post(f"/v1beta/models/{MODEL}:streamGenerateContent?alt=sse", *script)
        self.assertEqual((answer.status, answer.json["error"]["message"]), (429, "later"))
