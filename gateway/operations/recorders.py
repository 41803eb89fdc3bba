"""Several recorders that are told as one."""

from __future__ import annotations

from gateway.calls import Attempt, Credential, Ended, Journal, Recorder


class Recorders:
    """Passes on what happens to each of them, in their order."""

    def __init__(self, *recorders: Recorder) -> None:
        self._all = recorders

    def attempted(self, journal: Journal, attempt: Attempt) -> None:
        """See Recorder."""
        for one in self._all:
            one.attempted(journal, attempt)

    def ended(self, event: Ended) -> None:
        """See Recorder."""
        for one in self._all:
            one.ended(event)

    def quarantined(self, credential: Credential, reason: str, link: str) -> None:
        """See Recorder."""
        for one in self._all:
            one.quarantined(credential, reason, link)

    def halted(self, upstream: str) -> None:
        """See Recorder."""
        for one in self._all:
            one.halted(upstream)
