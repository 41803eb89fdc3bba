"""Whose a client key is, and what its holder may ask for: what the door looks at.  Pure."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import attrs

from gateway.calls import GatewayError
from gateway.keys.grants import NOTHING, UNIX, Grant, stamp
from gateway.keys.spelling import digest_of, seems_ours

KEY_EXPIRED: Final = "CLIENT_KEY_EXPIRED"
_GOOD_MOST: Final = 64
"""Addresses with paths, of each key; both are chosen by clients."""
_LOCAL: Final = "local"
"""What a peer of a unix socket is called."""
_MODEL: Final = re.compile(r"/v1(?:beta|alpha)?/models/([^:]+)")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@attrs.frozen
class Key:
    """A client key as it is kept: never the key itself."""

    id: str
    """What logs and usage call it: it outlives rotations and changes of the name."""
    name: str
    digest: bytes = attrs.field(repr=False)
    created: float
    grant: Grant = NOTHING
    former: tuple[tuple[bytes, float], ...] = attrs.field(default=(), repr=False)
    """Digests from before a rotation, and until when each is good still."""
    rotated: float | None = None
    revoked: float | None = None

    def state(self, wall: float) -> str:
        """Return ``active``, ``expired`` or ``revoked``."""
        if self.revoked is not None:
            return "revoked"
        expires = self.grant.expires
        return "expired" if expires is not None and wall >= expires else "active"


def pattern(text: str) -> re.Pattern[str]:
    """Compile a name in which ``*`` stands for any text, slashes included."""
    return re.compile(".*".join(map(re.escape, text.split("*"))) + r"\Z", re.DOTALL)


class Holder:
    """Who has shown a key that is good."""

    __slots__ = ("_good", "_networks", "_patterns", "_resolve", "_unix", "bounded", "expires", "grant", "id", "name")

    def __init__(self, key: Key) -> None:
        self.id, self.name, self.grant = key.id, key.name, key.grant
        self.expires = math.inf if key.grant.expires is None else key.grant.expires
        self.bounded = bool(key.grant.models or key.grant.networks)
        """Whether there is anything to judge."""
        self._patterns = tuple(map(pattern, key.grant.models))
        self._networks: tuple[Network, ...] = tuple(
            ipaddress.ip_network(one) for one in key.grant.networks if one != UNIX
        )
        self._unix = UNIX in key.grant.networks
        self._good: set[tuple[str, str]] = set()
        self._resolve: Callable[[str], str] = str

    def judge(self, peer: str, path: str, resolve: Callable[[str], str]) -> None:
        """Raise GatewayError where the key is not good for an address, or for the model that a path names.

        What was good is remembered: clients come from few addresses and ask for few paths.
        """
        if (peer, path) in self._good and resolve is self._resolve:
            return
        if self.grant.networks and not self._admits(peer):
            raise GatewayError(
                403,
                "PERMISSION_DENIED",
                "CLIENT_KEY_ADDRESS",
                f"This client key may not be used from {peer}; use it where it is meant for, or ask the gateway's"
                " operator to add that address to it.",
                metadata={"key": self.id},
            )
        if self._patterns:
            named = _MODEL.match(path)
            if named is not None and not self.allows(named[1], resolve(named[1])):
                raise self._forbidden(named[1])
        if resolve is not self._resolve or len(self._good) >= _GOOD_MOST:
            self._good.clear()
            self._resolve = resolve
        self._good.add((peer, path))

    def allows(self, *names: str) -> bool:
        """Say whether the key is good for a model under one of its names."""
        return not self._patterns or any(one.match(name) for one in self._patterns for name in names)

    def _forbidden(self, model: str) -> GatewayError:
        allowed = ", ".join(self.grant.models)
        return GatewayError(
            403,
            "PERMISSION_DENIED",
            "CLIENT_KEY_MODEL",
            f"This client key may not use {model}; the models that it may use are: {allowed}.",
            metadata={"key": self.id, "model": model, "allowedModels": allowed},
        )

    def _admits(self, peer: str) -> bool:
        if peer == _LOCAL:
            return self._unix
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


class Holders:
    """The holders by the SHA-256 digest of their keys.

    A dictionary does not compare in constant time, and need not: what is compared are digests, which nobody can
    choose.  Whoever learnt from the time how far a digest agrees with a known one would have to find other keys whose
    digests agree further, and in the end one that agrees in 256 bits: that is to search 160 random bits, whatever the
    time tells.  Keys that people have thought up are the configuration's, and compared in constant time: edge.keys.
    """

    def __init__(self, wall_seconds: Callable[[], float]) -> None:
        self._wall_seconds = wall_seconds
        self._known: dict[bytes, tuple[Holder, float]] = {}
        """Each with the time at which the digest ends, by the key's expiry or its own."""
        self.exist = False
        """Whether a key was ever made, so that the door is not opened by the end of the last one."""

    def take(self, keys: Iterable[Key]) -> None:
        """Let these be all the keys there are."""
        known: dict[bytes, tuple[Holder, float]] = {}
        self.exist = False
        for key in keys:
            self.exist = True
            if key.revoked is None:
                holder = Holder(key)
                known.update((digest, (holder, min(until, holder.expires))) for digest, until in key.former)
                known[key.digest] = (holder, holder.expires)
        self._known = known

    def find(self, presented: Sequence[bytes]) -> Holder | None:
        """Return who has shown a key that is good, None where nobody has; raises GatewayError where it has expired."""
        for key in presented:
            if seems_ours(key):
                found = self._known.get(digest_of(key))
                if found is not None:
                    holder, ends = found
                    if ends == math.inf:
                        return holder
                    wall = self._wall_seconds()
                    if wall >= holder.expires:
                        raise _expired(holder)
                    if wall < ends:
                        return holder
        return None


NO_HOLDERS: Final = Holders(lambda: 0.0)


def _expired(holder: Holder) -> GatewayError:
    return GatewayError(
        401,
        "UNAUTHENTICATED",
        KEY_EXPIRED,
        f"This client key has expired at {stamp(holder.expires)}; ask the gateway's operator for another one.",
        headers=((b"www-authenticate", b'Bearer realm="antigravity-gateway"'),),
    )
