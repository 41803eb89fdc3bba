"""Client keys as text for people.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from gateway.commands.tables import NONE, ago, aligned, later, printable
from gateway.keys.grants import dollars

Row = Mapping[str, Any]

HEADER = ("KEY", "ID", "STATE", "EXPIRES", "LIMITS", "TODAY", "THIS MONTH", "LAST USED")
LIMITS: Mapping[str, str] = {
    "concurrent": "{} at a time",
    "requests_per_minute": "{}/min",
    "tokens_per_minute": "{} tokens/min",
    "tokens_per_day": "{} tokens/day",
    "micros_per_day": "{}/day",
    "micros_per_month": "{}/month",
}
"""How each limit is told in a few words."""


def listed(rows: Iterable[Row], now: float) -> str:
    """Return the table of ``keys list``."""
    lines: list[Sequence[str]] = [HEADER]
    for row in rows:
        limits = ", ".join(LIMITS[one["limit"]].format(amount(one["limit"], one["value"])) for one in row["limits"])
        more = [name for name in ("models", "networks") if row.get(name)]
        lines.append(
            (
                row["name"] or "(configuration)",
                row["id"],
                row["state"],
                _until(row.get("expires"), now),
                "; ".join([limits, *more] if limits else more) or NONE,
                used(row["usage"]["day"]),
                used(row["usage"]["month"]),
                ago(row["last_used"], now),
            )
        )
    return aligned(lines)


def shown(row: Row, now: float) -> str:
    """Return all of a key."""
    lines: list[Sequence[str]] = [
        ("Key", row["name"] or "(of the configuration)"),
        ("Id", row["id"]),
        ("State", row["state"]),
    ]
    for label, name in (("Made", "created"), ("Rotated", "rotated"), ("Old secret ends", "former_good_until"),
                        ("Revoked", "revoked"), ("Expires", "expires")):  # fmt: skip
        if row.get(name):
            lines.append((label, f"{row[name]} ({_moment(row[name], now)})"))
    for label, name in (("Models", "models"), ("Networks", "networks")):
        lines.append((label, ", ".join(row.get(name, ())) or "all"))
    for one in row["limits"]:
        name, value = one["limit"], one["value"]
        left = f"{amount(name, one['left'])} left"
        lines.append(("Limit", f"{LIMITS[name].format(amount(name, value))}: {left}"))
    if not row["limits"]:
        lines.append(("Limits", "none"))
    lines += [
        ("Today", used(row["usage"]["day"])),
        ("This month", used(row["usage"]["month"])),
        ("Last used", ago(row["last_used"], now)),
    ]
    return aligned(lines)


def secret(row: Row, text: str, done: str) -> str:
    """Return what is told of a key's secret, once."""
    name = printable(row["name"])
    lines = [f"{done} {name} ({row['id']}).  This is the key, which is not shown again:", "", text, ""]
    if row["former_good_until"]:
        lines.append(f"The old one is good until {row['former_good_until']}.")
    elif row["rotated"]:
        lines.append("The old one is refused from now on.")
    lines.append("Clients send it where they would send a Gemini API key.")
    return "\n".join(lines)


def revoked(row: Row, changed: bool) -> str:
    """Return what became of a revoked key."""
    return f"{printable(row['name'])} ({row['id']}) is revoked{'' if changed else ', as it was'}."


def amount(limit: str, number: int) -> str:
    """Return a number of a limit's."""
    return dollars(number) if limit.startswith("micros") else str(number)


def used(window: Row) -> str:
    """Return what was used in a time."""
    if not window["requests"]:
        return NONE
    return f"{window['requests']} req, {window['tokens']} tokens, {dollars(window['micros'])}"


def _until(stamp: str | None, now: float) -> str:
    return NONE if stamp is None else _moment(stamp, now)


def _moment(stamp: str, now: float) -> str:
    seconds = datetime.fromisoformat(stamp).timestamp() - now
    return later(seconds) if seconds > 0 else ago(stamp, now)
