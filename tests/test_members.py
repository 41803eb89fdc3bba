"""Account files that change, and the members of the pool that follow them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.projects import EVERY_SECONDS, RETRY_SECONDS
from gateway.accounts.rests import Availability, State
from gateway.accounts.sealing import Seal
from gateway.accounts.store import load
from gateway.accounts.watch import POLL_SECONDS, SETTLE_SECONDS
from gateway.calls import HttpRequest, Journal, Secret, Terms
from gateway.config import Config, OAuthConfig, UpstreamConfig
from gateway.credentials import prepared
from gateway.members import NO_PROJECT, Members
from gateway.routing.pool import Member
from tests.fakes import JSON, FakeExchange, FakeWire, call, ok, router

KEY = Secret("00" * 32)


def answer(document: Any, status: int = 200) -> FakeExchange:
    return FakeExchange(status, JSON, json.dumps(document).encode())


class MembersCase(SynchronousTestCase):
    """A directory of accounts, a backend in memory, and the pool that is made of them."""

    sealed = False

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir(0o700)
        self.clock = Clock()
        self.rotates = False
        self.refreshes: list[str] = []
        self.tokens_wait: Deferred[Any] | None = None
        self.loaded: Any = {}
        self.wire = FakeWire(by=self.serve)
        self.logged: list[str] = []
        observer = lambda event: self.logged.append(event["log_format"].format(**event))  # noqa: E731
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def serve(self, request: HttpRequest) -> Any:
        if request.url.endswith(b"/token"):
            refresh_token = parse_qs(request.body.decode())["refresh_token"][0]
            self.refreshes.append(refresh_token)
            document = {"access_token": f"access-{refresh_token}", "expires_in": 3600}
            if self.rotates:
                document["refresh_token"] = refresh_token + "+"
            return self.tokens_wait or answer(document)
        if request.url.endswith(b":loadCodeAssist"):
            return self.loaded if isinstance(self.loaded, Exception) else answer(self.loaded)
        return ok()

    def put(self, name: str, **members: object) -> Path:
        path = self.directory / f"{name}.json"
        fresh = self.directory / ".fresh"
        fresh.write_text(json.dumps({"refresh_token": name, "project": f"p-{name}", **members}))
        fresh.chmod(0o600)
        return fresh.rename(path)

    def members(self, project: str = "") -> Members:
        upstream = UpstreamConfig(
            "pool",
            "codeassist",
            ("https://backend.example/v1internal",),
            oauth=OAuthConfig("id", Secret("secret"), "https://backend.example/token"),
            credentials_dir=str(self.directory),
            credentials_key=KEY if self.sealed else None,
            project=project,
        )
        self.router = router(self.wire, self.clock)
        members = Members(Config(upstreams=(upstream,)), self.clock, self.wire, self.router, lambda: 0.0)
        members.start()
        self.addCleanup(members.stop)
        return members

    def settle(self) -> None:
        """Let a change of the files take effect."""
        self.clock.advance(POLL_SECONDS)
        self.clock.advance(SETTLE_SECONDS)
        self.clock.advance(0)

    def names(self) -> list[str]:
        return [member.credential.name for member in self.router.members]

    def member(self, name: str) -> Member:
        return next(one for one in self.router.members if one.credential.name == name)

    def token(self, member: Member) -> Deferred[Secret]:
        return Deferred.fromCoroutine(member.tokens.get())

    def availability(self, name: str) -> Availability:
        return self.router.standings.availability(self.member(name).credential, "m", self.clock.seconds())


class FileTests(MembersCase):
    """Added, changed, removed."""

    def test_added_and_removed_files_take_effect(self) -> None:
        """S9: without a restart, and the log says so by labels that show no name."""
        self.put("a")
        self.members()
        self.put("b@example.test")
        self.settle()
        self.assertEqual(self.names(), ["a", "b@example.test"])
        (self.directory / "a.json").unlink()
        self.settle()
        self.assertEqual(self.names(), ["b@example.test"])
        self.assertTrue(any("added pool/" in line for line in self.logged), self.logged)
        self.assertTrue(any("removed pool/" in line for line in self.logged), self.logged)
        self.assertFalse(any("example.test" in line for line in self.logged), self.logged)

    def test_unchanged_account_keeps_its_member(self) -> None:
        """Its access token, its standing and its sessions: it is the same object, and nothing is refreshed."""
        self.put("a")
        self.members()
        before = self.member("a")
        self.successResultOf(self.token(before))
        self.put("b")
        self.settle()
        self.assertIs(self.member("a"), before)
        self.put("a", note="edited")
        self.settle()
        self.assertIs(self.member("a"), before)
        self.assertEqual(self.refreshes, ["a"])

    def test_new_sign_in_is_a_new_account(self) -> None:
        """Another refresh token: another access token, and what was held against the old one is not held any more."""
        self.put("a")
        self.members()
        before = self.member("a")
        self.successResultOf(self.token(before))
        self.router.standings.quarantine(before.credential, "INVALID_GRANT", "", 0.0, 0.0)
        self.assertEqual(self.availability("a").state, State.QUARANTINED)
        self.put("a", refresh_token="again")
        self.settle()
        self.assertEqual(self.availability("a").state, State.OK)
        self.assertEqual(self.successResultOf(self.token(self.member("a"))), Secret("access-again"))
        self.assertEqual(self.refreshes, ["a", "again"])

    def test_new_project_keeps_the_token(self) -> None:
        """The quota's owner is another, who signed in is not."""
        self.put("a")
        self.members()
        self.successResultOf(self.token(self.member("a")))
        self.put("a", project="other")
        self.settle()
        self.assertEqual(self.member("a").credential.owner, "project:other")
        self.successResultOf(self.token(self.member("a")))
        self.assertEqual(self.refreshes, ["a"])

    def test_removed_account_leaves_no_use_behind(self) -> None:
        """Nor does a request of its that was still under way."""
        self.put("a")
        self.put("b")
        self.members()
        standings, gone = self.router.standings, self.member("a").credential
        standings.release(standings.lease(gone, "m", 0.0))
        under_way = standings.lease(gone, "m", 0.0)
        (self.directory / "a.json").unlink()
        self.settle()
        self.assertEqual(standings.dump(0.0, 0.0)["used"], [])
        self.assertEqual(standings.in_flight(), {("pool", "a"): 1})
        standings.release(under_way)
        self.assertEqual(standings.in_flight(), {})

    def test_terms_in_a_file_are_the_accounts_own(self) -> None:
        """Without a new token, and with what is held against it; what is taken out is the upstream's again."""
        self.put("a")
        self.members()
        before = self.member("a")
        self.successResultOf(self.token(before))
        self.router.standings.cool(before.credential, "m", 50.0, 0.0)
        self.put("a", weight=2.5, priority=-1, max_concurrent=3)
        self.settle()
        after = self.member("a")
        self.assertEqual(after.credential.terms, Terms(2.5, -1, 3))
        self.assertIs(after.tokens, before.tokens)
        self.assertEqual(self.availability("a").state, State.COOLING)
        self.assertTrue(any("changed" in line for line in self.logged))
        self.put("a", priority=4)
        self.settle()
        self.assertEqual(self.member("a").credential.terms, Terms(1.0, 4, 0))
        self.assertEqual(self.refreshes, ["a"])

    def test_new_terms_of_the_upstream_leave_those_of_a_file(self) -> None:
        """After a reload: what the file says stands, and the rest is the upstream's new word."""
        self.put("a", weight=2)
        members = self.members()
        (old,) = members._upstreams.values()
        changed = attrs.evolve(old, terms=Terms(5.0, 3, 1))
        members.take(prepared(Config(upstreams=(changed,))), self.router, self.wire)
        self.assertEqual(self.member("a").credential.terms, Terms(2.0, 3, 1))

    def test_call_under_way_keeps_its_account(self) -> None:
        """A removed account's request ends as it would have; the next one does not go there."""
        self.put("a")
        self.members()
        held = self.wire.hold()
        self.wire.by = lambda request: held if b"generateContent" in request.url else self.serve(request)
        asked = Deferred.fromCoroutine(self.router.run(call(), Journal("1")))
        (self.directory / "a.json").unlink()
        self.settle()
        self.assertEqual(self.names(), [])
        held.callback(ok())
        self.successResultOf(asked)

    def test_removed_account_is_not_refreshed(self) -> None:
        """Its timer goes with it."""
        self.put("a")
        members = self.members()
        self.successResultOf(self.token(self.member("a")))
        (self.directory / "a.json").unlink()
        self.settle()
        members.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_waits_for_a_refresh_under_way(self) -> None:
        """In reason: a token endpoint that hangs does not keep the daemon from its end."""
        self.put("a")
        members = self.members()
        self.tokens_wait = Deferred()
        asked = self.token(self.member("a"))
        members.stop()
        closed = Deferred.fromCoroutine(members.close())
        self.clock.advance(4.9)
        self.assertNoResult(closed)
        self.clock.advance(0.2)
        self.successResultOf(closed)
        asked.addErrback(lambda failure: None)
        asked.cancel()


class RotationTests(MembersCase):
    """Refresh tokens that the endpoint exchanges."""

    def saved(self) -> str:
        seal = Seal(KEY, os.urandom) if self.sealed else None
        return load(self.directory, seal)[0].refresh_token.reveal()

    def test_own_write_does_not_reset_the_account(self) -> None:
        """The rotated token is in the file, and the access token that came with it serves on."""
        self.rotates = True
        self.put("a")
        self.members()
        before = self.member("a")
        self.successResultOf(self.token(before))
        self.assertEqual(self.saved(), "a+")
        self.settle()
        self.assertIs(self.member("a"), before)
        self.successResultOf(Deferred.fromCoroutine(before.tokens.renew(Secret("access-a"))))
        self.assertEqual((self.refreshes, self.saved()), (["a", "a+"], "a++"))
        self.settle()
        self.assertIs(self.member("a"), before)

    def test_sign_in_meanwhile_is_not_overwritten(self) -> None:
        """A refresh of the old token that comes back late leaves the new one alone."""
        self.rotates = True
        self.put("a")
        self.members()
        self.tokens_wait = Deferred()
        asked = self.token(self.member("a"))
        self.put("a", refresh_token="again")
        self.tokens_wait.callback(answer({"access_token": "late", "refresh_token": "a+"}))
        self.tokens_wait = None
        self.successResultOf(asked)
        self.assertEqual(self.saved(), "again")
        self.settle()
        self.successResultOf(self.token(self.member("a")))
        self.assertEqual((self.refreshes, self.saved()), (["a", "again"], "again+"))

    def test_file_that_cannot_be_written_costs_nothing_now(self) -> None:
        """P6: the new token is kept in memory and the log says what is at stake; the old file changes nothing."""
        self.rotates = True
        self.put("a")
        self.members()
        (self.directory / ".a.json.new").mkdir()
        before = self.member("a")
        self.successResultOf(self.token(before))
        self.assertEqual(self.saved(), "a")
        self.assertTrue(any("could not be kept" in line for line in self.logged), self.logged)
        self.put("b")
        self.settle()
        self.assertIs(self.member("a"), before)
        self.successResultOf(Deferred.fromCoroutine(before.tokens.renew(Secret("access-a"))))
        self.assertEqual(self.refreshes, ["a", "a+"])


class SealedRotationTests(RotationTests):
    """The same with a key: the plain file is sealed by its first rotation."""

    sealed = True

    def test_rotated_token_is_sealed(self) -> None:
        """S9: nothing of it is in the file in clear."""
        self.rotates = True
        path = self.put("a")
        self.members()
        self.successResultOf(self.token(self.member("a")))
        self.assertIn("sealed", json.loads(path.read_bytes()))
        self.assertNotIn(b"refresh_token", path.read_bytes())


class ProjectTests(MembersCase):
    """Accounts that come without a project."""

    def test_project_is_found_saved_and_used(self) -> None:
        """In the background; the account that was out is in, with the token that asked."""
        self.loaded = {"currentTier": {"id": "t"}, "cloudaicompanionProject": "found"}
        self.put("a", project="")
        self.members()
        self.assertEqual(self.availability("a"), Availability(State.QUARANTINED, False, None, NO_PROJECT))
        self.clock.advance(0)
        self.assertEqual(self.member("a").credential.project, "found")
        self.assertEqual(self.availability("a").state, State.OK)
        self.assertEqual(load(self.directory)[0].project, "found")
        before = self.member("a")
        self.settle()
        self.assertIs(self.member("a"), before)
        self.assertEqual(self.refreshes, ["a"])

    def test_operators_project_needs_no_search(self) -> None:
        """It is for accounts that name none."""
        self.put("a", project="")
        self.members("mine")
        self.clock.advance(0)
        self.assertEqual((self.member("a").credential.project, self.wire.requests), ("mine", []))

    def test_one_account_is_asked_for_at_a_time(self) -> None:
        """A directory of a hundred does not ask a hundred things at once."""
        self.tokens_wait = Deferred()
        for name in "abc":
            self.put(name, project="")
        self.members()
        self.clock.advance(1)
        self.assertEqual(len(self.wire.requests), 1)

    def test_failure_is_told_once_and_tried_again_in_half_an_hour(self) -> None:
        """With Google's own words and link; the account stays out with its reason."""
        self.loaded = {
            "allowedTiers": [],
            "ineligibleTiers": [{"reasonCode": "X", "reasonMessage": "Too young.", "validationUrl": "https://ok.test/v"}],
        }
        self.put("a", project="")
        self.members()
        self.clock.advance(0)
        for _ in range(3):
            self.clock.advance(EVERY_SECONDS - 1)
            before = len(self.wire.requests)
            self.clock.advance(1)
            self.assertGreater(len(self.wire.requests), before)
        told = [line for line in self.logged if "has no project" in line]
        self.assertEqual(len(told), 1, told)
        self.assertIn("Too young.", told[0])
        self.assertIn("https://ok.test/v", told[0])
        out = self.router.standings.quarantined(self.member("a").credential)
        assert out is not None
        self.assertEqual((out.reason, out.link), (NO_PROJECT, "https://ok.test/v"))

    def test_clear_has_the_project_looked_for_at_once(self) -> None:
        """Its owner has mended what was missing, and nobody waits for half an hour; a failure is told again."""
        self.loaded = {"allowedTiers": []}
        self.put("a", project="")
        members = self.members()
        self.clock.advance(0)
        members.hurry(self.member("a").credential)
        self.clock.advance(0)
        self.assertEqual(len([line for line in self.logged if "has no project" in line]), 2)
        self.loaded = {"currentTier": {"id": "t"}, "cloudaicompanionProject": "found"}
        members.hurry(self.member("a").credential)
        self.clock.advance(0)
        self.assertEqual(self.member("a").credential.project, "found")
        before = len(self.wire.requests)
        members.hurry(self.member("a").credential)
        self.clock.advance(EVERY_SECONDS)
        self.assertEqual(len(self.wire.requests), before, "where nothing is missing nothing is looked for")

    def test_failure_that_may_pass_is_tried_again_sooner(self) -> None:
        """A gateway that starts before its network does not wait half an hour."""
        self.wire.by = lambda request: FakeExchange(503, JSON, b"")
        self.put("a", project="")
        self.members()
        self.clock.advance(0)
        before = len(self.wire.requests)
        self.wire.by = self.serve
        self.loaded = {"currentTier": {"id": "t"}, "cloudaicompanionProject": "found"}
        self.clock.advance(RETRY_SECONDS - 0.1)
        self.assertEqual(len([one for one in self.wire.requests if b"loadCode" in one.url]), 0)
        self.clock.advance(0.2)
        self.assertGreater(len(self.wire.requests), before)
        self.assertEqual(self.member("a").credential.project, "found")

    def test_project_that_cannot_be_saved_is_used_all_the_same(self) -> None:
        """P6: and a later change of other files does not take it away."""
        self.loaded = {"currentTier": {"id": "t"}, "cloudaicompanionProject": "found"}
        self.put("a", project="")
        (self.directory / ".a.json.new").mkdir()
        self.members()
        self.clock.advance(0)
        self.put("b")
        self.settle()
        self.assertEqual(self.member("a").credential.project, "found")
        self.assertEqual(self.availability("a").state, State.OK)

    def test_account_that_is_removed_meanwhile_is_forgotten(self) -> None:
        """What comes back for it changes nothing."""
        self.tokens_wait = Deferred()
        self.put("a", project="")
        self.members()
        self.clock.advance(0)
        (self.directory / "a.json").unlink()
        self.settle()
        self.loaded = {"currentTier": {"id": "t"}, "cloudaicompanionProject": "found"}
        self.tokens_wait.callback(answer({"access_token": "late"}))
        self.assertEqual((self.names(), os.listdir(self.directory)), ([], []))

    def test_project_that_is_written_into_the_file_ends_the_search(self) -> None:
        """The operator knows better."""
        self.loaded = {"allowedTiers": []}
        self.put("a", project="")
        self.members()
        self.clock.advance(0)
        self.put("a", project="mine")
        self.settle()
        self.assertEqual(self.availability("a").state, State.OK)
        before = len(self.wire.requests)
        self.clock.advance(2 * EVERY_SECONDS)
        self.assertEqual(len(self.wire.requests), before)
