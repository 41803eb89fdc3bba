"""Which conversation a request belongs to.  Pure."""

from __future__ import annotations

import hashlib

_HASHED_BYTES = 65536
_DIGEST_BYTES = 16
_DOMAIN = b"antigravity-gateway session\0"


def fingerprint(key_id: str, session_id: bytes | None, *first_user_turn: bytes | memoryview) -> str:
    """Return the session's fingerprint, empty where the request belongs to none.

    The client key's identity is mixed in, so that users whose conversations begin alike stay apart.  An
    explicit ``X-Session-Id`` wins over the first user turn, of which at most 64 KiB and the length count; the turn
    may come in pieces.
    """
    text: tuple[bytes | memoryview, ...]
    if session_id:
        what, text = b"id\0", (session_id,)
    elif any(first_user_turn):
        what, text = b"turn\0", first_user_turn
    else:
        return ""
    head = b"%b%b\0%b%d\0" % (_DOMAIN, key_id.encode("utf-8"), what, sum(map(len, text)))
    # BLAKE2 (RFC 7693), because the interpreter brings it along: the way to OpenSSL's SHA-256 takes more time than that
    # saves.
    digest = hashlib.blake2b(head, digest_size=_DIGEST_BYTES)
    left = _HASHED_BYTES
    for piece in text:
        digest.update(memoryview(piece)[:left])
        left = max(left - len(piece), 0)
    return digest.hexdigest()
