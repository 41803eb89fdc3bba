"""Whether an origin can be reached, as the log tells it: why not, once in a while, and that it can be again."""

from __future__ import annotations

from collections.abc import Callable

import attrs
from OpenSSL import SSL
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectingCancelledError, ConnectionAborted, TimeoutError
from twisted.logger import Logger

from gateway.upstreams.tunnel import ProxyRefused

AGAIN_SECONDS = 60.0
"""After which the same is told again, where it goes on."""
WORDS_MOST = 16
"""So many different reasons are told between two of those moments."""
_OURS = (CancelledError, ConnectingCancelledError, ConnectionAborted)
"""A client that left, or an end: they say nothing about the origin."""

_log = Logger(namespace="gateway.wire")


@attrs.define(eq=False, repr=False)
class Reach:
    """What is known of the way to one origin; a request's own line in the log has its reason alone."""

    _origin: str
    _proxy: str
    """Its host and port, without its password; empty where there is none."""
    _seconds: Callable[[], float]
    _told: dict[str, float] = attrs.field(factory=dict)
    _away: bool = False

    def reached(self) -> None:
        """Take note that a connection is open."""
        if self._away:
            self._away = False
            _log.info("{origin} can be reached again", origin=self._origin)

    def failed(self, error: BaseException | None, within_seconds: float) -> None:
        """Take note that none could be opened."""
        if isinstance(error, _OURS):
            return
        why, now = _why(error, within_seconds), self._seconds()
        self._told = {other: at for other, at in self._told.items() if now - at < AGAIN_SECONDS}
        if why in self._told or len(self._told) >= WORDS_MOST:
            return
        self._told[why] = now
        self._away = True
        if isinstance(error, ProxyRefused):
            _log.warn(
                "proxy {proxy} carries nothing to {origin}: {why}", proxy=self._proxy, origin=self._origin, why=why
            )
        else:
            through = f" through proxy {self._proxy}" if self._proxy else ""
            _log.warn("{origin} cannot be reached{through}: {why}", origin=self._origin, through=through, why=why)


def _why(error: BaseException | None, within_seconds: float) -> str:
    if isinstance(error, ProxyRefused):
        return error.why
    if isinstance(error, SSL.Error):
        reasons = [str(entry[-1]) for entry in error.args[0]] if error.args and isinstance(error.args[0], list) else []
        return "TLS: " + (", ".join(reasons) or "the connection was closed")
    if isinstance(error, TimeoutError) and not any(error.args):
        return f"no connection within {within_seconds:g} s"
    return str(error) or type(error).__name__
