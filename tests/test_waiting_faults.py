"""A fault of our own while a credential is chosen for one who waits: it is nobody else's."""

from __future__ import annotations

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from gateway.config import Timeouts
from tests.fakes import BODY, Edge, member, ok

UNARY = "/v1beta/models/gemini-2.5-flash:generateContent"
CANARY = "a secret in a message"


class FaultTests(SynchronousTestCase):
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
