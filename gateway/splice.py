"""Take JSON objects apart and put them together without touching the bytes of their members.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TypeGuard

import msgspec

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_MEMBERS: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for a text that it cannot read; a wrong byte in a name or a string is no DecodeError."""


class NotAnObject(ValueError):
    """The text is not a JSON object; the message says where it goes wrong."""


def members(text: bytes | msgspec.Raw) -> dict[str, msgspec.Raw]:
    """Return the members of a JSON object in order, their values as the very bytes they came in.

    Checks the syntax of the whole text.  Of a name that comes twice the last value counts, as in Google's
    parser.  Raises NotAnObject.
    """
    try:
        return _MEMBERS.decode(text)
    except UNREADABLE as error:
        raise NotAnObject(str(error)) from None


def items(text: bytes | msgspec.Raw) -> list[msgspec.Raw]:
    """Return the items of a JSON array as the bytes they came in; raises NotAnObject."""
    try:
        return _ITEMS.decode(text)
    except UNREADABLE as error:
        raise NotAnObject(str(error)) from None


def shadow(text: bytes) -> bytes:
    """Return a text of the same length in which no escape is a surrogate's.

    The parser refuses a lone surrogate anywhere, while Google's lets it pass; what it finds in the shadow is at
    the same place in the text.
    """
    return _SURROGATE.sub(rb"\\u0041", text)


def given(value: msgspec.Raw | msgspec.UnsetType) -> TypeGuard[msgspec.Raw]:
    """Say whether a member is there; null is the same as nothing, as in proto-JSON."""
    # Of a large value no copy is made to see that it is none of four bytes.
    return value is not msgspec.UNSET and bytes(memoryview(value)[:5]) != b"null"


def string(text: str) -> bytes:
    """Return ``text`` as a JSON string."""
    return msgspec.json.encode(text)


@lru_cache(maxsize=256)
def _following(name: str) -> bytes:
    """Return what stands between the last member's value and that of the member of this name."""
    return b"," + string(name) + b":"


def join(parts: Iterable[tuple[str, bytes | msgspec.Raw]]) -> bytes:
    """Return the JSON object that has these members, in this order."""
    pieces: list[bytes | msgspec.Raw] = []
    for name, value in parts:
        pieces += (_following(name), value)
    if not pieces:
        return b"{}"
    pieces[0] = b"{" + bytes(pieces[0])[1:]
    pieces.append(b"}")
    return b"".join(pieces)


def array(values: Iterable[bytes | msgspec.Raw]) -> bytes:
    """Return the JSON array of these values."""
    return b"[" + b",".join(bytes(value) for value in values) + b"]"


def renamed(parts: Mapping[str, msgspec.Raw], names: Mapping[str, str]) -> dict[str, msgspec.Raw]:
    """Return the members with some of them renamed; a member already there under the new name stays."""
    if names.keys().isdisjoint(parts):
        return dict(parts)
    out = {name: value for name, value in parts.items() if name not in names}
    for name, value in parts.items():
        if name in names:
            out.setdefault(names[name], value)
    return out
