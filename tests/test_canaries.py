"""A secret in every slot of the real daemon, its log at debug: none of them shows where it has no business (S6-S14)."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.web import resource, server

from gateway.accounts.statedir import SOCKET, StateDirectory
from tests.clients.daemon import free_port, secret, spawn
from tests.clients.environments import REPOSITORY
from tests.keyfiles import key_file
from tests.processes import GENERATE, MODEL, SSE, Answer, Connection, DaemonCase, Server, parsed, reactor

SLOTS = {
    "client key": "agw_CANARYclientkey0123456789",
    "wrong key": "agw_CANARYwrongkey0123456789",
    "operator key": "agw_CANARYoperatorkey0123456789",
    "admin token": "agw_CANARYadmintoken0123456789",
    "API key": "AIzaCANARYapikey0123456789",
    "refresh token": "1//CANARYrefresh0123456789",
    "rotated refresh token": "1//CANARYrotated0123456789",
    "access token": "ya29.CANARYaccess0123456789",
    "client secret": "GOCSPX-CANARYclientsecret0123456789",
    "session": "CANARYsession0123456789",
    "cookie": "CANARYcookie0123456789",
    "prompt": "CANARYprompt0123456789",
    "answer": "CANARYanswer0123456789",
}
BODY = json.dumps({"contents": [{"role": "user", "parts": [{"text": SLOTS["prompt"]}]}]}).encode()
BREAK = json.dumps({"contents": [{"role": "user", "parts": [{"text": "BREAK " + SLOTS["prompt"]}]}]}).encode()
CARRIERS = (
    (GENERATE, "x-goog-api-key: {}"),
    (GENERATE, "x-api-key: {}"),
    (GENERATE, "Authorization: Bearer {}"),
    (GENERATE + "?key={}", ""),
    (SSE + "&key={}", ""),
)


class Google(resource.Resource):
    """All three backends and the token endpoint; it quotes what it was sent wherever it can."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.fails: list[int] = []
        """What the next calls are answered with."""
        self.carried: set[str] = set()
        """The secrets that came here, where they belong."""

    def render(self, request: Any) -> bytes:
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"set-cookie", b"a=" + SLOTS["cookie"].encode())
        body = request.content.read()
        fields = b"\n".join(value for _, values in request.requestHeaders.getAllRawHeaders() for value in values)
        came = unquote_to_bytes(body) + fields + request.uri
        self.carried |= {name for name, value in SLOTS.items() if value.encode() in came}
        if request.path.endswith(b"/token"):
            return self._token()
        if request.method != b"POST":
            return self._refusal(request, 404)
        if self.fails:
            return self._refusal(request, self.fails.pop(0))
        answer = {"candidates": [{"content": {"parts": [{"text": SLOTS["answer"]}]}, "finishReason": "STOP"}]}
        whole: dict[str, Any] = {"response": answer} if b"v1internal" in request.path else answer
        if b"alt=sse" not in request.uri:
            return json.dumps(whole).encode()
        request.setHeader(b"content-type", b"text/event-stream")
        error = json.dumps({"error": {"code": 500, "status": "INTERNAL", "message": " ".join(SLOTS.values())}})
        return f"data: {json.dumps(whole)}\n\ndata: {error}\n\n".encode()

    def _token(self) -> bytes:
        tokens = {"access_token": SLOTS["access token"], "refresh_token": SLOTS["rotated refresh token"]}
        return json.dumps({**tokens, "expires_in": 3600, "token_type": "Bearer"}).encode()

    def _refusal(self, request: Any, code: int) -> bytes:
        request.setResponseCode(code)
        ours = [SLOTS[name] for name in ("API key", "access token", "refresh token", "client secret")]
        error = {"code": code, "status": "UNKNOWN", "message": "no: " + " ".join(ours)}
        return json.dumps({"error": error}).encode()


def forms(name: str, value: str) -> Iterable[tuple[str, str]]:
    """The shapes in which a secret might show, with a name for each."""
    yield name, value
    yield f"{name} in base64", base64.b64encode(value.encode()).decode().rstrip("=")[:-1]
    yield f"{name} quoted", quote(value, safe="")


class CanaryTests(DaemonCase):
    """What is told to clients, operators, the log, the disk and the process list."""

    async def _prepare(self, log: str) -> Path:
        self.google = Google()
        site = server.Site(self.google)
        site.noisy = False
        self.listening = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(self.listening.stopListening)
        url = f"http://127.0.0.1:{self.listening.getHost().port}"
        secret(self.home / "api.key", SLOTS["API key"])
        secret(self.home / "client.secret", SLOTS["client secret"])
        document = key_file(token_uri=url + "/token")
        secret(self.home / "sa.json", document)
        self.watched = free_port()
        pem = json.loads(document)["private_key"].splitlines()
        self.canaries = [form for name, value in SLOTS.items() for form in forms(name, value)]
        self.canaries.append(("private key", pem[len(pem) // 2]))
        path, self.port = self.configured(
            {
                "studio": {"kind": "aistudio", "base_urls": [url], "models": ["studio-*"],
                           "credentials": [{"name": "first", "api_key_file": "api.key"}]},
                "pool": {"kind": "codeassist", "base_urls": [url + "/v1internal"], "models": [MODEL],
                         "oauth": {"client_id": "an-id", "client_secret_file": "client.secret",
                                   "token_url": url + "/token"}},
                "cloud": {"kind": "vertex", "base_urls": [url], "models": ["cloud-*"],
                          "credentials": [{"name": "robot", "service_account_file": "sa.json"}]},
            },
            proxy={"api_key": SLOTS["client key"], "operator_key": SLOTS["operator key"]},
            log={"level": "debug", "format": log},
            admin={"listen": f"tcp:{self.watched}:interface=127.0.0.1", "token": SLOTS["admin token"]},
        )  # fmt: skip
        self.state = self.home / f"state-{self.port}"
        self.accounts = self.state / "accounts"
        for directory in (self.state, self.accounts):
            directory.mkdir(mode=0o700)
        account = {"name": "ann", "refresh_token": SLOTS["refresh token"], "project": "p"}
        secret(self.accounts / "ann.json", json.dumps(account))
        return path

    async def _start(self, path: Path) -> Server:
        """Start the daemon with a fault in it; what it prints is for the test to judge."""
        child = spawn(
            reactor,
            [sys.executable, "-m", "tests.faulty", "-n", "--pidfile=", "antigravity", "--config", str(path)],
            self.home,
            {"PYTHONPATH": str(REPOSITORY), "HOME": str(self.home)},
        )

        async def gone() -> None:
            child.signal("KILL")
            await child.ended()

        self.addCleanup(lambda: Deferred.fromCoroutine(gone()))
        daemon = Server(child, self.port)
        await daemon.started()
        return daemon

    def _is_clean(self, what: str, text: str, but: Iterable[str] = ()) -> None:
        shown = [name for name, value in self.canaries if name not in but and value in text]
        self.assertEqual(shown, [], f"{what}: {text[:2000]}")

    def _judged(self, answer: Answer, but: Iterable[str] = ()) -> None:
        """An answer may hold upstream's answer where it is good, and nothing else of anybody's."""
        allowed = ("answer", "answer in base64", "answer quoted", *but) if answer.status == 200 else but
        self._is_clean("an answer", repr(answer.headers) + answer.body.decode("utf-8", "replace"), allowed)

    async def _ask(self, daemon: Server, target: str, header: str, body: bytes | None = BODY) -> Answer:
        headers = [("X-Session-Id", SLOTS["session"]), ("Cookie", f"a={SLOTS['cookie']}")]
        if header:
            name, _, value = header.partition(": ")
            headers.append((name, value))
        return await daemon.ask(target, body, headers)

    async def _admin(self, path: str) -> str:
        state = StateDirectory(self.state)
        self.addCleanup(state.close)
        endpoint = UNIXClientEndpoint(reactor, state.address(SOCKET))
        connection: Connection = await connectProtocol(endpoint, Connection())
        connection.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        await connection.until(lambda: connection.over)
        answer = parsed(bytes(connection.received))
        self.assertEqual(answer.status, 200, answer.body)
        return answer.body.decode()

    def _look_around(self, daemon: Server) -> None:
        """The log, the process list, and what lies on the disk that is no credential's own file."""
        self._is_clean("the log", daemon.printed)
        pid = daemon.child.transport.pid
        self._is_clean("the command line", Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace"))
        files = [path for path in self.state.rglob("*") if path.is_file() and path.parent != self.accounts]
        self.assertTrue(files)
        for path in files:
            self._is_clean(str(path), path.read_text("utf-8", "replace"))

    async def test_no_secret_shows_whatever_becomes_of_requests(self) -> None:
        """S12, L12: every carrier with a right and a wrong key, every upstream, good answers and bad ones."""
        daemon = await self._start(await self._prepare("json"))
        for target, header in CARRIERS:
            good = await self._ask(daemon, target.format(SLOTS["client key"]), header.format(SLOTS["client key"]))
            self.assertEqual(good.status, 200, good.body)
            if "alt=sse" not in target:
                self._judged(good)
            for wrong in (SLOTS["wrong key"], SLOTS["wrong key"] + "\xff"):
                bad = await self._ask(daemon, target.format(quote(wrong)), header.format(wrong))
                self.assertIn(bad.status, (401, 429))
                self._judged(bad)
        key = f"x-goog-api-key: {SLOTS['client key']}"
        for model in ("studio-1", "cloud-1", MODEL):
            answer = await self._ask(daemon, GENERATE.replace(MODEL, model), key)
            self.assertEqual(answer.status, 200, answer.body)
            self._judged(answer)
        for model in ("studio-1", "cloud-1", MODEL):
            for code in (400, 404, 429, 500, 302, 403, 401):
                self.google.fails = [code] * 5
                self._judged(await self._ask(daemon, GENERATE.replace(MODEL, model), key))
        self.google.fails = []
        for target, body in ((GENERATE, b'{"contents": ' + BODY), (GENERATE, BODY[:-3] + b"\xff}"), ("/nope", BODY),
                             ("/v1beta/../x", BODY), (GENERATE + "?alt=xml", BODY)):  # fmt: skip
            self._judged(await self._ask(daemon, target, key, body))
        for path in ("/v1/status", "/v1/accounts", "/v1/accounts/pool/ann", f"/v1/explain?model={MODEL}"):
            self._is_clean(f"admin {path}", await self._admin(path))
        watching = Server(daemon.child, self.watched)
        for path in ("/healthz", "/readyz", "/status", "/metrics"):
            for bearer in (SLOTS["admin token"], SLOTS["wrong key"]):
                page = await watching.ask(path, headers=[("Authorization", f"Bearer {bearer}")])
                self.assertIn(page.status, (200, 401, 503))
                self._is_clean(path, repr(page.headers) + page.body.decode())
        expected = {"API key", "refresh token", "access token", "client secret", "prompt"}
        # What belongs upstream went there, so the canaries were at work; what is the client's own did not.
        self.assertLessEqual(expected, self.google.carried)
        ours = {"client key", "wrong key", "operator key", "admin token", "session", "cookie"}
        self.assertFalse(self.google.carried & ours)
        self._look_around(daemon)
        daemon.child.signal("TERM")
        await daemon.child.ended()
        # The file of the account itself is where its tokens belong.
        self.assertIn("CANARY", (self.accounts / "ann.json").read_text())
        self._is_clean("the log", daemon.printed)

    async def test_a_fault_of_ours_shows_none_in_its_traceback(self) -> None:
        """S14, P13: in the middle of the way and at the edge; the client sees its request id and nothing else."""
        daemon = await self._start(await self._prepare("text"))
        key = f"x-goog-api-key: {SLOTS['client key']}"
        for target, body in ((GENERATE, BREAK), (SSE, BREAK), ("/break", BODY)):
            answer = await self._ask(daemon, target, key, body)
            self.assertEqual((answer.status, answer.reasons), (500, ["INTERNAL"]))
            self._judged(answer)
        self.assertEqual(daemon.printed.count("builtins.ZeroDivisionError"), 3, daemon.printed)
        self._look_around(daemon)
