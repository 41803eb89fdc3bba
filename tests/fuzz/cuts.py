"""The same bytes in other pieces, as a network may deliver them.  Pure."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from itertools import pairwise

BY_BYTE_MOST = 400


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """Give the pieces of ``data`` for several ways to cut it, always the same ones for the same bytes."""
    yield [data]
    if len(data) <= BY_BYTE_MOST:
        yield [data[at : at + 1] for at in range(len(data))]
    chance = random.Random(zlib.crc32(data))
    for count in (1, 2, 7):
        edges = [0, *sorted(chance.randint(0, len(data)) for _ in range(count)), len(data)]
        yield [data[start:end] for start, end in pairwise(edges)]
