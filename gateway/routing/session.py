"""Which conversation a request belongs to.  Pure."""

from __future__ import annotations

import hashlib

_HASHED_BYTES = 65536
_DOMAIN = b"antigravity-gateway session\0"


def fingerprint(key_id: str, session_id: bytes | None, first_user_turn: bytes | memoryview) -> str:
    """Return the session's fingerprint, empty where the request belongs to none.

    The client key's identity is mixed in, so that users whose conversations begin alike stay apart.  An
    explicit ``X-Session-Id`` wins over the first user turn, of which at most 64 KiB and the length count.
    """
    if session_id:
        what, text = b"id\0", memoryview(session_id)
    elif first_user_turn:
        what, text = b"turn\0", memoryview(first_user_turn)
    else:
        return ""
    head = b"%b%b\0%b%d\0" % (_DOMAIN, key_id.encode("utf-8"), what, len(text))
    digest = hashlib.sha256(head)
    digest.update(text[:_HASHED_BYTES])
    return digest.hexdigest()[:32]
