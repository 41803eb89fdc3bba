"""The recorder of whoever watches live: it passes requests on as they end, and costs next to nothing without one."""

from __future__ import annotations

from collections.abc import Callable

from gateway.calls import Attempt, Credential, Ended, Journal


class Live:
    """Tells one listener, where there is one; see feed.py."""

    def __init__(self) -> None:
        self.heard: Callable[[Ended], None] | None = None

    def attempted(self, journal: Journal, attempt: Attempt) -> None:
        """See Recorder: the journal has it too."""

    def ended(self, event: Ended) -> None:
        """See Recorder."""
        if self.heard is not None:
            self.heard(event)

    def quarantined(self, credential: Credential, reason: str, link: str) -> None:
        """See Recorder: the credential's row says so."""

    def halted(self, upstream: str) -> None:
        """See Recorder: the upstream's row says so."""
