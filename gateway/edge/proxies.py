"""Whose word about a client's address is taken: proxies that the operator lists, and nobody else's.  Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

import msgspec

UNIX = "unix"
"""Stands for every peer of a unix socket."""
LOCAL = "local"
"""What a peer without an address is called."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Proxies(msgspec.Struct, frozen=True):
    """The addresses of the operator's own proxies."""

    networks: tuple[Network, ...] = ()
    unix: bool = False

    @classmethod
    def build(cls, configured: Iterable[str]) -> Proxies:
        """Take addresses and networks, and the word ``unix``."""
        names = tuple(configured)
        if not names:
            return NO_PROXIES
        return cls(tuple(ipaddress.ip_network(name) for name in names if name != UNIX), UNIX in names)

    def client(self, peer: str, forwarded: Sequence[bytes]) -> str:
        """Return the address of a connection's client.

        ``forwarded`` are the values of ``X-Forwarded-For``.  Each proxy adds at the end whom it had it from, so they
        are believed from there, as long as it is a listed proxy that says so.
        """
        if not self._lists(peer):
            return peer
        entries = b",".join(forwarded).decode("latin-1").split(",")
        for entry in reversed(entries):
            address = _address(entry.strip())
            if address is None:
                break
            peer = address
            if not self._lists(peer):
                break
        return peer

    def _lists(self, peer: str) -> bool:
        if peer == LOCAL:
            return self.unix
        if not self.networks:
            return False
        address = _address(peer)
        if address is None:
            return False
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in self.networks)


NO_PROXIES = Proxies()


def _address(text: str) -> str | None:
    """Return an address in its plain form; some proxies write the port too."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)
