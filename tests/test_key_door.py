"""Client keys at the door: who is let in, to which models, from where, how often, and what its holder is told."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import Secret, Terms
from gateway.config import (
    AuthMode,
    CredentialConfig,
    Limits,
    ProxyConfig,
    RoutingConfig,
    Timeouts,
    UpstreamConfig,
)
from gateway.edge import selfservice
from tests.fakes import BODY, SSE, Answer, Client, FakeExchange, World, event, ok, refused, sse

MODEL = "/v1beta/models/{}:generateContent"
STREAM = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
PAGES = {"/antigravity/usage": "text/html", "/antigravity/usage.css": "text/css",
         "/antigravity/usage.js": "text/javascript"}  # fmt: skip


def counted(prompt: int, candidates: int, thoughts: int = 0) -> dict[str, Any]:
    """Return the usage of an answer."""
    counts = {"promptTokenCount": prompt, "candidatesTokenCount": candidates, "thoughtsTokenCount": thoughts}
    return {"usageMetadata": {**counts, "totalTokenCount": prompt + candidates + thoughts}}


class DoorCase(SynchronousTestCase):
    def begin(self, *script: Any, proxy: Mapping[str, Any] = {}, **changes: Any) -> None:
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(0o700)
        self.world = World.build(*script, state_dir=str(directory), proxy=ProxyConfig(**proxy), **changes)
        self.book = self.world.composition.book
        self.book.in_thread = maybeDeferred

    def create(self, name: str = "team", **members: Any) -> str:
        return self.successResultOf(self.book.create({"name": name, **members}))[1]

    def ask(self, method: str, target: str, key: str = "", body: bytes = b"", **headers: str) -> Answer:
        client = self.world.connect()
        fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
        client.ask(method, target, body, *([("x-goog-api-key", key)] if key else []), *fields)
        return client.answer(bodyless=method == "HEAD")

    def post(self, target: str, key: str = "") -> Answer:
        return self.ask("POST", target, key, BODY)

    def reason(self, answer: Answer) -> tuple[int, str]:
        return answer.status, answer.json["error"]["details"][0]["reason"]

    def own(self, key: str) -> dict[str, Any]:
        answer = self.ask("GET", "/antigravity/me", key)
        self.assertEqual((answer.status, answer.headers["cache-control"]), (200, "no-store"))
        told: dict[str, Any] = answer.json
        return told


class AdmissionTests(DoorCase):
    def test_the_door_asks_for_a_key_from_the_first_one_on(self) -> None:
        """auth_mode auto on loopback: also when the last one has been revoked; off asks for none."""
        self.begin(*(ok() for _ in range(3)))
        self.assertEqual(self.post(MODEL.format("gemini-2.5-flash")).status, 200)
        gate = self.world.composition.site.gate
        self.assertFalse(gate.asks)
        key = self.create()
        self.assertTrue(gate.asks)
        self.assertEqual(self.reason(self.post(MODEL.format("gemini-2.5-flash"))), (401, "CLIENT_KEY_INVALID"))
        self.assertEqual(self.post(MODEL.format("gemini-2.5-flash"), key).status, 200)
        self.successResultOf(self.book.revoke("team"))
        self.assertEqual(self.reason(self.post(MODEL.format("gemini-2.5-flash"), key)), (401, "CLIENT_KEY_INVALID"))
        self.begin(ok(), proxy={"auth_mode": AuthMode.OFF})
        self.create()
        self.assertEqual(self.post(MODEL.format("gemini-2.5-flash")).status, 200)

    def test_a_key_is_taken_wherever_clients_put_keys(self) -> None:
        """As those of the configuration, which go on working beside it."""
        digest = hashlib.sha256(b"from-the-file").digest()
        self.begin(proxy={"api_keys": (digest,)})
        key = self.create()
        for headers in ({"x_goog_api_key": key}, {"x_api_key": key}, {"authorization": f"Bearer {key}"}):
            self.assertEqual(self.ask("GET", "/v1beta/models", **headers).status, 200)
        self.assertEqual(self.ask("GET", f"/v1beta/models?key={key}").status, 200)
        self.assertEqual(self.ask("GET", "/v1beta/models", "from-the-file").status, 200)

    def test_a_key_that_was_typed_wrongly_is_told_the_same_as_any_wrong_one(self) -> None:
        """To the byte, but for the request's id; and it counts among the wrong ones of its address."""
        self.begin()
        key = self.create()
        told = set()
        for wrong in ("something", key[:-1] + ("0" if key[-1] != "0" else "1"), "agw_" + "a" * 40):
            answer = self.ask("GET", "/v1beta/models", wrong)
            told.add((answer.status, answer.body, answer.headers["www-authenticate"]))
        self.assertEqual(len(told), 1)
        for _ in range(7):
            self.ask("GET", "/v1beta/models", key[:-1] + "x")
        self.assertEqual(self.reason(self.ask("GET", "/v1beta/models", key[:-1] + "x")), (429, "TOO_MANY_WRONG_KEYS"))
        self.assertEqual(self.ask("GET", "/v1beta/models", key).status, 200)

    def test_usage_and_sessions_are_the_keys_whatever_its_secret(self) -> None:
        """The id outlives a rotation."""
        self.begin(ok(), ok())
        key = self.create()
        self.post(MODEL.format("gemini-2.5-flash"), key)
        _, fresh = self.successResultOf(self.book.rotate("team"))
        self.assertEqual(self.reason(self.post(MODEL.format("gemini-2.5-flash"), key)), (401, "CLIENT_KEY_INVALID"))
        self.post(MODEL.format("gemini-2.5-flash"), fresh)
        ids = [end.journal.key_id for end in self.world.recorder.ends if end.status == 200]
        sessions = {end.journal.session for end in self.world.recorder.ends if end.status == 200}
        self.assertEqual((ids, len(sessions)), ([self.book.row("team")["id"]] * 2, 1))

    def test_a_change_counts_for_the_next_request(self) -> None:
        """And SIGHUP leaves keys as they are."""
        self.begin(limits=Limits(key_per_minute=1))
        key = self.create()
        self.assertEqual([self.ask("GET", "/v1beta/models", key).status for _ in range(2)], [200, 429])
        self.successResultOf(self.book.change("team", {"requests_per_minute": 3}))
        self.assertEqual([self.ask("GET", "/v1beta/models", key).status for _ in range(3)], [200, 200, 429])
        self.world.wire.by = lambda request: refused(503)
        before = self.world.composition
        after = type(before)(before.config, self.world.clock, self.world.wire, self.world.recorder, before)
        after.take_over()
        self.assertEqual(self.ask("GET", "/v1beta/models", key).status, 429)
        self.assertIs(after.book, self.book)


class ModelTests(DoorCase):
    ALLOWED = ("gemini-2.5-flash*", "fast")

    def begin(self, *script: Any, proxy: Mapping[str, Any] = {}, **changes: Any) -> None:
        aliases = (("fast", "gemini-2.5-pro"), ("cheap", "gemini-2.5-flash-lite"), ("dear", "gemini-2.5-pro"))
        super().begin(*script, proxy=proxy, routing=RoutingConfig(aliases=aliases), **changes)
        self.key = self.create(models=list(self.ALLOWED))

    def test_a_model_that_is_not_allowed_is_403_before_its_body_is_read(self) -> None:
        """It names what is allowed, and upstream hears nothing."""
        self.begin()
        client = self.world.connect()
        client.ask("POST", MODEL.format("gemini-2.5-pro"), b"", ("x-goog-api-key", self.key), length=10_000)
        answer = client.answer()
        self.assertEqual(self.reason(answer), (403, "CLIENT_KEY_MODEL"))
        error = answer.json["error"]
        self.assertEqual(error["status"], "PERMISSION_DENIED")
        self.assertIn("gemini-2.5-flash*, fast", error["message"])
        self.assertEqual(error["details"][0]["metadata"]["allowedModels"], "gemini-2.5-flash*, fast")
        self.assertEqual(self.world.wire.requests, [])

    def test_a_refusal_is_recorded_as_the_keys_own(self) -> None:
        """For a model or an address, also where the key's own page is asked for: its operator sees who tried what."""
        self.begin()
        self.successResultOf(self.book.change("team", {"networks": ["192.168.1.1"]}))
        self.post(MODEL.format("gemini-2.5-pro"), self.key)
        self.successResultOf(self.book.change("team", {"networks": ["10.0.0.0/8"]}))
        self.post(MODEL.format("gemini-2.5-flash"), self.key)
        self.ask("GET", "/antigravity/me", self.key)
        row = self.book.row("team")
        told = [(end.journal.key_id, end.status, end.reason) for end in self.world.recorder.ends]
        reasons = ["CLIENT_KEY_MODEL", "CLIENT_KEY_ADDRESS", "CLIENT_KEY_ADDRESS"]
        self.assertEqual(told, [(row["id"], 403, reason) for reason in reasons])
        self.assertEqual((row["usage"]["day"]["requests"], row["under_way"]), (3, 0))

    def test_names_and_what_they_stand_for_are_allowed(self) -> None:
        """However the path is spelled."""
        self.begin(*(ok() for _ in range(5)))
        for model in ("gemini-2.5-flash", "fast", "cheap", "models/gemini-2.5-flash"):
            self.assertEqual(self.post(MODEL.format(model), self.key).status, 200)
        self.assertEqual(self.post("/v1//models/gemini-2.5-flash%3AgenerateContent", self.key).status, 200)
        for path in (MODEL.format("dear"), "/v1beta/models/models/gemini-2.5-pro:countTokens",
                     "/v1beta1/publishers/google/models/gemini-2.5-pro:generateContent",
                     "/models/gemini%2D2.5-pro%3AgenerateContent"):  # fmt: skip
            self.assertEqual(self.reason(self.post(path, self.key)), (403, "CLIENT_KEY_MODEL"), path)

    def test_the_list_shows_what_is_allowed(self) -> None:
        """Pages too; another one is 403 by its name."""
        self.begin()
        listed = self.ask("GET", "/v1beta/models", self.key).json["models"]
        names = {one["name"].removeprefix("models/") for one in listed}
        self.assertLessEqual({"gemini-2.5-flash", "gemini-2.5-flash-lite", "fast", "cheap"}, names)
        self.assertTrue(all(name.startswith("gemini-2.5-flash") or name in ("fast", "cheap") for name in names), names)
        paged, token = [], ""
        while True:
            page = self.ask("GET", f"/v1beta/models?pageSize=1&pageToken={token}", self.key).json
            paged += [one["name"] for one in page["models"]]
            token = page.get("nextPageToken", "")
            if not token:
                break
        self.assertEqual(paged, [one["name"] for one in listed])
        self.assertEqual(self.ask("GET", "/v1beta/models/gemini-2.5-flash", self.key).status, 200)
        self.assertEqual(self.reason(self.ask("GET", "/v1beta/models/gemini-2.5-pro", self.key)),
                         (403, "CLIENT_KEY_MODEL"))  # fmt: skip


class AddressTests(DoorCase):
    def test_the_address_is_that_of_the_client_behind_trusted_proxies(self) -> None:
        """The connection's own where no proxy is trusted: nobody makes himself another's."""
        self.begin(proxy={"trusted_proxies": ("192.168.1.1",)})
        key = self.create(networks=["10.0.0.0/8"])
        self.assertEqual(self.ask("GET", "/v1beta/models", key, x_forwarded_for="10.1.2.3").status, 200)
        answer = self.ask("GET", "/v1beta/models", key, x_forwarded_for="11.1.2.3")
        self.assertEqual(self.reason(answer), (403, "CLIENT_KEY_ADDRESS"))
        self.assertIn("11.1.2.3", answer.json["error"]["message"])
        self.begin()
        key = self.create(networks=["10.0.0.0/8"])
        self.assertEqual(self.reason(self.ask("GET", "/v1beta/models", key, x_forwarded_for="10.1.2.3")),
                         (403, "CLIENT_KEY_ADDRESS"))  # fmt: skip


class LimitTests(DoorCase):
    """A key at its limit never touches the pool."""

    def test_a_key_at_its_limit_is_refused_before_its_body_is_read(self) -> None:
        """By the head alone, and the connection may be used no more."""
        self.begin(ok())
        key = self.create(requests_per_minute=1)
        self.assertEqual(self.post(MODEL.format("gemini-2.5-flash"), key).status, 200)
        client = self.world.connect()
        client.ask("POST", MODEL.format("gemini-2.5-flash"), b"", ("x-goog-api-key", key), length=10_000)
        self.assertEqual(self.reason(client.answer()), (429, "KEY_RATE_EXCEEDED"))
        self.assertEqual(client.answer().headers["retry-after"], "60")
        self.assertEqual((len(self.world.wire.requests), self.world.leases), (1, 0))

    def test_of_200_at_once_exactly_as_many_pass_as_may(self) -> None:
        """Whose bodies come in any order; the others are refused, and nothing of them goes upstream."""
        self.begin(*(ok() for _ in range(200)))
        key = self.create(requests_per_minute=37)
        clients: list[Client] = []
        for _ in range(200):
            clients.append(self.world.connect())
            clients[-1].ask("POST", MODEL.format("gemini-2.5-flash"), b"", ("x-goog-api-key", key), length=len(BODY))
        for client in reversed(clients):
            client.send(BODY)
        statuses = [client.answer().status for client in clients]
        self.assertEqual((statuses.count(200), statuses.count(429)), (37, 163))
        self.assertEqual(len(self.world.wire.requests), 37)

    def test_of_200_streams_at_once_exactly_as_many_pass_as_may(self) -> None:
        """However one ends, its place is free."""
        exchanges = [FakeExchange(200, SSE) for _ in range(200)]
        self.begin(*exchanges)
        key = self.create(concurrent=20)
        clients = [self.world.connect() for _ in range(200)]
        for client in clients:
            client.post(STREAM, BODY, ("x-goog-api-key", key))
        self.assertEqual(len(self.world.wire.requests), 20)
        for client in clients[20:]:
            self.assertEqual(self.reason(client.answer()), (429, "KEY_CONCURRENCY_EXCEEDED"))
        for exchange in exchanges[:19]:
            exchange.send(sse(event("a")))
            exchange.end()
        clients[19].leave()
        self.assertEqual(self.own(key)["under_way"], 0)

    def test_a_place_is_free_again_however_a_request_ends(self) -> None:
        """Refused in its body, too slow, not understood, not answered, or left by its client: none counts on."""
        self.begin(limits=Limits(body=1000))
        key = self.create(concurrent=1)
        model, held = MODEL.format("gemini-2.5-flash"), [("x-goog-api-key", key)]
        ways: dict[str, Callable[[Client], None]] = {
            "too large": lambda one: one.send(b"3e9\r\n" + b" " * 1001),
            "not read": lambda one: one.send(b"zz\r\n"),
            "no text": lambda one: one.send(b"1\r\n\xff\r\n0\r\n\r\n"),
            "no JSON": lambda one: one.send(b"1\r\nx\r\n0\r\n\r\n"),
            "too slow": lambda one: self.world.clock.pump([1.0] * 120),
            "left": lambda one: one.leave(),
            "unknown": lambda one: one.send(b"0\r\n\r\n"),
        }
        for way, end in ways.items():
            client = self.world.connect()
            target = model.replace("generate", "imagine") if way == "unknown" else model
            client.ask("POST", target, b"", *held, ("Transfer-Encoding", "chunked"))
            self.assertEqual(self.own(key)["under_way"], 1, way)
            end(client)
            self.assertEqual(self.own(key)["under_way"], 0, way)
        self.world.wire.script.append(self.world.wire.hold())
        client = self.world.connect()
        client.post(model, BODY, *held)
        self.assertEqual((self.own(key)["under_way"], len(self.world.wire.requests)), (1, 1))
        client.leave()
        self.assertEqual((self.own(key)["under_way"], self.world.wire.cancelled, self.world.leases), (0, 1, 0))

    def test_a_client_that_leaves_the_queue_gives_its_keys_place_back(self) -> None:
        """The one credential is busy with another's request."""
        one = CredentialConfig("only", Secret("upstream-key"), terms=Terms(max_concurrent=1))
        upstream = UpstreamConfig("studio", "aistudio", ("https://one.example",), credentials=(one,))
        self.begin(upstreams=(upstream,), timeouts=Timeouts(queue=60.0))
        self.world.wire.script.append(self.world.wire.hold())
        busy, key = self.create("busy"), self.create(concurrent=1)
        self.world.connect().post(MODEL.format("gemini-2.5-flash"), BODY, ("x-goog-api-key", busy))
        for _ in range(3):
            client = self.world.connect()
            client.post(MODEL.format("gemini-2.5-flash"), BODY, ("x-goog-api-key", key))
            self.assertEqual((client.received, self.own(key)["under_way"]), (b"", 1))
            client.leave()
            self.assertEqual(self.own(key)["under_way"], 0)
        self.assertEqual((len(self.world.wire.requests), self.world.leases), (1, 1))

    def test_tokens_are_counted_when_a_streams_usage_comes(self) -> None:
        """Its last one, in full; also of a stream whose client leaves or which breaks off."""
        whole, broken, left = (FakeExchange(200, SSE) for _ in range(3))
        self.begin(whole, broken, left, ok())
        key = self.create(tokens_per_day=600)
        usage = {"day": 0}

        def day() -> int:
            usage["day"] = self.own(key)["usage"]["day"]["tokens"]
            return usage["day"]

        client = self.world.connect()
        client.post(STREAM, BODY, ("x-goog-api-key", key))
        whole.send(sse(event("a", **counted(10, 1))))
        self.assertEqual(day(), 0)
        whole.send(sse(event("b", **counted(10, 80, 10))))
        whole.end()
        self.assertEqual(day(), 100)
        client = self.world.connect()
        client.post(STREAM, BODY, ("x-goog-api-key", key))
        broken.send(sse(event("a", **counted(10, 90))))
        broken.send(sse(b'{"error":{"code":500,"status":"INTERNAL","message":"no"}}'))
        client.leave()
        self.assertEqual(day(), 200)
        client = self.world.connect()
        client.post(STREAM, BODY, ("x-goog-api-key", key))
        left.send(sse(event("a", **counted(200, 200))))
        client.leave()
        self.assertEqual(day(), 600)
        answer = self.post(MODEL.format("gemini-2.5-flash"), key)
        self.assertEqual(self.reason(answer), (429, "KEY_TOKENS_PER_DAY_EXCEEDED"))
        self.assertEqual(answer.json["error"]["details"][0]["metadata"]["value"], "600")
        self.assertEqual(len(self.world.wire.requests), 3)

    def test_a_unary_answers_tokens_and_cost_are_counted(self) -> None:
        """By the model that answered."""
        body = json.dumps({"candidates": [], **counted(100, 20, 3)}).encode()
        self.begin(ok(body), ok(body))
        self.book.meters.cost = lambda model, usage, at: {"gemini-2.5-flash": 7}.get(model)
        key = self.create(micros_per_day=10)
        for model in ("gemini-2.5-flash", "gemini-2.5-pro"):
            self.assertEqual(self.post(MODEL.format(model), key).status, 200)
        day = self.own(key)["usage"]["day"]
        self.assertEqual((day["requests"], day["tokens"], day["micros"]), (2, 246, 7))


class SelfServiceTests(DoorCase):
    def test_a_holder_sees_its_own_and_nothing_of_others(self) -> None:
        """Also one at its limit, and one with a key of the configuration; asking costs nothing."""
        digest = hashlib.sha256(b"from-the-file").digest()
        self.begin(proxy={"api_keys": (digest,)})
        key = self.create(requests_per_minute=1, models=["gemini-*"])
        self.create("other")
        self.ask("GET", "/v1beta/models", key)
        for _ in range(3):
            told = self.own(key)
        self.assertEqual((told["key"]["name"], told["key"]["models"]), ("team", ["gemini-*"]))
        (limit,) = told["limits"]
        self.assertEqual((limit["limit"], limit["used"], limit["left"]), ("requests_per_minute", 1, 0))
        self.assertEqual(told["usage"]["day"]["requests"], 1)
        self.assertNotIn("other", json.dumps(told))
        self.assertEqual(self.own("from-the-file")["key"]["id"], f"key-{digest.hex()[:12]}")
        self.assertEqual(self.reason(self.ask("GET", "/antigravity/me")), (401, "CLIENT_KEY_INVALID"))
        self.assertEqual(self.ask("POST", "/antigravity/me", key, b"{}").status, 405)

    def test_the_page_needs_no_key_and_lets_nothing_else_run(self) -> None:
        """Its policy allows its own files alone; there is no script and no style in it."""
        self.begin()
        self.create()
        for path, kind in PAGES.items():
            for method in ("GET", "HEAD"):
                answer = self.ask(method, path)
                self.assertEqual(answer.status, 200)
                self.assertTrue(answer.headers["content-type"].startswith(kind))
                self.assertEqual(answer.headers["content-security-policy"].encode(), selfservice.POLICY)
                self.assertEqual(answer.headers["x-content-type-options"], "nosniff")
        page = self.ask("GET", "/antigravity/usage").body.decode()
        self.assertNotRegex(page, r"<style|style=|\son\w+=|<script[^>]*>[^<]|https?://")
        self.assertEqual(set(re.findall(r'(?:src|href)="([^"]+)"', page)), {"usage.css", "usage.js"})
        self.assertNotRegex(page, r'<input[^>]*\bname=')
        self.assertEqual(selfservice.POLICY.count(b"unsafe"), 0)

    def test_strict_mode_asks_for_a_key_here_too(self) -> None:
        """As for /healthz."""
        self.begin(proxy={"auth_mode": AuthMode.STRICT})
        key = self.create()
        self.assertEqual(self.ask("GET", "/antigravity/usage").status, 401)
        self.assertEqual(self.ask("GET", "/antigravity/usage", key).status, 200)
