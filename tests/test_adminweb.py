"""The admin API over the network, in memory: from a sign-in to a sign-out."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import subprocess
import sys
from fnmatch import fnmatch
from typing import Any, cast

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from gateway.edge.guesses import Guesses
from gateway.edge.hosts import LOOPBACK_HOSTS
from gateway.operations.admin import Face
from gateway.operations.adminaccounts import AccountRoutes
from gateway.operations.adminkeys import KeyRoutes
from gateway.operations.adminpool import PoolRoutes
from gateway.operations.adminroutes import Part, Route
from gateway.operations.adminsession import CHECKS_MOST, CodeRoutes, SessionRoutes
from gateway.operations.admintrying import TryingRoutes
from gateway.operations.adminusage import UsageRoutes
from gateway.operations.adminweb import AdminWeb
from gateway.operations.dashboard import FILES
from gateway.operations.door import OPEN, Door, Rules
from gateway.operations.feed import Feed
from gateway.operations.sessions import Codes, Sessions
from gateway.operations.watching import BODY_MOST_BYTES, Pages, WatchSite
from gateway.routing.oversight import Oversight
from tests.clients.environments import REPOSITORY
from tests.fakes import Answer, Client, FakeWire, member, router

TOKEN = "a-token"
PASSWORD = "the right one"
MARK = ("X-Antigravity-Request", "1")
JSON = ("Content-Type", "application/json")


def every_part() -> list[Part]:
    """All parts of the API, of which nobody runs a route."""
    nothing = cast(Any, None)
    return [
        PoolRoutes(nothing, "1", dict),
        AccountRoutes(nothing, nothing),
        TryingRoutes(nothing, nothing),
        KeyRoutes(nothing),
        Feed(nothing, nothing, nothing, nothing, nothing, nothing),
        SessionRoutes(nothing, nothing, nothing, nothing, nothing, "1"),
        UsageRoutes(nothing),
        CodeRoutes(nothing, nothing, nothing, nothing),
    ]


def every_route() -> list[Route]:
    """The routes of them all, but for those of the socket alone."""
    return [route for part in every_part() for route in part.routes() if not isinstance(part, CodeRoutes)]


class WebCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.router = router(FakeWire(), self.clock, member("first"), member("second"))
        self.codes = Codes()
        self.checks: list[Deferred[bool]] | None = None
        rules = Rules((hashlib.sha256(TOKEN.encode()).digest(),), "a-hash", LOOPBACK_HOSTS.admits)
        self.door = Door(rules, Sessions(60.0, 600.0), Guesses())
        numbers = itertools.count(1)
        self.session = SessionRoutes(
            self.door, self.codes, self.check, lambda: f"token-{next(numbers)}", self.clock, "1.2"
        )
        pool = PoolRoutes(Oversight(self.router, {"studio": "aistudio"}), "1.2", dict)
        self.face = Face([self.session, pool], "1.2")
        pages = Pages(lambda: "", dict, lambda: {"version": "1.2"}, lambda accept: (b"", b"text/plain"))
        self.site = WatchSite(pages, rules.tokens, self.clock)
        self.site.beyond = AdminWeb(self.door, self.face.resource, self.clock).render

    def check(self, hashed: str, password: str) -> Deferred[bool]:
        if self.checks is None:
            return succeed(hashed == "a-hash" and password == PASSWORD)
        self.checks.append(Deferred())
        return self.checks[-1]

    def ask(self, method: str, target: str, document: object = None, *headers: tuple[str, str]) -> Answer:
        body = b"" if document is None else json.dumps(document).encode()
        client = Client(self.site)
        client.ask(method, target, body, *([] if document is None else [JSON]), *headers)
        return client.answer()

    def sign_in(self, **given: str) -> Answer:
        return self.ask("POST", "/v1/session", given, MARK)

    def cookie(self, answer: Answer) -> tuple[str, str]:
        self.assertEqual(answer.status, 200, answer.body)
        return ("Cookie", answer.headers["set-cookie"].partition(";")[0])


class SignInTests(WebCase):
    def test_password_opens_a_session(self) -> None:
        """Its cookie is out of scripts' reach, and goes to this site's own pages alone."""
        self.assertEqual(self.ask("GET", "/v1/accounts").status, 401)
        told = self.sign_in(password=PASSWORD)
        self.assertEqual(
            told.headers["set-cookie"], "antigravity_session=token-1; Path=/v1; HttpOnly; SameSite=strict"
        )
        cookie = self.cookie(told)
        rows = self.ask("GET", "/v1/accounts", None, cookie).json["accounts"]
        self.assertEqual([row["name"] for row in rows], ["first", "second"])
        acted = self.ask("POST", "/v1/accounts/studio/first/disable", None, cookie, MARK)
        self.assertEqual(acted.json["account"]["state"], "disabled")

    def test_cookie_of_a_tls_listener_goes_over_tls_alone(self) -> None:
        """It is marked Secure."""
        self.codes.make("once", 0.0)
        client = Client(self.site)
        directlyProvides(client.transport, ISSLTransport)
        client.ask("POST", "/v1/session", b'{"code": "once"}', JSON, MARK)
        self.assertIn("; Secure", client.answer().headers["set-cookie"])

    def test_token_and_code_open_one_too(self) -> None:
        """The code once."""
        self.codes.make("once", 0.0)
        for given in ({"token": TOKEN}, {"code": "once"}):
            told = self.sign_in(**given)
            self.assertEqual((told.json["signed_in"], [told.json["how"]]), (True, list(given)))
        self.assertEqual(self.sign_in(code="once").status, 401)

    def test_what_is_wrong_opens_none(self) -> None:
        """And the answer does not say what would have been right."""
        for given, status in (
            ({"password": "x"}, 401),
            ({"token": "x"}, 401),
            ({"code": "x"}, 401),
            ({}, 400),
            ({"password": PASSWORD, "token": TOKEN}, 400),
        ):
            answer = self.sign_in(**given)
            self.assertEqual(answer.status, status)
            self.assertNotIn("set-cookie", answer.headers)
        self.assertEqual(len(self.door.sessions), 0)

    def test_without_a_password_none_is_right(self) -> None:
        """Nor is the empty token."""
        self.door.rules = Rules(admits=LOOPBACK_HOSTS.admits)
        for given in ({"password": PASSWORD}, {"token": TOKEN}):
            self.assertEqual(self.sign_in(**given).status, 401)
        self.assertEqual(self.ask("GET", "/v1/session").json["ways"], ["code"])

    def test_attempts_from_an_address_are_limited(self) -> None:
        """The right password too, because its check costs."""
        for _ in range(10):
            self.assertEqual(self.sign_in(password="x").status, 401)
        late = self.sign_in(password=PASSWORD)
        self.assertEqual((late.status, late.headers["retry-after"]), (429, "6"))
        self.clock.advance(6.0)
        self.assertEqual(self.sign_in(password=PASSWORD).status, 200)

    def test_few_passwords_are_checked_at_a_time(self) -> None:
        """A hash takes memory; whoever comes beyond the limit is told to come again."""
        self.checks = []
        clients = []
        for _ in range(CHECKS_MOST + 1):
            client = Client(self.site)
            client.ask("POST", "/v1/session", b'{"password": "x"}', JSON, MARK)
            clients.append(client)
        self.assertEqual(clients[-1].answer().status, 503)
        self.assertEqual(len(self.checks), CHECKS_MOST)
        self.checks[0].callback(True)
        self.assertEqual(clients[0].answer().status, 200)
        clients[1].leave()
        for check in self.checks[1:]:
            check.callback(False)
        self.checks = None
        self.assertEqual(self.sign_in(password=PASSWORD).status, 200)

    def test_checks_go_on_and_count_when_their_clients_leave(self) -> None:
        """A thread cannot be called back: whoever comes and goes has no more of them at work."""
        self.checks = []
        for _ in range(2 * CHECKS_MOST):
            client = Client(self.site)
            client.ask("POST", "/v1/session", b'{"password": "x"}', JSON, MARK)
            client.leave()
        self.assertEqual(len(self.checks), CHECKS_MOST)
        self.assertEqual(self.sign_in(password=PASSWORD).status, 503)
        for check in self.checks:
            check.callback(True)
        self.assertEqual(len(self.door.sessions), 0)
        self.checks, self.door.attempts = None, Guesses()
        self.assertEqual(self.sign_in(password=PASSWORD).status, 200)

    def test_signing_out_ends_it(self) -> None:
        """The cookie is taken back, and is good for nothing."""
        cookie = self.cookie(self.sign_in(password=PASSWORD))
        self.assertTrue(self.ask("GET", "/v1/session", None, cookie).json["signed_in"])
        out = self.ask("DELETE", "/v1/session", None, cookie, MARK)
        self.assertIn("Max-Age=0", out.headers["set-cookie"])
        self.assertEqual(self.ask("GET", "/v1/accounts", None, cookie).status, 401)
        self.assertFalse(self.ask("GET", "/v1/session", None, cookie).json["signed_in"])

    def test_secret_of_a_request_is_not_repeated(self) -> None:
        """Where its form is wrong, either."""
        for document in ({"password": ["canary"]}, {"password": "canary", "more": 1}, {"password": "canary" * 200}):
            answer = self.ask("POST", "/v1/session", document, MARK)
            self.assertEqual(answer.status, 400)
            self.assertNotIn(b"canary", answer.body)

    def test_name_of_a_credential_is_one_line(self) -> None:
        """It is shown by logs, and compared with those of the configuration."""
        nobody = cast(Any, None)
        site = WatchSite(self.site.pages, (), self.clock)
        site.beyond = Face([AccountRoutes(nobody, nobody)], "1").resource.render
        for path, more in (("credentials", {"api_key": "x"}), ("sign-ins", {})):
            for name in ("a\n", "a\nb", "-a", ""):
                client = Client(site)
                body = json.dumps({"name": name, **more}).encode()
                client.ask("POST", f"/v1/upstreams/studio/{path}", body, JSON)
                answer = client.answer()
                self.assertEqual((answer.status, answer.json["error"]["reason"]), (400, "BODY_INVALID"), name)

    def test_what_a_credential_may_not_be_is_refused_before_anything_is_kept(self) -> None:
        """How much it is used within its range, of secrets one, and nothing that nobody knows."""
        nobody = cast(Any, None)
        site = WatchSite(self.site.pages, (), self.clock)
        site.beyond = Face([AccountRoutes(nobody, nobody)], "1").resource.render
        new, old = ("POST", "/v1/upstreams/studio/credentials"), ("PATCH", "/v1/accounts/studio/a/terms")
        for (method, path), document, reason in (
            (new, {"name": "a"}, "SECRET_MISSING"),
            (new, {"name": "a", "api_key": "x", "refresh_token": "y"}, "SECRET_MISSING"),
            (new, {"name": "a", "api_key": "x", "weight": 0}, "BODY_INVALID"),
            (old, {"weight": -1}, "BODY_INVALID"),
            (old, {"priority": 1.5}, "BODY_INVALID"),
            (old, {"max_concurrent": -1}, "BODY_INVALID"),
            (old, {"name": "b"}, "BODY_INVALID"),
        ):
            client = Client(site)
            client.ask(method, path, json.dumps(document).encode(), JSON)
            answer = client.answer()
            self.assertEqual((answer.status, answer.json["error"]["reason"]), (400, reason), document)

    def test_code_is_made_for_who_reaches_the_socket(self) -> None:
        """That face has no other way in, and the network's has no such route."""
        routes = CodeRoutes(self.codes, lambda: "made", self.clock, lambda: ["http://localhost:8046"])
        site = WatchSite(self.site.pages, (), self.clock)
        site.beyond = Face([routes], "1").resource.render
        client = Client(site)
        client.ask("POST", "/v1/sign-in-codes")
        self.assertEqual(client.answer().json, {"code": "made", "seconds": 300.0, "urls": ["http://localhost:8046"]})
        self.assertEqual(self.sign_in(code="made").status, 200)
        cookie = self.cookie(self.sign_in(password=PASSWORD))
        self.assertEqual(self.ask("POST", "/v1/sign-in-codes", None, cookie, MARK).status, 404)


class FrontTests(WebCase):
    def test_bearer_needs_no_session(self) -> None:
        """As scripts use it: under any name, and without the header."""
        bearer = ("Authorization", f"Bearer {TOKEN}")
        client = Client(self.site)
        client.ask("POST", "/v1/accounts/studio/first/disable", b"", bearer, host="gateway.example")
        self.assertEqual(client.answer().status, 200)
        self.assertEqual(self.ask("GET", "/v1/session", None, bearer).json["how"], "token")

    def test_every_answer_has_the_headers_that_browsers_go_by(self) -> None:
        """Refusals as well."""
        for answer in (self.ask("GET", "/v1/accounts"), self.ask("GET", "/v1/session")):
            self.assertIn("default-src 'none'", answer.headers["content-security-policy"])
            self.assertIn("frame-ancestors 'none'", answer.headers["content-security-policy"])
            self.assertEqual(answer.headers["x-content-type-options"], "nosniff")
            self.assertEqual(answer.headers["x-frame-options"], "DENY")
            self.assertEqual(answer.headers["cache-control"], "no-store")
            self.assertNotIn("access-control-allow-origin", answer.headers)

    def test_large_body_is_refused_and_not_kept(self) -> None:
        """Before anybody reads it."""
        answer = self.ask("POST", "/v1/session", {"password": "x" * BODY_MOST_BYTES}, MARK)
        self.assertEqual((answer.status, answer.json["error"]["reason"]), (413, "BODY_TOO_LARGE"))

    def test_body_is_taken_as_json_alone(self) -> None:
        """A form of another page's cannot send that."""
        client = Client(self.site)
        client.ask("POST", "/v1/session", b'{"password":"x"}', ("Content-Type", "text/plain"), MARK)
        self.assertEqual(client.answer().status, 415)

    def test_nobody_unknown_is_let_in_to_any_route(self) -> None:
        """Of all that there are, whatever path is given for a name; but to those that are open."""
        for route in every_route():
            if not route.open:
                target = re.sub(r"<[^>]*>", "x", route.path)
                self.assertEqual(self.ask(route.method, target, None, MARK).status, 401, target)

    def test_wrong_method_is_told_which_are_right(self) -> None:
        """405 with Allow."""
        answer = self.ask("PATCH", "/v1/status", None, ("Authorization", f"Bearer {TOKEN}"))
        self.assertEqual((answer.status, answer.headers["allow"]), (405, "GET"))

    def test_open_routes_are_those_of_the_door(self) -> None:
        """What the document says is what the door does."""
        told = {(route.method, route.path) for route in self.face.routes if route.open}
        self.assertEqual(told, {(method, path) for method, path in OPEN if method != "HEAD"})

    def test_pages_of_who_watches_are_as_they_were(self) -> None:
        """Beside the API, each with its own door."""
        self.assertEqual(self.ask("GET", "/healthz").status, 200)
        self.assertEqual(self.ask("GET", "/status").status, 401)
        self.assertEqual(self.ask("GET", "/nothing").status, 404)

    def test_exposed_pages_want_a_token_even_where_there_is_none(self) -> None:
        """A password alone opens no metrics to others."""
        self.site.tokens, self.site.private = (), False
        for path in ("/metrics", "/status", "/readyz"):
            self.assertEqual(self.ask("GET", path).status, 401)
        self.assertEqual(self.ask("GET", "/metrics", None, ("Authorization", "Bearer ")).status, 401)

    def test_document_is_served(self) -> None:
        """To who is signed in."""
        bearer: Any = ("Authorization", f"Bearer {TOKEN}")
        paths = self.ask("GET", "/v1/openapi.json", None, bearer).json["paths"]
        self.assertIn("/v1/session", paths)
        self.assertEqual(paths["/v1/session"]["post"]["security"], [{}])


class DashboardTests(WebCase):
    def test_files_are_those_of_the_package_alone(self) -> None:
        """Each with its type; whatever else is asked for is not there."""
        for path, kind in (
            ("/dashboard/", "text/html"),
            ("/dashboard/app.js", "text/javascript"),
            ("/dashboard/vendor/uPlot.iife.min.js", "text/javascript"),
            ("/dashboard/app.css", "text/css"),
            ("/dashboard/icon.svg", "image/svg+xml"),
        ):
            answer = self.ask("GET", path)
            self.assertEqual(answer.status, 200, path)
            self.assertTrue(answer.headers["content-type"].startswith(kind))
        away = ("/dashboard/../__init__.py", "/dashboard/none.js", "/dashboard//app.js", "/dashboard/vendor", "/x")
        for path in away:
            self.assertEqual(self.ask("GET", path).status, 404, path)
        self.assertEqual(self.ask("GET", "/").headers["location"], "/dashboard/")
        self.assertEqual(self.ask("POST", "/dashboard/").status, 405)

    def test_nothing_runs_or_is_fetched_that_is_not_the_pages_own(self) -> None:
        """The policy allows no inline script or style, no other host, and no frame around it."""
        policy = self.ask("GET", "/dashboard/").headers["content-security-policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertIn("script-src 'self';", policy)
        self.assertIn("style-src 'self';", policy)
        self.assertIn("frame-ancestors 'none'", policy)
        self.assertNotIn("unsafe", policy)
        page = self.ask("GET", "/dashboard/").body.decode()
        self.assertNotRegex(page, r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|https?://")

    def test_file_that_is_kept_is_not_sent_again(self) -> None:
        """As long as it is the same; it is asked for each time, so that a new version is seen at once."""
        first = self.ask("GET", "/dashboard/app.js")
        self.assertEqual(first.headers["cache-control"], "no-cache")
        etag = ("If-None-Match", first.headers["etag"])
        client = Client(self.site)
        client.ask("GET", "/dashboard/app.js", b"", etag)
        self.assertEqual(client.answer(bodyless=True).status, 304)
        self.assertEqual(self.ask("GET", "/dashboard/app.js", None, ("If-None-Match", '"x"')).status, 200)

    def test_scripts_ask_for_routes_that_there_are(self) -> None:
        """Every path of the API in them is one of the document's, and they make no markup of texts."""
        served = {re.sub(r"<[^>]*>", "*", route.path) for route in every_route()}
        for path in sorted(FILES.glob("*.js")):
            script = path.read_text("utf-8")
            self.assertNotRegex(script, r"innerHTML|AdjacentHTML|document\.write|\beval\(|new Function", path.name)
            for found in re.findall(r"[`\"](/v1/[^`\"?]*)", script):
                plain = re.sub(r"\$\{[^}]*\}", "*", found).rstrip("/")
                self.assertTrue(any(fnmatch(one, plain + "*") for one in served), f"{path.name}: {found}")


class IdleTests(SynchronousTestCase):
    def test_nothing_of_it_is_loaded_before_it_is_asked_for(self) -> None:
        """A gateway whose dashboard nobody opens keeps no memory for it."""
        program = (
            "import sys, gateway.service, gateway.operations.exposition;"
            "print(sorted(name for name in sys.modules if name.startswith(('argon2', 'gateway.'))))"
        )
        command = [sys.executable, "-c", program]
        loaded = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout
        for module in ("feed", "door", "sessions", "adminweb", "adminroutes", "openapi", "dashboard", "requests"):
            self.assertNotIn(f"'gateway.operations.{module}'", loaded)
        for module in ("argon2", "gateway.playground", "gateway.signins", "gateway.filing"):
            self.assertNotIn(f"'{module}'", loaded)
        self.assertIn("'gateway.console'", loaded)
