"""Write to a TCP connection at once, where nothing waits before it.  Does I/O.

Twisted asks the kernel whether a socket takes anything before it gives it something: two calls of epoll and a turn of
the reactor for every write.  Almost always it does.  Whatever the socket does not take at once goes Twisted's way, and
with it producers, limits and errors.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.tcp import Client, Server
from twisted.protocols.tls import TLSMemoryBIOProtocol

MOST_BYTES = 256 * 1024
"""Larger pieces would be copied to send their rest."""
_PLAIN = (Server, Client)


def write(transport: Any, data: bytes | memoryview) -> None:
    """Write bytes, as ``transport.write`` does; TLS, and whatever else is no socket of its own, is left to that."""
    kind = type(transport)
    if kind not in _PLAIN:
        transport.write(bytes(data))
        return
    size = len(data)
    if size <= MOST_BYTES and transport.connected and not transport._tempDataBuffer and not transport.dataBuffer:
        # One that is about to close takes this yet, as Twisted's own write does; one that has closed its half does not.
        try:
            sent = transport.socket.send(data)
        except OSError:
            # Full, or broken: Twisted finds out which, and tells whom it concerns.
            sent = 0
        if sent == size:
            return
        data = data[sent:]
    # The class's: that of one that carries TLS may be this function, see `hasten`.
    kind.write(transport, bytes(data))


def write_secure(transport: Any, data: bytes) -> None:
    """Write bytes to a TLS connection, as ``transport.write`` does, but for the turn for which Twisted gathers them.

    Whatever is no such transport, or has gathered something, is left to its own ``write``.
    """
    gathered = getattr(getattr(transport, "_aggregator", None), "_buffer", True)
    if gathered or len(data) > MOST_BYTES:
        transport.write(data)
    else:
        TLSMemoryBIOProtocol.write(transport, data)


def hasten(transport: Any) -> None:
    """Let what a TLS connection sends go out at once, too, where plain TCP carries it; until ``calm``."""
    carrier: Any = getattr(transport, "transport", None)
    if type(carrier) in _PLAIN:
        carrier.write = partial(write, carrier)


def calm(transport: Any) -> None:
    """End that: the two would else hold on to each other."""
    carrier = getattr(transport, "transport", None)
    if type(carrier) in _PLAIN:
        vars(carrier).pop("write", None)
