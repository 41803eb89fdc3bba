"""``antigravity usage``: who used what, of the running daemon or of the file alone."""

from __future__ import annotations

import csv
import io
from typing import Any

from gateway.accounts.statedir import StateDirectory
from gateway.commands import tables
from gateway.commands.accounts import Scene
from gateway.commands.adminclient import AdminClient, NotRunning, Refused
from gateway.commands.pool import Row
from gateway.config import load
from gateway.config.tariff import DEFAULT_USAGE
from gateway.usage import reports
from gateway.usage.books import FILE

QUERY = ("by", "since", "until", "key", "model")
HEADER = ("REQUESTS", "FAILED", "PROMPT", "CACHED", "CANDIDATES", "THOUGHTS", "MEAN TIME", "COST")
NOBODY = {"key": "-", "model": "(none served)", "credential": "(none)", "upstream": "(none)"}
"""What stands for an empty name."""


async def usage(scene: Scene) -> int:
    """Print the sums."""
    told = await _told(scene)
    if scene.wish.given["csv"]:
        scene.say(separated(told))
    else:
        scene.show(told, table(told))
    return 0


async def _told(scene: Scene) -> Row:
    given, place = scene.wish.given, scene.wish.place
    query = {name: given[name] or "" for name in QUERY}
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


def table(told: Row) -> str:
    """Return the sums for people, with their total."""
    by, total = told["by"], told["total"]
    lines: list[tuple[str, ...]] = [(by.upper(), *HEADER)]
    lines += [(row[by] or NOBODY[by], *_cells(row)) for row in told["rows"]]
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
