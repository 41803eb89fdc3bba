"""Several recorders that are told as one; one that fails is logged, and neither the others nor the request notice."""

from __future__ import annotations

from twisted.logger import Logger

from gateway.calls import Attempt, Credential, Ended, Journal, Recorder

_log = Logger()
_FAILED = "a recorder failed at a request that went on: {recorder}"


class Recorders:
    """Passes on what happens to each of them, in their order."""

    def __init__(self, *recorders: Recorder) -> None:
        self._all = recorders

    def attempted(self, journal: Journal, attempt: Attempt) -> None:
        """See Recorder."""
        for one in self._all:
            try:
                one.attempted(journal, attempt)
            except Exception:
                _log.failure(_FAILED, recorder=type(one).__name__)

    def ended(self, event: Ended) -> None:
        """See Recorder."""
        for one in self._all:
            try:
                one.ended(event)
            except Exception:
                _log.failure(_FAILED, recorder=type(one).__name__)

    def quarantined(self, credential: Credential, reason: str, link: str) -> None:
        """See Recorder."""
        for one in self._all:
            try:
                one.quarantined(credential, reason, link)
            except Exception:
                _log.failure(_FAILED, recorder=type(one).__name__)

    def halted(self, upstream: str) -> None:
        """See Recorder."""
        for one in self._all:
            try:
                one.halted(upstream)
            except Exception:
                _log.failure(_FAILED, recorder=type(one).__name__)
