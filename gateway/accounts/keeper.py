"""Keep the standings over a restart: loaded once, written soon after they change and in the end."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from gateway.accounts.ledger import Ledger
from gateway.accounts.standing import Standings

EVERY_SECONDS = 1.0

_log = Logger()


class Keeper:
    """Between standings and their ledger.

    A disk that cannot be written to costs nothing but the memory of cool-downs: it is logged once, and tried again.
    """

    def __init__(
        self, standings: Standings, ledger: Ledger, clock: IReactorTime, wall_seconds: Callable[[], float]
    ) -> None:
        self._standings = standings
        self._ledger = ledger
        self._clock = clock
        self._wall_seconds = wall_seconds
        self._saved = standings.version
        self._timer: IDelayedCall | None = None
        self.failing = False

    def load(self) -> None:
        """Take up what the last run kept.  Raises LedgerError for a ledger of a newer version, OSError."""
        kept, note = self._ledger.load()
        if kept is not None:
            try:
                self._standings.restore(kept, self._clock.seconds(), self._wall_seconds())
            except (KeyError, TypeError, ValueError) as problem:
                note = f"{self._ledger.path} holds something unexpected ({problem}); the rest of it is not used"
        if note:
            _log.warn("{note}", note=note)
        self._saved = self._standings.version

    def start(self) -> None:
        """Begin to watch for changes."""
        self._timer = self._clock.callLater(EVERY_SECONDS, self._tick)

    def stop(self) -> None:
        """Write what is left to write, and stop."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self.save()

    def save(self) -> None:
        """Write the standings, if they have changed."""
        version = self._standings.version
        if version == self._saved:
            return
        try:
            self._ledger.save(self._standings.dump(self._clock.seconds(), self._wall_seconds()))
        except OSError as problem:
            if not self.failing:
                _log.error("the standings cannot be written, and go on in memory: {why}", why=str(problem))
            self.failing = True
            return
        if self.failing:
            _log.info("the standings can be written again")
        self.failing = False
        self._saved = version

    def _tick(self) -> None:
        self.save()
        self.start()
