"""Check a JSON text for UTF-8 and depth while its bytes come in.  Pure.

Syntax is checked later, on the whole text; these two checks are apart because the parser does not make them,
and in pieces because a whole body of many megabytes in one go would hold everybody else up.
"""

from __future__ import annotations

import codecs
from itertools import accumulate

DEPTH_LIMIT = 100
"""How deep Google's own parser goes."""

_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS = bytes.maketrans(b"[{]}", b"\x02\x02\x00\x00")


class GuardError(Exception):
    """The text cannot be taken; the message is a sentence for the client."""


class Guard:
    """Feed it every chunk in order; it raises GuardError as soon as the text is bad."""

    def __init__(self, depth_limit: int = DEPTH_LIMIT) -> None:
        self._limit = depth_limit
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, chunk: bytes) -> None:
        """Check the next bytes; raises GuardError."""
        try:
            self._decoder.decode(chunk)
        except UnicodeDecodeError:
            raise GuardError("The request body is not valid UTF-8; send JSON encoded as UTF-8.") from None
        self._nest(chunk)

    def end(self) -> None:
        """Check what only the end can show; raises GuardError."""
        try:
            self._decoder.decode(b"", True)
        except UnicodeDecodeError:
            raise GuardError("The request body ends within a UTF-8 character; send all of it.") from None

    def _nest(self, chunk: bytes) -> None:
        if self._escaped and chunk:
            self._escaped = False
            chunk = chunk[1:]
        if b"\\" in chunk:
            backslashes = len(chunk) - len(chunk.rstrip(b"\\"))
            if backslashes % 2:
                self._escaped = True
                chunk = chunk[:-1]
            # Pairs first, so that the backslash left before a quote is one that escapes it.
            chunk = chunk.replace(b"\\\\", b"").replace(b'\\"', b"")
        pieces = chunk.split(b'"')
        outside = b"".join(pieces[1::2] if self._in_string else pieces[::2])
        if len(pieces) % 2 == 0:
            self._in_string = not self._in_string
        brackets = outside.translate(_STEPS, _NOT_BRACKETS)
        opened = brackets.count(2)
        if self._depth + opened > self._limit:
            deepest = max(accumulate((step - 1 for step in brackets), initial=self._depth))
            if deepest > self._limit:
                raise GuardError(
                    f"The request body nests deeper than {self._limit} levels; flatten it."
                )
        self._depth += 2 * opened - len(brackets)
