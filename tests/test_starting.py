"""What is done once, when the gateway starts."""

from __future__ import annotations

import linecache

import attrs
from twisted.trial.unittest import SynchronousTestCase

from gateway import starting


class SourceTests(SynchronousTestCase):
    """attrs keeps the text of what it generates, for debuggers."""

    def test_generated_sources_are_let_go(self) -> None:
        """And nothing that works depends on them."""

        @attrs.frozen
        class Value:
            number: int

        generated = [name for name in linecache.cache if name.startswith("<attrs generated")]
        self.assertTrue(generated)
        starting.forget_sources()
        self.assertEqual([name for name in generated if name in linecache.cache], [])
        self.assertEqual((Value(1), repr(Value(2))[-9:]), (Value(1), "number=2)"))
