"""Gather a body that comes in pieces.  Pure."""

from __future__ import annotations

SMALL_BYTES = 16 * 1024
BLOCK_BYTES = 64 * 1024


class Gathering:
    """Holds the pieces of a body at little more than their size, however small they are."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._tail = bytearray()

    def add(self, piece: bytes) -> None:
        """Take the next piece; small ones are put together, because each object costs more than its bytes."""
        if len(piece) >= SMALL_BYTES and not self._tail:
            self._blocks.append(piece)
            return
        self._tail += piece
        if len(self._tail) >= BLOCK_BYTES:
            self._flush()

    def take(self) -> bytes:
        """Return the whole and hold nothing any more."""
        self._flush()
        blocks, self._blocks = self._blocks, []
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def drop(self) -> None:
        """Hold nothing any more."""
        self._blocks.clear()
        self._tail = bytearray()

    def _flush(self) -> None:
        if self._tail:
            self._blocks.append(bytes(self._tail))
            self._tail = bytearray()
