"""A span of time, taken apart into what the days', the hours' and the requests' tables have of it.  Pure."""

from __future__ import annotations

import attrs

from gateway.usage.schema import DAY, HOUR

REQUESTS, HOURS, DAYS = "requests", "hours", "days"


@attrs.frozen
class Piece:
    """A part of a span, and the table that is asked for it."""

    table: str
    since: float
    """Unix seconds; the piece begins here."""
    until: float
    """It ends before this."""


def pieces(since: float, until: float, kept_since: float, hourly: bool = False) -> list[Piece]:
    """Return the pieces of a span: as much from the coarsest tables as they have of it exactly, the rest finer.

    Requests are kept one by one since ``kept_since`` alone: of what was before, whole hours are all that is known, and
    the span grows to them.  ``hourly`` is for whoever needs to tell hours apart.
    """
    if since < kept_since:
        since = _floor(since, HOUR)
    if _floor(until, HOUR) < kept_since:
        until = _ceiling(until, HOUR)
    if until <= since:
        return []
    first, last = _ceiling(since, HOUR), _floor(until, HOUR)
    if first >= last:
        return [Piece(REQUESTS, since, until)]
    found = [Piece(REQUESTS, since, first), *_whole_hours(first, last, hourly), Piece(REQUESTS, last, until)]
    return [piece for piece in found if piece.since < piece.until]


def _whole_hours(first: float, last: float, hourly: bool) -> list[Piece]:
    begin, end = _ceiling(first, DAY), _floor(last, DAY)
    if hourly or begin >= end:
        return [Piece(HOURS, first, last)]
    return [Piece(HOURS, first, begin), Piece(DAYS, begin, end), Piece(HOURS, end, last)]


def _floor(at: float, seconds: int) -> float:
    return at // seconds * seconds


def _ceiling(at: float, seconds: int) -> float:
    return -(-at // seconds) * seconds
