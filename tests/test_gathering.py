"""Bodies that come in pieces: edge/gathering.py."""

from __future__ import annotations

import sys
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.edge.gathering import BLOCK_BYTES, SMALL_BYTES, Gathering
from gateway.folding import Folded


class GatheringTests(SynchronousTestCase):
    """Pieces in, the whole out."""

    @given(st.lists(st.sampled_from([0, 1, 5, SMALL_BYTES - 1, SMALL_BYTES, BLOCK_BYTES + 3]), max_size=12))
    def test_whole_is_the_pieces_in_order(self, sizes: list[int]) -> None:
        """Whatever the sizes of the pieces are, nothing is lost, doubled or moved."""
        pieces = [bytes([at % 251]) * size for at, size in enumerate(sizes)]
        gathering = Gathering()
        for piece in pieces:
            gathering.add(piece)
        self.assertEqual(gathering.take(), Folded(b"".join(pieces)))
        self.assertEqual(gathering.take(), Folded(b""))

    @given(st.lists(st.tuples(st.sampled_from([0, 1, 5, SMALL_BYTES]), st.booleans()), max_size=12))
    def test_folds_are_apart_and_come_in_again(self, sizes: list[tuple[int, bool]]) -> None:
        """What is to be kept apart is none of the text, what follows on it is of the same fold, and nothing is lost."""
        gathering, whole = Gathering(), b""
        for at, (size, apart) in enumerate(sizes):
            piece = bytes([65 + at]) * (size + 2)
            gathering.add(piece, ((0, len(piece)),) if apart else ((1, 1 + size),) if size else ())
            whole += piece
        taken = gathering.take()
        self.assertEqual(taken.whole(), Folded(whole))
        starts = sum(apart and not before for (_, before), (_, apart) in pairwise([(0, False), *sizes]))
        self.assertEqual(len(taken.folds), starts + sum(1 for size, apart in sizes if size and not apart))

    def test_a_long_fold_is_kept_at_its_size(self) -> None:
        """Over all segments of the store, each byte is where it belongs, and in no more pieces than segments."""
        gathering = Gathering()
        block = bytes(range(48, 112)) * 1024
        for _ in range(200):
            gathering.add(block, ((0, len(block)),))
        taken = gathering.take()
        self.assertLess(len(taken.text), 10)
        (fold,) = taken.folds
        self.assertEqual(b"".join(fold), block * 200)
        self.assertLess(len(fold), 6)

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
        gathering.add(b"x" * BLOCK_BYTES, ((5, 99),))
        gathering.drop()
        self.assertEqual(gathering.take(), Folded(b""))
