"""A fault of the gateway's own at every place where a request waits for, or calls, something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from gateway.operations.recorders import Recorders
from tests.fakes import (
    ANSWER,
    JSON,
    SSE,
    Answer,
    Client,
    Edge,
    FakeExchange,
    FakeRecorder,
    FakeTokens,
    event,
    member,
    ok,
    refused,
    sse,
)
from tests.test_verdict import BAD_KEY

PATH = "/v1beta/models/gemini-2.5-flash:generateContent"
STREAM = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"


class Fault(Exception):
    """None that anybody foresees."""


def failing(*_: object, **__: object) -> Any:
    raise Fault("a secret in a message")


class Faulty:
    """As what it stands for, but for one method."""

    def __init__(self, target: Any, name: str) -> None:
        self._target = target
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return failing if name == self._name else getattr(self._target, name)


class Broken(FakeExchange):
    """An answer that fails when its body is taken."""

    async def read(self, *limits: object) -> bytes:
        return failing()  # type: ignore[no-any-return]

    def deliver(self, receiver: Any) -> None:
        failing()


def with_upstream(edge: Edge, name: str, *script: Any) -> None:
    edge.wire.script.extend(script)
    edge.router.members = [attrs.evolve(one, upstream=Faulty(one.upstream, name)) for one in edge.router.members]


def with_tokens(edge: Edge, *tokens: Any) -> None:
    edge.router.members = [attrs.evolve(one, tokens=FakeTokens(*tokens)) for one in edge.router.members]


def with_renewal(edge: Edge) -> None:
    edge.wire.script.append(refused(401))
    with_tokens(edge, "a", Fault())


def with_script(*script: Any) -> Callable[[Edge], None]:
    return lambda edge: edge.wire.script.extend(script)


def with_chooser(edge: Edge) -> None:
    edge.router.chooser = Faulty(edge.router.chooser, "claim")  # type: ignore[assignment]


def good(target: str) -> FakeExchange:
    return ok() if target == PATH else FakeExchange(200, SSE, sse(event("x")))


PLACES: tuple[tuple[str, str, Callable[[Edge], None]], ...] = (
    *(
        place
        for target in (PATH, STREAM)
        for place in (
            ("a credential is chosen", target, with_chooser),
            ("a token is had", target, lambda edge: with_tokens(edge, Fault())),
            ("a token is renewed", target, with_renewal),
            ("a request is prepared", target, lambda edge: with_upstream(edge, "prepare")),
            ("a request is sent", target, lambda edge: setattr(edge.wire, "by", failing)),
            ("an answer is taken apart", target, lambda edge, to=target: with_upstream(edge, "unwrap", good(to))),
            ("an error's body is read", target, with_script(Broken(400))),
        )
    ),
    ("an answer's body is read", PATH, with_script(Broken(200))),
    ("a stream is begun", STREAM, with_script(Broken(200, SSE))),
)  # fmt: skip


class PlaceTests(SynchronousTestCase):
    """P13: 500 in Google's shape, without a word of it; whose request it was is in the log; and nothing is held."""

    def setUp(self) -> None:
        self.logged: list[LogEvent] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def check(self, place: str, client: Client, edge: Edge, target: str) -> None:
        answer: Answer = client.answer()
        error = answer.json["error"]
        self.assertEqual(
            (answer.status, error["status"], error["details"][0]["reason"]), (500, "INTERNAL", "INTERNAL"), place
        )
        self.assertEqual(answer.headers["x-antigravity-origin"], "gateway", place)
        number = answer.headers["x-request-id"]
        self.assertIn(number, error["message"], place)
        for word in (b"Traceback", b"Fault", b"secret", b".py"):
            self.assertNotIn(word, answer.body, place)
        self.assertEqual(len(self.flushLoggedErrors(Fault)), 1, place)
        self.assertTrue([one for one in self.logged if one.get("log_failure") and number in repr(one)], place)
        self.assertEqual(edge.leases, 0, place)
        self.assertEqual(edge.recorder.ends[-1].status, 500, place)

    def test_fault_at_every_place_is_a_500(self) -> None:
        """At once, whatever it was that failed."""
        for place, target, put in PLACES:
            edge = Edge.build(members=[member("a")])
            put(edge)
            script = list(edge.wire.script)
            client = edge.connect()
            client.post(target)
            self.check(place, client, edge, target)
            for one in script:
                self.assertTrue(one.aborted or one.reads, place)
            client.ask("GET", "/healthz")
            self.assertEqual([one.status for one in client.answers()], [500, 200], place)

    def test_fault_after_a_wait_is_a_500(self) -> None:
        """When the token, the head, or the body has been waited for."""
        waits: tuple[tuple[str, Callable[[Edge, Deferred[Any]], None]], ...] = (
            ("the token", lambda edge, waiting: with_tokens(edge, waiting)),
            ("the head", lambda edge, waiting: edge.wire.script.append(waiting)),
        )
        for target in (PATH, STREAM):
            for place, put in waits:
                edge = Edge.build(members=[member("a")])
                waiting: Deferred[Any] = Deferred()
                put(edge, waiting)
                client = edge.connect()
                client.post(target)
                self.assertEqual(client.received, b"")
                edge.clock.advance(1)
                waiting.errback(Fault("a secret in a message"))
                self.check(place, client, edge, target)

    def test_next_request_is_answered(self) -> None:
        """The same connection and credential serve on."""
        edge = Edge.build(members=[member("a")])
        edge.wire.script = [Fault(), ok()]
        client = edge.connect()
        client.post(PATH)
        client.post(PATH)
        self.assertEqual([one.status for one in client.answers()], [500, 200])
        self.assertEqual(client.answers()[1].body, ANSWER)
        self.flushLoggedErrors(Fault)


class RecorderTests(SynchronousTestCase):
    """P7, P13: who only listens may fail, and requests go on."""

    def test_failing_recorder_costs_no_request(self) -> None:
        """Its fault is logged, the next recorder is told all the same, and clients notice nothing."""
        for name, script, status in (
            ("attempted", ok(), 200),
            ("ended", ok(), 200),
            ("quarantined", FakeExchange(400, JSON, BAD_KEY), 503),
        ):
            edge = Edge.build(script, members=[member("a")])
            both = Recorders(Faulty(edge.recorder, name), edge.recorder)
            edge.router.recorder = edge.site.recorder = both
            client = edge.connect()
            client.post(PATH)
            self.assertEqual(client.answer().status, status, name)
            self.assertEqual(len(self.flushLoggedErrors(Fault)), 1, name)
            self.assertTrue(edge.recorder.ends, name)
            self.assertEqual(bool(edge.recorder.out), name == "quarantined", name)
            self.assertEqual(edge.leases, 0, name)

    def test_halt_is_told_as_well(self) -> None:
        """The fourth of a recorder's methods."""
        kept = FakeRecorder()
        Recorders(Faulty(kept, "halted"), kept).halted("studio")
        self.assertEqual((kept.halts, len(self.flushLoggedErrors(Fault))), (["studio"], 1))
