"""Host names and browser origins in the one form in which they are compared.  Pure."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?\Z")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[^\[\]:]+)(?::(?P<port>[0-9]{1,5}))?\Z")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*\Z")
_KNOWN_LIMIT = 256
"""Clients send few names, again and again; longer ones are none."""
_DEFAULT_PORTS = {"http": 80, "https": 443}


@lru_cache(1024)
def host(authority: str) -> str | None:
    """Return the host of a ``host[:port]`` in its plain form, None where it is none.

    Lower case, no dot at the end, IPv6 addresses compressed and without brackets.  See RFC 3986 section 3.2.2.
    """
    parts = _parts(authority)
    return None if parts is None else parts[0]


def origin(text: str) -> str | None:
    """Return a ``scheme://host[:port]`` in its plain form, without a default port; None where it is none.

    See RFC 6454 section 6.2; the origin ``null`` is nobody's in particular, and so it is none.
    """
    scheme, separator, authority = text.lower().partition("://")
    parts = _parts(authority)
    if not separator or not _SCHEME.match(scheme) or parts is None:
        return None
    name, port = parts
    shown = f"[{name}]" if ":" in name else name
    return f"{scheme}://{shown}" + ("" if port in (None, _DEFAULT_PORTS.get(scheme)) else f":{port}")


def _parts(authority: str) -> tuple[str, int | None] | None:
    return _known_parts(authority) if len(authority) <= _KNOWN_LIMIT else _read_parts(authority)


def _read_parts(authority: str) -> tuple[str, int | None] | None:
    match = _AUTHORITY.match(authority.lower())
    if match is None:
        return None
    name, port = match["host"], None if match["port"] is None else int(match["port"])
    if port is not None and port > 65535:
        return None
    if name.startswith("["):
        try:
            return str(ipaddress.IPv6Address(name[1:-1])), port
        except ValueError:
            return None
    return (name.removesuffix("."), port) if _NAME.match(name) and len(name) <= 254 else None


_known_parts = lru_cache(maxsize=256)(_read_parts)
