"""Times as people write them.  Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_AGO = re.compile(r"([0-9]{1,9})([mhdw])\Z")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
CURE = "write how long ago, such as 30m, 24h, 7d or 2w, or a time in UTC, such as 2026-11-01 or 2026-11-01T12:30"


def moment(text: str, now: float) -> float:
    """Return a time in Unix seconds; a time without a zone is UTC.  Raises ValueError with a sentence."""
    if text == "now":
        return now
    ago = _AGO.match(text)
    if ago is not None:
        return max(now - int(ago[1]) * _SECONDS[ago[2]], 0.0)
    try:
        found = datetime.fromisoformat(text)
        at = (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"{text[:40]!r} is no time; {CURE}") from None
    if at < 0:
        raise ValueError(f"{text[:40]!r} was before 1970; {CURE}")
    return at
