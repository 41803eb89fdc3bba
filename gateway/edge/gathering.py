"""Gather a body that comes in pieces."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.dialects.guard import Apart, Numbers
from gateway.edge.storing import Spare, Store
from gateway.folding import Folded, mark, mark_of_numbers

SMALL_BYTES = 16 * 1024
BLOCK_BYTES = 64 * 1024


class Gathering:
    """Holds the pieces of a body at little more than their size, however small they are."""

    def __init__(self, spare: Spare) -> None:
        self._blocks: list[bytes] = []
        self._tail = bytearray()
        self._spare = spare
        self._store: Store | None = None
        self._taken: Store | None = None
        """Of a body that has been taken."""
        self._folds: list[tuple[int, int]] = []
        """Where in the store each begins and ends."""
        self._open = False
        """Whether nothing has come since the last fold."""

    def add(self, piece: bytes, folds: Sequence[Apart] = ()) -> None:
        """Take the next piece; ``folds`` says from where to where it is to be kept apart from the text."""
        if not folds:
            self._keep(piece)
            return
        at, view = 0, memoryview(piece)
        for fold in folds:
            self._keep(piece[at : fold[0]])
            self._fold(view[fold[0] : fold[1]], type(fold) is Numbers)
            at = fold[1]
        self._keep(piece[at:])

    def place(self, most: int) -> memoryview | None:
        """Return where more of the last fold may be put, if nothing has come since; see ``placed``."""
        return self._store.place(most) if self._open and self._store is not None else None

    def placed(self, count: int) -> None:
        """Take so many bytes that have been put into the place."""
        assert self._store is not None
        self._store.size += count
        self._folds[-1] = self._folds[-1][0], self._store.size

    def take(self) -> Folded:
        """Return the whole, once; its folds are good until ``drop``, and as long as somebody has them."""
        self._flush()
        blocks, folds, store = self._blocks, self._folds, self._store
        self._blocks, self._folds, self._open = [], [], False
        self._store, self._taken = None, store
        text = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        return Folded(text) if store is None else Folded(text, tuple(store.between(*fold) for fold in folds))

    def drop(self) -> None:
        """Hold nothing any more.  What there is of a body that nobody took goes back to the system at once."""
        if self._taken is not None:
            self._taken.close()
            self._taken = None
        self._blocks, self._tail, self._store, self._folds, self._open = [], bytearray(), None, [], False

    def _keep(self, piece: bytes) -> None:
        """Take some of the text; small pieces are put together, because each object costs more than its bytes."""
        if not piece:
            return
        self._open = False
        if len(piece) >= SMALL_BYTES and not self._tail:
            self._blocks.append(piece)
            return
        self._tail += piece
        if len(self._tail) >= BLOCK_BYTES:
            self._flush()

    def _fold(self, part: memoryview, numbers: bool) -> None:
        if self._store is None:
            self._store = Store(self._spare)
        start = self._store.size
        self._store.add(part)
        if self._open:
            self._folds[-1] = self._folds[-1][0], self._store.size
        else:
            self._keep((mark_of_numbers if numbers else mark)(len(self._folds)))
            self._folds.append((start, self._store.size))
            self._open = not numbers

    def _flush(self) -> None:
        if self._tail:
            self._blocks.append(bytes(self._tail))
            self._tail = bytearray()
