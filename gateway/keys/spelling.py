"""How a client key is spelled: 160 random bits, and a checksum that tells a typing error from a stranger's key.  Pure.

``agw_`` stands in front, so that people and secret scanners know whose key it is.  32 characters of base32 in lower
case (RFC 4648) are the secret, 8 of hexadecimal their CRC-32: whatever is wrong in up to 32 bits on end is found.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final
from zlib import crc32

PREFIX: Final = "agw_"
SECRET_BYTES: Final = 20
"""160 bits."""
LENGTH: Final = len(PREFIX) + 32 + 8
_PREFIX: Final = PREFIX.encode("ascii")
_CHECKED: Final = LENGTH - 8


def spelled(secret: bytes) -> str:
    """Return the key of ``SECRET_BYTES`` random bytes."""
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a key is made of {SECRET_BYTES} random bytes")
    checked = _PREFIX + base64.b32encode(secret).lower()
    return (checked + b"%08x" % crc32(checked)).decode("ascii")


def is_ours(key: bytes) -> bool:
    """Say whether a key is one that the gateway can have made; of any other nobody has to look for the digest."""
    return len(key) == LENGTH and key[:4] == _PREFIX and b"%08x" % crc32(key[:_CHECKED]) == key[_CHECKED:]


def digest_of(key: bytes) -> bytes:
    """Return what is kept of a key.

    One round of SHA-256 is enough, without salt: there are no 160 random bits to be guessed, as there are passwords.
    """
    return hashlib.sha256(key).digest()
