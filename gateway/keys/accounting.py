"""What is told of a key: to the operator a row, to its holder what it has used and what is left.  Pure."""

from __future__ import annotations

from typing import Any

from gateway.keys import grants
from gateway.keys.gcra import NANOSECONDS
from gateway.keys.grants import stamp
from gateway.keys.holders import Key
from gateway.keys.meters import Meter, Window

Row = dict[str, Any]


def row(key: Key, meter: Meter, now: float, wall: float) -> Row:
    """Return what the operator sees of a key; limits and usage as ``own`` has them."""
    former = [until for _, until in key.former if until > wall]
    return {
        "id": key.id,
        "name": key.name,
        "source": "made",
        "state": key.state(wall),
        "created": stamp(key.created),
        "rotated": stamp(key.rotated),
        "revoked": stamp(key.revoked),
        "former_good_until": stamp(max(former, default=None)),
        **grants.members(key.grant),
        "last_used": stamp(meter.last),
        **used(meter, now, wall),
    }


def configured(key_id: str, meter: Meter, now: float, wall: float) -> Row:
    """Return what the operator sees of a key of the configuration."""
    told = {"id": key_id, "name": "", "source": "configuration", "state": "active", "last_used": stamp(meter.last)}
    return {**told, **used(meter, now, wall)}


def own(key_id: str, key: Key | None, meter: Meter, now: float, wall: float) -> Row:
    """Return what the holder of a key is told; ``key`` is None where it was not made here."""
    return {
        "key": {
            "id": key_id,
            "name": "" if key is None else key.name,
            "expires": None if key is None else stamp(key.grant.expires),
            "models": [] if key is None else list(key.grant.models),
        },
        "now": stamp(wall),
        **used(meter, now, wall),
    }


def used(meter: Meter, now: float, wall: float) -> Row:
    """Return what a meter says: its limits with what is left of each, and what was used in this day and month."""
    meter.turn(wall)
    at, grant = int(now * NANOSECONDS), meter.grant
    limits: list[Row] = []
    if grant.concurrent:
        limits.append(_limit("concurrent", grant.concurrent, meter.under_way, None))
    for name, bucket in (("requests_per_minute", meter.requests), ("tokens_per_minute", meter.tokens)):
        if bucket is not None:
            full = max(0.0, bucket.arrival / bucket.limit / NANOSECONDS - now)
            limits.append(_limit(name, bucket.limit, bucket.used(at), wall + full))
    for name, value, spent, window in meter.shares():
        if value:
            limits.append(_limit(name, value, spent, window.ends))
    return {
        "under_way": meter.under_way,
        "limits": limits,
        "usage": {"day": _window(meter.day), "month": _window(meter.month)},
    }


def _limit(name: str, value: int, spent: int, renews: float | None) -> Row:
    """``renews`` is when all of it is there again."""
    return {"limit": name, "value": value, "used": spent, "left": max(0, value - spent), "renews": stamp(renews)}


def _window(window: Window) -> Row:
    return {
        "since": stamp(window.began),
        "until": stamp(window.ends),
        "requests": window.requests,
        "tokens": window.tokens,
        "micros": window.micros,
    }
