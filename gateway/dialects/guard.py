"""Check a JSON text for UTF-8, depth and numbers while its bytes come in.  Pure.

Syntax is checked later, on the whole text; these checks are apart because the parser does not make them,
and in pieces because a whole body of many megabytes in one go would hold everybody else up.  What is only more and
more characters of one string, as an image in base64 is, is checked here for good: see folding.py.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple, TypeVar

import msgspec

DEPTH_LIMIT = 100
"""How deep Google's own parser goes."""

NUMBER_MOST = 1000
"""How many characters a number may have."""

FOLDED_FROM_BYTES = 64 * 1024
"""A body of no more than this is not worth the trouble of taking something out of it."""
FOLD_BYTES = 1024
"""How long a stretch is at least that is kept apart."""
_BRACE = ord("}")
_BACKSLASH = ord("\\")
_ESCAPE_BYTES = 16
"""How far behind the beginning of a chunk an escape can still matter that began before it: twelve for a pair."""

_STRING: msgspec.json.Decoder[msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw)
_TEXT = msgspec.json.Decoder(str)
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS = bytes.maketrans(b"[{]}", b"\x02\x02\x00\x00")

_OF_NUMBERS = b"0123456789.eE+-"
_OF_LISTS = _OF_NUMBERS + b"[], \t\r\n"
_NUMBER = re.compile(rb"(?<![0-9.eE+\-])-?[0-9][0-9.eE+\-]*+")
_RUNS = bytes(48 if byte in _OF_NUMBERS else 32 for byte in range(256))
_TOO_LONG = b"0" * (NUMBER_MOST + 1)
_SHAPES = bytes(48 if byte in b"0123456789" else 101 if byte in b"eE" else 32 for byte in range(256))
# What overflows has an exponent of 200 or more, or a hundred other digits.
_THREE, _HUNDRED = b"e000", b"0" * 100
_EXPONENT = re.compile(rb"[eE]\+?0*+(?:[2-9][0-9]{2}|[1-9][0-9]{3})")


_WRONG = "The request body is not valid UTF-8; send JSON encoded as UTF-8."
_CUT = "The request body ends within a UTF-8 character; send all of it."


class Numbers(NamedTuple):
    """From where to where in a chunk there are members of a list, all of them numbers or lists of such."""

    start: int
    end: int


Piece = TypeVar("Piece", bytes, memoryview)
Apart = tuple[int, int] | Numbers
"""From where to where in a chunk there is something to be kept apart: characters of one string, or Numbers."""


class GuardError(Exception):
    """The text cannot be taken; the message is a sentence for the client."""


class Guard:
    """Feed it every chunk in order; it raises GuardError as soon as the text is bad."""

    def __init__(
        self, depth_limit: int = DEPTH_LIMIT, folded_from: int = FOLDED_FROM_BYTES, fold_bytes: int = FOLD_BYTES
    ) -> None:
        self._limit = depth_limit
        self._folded_from = folded_from
        self._fold_bytes = fold_bytes
        self._cut = b""
        """The beginning of a character at the end of what has come."""
        self._fed = 0
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._number = b""
        """The beginning of a number at the end of what has come."""
        self._open = False
        """Whether what has come ends with a fold."""

    def feed(self, chunk: bytes) -> Sequence[Apart]:
        """Check the next bytes; raises GuardError.

        Return from where to where they are characters of a long string, without a part of an escape, or numbers of a
        long list: these need no further look.
        """
        self._fed += len(chunk)
        plain = chunk.isascii()
        if self._cut or not plain:
            self._decode(chunk, False)
        if self._fed > self._folded_from and (self._open or len(chunk) >= self._fold_bytes):
            if plain and not self._escaped and b"\\" not in chunk:
                return self._fold(chunk) or self._numbers(chunk)
            return self._fold_text(chunk) if self._in_string else self._fold_end(chunk)
        self._open = False
        self._nest(chunk)
        return ()

    def goes_on(self, part: memoryview) -> bool:
        """Take the next bytes where they are but more of the last fold, which need no further look; else say False."""
        # An open fold ends in plain ASCII, so no character and no escape began before it.  A body ends in a bracket.
        if not self._open or part[-1] == _BRACE or not _is_plain(part):
            return False
        self._fed += len(part)
        return True

    def end(self) -> None:
        """Check what only the end can show; raises GuardError."""
        if self._cut:
            self._decode(b"", True)

    def _decode(self, chunk: bytes, final: bool) -> None:
        # What is all ASCII is seen to be so much faster than it is decoded.
        text = self._cut + chunk
        try:
            _, taken = codecs.utf_8_decode(text, "strict", final)
        except UnicodeDecodeError:
            raise GuardError(_CUT if final else _WRONG) from None
        self._cut = text[taken:]

    def _fold(self, chunk: bytes) -> Sequence[tuple[int, int]]:
        """Check a chunk of ASCII without a backslash; return what of it is to be kept apart, see ``feed``."""
        folds = []
        start = 0 if self._open else _ESCAPE_BYTES
        end = chunk.find(b'"') if self._in_string else 0
        if end < 0:
            self._open = _of_a_string(chunk) and len(chunk) > start
            return ((start, len(chunk)),) if self._open else ()
        if end - start >= self._fold_bytes and _of_a_string(chunk[:end]):
            folds.append((start, end))
            self._nest(chunk[end:])
        else:
            self._nest(chunk)
        last = chunk.rfind(b'"') + 1
        begins = self._in_string and last > end and len(chunk) - last >= self._fold_bytes
        self._open = begins and _of_a_string(chunk[last:])
        if self._open:
            folds.append((last, len(chunk)))
        return folds

    def _numbers(self, chunk: bytes) -> Sequence[Apart]:
        """Return what of a chunk that has been checked is members of one list, if enough of it is."""
        if self._in_string or b'"' in chunk:
            return ()
        start, end = chunk.find(b",") + 1, chunk.rfind(b",")
        if b"[" in chunk or b"]" in chunk:
            # A list of lists, as embeddings are: from behind the first that ends to the end of the last.
            start, end = chunk.find(b"],") + 2, chunk.rfind(b"],") + 1
        if end - start < self._fold_bytes or not _are_numbers(chunk[start:end]):
            return ()
        return (Numbers(start, end),)

    def _fold_text(self, chunk: bytes) -> Sequence[tuple[int, int]]:
        """Check a chunk that begins within a string; return what is to be kept apart where it is all one string's.

        That is from behind its first space to behind its last: no character and no good escape has a space within.
        """
        self._open = False
        start, end = chunk.find(b" ") + 1, chunk.rfind(b" ") + 1
        self._nest(chunk[:start])
        apart = self._in_string and not self._escaped and end - start >= self._fold_bytes
        if apart and _of_a_string(chunk[start:end]):
            self._nest(chunk[end:])
            return ((start, end),)
        return [(start + first, start + last) for first, last in self._fold_end(chunk[start:])]

    def _fold_end(self, chunk: bytes) -> Sequence[tuple[int, int]]:
        """Check a chunk; return what is to be kept apart where a long string of ASCII without an escape ends it."""
        last = chunk.rfind(b'"') + 1
        self._nest(chunk[:last])
        end = chunk[last:]
        self._open = (
            self._in_string and not self._escaped and len(end) >= self._fold_bytes and last > 0
            and end.isascii() and b"\\" not in end and _of_a_string(end)
        )  # fmt: skip
        if self._open:
            return ((last, len(chunk)),)
        self._nest(end)
        return ()

    def _nest(self, chunk: bytes) -> None:
        if self._escaped:
            self._escaped = False
            chunk = b"\\" + chunk
        if _BACKSLASH in chunk:
            backslashes = len(chunk) - len(chunk.rstrip(b"\\"))
            if backslashes % 2:
                self._escaped = True
                chunk = chunk[:-1]
            # Pairs first, so that the backslash left before a quote is one that escapes it.
            chunk = chunk.replace(b"\\\\", b"").replace(b'\\"', b"")
        pieces = chunk.split(b'"')
        # Joined by a quote, so that no number goes on behind a string.
        outside = b'"'.join(pieces[1::2] if self._in_string else pieces[::2])
        if len(pieces) % 2 == 0:
            self._in_string = not self._in_string
        if outside or self._number:
            self._count(outside)
        brackets = outside.translate(_STEPS, _NOT_BRACKETS)
        opened = brackets.count(2)
        if self._depth + opened > self._limit:
            deepest = max(accumulate((step - 1 for step in brackets), initial=self._depth))
            if deepest > self._limit:
                raise GuardError(
                    f"The request body nests deeper than {self._limit} levels; flatten it."
                )
        self._depth += 2 * opened - len(brackets)

    def _count(self, outside: bytes) -> None:
        """Judge the numbers outside of strings; one that may go on is kept for the next chunk."""
        text = self._number + outside
        self._number = b"" if self._in_string else text[len(text.rstrip(_OF_NUMBERS)) :]
        if _TOO_LONG in text.translate(_RUNS):
            raise GuardError(f"The request body has a number of more than {NUMBER_MOST} characters; round it.")
        shapes = text.translate(_SHAPES, b"+")
        if _HUNDRED in shapes or (_THREE in shapes and _EXPONENT.search(text)):
            for number in _NUMBER.finditer(text, 0, len(text) - len(self._number)):
                _judge(number[0])


def check(text: bytes) -> None:
    """Check a whole text that is not worth folding, as a Guard that is fed all of it; raises GuardError.

    Nearly all are seen to be good in a few steps.  Of the others a Guard says whether they are, and what is wrong.
    """
    if not (_is_utf_8(text) and _is_harmless(text)):
        guard = Guard()
        guard.feed(text)
        guard.end()


def _is_utf_8(text: bytes) -> bool:
    try:
        return text.isascii() or bool(codecs.utf_8_decode(text, "strict", True))
    except UnicodeDecodeError:
        return False


def _is_harmless(text: bytes) -> bool:
    """Say whether what is outside of strings has no more brackets than may nest, and no number that may be too much."""
    # A byte as a number, and strings by `find`: for each string that is looked for with ``in``, CPython makes and drops
    # an exception first.
    if _BACKSLASH in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = b'"'.join(text.split(b'"')[::2])
    if len(outside) > NUMBER_MOST or outside.count(b"{") + outside.count(b"[") > DEPTH_LIMIT:
        return False
    shapes = outside.translate(_SHAPES, b"+")
    return shapes.find(_THREE) < 0 and shapes.find(_HUNDRED) < 0


def _of_a_string(text: bytes) -> bool:
    """Say whether a text may stand in a string: it holds no control characters, and ends none."""
    try:
        # A join makes one copy, where a format makes two.
        _STRING.decode(b"".join((b'"', _less_base64(text), b'"')))
    except msgspec.DecodeError:
        return False
    return True


def _are_numbers(text: bytes) -> bool:
    """Say whether a text may stand between two members of a list, and is nothing but numbers and lists of such."""
    try:
        _STRING.decode(b"".join((b"[0,", text, b",0]")))
    except msgspec.DecodeError:
        return False
    return not text.translate(None, _OF_LISTS)


def _is_plain(part: memoryview) -> bool:
    """Say whether a text may stand in a string, and is ASCII without an escape."""
    part = _less_base64(part)
    try:
        text = _TEXT.decode(b"".join((b'"', part, b'"')))
    except (msgspec.DecodeError, UnicodeDecodeError):
        # The latter of a character that goes on in the next part.
        return False
    # An escape is longer than what it stands for.
    return text.isascii() and len(text) == len(part)


def _less_base64(text: Piece) -> Piece:
    """Return what is left to look at of a text: three characters at most where all before them is base64, else all.

    None of the characters of RFC 4648 section 4 means anything to JSON, and its decoder, which takes four at a time, is
    five times as fast as a parser of JSON.
    """
    # Who has no large bodies does without it.
    from pybase64 import b64decode

    whole = len(text) & ~3
    try:
        b64decode(text[:whole], validate=True)
    except ValueError:
        return text
    return text[whole:]


def _judge(number: bytes) -> None:
    try:
        value = float(number)
    except ValueError:
        # The parser will say what is wrong with it.
        return
    if math.isinf(value):
        raise GuardError("The request body has a number that no double holds; send one below 1.8e308.")
