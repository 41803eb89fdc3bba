"""JSON texts whose long strings, and long lists of numbers, are kept apart from them.  Pure.

An image is nearly all of its request, and nobody here looks into it.  So its characters are kept apart as a *fold*,
with a mark in their place, and whatever is done with the rest of the text is done with a small one: it is parsed,
spliced and kept for another attempt as if it had no image.  Only on the wire the folds come in again.

Of a list of numbers, those between two commas are a fold, whose mark is a string and stands for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

Piece = bytes | memoryview
Fold = Sequence[Piece]
"""Characters of one string, in order, and whole escapes."""

MARK = b"\xff"
"""Begins and ends a mark: it is no byte of UTF-8, so no text that was checked has one of its own."""

_OF_NUMBERS = b"n"
"""Ends the mark of a fold of numbers, before its last byte."""

_IN_A_NAME = re.compile(rb'\xff[0-9]+\xff(?:[^"\\]|\\.)*+"[ \t\r\n]*:')


def mark(number: int) -> bytes:
    """Return what stands for the fold of this number, counted from nought."""
    return b"\xff%d\xff" % number


def mark_of_numbers(number: int) -> bytes:
    """Return what stands for the fold of this number, which holds members of a list."""
    return b'"\xff%dn\xff"' % number


def unfolded(text: Piece, folds: Sequence[Fold]) -> list[Piece]:
    """Return a text with its folds, uncopied, as pieces in order."""
    if not folds:
        return [text]
    pieces: list[Piece] = []
    parts = bytes(text).split(MARK)
    for at, part in enumerate(parts):
        if at % 2:
            pieces.extend(folds[int(part.removesuffix(_OF_NUMBERS))])
            continue
        # The quotes around a fold of numbers are its mark's.
        start = at > 0 and parts[at - 1].endswith(_OF_NUMBERS)
        end = at + 1 < len(parts) and parts[at + 1].endswith(_OF_NUMBERS)
        if part := part[start : len(part) - end]:
            pieces.append(part)
    return pieces


class Folded(msgspec.Struct, frozen=True):
    """A text and what was kept apart from it."""

    text: bytes
    folds: tuple[Fold, ...] = ()

    @property
    def names_are_whole(self) -> bool:
        """Whether the names of members are all in the text."""
        return not self.folds or _IN_A_NAME.search(self.text) is None

    def whole(self) -> Folded:
        """Return the same text with nothing apart from it."""
        return Folded(b"".join(unfolded(self.text, self.folds))) if self.folds else self
