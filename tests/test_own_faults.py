"""Faults of our own at everything that a request waits for: one answer without a trace, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from gateway.config import Timeouts
from tests.fakes import BODY, JSON, SSE, Client, Edge, FakeExchange, FakeTokens, member, ok, refused

UNARY = "/v1beta/models/gemini-2.5-flash:generateContent"
STREAM = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
CANARY = "a secret in a message"
TRACES = (b"Traceback", b"ZeroDivision", b"secret", b".py")


class BadExchange(FakeExchange):
    """An answer that fails when its body is wanted, with or without a wait."""

    def __init__(self, status: int, headers: Mapping[bytes, bytes], held: Deferred[Any] | None) -> None:
        super().__init__(status, headers)
        self._held = held

    async def read(self, *limits: Any) -> bytes:
        if self._held is not None:
            await self._held
        raise ZeroDivisionError(CANARY)

    def deliver(self, receiver: Any) -> None:
        raise ZeroDivisionError(CANARY)


@attrs.define(eq=False)
class Case:
    """A gateway in which something that is waited for fails, now or when ``held`` does."""

    script: tuple[Any, ...] = ()
    tokens: FakeTokens | None = None
    held: Deferred[Any] | None = None


def token(held: Deferred[Any] | None) -> Case:
    return Case(tokens=FakeTokens(held or ZeroDivisionError(CANARY)), held=held)


def renewal(held: Deferred[Any] | None) -> Case:
    return Case((refused(401, "UNAUTHENTICATED"),), FakeTokens("stale", held or ZeroDivisionError(CANARY)), held)


def opening(held: Deferred[Any] | None) -> Case:
    return Case((held or ZeroDivisionError(CANARY),), held=held)


def body(held: Deferred[Any] | None) -> Case:
    return Case((BadExchange(200, JSON, held),), held=held)


def refusal(held: Deferred[Any] | None) -> Case:
    return Case((BadExchange(503, JSON, held),), held=held)


def stream(held: Deferred[Any] | None) -> Case:
    return Case((BadExchange(200, SSE, held),), held=held)


Make = Callable[[Deferred[Any] | None], Case]
AWAITS: tuple[tuple[Make, str], ...] = (
    (token, UNARY), (token, STREAM), (renewal, UNARY), (renewal, STREAM), (opening, UNARY), (opening, STREAM),
    (body, UNARY), (refusal, UNARY), (refusal, STREAM), (stream, STREAM),
)  # fmt: skip
"""Everything that a request waits for before its first byte, beside the queue."""


class FaultTests(SynchronousTestCase):
    def check(self, world: Edge, client: Client, what: str) -> None:
        """Check that a client got one 500 that says where to look, and that nothing is left."""
        answer = client.answer()
        self.assertEqual((answer.status, answer.whole), (500, True), what)
        error = answer.json["error"]
        self.assertEqual((error["status"], error["details"][0]["reason"]), ("INTERNAL", "INTERNAL"), what)
        self.assertIn(answer.headers["x-request-id"], error["message"], what)
        for word in TRACES:
            self.assertNotIn(word, client.received, what)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1, what)
        self.assertEqual((world.leases, world.site.busy), (0, 0), what)
        client.ask("GET", "/healthz")
        self.assertEqual(client.answers()[-1].status, 200, what)

    def test_whatever_is_waited_for_may_fail(self) -> None:
        """P13: at once, or later, before the first byte."""
        for make, path in AWAITS:
            # An event that is read later fails in the wire's turn, which closes the connection and tells the stream.
            for later in (False, True) if make is not stream else (False,):
                what = f"{make.__name__}, {path.split(':')[1]}, {'later' if later else 'at once'}"
                case = make(Deferred() if later else None)
                members = (member("a", case.tokens),) if case.tokens is not None else (member("a"),)
                world = Edge.build(*case.script, members=members)
                client = world.connect()
                client.post(path, BODY)
                if case.held is not None:
                    self.assertEqual(client.received, b"", what)
                    case.held.errback(ZeroDivisionError(CANARY))
                self.check(world, client, what)

    def test_choosing_for_one_that_waits_may_fail(self) -> None:
        """P13: its own request is 500; the one whose end let it try is answered."""
        one = member("a")
        capped = attrs.evolve(
            one, credential=attrs.evolve(one.credential, terms=attrs.evolve(one.credential.terms, max_concurrent=1))
        )
        world = Edge.build(members=(capped,), timeouts=Timeouts(queue=60.0))
        held = world.wire.hold()
        world.wire.script = [held]
        first, waiting = world.connect(), world.connect()
        first.post(UNARY, BODY)
        waiting.post(UNARY, BODY)
        self.assertEqual(len(world.router.chooser.waiting), 1)
        world.router.chooser.sessions = _Faulty()  # type: ignore[assignment]
        world.router.chooser.clock.callLater(0, held.callback, ok())
        world.clock.advance(0)
        answer = waiting.answer()
        self.assertEqual((answer.status, answer.json["error"]["details"][0]["reason"]), (500, "INTERNAL"))
        self.assertEqual(world.leases, 0)
        self.assertEqual(first.answer().status, 200)
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))


class _Faulty:
    """Sessions that are broken for whoever asks, and take what they are given."""

    def get(self, *given: Any) -> Any:
        raise ZeroDivisionError(CANARY)

    def bind(self, *given: Any) -> None:
        pass
