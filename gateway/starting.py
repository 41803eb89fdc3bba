"""What a start needs before it listens, and how one ends that cannot go on.  Does I/O."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from gateway.accounts import store
from gateway.accounts.keeper import Keeper
from gateway.accounts.ledger import LedgerError
from gateway.accounts.statedir import StateDirectory
from gateway.config.tariff import UsageConfig
from gateway.keys.book import Book
from gateway.keys.bookfile import BookError
from gateway.usage.books import Books, CannotKeep
from gateway.usage.spending import Spending

_log = Logger(namespace="gateway")


class CannotStart(SystemExit, Exception):
    """The start ends here, with status 1.

    It is an Exception too, because of nothing else twistd tells the shell that started a daemon: that shell would
    wait for ever, and the pid file would stay.
    """


def cannot_start(sentence: str) -> CannotStart:
    """Log why there is no start, and return what ends it."""
    _log.critical("{why}", why=sentence)
    error = CannotStart(sentence)
    # A number as its code lets the interpreter end without saying it all again.
    error.code = 1
    return error


def open_state(path: Path) -> StateDirectory:
    """Return the state directory, locked where it can be used; raises CannotStart where it must not be."""
    state = StateDirectory(path)
    try:
        state.open()
    except store.StoreError as error:
        raise cannot_start(str(error)) from None
    except OSError as error:
        _log.warn("the state directory cannot be used, and nothing outlasts this run: {why}", why=str(error))
    return state


def load_standings(keeper: Keeper, owned: bool) -> None:
    """Take up what the last run kept; raises CannotStart where a newer version wrote it.

    Nothing is ever written where the directory is not ``owned``.
    """
    try:
        keeper.load(owned)
    except LedgerError as error:
        raise cannot_start(str(error)) from None
    except OSError as error:
        _log.warn("the standings of the last run cannot be read: {why}", why=str(error))


def open_books(config: UsageConfig, state: StateDirectory, reactor: Any, known: Callable[[str], bool]) -> Books:
    """Return what writes usage down; raises CannotStart where a newer version wrote it."""
    books = Books(config, state.path if state.locked else None, reactor, known)
    try:
        books.check()
    except CannotKeep as error:
        raise cannot_start(str(error)) from None
    return books


def load_keys(book: Book, owned: bool, spending: Spending) -> None:
    """Take up the client keys that were made, and what all keys have used in the day and month of now.

    Raises CannotStart where it cannot be known which keys there are.
    """
    try:
        book.load(owned)
    except BookError as error:
        raise cannot_start(str(error)) from None
    except OSError as error:
        raise cannot_start(f"{error.filename or book.file.path}: cannot be read: {error.strerror}") from None
    book.meters.restore(spending)


def forget_sources() -> None:
    """Let go of the source text of what attrs generated, half a megabyte that it keeps for debuggers."""
    linecache.clearcache()
