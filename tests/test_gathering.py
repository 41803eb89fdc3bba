"""Bodies that come in pieces: edge/gathering.py."""

from __future__ import annotations

import sys
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.edge.gathering import BLOCK_BYTES, SMALL_BYTES, Gathering
from gateway.edge.storing import SEGMENT_BYTES, SPARE_MOST, SPARE_SECONDS, Spare, Store
from gateway.folding import Folded


class GatheringTests(SynchronousTestCase):
    """Pieces in, the whole out."""

    @given(st.lists(st.sampled_from([0, 1, 5, SMALL_BYTES - 1, SMALL_BYTES, BLOCK_BYTES + 3]), max_size=12))
    def test_whole_is_the_pieces_in_order(self, sizes: list[int]) -> None:
        """Whatever the sizes of the pieces are, nothing is lost, doubled or moved."""
        pieces = [bytes([at % 251]) * size for at, size in enumerate(sizes)]
        gathering = Gathering(Spare(Clock()))
        for piece in pieces:
            gathering.add(piece)
        self.assertEqual(gathering.take(), Folded(b"".join(pieces)))
        self.assertEqual(gathering.take(), Folded(b""))

    @given(st.lists(st.tuples(st.sampled_from([0, 1, 5, SMALL_BYTES]), st.booleans()), max_size=12))
    def test_folds_are_apart_and_come_in_again(self, sizes: list[tuple[int, bool]]) -> None:
        """What is to be kept apart is none of the text, what follows on it is of the same fold, and nothing is lost."""
        gathering, whole = Gathering(Spare(Clock())), b""
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
        gathering = Gathering(Spare(Clock()))
        block = bytes(range(48, 112)) * 1024
        for _ in range(200):
            gathering.add(block, ((0, len(block)),))
        taken = gathering.take()
        self.assertLess(len(taken.text), 10)
        (fold,) = taken.folds
        self.assertEqual(b"".join(fold), block * 200)
        self.assertLessEqual(len(fold), len(block) * 200 // SEGMENT_BYTES + 1)

    def test_more_of_a_fold_is_put_where_it_belongs(self) -> None:
        """Over a segment's end too, and only as long as nothing else has come."""
        gathering = Gathering(Spare(Clock()))
        self.assertIsNone(gathering.place(9))
        gathering.add(b"<" + b"a" * SEGMENT_BYTES, ((1, SEGMENT_BYTES - 1),))
        self.assertIsNone(gathering.place(9))
        gathering.add(b"b", ((0, 1),))
        put = b""
        for number in range(4):
            place = gathering.place(2)
            assert place is not None
            place[:] = bytes([48 + number]) * len(place)
            put += bytes(place)
            gathering.placed(len(place))
        gathering.add(b">")
        self.assertEqual(len(put), 7)
        self.assertIsNone(gathering.place(9))
        self.assertEqual(gathering.take().whole().text, b"<" + b"a" * SEGMENT_BYTES + b"b" + put + b">")

    def test_tiny_pieces_cost_little_more_than_their_bytes(self) -> None:
        """A body sent byte by byte is not held as an object a byte."""
        gathering = Gathering(Spare(Clock()))
        for _ in range(300_000):
            gathering.add(b"x")
        self.assertLess(len(gathering._blocks), 10)
        held = sum(map(sys.getsizeof, gathering._blocks)) + sys.getsizeof(gathering._tail)
        self.assertLess(held, 450_000)

    def test_memory_of_a_body_that_was_taken_is_spare_and_other_is_not(self) -> None:
        """A crowd of bodies that are refused over a cap leaves nothing behind."""
        spare = Spare(Clock())
        for taken in (False, True):
            gathering = Gathering(spare)
            gathering.add(b"x" * BLOCK_BYTES, ((0, BLOCK_BYTES),))
            if taken:
                gathering.take()
            gathering.drop()
            self.assertEqual(len(spare), int(taken))

    def test_dropped_body_is_gone(self) -> None:
        """What was gathered for a request that is then refused is not kept."""
        gathering = Gathering(Spare(Clock()))
        gathering.add(b"x" * 5)
        gathering.add(b"x" * BLOCK_BYTES, ((5, 99),))
        gathering.drop()
        self.assertEqual(gathering.take(), Folded(b""))

    def test_a_place_that_nobody_fills_is_no_part_of_the_body(self) -> None:
        """It may be the first of a segment, where a body ends with the one before."""
        gathering = Gathering(Spare(Clock()))
        gathering.add(b"a" * SEGMENT_BYTES, ((0, SEGMENT_BYTES),))
        self.assertIsNotNone(gathering.place(9))
        self.assertEqual(gathering.take().whole().text, b"a" * SEGMENT_BYTES)


class SpareTests(SynchronousTestCase):
    """Memory that one body gives back serves the next."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.spare = Spare(self.clock)

    def used(self, segments: int) -> Store:
        store = Store(self.spare)
        for number in range(segments):
            store.add(memoryview(bytes([number + 1]) * SEGMENT_BYTES))
        return store

    def test_what_a_body_gave_back_is_used_again(self) -> None:
        """What was there is there still, until it is written over."""
        self.used(1).close()
        (place,) = [Store(self.spare).place(1)]
        self.assertEqual((place[0], len(self.spare)), (1, 0))

    def test_what_somebody_still_sees_is_not_used_again(self) -> None:
        """A body that is still being sent stays as it is; other segments serve."""
        store = self.used(2)
        (view,) = store.between(5, 9)
        store.close()
        self.assertEqual(Store(self.spare).place(1)[0], 2)
        self.assertEqual(bytes(view), b"\1" * 4)

    def test_what_nobody_takes_goes_back_to_the_system(self) -> None:
        """Some seconds after the last body, and no sooner."""
        self.used(1).close()
        self.clock.advance(SPARE_SECONDS - 1)
        self.used(1).close()
        self.clock.advance(SPARE_SECONDS - 1)
        self.assertEqual(len(self.spare), 1)
        self.clock.advance(1 + SPARE_SECONDS)
        self.assertEqual((len(self.spare), self.clock.getDelayedCalls()), (0, []))

    def test_no_more_is_kept_than_it_may(self) -> None:
        """A crowd of bodies at once is not remembered."""
        self.used(SPARE_MOST + 3).close()
        self.assertEqual(len(self.spare), SPARE_MOST)
