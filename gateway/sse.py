"""Server-sent events, in and out.  Pure.

What comes in follows https://html.spec.whatwg.org/multipage/server-sent-events.html, with one leniency: an
event that a cleanly ended body leaves without its blank line still counts.  What goes out is the one shape
that every known client of the Gemini API accepts: ``data: `` and one line of JSON and a blank line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

DONE = b"[DONE]"
"""The payload that some backends send as their last event; it is not JSON."""

LF: Final = 0x0A
CR: Final = 0x0D
"""As numbers: to look for a byte costs an eighth of what it costs to look for a string of one."""
E2: Final = 0xE2
C2: Final = 0xC2
"""What the characters begin with that Unicode takes for line breaks; see `frame`."""

FRAME = b"data: %b\n\n"
"""How an event goes out that has its payload on one line; see `frame`."""

GAP = b"\n\n"
"""What ends an event.  Fed at the end of a cleanly ended body, it completes an event that lacks its own."""

_UNICODE_BREAKS = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))
_NEAR_BYTES = 4096
"""Where the last event of a chunk most often ends: so far from the chunk's end at most."""
_BETWEEN = b"\n\ndata: "
_BOM = b"\xef\xbb\xbf"


class EventTooLarge(Exception):
    """An event grew over the decoder's limit."""


class Decoder:
    """Turn the bytes of a ``text/event-stream`` body into the payloads of its events."""

    def __init__(self, limit: int) -> None:
        """``limit`` bounds the bytes of one event's lines, and so what the decoder holds."""
        self._limit = limit
        # Buffers rather than lists: an upstream that sends its bytes one by one costs no more than the bytes.
        self._partial = bytearray()
        self._first = b""
        self._further = bytearray()
        self._held = 0
        """The bytes of the event's ``data`` lines so far, without their ends."""
        self._skip_lf = False
        self._at_start = True
        self.between = True
        """Whether nothing of an event has come since the last one."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes and return the payloads of the events they complete.

        Raises EventTooLarge; the decoder is of no use afterwards.
        """
        events = self._feed(chunk)
        self.between = not (self._partial or self._held or self._skip_lf)
        return events

    def alone(self, chunk: bytes) -> bytes:
        """Take the next bytes where they are one event of JSON and no more, as most are that come by themselves.

        Returns its payload; nothing where they are anything else, and then they have not been taken: `feed` does that.
        """
        if self.between and chunk.startswith(b"data: {") and len(chunk) <= self._limit:
            payload = chunk[6:-4] if chunk.endswith(b"\r\n\r\n") else chunk[6:-2] if chunk.endswith(b"\n\n") else b""
            if payload and LF not in payload and CR not in payload:
                self._at_start = False
                return payload
        return b""

    def _feed(self, chunk: bytes) -> list[bytes]:
        if self._skip_lf and chunk:
            # The CR of a CRLF ended the last chunk and was already taken as the line's end.
            self._skip_lf = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if not chunk:
            return []
        if not self._held:
            plain = self._plain(chunk)
            if plain is not None:
                return plain
        lines = chunk.splitlines()
        tail = b""
        if chunk.endswith(b"\r"):
            self._skip_lf = True
        elif not chunk.endswith(b"\n"):
            tail = lines.pop()
        events: list[bytes] = []
        if lines and self._partial:
            self._partial += lines[0]
            lines[0] = bytes(self._partial)
            self._partial.clear()
        for line in lines:
            self._line(line, events)
        if tail:
            self._partial += tail
            if self._held + len(self._partial) > self._limit:
                raise EventTooLarge
        return events

    def _plain(self, chunk: bytes) -> list[bytes] | None:
        """Return the payloads where the events that end here have the form that backends write; None where not.

        That is next to every chunk, and line by line it would cost several times as much.
        """
        gap = b"\r\n\r\n" if CR in chunk else b"\n\n"
        cut = chunk.rfind(gap, -_NEAR_BYTES)
        if cut < 0:
            cut = chunk.rfind(gap)
            if cut < 0:
                return None
        text = bytes(self._partial) + chunk[:cut] if self._partial else chunk[:cut]
        if not text.startswith(b"data: "):
            return None
        payloads = text[6:].split(gap + b"data: ")
        # No line may have ended but these, or what looks like the beginning of an event is none.  To look for what
        # is not there is next to nothing; to count what is there is not.
        joined = b"".join(payloads)
        if LF in joined or CR in joined or not all(payloads):
            return None
        if len(text) > self._limit and max(map(len, payloads)) > self._limit - 6:
            return None
        self._partial.clear()
        self._at_start = False
        rest = chunk[cut + len(gap) :]
        return payloads + self._feed(rest) if rest else payloads

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if self._held + len(line) > self._limit:
            raise EventTooLarge
        if self._at_start:
            self._at_start = False
            if line.startswith(_BOM):
                line = line[len(_BOM) :]
        if line.startswith(b"data:"):
            value = line[6:] if line.startswith(b" ", 5) else line[5:]
            if self._held:
                self._further += b"\n"
                self._further += value
            else:
                self._first = value
            self._held += len(line)
        elif not line and self._held:
            data = self._first + self._further if self._further else self._first
            if data.strip(b"\n"):
                events.append(data)
            self._first = b""
            self._further.clear()
            self._held = 0
        # A comment, another field, or ``data`` with no value adds nothing that a client could use.


def frames(payloads: Sequence[bytes]) -> bytes:
    """Return events as they go to a client; see `frame`.  What holds for all of them is looked at once for all."""
    joined = b"".join(payloads)
    if LF in joined or CR in joined or E2 in joined or C2 in joined:
        return b"".join([frame(payload) for payload in payloads])
    return FRAME % _BETWEEN.join(payloads)


def frame(payload: bytes) -> bytes:
    """Return one event as it goes to a client, its payload of JSON on one line.

    Line breaks between the JSON's tokens are left out.  The three characters that Unicode takes for line breaks,
    and google-genai 2 with it, can only be within strings: they go out escaped, which means the same.
    """
    if LF in payload or CR in payload:
        payload = payload.replace(b"\r", b"").replace(b"\n", b"")
    # A single byte is found much faster than two are.
    if (E2 in payload and b"\xe2\x80" in payload) or (C2 in payload and b"\xc2\x85" in payload):
        for raw, escaped in _UNICODE_BREAKS:
            payload = payload.replace(raw, escaped)
    return FRAME % payload
