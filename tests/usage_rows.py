"""Rows of usage for the tests, and the ends of requests of which they are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.calls import Ended, Journal, Usage
from gateway.usage.prices import Prices
from gateway.usage.recorder import UsageRecorder
from gateway.usage.schema import ROWS_MOST, Row
from gateway.usage.store import Store

NOON = 1_790_000_000.0 // 86_400 * 86_400 + 43_200
"""A day's middle, in Unix seconds."""
KEY = "key-0123456789ab"
MODEL = "gemini-2.5-pro"


def ended(status: int = 200, reason: str = "", **more: Any) -> Ended:
    """A request's end after two seconds, of 10 + 5 + 3 tokens of which 4 were cached unless told otherwise."""
    usage = more.pop("usage", Usage(10, 5, 3, 4))
    finish, size = more.pop("finish", "STOP"), more.pop("size", 100)
    fields: dict[str, Any] = {
        "request_id": "id-1", "method": "POST", "verb": "generateContent", "path": "/v1beta/models/m:generateContent",
        "key_id": KEY, "requested_model": "asked-for", "model": MODEL, "session": "session-1", "upstream": "studio",
        "credential": "studio/first", "started": 100.0, "first_byte": 100.5, **more,
    }  # fmt: skip
    return Ended(Journal(**fields), status, reason, "upstream", 2.0, size, 2 * size, usage, finish)


def row(at: float = NOON, *, status: int = 200, reason: str = "", **more: Any) -> Row:
    """The row of a request that ended at a time."""
    rows: list[Row] = []
    UsageRecorder(Prices(), lambda: at, rows.append).ended(ended(status, reason, **more))
    return rows[0]


def fill(store: Store, rows: Sequence[Row]) -> None:
    """Write any number of rows."""
    for begin in range(0, len(rows), ROWS_MOST):
        store.write(rows[begin : begin + ROWS_MOST])
