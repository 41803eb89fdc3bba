"""Memory for the larger part of a large body.  Does I/O: it asks the system for pages.

What is freed by one body is given back to the system, and the next one gets it anew, page by page of 4 KiB: that
costs more than to receive the bytes.  In large pages it does not.
"""

from __future__ import annotations

import mmap
from contextlib import suppress

FIRST_BYTES = 4 * 1024 * 1024
"""How much is kept in ordinary memory, so that a large page of which little is used is never much beside the rest."""
SEGMENT_BYTES = 2 * 1024 * 1024
"""The size of the first segment, and of a large page; each one after it is twice as large, up to the most."""
SEGMENT_MOST_BYTES = 16 * 1024 * 1024

_ADVICE: int | None = getattr(mmap, "MADV_HUGEPAGE", None)


def _pages(size: int) -> mmap.mmap:
    if _ADVICE is None:
        return mmap.mmap(-1, size)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):
        # A kernel without them has small pages as good.
        pages.madvise(_ADVICE)
    return pages


class Store:
    """Bytes one behind the other, at little more than their size."""

    def __init__(self) -> None:
        self.size = 0
        self._first = bytearray()
        self._segments: list[memoryview] = []
        self._room = 0
        """How many bytes of the last segment are free."""

    def add(self, data: memoryview) -> None:
        """Keep a copy of some bytes."""
        self.size += len(data)
        if not self._segments and len(self._first) < FIRST_BYTES:
            self._first += data
            return
        while data:
            if not self._room:
                self._room = min(SEGMENT_BYTES << min(len(self._segments), 8), SEGMENT_MOST_BYTES)
                self._segments.append(memoryview(_pages(self._room)))
            segment = self._segments[-1]
            at, count = len(segment) - self._room, min(len(data), self._room)
            segment[at : at + count] = data[:count]
            self._room -= count
            data = data[count:]

    def between(self, start: int, end: int) -> list[memoryview]:
        """Return the bytes from one place to another, uncopied; nothing can be added any more."""
        views, base = [], 0
        for part in (memoryview(self._first), *self._segments):
            if start < base + len(part) and base < end:
                views.append(part[max(start - base, 0) : end - base].toreadonly())
            base += len(part)
        return views
