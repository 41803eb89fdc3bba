"""Read the times that upstreams write: durations, Retry-After, timestamps, the quota day.  Pure.

Nothing here raises on what an upstream sent: what cannot be read is ``None``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Final

import msgspec

_LONGEST: Final = 64
"""Characters; every notation read here is shorter."""

_PARTS: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h|d)")
_DURATION: Final = re.compile(rf"\+?(?:(?:{_PARTS.pattern})+|[0-9]+(?:\.[0-9]*)?)")
_UNITS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_TIMESTAMP: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]"
    r"([0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?)"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_DAY_SECONDS: Final = 86400.0


class Bounds(msgspec.Struct, frozen=True):
    """The least and the most seconds that a wait may have, whatever an upstream asks for."""

    least: float
    most: float

    def clamp(self, seconds: float) -> float:
        """Return ``seconds`` within the bounds; what is not a number is the least."""
        if math.isnan(seconds):
            return self.least
        return min(max(seconds, self.least), self.most)


SHORT: Final = Bounds(1.0, 3600.0)
"""A rate limit of a credential."""
LONG: Final = Bounds(1.0, 25 * 3600.0)
"""A daily quota; the longest day of Pacific time has 25 hours."""
BACKEND: Final = Bounds(1.0, 60.0)
"""A backend that has no capacity, or asks to be left alone."""


def duration(value: object) -> float | None:
    """Return the seconds of a duration as JSON carries it.

    Takes ``"34.07s"``, ``"900ms"``, ``"2h1m1s"``, ``"37"``, ``37``, ``1.5`` and
    ``{"seconds": 34, "nanos": 70000000}``, where ``seconds`` may be a string as in protobuf's JSON.
    A negative duration, and anything else, is ``None``.
    """
    if isinstance(value, Mapping):
        seconds, nanos = _number(value.get("seconds", 0)), _number(value.get("nanos", 0))
        if seconds is None or nanos is None or not ("seconds" in value or "nanos" in value):
            return None
        return _sensible(seconds + nanos * 1e-9)
    if isinstance(value, str):
        return _sensible(_spelled(value))
    return _sensible(_number(value))


def timestamp(value: object) -> float | None:
    """Return the Unix seconds of an RFC 3339 timestamp with an offset, such as ``2026-03-08T08:00:00Z``."""
    if not isinstance(value, str) or len(value) > _LONGEST:
        return None
    match = _TIMESTAMP.fullmatch(value.strip())
    if match is None:
        return None
    date, clock, offset = match.groups()
    try:
        return datetime.fromisoformat(f"{date}T{clock}{offset.upper()}").timestamp()
    except (ValueError, OverflowError):
        return None


def retry_after(value: bytes, wall_seconds: float) -> float | None:
    """Return the seconds that a Retry-After field asks for; a date in the past asks for none, 0.0.

    Seconds and all three forms of an HTTP-date are read (RFC 9110, sections 5.6.7 and 10.2.3).
    """
    text = value[: _LONGEST + 1].decode("latin-1").strip()
    if len(text) > _LONGEST:
        return None
    if text and text[0] in "0123456789.":
        return _sensible(_number(text))
    try:
        when = parsedate_to_datetime(text)
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return max(0.0, when.timestamp() - wall_seconds)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _zone(name: str) -> tzinfo:
    # Until a day's quota is used up for the first time, nobody has a use for it.
    from zoneinfo import ZoneInfo

    return ZoneInfo(name)


def pacific(load: Callable[[str], tzinfo] = _zone) -> tzinfo:
    """Return US Pacific time.

    zoneinfo looks into the system's database first and into the ``tzdata`` package next.  With neither,
    the answer is the standard offset: in summer a quota day then ends an hour late, never early.
    """
    try:
        return load("America/Los_Angeles")
    except (LookupError, OSError, ValueError):
        return timezone(timedelta(hours=-8), "PST")


_pacific: Final = cache(pacific)


def until_midnight_pacific(wall_seconds: float, zone: tzinfo | None = None) -> float:
    """Return the seconds from ``wall_seconds`` to the next midnight US Pacific, when daily quotas reset.

    Days on which the clocks change have 23 and 25 hours.
    """
    zone = zone or _pacific()
    try:
        today = datetime.fromtimestamp(wall_seconds, zone).date()
        midnight = datetime.combine(today + timedelta(days=1), time.min, zone)
        return midnight.timestamp() - wall_seconds
    except (ValueError, OverflowError, OSError):
        return _DAY_SECONDS


def _spelled(text: str) -> float | None:
    text = text.strip()
    if len(text) > _LONGEST or _DURATION.fullmatch(text) is None:
        return None
    parts = _PARTS.findall(text)
    if not parts:
        return _number(text)
    return math.fsum(float(amount) * _UNITS[unit] for amount, unit in parts)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and (len(value) > _LONGEST or not re.fullmatch(r"[+-]?[0-9.]+", value)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _sensible(seconds: float | None) -> float | None:
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return None
    return seconds
