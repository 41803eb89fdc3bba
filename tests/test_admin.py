"""The admin face in memory, and the socket that it listens on."""

from __future__ import annotations

import json
import math
import os
import socket
import stat
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from gateway.accounts.statedir import SOCKET, StateDirectory
from gateway.calls import Journal
from gateway.config import Timeouts
from gateway.operations import admin
from gateway.operations.adminsocket import AdminSocket
from gateway.routing.asking import Whole
from gateway.routing.oversight import Oversight
from gateway.routing.session import fingerprint
from gateway.upstreams.models import Figure
from tests.fakes import Answer, Client, FakeTokens, FakeWire, call, member, ok, reason, refused, router, run

reactor: Any = _reactor

MODEL = "gemini-2.5-flash"
COUNTED = b'{"totalTokens":2}'


class FaceCase(SynchronousTestCase):
    """A pool of three, and its operator."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.wire = FakeWire()
        self.members = [
            member("first"),
            member("second", project="p"),
            member("a@b.example", kind="codeassist", upstream="pool", project="q"),
        ]
        self.router = router(self.wire, self.clock, *self.members)
        self.saves = 0
        kinds = {"studio": "aistudio", "pool": "codeassist"}
        self.site = admin.build(Oversight(self.router, kinds, ("anonymous", "key-1"), self.saved), "1.2", self.clock)

    def saved(self) -> Deferred[None]:
        self.saves += 1
        return succeed(None)

    def ask(self, method: str, target: str) -> Answer:
        client = Client(self.site)
        client.ask(method, target, version="HTTP/1.0")
        answer = client.answer()
        self.assertEqual(answer.headers["content-type"], "application/json")
        return answer

    def get(self, target: str) -> Any:
        answer = self.ask("GET", target)
        self.assertEqual(answer.status, 200, answer.body)
        return answer.json

    def post(self, target: str) -> Any:
        answer = self.ask("POST", target)
        self.assertEqual(answer.status, 200, answer.body)
        return answer.json

    def refusal(self, method: str, target: str) -> tuple[int, str]:
        answer = self.ask(method, target)
        return answer.status, answer.json["error"]["reason"]

    def row(self, label: str) -> Any:
        return self.get(f"/v1/accounts/{label}")["account"]


class ListTests(FaceCase):
    """What is to be seen."""

    def test_accounts_tell_state_quota_and_last_use_but_no_secret(self) -> None:
        """One row for each credential; its key or token is nowhere in the answer."""
        one = self.members[2].credential
        self.clock.advance(100.0)
        lease = self.router.standings.lease(one, MODEL, self.clock.seconds())
        figures = [Figure(MODEL, 0.25, 1_767_225_600.0 + 3600.0)]
        self.router.chooser.quotas.learn(one, figures, 100.0, 1_767_225_700.0)
        self.clock.advance(5.0)
        rows = self.get("/v1/accounts")["accounts"]
        self.assertEqual([row["label"] for row in rows], ["studio/first", "studio/second", "pool/a@b.example"])
        self.assertEqual(
            rows[2],
            {
                "name": "a@b.example",
                "upstream": "pool",
                "kind": "codeassist",
                "label": "pool/a@b.example",
                "project": "q",
                "in_file": True,
                "state": "ok",
                "reason": "",
                "link": "",
                "since": None,
                "models": [],
                "quota": [{"model": MODEL, "remaining": 0.25, "reset": "2026-01-01T01:00:00Z"}],
                "last_used": "2026-01-01T00:01:40Z",
                "in_flight": 1,
                "weight": 1.0,
                "priority": 0,
                "max_concurrent": 0,
            },
        )
        self.router.standings.release(lease)
        self.assertEqual(rows[0]["last_used"], None)
        for one_member in self.members:
            tokens = one_member.tokens
            assert isinstance(tokens, FakeTokens)
            tokens.tokens = ["the-secret-canary"]
        self.assertNotIn(b"canary", self.ask("GET", "/v1/accounts").body)

    def test_cool_down_is_told_with_its_end_and_next_try(self) -> None:
        """A day's rest ends at its end, and is probed before."""
        standings, one = self.router.standings, self.members[0].credential
        standings.cool(one, MODEL, 7200.0, 0.0, "QUOTA_EXHAUSTED")
        row = self.row("studio/first")
        self.assertEqual(row["state"], "cooling")
        (model,) = row["models"]
        self.assertEqual((model["model"], model["reason"]), (MODEL, "QUOTA_EXHAUSTED"))
        self.assertEqual((model["until"], model["next_try"]), ("2026-01-01T02:00:00Z", "2026-01-01T00:15:00Z"))
        self.clock.advance(1000.0)
        self.assertEqual(self.row("studio/first")["models"][0]["state"], "half-open")
        self.clock.advance(6201.0)
        self.assertEqual(self.row("studio/first")["state"], "ok")

    def test_quarantine_is_told_with_its_link(self) -> None:
        """What the owner has to open is for the operator to see."""
        one = self.members[2].credential
        self.router.standings.quarantine(one, "VALIDATION_REQUIRED", "https://verify.example/x", 0.0, 50.0)
        row = self.row("pool/a@b.example")
        self.assertEqual((row["state"], row["reason"]), ("quarantined", "VALIDATION_REQUIRED"))
        self.assertEqual((row["link"], row["since"]), ("https://verify.example/x", "1970-01-01T00:00:50Z"))

    def test_status_counts_by_upstream(self) -> None:
        """Version, strategy, and who can be used."""
        self.router.standings.set_enabled(self.members[0].credential, False)
        told = self.get("/v1/status")
        self.assertEqual((told["version"], told["strategy"], told["in_flight"]), ("1.2", "sticky", 0))
        self.assertEqual(
            told["upstreams"],
            [
                {"name": "studio", "kind": "aistudio", "state": "ok", "reason": "", "credentials": 2, "usable": 1},
                {"name": "pool", "kind": "codeassist", "state": "ok", "reason": "", "credentials": 1, "usable": 1},
            ],
        )

    def test_errors_are_json(self) -> None:
        """Whatever is asked for that is not there."""
        self.assertEqual(self.refusal("GET", "/v1/accounts/studio/nobody"), (404, "CREDENTIAL_UNKNOWN"))
        self.assertEqual(self.refusal("GET", "/v1/accounts/nowhere/first"), (404, "CREDENTIAL_UNKNOWN"))
        self.assertEqual(self.refusal("POST", "/v1/upstreams/nowhere/resume"), (404, "UPSTREAM_UNKNOWN"))
        self.assertEqual(self.refusal("GET", "/v2"), (404, "ROUTE_UNKNOWN"))
        self.assertEqual(self.refusal("POST", "/v1/accounts"), (405, "METHOD_NOT_ALLOWED"))
        self.assertEqual(self.refusal("GET", "/v1/explain"), (400, "MODEL_MISSING"))

    def test_name_that_is_no_utf_8_is_the_askers_fault(self) -> None:
        """Whatever carries it; only a session may be any bytes, as a client's header may."""
        for target in ("/v1/explain?model=%ff", f"/v1/explain?model={MODEL}&verb=%ff"):
            self.assertEqual(self.refusal("GET", target), (400, "NAME_NOT_UTF8"), target)
        self.assertEqual(self.refusal("POST", "/v1/accounts/studio/first/test?model=%ff"), (400, "NAME_NOT_UTF8"))
        self.assertEqual(self.wire.requests, [])
        session = fingerprint("anonymous", b"\xff", b"")
        self.assertEqual(self.get(f"/v1/explain?model={MODEL}&session=%ff")["session"], session)

    def test_reset_beyond_the_calendar_is_told_as_its_last_second(self) -> None:
        """A quota that Google says is renewed at the end of the year 9999 spoils no list."""
        one, last = self.members[0].credential, 253_402_300_799.0
        figures = [Figure(MODEL, 0.5, last + 0.9), Figure("m", 0.5, math.inf)]
        self.router.chooser.quotas.learn(one, figures, 0.0, 1_767_225_600.0)
        quota = self.row("studio/first")["quota"]
        self.assertEqual({entry["reset"] for entry in quota}, {"9999-12-31T23:59:59Z"})

    def test_fault_of_ours_is_logged_and_told_as_json(self) -> None:
        """The client learns nothing but where to look."""
        self.router.members = (None,)  # type: ignore[assignment]
        self.assertEqual(self.refusal("GET", "/v1/accounts"), (500, "INTERNAL"))
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)


class ActTests(FaceCase):
    """What can be changed."""

    def test_disabled_is_out_until_enabled(self) -> None:
        """And it is saved at once; a second time changes nothing."""
        told = self.post("/v1/accounts/studio/first/disable")
        self.assertEqual((told["changed"], told["account"]["state"]), (True, "disabled"))
        self.assertFalse(self.router.standings.availability(self.members[0].credential, MODEL, 0.0).usable)
        self.assertFalse(self.post("/v1/accounts/studio/first/disable")["changed"])
        self.assertEqual(self.saves, 2)
        self.assertEqual(self.post("/v1/accounts/studio/first/enable")["account"]["state"], "ok")

    def test_credential_is_named_by_name_or_label(self) -> None:
        """A name that no path could hold has its label."""
        self.assertTrue(self.post("/v1/accounts/pool/a%40b.example/disable")["changed"])
        self.assertTrue(self.post("/v1/accounts/pool/a@b.example/enable")["changed"])

    def test_clear_ends_rests_and_quarantine_but_no_lack_of_a_project(self) -> None:
        """What the configuration lacks is lacking still."""
        first, _, account = (one.credential for one in self.members)
        standings = self.router.standings
        standings.cool(first, MODEL, 50.0, 0.0)
        standings.quarantine(first, "API_KEY_INVALID", "", 0.0, 0.0)
        standings.unusable(account, "PROJECT_MISSING")
        self.assertEqual(self.post("/v1/accounts/studio/first/clear")["account"]["state"], "ok")
        told = self.post("/v1/accounts/pool/a@b.example/clear")
        self.assertEqual((told["changed"], told["account"]["reason"]), (False, "PROJECT_MISSING"))

    def test_resume_lets_a_halted_upstream_go_on(self) -> None:
        """Its condemned credentials stay out."""
        standings = self.router.standings
        for one in self.members[:2]:
            standings.quarantine(one.credential, "TOS", "", 0.0, 0.0, needs_owner=True)
        self.assertEqual(self.row("studio/first")["state"], "halted")
        self.assertEqual(self.post("/v1/upstreams/studio/resume"), {"upstream": "studio", "changed": True})
        self.assertEqual(self.row("studio/first")["state"], "quarantined")
        self.assertEqual(self.post("/v1/upstreams/studio/resume")["changed"], False)

    def test_reading_changes_nothing(self) -> None:
        """GET of a route that acts is refused."""
        self.assertEqual(self.refusal("GET", "/v1/upstreams/studio/resume"), (405, "METHOD_NOT_ALLOWED"))
        self.assertEqual(self.saves, 0)


class TestTests(FaceCase):
    """A countTokens call on demand."""

    def test_good_credential_counts(self) -> None:
        """Through that credential alone, and its standing is as it was."""
        self.wire.script = [ok(COUNTED)]
        told = self.post("/v1/accounts/studio/second/test")
        self.assertEqual((told["good"], told["status"], told["tokens"]), (True, 200, 2))
        self.assertEqual(self.wire.keys, ["second"])
        self.assertTrue(self.wire.requests[0].url.endswith(b"models/gemini-2.5-flash:countTokens"))
        self.assertIsNone(self.row("studio/second")["last_used"])

    def test_cooling_and_disabled_credentials_are_tested_all_the_same(self) -> None:
        """That is when one wants to know."""
        self.router.standings.set_enabled(self.members[0].credential, False)
        self.wire.script = [ok(COUNTED)]
        told = self.post("/v1/accounts/studio/first/test?model=gemini-2.5-pro")
        self.assertEqual((told["good"], told["model"]), (True, "gemini-2.5-pro"))
        self.assertEqual(told["account"]["state"], "disabled")

    def test_refusal_is_told_and_condemns_nobody(self) -> None:
        """With Google's own words, scrubbed."""
        message = "bad AIzaSyAAAAAAAAAAAAAAAA"
        self.wire.script = [refused(400, "INVALID_ARGUMENT", reason("API_KEY_INVALID"), message=message)]
        told = self.post("/v1/accounts/studio/first/test")
        self.assertEqual((told["good"], told["status"], told["reason"]), (False, 400, "API_KEY_INVALID"))
        self.assertEqual(told["message"], "bad ...")
        self.assertEqual(told["account"]["state"], "ok")

    def test_stale_token_is_renewed_once(self) -> None:
        """As a request would have it."""
        tokens = FakeTokens("old", "new", "newer")
        self.router.members = [member("a", tokens, kind="codeassist", upstream="pool", project="p")]
        self.wire.script = [refused(401, "UNAUTHENTICATED"), ok(COUNTED)]
        self.assertTrue(self.post("/v1/accounts/pool/a/test")["good"])
        self.wire.script = [refused(401, "UNAUTHENTICATED"), refused(401, "UNAUTHENTICATED")]
        self.assertEqual(self.post("/v1/accounts/pool/a/test")["status"], 401)
        self.assertEqual(tokens.renewals, ["old", "new"])

    def test_model_of_the_upstream_is_taken(self) -> None:
        """Where it serves some models alone."""
        self.router.members = [member("a", models=("only-this",))]
        self.wire.script = [ok(COUNTED)]
        self.assertEqual(self.post("/v1/accounts/studio/a/test")["model"], "only-this")

    def test_what_can_be_no_model_goes_nowhere(self) -> None:
        """It would stand in upstream's URL."""
        for model in ("../../v1beta/files", "m%3AgenerateContent%23", "m%3Fkey=x", "a%20b"):
            self.assertEqual(
                self.refusal("POST", f"/v1/accounts/studio/first/test?model={model}"), (400, "MODEL_INVALID"), model
            )
        self.assertEqual(self.wire.requests, [])


class ExplainTests(FaceCase):
    """How a request would be routed."""

    def test_every_credential_has_its_reason(self) -> None:
        """The chosen one, those that come later, those that rest, and those that never could."""
        self.router.standings.cool(self.members[0].credential, MODEL, 30.0, 0.0, "RATE_LIMIT_EXCEEDED")
        told = self.get(f"/v1/explain?model={MODEL}")
        self.assertEqual(
            [(one["name"], one["state"], one["reason"], one["chosen"]) for one in told["options"]],
            [
                ("first", "cooling", "RATE_LIMIT_EXCEEDED", False),
                ("second", "ok", "", True),
                ("a@b.example", "ok", "another comes first", False),
            ],
        )
        self.assertEqual(told["options"][0]["free_seconds"], 30.0)
        told = self.get("/v1/explain?model=text-embedding-004&verb=embedContent")
        self.assertEqual(told["options"][2]["reason"], "METHOD_NOT_ON_UPSTREAM")

    def test_session_is_found_by_fingerprint_or_by_its_id(self) -> None:
        """Whatever client key it came with."""
        session = fingerprint("key-1", b"my chat", b"")
        self.router.sessions.bind(session, MODEL, self.members[1].credential, 0.0)
        for given in (session, "my%20chat"):
            told = self.get(f"/v1/explain?model={MODEL}&session={given}")
            self.assertEqual((told["session"], told["session_on"]), (session, "studio/second"))
            self.assertEqual([one["name"] for one in told["options"] if one["chosen"]], ["second"])
        self.assertEqual(self.get(f"/v1/explain?model={MODEL}&session=other")["session_on"], "")

    def test_asking_changes_nothing(self) -> None:
        """Neither whose turn it is, nor a half-open pair's probe."""
        self.router.standings.cool(self.members[0].credential, MODEL, 1.0, 0.0)
        self.clock.advance(2.0)
        first = self.get(f"/v1/explain?model={MODEL}")
        self.assertEqual(self.get(f"/v1/explain?model={MODEL}"), first)
        self.assertEqual(self.saves, 0)

    def test_nobody_to_serve_it_is_an_error(self) -> None:
        """As the client would be told."""
        self.router.members = [member("a", models=("only-this",))]
        self.assertEqual(self.refusal("GET", "/v1/explain?model=another"), (404, "MODEL_NOT_SERVED"))


class OversightTests(SynchronousTestCase):
    """Beside the face."""

    def test_whoever_waits_has_a_credential_that_is_cleared(self) -> None:
        """At once, without waiting for a timer."""
        one, wire = member("a"), FakeWire(ok())
        the_router = router(wire, Clock(), one, timeouts=Timeouts(queue=100.0))
        the_router.standings.cool(one.credential, MODEL, 50.0, 0.0)
        answer = run(the_router.run(call(), Journal("r")))
        self.assertNoResult(answer)
        run(Oversight(the_router, {"studio": "aistudio"}).act("clear", "studio", "a"))
        self.assertIsInstance(self.successResultOf(answer), Whole)

    def test_answer_waits_until_it_is_kept(self) -> None:
        """Whoever was told that something is so finds it so after a crash."""
        kept: Deferred[None] = Deferred()
        oversight = Oversight(router(FakeWire(), Clock(), member("a")), {"studio": "aistudio"}, save=lambda: kept)
        told = run(oversight.act("disable", "studio", "a"))
        self.assertNoResult(told)
        kept.callback(None)
        row, changed = self.successResultOf(told)
        self.assertEqual((row["state"], changed), ("disabled", True))

    def test_clear_has_what_is_missing_looked_for(self) -> None:
        """The others wait for nothing."""
        looked: list[str] = []
        one = member("a")
        the_router = router(FakeWire(), Clock(), one)
        oversight = Oversight(the_router, {"studio": "aistudio"}, hurry=lambda missing: looked.append(missing.name))
        for action in ("disable", "enable", "clear"):
            self.successResultOf(run(oversight.act(action, "studio", "a")))
        self.assertEqual(looked, ["a"])

    def test_site_is_what_twisted_wants(self) -> None:
        """A factory of protocols."""
        site = admin.build(Oversight(router(FakeWire(), Clock()), {}), "1", Clock())
        self.assertTrue(verifyObject(IProtocolFactory, site))


class SocketTests(TestCase):
    """``admin.sock``."""

    def setUp(self) -> None:
        self.state = StateDirectory(Path(self.mktemp()).absolute())
        self.state.open()
        self.addCleanup(self.state.close)

    def admin_socket(self) -> AdminSocket:
        factory = Factory.forProtocol(Protocol)
        factory.noisy = False
        return AdminSocket(self.path, self.state.address(SOCKET), factory, reactor)

    @property
    def path(self) -> Path:
        return self.state.path / SOCKET

    async def test_only_the_owner_may_connect(self) -> None:
        """Mode 0600 whatever the umask, which is as before; and it goes with the daemon."""
        self.addCleanup(os.umask, os.umask(0))
        one = self.admin_socket()
        one.open()
        self.assertEqual(stat.S_IMODE(self.path.lstat().st_mode), 0o600)
        self.assertEqual(os.umask(0), 0)
        await one.close()
        self.assertFalse(self.path.exists())
        await one.close()

    async def test_socket_of_a_dead_daemon_is_replaced(self) -> None:
        """For the lock says that it is dead."""
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(self.state.address(SOCKET))
        one = self.admin_socket()
        one.open()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.state.address(SOCKET))
        await one.close()

    async def test_file_in_its_place_is_left_alone(self) -> None:
        """What is no socket is somebody's."""
        self.path.write_text("something")
        self.assertRaisesRegex(OSError, "is no socket; remove it", self.admin_socket().open)
        self.assertEqual(self.path.read_text(), "something")

    async def test_long_path_is_no_obstacle(self) -> None:
        """A unix socket's address is short, a directory's path need not be."""
        self.state.close()
        self.state = StateDirectory(self.state.path / ("x" * 120))
        self.state.open()
        one = self.admin_socket()
        one.open()
        self.assertTrue(stat.S_ISSOCK(self.path.lstat().st_mode))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.state.address(SOCKET))
        await one.close()
        self.assertFalse(self.path.exists())


class LedgerTests(SynchronousTestCase):
    """When a credential was last used."""

    def test_last_use_outlasts_a_restart(self) -> None:
        """In wall time, to the minute; a ledger without it is as good."""
        one = member("a").credential
        before = router(FakeWire(), Clock()).standings
        before.lease(one, MODEL, 10.0)
        self.assertEqual(before.version, 1)
        before.lease(one, MODEL, 69.0)
        self.assertEqual(before.version, 1)
        before.lease(one, MODEL, 70.0)
        self.assertEqual(before.version, 2)
        kept = json.loads(json.dumps(before.dump(100.0, 1000.0)))
        after = router(FakeWire(), Clock()).standings
        after.restore(kept, 5.0, 1010.0)
        self.assertEqual(after.usage.last_used(one), -35.0)
        del kept["used"]
        router(FakeWire(), Clock()).standings.restore(kept, 5.0, 1010.0)
