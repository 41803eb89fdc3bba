"""The clients' site over a transport: decisions at the end of the head, limits, refusals, pipelining, draining."""

from __future__ import annotations

from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IProtocolFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web import server
from twisted.web.iweb import IRequest
from zope.interface.verify import verifyClass, verifyObject

from gateway.config import Limits, Timeouts
from gateway.edge.api import STEP_BYTES
from gateway.edge.head import FIELDS_MOST
from gateway.edge.reading import READ_BYTES
from gateway.edge.request import LINGER_SECONDS, GatewayRequest
from gateway.edge.site import KEEP_SECONDS
from gateway.folding import unfolded
from tests.fakes import ANSWER, BODY, SSE, Answer, Client, Edge, FakeExchange, event, ok, refused, sse

PATH = "/v1beta/models/gemini-2.5-flash:generateContent"
STREAM = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
KEY = ("x-goog-api-key", "right-key")
IDLE_SECONDS = Timeouts().keep_alive
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class SiteCase(SynchronousTestCase):
    def begin(self, *script: Any, **changes: Any) -> Client:
        self.world = Edge.build(*script, **changes)
        self.client = self.world.connect()
        return self.client

    def is_refusal(self, answer: Answer, code: int, reason: str) -> None:
        """Check that an answer is a refusal of the gateway's in Google's shape with all of its headers."""
        self.assertEqual(answer.status, code)
        self.assertEqual(answer.headers["content-type"], "application/json; charset=UTF-8")
        error = answer.json["error"]
        self.assertEqual((error["code"], error["details"][0]["reason"]), (code, reason))
        self.assertEqual(error["details"][0]["domain"], "antigravity.gateway")
        self.assertTrue(error["message"] and error["status"])
        self.has_headers(answer, "gateway")
        self.assertNotIn(b"<html", answer.body)

    def has_headers(self, answer: Answer, origin: str) -> None:
        self.assertTrue(answer.headers["x-request-id"].startswith("id-"))
        self.assertEqual(answer.headers["x-antigravity-origin"], origin)
        self.assertEqual(answer.headers["cache-control"], "no-store")
        self.assertEqual(answer.headers["x-content-type-options"], "nosniff")
        self.assertIn("date", answer.headers)
        self.assertNotIn("server", answer.headers)


class AuthenticationTests(SiteCase):
    def test_every_carrier_of_the_right_key_is_enough(self) -> None:
        """L12: four places, and a wrong key in another does not spoil it."""
        carriers: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
            ("", (KEY,)),
            ("", (("x-api-key", "right-key"),)),
            ("", (("Authorization", "Bearer right-key"),)),
            ("", (("authorization", "bearer  right-key"),)),
            ("?key=right-key", ()),
            ("?key=wrong", (KEY,)),
            ("", (("x-goog-api-key", "wrong"), KEY)),
        )
        for query, headers in carriers:
            with self.subTest(query=query, headers=headers):
                client = self.begin(ok(), keys=("other-key", "right-key"))
                client.post(PATH + query, BODY, *headers)
                self.assertEqual(client.answer().status, 200)

    def test_no_key_and_a_wrong_key_get_the_same_401(self) -> None:
        """L12: with WWW-Authenticate, in Google's shape."""
        bodies = set()
        for headers in ((), (("x-goog-api-key", "wrong"),), (("x-goog-api-key", ""),), (("Authorization", "Basic x"),)):
            client = self.begin(keys=("right-key",))
            client.post(PATH, BODY, *headers)
            answer = client.answer()
            self.is_refusal(answer, 401, "CLIENT_KEY_INVALID")
            self.assertIn("Bearer", answer.headers["www-authenticate"])
            self.assertEqual(self.world.wire.requests, [])
            bodies.add(answer.body)
        self.assertEqual(len(bodies), 1)

    def test_odd_keys_are_wrong_keys(self) -> None:
        """L12: of a megabyte, beyond ASCII, two different ones, in every carrier; the answers differ in nothing."""
        long = "k" * 1_000_000
        limits = Limits(head=1024 * 1024)
        bodies = set()
        for headers in (
            [("x-goog-api-key", long)], [("x-api-key", long)], [("Authorization", "Bearer " + long)],
            [("x-goog-api-key", "schl\xfcssel")], [("Authorization", "Bearer \xff\xfe")], [("Authorization", "Bearer")],
            [("x-goog-api-key", "wrong"), ("x-api-key", "other")], [("Authorization", "right-key")],
            [("x-goog-api-key", "right-key "[:-2])], [("x-goog-api-key", "right-keyright-key")],
        ):  # fmt: skip
            client = self.begin(keys=("right-key",), limits=limits)
            client.post(PATH, BODY, *headers)
            self.is_refusal(client.answer(), 401, "CLIENT_KEY_INVALID")
            bodies.add(client.answer().body)
        client = self.begin(keys=("right-key",), limits=limits)
        client.post(PATH + "?key=wrong&key=%FF%00", BODY)
        bodies.add(client.answer().body)
        self.assertEqual(len(bodies), 1)

    def test_a_401_is_written_when_the_head_ends_and_the_body_is_let_pass(self) -> None:
        """L8: a client that is cut off while it writes would see a broken pipe and no 401."""
        client = self.begin(keys=("right-key",))
        client.ask("POST", PATH, length=20_000_000)
        answer = client.answer()
        self.is_refusal(answer, 401, "CLIENT_KEY_INVALID")
        self.assertEqual(answer.headers["connection"], "close")
        for _ in range(20):
            client.send(bytes(1_000_000))
            self.assertEqual(client.answer().status, 401)
        self.assertTrue(client.dropped)
        end = self.world.ended
        self.assertEqual((end.status, end.reason, end.bytes_in), (401, "CLIENT_KEY_INVALID", 20_000_000))

    def test_a_refused_body_is_not_kept(self) -> None:
        """L8: it passes through."""
        client = self.begin(keys=("right-key",))
        client.ask("POST", PATH, length=1_000_000)
        client.send(bytes(500_000))
        (request,) = client.protocol.requests
        self.assertEqual(request.body().whole().text, b"")
        self.assertIsNone(request.content)

    def test_a_refused_client_that_goes_on_for_long_is_cut_off(self) -> None:
        """L8: there is a deadline, and a limit of bytes."""
        client = self.begin(keys=("right-key",))
        client.ask("POST", PATH, length=20_000_000)
        self.world.clock.advance(LINGER_SECONDS - 0.1)
        self.assertFalse(client.dropped)
        self.world.clock.advance(0.2)
        self.assertTrue(client.dropped)
        client = self.begin(keys=("right-key",), limits=Limits(body=1000))
        client.ask("POST", PATH, b"", ("Transfer-Encoding", "chunked"))
        client.send(b"400\r\n" + bytes(1024) + b"\r\n")
        self.assertTrue(client.dropped)

    def test_an_expectant_client_that_is_refused_is_not_told_to_continue(self) -> None:
        """L8: no 100 before, nor after, the 401."""
        client = self.begin(keys=("right-key",))
        client.ask("POST", PATH, b"", ("Expect", "100-continue"), length=100)
        self.assertNotIn(b"100 Continue", client.received)
        self.assertEqual(client.answer().status, 401)

    def test_an_expectant_client_that_is_admitted_is_told_to_continue(self) -> None:
        """RFC 9110 section 10.1.1."""
        client = self.begin(ok(), keys=("right-key",))
        client.ask("POST", PATH, b"", KEY, ("Expect", "100-continue"), length=len(BODY))
        self.assertEqual(client.received, CONTINUE)
        client.send(BODY)
        self.assertEqual([answer.status for answer in client.answers()], [100, 200])

    def test_health_needs_no_key_unless_the_mode_is_strict(self) -> None:
        """``all_except_health`` and ``strict``."""
        for open_health, status in ((True, 200), (False, 401)):
            client = self.begin(keys=("right-key",), open_health=open_health)
            client.ask("GET", "/healthz")
            self.assertEqual(client.answer().status, status)

    def test_a_bad_path_without_a_key_is_401(self) -> None:
        """What exists is nobody's business who has no key."""
        client = self.begin(keys=("right-key",))
        client.ask("GET", "/../etc/passwd")
        self.assertEqual(client.answer().status, 401)


class BodyTests(SiteCase):
    def test_a_length_over_the_limit_is_413_before_any_of_it(self) -> None:
        """L8: nor is an expectant client told to continue."""
        client = self.begin(limits=Limits(body=1000))
        client.ask("POST", PATH, b"", ("Expect", "100-continue"), length=1001)
        self.is_refusal(client.answer(), 413, "BODY_TOO_LARGE")

    def test_an_encoded_body_is_415_before_any_of_it(self) -> None:
        """C15: so that no small body unpacks to a large one; identity is no encoding, and a key comes first."""
        for value, status in (("gzip", 415), ("identity, br", 415), ("GZIP", 415), ("identity", 200), ("", 200)):
            with self.subTest(value=value):
                client = self.begin(ok())
                client.post(PATH, BODY, ("Content-Encoding", value))
                self.assertEqual(client.answer().status, status)
        client = self.begin()
        client.ask("POST", PATH, b"", ("Content-Encoding", "gzip"), ("Expect", "100-continue"), length=10**9)
        self.is_refusal(client.answer(), 415, "CONTENT_ENCODED")
        self.assertEqual(client.answer().headers["accept-encoding"], "identity")
        client = self.begin(keys=("right-key",))
        client.post(PATH, BODY, ("Content-Encoding", "gzip"))
        self.is_refusal(client.answer(), 401, "CLIENT_KEY_INVALID")

    def test_chunks_over_the_limit_are_413(self) -> None:
        """L8: as soon as they are; nothing goes upstream."""
        client = self.begin(limits=Limits(body=1000))
        client.ask("POST", PATH, b"", ("Transfer-Encoding", "chunked"))
        client.send(b"3e8\r\n" + bytes(1000) + b"\r\n")
        self.assertEqual(client.received, b"")
        client.send(b"1\r\nx\r\n")
        self.is_refusal(client.answer(), 413, "BODY_TOO_LARGE")
        self.assertEqual(self.world.wire.requests, [])

    def test_a_body_at_the_limit_is_taken(self) -> None:
        """By length and by chunks."""
        limits = Limits(body=len(BODY))
        client = self.begin(ok(), ok(), limits=limits)
        client.post(PATH)
        client.ask("POST", PATH, b"", ("Transfer-Encoding", "chunked"))
        client.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY))
        self.assertEqual([answer.status for answer in client.answers()], [200, 200])
        self.assertEqual([request.body for request in self.world.wire.requests], [BODY, BODY])

    def test_a_body_in_many_pieces_goes_upstream_byte_for_byte(self) -> None:
        """L10: what is relayed is the client's bytes, not a re-encoding."""
        body = b'{ "contents" : [{"parts":[{"text":"gr\xc3\xbc\xc3\x9fe \\u00fc"}]}], "n": 1.50, "a": 1, "a": 2 }'
        client = self.begin(ok())
        client.ask("POST", PATH, length=len(body))
        for at in range(len(body)):
            client.send(body[at : at + 1])
        self.assertEqual(client.answer().status, 200)
        self.assertEqual(self.world.wire.requests[0].body, body)

    def test_what_is_no_json_object_is_400_and_nobody_is_blamed(self) -> None:
        """L10: nothing goes upstream."""
        bodies = {
            "empty": b"",
            "not JSON": b"{",
            "a list": b"[]",
            "a string": b'"x"',
            "NaN": b'{"a":NaN}',
            "bad UTF-8": b'{"a":"\xff"}',
            "overlong UTF-8": b'{"a":"\xc0\xaf"}',
            "cut UTF-8": b'{"a":"\xc3',
            "a BOM": b"\xef\xbb\xbf{}",
            "too deep": b'{"a":' + b"[" * 100 + b"]" * 100 + b"}",
            "far too deep": b"[" * 100_000,
            "two objects": b"{}{}",
            "Infinity": b'{"a":-Infinity}',
            "beyond doubles": b'{"a":1e999}',
            "5,000 digits": b'{"a":' + b"1" * 5000 + b"}",
            "a lone surrogate": b'{"a":"\\ud800"}',
            "a lone surrogate in a name": b'{"\\udfff":1}',
        }
        for name, body in bodies.items():
            with self.subTest(name=name):
                client = self.begin()
                client.ask("POST", PATH, body, length=len(body))
                answer = client.answer()
                self.is_refusal(answer, 400, "BODY_NOT_JSON")
                self.assertEqual(answer.json["error"]["status"], "INVALID_ARGUMENT")
                self.assertEqual(self.world.wire.requests, [])
                self.assertEqual(self.world.recorder.attempts, [])

    def test_of_a_name_that_comes_twice_the_last_value_counts(self) -> None:
        """L10: as in Google's parser, which gets both; so it makes no difference to anybody who reads which."""
        body = b'{"contents":[1],"contents":[{"parts":[{"text":"a"}]}],"x":{"a":1,"a":2}}'
        client = self.begin(ok())
        client.post(PATH, body)
        self.assertEqual(client.answer().status, 200)
        self.assertEqual(self.world.wire.requests[0].body, body)

    def test_a_body_as_deep_as_googles_parser_goes_is_taken(self) -> None:
        """L10: a hundred levels."""
        client = self.begin(ok())
        client.post(PATH, b'{"a":' + b"[" * 99 + b"]" * 99 + b"}")
        self.assertEqual(client.answer().status, 200)

    def test_a_body_that_is_bad_early_is_refused_early(self) -> None:
        """L10: not after megabytes of it."""
        client = self.begin()
        client.ask("POST", PATH, length=10_000_000)
        client.send(b'{"a":"\xff')
        self.is_refusal(client.answer(), 400, "BODY_NOT_JSON")

    def test_a_large_body_is_read_in_steps(self) -> None:
        """L10: others have their turn in between, and a client that leaves meanwhile is not sent upstream."""
        body = b'{"contents":[{"parts":[{"text":"' + b"a" * STEP_BYTES + b'"}]}]}'
        client = self.begin(ok())
        client.post(PATH, body)
        self.assertEqual(self.world.wire.requests, [])
        self.world.clock.advance(0)
        self.assertEqual(client.answer().status, 200)
        self.assertEqual(self.world.wire.requests[0].body, body)
        client = self.begin(ok())
        client.post(PATH, body)
        client.leave()
        self.world.clock.advance(0)
        self.assertEqual((self.world.wire.requests, self.world.ended.reason), ([], "CLIENT_LEFT"))

    def test_an_image_is_not_read_and_arrives_unchanged(self) -> None:
        """What is left to read of a body of megabytes is small, and upstream is sent all of it, at a second try too."""
        body = b'{"contents":[{"parts":[{"inlineData":{"data":"' + b"QUFB" * STEP_BYTES + b'"}}]}]}'
        client = self.begin(refused(503), ok())
        client.ask("POST", PATH, length=len(body))
        self.assertEqual(client.transport.bufferSize, READ_BYTES)
        for at in range(0, len(body), 65536):
            client.send(body[at : at + 65536])
        self.assertEqual(client.transport.bufferSize, FileDescriptor.bufferSize)
        self.assertEqual(client.answer().status, 200)
        self.assertEqual(len(self.world.wire.requests), 2)
        for request in self.world.wire.requests:
            self.assertLess(len(request.body), 200_000)
            self.assertTrue(b"".join(unfolded(request.body, request.folds)) == body)

    def test_an_image_is_put_where_it_belongs_as_it_comes(self) -> None:
        """What is read from a socket into its place is checked there, and is the same body as ever."""
        rest = b'"}}]}]}'
        for image, status in ((b"QUFB" * 500_000, 200), (b"QUFB" * 400_000 + b"\n" + b"QUFB" * 99_999 + b"QUF", 400)):
            body = b'{"contents":[{"parts":[{"text":"\xc3\xa9"},{"inlineData":{"data":"' + image + rest
            client = self.begin(ok())
            client.ask("POST", PATH, length=len(body))
            client.send(body[:100_000])
            at, places = 100_000, 0
            while at < len(body):
                place = client.protocol.place()
                if place is None:
                    client.send(body[at : at + 50_000])
                    at += 50_000
                    continue
                count = min(len(place), len(body) - at)
                place[:count] = body[at : at + count]
                client.protocol.placed(place[:count])
                at, places = at + count, places + 1
            self.assertEqual(client.answer().status, status)
            self.assertGreater(places, 4)
            self.assertEqual(self.world.ended.bytes_in, len(body))
            for request in self.world.wire.requests:
                self.assertLess(len(request.body), 1000)
                self.assertTrue(b"".join(unfolded(request.body, request.folds)) == body)

    def test_a_client_that_leaves_within_its_body_is_499(self) -> None:
        """L1: nothing was told to it."""
        client = self.begin()
        client.ask("POST", PATH, length=100)
        client.send(b'{"a"')
        client.leave()
        end = self.world.ended
        self.assertEqual((end.status, end.reason, end.bytes_in), (499, "CLIENT_LEFT", 4))
        self.assertEqual(self.world.site.busy, 0)

    def test_a_client_that_falls_silent_within_its_body_is_dropped(self) -> None:
        """L4: it does not hold the connection for ever."""
        client = self.begin()
        client.ask("POST", PATH, length=100)
        self.world.clock.advance(IDLE_SECONDS)
        self.assertTrue(client.dropped)


class HeadTests(SiteCase):
    def test_a_long_target_is_414(self) -> None:
        """L9: over the limit by one byte; at the limit it is looked up."""
        limits = Limits(target=100)
        for length, status in ((100, 404), (101, 414)):
            with self.subTest(length=length):
                client = self.begin(limits=limits)
                client.ask("GET", "/" + "a" * (length - 1))
                self.assertEqual(client.answer().status, status)
        self.is_refusal(client.answer(), 414, "TARGET_TOO_LONG")

    def test_a_target_longer_than_any_head_is_414(self) -> None:
        """L9: also where the request line never ends."""
        client = self.begin()
        client.send(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.is_refusal(client.answer(), 414, "TARGET_TOO_LONG")
        client = self.begin()
        client.send(b"GET /" + b"a" * 20_000)
        self.is_refusal(client.answer(), 414, "TARGET_TOO_LONG")

    def test_a_large_head_is_431(self) -> None:
        """L9: one field that is too long, or many."""
        for headers in (
            [("X-Long", "a" * 20_000)],
            [(f"X-{number}", "a" * 200) for number in range(99)],
            [(f"X-{number}", "a") for number in range(FIELDS_MOST + 1)],
        ):
            client = self.begin()
            client.ask("GET", "/healthz", b"", *headers)
            self.is_refusal(client.answer(), 431, "HEAD_TOO_LARGE")
            self.assertTrue(client.dropped)

    def test_a_wider_limit_of_the_head_is_kept_for_a_single_field(self) -> None:
        """L9: ``limits.head`` counts, not the line reader's own."""
        client = self.begin(limits=Limits(head=64 * 1024))
        client.ask("GET", "/healthz", b"", ("X-Long", "a" * 40_000))
        self.assertEqual(client.answer().status, 200)
        client = self.begin(limits=Limits(head=64 * 1024))
        client.ask("GET", "/healthz", b"", ("X-Long", "a" * 70_000))
        self.is_refusal(client.answer(), 431, "HEAD_TOO_LARGE")

    def test_what_is_no_http_is_400(self) -> None:
        """L7: in JSON, and the connection closes."""
        for junk, reason in (
            (b"nonsense\r\n\r\n", "HTTP_MALFORMED"),
            (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", "HTTP_MALFORMED"),
            (b"GET / HTTP/1.1\r\nX-A: a\x00b\r\n\r\n", "HTTP_MALFORMED"),
            (b"GET / HTTP/1.1\r\n\r\n", "HOST_MISSING"),
        ):
            with self.subTest(junk=junk):
                client = self.begin()
                client.send(junk)
                self.is_refusal(client.answer(), 400, reason)
                self.assertEqual(client.answer().headers["connection"], "close")
                self.assertTrue(client.dropped)
                self.assertEqual(self.world.wire.requests, [])

    def test_a_bad_chunk_is_400_and_reaches_nobody(self) -> None:
        """L7: the request is over and reported."""
        client = self.begin()
        client.ask("POST", PATH, b"", ("Transfer-Encoding", "chunked"))
        client.send(b"zz\r\n")
        self.is_refusal(client.answer(), 400, "CHUNK_INVALID")
        client.leave()
        self.assertEqual((self.world.wire.requests, self.world.site.busy), ([], 0))
        self.assertEqual((self.world.ended.status, self.world.ended.reason), (400, "CHUNK_INVALID"))

    def test_an_unknown_http_method_is_501(self) -> None:
        """L9, L15: nothing is tunnelled."""
        for method in ("BREW", "CONNECT", "TRACE", "get"):
            client = self.begin()
            client.ask(method, "/healthz")
            self.is_refusal(client.answer(), 501, "METHOD_UNKNOWN")

    def test_an_upgrade_is_ignored(self) -> None:
        """L15: the answer is an ordinary one."""
        client = self.begin()
        client.ask("GET", "/healthz", b"", ("Connection", "Upgrade"), ("Upgrade", "websocket"))
        self.assertEqual(client.answer().status, 200)

    def test_a_path_that_climbs_is_400(self) -> None:
        """L11: it is no route of ours, however it is written."""
        for path in ("/v1beta/../x", "/%2e%2e/x", "/v1beta/models/%00", "/v1beta/models/a%0d%0ab", "/%ff"):
            with self.subTest(path=path):
                client = self.begin()
                client.ask("GET", path)
                self.is_refusal(client.answer(), 400, "PATH_INVALID")

    def test_the_absolute_form_is_its_path(self) -> None:
        """RFC 9112 section 3.2.2; its host has no part in routing, and has to be one of the gateway's as well."""
        for target, status in (("http://LOCALHOST:80/healthz?x=1", 200), ("http://elsewhere.example/healthz", 403)):
            client = self.begin()
            client.ask("GET", target)
            self.assertEqual(client.answer().status, status)


class PipeliningTests(SiteCase):
    def test_pipelined_requests_are_answered_in_order(self) -> None:
        """L6: one at a time, also where the first takes long."""
        client = self.begin()
        first, second = self.world.wire.hold(), self.world.wire.hold()
        self.world.wire.script = [first, second]
        client.post(PATH)
        client.post(PATH)
        client.ask("GET", "/healthz")
        self.assertEqual((len(self.world.wire.requests), client.received), (1, b""))
        first.callback(ok(b'{"n":1}'))
        self.assertEqual(len(self.world.wire.requests), 2)
        second.callback(ok(b'{"n":2}'))
        self.assertEqual([answer.body for answer in client.answers()], [b'{"n":1}', b'{"n":2}', b'{"status":"ok"}'])

    def test_what_follows_a_refused_request_is_not_read(self) -> None:
        """L6: its body might have been meant for a request."""
        client = self.begin(keys=("right-key",))
        client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.ask("GET", "/v1beta/models")
        client.ask("GET", "/healthz")
        self.assertEqual([answer.status for answer in client.answers()], [200, 401])
        self.assertTrue(client.dropped)

    def test_a_good_request_before_a_malformed_one_is_answered(self) -> None:
        """L6: then 400 and a close."""
        client = self.begin(ok())
        client.post(PATH)
        client.send(b"junk\r\n\r\n")
        self.assertEqual([answer.status for answer in client.answers()], [200, 400])
        self.assertTrue(client.dropped)

    def test_an_idle_connection_is_closed(self) -> None:
        """After a while, and without an answer that nobody asked for."""
        client = self.begin()
        client.ask("GET", "/healthz")
        self.world.clock.advance(IDLE_SECONDS)
        self.assertTrue(client.dropped)
        self.assertEqual(len(client.answers()), 1)

    def test_a_slow_answer_is_no_idle_connection(self) -> None:
        """The timer stands still while upstream works."""
        client = self.begin()
        held = self.world.wire.hold()
        self.world.wire.script = [held]
        client.post(PATH)
        self.world.clock.advance(IDLE_SECONDS * 5)
        self.assertFalse(client.dropped)
        held.callback(ok())
        self.assertEqual(client.answer().body, ANSWER)


class DrainTests(SiteCase):
    def test_an_idle_site_is_drained_at_once(self) -> None:
        """P1: nothing is under way."""
        self.begin()
        self.client.leave()
        self.successResultOf(self.world.site.drained(60))
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_a_request_under_way_is_answered_before_the_site_is_drained(self) -> None:
        """P1: its answer says that it is the connection's last, and the connection closes after it."""
        client = self.begin()
        held = self.world.wire.hold()
        self.world.wire.script = [held]
        client.post(PATH)
        self.world.site.stop_soon()
        self.assertFalse(client.dropped)
        drained = self.world.site.drained(60)
        held.callback(ok())
        answer = client.answer()
        self.assertEqual((answer.status, answer.headers["connection"]), (200, "close"))
        self.assertTrue(client.dropped)
        client.leave()
        self.successResultOf(drained)

    def test_an_idle_connection_is_kept_for_a_moment_and_its_request_answered(self) -> None:
        """P1: whoever is just sending does not lose the request; the answer is the connection's last."""
        client, silent = self.begin(ok()), self.world.connect()
        self.world.site.stop_soon()
        drained = self.world.site.drained(60)
        self.world.clock.advance(KEEP_SECONDS * 0.9)
        self.assertFalse(client.dropped or silent.dropped)
        client.post(PATH)
        answer = client.answer()
        self.assertEqual((answer.status, answer.headers["connection"]), (200, "close"))
        self.assertTrue(client.dropped)
        self.world.clock.advance(KEEP_SECONDS * 0.2)
        self.assertTrue(silent.dropped)
        self.assertNoResult(drained)
        client.leave()
        silent.leave()
        self.successResultOf(drained)

    def test_an_answer_that_had_begun_leaves_its_connection_for_a_moment(self) -> None:
        """P1: it could not say that it is the last, so the client may be sending the next request already."""
        upstream = FakeExchange(200, SSE)
        client = self.begin(upstream, ok())
        client.post(STREAM)
        upstream.send(sse(event("one")))
        self.world.site.stop_soon()
        upstream.end()
        self.assertFalse(client.dropped)
        client.post(PATH)
        begun, last = client.answers()
        self.assertEqual(("connection" in begun.headers, last.headers["connection"]), (False, "close"))
        self.assertTrue(client.dropped)

    def test_draining_ends_at_once_when_it_is_cancelled(self) -> None:
        """P1: a second signal does not wait for anybody."""
        client = self.begin()
        self.world.wire.script = [self.world.wire.hold()]
        client.post(PATH)
        drained = self.world.site.drained(60)
        drained.cancel()
        self.successResultOf(drained)
        self.world.site.abort_all()
        client.leave()
        self.assertEqual([end.reason for end in self.world.recorder.ends], ["GATEWAY_STOPPED"])
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_draining_ends_when_its_time_is_over_and_the_rest_is_cut_off(self) -> None:
        """P1: visibly, by a reset."""
        client = self.begin()
        self.world.wire.script = [self.world.wire.hold()]
        client.post(PATH)
        drained = self.world.site.drained(60)
        self.world.clock.advance(59.9)
        self.assertNoResult(drained)
        self.world.clock.advance(0.2)
        self.successResultOf(drained)
        self.world.site.abort_all()
        self.assertTrue(client.reset)
        client.leave()
        self.assertEqual((self.world.leases, self.world.site.busy), (0, 0))


class InterfaceTests(SiteCase):
    def test_the_site_is_a_factory_and_its_requests_are_requests(self) -> None:
        """Twisted's interfaces."""
        self.begin()
        self.assertTrue(verifyObject(IProtocolFactory, self.world.site))
        self.assertTrue(verifyClass(IRequest, GatewayRequest, tentative=True))

    def test_a_request_has_all_that_twisteds_own_has(self) -> None:
        """Whoever of Twisted's looks at it finds what its own constructor would have set."""
        channel = self.begin().protocol
        own = GatewayRequest(channel)
        for name in vars(server.Request(channel, parsePOSTFormSubmission=False)):
            self.assertTrue(hasattr(own, name), name)
        self.assertFalse(hasattr(own, "nothing_of_that_name"))
        own.responseHeaders.addRawHeader(b"a", b"b")
        self.assertEqual(own.responseHeaders.getRawHeaders(b"a"), [b"b"])

    def test_every_request_is_reported_once(self) -> None:
        """Whatever became of it; and none is under way any more."""
        client = self.begin(ok(), keys=("right-key",))
        client.post(PATH, BODY, KEY)
        client.ask("GET", "/nowhere", b"", KEY)
        client.ask("GET", "/v1beta/models")
        client.leave()
        self.assertEqual([end.status for end in self.world.recorder.ends], [200, 404, 401])
        self.assertEqual(self.world.site.busy, 0)

    def test_a_disconnection_without_a_request_is_reported_by_nobody(self) -> None:
        """A port scan is no request."""
        client = self.begin()
        client.send(b"GET / HT")
        client.protocol.connectionLost(Failure(ConnectionResetError()))
        self.assertEqual((self.world.recorder.ends, self.world.site.busy), ([], 0))
