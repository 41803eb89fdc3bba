"""Where a request goes and what its head looks like on the wire: RFC 9112.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

DEFAULT_PORTS: Final = {b"http": 80, b"https": 443}
WITH_BODY: Final = frozenset({b"POST", b"PUT", b"PATCH"})
"""Methods whose request has a Content-Length even where it has no body: RFC 9110 section 8.6."""
URLS_MOST = 1024
"""How many URLs are remembered with what they mean; the model's id in them is the client's."""

Pairs = Sequence[tuple[bytes, bytes]]

_URL = re.compile(
    rb"(?P<scheme>https?)://(?P<netloc>(?:\[(?P<ip6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?)"
    rb"(?P<target>[/?][\x21-\x7e]*)?\Z"
)
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_BREAKS = re.compile(rb"[\r\n\0]+")


class BadRequest(ValueError):
    """What cannot be said in HTTP; the text repeats nothing of it."""


class Origin(NamedTuple):
    """Whom to connect to: RFC 6454."""

    secure: bool
    host: str
    """A name, or an IP address without brackets."""
    port: int


class Address(msgspec.Struct, frozen=True):
    """A URL, taken apart once."""

    origin: Origin
    netloc: bytes
    """As the Host field has it: without the scheme's own port."""
    target: bytes


@lru_cache(maxsize=URLS_MOST)
def address(url: bytes) -> Address:
    """Take an absolute http or https URL apart; raises BadRequest."""
    found = _URL.match(url.partition(b"#")[0])
    if found is None:
        raise BadRequest("this is no URL that a request can go to")
    scheme, netloc, target = found["scheme"], found["netloc"], found["target"] or b"/"
    port = int(found["port"] or DEFAULT_PORTS[scheme])
    if not 0 < port < 65536:
        raise BadRequest("there is no such port")
    if port == DEFAULT_PORTS[scheme] and found["port"]:
        netloc = netloc.rpartition(b":")[0]
    if target.startswith(b"?"):
        target = b"/" + target
    host = (found["ip6"] or found["host"]).decode("ascii")
    return Address(Origin(scheme == b"https", host, port), netloc, target)


def head(method: bytes, url: bytes, fields: Pairs, length: int | None) -> bytes:
    """Return a request's head; ``fields`` are the sender's, ``length`` is the body's, None where nobody knows it yet.

    A line break within a value becomes a space, for nothing that is sent may begin a field of its own.  Raises
    BadRequest.
    """
    lead = _lead(method, url, fields if type(fields) is tuple else tuple(fields))
    if length is None:
        return lead + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    if length or method in WITH_BODY:
        return b"%b\r\nContent-Length: %d\r\n\r\n" % (lead, length)
    return lead + b"\r\n\r\n"


@lru_cache(maxsize=URLS_MOST)
def _lead(method: bytes, url: bytes, fields: Pairs) -> bytes:
    """Return all of a head but the field that frames the body: requests with one token to one method share it."""
    if not _TOKEN.match(method):
        raise BadRequest("this is no method")
    to = address(url)
    lines = [b"\r\n%b: %b" % field for field in fields]
    text = b"".join(lines)
    if text.count(b"\n") != len(lines) or text.count(b"\r") != len(lines) or b"\0" in text:
        text = b"".join([b"\r\n%b: %b" % field for field in _cleaned(fields)])
    host = b"" if b"\nhost:" in text.lower() else b"\r\nHost: %b" % to.netloc
    return b"%b %b HTTP/1.1%b%b" % (method, to.target, host, text)


def _cleaned(fields: Pairs) -> Pairs:
    if not all(_TOKEN.match(name) for name, _ in fields):
        raise BadRequest("this is no name for a field")
    return [(name, _BREAKS.sub(b" ", value).strip()) for name, value in fields]


def values(fields: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """Return the values of the fields of a name, which is given in lower case."""
    return [value for known, value in fields if known.lower() == name]
