"""How a client key is spelled: 160 random bits, and a checksum that tells a typing error from a stranger's key.  Pure.

``agw_`` stands in front, so that people and secret scanners know whose key it is.  32 characters of base32 in lower
case (RFC 4648) are the secret, 8 of hexadecimal their CRC-32: whatever is wrong in up to 32 bits on end is found.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, Final
from zlib import crc32

PREFIX: Final = "agw_"
SECRET_BYTES: Final = 20
"""160 bits."""
LENGTH: Final = len(PREFIX) + 32 + 8
_PREFIX: Final = PREFIX.encode("ascii")


def spelled(secret: bytes) -> str:
    """Return the key of ``SECRET_BYTES`` random bytes."""
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a key is made of {SECRET_BYTES} random bytes")
    checked = _PREFIX + base64.b32encode(secret).lower()
    return (checked + b"%08x" % crc32(checked)).decode("ascii")


def seems_ours(key: bytes) -> bool:
    """Say whether a key looks like one that the gateway makes; of any other nobody has to look for the digest.

    Its checksum is for scanners and people: at the door it would say less than the digest does, and cost more.
    """
    return len(key) == LENGTH and key[:4] == _PREFIX


def _sha256() -> Callable[[bytes], Any]:
    """Return the interpreter's own SHA-256, which hashlib has where there is no OpenSSL, if it has one.

    For a text as short as a key OpenSSL's way to the work is longer than the work: 2 us of a request's.
    """
    for name in ("_sha2", "_sha256"):  # CPython 3.12 and later; 3.11
        with suppress(ImportError, AttributeError):
            own: Callable[[bytes], Any] = import_module(name).sha256
            return own
    return hashlib.sha256


_digest = _sha256()


def digest_of(key: bytes) -> bytes:
    """Return what is kept of a key.

    One round of SHA-256 is enough, without salt: there are no 160 random bits to be guessed, as there are passwords.
    """
    digest: bytes = _digest(key).digest()
    return digest
