"""Keep the standings over a restart: loaded once, written soon after they change and in the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Set
from functools import partial

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from gateway.accounts.ledger import Ledger
from gateway.accounts.standing import Standings

EVERY_SECONDS = 1.0

_log = Logger()

InThread = Callable[[Callable[[], None]], Awaitable[None]]
"""Runs a function in a thread; what it raises is raised."""


class Keeper:
    """Between standings and their ledger.

    A disk takes its time, so it is written to in a thread: one write at a time, each of what is known when it begins.
    One that cannot be written to costs nothing but the memory of cool-downs: it is logged once, and tried again.
    """

    def __init__(
        self,
        standings: Standings,
        ledger: Ledger,
        clock: IReactorTime,
        wall_seconds: Callable[[], float],
        in_thread: InThread,
        names: Callable[[], Mapping[str, Set[str]]] = dict,
    ) -> None:
        """``names`` returns the credentials that there are, by upstream: nothing is kept of those that went."""
        self._standings = standings
        self._ledger = ledger
        self._clock = clock
        self._wall_seconds = wall_seconds
        self._in_thread = in_thread
        self._names = names
        self._saved = standings.version
        self._timer: IDelayedCall | None = None
        self._owned = True
        self._writing = False
        self._waiters: list[Deferred[None]] = []
        self.failing = False
        """Whether the last attempt to write came to nothing, or none may be made."""
        self.errors = 0
        """How many attempts did."""

    def load(self, owned: bool = True) -> None:
        """Take up what the last run kept; nothing is ever written where the directory is not ``owned``.

        Raises LedgerError for a ledger of a newer version, OSError.
        """
        self._owned = owned
        self.failing = not owned
        kept, note = self._ledger.load(owned)
        if kept is not None:
            try:
                self._standings.restore(kept, self._clock.seconds(), self._wall_seconds())
            except (KeyError, TypeError, ValueError) as problem:
                note = f"{self._ledger.path} holds something unexpected ({problem}); the rest of it is not used"
            self._standings.retain(self._names())
        if note:
            _log.warn("{note}", note=note)
        self._saved = self._standings.version

    def start(self) -> None:
        """Begin to watch for changes."""
        self._timer = self._clock.callLater(EVERY_SECONDS, self._tick)

    def stop(self) -> Deferred[None]:
        """Watch no longer; fires when what was left to write is written."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        return self.save()

    def save(self) -> Deferred[None]:
        """Write the standings, if they have changed; fires when they are on disk, or cannot be written.

        Cancelling it stops nobody's write.
        """
        if not self._owned or (self._standings.version == self._saved and not self._writing):
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        if not self._writing:
            Deferred.fromCoroutine(self._write())
        return waiter

    async def _write(self) -> None:
        self._writing = True
        while self._waiters:
            # Whoever comes from now on wants to see what was not yet known when this write began.
            waiters, self._waiters = self._waiters, []
            await self._write_once()
            for waiter in waiters:
                if not waiter.called:
                    waiter.callback(None)
        self._writing = False

    async def _write_once(self) -> None:
        version = self._standings.version
        if version == self._saved:
            return
        kept = self._standings.dump(self._clock.seconds(), self._wall_seconds())
        try:
            await self._in_thread(partial(self._ledger.save, kept))
        except Exception as problem:
            self.errors += 1
            if not self.failing:
                _log.error("the standings cannot be written, and go on in memory: {why}", why=str(problem))
            self.failing = True
            return
        if self.failing:
            _log.info("the standings can be written again")
        self.failing = False
        self._saved = version

    def _tick(self) -> None:
        if not self._writing:
            self.save()
        self.start()
