"""What usage/writer.py does with rows that come, with a file that can be written to and with one that cannot."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

import attrs
from twisted.trial.unittest import SynchronousTestCase

from gateway.config.tariff import UsageConfig
from gateway.usage.schema import ROWS_MOST, Row
from gateway.usage.store import Damaged, Store
from gateway.usage.writer import PRUNE_SECONDS, TELL_SECONDS, Writer
from tests.usage_rows import NOON, row

LOCKED = sqlite3.OperationalError("database is locked")
FULL = sqlite3.OperationalError("database or disk is full")
DEADLINE_SECONDS = 30


class FakeStore(Store):
    """Keeps batches in memory, or fails as it is told to."""

    def __init__(self) -> None:
        super().__init__(Path("usage.db"), UsageConfig())
        self.batches: list[Sequence[Row]] = []
        self.faults: list[Exception] = []
        self.pruned: list[float] = []
        self.unfit = 0
        self.more_to_prune = False
        self.closed = 0
        self.aside = 0

    @property
    def rows(self) -> list[Row]:
        return [one for batch in self.batches for one in batch]

    def write(self, rows: Sequence[Row]) -> int:
        if self.faults:
            raise self.faults.pop(0)
        self.batches.append(rows)
        return self.unfit

    def prune(self, now: float) -> bool:
        self.pruned.append(now)
        return self.more_to_prune

    def set_aside(self) -> Path:
        self.aside += 1
        return Path("usage.db.corrupt")

    def close(self) -> None:
        self.closed += 1


@attrs.define
class Seconds:
    """A clock."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class WriterCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.store, self.clock = FakeStore(), Seconds()
        self.told: list[tuple[bool, str]] = []
        self.writer = self.built(self.store)

    def built(self, store: Store, **more: int) -> Writer:
        return Writer(lambda: store, lambda: NOON, self.clock, lambda *what: self.told.append(what), **more)

    def put(self, count: int, first: int = 0) -> list[Row]:
        rows = [row(NOON + first + number) for number in range(count)]
        for one in rows:
            self.writer.put(one)
        return rows

    def failed(self, times: int = 1, fault: Exception = LOCKED, seconds: float = 1) -> None:
        """Let so many turns fail."""
        for _ in range(times):
            self.store.faults = [fault]
            self.writer.turn()
            self.clock.now += seconds


class TurnTests(WriterCase):
    """What the thread does, without the thread."""

    def test_what_waits_is_written_in_its_order(self) -> None:
        """In batches of a size that keeps transactions short."""
        rows = self.put(ROWS_MOST + 10)
        self.writer.turn()
        self.assertEqual(self.store.rows, rows)
        self.assertEqual([len(batch) for batch in self.store.batches], [ROWS_MOST, 10])
        self.assertEqual((self.writer.waiting, self.writer.lost, self.told), (0, 0, []))

    def test_a_turn_with_nothing_to_write_writes_nothing(self) -> None:
        """No empty transactions."""
        self.writer.turn()
        self.assertEqual(self.store.batches, [])

    def test_what_cannot_be_written_waits_and_loses_nothing(self) -> None:
        """Locked by another process, or on a full disk, for a while: it is all there in the end, in its order."""
        rows = self.put(5)
        self.failed(2, FULL)
        self.assertEqual((self.writer.waiting, self.writer.failing), (5, str(FULL)))
        rows += self.put(5, 5)
        self.writer.turn()
        self.assertEqual(self.store.rows, rows)
        self.assertEqual((self.writer.lost, self.writer.failing), (0, ""))

    def test_what_does_not_fit_the_queue_is_lost_and_counted(self) -> None:
        """The oldest are kept: memory is bounded, whatever the disk does."""
        self.writer = self.built(self.store, queue_most=10)
        rows = self.put(8)
        self.failed()
        rows += self.put(5, 8)
        self.assertEqual((self.writer.waiting, self.writer.lost), (10, 3))
        self.writer.turn()
        self.assertEqual(self.store.rows, rows[:10])

    def test_rows_that_cannot_be_stored_are_lost_and_counted(self) -> None:
        """They are told of too."""
        self.store.unfit = 2
        self.put(5)
        self.writer.turn()
        self.assertEqual(self.writer.lost, 2)
        self.assertIn("2 are lost", self.told[0][1])

    def test_a_damaged_file_is_set_aside_and_nothing_lost(self) -> None:
        """What waits goes into the new one, and one line tells where the old one is."""
        self.store.faults = [Damaged("malformed")]
        rows = self.put(3)
        self.writer.turn()
        self.assertEqual((self.store.rows, self.store.aside, self.writer.lost), (rows, 1, 0))
        (trouble, sentence), = self.told
        self.assertTrue(trouble)
        self.assertIn("usage.db.corrupt", sentence)

    def test_a_file_that_is_damaged_again_at_once_waits(self) -> None:
        """A disk like that makes no circle."""
        self.store.faults = [Damaged("malformed"), Damaged("malformed")]
        self.put(3)
        self.writer.turn()
        self.assertEqual((self.store.aside, self.writer.waiting, self.writer.failing), (1, 3, "malformed"))

    def test_faults_nobody_foresaw_do_not_end_the_thread(self) -> None:
        """They count as any other."""
        self.put(1)
        self.failed(1, ZeroDivisionError())
        self.assertIn("ZeroDivisionError", self.writer.failing)
        self.writer.turn()
        self.assertEqual((len(self.store.rows), self.writer.failing), (1, ""))


class TellingTests(WriterCase):
    """What the log is told."""

    def test_trouble_is_one_line_a_minute(self) -> None:
        """However often it is met; with how many wait and how many are lost."""
        self.writer = self.built(self.store, queue_most=10)
        self.put(12)
        self.failed(int(TELL_SECONDS))
        self.assertEqual(len(self.told), 1)
        self.assertEqual(
            self.told[0],
            (True, "usage is not written (database is locked): 10 requests wait, 2 are lost so far"),
        )
        self.failed()
        self.assertEqual(len(self.told), 2)

    def test_its_end_is_told_once(self) -> None:
        """With what it cost."""
        self.put(1)
        self.failed(3)
        self.writer.turn()
        self.writer.turn()
        self.assertEqual([trouble for trouble, _ in self.told], [True, False])
        self.assertEqual(self.told[1][1], "usage is written again; 0 requests were lost")

    def test_trouble_that_comes_and_goes_does_not_fill_the_log(self) -> None:
        """Ten times within a minute are two lines."""
        for _ in range(10):
            self.put(1)
            self.failed()
            self.writer.turn()
        self.assertEqual(len(self.told), 2)

    def test_what_was_odd_at_opening_is_told(self) -> None:
        """Such as a migration."""
        self.store.note = "it was migrated"
        self.put(1)
        self.writer.turn()
        self.writer.turn()
        self.assertEqual(self.told, [(True, "it was migrated")])


class PruningTests(WriterCase):
    def test_it_is_once_a_minute(self) -> None:
        """By the wall clock's time."""
        for _ in range(5):
            self.writer.turn()
        self.assertEqual(self.store.pruned, [NOON])
        self.clock.now += PRUNE_SECONDS
        self.writer.turn()
        self.assertEqual(self.store.pruned, [NOON, NOON])

    def test_it_goes_on_at_once_where_there_is_more(self) -> None:
        """After whatever waited meanwhile."""
        self.store.more_to_prune = True
        self.writer.turn()
        self.put(1)
        self.writer.turn()
        self.assertEqual((len(self.store.pruned), len(self.store.rows)), (2, 1))


class ThreadTests(WriterCase):
    """With the thread and a real file."""

    def setUp(self) -> None:
        super().setUp()
        self.path = Path(self.mktemp()).resolve()
        self.real = Store(self.path, UsageConfig(), busy_seconds=0)
        self.writer = self.built(self.real, every_seconds=0)

    def waited(self, begin: Callable[[Callable[[], None]], None]) -> None:
        done = Event()
        begin(done.set)
        self.assertTrue(done.wait(DEADLINE_SECONDS))

    def written(self) -> int:
        db = sqlite3.connect(self.path)
        try:
            return int(db.execute("SELECT count(*) FROM requests").fetchone()[0])
        finally:
            db.close()

    def test_all_that_was_put_before_a_flush_is_in_the_file_after_it(self) -> None:
        """Again and again, and the end is one."""
        self.writer.start()
        total = 0
        for count in (1, 0, 10, 500):
            self.put(count, total)
            total += count
            self.waited(self.writer.flush)
            self.assertEqual(self.written(), total)
        self.put(7, total)
        self.waited(self.writer.stop)
        self.assertEqual(self.written(), total + 7)

    def test_nobody_has_to_ask_for_a_row_to_be_written(self) -> None:
        """Each first one wakes the thread, however they come."""
        written = Event()
        store = FakeStore()
        put_down = store.write

        def write(rows: Sequence[Row]) -> int:
            put_down(rows)
            if len(store.rows) == 300:
                written.set()
            return 0

        store.write = write  # type: ignore[method-assign]
        self.writer = self.built(store, every_seconds=0)
        self.writer.start()
        self.put(300)
        self.assertTrue(written.wait(DEADLINE_SECONDS))
        self.waited(self.writer.stop)
        self.assertEqual(store.closed, 1)

    def test_a_file_that_fails_with_nothing_to_write_leaves_the_processor_alone(self) -> None:
        """As on a full disk, where nothing can be forgotten either: it is tried again after a while, or when asked."""
        store, turns = FakeStore(), []

        def prune(now: float) -> bool:
            turns.append(now)
            raise FULL

        store.prune = prune  # type: ignore[method-assign]
        self.writer = self.built(store, every_seconds=10 * DEADLINE_SECONDS)
        self.writer.start()
        for count in range(1, 50):
            self.waited(self.writer.flush)
            self.assertEqual((len(turns), self.writer.failing), (count, str(FULL)))
        self.waited(self.writer.stop)
        self.assertEqual((len(turns), store.closed), (50, 1))

    def test_an_end_on_a_locked_file_waits_no_longer_than_for_the_lock(self) -> None:
        """What could not be written is counted as lost."""
        self.real.open()
        self.real.close()
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN EXCLUSIVE")
        self.put(3)
        self.writer.start()
        self.waited(self.writer.stop)
        self.assertEqual((self.writer.lost, self.writer.waiting), (3, 3))

    def test_rows_wait_for_a_lock_and_are_written_after_it(self) -> None:
        """A lock of another process's."""
        self.real.open()
        self.real.close()
        other = sqlite3.connect(self.path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        self.writer.start()
        self.put(3)
        self.waited(self.writer.flush)
        self.assertIn("locked", self.writer.failing)
        other.close()
        self.waited(self.writer.flush)
        self.assertEqual((self.writer.failing, self.writer.lost, self.written()), ("", 0, 3))
        self.waited(self.writer.stop)
