"""The tables of ``usage.db`` and what is said to them, in SQLite's SQL.  Pure.

``requests`` has a row for each request.  ``hours`` and ``days`` have their sums by key, model, upstream and credential,
which are added to with every row that is written, so that they are right at any moment and outlast the rows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from functools import cache
from typing import Any

SCHEMA = 1
APPLICATION = 0x41475755
"""SQLite's application_id: whose file this is."""
HOUR, DAY = 3600, 86_400
MICROSECONDS = 1_000_000
ROWS_MOST = 512
"""So many are kept in one transaction, by one statement, which has 4 KB of memory for each."""
AMOUNT_MOST = 10**12
"""No count of tokens is more: a sum of these stays far within 64 bits."""

_AMOUNT = f"INTEGER CHECK ({{name}} BETWEEN 0 AND {AMOUNT_MOST})"
COLUMNS: Mapping[str, str] = {
    "id": "INTEGER PRIMARY KEY",  # When the request ended, in microseconds since 1970; later ones have larger ids.
    "request_id": "TEXT NOT NULL",
    "key": "TEXT NOT NULL",
    "session": "TEXT NOT NULL",
    "method": "TEXT NOT NULL",
    "requested_model": "TEXT NOT NULL",
    "model": "TEXT NOT NULL",
    "upstream": "TEXT NOT NULL",
    "credential": "TEXT NOT NULL",
    "attempts": "INTEGER NOT NULL",
    "status": "INTEGER NOT NULL",
    "reason": "TEXT NOT NULL",
    "origin": "TEXT NOT NULL",
    "first_seconds": "REAL",
    "seconds": "REAL NOT NULL",
    "bytes_in": "INTEGER NOT NULL",
    "bytes_out": "INTEGER NOT NULL",
    "prompt": _AMOUNT.format(name="prompt"),  # Tokens; NULL where upstream told none.
    "candidates": _AMOUNT.format(name="candidates"),
    "thoughts": _AMOUNT.format(name="thoughts"),
    "cached": _AMOUNT.format(name="cached"),
    "finish": "TEXT NOT NULL",
    "micros": "INTEGER",  # Micro-dollars; NULL where there were no tokens, or their price is not known.
}
"""Those of ``requests``, in the order of a row."""
Row = tuple[Any, ...]
"""Their values."""

KINDS = ("key", "model", "upstream", "credential")
"""What sums are told apart by."""
MODEL_OF_ROW = "CASE WHEN credential = '' OR status = 404 THEN '' ELSE model END"
"""What was never served is not told apart by its name, which is the client's choice."""
MEASURES: Mapping[str, str] = {
    "requests": "count(*)",
    "failed": "sum(reason <> '' OR status >= 400)",
    "prompt": "ifnull(sum(prompt), 0)",
    "candidates": "ifnull(sum(candidates), 0)",
    "thoughts": "ifnull(sum(thoughts), 0)",
    "cached": "ifnull(sum(cached), 0)",
    "micros": "ifnull(sum(micros), 0)",
    "unpriced": "sum(prompt IS NOT NULL AND micros IS NULL)",
    "bytes_in": "sum(bytes_in)",
    "bytes_out": "sum(bytes_out)",
    "firsts": "count(first_seconds)",
    "first_seconds": "ifnull(sum(first_seconds), 0.0)",
    "seconds": "sum(seconds)",
}
"""What is summed, and how it is made of rows."""
ROLLUPS: Mapping[str, int] = {"hours": HOUR, "days": DAY}
"""Their tables, and how many seconds each of their rows is of."""


def creation() -> list[str]:
    """Return the statements that make the tables."""
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    statements = [f"CREATE TABLE requests ({columns})"]
    sums = ", ".join(f"{name} NOT NULL" for name in MEASURES)
    for table in ROLLUPS:
        kinds = ", ".join(f"{kind} TEXT NOT NULL" for kind in KINDS)
        statements.append(
            f"CREATE TABLE {table} (at INTEGER NOT NULL, {kinds}, {sums}, PRIMARY KEY (at, {', '.join(KINDS)}))"
            " WITHOUT ROWID"
        )
    return statements


def places() -> list[str]:
    """Return the statements that make the places for the rows of one transaction, and for their sums by hour.

    What is to be kept is added to the tables by a trigger, when the end has come: one step of SQLite's does all of it,
    and none of it where anything is wrong.
    """
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    return [
        f"CREATE TEMP TABLE batch ({columns})",
        f"CREATE TEMP TABLE sums (at, {', '.join((*KINDS, *MEASURES))})",
        f"CREATE TEMP TRIGGER keep AFTER INSERT ON batch WHEN new.id = {END_ID}"
        f" BEGIN {' '.join(f'{one};' for one in _keeping())} END",
    ]


NO_ROW: Row = (0,) * len(COLUMNS)
"""Fills up a statement.  It is no NULL, of which the interpreter's module makes exceptions, 0.3 us each."""
END_ID = -1
"""The id of what is no row, and comes behind the last one."""
SIZES = (1, 8, 32, 128, ROWS_MOST)
"""For how many rows there are statements; what one has room for and is not there is filled up."""


def size_for(count: int) -> int:
    """Return the size of the statement that takes so many rows, ROWS_MOST at most."""
    return SIZES[bisect_left(SIZES, count)]


@cache
def insertion(size: int) -> str:
    """Return the statement that keeps up to so many rows; the rest is NO_ROW."""
    row = f"({', '.join('?' * len(COLUMNS))})"
    end = f"({', '.join([str(END_ID), *['0'] * (len(COLUMNS) - 1)])})"
    return (
        f"INSERT INTO temp.batch SELECT * FROM (VALUES {', '.join([*[row] * size, end])})"  # noqa: S608
        " WHERE column1 <> 0"
    )


def _keeping() -> list[str]:
    """Return the trigger's statements; within one, names are those of any database that has them."""
    kinds, names = ", ".join(KINDS), ", ".join(MEASURES)
    kinds_of_row = ", ".join(MODEL_OF_ROW if kind == "model" else kind for kind in KINDS)
    more = ", ".join(f"{name} = {name} + excluded.{name}" for name in MEASURES)
    added = ", ".join(f"sum({name})" for name in MEASURES)
    statements = [
        f"DELETE FROM batch WHERE id = {END_ID}",  # noqa: S608
        "INSERT INTO requests SELECT * FROM batch",
        f"INSERT INTO sums SELECT id / {HOUR * MICROSECONDS} * {HOUR}, {kinds_of_row},"  # noqa: S608
        f" {', '.join(MEASURES.values())} FROM batch GROUP BY 1, 2, 3, 4, 5",
    ]
    # `WHERE true` tells the upsert from a join: https://sqlite.org/lang_upsert.html#parsing_ambiguity.
    statements += [
        f"INSERT INTO {table} (at, {kinds}, {names})"  # noqa: S608
        f" SELECT at / {seconds} * {seconds}, {kinds}, {added} FROM sums WHERE true GROUP BY 1, 2, 3, 4, 5"
        f" ON CONFLICT DO UPDATE SET {more}"
        for table, seconds in ROLLUPS.items()
    ]
    return [*statements, "DELETE FROM batch", "DELETE FROM sums"]
