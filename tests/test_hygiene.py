"""What of a client's reaches upstream, and of upstream's a client: lists of what may, no more (S16, S17, L11)."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from tests.fakes import ANSWER, BODY, JSON, SSE, Answer, Edge, FakeExchange, event, member, ok, refused, sse
from tests.processes import GENERATE, MODEL, STREAM, DaemonCase, aistudio, prompt, reactor
from tests.processes import SSE as SSE_TARGET

KEYS = {"aistudio": b"x-goog-api-key", "codeassist": b"authorization", "vertex": b"authorization"}
SENT = {b"content-type", b"user-agent", b"accept-encoding"}
"""What goes upstream beside what authenticates."""
FOREIGN = (
    ("Cookie", "a=canary"), ("X-Forwarded-For", "canary"), ("X-Forwarded-Host", "canary"), ("Forwarded", "for=canary"),
    ("X-Real-IP", "canary"), ("Via", "1.1 canary"), ("X-Goog-User-Project", "canary"), ("X-Goog-Api-Client", "canary"),
    ("User-Agent", "canary"), ("Referer", "canary"), ("X-Hop", "canary"), ("Connection", "x-hop, keep-alive"),
    ("Proxy-Authorization", "Basic canary"), ("Upgrade", "canary"), ("Accept", "canary/x"), ("Accept-Encoding", "br"),
    ("Content-Type", "text/canary"), ("X-HTTP-Method-Override", "DELETE"), ("Authorization", "Bearer canary"),
    ("x-api-key", "canary"), ("x-goog-api-key", "canary"), ("X-Session-Id", "canary"), ("Trace-Canary", "1"),
)  # fmt: skip
HOSTILE = {
    b"set-cookie": b"a=canary", b"server": b"canary", b"alt-svc": b"canary", b"via": b"canary", b"location": b"/canary",
    b"access-control-allow-origin": b"*", b"strict-transport-security": b"canary", b"x-request-id": b"canary",
    b"x-antigravity-origin": b"canary", b"connection": b"canary", b"link": b"canary", b"x-content-canary": b"1",
    b"www-authenticate": b"Basic canary", b"content-encoding": b"identity", b"content-disposition": b"canary",
    b"transfer-encoding": b"canary", b"trailer": b"canary", b"refresh": b"0; canary", b"cache-control": b"public",
}  # fmt: skip
ANSWERED = {
    "date", "content-type", "content-length", "transfer-encoding", "connection", "cache-control",
    "x-content-type-options", "x-request-id", "x-antigravity-origin", "x-antigravity-model", "x-antigravity-credential",
    "x-upstream-trace-id", "retry-after", "x-accel-buffering",
}  # fmt: skip
URL = re.compile(rb"https://one\.example/v1(?:beta|alpha)?/models/[A-Za-z0-9][A-Za-z0-9._@+/-]*:[A-Za-z]+(?:\?alt=sse)?")
ODD = st.sampled_from(
    [b"..", b".", b"/", b"//", b"%2e", b"%2E%2e", b"%2f", b"%5c", b"\\", b"%00", b"%0d%0a", b"%25", b"%", b":", b"%3A",
     b"@", b"#", b"?", b"key=a", b"&", b";", b"models", b"v1beta", b"v1", b"gemini-2.5-flash", b"generateContent",
     b"streamGenerateContent", b"http://evil.example", b"evil.example", b" ", b"%20", b"+", b"~", b"\xff", b"%ff", b"a"]
)  # fmt: skip


class RequestTests(SynchronousTestCase):
    """S16: what goes upstream is made from a list."""

    def sent(self, kind: str, target: str = GENERATE) -> Any:
        answer = b'{"response":' + ANSWER + b"}" if kind == "codeassist" else ANSWER
        stands = FakeExchange(200, SSE, sse(answer)) if "alt=sse" in target else ok(answer)
        world = Edge.build(stands, members=(member("token", kind=kind, project="p", upstream=kind),))
        client = world.connect()
        client.post(target, BODY, *FOREIGN)
        self.assertEqual(client.answers()[0].status, 200, client.received)
        (request,) = world.wire.requests
        return request

    def test_nothing_of_a_clients_head_goes_upstream(self) -> None:
        """S16: of any kind of upstream, unary and streamed."""
        for kind, key in KEYS.items():
            for target in (GENERATE, SSE_TARGET):
                request = self.sent(kind, target)
                self.assertEqual({name for name, _ in request.headers}, {*SENT, key}, kind)
                self.assertEqual(len(request.headers), len(SENT) + 1)
                shown = request.url + b"".join(value for _, value in request.headers)
                self.assertNotIn(b"canary", shown.lower())

    @settings(max_examples=300, deadline=None)
    @given(st.lists(ODD, max_size=8), st.booleans())
    def test_whatever_the_path_upstreams_is_one_of_a_few_shapes(self, parts: list[bytes], slashes: bool) -> None:
        """L11: host, version, model and method each from their own alphabet; or nothing goes upstream at all."""
        world = Edge.build(FakeExchange(200, JSON, ANSWER), FakeExchange(200, SSE, sse(ANSWER)))
        client = world.connect()
        path = (b"/" if slashes else b"").join(parts)
        client.send(b"POST /%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (path, len(BODY), BODY))
        for request in world.wire.requests:
            self.assertRegex(request.url, rb"\A" + URL.pattern + rb"\Z")
            self.assertNotIn(b"..", request.url)
            self.assertNotIn(b"//", request.url[8:])
        for answer in client.answers():
            self.assertNotEqual(answer.status // 100, 5 if answer.status != 501 else 0, client.received)


class AnswerTests(SynchronousTestCase):
    """S17: what a client sees is made from a list."""

    def answered(self, exchange: FakeExchange, target: str) -> Answer:
        exchange.headers = {**HOSTILE, **exchange.headers}
        client = Edge.build(exchange, members=(member("a"),)).connect()
        client.post(target)
        return client.answer()

    def test_nothing_of_upstreams_head_reaches_a_client(self) -> None:
        """S17: with a good answer, a stream, an error and a redirect."""
        for exchange, target, status in (
            (ok(), GENERATE, 200),
            (FakeExchange(200, SSE, sse(event("a"))), SSE_TARGET, 200),
            (FakeExchange(200, SSE, sse(event("a"))), STREAM, 200),
            (refused(400, "INVALID_ARGUMENT"), GENERATE, 400),
            (refused(429, "RESOURCE_EXHAUSTED", retry_after="7"), GENERATE, 429),
            (FakeExchange(302, {}, b"canary"), GENERATE, 502),
        ):
            answer = self.answered(exchange, target)
            self.assertEqual(answer.status, status)
            self.assertLessEqual(set(answer.headers), ANSWERED)
            self.assertNotIn("canary", repr(answer.headers))
            self.assertEqual(answer.headers["cache-control"], "no-store")
            self.assertEqual(answer.headers["x-content-type-options"], "nosniff")


class Canary(Protocol):
    """An upstream that keeps every byte that comes and answers each request with the least."""

    received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if not self.received.endswith(prompt()):
            return
        self.factory.received.append(self.received)  # type: ignore[union-attr]
        body = b'{"candidates":[]}'
        self.transport.write(  # type: ignore[union-attr]
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body)
        )
        self.transport.loseConnection()  # type: ignore[union-attr]


class CanaryTests(DaemonCase):
    """L11, S16 to the last byte: the real daemon before an upstream that looks at everything."""

    async def test_no_trick_with_the_path_changes_what_upstream_sees(self) -> None:
        """L11: of all spellings either nothing arrives or the one request line, with the header fields of a list."""
        factory: Any = Factory.forProtocol(Canary)
        factory.noisy, factory.received = False, []
        listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        port = listening.getHost().port
        daemon = await self.gateway({"studio": {**aistudio(f"http://127.0.0.1:{port}"), "models": ["gemini-*"]}})
        model = f"/v1beta/models/{MODEL}"
        targets = (
            GENERATE, f"{model}%3AgenerateContent", f"//v1beta//models/models/{MODEL}:generateContent",
            f"{GENERATE}?key=a&key=b&x=../y", f"http://localhost{GENERATE}", f"http://localhost:1@evil{GENERATE}",
            f"{model}:generateContent/../x", f"/v1beta/models/..%2f{MODEL}:generateContent",
            f"{model}%00:generateContent", f"{model}%0d%0aX-Evil:1:generateContent",
            f"{model}%2F..%2F..:generateContent", f"{model}@evil:generateContent",
            f"{model}:generateContent:x", f"{model}%3Fkey=a:generateContent", f"{model}%23:generateContent",
            "/v1beta/models/gemini-\\evil:generateContent", f"/%2e%2e{GENERATE}", f"{model};x:generateContent",
        )  # fmt: skip
        good = 0
        for target in targets:
            connection = await daemon.begin(target, prompt(), FOREIGN[:13])
            await connection.has(b"\r\n\r\n")
            good += connection.received.startswith(b"HTTP/1.1 200 ")
            # Where a head cannot be read its body's end is not known, and the gateway would listen for a while.
            connection.leave()
        self.assertEqual(len(factory.received), good)
        self.assertGreaterEqual(good, 5)
        for request in factory.received:
            line, _, fields = request.partition(b"\r\n\r\n")[0].partition(b"\r\n")
            self.assertRegex(line, rb"\APOST /v1beta/models/gemini-2\.5-flash(?:@evil)?:generateContent HTTP/1\.1\Z")
            names = {field.split(b":")[0].lower() for field in fields.split(b"\r\n")}
            self.assertLessEqual(names, {*SENT, b"x-goog-api-key", b"host", b"content-length", b"connection"})
            self.assertNotIn(b"canary", fields.lower())
