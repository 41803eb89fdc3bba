"""Whom the door knows: its own names, web pages, and proxies in front of it.  Pure."""

from __future__ import annotations

import ipaddress

from gateway.config import authority
from gateway.config.nodes import Node


def hosts(node: Node) -> tuple[str, ...]:
    """Return the names of ``proxy.hosts`` in plain form."""
    found = []
    for item in node.items():
        text = item.text().strip()
        wildcard, name = ("*.", text[2:]) if text.startswith("*.") else ("", text)
        # An IPv6 address may be written without the brackets that Host has.
        plain = authority.host(f"[{name}]" if name.count(":") > 1 and "[" not in name else name)
        if plain is None or (":" in name and ":" not in plain):
            raise item.error(
                "this is no name of a host", "write gateway.example.org or *.example.org, without scheme and port"
            )
        found.append(wildcard + plain)
    return tuple(found)


def origins(node: Node) -> tuple[str, ...]:
    """Return those of ``proxy.origins`` in plain form."""
    found = []
    for item in node.items():
        text = item.text().strip()
        plain = authority.origin(text)
        if plain is None:
            raise item.error(
                "this is no origin of web pages", "write such as https://app.example.org, without path; never * or null"
            )
        found.append(plain)
    return tuple(found)


def trusted_proxies(node: Node) -> tuple[str, ...]:
    """Return the networks of ``proxy.trusted_proxies``, and ``unix``."""
    found = []
    for item in node.items():
        text = item.text().strip()
        try:
            found.append(text if text == "unix" else str(ipaddress.ip_network(text)))
        except ValueError:
            raise item.error(
                "this is no address or network", "write such as 10.0.0.5, 10.0.0.0/24, 2001:db8::/64 or unix"
            ) from None
    return tuple(found)
