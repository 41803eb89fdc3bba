"""Several recorders that are told as one; one that fails is logged, and neither the others nor the request notice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from twisted.logger import Logger

from gateway.calls import Attempt, Credential, Ended, Journal, Recorder

_log = Logger()
_FAILED = "a recorder failed at {whom}, which went on: {recorder}"


class Recorders:
    """Passes on what happens to each of them, in their order."""

    def __init__(self, *recorders: Recorder) -> None:
        self._take(recorders)

    def exchange(self, gone: Recorder | None, come: Recorder | None) -> None:
        """Tell one no more, and another from now on, as the last."""
        stay = [one for one in self._recorders if one is not gone]
        self._take([*stay, come] if come is not None else stay)

    def _take(self, recorders: Sequence[Recorder]) -> None:
        self._recorders = recorders
        self._attempted = [one.attempted for one in recorders]
        self._ended = [one.ended for one in recorders]
        self._quarantined = [one.quarantined for one in recorders]
        self._halted = [one.halted for one in recorders]

    def attempted(self, journal: Journal, attempt: Attempt) -> None:
        """See Recorder."""
        # As _tell does it, for every request.
        for one in self._attempted:
            try:
                one(journal, attempt)
            except Exception:
                _log.failure(_FAILED, recorder=one.__qualname__, whom=f"request {journal.request_id}")

    def ended(self, event: Ended) -> None:
        """See Recorder."""
        # As _tell does it, for every request.
        for one in self._ended:
            try:
                one(event)
            except Exception:
                _log.failure(_FAILED, recorder=one.__qualname__, whom=f"request {event.journal.request_id}")

    def quarantined(self, credential: Credential, reason: str, link: str) -> None:
        """See Recorder."""
        _tell(credential.label, self._quarantined, credential, reason, link)

    def halted(self, upstream: str) -> None:
        """See Recorder."""
        _tell(upstream, self._halted, upstream)


def _tell(whom: str, recorders: Iterable[Callable[..., None]], *what: object) -> None:
    for one in recorders:
        try:
            one(*what)
        except Exception:
            _log.failure(_FAILED, recorder=one.__qualname__, whom=whom)
