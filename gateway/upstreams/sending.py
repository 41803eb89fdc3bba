"""What all requests of the gateway's have in common.  Pure."""

from __future__ import annotations

from functools import lru_cache

from gateway import __version__
from gateway.calls import Headers

USER_AGENT = f"antigravity-gateway/{__version__}"


@lru_cache(maxsize=64)
def json_headers(user_agent: str) -> Headers:
    """Return the header fields of a request with a JSON body.

    An encoded answer would have to be decoded to be read, and a small one can unpack to gigabytes: none is
    asked for.
    """
    return (
        (b"content-type", b"application/json"),
        (b"user-agent", user_agent.encode("latin-1")),
        (b"accept-encoding", b"identity"),
    )
