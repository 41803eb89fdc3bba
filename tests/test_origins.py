"""Whose requests are served by name and by page: Host, Origin, Sec-Fetch-Site, preflights and CORS headers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.config import authority
from gateway.edge.hosts import Hosts
from gateway.edge.origins import Browser, Origins
from tests.fakes import SSE, Answer, Client, Edge, FakeExchange, event, ok, refused, sse
from tests.test_edge import PATH

APP = "https://app.example"
FOREIGN = ("Origin", "https://evil.example")
KEY = ("x-goog-api-key", "right-key")
STREAM = PATH.replace("generate", "streamGenerate") + "?alt=sse"
CORS = ("access-control-", "vary")


class FormTests(SynchronousTestCase):
    """One plain form for each name."""

    def test_hosts_in_plain_form(self) -> None:
        """Lower case, no port, no dot at the end, IPv6 compressed; anything odd is none."""
        table = {
            "localhost": "localhost", "LocalHost:8045": "localhost", "localhost.": "localhost",
            "127.0.0.1:1": "127.0.0.1", "[::1]": "::1", "[0:0::1]:8045": "::1", "a_b.example": "a_b.example",
            "xn--bcher-kva.example": "xn--bcher-kva.example",
        }  # fmt: skip
        for text, plain in table.items():
            self.assertEqual(authority.host(text), plain, text)
        for text in (
            "", ":80", "a:", "a:b", "a:99999", "a b", "user@localhost", "a..b", "-a", "[::1", "::1", "[localhost]",
            "a/b", "localhost\t", "localhost\n", "b\u00fccher.example", "a?b", "a#b", "x" * 300,
        ):  # fmt: skip
            self.assertIsNone(authority.host(text), text)

    def test_origins_in_plain_form(self) -> None:
        """Scheme, host, and a port only where it is not the scheme's own."""
        table = {
            "https://App.Example": APP, "https://app.example:443": APP, "http://app.example:80": "http://app.example",
            "http://app.example:443": "http://app.example:443", "http://[::1]:80": "http://[::1]",
        }  # fmt: skip
        for text, plain in table.items():
            self.assertEqual(authority.origin(text), plain, text)
        for text in ("null", "", "*", "https://", "app.example", "https://a.example/", "https://a@b", "1a://b", "://b"):
            self.assertIsNone(authority.origin(text), text)

    @given(st.text())
    def test_no_text_makes_them_raise(self, text: str) -> None:
        """And what comes out is a fixed point."""
        for form in (authority.host, authority.origin):
            plain = form(text)
            if plain is not None and ":" not in plain:
                self.assertEqual(form(plain), plain)

    def test_a_name_below_a_wildcard_is_admitted_and_the_name_itself_is_not(self) -> None:
        """L14: and nothing that only ends alike."""
        hosts = Hosts.build(["*.example.org"])
        for name, good in (
            (b"a.example.org", True), (b"b.a.example.org:1", True), (b"example.org", False), (b"aexample.org", False),
        ):  # fmt: skip
            self.assertEqual(hosts.admits(name, ""), good, repr(name))

    def test_an_origin_is_compared_as_a_whole(self) -> None:
        """L14: no prefix, suffix or other scheme of it is enough."""
        origins = Origins(frozenset({APP}))
        for value in (b"https://app.example.evil", b"https://evil-app.example", b"http://app.example",
                      b"https://app.example:8443", b"null", b"\xff"):  # fmt: skip
            self.assertFalse(origins.admits(Browser([value]), [b"localhost"]), repr(value))
        self.assertFalse(origins.admits(Browser([APP.encode()] * 2), [b"localhost"]))
        self.assertTrue(origins.admits(Browser([APP.encode()]), [b"localhost"]))


class OriginCase(SynchronousTestCase):
    def ask(
        self, *headers: tuple[str, str], method: str = "GET", host: str | None = "localhost", **changes: object
    ) -> Answer:
        self.world = Edge.build(ok(), **changes)  # type: ignore[arg-type]
        client = self.world.connect()
        version = "HTTP/1.0" if host is None else "HTTP/1.1"
        client.ask(method, "/healthz", b"", *headers, host=host, version=version)
        return client.answer(bodyless=method == "OPTIONS" and b" 204 " in client.received[:20])

    def refused_for(self, answer: Answer) -> str:
        self.assertEqual((answer.status, answer.headers["connection"]), (403, "close"))
        reason: str = answer.json["error"]["details"][0]["reason"]
        return reason

    def has_no_cors(self, answer: Answer) -> None:
        self.assertEqual([name for name in answer.headers if name.startswith(CORS)], [])


class HostTests(OriginCase):
    """L14, S20: the names that the gateway answers to."""

    def test_loopbacks_names_are_served_with_any_port(self) -> None:
        """L14: also the address that the client connected to, which no name can be pointed away from."""
        for host in ("localhost", "127.0.0.1", "[::1]", "LOCALHOST:1", "localhost:65535", "10.0.0.1:80"):
            self.assertEqual(self.ask(host=host).status, 200, host)

    def test_another_name_is_403_before_any_key_is_looked_at(self) -> None:
        """L14: with the right key as without, and also at /healthz."""
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost,evil.example", "127.0.0.2"):
            for headers in ((), (KEY,)):
                answer = self.ask(*headers, host=host, keys=("right-key",))
                self.assertEqual(self.refused_for(answer), "HOST_NOT_ALLOWED", host)
                self.assertNotIn(host.encode(), answer.body)

    def test_what_is_no_name_is_400(self) -> None:
        """L7, L14: whoever reads it otherwise must not be told another name than the gateway is."""
        for host in ("localhost@evil.example", "evil.example@localhost", "x y", "localhost:80:80", "localhost/"):
            answer = self.ask(host=host)
            self.assertEqual((answer.status, answer.headers["connection"]), (400, "close"))
            self.assertEqual(answer.json["error"]["details"][0]["reason"], "HOST_INVALID")

    def test_a_configured_name_is_served(self) -> None:
        """L14: ``proxy.hosts``."""
        self.assertEqual(self.ask(host="Gateway.Example:443", hosts=["gateway.example"]).status, 200)

    def test_http_1_0_without_host_is_served(self) -> None:
        """L14: it has no name to judge, and no browser speaks it."""
        self.assertEqual(self.ask(host=None).status, 200)

    def test_a_foreign_name_in_http_1_0_is_refused(self) -> None:
        """L14: where there is a name it counts."""
        self.world = Edge.build()
        client = self.world.connect()
        client.ask("GET", "/healthz", host="evil.example", version="HTTP/1.0")
        self.assertEqual(self.refused_for(client.answer()), "HOST_NOT_ALLOWED")


class PageTests(OriginCase):
    """L14, S20: web pages."""

    def test_a_foreign_page_is_403(self) -> None:
        """L14: by Origin, or by what the browser says of the page; a key of the victim's does not help."""
        for headers in ([FOREIGN], [("Origin", "null")], [("Sec-Fetch-Site", "cross-site")], [FOREIGN, KEY],
                        [("Origin", "http://localhost:3000")], [("Origin", "http://localhost"), FOREIGN]):  # fmt: skip
            answer = self.ask(*headers, keys=("right-key",))
            self.assertEqual(self.refused_for(answer), "ORIGIN_NOT_ALLOWED", headers)
            self.has_no_cors(answer)

    def test_a_page_of_the_gateways_own_host_and_port_is_at_home(self) -> None:
        """L14: browsers send Origin with their own pages' POSTs too."""
        for headers in ([("Origin", "http://localhost:8045")], [("Origin", "https://localhost:8045")],
                        [("Sec-Fetch-Site", "same-origin")], [("Sec-Fetch-Site", "none")]):  # fmt: skip
            answer = self.ask(*headers, host="localhost:8045")
            self.assertEqual(answer.status, 200, headers)
            self.has_no_cors(answer)

    def test_a_foreign_post_reaches_nobody(self) -> None:
        """L14: it is refused with its head, whatever content type it has."""
        client = Edge.build(ok()).connect()
        client.post(PATH, b"{}", FOREIGN, ("Content-Type", "text/plain"))
        self.assertEqual(self.refused_for(client.answer()), "ORIGIN_NOT_ALLOWED")

    def test_options_is_204_without_cors_headers(self) -> None:
        """L14: to everybody, without a key; it names the methods and nothing else."""
        for headers in ([], [FOREIGN, ("Access-Control-Request-Method", "POST")]):
            answer = self.ask(*headers, method="OPTIONS", keys=("right-key",))
            self.assertEqual((answer.status, answer.headers["allow"]), (204, "GET, HEAD, POST, OPTIONS"))
            self.assertNotIn("content-type", answer.headers)
            self.assertNotIn("content-length", answer.headers)
            self.has_no_cors(answer)

    def test_options_of_a_foreign_name_is_403(self) -> None:
        """L14: as everything is."""
        self.assertEqual(self.refused_for(self.ask(method="OPTIONS", host="evil.example")), "HOST_NOT_ALLOWED")

    def test_a_body_of_options_is_let_pass_and_not_kept(self) -> None:
        """L8: a little of it; who sends much is cut off."""
        world = Edge.build()
        client = world.connect()
        client.ask("OPTIONS", "/healthz", bytes(1000))
        self.assertTrue(client.received.startswith(b"HTTP/1.1 204 "))
        self.assertFalse(client.dropped)
        client = world.connect()
        client.ask("OPTIONS", "/healthz", bytes(20_000), length=10**6)
        self.assertTrue(client.dropped)


class ConfiguredOriginTests(OriginCase):
    """What ``proxy.origins`` gives."""

    def test_a_preflight_is_answered_exactly(self) -> None:
        """L14: 204, the one origin, what may be sent, and Vary over what decided it."""
        answer = self.ask(
            ("Origin", APP), ("Access-Control-Request-Method", "POST"), ("Sec-Fetch-Site", "cross-site"),
            ("Access-Control-Request-Headers", "content-type,x-goog-api-key"),
            method="OPTIONS", origins=[APP], keys=("right-key",),
        )  # fmt: skip
        self.assertEqual(answer.status, 204)
        found = {name: value for name, value in answer.headers.items() if name.startswith(CORS)}
        self.assertEqual(
            found,
            {
                "access-control-allow-origin": APP,
                "access-control-allow-methods": "GET, HEAD, POST, OPTIONS",
                "access-control-allow-headers": "Authorization, Content-Type, User-Agent, X-Antigravity-Credential,"
                " X-Api-Key, X-Goog-Api-Client, X-Goog-Api-Key, X-Server-Timeout, X-Session-Id",
                "access-control-max-age": "600",
                "access-control-expose-headers": found["access-control-expose-headers"],
                "vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
            },
        )

    def begin(self, *script: object, **changes: object) -> Client:
        self.world = Edge.build(*script, origins=[APP], **changes)  # type: ignore[arg-type]
        return self.world.connect()

    def is_readable(self, client: Client, status: int) -> None:
        answer = client.answers()[-1]
        self.assertEqual((answer.status, answer.headers["access-control-allow-origin"]), (status, APP))
        self.assertEqual(answer.headers["vary"], "Origin")
        self.assertIn("X-Request-Id", answer.headers["access-control-expose-headers"])
        self.assertNotIn("access-control-allow-credentials", answer.headers)

    def test_answers_errors_and_streams_may_be_read_by_the_page(self) -> None:
        """L14: 200, 401, 404, upstream's own error, a fault of ours, and a stream."""
        origin = ("Origin", APP)
        for script, target, headers, status in (
            ([ok()], PATH, [KEY], 200),
            ([], PATH, [], 401),
            ([], "/nope", [KEY], 404),
            ([refused(400, "INVALID_ARGUMENT")], PATH, [KEY], 400),
            ([FakeExchange(200, SSE, sse(event("a")))], STREAM, [KEY], 200),
        ):  # fmt: skip
            client = self.begin(*script, keys=("right-key",))
            client.post(target, b"{}", origin, *headers)
            self.is_readable(client, status)

    def test_who_sends_no_origin_gets_vary_alone(self) -> None:
        """L14: so that a cache in between does not mix them."""
        client = self.begin()
        client.ask("GET", "/healthz")
        headers = client.answer().headers
        self.assertEqual(headers["vary"], "Origin")
        self.assertNotIn("access-control-allow-origin", headers)

    def test_other_origins_stay_out(self) -> None:
        """L14: and learn nothing about who may come in."""
        client = self.begin()
        client.ask("GET", "/healthz", b"", FOREIGN)
        answer = client.answer()
        self.assertEqual(self.refused_for(answer), "ORIGIN_NOT_ALLOWED")
        self.assertNotIn("access-control-allow-origin", answer.headers)
        client = self.begin()
        client.ask("OPTIONS", "/healthz", b"", FOREIGN, ("Access-Control-Request-Method", "POST"))
        self.assertNotIn(b"ccess-Control-Allow", client.received)
