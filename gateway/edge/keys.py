"""Who is calling: client keys, of which only digests are known.  Pure."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from functools import lru_cache

import msgspec

from gateway.keys.spelling import digest_of

ANONYMOUS = "anonymous"


class KeyRing(msgspec.Struct, frozen=True):
    """The digests of all client keys: SHA-256, 32 bytes each."""

    digests: tuple[bytes, ...]

    def identify(self, presented: Iterable[bytes]) -> str | None:
        """Return the identity of the key that matches, None where none does.

        Every key presented is compared with every key known, in constant time, so that the time tells nothing.
        """
        found: bytes | None = None
        for key in presented:
            digest = digest_of(key)
            for known in self.digests:
                if hmac.compare_digest(digest, known):
                    found = known
        return None if found is None else identity(found)


@lru_cache(maxsize=256)
def identity(digest: bytes) -> str:
    """Return what a key is called in logs and sessions."""
    return f"key-{digest.hex()[:12]}"


NO_KEYS = KeyRing(())


def carried(
    google: Sequence[bytes], api: Sequence[bytes], authorization: Sequence[bytes], query: Sequence[bytes]
) -> list[bytes]:
    """Return the keys that a request carries, wherever it carries them.

    ``google`` and ``api`` are the values of ``x-goog-api-key`` and ``x-api-key``, ``authorization`` those of the
    header of that name (scheme Bearer, RFC 6750), ``query`` those of ``?key=``.
    """
    keys = [*google, *api]
    if authorization:
        keys += [value[7:].strip() for value in authorization if value[:7].lower() == b"bearer "]
    keys += query
    return [key for key in keys if key] if b"" in keys else keys
