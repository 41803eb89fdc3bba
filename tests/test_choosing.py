"""Who serves a request: the router in memory, with what it tells about its choices."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import GatewayError, Journal, Terms
from gateway.config import LogConfig, ProxyConfig, RoutingConfig, Timeouts
from gateway.routing.asking import Live, Whole
from gateway.routing.explain import explain
from gateway.routing.outcome import Refusal
from gateway.routing.pool import Member
from tests.fakes import (
    FakeWire,
    World,
    call,
    event,
    member,
    ok,
    reason,
    refused,
    retry_info,
    router,
    run,
    stream,
    stream_call,
)

WAITING = Timeouts(queue=5.0)
PATH = "/v1beta/models/gemini-2.5-flash:generateContent"


def on_terms(name: str, weight: float = 1.0, priority: int = 0, most: int = 0, **named: Any) -> Member:
    plain = member(name, **named)
    return attrs.evolve(plain, credential=attrs.evolve(plain.credential, terms=Terms(weight, priority, most)))


def exhausted(delay: str = "30s") -> Any:
    return refused(429, "RESOURCE_EXHAUSTED", reason("RATE_LIMIT_EXCEEDED"), retry_info(delay))


class RouterCase(SynchronousTestCase):
    """A router over members of the test's choice."""

    def make(self, *members: Member, wire: FakeWire | None = None, **changes: Any) -> None:
        self.clock = Clock()
        self.wire = wire or FakeWire(by=lambda request: ok())
        self.router = router(self.wire, self.clock, *members, **changes)

    def ask(self, **changes: Any) -> Deferred[Any]:
        self.journal = Journal("r")
        return run(self.router.run(call(**changes), self.journal))

    def served_by(self, **changes: Any) -> str:
        self.assertIsInstance(self.successResultOf(self.ask(**changes)), Whole)
        return self.wire.keys[-1]

    def held(self, count: int) -> list[Deferred[Any]]:
        """Make the next ``count`` requests wait upstream; return what answers them."""
        holds = [self.wire.hold() for _ in range(count)]
        self.wire.by, self.wire.script = None, list(holds)
        return holds

    def free_for_all(self) -> None:
        self.wire.by = lambda request: ok()


class SessionTests(RouterCase):
    """Conversations and their credentials."""

    def test_session_stays_and_moves_with_a_rotation(self) -> None:
        """After a failure it stays where it went, for that model alone."""
        self.make(member("a"), member("b"))
        first = self.served_by(session="s")
        self.assertEqual({self.served_by(session="s") for _ in range(3)}, {first})
        other = {"a": "b", "b": "a"}[first]
        self.wire.by = None
        self.wire.script = [exhausted("2s"), ok()]
        self.assertEqual(self.served_by(session="s"), other)
        self.free_for_all()
        self.clock.advance(60.0)
        self.assertEqual({self.served_by(session="s") for _ in range(3)}, {other})

    def test_new_sessions_spread_over_the_equals(self) -> None:
        """Each to the least used, with its weight."""
        self.make(on_terms("a", 2.0), member("b"))
        names = [self.served_by(session=f"s{n}") for n in range(30)]
        self.assertEqual((names.count("a"), names.count("b")), (20, 10))

    def test_round_robin_knows_no_sessions(self) -> None:
        """It takes each in turn, and remembers nothing."""
        self.make(member("a"), member("b"), routing=RoutingConfig(strategy="round_robin"))
        self.assertEqual([self.served_by(session="s") for _ in range(4)], ["a", "b", "a", "b"])
        self.assertEqual(len(self.router.sessions), 0)

    def test_guest_of_another_credential_does_not_move_its_session(self) -> None:
        """While its own is at its cap a session's requests go elsewhere, and come back with the next."""
        self.make(on_terms("a", most=1), member("b"))
        self.assertEqual(self.served_by(session="s"), "a")
        (hold,) = self.held(1)
        first = self.ask(session="s")
        self.free_for_all()
        self.assertEqual(self.served_by(session="s"), "b")
        hold.callback(ok())
        self.successResultOf(first)
        self.assertEqual(self.served_by(session="s"), "a")


class PriorityTests(RouterCase):
    """Fallbacks."""

    def test_fallback_serves_only_while_the_preferred_are_out(self) -> None:
        """Keys as fallback to accounts: a session that it began goes back too."""
        self.make(on_terms("key", priority=1, upstream="keys"), member("account"))
        self.assertEqual([self.served_by() for _ in range(3)], ["account"] * 3)
        self.wire.by = None
        self.wire.script = [exhausted("10s"), ok(), ok()]
        self.assertEqual([self.served_by(session="s"), self.served_by(session="s")], ["key", "key"])
        self.free_for_all()
        self.clock.advance(10.0)
        self.assertEqual(self.served_by(session="s"), "account")


class FixedTests(RouterCase):
    """One credential by the operator's word."""

    def test_fixed_credential_serves_alone(self) -> None:
        """Whatever is better; no session of the pool's moves."""
        self.make(member("a"), on_terms("b", priority=5))
        self.assertEqual([self.served_by(fixed="studio/b", session="s") for _ in range(3)], ["b"] * 3)
        self.assertEqual(self.journal.attempts[-1].why, "fixed")
        self.assertEqual(len(self.router.sessions), 0)

    def test_fixed_credential_that_fails_is_not_rotated_away_from(self) -> None:
        """Its own error is the answer, and its own rest the next one's."""
        self.make(member("a"), member("b"), wire=FakeWire(exhausted("30s")))
        reply = self.successResultOf(self.ask(fixed="studio/b"))
        self.assertIsInstance(reply, Refusal)
        self.assertEqual((reply.status, reply.retry_after, self.wire.keys), (429, b"30", ["b"]))
        error = self.failureResultOf(self.ask(fixed="studio/b"), GatewayError).value
        self.assertEqual((error.reason, error.retry_after_seconds), ("ALL_CREDENTIALS_COOLING", 30.0))
        self.assertEqual(len(self.wire.requests), 1)

    def test_unknown_label_is_not_found(self) -> None:
        """404 with what to do; one that cannot serve this is told apart."""
        self.make(member("a"), member("c", kind="codeassist", upstream="accounts", project="p"))
        error = self.failureResultOf(self.ask(fixed="studio/x"), GatewayError).value
        self.assertEqual((error.code, error.reason), (404, "CREDENTIAL_UNKNOWN"))
        self.assertIn("leave the header out", error.message)
        error = self.failureResultOf(self.ask(fixed="accounts/c", verb="embedContent"), GatewayError).value
        self.assertEqual((error.code, error.reason), (400, "CREDENTIAL_DOES_NOT_SERVE"))
        self.assertEqual(self.wire.requests, [])


class HeaderTests(SynchronousTestCase):
    """``X-Antigravity-Credential`` at the edge."""

    KEYS = ProxyConfig(
        api_keys=(hashlib.sha256(b"client").digest(),), operator_keys=(hashlib.sha256(b"operator").digest(),)
    )

    def answer(self, key: str, *labels: str, proxy: ProxyConfig = KEYS) -> tuple[World, Any]:
        world = World.build(ok(), proxy=proxy)
        client = world.connect()
        names = [("X-Antigravity-Credential", label) for label in labels]
        client.post(PATH, b'{"contents":[]}', *([("x-goog-api-key", key)] if key else []), *names)
        return world, client.answer()

    def test_operator_names_the_credential(self) -> None:
        """And reads its name in the answer."""
        for label in ("studio/first", "studio/second"):
            _, answer = self.answer("operator", label)
            self.assertEqual((answer.status, answer.headers["x-antigravity-credential"]), (200, label))

    def test_operator_without_the_header_is_a_client_like_others(self) -> None:
        """Its key admits."""
        self.assertEqual(self.answer("operator")[1].status, 200)

    def test_others_are_told_that_they_may_not(self) -> None:
        """403 and no call upstream, also where no key is asked for or none is the operator's; 401 comes first."""
        clients_only = ProxyConfig(api_keys=self.KEYS.api_keys)
        table = [
            ("client", self.KEYS, 403), ("", ProxyConfig(), 403), ("client", clients_only, 403), ("", self.KEYS, 401),
        ]  # fmt: skip
        for key, proxy, status in table:
            world, answer = self.answer(key, "studio/first", proxy=proxy)
            self.assertEqual((answer.status, world.wire.requests), (status, []), (key, proxy))
            if status == 403:
                self.assertEqual(answer.json["error"]["details"][0]["reason"], "CREDENTIAL_HEADER_FORBIDDEN")
                self.assertIn("operator", answer.json["error"]["message"])

    def test_header_says_one_existing_label(self) -> None:
        """None, an unknown and two are errors that say what to do."""
        for labels, status, code in (
            (["studio/none"], 404, "CREDENTIAL_UNKNOWN"),
            ([""], 404, "CREDENTIAL_UNKNOWN"),
            (["studio/first", "studio/second"], 400, "CREDENTIAL_HEADER_TWICE"),
        ):
            world, answer = self.answer("operator", *labels)
            found = (answer.status, answer.json["error"]["details"][0]["reason"])
            self.assertEqual((found, world.wire.requests), ((status, code), []))


class AffinityTests(RouterCase):
    """Requests that name a resource of upstream's."""

    BODY = b'{"cachedContent":"cachedContents/c","contents":[]}'

    def test_owner_serves_what_names_its_resource(self) -> None:
        """It alone, or a credential of its project; unknown resources change nothing."""
        self.make(member("a"), member("b"), member("p", project="x"), member("q", project="x"))
        self.assertEqual({self.served_by(body=self.BODY) for _ in range(4)}, set("abpq"))
        self.router.affinity.learn("cachedContents/c", self.router.members[1].credential)
        self.assertEqual({self.served_by(body=self.BODY) for _ in range(4)}, {"b"})
        self.assertEqual(self.journal.attempts[-1].why, "owns the resource")
        self.router.affinity.learn("cachedContents/c", self.router.members[2].credential)
        self.assertEqual({self.served_by(body=self.BODY) for _ in range(4)}, {"p", "q"})

    def test_request_is_not_rotated_away_from_its_resource(self) -> None:
        """Another credential would answer that it does not exist."""
        self.make(member("a"), member("b"), wire=FakeWire(exhausted()))
        self.router.affinity.learn("cachedContents/c", self.router.members[1].credential)
        self.assertEqual(self.successResultOf(self.ask(body=self.BODY)).status, 429)
        self.assertEqual(self.wire.keys, ["b"])

    def test_owner_that_is_gone_changes_nothing(self) -> None:
        """Upstream says what is the matter."""
        self.make(member("a"))
        self.router.affinity.learn("cachedContents/c", member("gone").credential)
        self.assertEqual(self.served_by(body=self.BODY), "a")


class CapTests(RouterCase):
    """``max_concurrent`` and the queue."""

    def test_cap_is_never_exceeded_and_nobody_waits_by_default(self) -> None:
        """429 that says what is the matter, with Retry-After; streams count to their end."""
        self.make(on_terms("a", most=1), wire=FakeWire(stream(event("x")), ok()))
        live = self.successResultOf(run(self.router.run(stream_call(), Journal("r"))))
        assert isinstance(live, Live)
        error = self.failureResultOf(self.ask(), GatewayError).value
        self.assertEqual((error.code, error.reason, error.retry_after_seconds), (429, "ALL_CREDENTIALS_BUSY", 1.0))
        live.release()
        live.release()
        self.assertEqual(self.served_by(), "a")

    def test_freed_credential_goes_to_the_first_waiter(self) -> None:
        """In order; a newcomer does not overtake them."""
        self.make(on_terms("a", most=1), timeouts=WAITING)
        holds = self.held(4)
        asked = [self.ask(request_id=str(n)) for n in range(3)]
        self.assertEqual(len(self.wire.requests), 1)
        for number in range(3):
            self.clock.advance(1.0)
            holds[number].callback(ok())
            self.assertIsInstance(self.successResultOf(asked[number]), Whole)
            if number == 0:
                asked.append(self.ask(request_id="newcomer"))
            self.assertEqual(len(self.wire.requests), number + 2)
        holds[3].callback(ok())
        self.successResultOf(asked[3])
        self.assertEqual(self.journal.attempts[0].waited, 2.0)
        self.assertEqual(self.router.standings.in_flight(), {("studio", "a"): 0})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_wait_ends_with_429(self) -> None:
        """After ``timeouts.queue``; at once where the queue is full."""
        from gateway.config import Limits

        self.make(on_terms("a", most=1), timeouts=WAITING, limits=Limits(queue=1))
        self.held(1)
        under_way, waiting = self.ask(), self.ask()
        refused_now = self.failureResultOf(self.ask(), GatewayError).value
        self.assertEqual(refused_now.reason, "ALL_CREDENTIALS_BUSY")
        self.clock.advance(5.0)
        self.assertEqual(self.failureResultOf(waiting, GatewayError).value.reason, "ALL_CREDENTIALS_BUSY")
        self.assertNoResult(under_way)
        under_way.cancel()
        self.failureResultOf(under_way, CancelledError)

    def test_client_that_leaves_while_waiting_holds_nothing(self) -> None:
        """L1: the next one gets the credential."""
        self.make(on_terms("a", most=1), timeouts=WAITING)
        holds = self.held(2)
        first, gone, last = self.ask(), self.ask(), self.ask()
        gone.cancel()
        self.failureResultOf(gone, CancelledError)
        holds[0].callback(ok())
        holds[1].callback(ok())
        self.successResultOf(first)
        self.successResultOf(last)
        self.assertEqual((len(self.wire.requests), len(self.router.chooser.waiting)), (2, 0))

    def test_all_cooling_waits_where_the_first_is_back_in_time(self) -> None:
        """K4: to the moment, without a second request beside the probe; else 429 at once with the time."""
        self.make(member("a"), member("b"), timeouts=WAITING, wire=FakeWire(exhausted("3s"), exhausted("4s")))
        waiting = self.ask()
        refusal = self.successResultOf(waiting)
        self.assertEqual((refusal.status, refusal.retry_after), (429, b"3"))
        asked = [self.ask() for _ in range(3)]
        self.free_for_all()
        self.clock.advance(2.999)
        self.assertEqual(len(self.wire.requests), 2)
        self.clock.advance(0.001)
        for one in asked:
            self.assertIsInstance(self.successResultOf(one), Whole)
        self.make(member("a"), timeouts=WAITING, wire=FakeWire(exhausted("30s")))
        self.successResultOf(self.ask())
        error = self.failureResultOf(self.ask(), GatewayError).value
        self.assertEqual((error.reason, error.retry_after_seconds), ("ALL_CREDENTIALS_COOLING", 30.0))

    def test_waiters_of_one_model_do_not_block_those_of_another(self) -> None:
        """Locks are per (credential, model)."""
        self.make(member("a"), timeouts=WAITING, wire=FakeWire(exhausted("3s"), ok()))
        self.successResultOf(self.ask(model="m"))
        waiting = self.ask(model="m")
        self.assertEqual(self.served_by(model="n"), "a")
        self.assertNoResult(waiting)
        self.free_for_all()
        self.clock.advance(3.0)
        self.successResultOf(waiting)

    def test_who_comes_while_a_probe_is_out_is_told_when_to_expect_it(self) -> None:
        """K4: by how long this model's answers took; the wait for it is not shorter for that."""
        answers = [ok(), exhausted("1s"), probing := Deferred(), ok()]
        self.make(member("a"), wire=FakeWire(by=lambda request: answers.pop(0)))
        self.router.standings.pace.took("gemini-2.5-flash", 20.0)
        self.ask()
        self.ask()
        self.clock.advance(1.0)
        probe = self.ask()
        self.assertEqual(self.failureResultOf(self.ask(), GatewayError).value.retry_after_seconds, 16.0)
        self.router.timeouts = WAITING
        waiting = self.ask()
        self.assertNoResult(waiting)
        self.clock.advance(2.0)
        probing.callback(ok())
        self.assertIsInstance(self.successResultOf(probe), Whole)
        self.assertIsInstance(self.successResultOf(waiting), Whole)

    def test_stream_that_begins_well_frees_those_who_wait_behind_it(self) -> None:
        """K10: the probe's success is its first event, long before its end."""
        self.make(member("a"), timeouts=WAITING, wire=FakeWire(exhausted("3s")))
        self.successResultOf(self.ask())
        probe = run(self.router.run(stream_call(), Journal("probe")))
        others = [self.ask() for _ in range(2)]
        (hold,) = self.held(1)
        self.wire.script += [ok(), ok()]
        self.clock.advance(3.0)
        self.assertNoResult(others[0])
        hold.callback(stream(event("x")))
        self.assertIsInstance(self.successResultOf(probe), Live)
        for one in others:
            self.assertIsInstance(self.successResultOf(one), Whole)

    def test_newcomer_does_not_overtake_in_the_moment_of_freedom(self) -> None:
        """A cool-down is over and the timer has not fired yet: who waited is first."""
        self.make(member("a"), timeouts=WAITING, wire=FakeWire(exhausted("3s")))
        self.successResultOf(self.ask())
        waiting = self.ask(request_id="waiter")
        self.held(1)
        self.clock.rightNow = 3.5
        newcomer = self.ask(request_id="newcomer")
        self.assertEqual(len(self.router.chooser.waiting), 1)
        newcomer.cancel()
        self.failureResultOf(newcomer, CancelledError)
        self.assertEqual((len(self.router.chooser.waiting), len(self.wire.requests)), (0, 2))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)

    def test_one_that_was_tried_is_not_waited_for(self) -> None:
        """No credential twice in a request: its error is the answer, at once."""
        self.make(member("a"), timeouts=WAITING, wire=FakeWire(exhausted("1s")))
        self.assertEqual(self.successResultOf(self.ask()).status, 429)
        self.assertEqual(len(self.wire.requests), 1)

    def test_all_waiting_of_a_request_has_one_limit(self) -> None:
        """A second wait has what the first one left."""
        self.make(on_terms("a", most=1), on_terms("b", most=1), timeouts=WAITING)
        holds = self.held(3)
        held = [self.ask() for _ in range(2)]
        waiting = self.ask()
        self.clock.advance(4.0)
        holds[0].callback(ok())
        self.successResultOf(held[0])
        holds[2].callback(exhausted())
        self.assertNoResult(waiting)
        self.clock.advance(1.0)
        self.assertEqual(self.successResultOf(waiting).status, 429)
        self.assertEqual([attempt.waited for attempt in self.journal.attempts], [4.0])


class RecordTests(RouterCase):
    """What is told about choices."""

    def test_attempts_say_why_and_how_long_they_waited(self) -> None:
        """Constants, so that it costs nothing."""
        self.make(member("a"), member("b"), wire=FakeWire(exhausted(), ok(), ok()))
        self.served_by(session="s")
        self.assertEqual([attempt.why for attempt in self.journal.attempts], ["least used", "rotation"])
        self.served_by(session="s")
        self.assertEqual([(one.why, one.waited) for one in self.journal.attempts], [("session", 0.0)])

    def test_decisions_are_kept_only_where_somebody_looks(self) -> None:
        """With the log at debug: who was chosen, and why each other was not."""
        self.make(member("a"), member("b"))
        self.served_by()
        self.assertEqual(self.journal.decisions, [])
        self.make(member("a"), on_terms("b", priority=1), on_terms("c", most=1), wire=FakeWire(exhausted("9s"), ok()))
        self.router.explains = True
        lease = self.router.standings.lease(self.router.members[2].credential, "m", 0.0)
        self.served_by()
        first, second = self.journal.decisions
        self.assertEqual((first.why, second.why), ("least used", "rotation"))
        self.assertEqual([one.state for one in first.options], ["ok", "ok", "busy"])
        self.assertEqual([one.reason for one in first.options], ["", "a fallback", "1 in flight"])
        self.assertEqual([one.chosen for one in second.options], [False, True, False])
        self.assertEqual((second.options[0].state, second.options[0].free_seconds), ("tried", 9.0))
        self.router.standings.release(lease)

    def test_level_of_the_log_decides_whether_decisions_are_kept(self) -> None:
        """The composition says so."""
        for level, explains in (("debug", True), ("info", False)):
            world = World.build(log=LogConfig(level, "text"))
            self.assertIs(world.composition.router.explains, explains)

    def test_errors_details_say_how_it_was_routed(self) -> None:
        """Base, reason of the choice and wait of each attempt; what each candidate is now; the session."""
        self.make(member("a"), member("b"), wire=FakeWire(exhausted("9s"), exhausted("20s")))
        refusal = self.successResultOf(self.ask(session="s"))
        details = json.loads(refusal.body)["error"]["details"]
        self.assertEqual(details[-1]["reason"], "ATTEMPTS")
        self.assertEqual(
            details[-2]["metadata"],
            {
                "session": "s",
                "attempt-1": "studio/a (least used) https://one.example, waited 0.0 s",
                "attempt-2": "studio/b (rotation) https://one.example, waited 0.0 s",
                "candidate-1": "studio/a tried RATE_LIMIT_EXCEEDED, free in 9 s",
                "candidate-2": "studio/b tried RATE_LIMIT_EXCEEDED, free in 20 s",
            },
        )
        error = self.failureResultOf(self.ask(), GatewayError).value
        self.assertEqual(
            error.details[-1]["metadata"],
            {
                "candidate-1": "studio/a cooling RATE_LIMIT_EXCEEDED, free in 9 s",
                "candidate-2": "studio/b cooling RATE_LIMIT_EXCEEDED, free in 20 s",
            },
        )

    def test_explain_says_what_a_request_would_meet(self) -> None:
        """And changes nothing: neither turns nor sessions."""
        self.make(member("a"), member("b"), on_terms("c", priority=1), member("d"))
        a, b, _, d = (one.credential for one in self.router.members)
        self.router.standings.cool(a, "gemini-2.5-flash", 12.0, 0.0, "R")
        self.router.standings.unusable(d, "PROJECT_MISSING")
        for _ in range(2):
            rows = explain(self.router, "gemini-2.5-flash")
            self.assertEqual(
                [(row.label, row.state, row.reason, row.free_seconds, row.chosen) for row in rows],
                [
                    ("studio/a", "cooling", "R", 12.0, False),
                    ("studio/b", "ok", "", None, True),
                    ("studio/c", "ok", "a fallback", None, False),
                    ("studio/d", "quarantined", "PROJECT_MISSING", None, False),
                ],
            )
        self.router.sessions.bind("s", "m", b, 0.0)
        self.assertEqual([row.label for row in explain(self.router, "m", "s") if row.chosen], ["studio/b"])
        self.assertEqual((self.wire.requests, self.router.standings.in_flight()), ([], {}))
