"""The usage of a running gateway: written down, asked for, and how the writing goes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from gateway.calls import GatewayError, Recorder
from gateway.config.tariff import UsageConfig
from gateway.usage.prices import Prices
from gateway.usage.recorder import UsageRecorder
from gateway.usage.schema import APPLICATION, SCHEMA
from gateway.usage.spending import Spent
from gateway.usage.writer import Writer

if TYPE_CHECKING:
    from gateway.usage.store import Store

FILE = "usage.db"
STOP_SECONDS = 10.0
"""How long the end waits for a disk that does not answer."""

_log = Logger(namespace="gateway.usage")

Row = dict[str, Any]
T = TypeVar("T")


class CannotKeep(Exception):
    """The file is not this version's; the message says what to do."""


class Books:
    """One gateway's usage; see spending.Spending.

    SQLite takes 1.5 MB and is imported when there is something to write or to read.  Without a ``directory`` there is
    nowhere to write: all is lost, and counted.  ``known`` says whether a model is in the catalogue.
    """

    def __init__(
        self,
        config: UsageConfig,
        directory: Path | None,
        reactor: Any,
        known: Callable[[str], bool] = lambda model: True,
    ) -> None:
        self.recorders: tuple[Recorder, ...] = ()
        """What is to be told of requests."""
        self._config = config
        self._reactor = reactor
        self._path = None if directory is None else directory / FILE
        self._store: Store | None = None
        self._writer: Writer | None = None
        self._nowhere = 0
        if not config.enabled:
            return
        put: Callable[[tuple[Any, ...]], None] = self._lose
        if self._path is not None:
            self._writer = Writer(self._made, time.time, time.monotonic, self._tell)
            put = self._writer.put
        self._recorder = UsageRecorder(Prices(config.prices), time.time, put, known)
        self.recorders = (self._recorder,)

    def check(self) -> None:
        """Look whether the file can be used; raises CannotKeep where it must not be.

        It is called before the start, and not in the thread that has the file from then on.
        """
        if self._writer is None or self._path is None or not self._path.exists() or _is_as_usual(self._path):
            return
        from gateway.usage.store import FAULTS, BooksError, Damaged, Store

        store = Store(self._path, self._config)
        try:
            store.open()
        except BooksError as error:
            raise CannotKeep(str(error)) from None
        except (Damaged, *FAULTS):
            # The writer sees the same, and knows what to do.
            pass
        finally:
            store.close()
        if store.note:
            _log.warn("{note}", note=store.note)

    def _made(self) -> Store:
        """Return the file for the writer, in whose thread this is called."""
        from gateway.usage.store import Store

        assert self._path is not None
        self._store = Store(self._path, self._config)
        return self._store

    def start(self) -> None:
        """Begin to write."""
        if self._writer is not None:
            self._writer.start()

    async def stop(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            await self._fired(self._writer.stop)
            self._writer = None

    def follow(self, config: UsageConfig) -> None:
        """Go by another configuration, except for whether anything is written at all."""
        if config.enabled != self._config.enabled:
            _log.warn("usage.enabled stays {was} until the next start", was=str(self._config.enabled).lower())
        self._config = config
        if self._store is not None:
            self._store.config = config
        if self.recorders:
            self._recorder.prices = Prices(config.prices)

    def spent(self, since: float) -> Mapping[str, Spent]:
        """Return what was used since a time; see spending.Spending."""
        if not self.recorders or self._path is None or not self._path.exists():
            return {}
        from gateway.usage import reports

        now = time.time()
        try:
            return reports.spent(self._path, since, now, now - self._config.keep)
        except reports.ReportError as error:
            _log.error("what was used until now is not known: {why}", why=str(error))
            return {}

    async def report(self, by: str, since: str, until: str, key: str, model: str) -> Row:
        """Return sums, up to what has just happened; see reports.asked and reports.report.  Raises GatewayError."""
        from gateway.usage import reports

        now = time.time()
        try:
            question = reports.asked(by, since, until, now, key, model)
        except ValueError as error:
            raise GatewayError(400, "INVALID_ARGUMENT", "QUERY_INVALID", f"This cannot be asked: {error}.") from None
        told = await self._asked(lambda path: reports.report(path, question, now - self._config.keep))
        return {**told, "lost": self.lost}

    async def requests(self, limit: int, after: int, before: int) -> list[Row]:
        """Return requests, the newest first; see reports.requests.  Raises GatewayError."""
        from gateway.usage import reports

        return await self._asked(lambda path: reports.requests(path, limit, after, before))

    async def _asked(self, ask: Callable[[Path], T]) -> T:
        from gateway.usage.reports import ReportError

        if self._writer is None or self._path is None:
            raise _unavailable("Usage is not written down: see usage.enabled, and whether state_dir can be used.")
        await self._fired(self._writer.flush)
        asked: Awaitable[T] = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), ask, self._path)
        try:
            return await asked
        except ReportError as error:
            raise _unavailable(str(error)) from None

    async def _fired(self, begin: Callable[[Callable[[], None]], None]) -> None:
        """Wait until the writer says that it is done, or for some seconds."""
        done: Deferred[None] = Deferred()

        def fire() -> None:
            if not done.called:
                done.callback(None)

        begin(lambda: self._reactor.callFromThread(fire))
        try:
            await done.addTimeout(STOP_SECONDS, self._reactor)
        except TimeoutError:
            _log.error("the disk does not answer: usage of the last seconds may be lost")

    @property
    def lost(self) -> int:
        """How many requests were not written down and never will be."""
        return self._nowhere + (0 if self._writer is None else self._writer.lost)

    @property
    def failing(self) -> str:
        """Why nothing can be written at present; empty while it can, or nobody wants it to be."""
        if self.recorders and self._path is None:
            return "the state directory cannot be used"
        return "" if self._writer is None else self._writer.failing

    @property
    def waiting(self) -> int:
        """How many requests wait to be written down."""
        return 0 if self._writer is None else self._writer.waiting

    def row(self) -> Row:
        """Return how the writing goes, for people."""
        return {"enabled": bool(self.recorders), "failing": self.failing, "waiting": self.waiting, "lost": self.lost}

    def _lose(self, row: tuple[Any, ...]) -> None:
        self._nowhere += 1

    def _tell(self, trouble: bool, sentence: str) -> None:
        # From the writer's thread; logs are written in the reactor's.
        self._reactor.callFromThread(_log.error if trouble else _log.info, "{sentence}", sentence=sentence)


def _is_as_usual(path: Path) -> bool:
    """Say whether a file's head is that of this version: https://sqlite.org/fileformat.html#the_database_header."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError:
        return False
    schema, application = (int.from_bytes(head[at : at + 4], "big") for at in (60, 68))
    return head.startswith(b"SQLite format 3\0") and (schema, application) == (SCHEMA, APPLICATION)


def _unavailable(message: str) -> GatewayError:
    return GatewayError(503, "UNAVAILABLE", "USAGE_UNAVAILABLE", message)
