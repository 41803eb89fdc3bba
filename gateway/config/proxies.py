"""The proxies that a configuration may name, and how requests go out.  Pure."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes, urlsplit

from gateway.calls import Secret
from gateway.config.nodes import Node, optional
from gateway.config.values import ProxyServer, WireConfig

AGENTS = ("gateway", "stock")
_SCHEMES = {"http": "http", "socks5": "socks5", "socks5h": "socks5"}
"""What is written, and what it means; names are always looked up by the proxy."""
_WORD_BYTES_MOST = 255
"""RFC 1929 has a byte for the length of each."""
_EXAMPLE = "write http://host:port or socks5://user:password@host:port"


def proxy_server(node: Node) -> ProxyServer | None:
    """Return the proxy that a URL names, or None for an empty one; nothing that is said of it repeats the URL."""
    text = node.text().strip()
    if not text:
        return None
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise node.error("this is no URL of a proxy", _EXAMPLE) from None
    if not text.isascii() or not text.isprintable() or " " in text or not host:
        raise node.error("this is no URL of a proxy", _EXAMPLE)
    if parts.scheme not in _SCHEMES:
        raise node.error("a proxy is reached by http:// or socks5://", _EXAMPLE)
    if not port:
        raise node.error("the proxy's port is missing", _EXAMPLE)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise node.error("a proxy's URL has no path, query or fragment", _EXAMPLE)
    username, password = _word(node, parts.username or ""), _word(node, parts.password or "")
    scheme = _SCHEMES[parts.scheme]
    if password and not username:
        raise node.error("there is a password without a user name", _EXAMPLE)
    if scheme == "socks5" and username and not password:
        raise node.error("SOCKS5 has no user name without a password", _EXAMPLE)
    if scheme == "http" and ":" in username:
        raise node.error("a user name with a colon cannot be told from its password", "use another")
    if password:
        node.context.clear_secrets.append(node.path)
    return ProxyServer(scheme, host, port, username, Secret(password))


def _word(node: Node, text: str) -> str:
    try:
        word = unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise node.error("its user name or password is not UTF-8", "write %XX for each of its bytes in UTF-8") from None
    if not word.isprintable() or len(word.encode("utf-8")) > _WORD_BYTES_MOST:
        raise node.error(
            "its user name or password is too long, or has characters that are no text",
            f"use printable characters, up to {_WORD_BYTES_MOST} bytes",
        )
    return word


def wire(node: Node) -> WireConfig:
    """Return the section ``wire``."""
    fields = node.fields("wire")
    default = WireConfig()
    return WireConfig(
        optional(fields, "agent", lambda n: n.choice(AGENTS), default.agent),
        optional(fields, "warm", lambda n: n.integer(0, 100), default.warm),
    )
