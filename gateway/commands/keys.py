"""``antigravity keys``: client keys made and steered, whether or not the daemon runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.commands import keytables
from gateway.commands.accounts import Run, Scene
from gateway.commands.adminclient import Refused
from gateway.commands.keyring import keys
from gateway.commands.pool import Row
from gateway.keys import grants

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN = re.compile(r"([1-9][0-9]{0,8})([smhdw])\Z")
_NUMBERS = {
    "requests-per-minute": "requests_per_minute",
    "concurrent": "concurrent",
    "tokens-per-minute": "tokens_per_minute",
    "tokens-per-day": "tokens_per_day",
}
_BUDGETS = {"budget-per-day": "micros_per_day", "budget-per-month": "micros_per_month"}


def chosen(rows: Sequence[Row], name: str) -> Row:
    """Return the row of the key of that name or id: one that is not revoked, where there is one; raises Refused."""
    named = [row for row in rows if name in (row["id"], row["name"]) and name]
    live = [row for row in named if row["state"] != "revoked"]
    if not named:
        raise Refused(f"There is no key {name!r}; `antigravity keys list` lists them.")
    return (live or named)[-1]


def wished(given: Mapping[str, Any], wall: float) -> dict[str, Any]:
    """Return what the options say, as the members of a key; raises Refused."""
    members: dict[str, Any] = {}
    for option, value in given.items():
        if value is None:
            continue
        try:
            if option == "expires":
                members["expires"] = None if value == "never" else grants.stamp(_moment(value, wall))
            elif option in ("models", "networks"):
                members[option] = [] if value == "all" else [one.strip() for one in value.split(",")]
            elif option in _NUMBERS:
                members[_NUMBERS[option]] = _number(value, int)
            elif option in _BUDGETS:
                members[_BUDGETS[option]] = _number(value, grants.micros_of)
        except ValueError as problem:
            raise Refused(f"--{option} {value!r} {problem}.") from None
    return members


def _moment(text: str, wall: float) -> float:
    return wall + _seconds(text) if _SPAN.match(text) else grants.moment(text)


def _seconds(text: str) -> int:
    found = _SPAN.match(text)
    if found is None:
        raise ValueError("is no span of time; write such as 30m, 12h or 7d")
    return int(found[1]) * _UNITS[found[2]]


def _number(text: str, read: Callable[[str], int]) -> int | None:
    if text == "default":
        return None
    if text == "none":
        return 0
    try:
        number = read(text)
    except ValueError:
        number = 0
    if number <= 0:
        raise ValueError("is no number above 0, nor `none` or `default`")
    return number


async def listed(scene: Scene) -> int:
    """``keys list``."""
    async with keys(scene.reactor, scene.wish.place, scene.environ) as (at_hand, runs):
        rows = await at_hand.rows()
    if not scene.wish.given["all"]:
        rows = [row for row in rows if row["state"] != "revoked"]
    lines = [keytables.listed(rows, scene.wall_seconds())] if rows else ["There is no client key yet."]
    if not runs:
        lines.append("(The gateway does not run: this is what its files say.)")
    scene.show({"running": runs, "keys": rows}, "\n".join(lines))
    return 0


async def shown(scene: Scene) -> int:
    """``keys show``."""
    async with keys(scene.reactor, scene.wish.place, scene.environ) as (at_hand, runs):
        row = chosen(await at_hand.rows(), scene.wish.names[0])
    scene.show({"running": runs, "key": row}, keytables.shown(row, scene.wall_seconds()))
    return 0


async def created(scene: Scene) -> int:
    """``keys create``."""
    members = {"name": scene.wish.names[0], **wished(scene.wish.given, scene.wall_seconds())}
    async with keys(scene.reactor, scene.wish.place, scene.environ) as (at_hand, _):
        row, secret = await at_hand.create(members)
    scene.show({"key": row, "secret": secret}, keytables.secret(row, secret, "Made"))
    return 0


async def changed(scene: Scene) -> int:
    """``keys change``."""
    members = wished(scene.wish.given, scene.wall_seconds())
    if scene.wish.given["rename"] is not None:
        members["name"] = scene.wish.given["rename"]
    async with keys(scene.reactor, scene.wish.place, scene.environ) as (at_hand, _):
        row = await at_hand.change(chosen(await at_hand.rows(), scene.wish.names[0])["id"], members)
    scene.show({"key": row}, keytables.shown(row, scene.wall_seconds()))
    return 0


async def rotated(scene: Scene) -> int:
    """``keys rotate``."""
    grace = scene.wish.given["grace"]
    try:
        seconds = 0 if grace in (None, "0") else _seconds(grace)
    except ValueError as problem:
        raise Refused(f"--grace {grace!r} {problem}.") from None
    async with keys(scene.reactor, scene.wish.place, scene.environ) as (at_hand, _):
        row = chosen(await at_hand.rows(), scene.wish.names[0])
        row, secret = await at_hand.rotate(row["id"], seconds)
    scene.show({"key": row, "secret": secret}, keytables.secret(row, secret, "Rotated"))
    return 0


async def revoked(scene: Scene) -> int:
    """``keys revoke``."""
    done = []
    async with keys(scene.reactor, scene.wish.place, scene.environ) as (at_hand, _):
        rows = await at_hand.rows()
        for row in [chosen(rows, name) for name in scene.wish.names]:
            done.append(await at_hand.revoke(row["id"]))
    lines = [keytables.revoked(row, changed) for row, changed in done]
    scene.show({"keys": [{"changed": changed, **row} for row, changed in done]}, "\n".join(lines))
    return 0


COMMANDS: Mapping[str, Run] = {
    "list": listed,
    "show": shown,
    "create": created,
    "change": changed,
    "rotate": rotated,
    "revoke": revoked,
}
"""By the word on the command line."""
