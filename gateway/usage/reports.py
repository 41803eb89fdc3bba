"""What ``usage.db`` tells: sums by model, key and the like, and the requests themselves.  Reads the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs

from gateway.usage.moments import moment
from gateway.usage.schema import APPLICATION, COLUMNS, DAY, HOUR, MEASURES, MICROSECONDS, MODEL_OF_ROW, SCHEMA
from gateway.usage.spans import REQUESTS, Piece, pieces
from gateway.usage.spending import Spent

BUSY_SECONDS = 5.0
REQUESTS_MOST = 1000
"""So many requests are shown at once."""

Row = dict[str, Any]

_TIMES = {"hour": HOUR, "day": DAY}
BY = ("model", "key", "credential", "upstream", *_TIMES)
"""What sums can be told apart by."""


class ReportError(Exception):
    """The file tells nothing; the message says why."""


@attrs.frozen
class Question:
    """What is asked for."""

    by: str = "model"
    since: float = 0.0
    """Unix seconds."""
    until: float = 0.0
    """Before this."""
    key: str = ""
    """Only what was used with this key; empty for all."""
    model: str = ""
    """Only what this model was used for; empty for all."""


def asked(by: str, since: str, until: str, now: float, key: str = "", model: str = "") -> Question:
    """Return the question that texts ask, as moments.moment reads times; raises ValueError with a sentence.

    Without ``since`` it is of the last seven days, without ``until`` up to now.
    """
    if by not in BY:
        raise ValueError(f"sums are told apart by one of {', '.join(BY)}, not by {by[:40]!r}")
    if not (key + model).isprintable():
        raise ValueError("a key's id, or a model's, is text that can be printed")
    first, last = moment(since or "7d", now), moment(until or "now", now)
    if first >= last:
        raise ValueError("the span ends before it begins")
    return Question(by, first, last, key, model)


def report(path: Path, question: Question, kept_since: float) -> Row:
    """Return the sums, most costly first, times in their order, and the total of all.

    ``kept_since`` is since when requests are kept one by one; see spans.pieces.  Raises ReportError.
    """
    parts = pieces(question.since, question.until, kept_since, question.by == "hour")
    rows: list[Row] = []
    if parts and path.exists():
        with _reading(path) as db:
            rows = [] if db is None else _sums(db, question, parts)
    total = {name: sum(row[name] for row in rows) for name in MEASURES}
    return {
        "by": question.by,
        "since": stamp(parts[0].since if parts else question.since),
        "until": stamp(parts[-1].until if parts else question.until),
        "rows": rows,
        "total": total,
    }


def _sums(db: sqlite3.Connection, question: Question, pieces: list[Piece]) -> list[Row]:
    parts: list[str] = []
    values: list[int | str] = []
    for piece in pieces:
        fine = piece.table == REQUESTS
        scale = MICROSECONDS if fine else 1
        at, model = ("id", MODEL_OF_ROW) if fine else ("at", "model")
        label = {"model": model, **{name: f"{at} / {s * scale} * {s}" for name, s in _TIMES.items()}}
        sums = MEASURES.values() if fine else (f"sum({name})" for name in MEASURES)
        where = [f"{at} >= ?", f"{at} < ?"]
        values += [int(piece.since * scale), int(piece.until * scale)]
        for name, wanted in (("key", question.key), (model, question.model)):
            if wanted:
                where.append(f"{name} = ?")
                values.append(wanted)
        named = ", ".join(f"{made} AS {name}" for made, name in zip(sums, MEASURES, strict=True))
        parts.append(
            f"SELECT {label.get(question.by, question.by)} AS label, {named} FROM {piece.table}"  # noqa: S608
            f" WHERE {' AND '.join(where)} GROUP BY 1"
        )
    whole = ", ".join(f"sum({name}) AS {name}" for name in MEASURES)
    order = "label" if question.by in _TIMES else "micros DESC, requests DESC, label"
    found = db.execute(f"SELECT label, {whole} FROM ({' UNION ALL '.join(parts)}) GROUP BY 1 ORDER BY {order}", values)  # noqa: S608
    rows = []
    for label, *sums in found:
        shown = stamp(label) if question.by in _TIMES else label
        rows.append({question.by: shown, **dict(zip(MEASURES, sums, strict=True))})
    return rows


def requests(path: Path, limit: int, after: int = 0, before: int = 0) -> list[Row]:
    """Return requests, the newest first: at most so many, of ids after one and before another; 0 for any.

    Raises ReportError.
    """
    if not path.exists():
        return []
    with _reading(path) as db:
        if db is None:
            return []
        found = db.execute(
            f"SELECT {', '.join(COLUMNS)} FROM requests WHERE id > ? AND id < ? ORDER BY id DESC LIMIT ?",  # noqa: S608
            (after, before or 2**63 - 1, limit),
        )
        return [_shown(dict(zip(COLUMNS, row, strict=True))) for row in found]


def _shown(row: Row) -> Row:
    return {"at": stamp(row["id"] / MICROSECONDS), **row}


def spent(path: Path, since: float, now: float, kept_since: float) -> Mapping[str, Spent]:
    """Return what was used since a time, by key; raises ReportError."""
    rows = report(path, Question("key", since, now), kept_since)["rows"]
    return {
        row["key"]: Spent(row["requests"], row["prompt"] + row["candidates"] + row["thoughts"], row["micros"])
        for row in rows
    }


def stamp(at: float) -> str:
    """Return a time as text, to the millisecond where it has such."""
    moment = datetime.fromtimestamp(at, UTC)
    return moment.isoformat(timespec="milliseconds" if moment.microsecond else "seconds").replace("+00:00", "Z")


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Open the file for reading alone; None where it is empty yet.  Raises ReportError for all that goes wrong."""
    try:
        db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", timeout=BUSY_SECONDS, uri=True)
        try:
            application = db.execute("PRAGMA application_id").fetchone()[0]
            schema = db.execute("PRAGMA user_version").fetchone()[0]
            (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and (application, schema) != (APPLICATION, SCHEMA):
                raise ReportError(f"{path}: is not of this version (schema {schema}, this one knows {SCHEMA}).")
            yield db if tables else None
        finally:
            db.close()
    except sqlite3.Error as error:
        raise ReportError(f"{path}: cannot be read ({error}).") from None
