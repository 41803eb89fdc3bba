"""Bring a request path into the one form that the routes know.  Pure.

Clients are pointed at the gateway by people, so the same route arrives in many spellings: a doubled slash or
version after a base URL with a path, a doubled ``models/`` after a copied name, ``%3A`` for the colon,
Vertex's publisher prefix, or no version at all.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

VERSIONS = ("v1beta", "v1", "v1alpha")
DEFAULT_VERSION = "v1beta"

_VERTEX_VERSION = "v1beta1"
_VERTEX_PUBLISHER = ["publishers", "google"]
_ALLOWED = re.compile(r"[A-Za-z0-9._~@+\-:/ ]*\Z")
_KNOWN_LIMIT = 256
"""Clients ask for few paths, again and again; longer ones are read anew each time."""


class BadPath(ValueError):
    """The path holds what no route of the API can hold."""


def normalise(path: bytes) -> str:
    """Return the path in its plain form, such as ``/v1beta/models/m:generateContent``.

    ``path`` is the target without its query, percent-encoded as it came.  Raises BadPath.
    """
    return _known(path) if len(path) <= _KNOWN_LIMIT else _normalised(path)


def _normalised(path: bytes) -> str:
    try:
        text = unquote_to_bytes(path).decode("ascii")
    except UnicodeDecodeError:
        raise BadPath("the path has characters beyond ASCII") from None
    if not _ALLOWED.match(text):
        raise BadPath("the path has characters that no route has")
    segments = [segment for segment in text.split("/") if segment]
    if any(segment in (".", "..") for segment in segments):
        raise BadPath("the path climbs")
    plain = _plain(segments)
    while plain != segments:
        # What one rule leaves may be a case for another: no second look at the path may see another route.
        segments, plain = plain, _plain(plain)
    return "/" + "/".join(plain)


_known = lru_cache(maxsize=1024)(_normalised)


def _plain(segments: list[str]) -> list[str]:
    if not segments or segments == ["healthz"]:
        return segments
    while len(segments) > 1 and segments[0] in VERSIONS and segments[1] in (*VERSIONS, _VERTEX_VERSION):
        segments = segments[1:]
    if segments[0] in (*VERSIONS, _VERTEX_VERSION) and segments[1:3] == _VERTEX_PUBLISHER:
        segments = [DEFAULT_VERSION, *segments[3:]]
    if segments[0] == "models":
        segments = [DEFAULT_VERSION, *segments]
    if segments[0] not in VERSIONS:
        return segments
    while segments[1:3] == ["models", "models"]:
        segments = [segments[0], *segments[2:]]
    if len(segments) > 3 and segments[1] == "models" and segments[-1] == "countTokens":
        # The tutorial's own spelling, with a slash for the colon.
        segments = [*segments[:-2], segments[-2] + ":countTokens"]
    return segments
