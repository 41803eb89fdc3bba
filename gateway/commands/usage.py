"""``antigravity usage``: who used what, of the running daemon or of the file alone."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from gateway.accounts.statedir import StateDirectory
from gateway.commands import tables
from gateway.commands.accounts import Scene
from gateway.commands.adminclient import AdminClient, NotRunning, Refused
from gateway.commands.keyring import keys
from gateway.commands.pool import Row
from gateway.config import ConfigError, load
from gateway.config.tariff import DEFAULT_USAGE
from gateway.usage import reports
from gateway.usage.books import FILE

QUERY = ("by", "since", "until", "key", "model")
HEADER = ("REQUESTS", "FAILED", "PROMPT", "CACHED", "CANDIDATES", "THOUGHTS", "MEAN TIME", "COST")
NOBODY = {"key": "-", "model": "(none served)", "credential": "(none)", "upstream": "(none)"}
"""What stands for an empty name."""


async def usage(scene: Scene) -> int:
    """Print the sums."""
    names = await _names(scene) if scene.wish.given["by"] == "key" or scene.wish.given["key"] else {}
    told = await _told(scene, names)
    if scene.wish.given["csv"]:
        scene.say(separated(told))
    else:
        scene.show(told, table(told, names))
    return 0


async def _names(scene: Scene) -> Mapping[str, str]:
    """Return the names of the client keys by their ids, as far as they can be had; a key that lives comes last."""
    try:
        async with keys(scene.reactor, scene.wish.place, scene.environ) as (found, _):
            rows = await found.rows()
    except (Refused, ConfigError):
        return {}
    return {row["id"]: row["name"] for row in sorted(rows, key=lambda row: row["state"] != "revoked") if row["name"]}


async def _told(scene: Scene, names: Mapping[str, str]) -> Row:
    given, place = scene.wish.given, scene.wish.place
    query = {name: given[name] or "" for name in QUERY}
    query["key"] = {name: key_id for key_id, name in names.items()}.get(query["key"], query["key"])
    state = StateDirectory(place.directory(scene.environ))
    try:
        told: Row = await AdminClient(scene.reactor, state).get("/v1/usage", {k: v for k, v in query.items() if v})
    except NotRunning:
        keep = DEFAULT_USAGE.keep
        if place.config:
            keep = load(place.config, scene.environ, with_upstreams=False).usage.keep
        now = scene.wall_seconds()
        try:
            question = reports.asked(query["by"], query["since"], query["until"], now, query["key"], query["model"])
            told = reports.report(state.path / FILE, question, now - keep)
        except ValueError as error:
            raise Refused(f"This cannot be asked: {error}.") from None
        except reports.ReportError as error:
            raise Refused(str(error)) from None
    finally:
        state.close()
    return told


def table(told: Row, names: Mapping[str, str] | None = None) -> str:
    """Return the sums for people, with their total; ``names`` are those of client keys."""
    by, total = told["by"], told["total"]
    lines: list[tuple[str, ...]] = [(by.upper(), *HEADER)]
    for row in told["rows"]:
        label = row[by] or NOBODY[by]
        name = (names or {}).get(label, "") if by == "key" else ""
        lines.append((f"{name} ({label})" if name else label, *_cells(row)))
    lines.append(("total", *_cells(total)))
    notes = [f"From {told['since']} to before {told['until']}."]
    if total["unpriced"]:
        notes.append(
            f"+?: {total['unpriced']} requests have no known price and are not in the cost; usage.prices can set one."
        )
    if told.get("lost"):
        notes.append(f"{told['lost']} requests of this run were lost: see the gateway's log.")
    return "\n".join([tables.aligned(lines), "", *notes])


def _cells(sums: Row) -> tuple[str, ...]:
    mean = sums["seconds"] / sums["requests"] if sums["requests"] else 0.0
    counts = (str(sums[name]) for name in ("requests", "failed", "prompt", "cached", "candidates", "thoughts"))
    return (*counts, f"{mean:.2f} s", f"{sums['micros'] / 1e6:.4f} USD{' +?' if sums['unpriced'] else ''}")


def separated(told: Row) -> str:
    """Return the sums as CSV: RFC 4180, with a header."""
    by = told["by"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names: list[Any] = [by, *told["total"]]
    writer.writerow(names)
    writer.writerows([row[name] for name in names] for row in told["rows"])
    return text.getvalue().removesuffix("\n")
