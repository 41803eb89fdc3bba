"""``usage.db``: opened, migrated, written to and cut back.  Does I/O, and blocks; it is one thread's."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

from gateway.accounts.guards import GUARDED, allows_more, is_strangers
from gateway.config.tariff import UsageConfig
from gateway.usage.schema import (
    APPLICATION,
    MICROSECONDS,
    NO_ROW,
    ROLLUPS,
    SCHEMA,
    Row,
    creation,
    insertion,
    places,
    size_for,
)

BUSY_SECONDS = 2.0
"""How long another process's lock is waited for."""
CHUNK_ROWS = 2000
"""So many are deleted in one transaction, because nothing is written meanwhile."""
CHUNKS_MOST = 20
"""And in so many in a row."""
VACUUM_PAGES = 1000
"""So many pages are given back to the disk at once."""
FILES = ("", "-wal", "-shm")
"""The ends of the names that belong to a database."""

Migrations = Mapping[int, Callable[[sqlite3.Connection], None]]
MIGRATIONS: Migrations = {}
"""From a schema version to the next one, within a transaction; the first version has no predecessor."""

FAULTS = (sqlite3.Error, OSError)
"""What the file's trouble comes as."""
_UNFIT = (OverflowError, ValueError, sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError)
"""What a row that cannot be stored raises: text that is no UTF-8, or a number that is out of all reason."""
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class BooksError(Exception):
    """The file is not this version's; the message says what to do."""


class Damaged(Exception):
    """The file is no database any more."""


class Store:
    """The file; it is opened when it is first needed.

    ``config`` may be replaced at any time.  Apart from what each method says, it raises ``FAULTS`` where the file is
    out of reach, and Damaged where it is no database.
    """

    def __init__(
        self,
        path: Path,
        config: UsageConfig,
        migrations: Migrations = MIGRATIONS,
        busy_seconds: float = BUSY_SECONDS,
    ) -> None:
        self.path = path
        self.config = config
        self.note = ""
        """What was odd when it was opened, in a sentence for the log; empty where nothing was."""
        self._migrations = migrations
        self._busy_seconds = busy_seconds
        self._db: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open the file, make it, or bring it to this version's schema after a backup; raises BooksError too."""
        if self._db is not None:
            return
        _private(self.path)
        db = sqlite3.connect(self.path, timeout=self._busy_seconds, isolation_level=None)
        try:
            with _watched():
                self._prepare(db)
        except BaseException:
            db.close()
            raise
        self._db = db

    def _prepare(self, db: sqlite3.Connection) -> None:
        schema = _number(db, "PRAGMA user_version")
        application = _number(db, "PRAGMA application_id")
        empty = not _number(db, "SELECT count(*) FROM sqlite_master")
        if application != APPLICATION and not empty:
            raise BooksError(f"{self.path}: is another program's database; move it away.")
        if schema > SCHEMA:
            raise BooksError(
                f"{self.path}: was written by a newer version (schema {schema}, this one knows {SCHEMA}); start that"
                " version, or move the file away and begin anew."
            )
        if empty:
            # Only a database without tables takes it.
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        # Readers do not wait for the writer, and a commit does not wait for the disk; a crash of the machine may
        # lose the last commits, but leaves the file whole.  https://sqlite.org/wal.html
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA journal_size_limit = 16777216")
        db.execute("PRAGMA temp_store = MEMORY")
        db.execute("PRAGMA cache_size = -512")
        if empty:
            with _transaction(db, "EXCLUSIVE"):
                for statement in creation():
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION}")
                db.execute(f"PRAGMA user_version = {SCHEMA}")
        elif schema < SCHEMA:
            self._migrate(db, schema)
        for statement in places():
            db.execute(statement)

    def _migrate(self, db: sqlite3.Connection, schema: int) -> None:
        if schema not in self._migrations:
            raise BooksError(
                f"{self.path}: has schema {schema}, which no version of the gateway wrote; move the file away."
            )
        backup = self.path.with_name(f"{self.path.name}.schema{schema}.bak")
        backup.unlink(missing_ok=True)
        _private(backup)
        db.execute("VACUUM INTO ?", (str(backup),))
        before = schema
        with _transaction(db, "EXCLUSIVE"):
            while schema < SCHEMA:
                self._migrations[schema](db)
                schema += 1
            db.execute(f"PRAGMA user_version = {SCHEMA}")
        self.note = f"{self.path} was migrated from schema {before}; the old one is {backup}"

    def close(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            db, self._db = self._db, None
            with suppress(sqlite3.Error):
                db.close()

    def set_aside(self) -> Path:
        """Rename a file that is no database any more, so that another can begin; return its new name."""
        self.close()
        aside = self.path.with_name(self.path.name + ".corrupt")
        for end in FILES:
            with suppress(FileNotFoundError):
                os.replace(f"{self.path}{end}", f"{aside}{end}")
        return aside

    def write(self, rows: Sequence[Row]) -> int:
        """Write ROWS_MOST rows or less, all or none; return how many cannot be stored at all and were left out."""
        db = self._opened()
        with _watched():
            try:
                _put(db, rows)
            except _UNFIT:
                return sum(not _put_alone(db, row) for row in rows)
        return 0

    def prune(self, now: float) -> bool:
        """Forget what is too old, and the oldest where all is too much; say whether there is more to forget."""
        db, config = self._opened(), self.config
        with _watched():
            for table in ROLLUPS:
                with _transaction(db):
                    db.execute(f"DELETE FROM {table} WHERE at < ?", (now - config.keep_rollups,))  # noqa: S608
            bound = int((now - config.keep) * MICROSECONDS)
            for _ in range(CHUNKS_MOST):
                if not _forget_rows(db, bound):
                    break
            else:
                return True
            for _ in range(CHUNKS_MOST):
                if _used(db) <= config.size:
                    break
                if not (_forget_rows(db) or _forget_sums(db)):
                    break
            else:
                return True
            return _shrunk(db, config.size)

    def _opened(self) -> sqlite3.Connection:
        self.open()
        assert self._db is not None
        return self._db


def _put(db: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Keep rows in one step: between two, the interpreter is handed over, and a busy reactor seldom gives it back."""
    size = size_for(len(rows))
    db.execute(insertion(size), [*chain.from_iterable(rows), *NO_ROW * (size - len(rows))])


def _put_alone(db: sqlite3.Connection, row: Row) -> bool:
    """Write one row, under one of the next ids where its own is taken; return whether it can be stored."""
    for more in range(8):
        try:
            _put(db, [(row[0] + more, *row[1:])])
        except _UNFIT:
            continue
        return True
    return False


def _forget_rows(db: sqlite3.Connection, before: int | None = None) -> bool:
    """Delete some of the oldest requests, those before an id; say whether there were any."""
    bound = "" if before is None else f"WHERE id < {before}"
    with _transaction(db):
        found = db.execute(
            f"DELETE FROM requests WHERE id IN (SELECT id FROM requests {bound} ORDER BY id LIMIT {CHUNK_ROWS})"  # noqa: S608
        )
    return found.rowcount > 0


def _forget_sums(db: sqlite3.Connection) -> bool:
    """Delete the oldest hour's sums, or where there are none the oldest day's; say whether there were any."""
    for table in ROLLUPS:
        with _transaction(db):
            found = db.execute(f"DELETE FROM {table} WHERE at = (SELECT min(at) FROM {table})")  # noqa: S608
        if found.rowcount > 0:
            return True
    return False


def _used(db: sqlite3.Connection) -> int:
    """Return how many bytes of the file are not free."""
    pages = _number(db, "PRAGMA page_count") - _number(db, "PRAGMA freelist_count")
    return pages * _number(db, "PRAGMA page_size")


def _shrunk(db: sqlite3.Connection, size: int) -> bool:
    """Give free pages back where the file is larger than it may be; say whether there are more to give."""
    if _number(db, "PRAGMA page_count") * _number(db, "PRAGMA page_size") <= size:
        return False
    db.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
    # Only with this does the file itself become smaller.
    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    return _number(db, "PRAGMA freelist_count") > 0


def _number(db: sqlite3.Connection, statement: str) -> int:
    return int(db.execute(statement).fetchone()[0])


@contextmanager
def _transaction(db: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    db.execute(f"BEGIN {kind}")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


@contextmanager
def _watched() -> Iterator[None]:
    """Raise Damaged where SQLite says that the file is."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        # The lower eight bits are the primary code: https://sqlite.org/rescode.html.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
            raise Damaged(str(error)) from None
        raise


def _private(path: Path) -> None:
    """Make the file where it is not there, and see that it is this user's alone; raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | GUARDED, 0o600)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or is_strangers(found):
            raise PermissionError(f"{path}: is no file of this user's")
        if allows_more(found, 0o600):
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


