"""Read the answers that a connection brings: bytes in, a head and pieces of a body out; does no I/O.

The parser is llhttp by way of httptools, which refuses what could be read in two ways: Content-Length beside
Transfer-Encoding, a repeated Content-Length, folded lines, bare line feeds, control characters.  What it lets
through and nobody can act on is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from twisted.web.iweb import UNKNOWN_LENGTH

from gateway.upstreams.heads import Pairs, values

HEAD_BYTES_MOST: Final = 64 * 1024
FIELDS_MOST: Final = 200
FRAMING_BYTES_MOST: Final = 64 * 1024
"""What may come of chunk sizes, their extensions and trailers without a byte of the body between."""
_BODILESS: Final = frozenset({204, 304})
_VERSIONS: Final = {"1.1": (b"HTTP", 1, 1), "1.0": (b"HTTP", 1, 0)}


class BadAnswer(Exception):
    """What came is no answer in HTTP/1.1, or none that two readers would read alike."""


class Head(msgspec.Struct):
    """The head of an answer."""

    version: tuple[bytes, int, int]
    code: int
    phrase: bytes
    pairs: Pairs
    """The fields as they came."""
    fields: Mapping[bytes, bytes]
    """By lower-case name; of repeated ones the last."""
    length: Any
    """Of the body, as far as it is known: bytes, or UNKNOWN_LENGTH."""


class AnswerReader:
    """Reads the answers on a connection, one after the other; interim ones, RFC 9110 section 15.2, are dropped."""

    def __init__(self) -> None:
        self._parser: Any = None
        self._bodiless = False
        self._chunks: list[bytes] = []
        # What comes in hundreds a read is taken without a call of Python's.
        self.on_body = self._chunks.append
        self.begin(False)

    def close(self) -> None:
        """Let go of the parser, which holds on to its reader."""
        self._parser = None

    def begin(self, bodiless: bool) -> None:
        """Expect another answer, after one that was whole and left the connection clean.

        ``bodiless`` says that it has no body, whatever its head promises: it is one to a HEAD.
        """
        self.head: Head | None = None
        self.fed = 0
        """How many bytes have come, up to those with which the head was whole."""
        self.complete = False
        """Whether the answer is whole."""
        self.unclean = False
        """Whether more came than the answer."""
        self.fault = ""
        """What is wrong with it, if anything is; what came before may be used."""
        self.until_end = False
        """Whether only the connection's end delimits the body."""
        if self._parser is None or bodiless or self._bodiless:
            # After the answer to a HEAD, the parser would wait for the body that was promised.
            self._parser = HttpResponseParser(self)
        self._bodiless = bodiless
        self._pairs: list[tuple[bytes, bytes]] = []
        self._phrase = b""
        self._interim = False
        self._ends = 0
        """How many of the pieces are the answer's, once it is whole."""
        self._framing = 0
        self.persistent = False
        """Whether another request may follow, when the answer is whole and if it left all clean."""

    def feed(self, data: bytes) -> bytes:
        """Take what a read brought, and return what of the body was in it."""
        if self.head is None:
            if not self.fed and not data.startswith(b"HTTP/"[: len(data)]):
                self.fault = "what came is no answer in HTTP"
            self.fed += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self.unclean = True
            if not self.complete:
                self.fault = self.fault or str(error)
        chunks = self._chunks
        if self.complete:
            ends, self._ends = self._ends, 0
            if len(chunks) > ends:
                self.unclean = True
                del chunks[ends:]
        if chunks:
            self._framing = 0
            if len(chunks) == 1:
                return chunks.pop()
            body = b"".join(chunks)
            chunks.clear()
            return body
        if self.head is None:
            if self.fed > HEAD_BYTES_MOST:
                self.fault = self.fault or "an answer's head is too large"
        elif not self.complete:
            self._framing += len(data)
            if self._framing > FRAMING_BYTES_MOST + HEAD_BYTES_MOST:
                self.fault = self.fault or "an answer is all framing"
        return b""

    def on_message_begin(self) -> None:
        """Something begins, and nothing was asked for after a whole answer."""
        self.unclean = self.unclean or self.complete

    def on_status(self, phrase: bytes) -> None:
        """Take some of the reason phrase."""
        self._phrase += phrase

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field, or a trailer, which nobody reads."""
        if len(self._pairs) >= FIELDS_MOST:
            self.fault = self.fault or "an answer has too many fields"
        else:
            self._pairs.append((name, value))

    def on_headers_complete(self) -> None:
        """Make a head of it, unless it is an interim one."""
        if self.complete or self.fault:
            return
        code: int = self._parser.get_status_code()
        pairs = self._pairs
        fields = {name.lower(): value for name, value in pairs}
        if 100 <= code < 200:
            self._interim = True
            if b"transfer-encoding" in fields or fields.get(b"content-length", b"").strip(b"0"):
                # It has no body, RFC 9110 section 15.2: whoever goes by that takes these bytes for the next answer.
                self.fault = "an interim answer announces a body"
            return
        version = _VERSIONS.get(self._parser.get_http_version())
        coding = fields.get(b"transfer-encoding")
        if version is None or not 200 <= code <= 599:
            self.fault = "an answer's status line makes no sense"
        elif coding is not None and (coding.lower() != b"chunked" or len(values(pairs, b"transfer-encoding")) > 1):
            self.fault = "an answer has a transfer coding that was not asked for"
        elif self.fed > HEAD_BYTES_MOST and sum(len(n) + len(v) for n, v in pairs) > HEAD_BYTES_MOST:
            self.fault = "an answer's head is too large"
        else:
            length = self._length(code, fields, coding is not None)
            self.head = Head(version, code, self._phrase, pairs, fields, length)
            self._pairs = []
            self.complete = self._bodiless

    def _length(self, code: int, fields: Mapping[bytes, bytes], chunked: bool) -> Any:
        if self._bodiless or code in _BODILESS:
            return 0
        if chunked:
            return UNKNOWN_LENGTH
        if b"content-length" in fields:
            return int(fields[b"content-length"])
        self.until_end = True
        return UNKNOWN_LENGTH

    def on_message_complete(self) -> None:
        """Take the answer's end."""
        if self._interim:
            self._interim = False
            self._pairs = []
            self._phrase = b""
        elif self.head is not None:
            if not self.complete:
                self.complete = True
                self._ends = len(self._chunks)
            # Once it is through with the answer, the parser no longer knows.
            self.persistent = self._parser.should_keep_alive()
