"""A composition takes over from another in memory: what changes, what goes on, who keeps what."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.store import StoreError
from gateway.calls import HttpRequest, Secret, Terms
from gateway.composition import Composition
from gateway.config import (
    AccountConfig,
    Config,
    CredentialConfig,
    Limits,
    OAuthConfig,
    ProxyConfig,
    RoutingConfig,
    SessionsConfig,
    Timeouts,
    UpstreamConfig,
)
from gateway.edge.gate import Gate
from tests.fakes import ANSWER, BODY, Client, FakeExchange, FakeRecorder, FakeWire, ok, refused

PATH = "/v1beta/models/gemini-2.5-flash:generateContent"
OAUTH = OAuthConfig("client-1", Secret("client-secret"), "https://token.example/token")


def keys(*named: str, upstream: str = "studio", **changes: Any) -> UpstreamConfig:
    """An upstream of API keys."""
    credentials = tuple(
        CredentialConfig(name, Secret(f"secret-{name}"), terms=changes.get("terms", Terms())) for name in named
    )
    return UpstreamConfig(upstream, "aistudio", ("https://one.example",), credentials=credentials, **changes)


def account(**changes: Any) -> UpstreamConfig:
    """An upstream of one account, given ready-made."""
    given: dict[str, Any] = {
        "oauth": OAUTH,
        "accounts": (AccountConfig("someone", Secret("refresh-1"), "project-1"),),
        **changes,
    }
    return UpstreamConfig("accounts", "codeassist", ("https://two.example/v1internal",), **given)


class TakeOverCase(SynchronousTestCase):
    def begin(self, *upstreams: UpstreamConfig, **changes: Any) -> None:
        self.clock, self.recorder = Clock(), FakeRecorder()
        self.wire = FakeWire(by=self.answer)
        self.held: list[Deferred[FakeExchange]] = []
        self.holds = False
        self.state = self.mktemp()
        self.now = Composition(self.config(upstreams, changes), self.clock, self.wire, self.recorder)
        self.site = self.now.site

    def answer(self, request: HttpRequest) -> Any:
        """Answer token requests at once and the others unless they are held."""
        if b"token.example" in request.url:
            return ok(json.dumps({"access_token": "access-1", "expires_in": 3600}).encode())
        if self.holds:
            self.held.append(Deferred())
            return self.held[-1]
        return ok(b'{"response":' + ANSWER + b"}" if b"v1internal" in request.url else ANSWER)

    def config(self, upstreams: tuple[UpstreamConfig, ...], changes: dict[str, Any]) -> Config:
        return Config(upstreams=upstreams, state_dir=self.state, source="test", **changes)

    def reload(self, *upstreams: UpstreamConfig, **changes: Any) -> None:
        following = Composition(self.config(upstreams, changes), self.clock, self.wire, self.recorder, self.now)
        following.take_over()
        self.now = following

    def client(self, body: bytes = BODY) -> Client:
        client = Client(self.site)
        client.post(PATH, body)
        return client

    def credential(self) -> str:
        """Return who served a request."""
        answer = self.client().answer()
        self.assertEqual(answer.status, 200)
        return answer.headers["x-antigravity-credential"]


class KeptTests(TakeOverCase):
    def test_the_site_the_keeper_and_the_standings_are_the_same(self) -> None:
        """P3: listeners, connections and what has been learnt go on."""
        self.begin(keys("first"))
        before = self.now
        self.reload(keys("first", "second"))
        for part in ("site", "members", "keeper", "oversight"):
            self.assertIs(getattr(self.now, part), getattr(before, part))
        self.assertIs(self.now.router.standings, before.router.standings)
        self.assertIs(self.now.oversight.router, self.now.router)

    def test_a_session_stays_on_its_credential(self) -> None:
        """P3: and a rest goes on."""
        self.begin(keys("first", "second"))
        first = self.credential()
        self.reload(keys("first", "second", terms=Terms(weight=2.0)))
        self.assertEqual([self.credential() for _ in range(3)], [first] * 3)

    def test_a_rest_goes_on(self) -> None:
        """P3: a reload frees nobody."""
        self.begin(keys("first"))
        self.wire.by = lambda request: refused(429, "RESOURCE_EXHAUSTED")
        self.client()
        self.wire.by = self.answer
        self.reload(keys("first"), routing=RoutingConfig(max_attempts=2))
        self.assertEqual(self.client().answer().status, 429)

    def test_an_accounts_token_is_kept_over_new_settings_of_its_upstream(self) -> None:
        """P3: weights, models and addresses change; who it is does not."""
        self.begin(account())
        self.credential()
        changed = account(terms=Terms(priority=3), models=("gemini-*",))
        self.reload(attrs.evolve(changed, base_urls=("https://three.example/v1internal",)))
        self.credential()
        urls = [request.url for request in self.wire.requests]
        self.assertEqual(sum(b"token.example" in url for url in urls), 1)
        self.assertIn(b"three.example", urls[-1])

    def test_an_account_of_another_oauth_client_gets_a_token_of_its_own(self) -> None:
        """A refresh token belongs to one client."""
        self.begin(account())
        self.credential()
        self.reload(account(oauth=attrs.evolve(OAUTH, client_id="client-2")))
        self.credential()
        refreshes = [request for request in self.wire.requests if b"token.example" in request.url]
        self.assertEqual(len(refreshes), 2)
        self.assertIn(b"client-2", refreshes[-1].body)

    def test_the_listed_models_of_an_upstream_that_stays_are_kept(self) -> None:
        """Until its list has been fetched anew."""
        self.begin(keys("first"))
        self.now.router.catalog = self.now.router.catalog.with_listing("studio", [])
        self.holds = True
        self.reload(keys("first"), proxy=ProxyConfig())
        self.assertIn("studio", self.now.router.catalog.listed)
        self.reload(keys("second"))
        self.assertNotIn("studio", self.now.router.catalog.listed)


class ManyTests(TakeOverCase):
    def test_a_hundred_reloads_leave_nothing_behind(self) -> None:
        """No timer, watcher, connection or composition more than after the first."""
        directory = Path(self.mktemp()).absolute()
        directory.mkdir(mode=0o700)
        file = directory / "a.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps({"name": "a", "refresh_token": "r", "project": "p"}))
        files = account(accounts=(), credentials_dir=str(directory))
        self.begin(keys("first"), files)
        self.now.start()
        self.reload(keys("first", "second"), files)
        self.credential()
        self.clock.advance(1)
        timers = len(self.clock.getDelayedCalls())
        seen = [weakref.ref(self.now)]
        for number in range(100):
            self.reload(*([keys("first"), files] if number % 2 else [files, keys("first", "second")]))
            seen.append(weakref.ref(self.now))
            self.credential()
        self.clock.advance(1)
        self.assertEqual(len(self.clock.getDelayedCalls()), timers)
        gc.collect()
        self.assertLessEqual(sum(one() is not None for one in seen), 2)


class ChangedTests(TakeOverCase):
    def test_a_removed_upstream_serves_nobody(self) -> None:
        """P3: its credentials are gone from the next request on."""
        self.begin(keys("first"), account())
        self.reload(account())
        self.assertEqual({self.credential() for _ in range(3)}, {self.credential()})
        self.assertEqual({member.credential.upstream for member in self.now.router.members}, {"accounts"})
        self.reload(keys("first"))
        self.assertEqual(self.credential(), "studio/first")

    def test_a_request_under_way_is_tried_again_by_its_own_rules(self) -> None:
        """P3: it ends with the credentials and the attempts that it began with."""
        self.begin(keys("first", "second"))
        self.holds = True
        client = self.client()
        self.holds = False
        self.reload(keys("third"), routing=RoutingConfig(max_attempts=1))
        self.held[0].callback(refused(429, "RESOURCE_EXHAUSTED"))
        answer = client.answer()
        self.assertEqual(answer.status, 200)
        self.assertIn(answer.headers["x-antigravity-credential"], ("studio/first", "studio/second"))

    def test_a_body_under_way_is_measured_by_its_own_limit(self) -> None:
        """P3: the next one by the new limit."""
        self.begin(keys("first"))
        client = Client(self.site)
        client.ask("POST", PATH, length=len(BODY))
        self.reload(keys("first"), limits=Limits(body=10))
        client.send(BODY)
        self.assertEqual(client.answer().status, 200)
        self.assertEqual(self.client().answer().status, 413)

    def test_who_waits_for_a_credential_gets_a_new_one(self) -> None:
        """Or the old one when it is free: nobody waits for what never comes."""
        terms, timeouts = Terms(max_concurrent=1), Timeouts(queue=60.0)
        self.begin(keys("first", terms=terms), timeouts=timeouts)
        self.holds = True
        first, waiting = self.client(), self.client()
        self.assertEqual((len(self.held), len(self.now.router.chooser.waiting)), (1, 1))
        self.holds = False
        self.reload(keys("first", terms=terms), timeouts=timeouts, limits=Limits(queue=5))
        self.assertEqual(self.now.router.chooser.waiting.limit, 5)
        self.held[0].callback(ok())
        self.assertEqual([one.answer().status for one in (first, waiting)], [200, 200])

    def test_sessions_are_cut_to_their_new_number(self) -> None:
        """The least recently used go."""
        self.begin(keys("first"))
        for number in range(5):
            self.client(json.dumps({"contents": [{"parts": [{"text": f"Hello {number}"}]}]}).encode())
        self.assertEqual(len(self.now.router.sessions), 5)
        self.reload(keys("first"), routing=RoutingConfig(sessions=SessionsConfig(2, 60.0)))
        self.assertEqual(len(self.now.router.sessions), 2)

    def test_connections_of_a_listener_that_is_gone_carry_no_further_request(self) -> None:
        """Idle ones close, the others after their answer."""
        self.begin(keys("first"))
        self.holds = True
        idle, busy = Client(self.site), self.client()
        self.site.renew_connections()
        self.assertEqual((idle.dropped, busy.dropped), (True, False))
        self.held[0].callback(ok())
        self.assertTrue(busy.dropped)


class AtomicTests(TakeOverCase):
    def test_what_cannot_be_built_leaves_everything_as_it_was(self) -> None:
        """P4: an account file that is not in order is found before anything is exchanged."""
        self.begin(keys("first"))
        directory = Path(self.mktemp())
        directory.mkdir(mode=0o700)
        file = directory / "a.json"
        file.write_text(json.dumps({"refresh_token": "x"}))
        file.chmod(0o644)
        gate, router = self.site.gate, self.now.oversight.router
        with self.assertRaises(StoreError):
            self.reload(account(accounts=(), credentials_dir=str(directory.absolute())))
        self.assertIsInstance(gate, Gate)
        self.assertIs(self.site.gate, gate)
        self.assertIs(self.now.oversight.router, router)
        self.assertEqual(self.credential(), "studio/first")

    def test_what_was_built_and_not_taken_has_touched_nothing(self) -> None:
        """P4: as when a listener cannot be opened afterwards."""
        self.begin(keys("first"))
        Composition(self.config((keys("second"),), {}), self.clock, self.wire, self.recorder, self.now)
        self.assertEqual(self.credential(), "studio/first")
