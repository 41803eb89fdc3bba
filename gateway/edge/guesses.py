"""Who tries keys: a bounded table of addresses and of how many wrong keys each may still show.  Pure."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

from gateway.calls import GatewayError

PER_MINUTE = 10
ADDRESSES_MOST = 10_000


class Guesses:
    """A bucket of wrong keys for each address; IPv6 by /64, since whoever has one address there has all.

    The address not heard of for longest is forgotten first.  Good keys are never held up: they do not come here.
    """

    def __init__(self, most: int = ADDRESSES_MOST) -> None:
        self._most = most
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._buckets)

    def failed(self, address: str, keys: int, now: float) -> GatewayError | None:
        """Count ``keys`` wrong ones from an address; return what to tell it instead of 401, if it had too many."""
        place = network(address)
        left, at = self._buckets.pop(place, (float(PER_MINUTE), now))
        left = min(float(PER_MINUTE), left + (now - at) * PER_MINUTE / 60.0)
        tried = left >= 1.0
        # One request may show many keys; it is not let off the rest, up to a minute's worth.
        left = max(left - keys, -float(PER_MINUTE)) if tried else left
        self._buckets[place] = (left, now)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        if tried:
            return None
        return GatewayError(
            429,
            "RESOURCE_EXHAUSTED",
            "TOO_MANY_WRONG_KEYS",
            "Too many wrong keys came from this address; a right one is still let in.",
            retry_after_seconds=(1.0 - left) * 60.0 / PER_MINUTE,
        )


def network(address: str) -> str:
    """Return what counts as one place: an IPv4 address, an IPv6 network of /64, else the text itself."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))
