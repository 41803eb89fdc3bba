"""Write to a plain TCP connection at once, where nothing waits before it.  Does I/O.

Twisted asks the kernel whether a socket takes anything before it gives it something: two calls of epoll and a turn of
the reactor for every write.  Almost always it does.  Whatever the socket does not take at once goes Twisted's way, and
with it producers, limits and errors.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Client, Server

MOST_BYTES = 256 * 1024
"""Larger pieces would be copied to send their rest."""
_PLAIN = (Server, Client)


def write(transport: Any, data: bytes | memoryview) -> None:
    """Write bytes, as ``transport.write`` does; TLS, and whatever else is no socket of its own, is left to that."""
    size = len(data)
    if (
        size <= MOST_BYTES
        and type(transport) in _PLAIN
        and transport.connected
        and not transport._tempDataBuffer
        and not transport.dataBuffer
    ):
        # One that is about to close takes this yet, as Twisted's own write does; one that has closed its half does not.
        try:
            sent = transport.socket.send(data)
        except OSError:
            # Full, or broken: Twisted finds out which, and tells whom it concerns.
            sent = 0
        if sent == size:
            return
        data = data[sent:]
    transport.write(bytes(data))
