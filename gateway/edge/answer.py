"""An answer's head, put together as bytes: RFC 9112 section 6.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.calls import Headers

NO_BODY = frozenset({204, 304})
"""Statuses whose answers have none: RFC 9110 section 15."""

_REASONS = {
    200: b"OK",
    204: b"No Content",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    409: b"Conflict",
    413: b"Content Too Large",
    414: b"URI Too Long",
    415: b"Unsupported Media Type",
    417: b"Expectation Failed",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}
_CONTROL = bytes(range(0x20)) + b"\x7f"
_SPACES = b" " * len(_CONTROL)
_BLANKED = bytes.maketrans(_CONTROL, _SPACES)


def head(version: bytes, code: int, fields: Iterable[tuple[bytes, bytes]], first: bytes = b"") -> bytes:
    """Return a status line and header fields, the empty line at their end included.

    Names are the gateway's own.  Values may be upstream's: what could begin another line in one becomes a space.
    ``first`` are lines that stand before the fields and need no look, with a line end before each.
    """
    lines = [b"\r\n%b: %b" % field for field in fields]
    text = b"".join(lines)
    if len(text) - len(text.translate(None, _CONTROL)) != 2 * len(lines):
        # Looked for in all values at once, because it is next to never there.
        text = b"".join([b"\r\n" + line[2:].translate(_BLANKED) for line in lines])
    return b"%b %d %b%b%b\r\n\r\n" % (version, code, _REASONS.get(code, b"Unknown"), first, text)


LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return bytes as one chunk: RFC 9112 section 7.1."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def has_length(fields: Headers) -> bool:
    """Say whether a body's length is among the fields."""
    return b"content-length" in dict(fields)
