"""Which names the gateway answers to.  Pure.

A page in a browser may point a name of its own at this machine (DNS rebinding) and would then be at home here; the
``Host`` it sends gives it away.  An address cannot be pointed elsewhere, so the one that the client connected to is
always good.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.config import authority

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Hosts(msgspec.Struct, frozen=True):
    """The names allowed in ``Host``; ports are not looked at, because tunnels and containers change them."""

    names: frozenset[str]
    suffixes: tuple[str, ...] = ()
    """Each with the dot in front: what ends with one is allowed."""

    @classmethod
    def build(cls, configured: Iterable[str], interfaces: Iterable[str] = ()) -> Hosts:
        """Allow loopback's names, those of the listeners' ``interfaces``, and the ``configured`` ones."""
        configured = tuple(configured)
        plain = (name for name in configured if not name.startswith("*"))
        return cls(
            frozenset((*LOOPBACK, *plain, *(name for name in interfaces if name))),
            tuple(name[1:] for name in configured if name.startswith("*")),
        )

    def admits(self, value: bytes, local: str) -> bool:
        """Say whether a ``Host`` may be served; ``local`` is the address that the client connected to."""
        try:
            name = authority.host(value.decode("ascii"))
        except UnicodeDecodeError:
            return False
        if name is None:
            return False
        return name in self.names or name == local or bool(self.suffixes and name.endswith(self.suffixes))


LOOPBACK_HOSTS = Hosts.build(())
