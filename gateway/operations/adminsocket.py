"""A unix socket that only the user of the daemon can reach, and the site that is behind it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.web.resource import IResource
from twisted.web.server import Site

IDLE_SECONDS = 60.0


class AdminSite(Site):
    """Without an access log of its own: what changes something is logged where it is done."""

    noisy = False
    displayTracebacks = False
    timeOut = IDLE_SECONDS

    def __init__(self, resource: IResource, reactor: Any) -> None:
        super().__init__(resource, reactor=reactor, parsePOSTFormSubmission=False)  # type: ignore[no-untyped-call]

    def log(self, request: Any) -> None:
        """Log nothing."""


class AdminSocket:
    """Listens in a directory that is locked, so that a socket found there is a dead daemon's."""

    def __init__(self, path: Path, address: str, factory: IProtocolFactory, reactor: Any) -> None:
        """``address`` is the path, or what leads to it where that is too long to be an address."""
        self._path = path
        self._address = address
        self._factory = factory
        self._reactor = reactor
        self._port: IListeningPort | None = None

    def open(self) -> None:
        """Listen; raises OSError or CannotListenError."""
        if os.path.lexists(self._path):
            if not stat.S_ISSOCK(self._path.lstat().st_mode):
                raise OSError(f"{self._path} is no socket; remove it")
            self._path.unlink()
        # It has its mode from the moment it is made: at none may others connect.
        mask = os.umask(0o177)
        try:
            self._port = self._reactor.listenUNIX(self._address, self._factory, mode=0o600)
        finally:
            os.umask(mask)

    def close(self) -> Deferred[None]:
        """Stop to listen, and remove the socket."""
        port, self._port = self._port, None
        return (port and port.stopListening()) or succeed(None)
