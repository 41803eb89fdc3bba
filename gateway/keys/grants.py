"""What a client key may do, as its maker says and as it is written down.  Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import attrs

MICROS: Final = 10**6
"""Micro-dollars in a dollar."""
NAME_MOST: Final = 64
ENTRIES_MOST: Final = 100
"""Models, and networks, of one key."""
NUMBER_MOST: Final = 10**15
TIME_MOST: Final = 253_402_300_799.0
"""The end of the year 9999, which is as far as RFC 3339 goes."""
UNIX: Final = "unix"
"""Stands among networks for whoever comes through a unix socket."""

_MODEL = re.compile(r"[A-Za-z0-9._@+\-/*]{1,256}\Z")
_MONEY = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,6}))?\Z")


@attrs.frozen
class Grant:
    """Of each number: None where the configuration's default counts, 0 for no limit."""

    expires: float | None = None
    """Seconds since 1970, as all times here; None for never."""
    models: tuple[str, ...] = ()
    """Names as clients write them or as they are resolved; ``*`` stands for any text.  Empty: all."""
    networks: tuple[str, ...] = ()
    """Whom it is good for; empty: everybody."""
    requests_per_minute: int | None = None
    concurrent: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    micros_per_day: int | None = None
    """Micro-dollars, as ``micros_per_month``."""
    micros_per_month: int | None = None


NOTHING = Grant()
"""What a key has of which nothing is said: all models from everywhere, within the configuration's limits."""


def granted(members: Mapping[str, Any], before: Grant) -> Grant:
    """Return a grant with these members in the place of what it had; raises ValueError with a sentence."""
    changes: dict[str, Any] = {}
    for name, value in members.items():
        reader = READERS.get(name)
        if reader is None:
            raise ValueError(f"`{name}` is nothing that a key has; it has {', '.join(READERS)}")
        try:
            changes[name] = reader(value)
        except ValueError as problem:
            raise ValueError(f"`{name}` {problem}") from None
    return attrs.evolve(before, **changes)


def members(grant: Grant) -> dict[str, Any]:
    """Return a grant as JSON has it."""
    return {
        **attrs.asdict(grant),
        "expires": stamp(grant.expires),
        "models": list(grant.models),
        "networks": list(grant.networks),
    }


def stamp(seconds: float | None) -> str | None:
    """Return a time in UTC as RFC 3339 has it, the last that there is for one beyond it."""
    return None if seconds is None else f"{datetime.fromtimestamp(min(seconds, TIME_MOST), UTC):%Y-%m-%dT%H:%M:%SZ}"


def moment(text: str) -> float:
    """Return the time of a day or of a point in it, in UTC where no offset is named; raises ValueError."""
    try:
        found = datetime.fromisoformat(text)
        seconds = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        seconds = -1.0
    if not 0 <= seconds <= TIME_MOST:
        raise ValueError("is no time; write such as 2027-01-31 or 2027-01-31T12:00:00Z")
    return seconds


def name_of(value: Any) -> str:
    """Return a key's name; raises ValueError with a sentence."""
    text = value.strip() if isinstance(value, str) else ""
    if not text or len(text) > NAME_MOST or not text.isprintable() or "/" in text or text.startswith("."):
        raise ValueError(f"a key has a name of 1 to {NAME_MOST} printable characters, without / and no dot in front")
    return text


def dollars(micros: int) -> str:
    """Return an amount of money for people: in whole cents, or more exactly where it is."""
    whole, rest = divmod(micros, MICROS)
    return f"${whole}.{f'{rest:06d}'.rstrip('0'):0<2}"


def micros_of(text: str) -> int:
    """Return the micro-dollars of an amount such as 12.50; raises ValueError with a sentence."""
    found = _MONEY.match(text.strip().removeprefix("$"))
    if found is None:
        raise ValueError("is no amount of US dollars; write such as 12.50")
    return int(found[1]) * MICROS + int(f"{found[2] or '':0<6}")


def _expires(value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("is a time as 2027-01-31T12:00:00Z, or null")
    return moment(value)


def _models(value: Any) -> tuple[str, ...]:
    names = _texts(value)
    for name in names:
        if not _MODEL.match(name):
            raise ValueError(f"holds {name!r}, which is no model's name; write such as gemini-2.5-flash or gemini-*")
    return names


def _networks(value: Any) -> tuple[str, ...]:
    found = []
    for text in _texts(value):
        try:
            found.append(text if text == UNIX else str(ipaddress.ip_network(text)))
        except ValueError:
            raise ValueError(
                f"holds {text!r}, which is no address or network; write such as 10.0.0.5, 10.0.0.0/24, 2001:db8::/64"
                " or unix"
            ) from None
    return tuple(found)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError("is a list of texts")
    if len(value) > ENTRIES_MOST:
        raise ValueError(f"holds {len(value)}, and may hold {ENTRIES_MOST}")
    return tuple(dict.fromkeys(one.strip() for one in value))


def _number(value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= NUMBER_MOST:
        raise ValueError("is a whole number from 0, which is no limit, or null for the configuration's default")
    return value


READERS: Mapping[str, Callable[[Any], Any]] = {
    "expires": _expires,
    "models": _models,
    "networks": _networks,
    "requests_per_minute": _number,
    "concurrent": _number,
    "tokens_per_minute": _number,
    "tokens_per_day": _number,
    "micros_per_day": _number,
    "micros_per_month": _number,
}
"""Every member of a grant, and what reads it from JSON; each raises ValueError."""
