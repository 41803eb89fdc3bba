"""The usage of a gateway as usage/books.py keeps it: with a file, without one, and turned off."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import TestCase

from gateway.calls import Ended, GatewayError
from gateway.config.tariff import Price, Rates, UsageConfig
from gateway.usage.books import FILE, Books, CannotKeep
from gateway.usage.spending import Spending, Spent
from tests.usage_rows import KEY, ended

reactor: Any = _reactor
PLAIN = ("model", "", "", "", "")
"""What is usual of a report's question."""


class BooksCase(TestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir()

    def begun(self, config: UsageConfig | None = None, directory: Path | None = None) -> Books:
        books = Books(config or UsageConfig(), directory or self.directory, reactor)
        books.check()
        books.start()
        self.addCleanup(books.stop)
        return books

    def tell(self, books: Books, *events: Ended) -> None:
        for event in events or (ended(),):
            for recorder in books.recorders:
                recorder.ended(event)

    async def refused(self, books: Books, *question: str) -> GatewayError:
        try:
            await books.report(*(question or PLAIN))
        except GatewayError as error:
            return error
        raise AssertionError("it was answered")


class BooksTests(BooksCase):
    async def test_a_report_is_up_to_what_has_just_happened(self) -> None:
        """Nothing has to be waited for."""
        books = self.begun()
        for count in (1, 2):
            self.tell(books)
            told = await books.report(*PLAIN)
            self.assertEqual((told["total"]["requests"], told["total"]["micros"], told["lost"]), (count, 88 * count, 0))
            self.assertEqual(len(await books.requests(10, 0, 0)), count)

    async def test_what_was_spent_outlasts_the_run(self) -> None:
        """For whoever counts by keys, at the start."""
        books: Any = self.begun()
        self.tell(books, ended(), ended(key_id="other", usage=None))
        await books.stop()
        again: Spending = self.begun()
        self.assertEqual(again.spent(0), {KEY: Spent(1, 18, 88), "other": Spent(1, 0, 0)})

    async def test_a_question_that_makes_no_sense_is_refused(self) -> None:
        """With the cure."""
        books = self.begun()
        for question in (("colour", "", "", "", ""), ("model", "soon", "", "", ""), ("key", "", "", "\ud800", "")):
            error = await self.refused(books, *question)
            self.assertEqual((error.code, error.reason), (400, "QUERY_INVALID"), question)

    async def test_a_file_that_cannot_be_read_is_told_of(self) -> None:
        """And what was spent is then not known, which is logged."""
        books = self.begun()
        self.tell(books)
        await books.stop()
        (self.directory / FILE).write_bytes(b"hello" * 1000)
        books = self.begun()
        error = await self.refused(books)
        self.assertEqual((error.code, error.reason), (503, "USAGE_UNAVAILABLE"))
        heard: list[LogEvent] = []
        globalLogPublisher.addObserver(heard.append)
        self.addCleanup(globalLogPublisher.removeObserver, heard.append)
        self.assertEqual(books.spent(0), {})
        self.assertEqual([event["log_level"].name for event in heard], ["error"])

    async def test_another_configuration_is_followed(self) -> None:
        """Prices at once; whether there is usage at all not before the next start."""
        books = self.begun()
        books.follow(UsageConfig(enabled=False, prices=(("*", Price(Rates(1, 1, 1))),)))
        self.tell(books)
        self.assertEqual((await books.report(*PLAIN))["total"]["micros"], 18)

    def test_a_newer_versions_file_must_not_be_used(self) -> None:
        """Which is said before anything starts."""
        db = sqlite3.connect(self.directory / FILE)
        db.execute("PRAGMA user_version = 99")
        db.close()
        self.assertRaises(CannotKeep, Books(UsageConfig(), self.directory, reactor).check)

    def test_a_damaged_or_locked_file_is_no_hindrance(self) -> None:
        """The writer knows what to do about it."""
        (self.directory / FILE).write_bytes(b"hello" * 1000)
        Books(UsageConfig(), self.directory, reactor).check()

    async def test_turned_off_nothing_is_recorded(self) -> None:
        """Nobody is to be told anything, and who asks is told why there is no answer."""
        books = self.begun(UsageConfig(enabled=False))
        self.assertEqual(books.recorders, ())
        self.assertEqual((await self.refused(books)).reason, "USAGE_UNAVAILABLE")
        self.assertEqual(books.spent(0), {})
        self.assertEqual(books.row(), {"enabled": False, "failing": "", "waiting": 0, "lost": 0})
        self.assertEqual(list(self.directory.iterdir()), [])

    async def test_without_a_directory_all_is_lost_and_counted(self) -> None:
        """Where the state directory cannot be used, requests are served all the same."""
        books = Books(UsageConfig(), None, reactor)
        books.check()
        books.start()
        self.tell(books, ended(), ended())
        self.assertEqual((books.lost, books.failing), (2, "the state directory cannot be used"))
        self.assertEqual((await self.refused(books)).reason, "USAGE_UNAVAILABLE")
        await books.stop()
