"""Memory for the larger part of a large body.  Does I/O: it asks the system for pages.

What is freed by one body is given back to the system, and the next one gets it anew, cleared page by page: that costs
more than to receive the bytes.  So what one body gives back is kept for a moment, in which often another follows.
"""

from __future__ import annotations

import mmap
import sys
from collections import deque
from collections.abc import Iterable
from contextlib import suppress

from twisted.internet.interfaces import IDelayedCall, IReactorTime

SEGMENT_BYTES = 2 * 1024 * 1024
"""The size of a segment, and of a large page."""
SMALL_PAGED = 2
"""How many segments of a body have small pages, so that a large one of which little is used is never much beside the
rest."""
SPARE_MOST = 12
"""How many segments are kept."""
SPARE_SECONDS = 5.0
"""For how long, after the last was taken or given back."""

_ADVICE: int | None = getattr(mmap, "MADV_HUGEPAGE", None)
_NOBODY = 2
"""How many references there are to a segment that a function has in its hands, and nobody else."""


def _pages(large: bool) -> mmap.mmap:
    if _ADVICE is None:
        return mmap.mmap(-1, SEGMENT_BYTES)
    pages = mmap.mmap(-1, SEGMENT_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if large:
        with suppress(OSError):
            # A kernel without them has small pages as good.
            pages.madvise(_ADVICE)
    return pages


class Spare:
    """The segments that bodies have given back, for those that follow soon."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._segments: deque[mmap.mmap] = deque()
        self._used = False
        """Whether one was taken or given back since the timer was set."""
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._segments)

    def take(self, large: bool) -> mmap.mmap:
        """Return a segment, which holds anything; a new one has ``large`` pages or small ones."""
        self._used = True
        while self._segments:
            segment = self._segments.popleft()
            # Whoever still sends the body that was there has a view of it, which refers to it: then it is not spare,
            # and goes when that does.
            if sys.getrefcount(segment) == _NOBODY:
                return segment
        return _pages(large)

    def give(self, segments: Iterable[mmap.mmap]) -> None:
        """Take segments back; there may still be views of them."""
        self._used = True
        for segment in segments:
            if len(self._segments) < SPARE_MOST:
                self._segments.append(segment)
        if self._timer is None and self._segments:
            self._wait()

    def _wait(self) -> None:
        self._used = False
        self._timer = self._clock.callLater(SPARE_SECONDS, self._rest)

    def _rest(self) -> None:
        self._timer = None
        if self._used:
            self._wait()
        else:
            self._segments.clear()


class Store:
    """Bytes one behind the other, at little more than their size."""

    def __init__(self, spare: Spare) -> None:
        self.size = 0
        self._spare = spare
        self._segments: list[mmap.mmap] = []

    def add(self, data: memoryview) -> None:
        """Keep a copy of some bytes."""
        while data:
            place = self.place(len(data))
            place[:] = data[: len(place)]
            self.size += len(place)
            data = data[len(place) :]

    def place(self, most: int) -> memoryview:
        """Return where the next bytes belong: room for one at least.  They count once ``size`` says so."""
        at = self.size % SEGMENT_BYTES
        if self.size == len(self._segments) * SEGMENT_BYTES:
            self._segments.append(self._spare.take(len(self._segments) >= SMALL_PAGED))
        return memoryview(self._segments[-1])[at : at + most]

    def between(self, start: int, end: int) -> list[memoryview]:
        """Return the bytes from one place to another, uncopied."""
        return [
            memoryview(segment)[max(start - base, 0) : end - base].toreadonly()
            for base, segment in zip(range(0, end, SEGMENT_BYTES), self._segments, strict=False)
            if start < base + SEGMENT_BYTES
        ]

    def close(self) -> None:
        """Give the memory back, as far as nobody has a view of it."""
        self._spare.give(self._segments)
        self._segments, self.size = [], 0
