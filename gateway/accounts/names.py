"""What credentials go by where others look, and what tells one secret from the next.  Pure."""

from __future__ import annotations

import hashlib
import re

from gateway.calls import Secret

_PLAIN_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


def label(upstream: str, kind: str, name: str) -> str:
    """Return what clients and logs see of a credential.

    An API key's name is the operator's own; an account's may be an address, so a digest stands for it.
    """
    if kind == "aistudio" and _PLAIN_NAME.match(name):
        return f"{upstream}/{name}"
    return f"{upstream}/{hashlib.sha256(name.encode('utf-8')).hexdigest()[:8]}"


def mark(secret: Secret) -> str:
    """Return a digest that tells one secret from the next, and nothing about either."""
    return hashlib.sha256(b"antigravity-gateway mark\0" + secret.reveal().encode("utf-8")).hexdigest()[:16]
