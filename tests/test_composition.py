"""The parts put together: what a configuration says is what requests meet, from the client's key to the account."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.rests import State
from gateway.calls import HttpRequest, Secret
from gateway.composition import Composition
from gateway.config import (
    AccountConfig,
    Config,
    CredentialConfig,
    DoneMarker,
    Limits,
    OAuthConfig,
    ProxyConfig,
    RoutingConfig,
    UpstreamConfig,
)
from gateway.upstreams.exchange import WireError
from tests.fakes import ANSWER, BODY, Client, FakeRecorder, FakeWire, Scripted, event, ok, sse, stream

PATH = "/v1beta/models/gemini-2.5-flash:generateContent"
OAUTH = OAuthConfig("client-1", Secret("client-secret"), "https://token.example/token")
EMAIL = "someone@mail.example"


def keys(*named: str, **changes: Any) -> UpstreamConfig:
    """An upstream of API keys."""
    credentials = tuple(CredentialConfig(name, Secret(f"secret-{name}")) for name in named)
    return UpstreamConfig("studio", "aistudio", ("https://one.example",), credentials=credentials, **changes)


def account(**changes: Any) -> UpstreamConfig:
    """An upstream of one account, given ready-made."""
    given: dict[str, Any] = {
        "oauth": OAUTH,
        "accounts": (AccountConfig(EMAIL, Secret("refresh-1"), "project-1"),),
        **changes,
    }
    return UpstreamConfig("accounts", "codeassist", ("https://two.example/v1internal",), **given)


def token(value: str, **more: str) -> Scripted:
    """A token endpoint's good answer."""
    return ok(json.dumps({"access_token": value, "expires_in": 3600, **more}).encode())


class CompositionCase(SynchronousTestCase):
    def begin(self, *upstreams: UpstreamConfig, script: tuple[Scripted, ...] = (), **changes: Any) -> None:
        self.clock, self.wire, self.recorder = Clock(), FakeWire(*script), FakeRecorder()
        config = Config(upstreams=upstreams, state_dir=self.mktemp(), source="test", **changes)
        self.composition = Composition(config, self.clock, self.wire, self.recorder)

    def connect(self) -> Client:
        return Client(self.composition.site)

    def post(self, path: str = PATH, *headers: tuple[str, str]) -> Any:
        client = self.connect()
        client.post(path, BODY, *headers)
        return client.answer()


class KeyTests(CompositionCase):
    def test_requests_are_spread_over_the_configured_keys(self) -> None:
        """Each goes out with one of them, in a header and not in the URL."""
        self.begin(keys("first", "second"), script=(ok(), ok()))
        self.assertEqual([self.post("/v1beta/models/m:predict").body for _ in range(2)], [ANSWER, ANSWER])
        self.assertEqual(sorted(self.wire.keys), ["secret-first", "secret-second"])
        self.assertNotIn(b"secret", self.wire.requests[0].url)

    def test_a_keys_label_is_the_operators_name_for_it(self) -> None:
        """X-Antigravity-Credential."""
        self.begin(keys("first"), script=(ok(),))
        self.assertEqual(self.post().headers["x-antigravity-credential"], "studio/first")

    def test_every_request_has_an_id_of_its_own(self) -> None:
        """X-Request-Id, as in the journal."""
        self.begin(keys("first"), script=(ok(), ok()))
        ids = [self.post().headers["x-request-id"] for _ in range(2)]
        self.assertEqual(len(set(ids)), 2)
        self.assertEqual([end.journal.request_id for end in self.recorder.ends], ids)


class AccountTests(CompositionCase):
    def test_an_accounts_token_is_had_by_its_refresh_token_and_used(self) -> None:
        """RFC 6749 section 6, then a bearer token and the account's project in the envelope."""
        self.begin(account(), script=(token("access-1"), ok(b'{"response":' + ANSWER + b"}")))
        self.assertEqual(self.post().body, ANSWER)
        refresh, request = self.wire.requests
        self.assertEqual(
            parse_qs(refresh.body.decode()),
            {
                "client_id": ["client-1"],
                "client_secret": ["client-secret"],
                "refresh_token": ["refresh-1"],
                "grant_type": ["refresh_token"],
            },
        )
        self.assertEqual(self.wire.keys[1], "access-1")
        self.assertEqual(json.loads(request.body)["project"], "project-1")

    def test_an_accounts_label_is_no_address(self) -> None:
        """Neither in the header nor in an error's details."""
        self.begin(account(), script=(WireError("connect"),))
        client = self.connect()
        client.post(PATH)
        self.assertNotIn(EMAIL.encode(), client.received)
        self.assertRegex(client.answer().headers["x-antigravity-credential"], r"^accounts/[0-9a-f]{8}$")

    def test_a_token_is_had_once_for_many_requests(self) -> None:
        """Single flight, then memory."""
        self.begin(account())
        held = self.wire.hold()
        self.wire.script = [held, *[ok(b'{"response":{}}') for _ in range(5)]]
        clients = [self.connect() for _ in range(5)]
        for client in clients:
            client.post(PATH)
        self.assertEqual(len(self.wire.requests), 1)
        held.callback(token("access-1"))
        self.assertEqual([client.answer().status for client in clients], [200] * 5)
        self.assertEqual(self.wire.keys[1:], ["access-1"] * 5)

    def test_a_token_endpoint_that_is_down_blames_no_account(self) -> None:
        """K2: 503 for now."""
        self.begin(account(), script=(WireError("connect"),))
        self.assertEqual(self.post().status, 503)
        (one,) = self.composition.router.members
        now = self.clock.seconds()
        state = self.composition.router.standings.availability(one.credential, "gemini-2.5-flash", now).state
        self.assertEqual((state, self.recorder.out), (State.OK, []))

    def test_a_revoked_account_goes_out_and_the_keys_serve(self) -> None:
        """K1: invalid_grant."""
        revoked = ok(b'{"error":"invalid_grant"}')
        revoked.status = 400

        def by(request: HttpRequest) -> Scripted:
            return revoked if b"token.example" in request.url else ok()

        self.begin(account(), keys("first"))
        self.wire.by = by
        for number in range(4):
            self.assertEqual(self.post(PATH, ("X-Session-Id", str(number))).status, 200)
        self.assertEqual([(name, why) for name, why, _ in self.recorder.out], [(EMAIL, "INVALID_GRANT")])
        self.assertEqual(sum(b"token.example" in request.url for request in self.wire.requests), 1)

    def test_a_rotated_refresh_token_is_kept_in_the_accounts_file(self) -> None:
        """0600, the file's other members as they were."""
        directory = Path(self.mktemp())
        directory.mkdir(mode=0o700)
        path = directory / "one.json"
        path.write_text('{"name": "one", "refresh_token": "refresh-1", "project": "p", "note": "mine"}')
        path.chmod(0o600)
        upstream = account(accounts=(), credentials_dir=str(directory))
        self.begin(upstream, script=(token("access-1", refresh_token="refresh-2"), ok(b'{"response":{}}')))
        self.assertEqual(self.post().status, 200)
        self.assertEqual(
            json.loads(path.read_text()),
            {"name": "one", "refresh_token": "refresh-2", "project": "p", "note": "mine"},
        )
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)

    def test_an_account_without_a_project_is_not_used(self) -> None:
        """The upstream would refuse it; the operator is told elsewhere."""
        self.begin(account(accounts=(AccountConfig("one", Secret("refresh-1"), ""),)))
        self.assertEqual((self.post().status, self.wire.requests), (503, []))


class SettingTests(CompositionCase):
    def test_a_client_key_of_the_configuration_is_asked_for(self) -> None:
        """Its digest alone is known."""
        digest = hashlib.sha256(b"client-key").digest()
        self.begin(keys("first"), script=(ok(),), proxy=ProxyConfig(api_keys=(digest,)))
        self.assertEqual(self.post().status, 401)
        self.assertEqual(self.post(PATH, ("x-goog-api-key", "client-key")).status, 200)

    def test_limits_reach_the_site(self) -> None:
        """limits.body."""
        self.begin(keys("first"), limits=Limits(body=5))
        self.assertEqual(self.post().status, 413)

    def test_aliases_and_attempts_reach_the_router(self) -> None:
        """routing.aliases, routing.max_attempts."""
        routing = RoutingConfig(max_attempts=1, aliases=(("gpt-*", "gemini-2.5-pro"),))
        self.begin(keys("first", "second"), script=(WireError("connect"),), routing=routing)
        answer = self.post("/v1beta/models/gpt-4:generateContent")
        self.assertEqual((answer.status, len(self.wire.requests)), (503, 1))
        self.assertEqual(answer.headers["x-antigravity-model"], "gemini-2.5-pro")

    def test_the_done_marker_reaches_the_routes(self) -> None:
        """proxy.done_marker."""
        done = stream(event("a"), b"[DONE]")
        self.begin(keys("first"), script=(done,), proxy=ProxyConfig(done_marker=DoneMarker.NEVER))
        answer = self.post("/v1beta/models/m:streamGenerateContent")
        self.assertEqual(answer.body, sse(event("a")))

    def test_every_upstream_has_a_lister(self) -> None:
        """Its models come into the catalogue."""
        self.begin(keys("first"), script=(ok(b'{"models":[{"name":"models/fresh"}]}'),))
        for lister in self.composition.listers:
            lister.start()
        client = self.connect()
        client.ask("GET", "/v1beta/models/fresh")
        self.assertEqual(client.answer().status, 200)
        for lister in self.composition.listers:
            lister.stop()

    def test_nothing_happens_before_it_is_started(self) -> None:
        """makeService runs before the daemon forks: no timer, no request."""
        self.begin(keys("first"), account())
        self.assertEqual((self.clock.getDelayedCalls(), self.wire.requests), ([], []))
