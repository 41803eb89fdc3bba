"""The URLs that a configuration may name.  Pure."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from gateway.config.nodes import Node

_URL_PATH = re.compile(r"[A-Za-z0-9._~/:@+,;=%-]*\Z")
_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")


def base_url(node: Node) -> str:
    """Return a URL without a trailing slash: https, or http towards this machine."""
    text = node.text().strip()
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise node.error("this is no URL", "write https://host/path") from None
    if not text.isascii() or not text.isprintable() or not host or port == 0:
        raise node.error("this is no URL", "write https://host/path")
    if "@" in parts.netloc:
        raise node.error(
            "a URL here carries no user or password", "take them out; credentials have a place of their own"
        )
    if "?" in text or "#" in text or not _URL_PATH.match(parts.path):
        raise node.error("a URL here has no query, fragment or odd characters", "write https://host/path alone")
    if parts.scheme == "http" and host not in _THIS_MACHINE:
        raise node.error("plain http would send keys in clear", "write https://")
    if parts.scheme not in ("http", "https"):
        raise node.error("this is neither https nor http towards this machine", "write https://host/path")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
