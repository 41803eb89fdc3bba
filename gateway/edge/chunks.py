"""Decode a chunked body strictly: RFC 9112 section 7.1.  Pure."""

from __future__ import annotations

import enum
import re

from gateway.calls import GatewayError
from gateway.edge.head import FIELD, FIELDS_MOST, TOKEN, malformed_field, refusal

LINE_MOST = 1024
"""How long the line before a chunk may be."""
EXTENSIONS_MOST = 16 * 1024
"""How many bytes of chunk extensions a body may have in all; nobody here reads them."""

# Groups are repeated without possessiveness: CPython before 3.11.5 goes on from where one failed within such a group
# (https://github.com/python/cpython/issues/106052).  There is one way to read a line, so that nothing is tried twice.
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_EXTENSION = rb"[ \t]*+;[ \t]*+" + TOKEN + rb"(?:[ \t]*+=[ \t]*+(?:" + TOKEN + rb"|" + _QUOTED + rb"))?"
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:" + _EXTENSION + rb")*)")
_TRAILER = re.compile(FIELD)
_BARE = re.compile(rb"(?<!\r)\n|\r(?=[^\n])")

FORBIDDEN_TRAILERS = frozenset(
    {
        b"authorization", b"connection", b"content-encoding", b"content-length", b"content-range", b"cookie", b"expect",
        b"host", b"keep-alive", b"max-forwards", b"origin", b"proxy-authorization", b"te", b"trailer",
        b"transfer-encoding", b"upgrade", b"x-api-key", b"x-goog-api-key",
    }
)  # fmt: skip
"""What may not come behind a body, being about its framing, its way or its sender: RFC 9110 section 6.5.1.

Other trailers are read and dropped.
"""


class _At(enum.Enum):
    SIZE = enum.auto()
    DATA = enum.auto()
    END = enum.auto()
    TRAILER = enum.auto()


class Chunks:
    """Feed it what follows a head, in pieces of any size."""

    def __init__(self, trailers_most: int) -> None:
        """``trailers_most`` is how many bytes the trailers may have."""
        self.done = False
        """Whether the body's end was seen."""
        self.rest = b""
        """What came after it."""
        self._at = _At.SIZE
        self._held = b""
        self._left = 0
        self._extensions = 0
        self._trailers = 0
        self._trailers_left = trailers_most

    def feed(self, data: bytes) -> bytes:
        """Return the part of the body that ``data`` holds; raises GatewayError.

        Once ``done``, it must not be fed any more.
        """
        if self._held:
            data, self._held = self._held + data, b""
        pieces: list[bytes] = []
        at, end = 0, len(data)
        while not self.done:
            if self._at is _At.DATA:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                pieces.append(piece)
                if self._left:
                    break
                self._at = _At.END
            elif self._at is _At.END:
                if end - at < 2:
                    self._hold(data[at:], 2)
                    break
                if data[at : at + 2] != b"\r\n":
                    raise _bad("a chunk does not end where its size says")
                at += 2
                self._at = _At.SIZE
            else:
                line_end = data.find(b"\r\n", at)
                if line_end < 0:
                    self._hold(data[at:], LINE_MOST if self._at is _At.SIZE else self._trailers_left)
                    break
                if self._at is _At.SIZE:
                    self._size(data, at, line_end)
                else:
                    self._trailer(data[at:line_end])
                at = line_end + 2
        if self.done:
            self.rest = data[at:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _hold(self, part: bytes, most: int) -> None:
        if len(part) > most:
            raise _bad("a line of the body's framing is too long")
        if (self._at is _At.END and part[:1] not in (b"", b"\r")) or _BARE.search(part):
            raise _bad("a line of the body's framing does not end in CR LF")
        self._held = part

    def _size(self, data: bytes, start: int, end: int) -> None:
        match = _SIZE.fullmatch(data, start, end)
        if match is None or end - start > LINE_MOST:
            raise _bad("the line before a chunk is no hexadecimal size with well-formed extensions")
        if match[2]:
            self._extensions += len(match[2])
            if self._extensions > EXTENSIONS_MOST:
                raise _bad("there are too many chunk extensions")
        self._left = int(match[1], 16)
        self._at = _At.DATA if self._left else _At.TRAILER

    def _trailer(self, line: bytes) -> None:
        if not line:
            self.done = True
            return
        self._trailers += 1
        self._trailers_left -= len(line) + 2
        if self._trailers > FIELDS_MOST or self._trailers_left < 0:
            raise refusal(431, "HEAD_TOO_LARGE", "There are too many fields behind the request's body; send fewer.")
        if not _TRAILER.fullmatch(line):
            raise malformed_field([line])
        name = line.partition(b":")[0].lower()
        if name.replace(b"_", b"-") in FORBIDDEN_TRAILERS:
            raise refusal(
                400, "TRAILER_FORBIDDEN", f"The field {name.decode('ascii')} may not come behind the request's body."
            )


def _bad(problem: str) -> GatewayError:
    return refusal(400, "CHUNK_INVALID", f"The request's chunked body is malformed: {problem}.")
