"""The operator's password, of which the configuration holds a hash: argon2id, RFC 9106."""

from __future__ import annotations

import re

MEMORY_KIB = 19 * 1024
TIMES = 2
"""With one lane: the least that OWASP recommends, so that a small machine can afford it."""
MEMORY_MOST_KIB = 1024 * 1024
TIMES_MOST = 64
LANES_MOST = 16
LEAST_CHARACTERS = 8

_HASH = re.compile(
    r"\$argon2id\$v=19\$m=([0-9]{1,8}),t=([0-9]{1,4}),p=([0-9]{1,3})\$[A-Za-z0-9+/]{11,128}\$[A-Za-z0-9+/]{22,128}\Z"
)


def is_hash(text: str) -> bool:
    """Say whether a text is such a hash, of a cost that a check can be let have."""
    found = _HASH.match(text)
    if found is None:
        return False
    memory, times, lanes = map(int, found.groups())
    return 8 * lanes <= memory <= MEMORY_MOST_KIB and 1 <= times <= TIMES_MOST and 1 <= lanes <= LANES_MOST


def hashed(password: str) -> str:
    """Return the hash of a password, which takes a while."""
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=TIMES, memory_cost=MEMORY_KIB, parallelism=1).hash(password)


def matches(hashed: str, password: str) -> bool:
    """Say whether a hash is that of a password, which takes as long; for a thread."""
    from argon2 import PasswordHasher
    from argon2.exceptions import Argon2Error, InvalidHashError

    try:
        return PasswordHasher().verify(hashed, password)
    except (Argon2Error, InvalidHashError, UnicodeEncodeError):
        return False
