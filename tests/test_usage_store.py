"""What usage/store.py writes, forgets, migrates and refuses; with SQLite's own files."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from gateway.config.tariff import UsageConfig
from gateway.usage.schema import AMOUNT_MOST, COLUMNS, ROWS_MOST, SCHEMA, Row
from gateway.usage.store import BooksError, Damaged, Store
from tests.usage_rows import KEY, MODEL, NOON, fill, row

DAY = 86_400.0
MIB = 1024**2


class StoreCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()).resolve()
        self.store = self.opened()

    def opened(self, **more: Any) -> Store:
        store = Store(self.path, UsageConfig(), busy_seconds=0, **more)
        self.addCleanup(store.close)
        return store

    def asked(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What another connection reads."""
        db = sqlite3.connect(self.path)
        try:
            return db.execute(statement, values).fetchall()
        finally:
            db.close()

    def counted(self, table: str) -> int:
        return int(self.asked(f"SELECT count(*) FROM {table}")[0][0])


class WritingTests(StoreCase):
    def test_a_row_is_found_again(self) -> None:
        """All its columns, as they were made."""
        one = row(session="s", finish="MAX_TOKENS")
        self.assertEqual(self.store.write([one]), 0)
        self.assertEqual(self.asked("SELECT * FROM requests"), [one])
        found = dict(zip(COLUMNS, one, strict=True))
        self.assertEqual(
            (found["id"], found["key"], found["method"], found["model"], found["first_seconds"], found["finish"]),
            (int(NOON * 1e6), KEY, "generateContent", MODEL, 0.5, "MAX_TOKENS"),
        )

    def test_any_number_of_rows_is_written(self) -> None:
        """Whatever room is left in a statement of their size."""
        total = 0
        for count in (0, 1, 3, 8, 9, 32, 85, 256, 341, ROWS_MOST):
            rows = [row(NOON + total + number) for number in range(count)]
            self.store.write(rows)
            total += count
            self.assertEqual(self.counted("requests"), total)
        self.assertEqual(self.asked("SELECT sum(requests), sum(prompt) FROM hours"), [(total, 10 * total)])

    def test_hours_and_days_are_the_sums_of_the_rows(self) -> None:
        """By key, model, upstream and credential; rows of other batches are added."""
        for hour, key in ((0, "a"), (0, "b"), (1, "a"), (13, "a"), (13, "a")):
            self.store.write([row(NOON + 3600 * hour, key_id=key)])
        at = int(NOON)
        self.assertEqual(
            self.asked("SELECT at, key, requests, prompt, candidates, thoughts, cached FROM hours"),
            [
                (at, "a", 1, 10, 5, 3, 4),
                (at, "b", 1, 10, 5, 3, 4),
                (at + 3600, "a", 1, 10, 5, 3, 4),
                (at + 13 * 3600, "a", 2, 20, 10, 6, 8),
            ],
        )
        midnight = at - 12 * 3600
        self.assertEqual(
            self.asked("SELECT at, key, requests, prompt FROM days"),
            [(midnight, "a", 2, 20), (midnight, "b", 1, 10), (midnight + 86400, "a", 2, 20)],
        )

    def test_failures_and_unpriced_answers_are_counted_apart(self) -> None:
        """What has tokens and no known price has no cost, which is told."""
        self.store.write(
            [
                row(NOON, usage=None, status=429, reason="QUOTA"),
                row(NOON + 1, usage=None, status=400),
                row(NOON + 2, reason="CLIENT_LEFT"),
                row(NOON + 3, model="unheard-of"),
            ]
        )
        self.assertEqual(
            self.asked("SELECT sum(requests), sum(failed), sum(unpriced), sum(micros > 0) FROM hours"), [(4, 3, 1, 1)]
        )

    def test_names_of_models_that_were_never_served_make_no_sums_of_their_own(self) -> None:
        """They are the clients' choice; the rows have them."""
        rows = [row(NOON + n, model=f"made-up-{n}", status=404, reason="X", usage=None) for n in range(20)]
        rows += [row(NOON + 50 + n, model=f"made-up-{n}", credential="", usage=None) for n in range(20)]
        self.store.write(rows)
        self.assertEqual(self.asked("SELECT DISTINCT model FROM hours"), [("",)])
        self.assertEqual(self.counted("requests"), 40)

    def test_a_batch_is_written_whole_or_not_at_all(self) -> None:
        """Where the file is locked nothing of it is there, and it can be written again."""
        self.store.open()
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN EXCLUSIVE")
        self.assertRaises(sqlite3.OperationalError, self.store.write, [row()])
        other.execute("ROLLBACK")
        self.store.write([row()])
        self.assertEqual((self.counted("requests"), self.counted("hours")), (1, 1))

    def test_what_cannot_be_stored_is_left_out_alone(self) -> None:
        """Counts out of all reason, and text that is none; the rest of the batch is written."""
        odd: tuple[Row, ...] = (
            self.with_prompt(NOON + 1, AMOUNT_MOST + 1),
            self.with_prompt(NOON + 2, -1),
            self.with_prompt(NOON + 3, 2**80),
            row(NOON + 4, session="\ud800"),
        )
        self.assertEqual(self.store.write([row(NOON), *odd, row(NOON + 9)]), len(odd))
        self.assertEqual((self.counted("requests"), self.asked("SELECT sum(requests) FROM days")), (2, [(2,)]))

    def with_prompt(self, at: float, prompt: int) -> Row:
        made = list(row(at))
        made[list(COLUMNS).index("prompt")] = prompt
        return tuple(made)

    def test_a_taken_id_is_no_loss(self) -> None:
        """As a clock that was set back gives them."""
        self.assertEqual([self.store.write([row(NOON)]) for _ in range(3)], [0, 0, 0])
        self.assertEqual([at for at, in self.asked("SELECT id FROM requests")], [int(NOON * 1e6) + n for n in range(3)])

    def test_the_file_is_its_owners_alone(self) -> None:
        """And so is what belongs to it; an older one that is not becomes so."""
        self.path.touch(mode=0o644)
        self.store.write([row()])
        for end in ("", "-wal", "-shm"):
            self.assertEqual(Path(f"{self.path}{end}").stat().st_mode & 0o777, 0o600, end)

    def test_a_link_is_not_followed(self) -> None:
        """Whoever may put links there could have any file overwritten."""
        self.path.symlink_to(self.path.with_name("elsewhere"))
        self.assertRaises(OSError, self.store.open)


class ForgettingTests(StoreCase):
    def test_requests_and_sums_have_ages_of_their_own(self) -> None:
        """Requests go first, sums stay; then they go too."""
        self.store.config = UsageConfig(keep=2 * DAY, keep_rollups=10 * DAY)
        self.store.write([row(NOON + day * DAY) for day in range(5)])
        for passed, left in ((0, (5, 5, 5)), (4, (3, 5, 5)), (11.1, (0, 3, 3)), (30, (0, 0, 0))):
            self.assertFalse(self.store.prune(NOON + passed * DAY))
            self.assertEqual(tuple(map(self.counted, ("requests", "hours", "days"))), left, passed)

    def test_the_oldest_goes_where_all_is_too_much(self) -> None:
        """The newest requests stay, and all sums; the file is no larger than it may be."""
        self.store.config = UsageConfig(size=MIB)
        for begin in range(0, 12_000, 2000):
            fill(self.store, [row(NOON + begin + number) for number in range(2000)])
            while self.store.prune(NOON):
                pass
        self.assertLessEqual(self.path.stat().st_size, MIB)
        (first, last, count), = self.asked("SELECT min(id), max(id), count(*) FROM requests")
        self.assertEqual(last - first, (count - 1) * 1_000_000)
        self.assertEqual(last, int((NOON + 11_999) * 1e6))
        self.assertGreater(count, 1000)
        self.assertEqual(self.asked("SELECT sum(requests) FROM hours"), [(12_000,)])

    def test_sums_go_too_where_they_alone_are_too_much(self) -> None:
        """The oldest hours, and all requests before them."""
        self.store.config = UsageConfig(size=MIB)
        for day in range(4):
            fill(self.store, [row(NOON + day * DAY + n / 100, key_id=f"{day}-{n:030}") for n in range(3000)])
        while self.store.prune(NOON):
            pass
        self.assertEqual(self.counted("requests"), 0)
        self.assertLessEqual(self.path.stat().st_size, MIB)
        self.assertLess(self.counted("hours"), 12_000)
        self.assertGreater(self.counted("days"), 0)

    def test_much_is_forgotten_in_pieces(self) -> None:
        """Between which rows are written."""
        self.store.config = UsageConfig(keep=DAY)
        fill(self.store, [row(NOON + number / 1000) for number in range(45_000)])
        self.assertTrue(self.store.prune(NOON + 2 * DAY))
        self.assertEqual(self.counted("requests"), 5000)
        self.assertFalse(self.store.prune(NOON + 2 * DAY))
        self.assertEqual(self.counted("requests"), 0)


class VersionTests(StoreCase):
    """Another version's file."""

    def version(self, number: int) -> None:
        db = sqlite3.connect(self.path)
        db.execute(f"PRAGMA user_version = {number}")
        db.close()

    def test_an_older_file_is_migrated_after_a_backup(self) -> None:
        """The backup is whole and private, and a sentence tells of it."""
        self.store.write([row()])
        self.store.close()
        self.version(SCHEMA - 1)
        store = self.opened(migrations={SCHEMA - 1: lambda db: self.renamed(db)})
        store.open()
        self.assertEqual(self.asked("SELECT key FROM requests"), [("renamed",)])
        self.assertEqual(self.asked("PRAGMA user_version"), [(SCHEMA,)])
        backup = self.path.with_name(f"{self.path.name}.schema{SCHEMA - 1}.bak")
        self.assertEqual(backup.stat().st_mode & 0o777, 0o600)
        self.assertIn(str(backup), store.note)
        db = sqlite3.connect(backup)
        self.addCleanup(db.close)
        self.assertEqual(db.execute("SELECT key FROM requests").fetchall(), [(KEY,)])

    def renamed(self, db: sqlite3.Connection) -> None:
        db.execute("UPDATE requests SET key = 'renamed'")

    def test_a_migration_that_fails_leaves_the_file_as_it_was(self) -> None:
        """It is one transaction."""
        self.store.write([row()])
        self.store.close()
        self.version(SCHEMA - 1)

        def fails(db: sqlite3.Connection) -> None:
            self.renamed(db)
            raise sqlite3.OperationalError("disk full")

        self.assertRaises(sqlite3.OperationalError, self.opened(migrations={SCHEMA - 1: fails}).open)
        self.assertEqual(self.asked("SELECT key FROM requests"), [(KEY,)])
        self.assertEqual(self.asked("PRAGMA user_version"), [(SCHEMA - 1,)])

    def test_a_newer_file_is_refused_and_left_alone(self) -> None:
        """The sentence says what to do."""
        self.store.write([row()])
        self.store.close()
        self.version(SCHEMA + 1)
        before = self.path.read_bytes()
        error = self.assertRaises(BooksError, self.opened().open)
        self.assertIn("newer version", str(error))
        self.assertEqual(self.path.read_bytes(), before)

    def test_a_version_that_nobody_wrote_is_refused(self) -> None:
        """As far as is known."""
        self.store.write([row()])
        self.store.close()
        self.version(SCHEMA - 1)
        self.assertRaises(BooksError, self.opened().open)

    def test_another_programs_database_is_refused(self) -> None:
        """It is not ours to write to."""
        db = sqlite3.connect(self.path)
        db.execute("CREATE TABLE songs (title TEXT)")
        db.close()
        error = self.assertRaises(BooksError, self.store.open)
        self.assertIn("another program's", str(error))


class DamageTests(StoreCase):
    def damaged(self, change: Callable[[bytearray], None]) -> None:
        fill(self.store, [row(NOON + number) for number in range(3000)])
        self.store.close()
        content = bytearray(self.path.read_bytes())
        change(content)
        self.path.write_bytes(content)

    def test_a_file_that_is_no_database_is_damaged(self) -> None:
        """Text, or a first page overwritten."""
        self.damaged(lambda content: content.__setitem__(slice(0, 4096), bytes(4096)))
        self.assertRaises(Damaged, self.opened().open)
        self.path.write_text("hello " * 1000)
        self.assertRaises(Damaged, self.opened().open)

    def test_damage_within_is_found_when_it_is_met(self) -> None:
        """At a write, where all pages but the first are overwritten."""
        self.damaged(lambda content: content.__setitem__(slice(4096, len(content)), b"\xa5" * (len(content) - 4096)))
        self.assertRaises(Damaged, self.opened().write, [row()])

    def test_a_damaged_file_is_set_aside_and_another_begun(self) -> None:
        """With what belongs to it, under a name that says so."""
        self.damaged(lambda content: content.__setitem__(slice(0, 4096), b"\xa5" * 4096))
        store = self.opened()
        self.assertRaises(Damaged, store.write, [row()])
        aside = store.set_aside()
        self.assertEqual(aside.name, self.path.name + ".corrupt")
        self.assertTrue(aside.exists())
        store.write([row()])
        self.assertEqual(self.counted("requests"), 1)


class FullTests(StoreCase):
    def test_a_full_disk_takes_nothing_of_a_batch(self) -> None:
        """And all of it once there is room: SQLite itself says that it is full."""
        self.store.write([row()])
        assert self.store._db is not None
        (pages,) = self.store._db.execute("PRAGMA page_count").fetchone()
        self.store._db.execute(f"PRAGMA max_page_count = {pages}")
        rows = [row(NOON + 1 + number) for number in range(500)]
        error = self.assertRaises(sqlite3.OperationalError, self.store.write, rows)
        self.assertIn("full", str(error))
        self.assertEqual((self.counted("requests"), self.asked("SELECT sum(requests) FROM days")), (1, [(1,)]))
        self.store._db.execute("PRAGMA max_page_count = 1000000")
        self.store.write(rows)
        self.assertEqual(self.asked("SELECT sum(requests) FROM days"), [(501,)])
