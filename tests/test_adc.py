"""Application default credentials: google-auth is asked in a thread, by one at a time."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from gateway.accounts import adc
from gateway.accounts.oauth import Granted, TokenRevoked, TokenUnavailable
from gateway.accounts.serviceaccount import SCOPE
from gateway.accounts.tokens import FetchedToken
from gateway.calls import Secret
from tests.keyfiles import key_file

NOW = 1_800_000_000.0


class GoogleAuthError(Exception):
    pass


class RefreshError(GoogleAuthError):
    pass


class DefaultCredentialsError(GoogleAuthError):
    pass


class FakeCredentials:
    """What google.auth.default finds: tokens in a row, or errors."""

    def __init__(self, clock: Clock) -> None:
        self.token: Any = None
        self.expiry: datetime | None = None
        self.refreshed = 0
        self.timeouts: list[float] = []
        self.error: Exception | None = None
        self.life: timedelta | None = timedelta(seconds=3600)
        self.quota_project_id: str | None = None
        self._clock = clock

    def refresh(self, request: Callable[..., Any]) -> None:
        self.timeouts.append(request())
        self.refreshed += 1
        if self.error is not None:
            raise self.error
        self.token = f"ya29.{self.refreshed}"
        now = datetime.fromtimestamp(NOW + self._clock.seconds(), UTC).replace(tzinfo=None)
        self.expiry = None if self.life is None else now + self.life


class AdcTests(SynchronousTestCase):
    """A token source over a stand-in for the module google.auth."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.credentials = FakeCredentials(self.clock)
        self.scopes: list[list[str]] = []
        self.missing = False
        self.threads: list[tuple[Callable[[], Granted], Deferred[Granted]]] = []
        google_auth = SimpleNamespace(
            default=self.default,
            exceptions=SimpleNamespace(
                GoogleAuthError=GoogleAuthError,
                RefreshError=RefreshError,
                DefaultCredentialsError=DefaultCredentialsError,
            ),
            transport=SimpleNamespace(requests=SimpleNamespace(Request=self.request)),
        )
        self.sessions: list[Any] = []
        self.source = adc.token_source(
            adc.Library(google_auth, lambda: SimpleNamespace(trust_env=True)),
            self.in_thread,
            self.clock.seconds,
            lambda: NOW + self.clock.seconds(),
        )

    def request(self, session: Any) -> Callable[..., float]:
        self.sessions.append(session)
        return lambda timeout=120.0: timeout

    def default(self, scopes: list[str], request: Callable[..., float]) -> tuple[FakeCredentials, str]:
        self.assertEqual(request(), 30.0)
        self.scopes.append(scopes)
        if self.missing:
            raise DefaultCredentialsError("long words")
        return self.credentials, "a-project"

    def in_thread(self, function: Callable[[], Granted]) -> Deferred[Granted]:
        result: Deferred[Granted] = Deferred()
        self.threads.append((function, result))
        return result

    def run_thread(self) -> None:
        """Do what the thread would do."""
        function, result = self.threads.pop(0)
        try:
            granted = function()
        except Exception:
            result.errback(Failure())
        else:
            result.callback(granted)

    def get(self) -> Deferred[Secret]:
        return ensureDeferred(self.source.get())

    def fresh(self) -> Secret:
        waiting = self.get()
        self.run_thread()
        return self.successResultOf(waiting)

    def failed(self, error: Exception) -> str:
        """What a waiter is told of google-auth's error."""
        self.credentials.error = error
        waiting = self.get()
        self.run_thread()
        return str(self.failureResultOf(waiting, TokenUnavailable).value)

    def test_nothing_is_asked_outside_the_thread(self) -> None:
        """Not even who this machine is: google-auth reads files and asks the metadata server for it."""
        waiting = self.get()
        self.assertEqual((self.scopes, self.credentials.refreshed), ([], 0))
        self.assertNoResult(waiting)
        self.run_thread()
        self.assertEqual(self.successResultOf(waiting), Secret("ya29.1"))
        self.assertEqual(self.scopes, [["https://www.googleapis.com/auth/cloud-platform"]])

    def test_all_who_wait_share_one_thread(self) -> None:
        """K2: google-auth's objects are not made for two at a time."""
        waiting = [self.get() for _ in range(100)]
        self.assertEqual(len(self.threads), 1)
        waiting[0].cancel()
        self.failureResultOf(waiting[0])
        self.run_thread()
        self.assertEqual({self.successResultOf(one) for one in waiting[1:]}, {Secret("ya29.1")})

    def test_token_serves_while_the_next_is_fetched(self) -> None:
        """At 80 % of its life; its end is google-auth's, in UTC."""
        self.fresh()
        self.clock.advance(2879)
        self.assertEqual(self.successResultOf(self.get()), Secret("ya29.1"))
        self.assertEqual(self.threads, [])
        self.clock.advance(2)
        self.assertEqual(self.successResultOf(self.get()), Secret("ya29.1"))
        self.run_thread()
        self.assertEqual(self.successResultOf(self.get()), Secret("ya29.2"))
        self.assertEqual(len(self.scopes), 1)

    def test_end_is_utc_wherever_the_machine_is(self) -> None:
        """google-auth's times do not say so, and would else be read as local."""
        zone = os.environ.get("TZ")
        # The last one added is the first to run.
        self.addCleanup(time.tzset)
        if zone is not None:
            self.addCleanup(os.environ.__setitem__, "TZ", zone)
        self.addCleanup(os.environ.pop, "TZ", None)
        os.environ["TZ"] = "UTC+8"
        time.tzset()
        self.fresh()
        self.clock.advance(3541)
        self.assertNoResult(self.get())

    def test_token_without_an_end_gets_one(self) -> None:
        """K3: five minutes are assumed."""
        self.credentials.life = None
        self.fresh()
        self.clock.advance(239)
        self.successResultOf(self.get())
        self.clock.advance(2)
        self.assertNoResult(self.get())
        self.assertEqual(len(self.threads), 1)

    def test_refused_token_is_exchanged(self) -> None:
        """U4: by one refresh."""
        stale = self.fresh()
        renewed = ensureDeferred(self.source.renew(stale))
        self.run_thread()
        self.assertEqual(self.successResultOf(renewed), Secret("ya29.2"))

    def test_wait_is_bounded(self) -> None:
        """google-auth's own limit would be two minutes a request."""
        self.fresh()
        self.assertEqual(self.credentials.timeouts, [30.0])

    def test_proxies_of_the_environment_are_not_heeded(self) -> None:
        """S19: the configuration alone says where requests go."""
        self.fresh()
        self.assertEqual([session.trust_env for session in self.sessions], [False])

    def test_project_that_pays_is_told(self) -> None:
        """As google-auth does it; one that no project is called could be anything, and is left out."""
        self.fresh()
        self.assertEqual(self.source.quota_project, "")
        for told, sent in (("the-payer", "the-payer"), ("a\r\nb", ""), (None, ""), ("example.com:p", "example.com:p")):
            self.credentials.quota_project_id = told
            self.clock.advance(4000)
            self.fresh()
            self.assertEqual(self.source.quota_project, sent)

    def test_invalid_grant_means_that_the_credentials_are_dead(self) -> None:
        """K1: as for any account."""
        self.credentials.error = RefreshError("invalid_grant: Bad Request", {"error": "invalid_grant"})
        waiting = self.get()
        self.run_thread()
        self.failureResultOf(waiting, TokenRevoked)

    def test_other_errors_pass_and_do_not_quote_the_answer(self) -> None:
        """K2: the network, a metadata server that is ill, an answer that is none."""
        self.assertEqual(self.failed(GoogleAuthError("hush")), "google-auth raised GoogleAuthError")
        self.clock.advance(60)
        self.assertEqual(self.failed(RefreshError("hush", {"error": "hush"})), "google-auth raised RefreshError")
        self.clock.advance(60)
        self.credentials.error = None
        self.assertEqual(self.fresh(), Secret("ya29.3"))

    def test_machine_without_credentials_is_told_what_to_do(self) -> None:
        """And it is asked again later: they may come."""
        self.missing = True
        waiting = self.get()
        self.run_thread()
        error = self.failureResultOf(waiting, TokenUnavailable).value
        self.assertIn("GOOGLE_APPLICATION_CREDENTIALS", str(error))
        self.missing = False
        self.clock.advance(60)
        self.assertEqual(self.fresh(), Secret("ya29.1"))

    def test_unforeseen_error_is_an_unavailable_token(self) -> None:
        """Nobody waits for ever; the traceback is in the log."""
        self.assertIn("KeyError", self.failed(KeyError("x")))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_token_that_cannot_travel_is_none(self) -> None:
        """It becomes a header's value."""
        refresh = self.credentials.refresh
        for token in (None, "", "a\r\nb", "\u00e9", 7):

            def spoiled(request: Callable[..., Any], token: object = token) -> None:
                refresh(request)
                self.credentials.token = token

            self.credentials.refresh = spoiled  # type: ignore[method-assign]
            waiting = self.get()
            self.run_thread()
            self.failureResultOf(waiting, TokenUnavailable)
            self.clock.advance(60)


class Endpoint(BaseHTTPRequestHandler):
    """A token endpoint that gives one token."""

    def do_POST(self) -> None:
        body = json.dumps({"access_token": "ya29.real", "expires_in": 3599, "token_type": "Bearer"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class RealLibraryTests(SynchronousTestCase):
    """google-auth itself, where the extra ``adc`` is installed."""

    def setUp(self) -> None:
        try:
            self.library = adc.library()
        except ImportError:
            raise SkipTest("google-auth is not installed: pip install 'antigravity-gateway[adc]'") from None
        server = HTTPServer(("127.0.0.1", 0), Endpoint)
        self.addCleanup(server.server_close)
        self.serving = threading.Thread(target=server.handle_request, daemon=True)
        self.serving.start()
        self.url = f"http://127.0.0.1:{server.server_port}/token"

    def fetched(self, credentials: Any) -> FetchedToken:
        """Have google-auth fetch a token for credentials of its own; return the source that has it."""
        auth = self.library.auth
        module = SimpleNamespace(
            default=lambda scopes, request: (credentials, None), exceptions=auth.exceptions, transport=auth.transport
        )

        async def here(function: Callable[[], Granted]) -> Granted:
            return function()

        library = adc.Library(module, self.library.session)
        source = adc.token_source(library, here, lambda: 0.0, lambda: datetime.now(UTC).timestamp())
        self.assertEqual(self.successResultOf(ensureDeferred(source.get())), Secret("ya29.real"))
        self.serving.join(10)
        return source

    def loaded(self, document: str) -> Any:
        """Return the credentials that google-auth makes of a file."""
        path = Path(self.mktemp())
        path.write_text(document)
        return self.library.auth.load_credentials_from_file(str(path), scopes=[SCOPE])[0]

    def test_google_auth_is_used_as_it_is_meant(self) -> None:
        """A service account's file, and a token endpoint on loopback; nobody else is paid by it."""
        self.assertEqual(self.fetched(self.loaded(key_file(token_uri=self.url))).quota_project, "")

    def test_proxies_of_the_environment_are_not_heeded(self) -> None:
        """S19: nobody listens where they point to."""
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            before = os.environ.get(name)
            if before is None:
                self.addCleanup(os.environ.pop, name, None)
            else:
                self.addCleanup(os.environ.__setitem__, name, before)
            os.environ[name] = "http://127.0.0.1:1"
        exempt = {name: os.environ.pop(name) for name in ("no_proxy", "NO_PROXY") if name in os.environ}
        self.addCleanup(os.environ.update, exempt)
        self.fetched(self.loaded(key_file(token_uri=self.url)))

    def test_users_file_of_gcloud_names_who_pays(self) -> None:
        """``quota_project_id`` of the file, as ``gcloud auth application-default login`` writes it."""
        user = {"client_id": "c", "client_secret": "s", "refresh_token": "r", "quota_project_id": "the-payer"}
        credentials = self.loaded(json.dumps({"type": "authorized_user", **user}))
        self.assertEqual(credentials.token_uri, "https://oauth2.googleapis.com/token")
        # google-auth sends such a file's to Google whatever it says.
        credentials._token_uri = self.url
        self.assertEqual(self.fetched(credentials).quota_project, "the-payer")
