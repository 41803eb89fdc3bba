"""The thread that writes rows down, and the queue in front of it.

A row costs whoever puts it an append.  A batch is written a moment after its first row has come, or when it is large;
what cannot be written waits, up to a number of rows, and is tried again.  More than that is lost, counted and told.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.usage.schema import ROWS_MOST, Row

if TYPE_CHECKING:
    from gateway.usage.store import Store

EVERY_SECONDS = 1.0
"""How long a batch is waited for: what a sudden end of the process may cost."""
PRUNE_SECONDS = 60.0
TELL_SECONDS = 60.0
"""The log is told of losses this often at most."""
HURRY_ROWS = 2_000
"""A batch of so many is not waited for any longer.  Smaller ones would cost a busy reactor more: the thread waits for
the interpreter beside it at each, which wakes both again and again."""
QUEUE_MOST = 20_000
"""So many rows wait at most, some 15 MB."""

Tell = Callable[[bool, str], None]
"""Takes a sentence for the log, and whether it tells of trouble."""


class Writer:
    """Writes rows in a thread of its own: ``put``, ``flush`` and ``stop`` are called from outside, ``turn`` in it.

    The store is opened when there is something for it to do, and with it SQLite is imported, which takes 1.5 MB.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        wall_seconds: Callable[[], float],
        monotonic_seconds: Callable[[], float],
        tell: Tell,
        every_seconds: float = EVERY_SECONDS,
        queue_most: int = QUEUE_MOST,
    ) -> None:
        self._open_store = open_store
        self._store: Store | None = None
        self._wall_seconds = wall_seconds
        self._monotonic_seconds = monotonic_seconds
        self._tell = tell
        self._every_seconds = every_seconds
        self._queue_most = queue_most
        self._rows: deque[Row] = deque()
        self._waiters: deque[Callable[[], None]] = deque()
        self._begun, self._hurry = threading.Event(), threading.Event()
        self._ending = False
        # Each of these two is one thread's, so that no count gets lost.
        self._overflowed = self._left_out = 0
        self._told_lost, self._told_failing = 0, False
        self._told_at = self._pruned_at = float("-inf")
        self.failing = ""
        """Why nothing can be written at present; empty while it can."""

    @property
    def lost(self) -> int:
        """How many rows were not written and never will be."""
        return self._overflowed + self._left_out

    @property
    def waiting(self) -> int:
        """How many rows wait."""
        return len(self._rows)

    def put(self, row: Row) -> None:
        """Take a row to write; never waits."""
        rows = self._rows
        if len(rows) >= self._queue_most:
            self._overflowed += 1
            return
        rows.append(row)
        # The thread takes rows until there are none: whoever comes then is the first again.
        count = len(rows)
        if count == 1:
            self._begun.set()
        elif count == HURRY_ROWS:
            self._hurry.set()

    def flush(self, done: Callable[[], None]) -> None:
        """Have ``done`` called, in the thread, when all that was put before is written, or cannot be."""
        self._waiters.append(done)
        self._hurry.set()
        self._begun.set()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self.run, name="usage", daemon=True).start()

    def stop(self, done: Callable[[], None]) -> None:
        """Write what is left, and end; ``done`` is called then, in the thread."""
        # In this order: the thread ends when it has seen the one, and must have the other by then.
        self._waiters.append(done)
        self._ending = True
        self._hurry.set()
        self._begun.set()

    def run(self) -> None:
        """Write until told to stop; the thread's own function."""
        while True:
            self._begun.wait(PRUNE_SECONDS)
            self._begun.clear()
            if not self._ending:
                # What fails is tried again as seldom, also where there is nothing but old rows to forget.
                self._hurry.wait(self._every_seconds if self._rows or self.failing else 0)
            self._hurry.clear()
            ending, waiters = self._ending, self._waiting_now()
            self.turn()
            if ending:
                self._left_out += len(self._rows)
                if self._store is not None:
                    self._store.close()
            for done in waiters:
                done()
            if ending:
                return

    def _waiting_now(self) -> list[Callable[[], None]]:
        return [self._waiters.popleft() for _ in range(len(self._waiters))]

    def turn(self) -> None:
        """Write what waits, and forget what is due."""
        from gateway.usage.store import FAULTS, BooksError, Damaged

        try:
            store = self._store = self._store or self._open_store()
            while self._rows:
                self._write(store, [self._rows.popleft() for _ in range(min(len(self._rows), ROWS_MOST))])
            now = self._monotonic_seconds()
            if now - self._pruned_at >= PRUNE_SECONDS and not store.prune(self._wall_seconds()):
                self._pruned_at = now
        except (BooksError, Damaged, *FAULTS) as problem:
            self.failing = str(problem) or type(problem).__name__
            # Rows that wait are no first ones: without this nobody would try again.
            self._begun.set()
        except Exception as problem:
            self.failing = f"unforeseen: {type(problem).__name__}"
            self._begun.set()
        else:
            self.failing = ""
        self._report()

    def _write(self, store: Store, rows: list[Row]) -> None:
        from gateway.usage.store import Damaged

        try:
            try:
                self._left_out += store.write(rows)
            except Damaged as damage:
                aside = store.set_aside()
                self._tell(True, f"{store.path} is damaged ({damage}); it is now {aside}, and usage begins anew")
                self._left_out += store.write(rows)
        except BaseException:
            self._rows.extendleft(reversed(rows))
            raise

    def _report(self) -> None:
        if self._store is not None and self._store.note:
            self._tell(True, self._store.note)
            self._store.note = ""
        now, lost = self._monotonic_seconds(), self.lost
        if self.failing or lost > self._told_lost:
            if now - self._told_at >= TELL_SECONDS:
                why = self.failing or "it came faster than it could be written, or made no sense"
                self._tell(True, f"usage is not written ({why}): {self.waiting} requests wait, {lost} are lost so far")
                self._told_at, self._told_lost, self._told_failing = now, lost, bool(self.failing)
        elif self._told_failing:
            self._told_failing = False
            self._tell(False, f"usage is written again; {lost} requests were lost")
