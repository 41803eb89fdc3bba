"""Bodies that come in pieces: edge/gathering.py."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.edge.gathering import BLOCK_BYTES, SMALL_BYTES, Gathering


class GatheringTests(SynchronousTestCase):
    """Pieces in, the whole out."""

    @given(st.lists(st.sampled_from([0, 1, 5, SMALL_BYTES - 1, SMALL_BYTES, BLOCK_BYTES + 3]), max_size=12))
    def test_whole_is_the_pieces_in_order(self, sizes: list[int]) -> None:
        """Whatever the sizes of the pieces are, nothing is lost, doubled or moved."""
        pieces = [bytes([at % 251]) * size for at, size in enumerate(sizes)]
        gathering = Gathering()
        for piece in pieces:
            gathering.add(piece)
        self.assertEqual(gathering.take(), b"".join(pieces))
        self.assertEqual(gathering.take(), b"")

    def test_tiny_pieces_cost_little_more_than_their_bytes(self) -> None:
        """A body sent byte by byte is not held as an object a byte."""
        gathering = Gathering()
        for _ in range(300_000):
            gathering.add(b"x")
        self.assertLess(len(gathering._blocks), 10)
        held = sum(map(sys.getsizeof, gathering._blocks)) + sys.getsizeof(gathering._tail)
        self.assertLess(held, 450_000)

    def test_dropped_body_is_gone(self) -> None:
        """What was gathered for a request that is then refused is not kept."""
        gathering = Gathering()
        gathering.add(b"x" * 5)
        gathering.add(b"x" * BLOCK_BYTES)
        gathering.drop()
        self.assertEqual(gathering.take(), b"")
