"""Account files encrypted as a whole, with a key that lies elsewhere: AES-256-GCM.  Reads and writes no file."""

from __future__ import annotations

import binascii
import os
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import attrs
import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.calls import Secret

FORMAT = 1
NONCE_BYTES = 12
"""What NIST SP 800-38D recommends; a random one may serve some 2**32 writes with one key."""


class SealError(Exception):
    """A sealed file cannot be opened; the message says why, and the cure."""


def is_sealed(document: Any) -> bool:
    """Say whether a file's JSON document is an envelope."""
    return isinstance(document, dict) and "sealed" in document


@attrs.frozen
class Seal:
    """Closes and opens account files with one key."""

    _key: Secret
    """KEY_BYTES bytes, in hexadecimal."""
    _random: Callable[[int], bytes] = attrs.field(repr=False)
    """So many random bytes, as ``os.urandom`` gives them; never the same twice."""
    _cipher: AESGCM = attrs.field(init=False, repr=False, eq=False)

    @_cipher.default
    def _made(self) -> AESGCM:
        return AESGCM(bytes.fromhex(self._key.reveal()))

    def close(self, name: str, content: bytes) -> bytes:
        """Return the envelope of a file's content; it opens under this file name alone."""
        nonce = self._random(NONCE_BYTES)
        data = self._cipher.encrypt(nonce, content, _associated(name))
        envelope = {"sealed": FORMAT, "nonce": _text(nonce), "data": _text(data)}
        return msgspec.json.encode(envelope) + b"\n"

    def open(self, name: str, document: Any) -> bytes:
        """Return the content of a file whose JSON document is an envelope; raises SealError."""
        nonce, data = _parts(document)
        try:
            return self._cipher.decrypt(nonce, data, _associated(name))
        except InvalidTag:
            raise SealError(
                "is sealed with another key, or was renamed or damaged since; name the key that sealed it as"
                " credentials_key_file, or sign the account in again."
            ) from None


def seal_of(key: Secret | None) -> Seal | None:
    """Return the seal of a configuration's key, None where it has none."""
    return Seal(key, os.urandom) if key is not None else None


def no_key() -> SealError:
    """Return what is said of a sealed file where there is no key."""
    return SealError("is sealed; write credentials_key_file and the file that holds its key.")


def _associated(name: str) -> bytes:
    return b"antigravity-gateway account %d\0%b" % (FORMAT, name.encode("utf-8", "surrogateescape"))


def _text(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _parts(document: Any) -> tuple[bytes, bytes]:
    version = document["sealed"]
    if isinstance(version, int) and not isinstance(version, bool) and version > FORMAT:
        raise SealError(
            f"was sealed by a newer version (format {version}, this one knows {FORMAT}); start that version, or sign"
            " the account in again."
        )
    try:
        if version != FORMAT:
            raise ValueError
        nonce, data = (b64decode(document[part], validate=True) for part in ("nonce", "data"))
    except (KeyError, TypeError, ValueError, binascii.Error):
        raise SealError("is no envelope of ours although it says `sealed`; repair or remove it.") from None
    if len(nonce) != NONCE_BYTES:
        raise SealError("has a nonce of the wrong length; repair or remove it.")
    return nonce, data
