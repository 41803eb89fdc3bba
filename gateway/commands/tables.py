"""Credentials and decisions as text for people.  Pure."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

Row = Mapping[str, Any]

HEADER = ("ACCOUNT", "KIND", "STATE", "WHY", "UNTIL", "QUOTA LEFT", "LAST USED", "IN LOGS AS")
TERMS = "TERMS"
"""One more column, where a credential has other terms than most."""
NONE = "-"


def accounts(rows: Iterable[Row], now: float) -> str:
    """Return the table of ``accounts list``; a credential that rests for several models takes a line for each."""
    rows = list(rows)
    told = any(terms(row) != NONE for row in rows)
    lines: list[Sequence[str]] = [(*HEADER, TERMS) if told else HEADER]
    links: list[str] = []
    for row in rows:
        name = full_name(row)
        tail = [quota(row["quota"]), ago(row["last_used"], now), row["label"] if row["label"] != name else NONE]
        tail += [terms(row)] if told else []
        if row["models"] and not row["reason"]:
            first, *others = row["models"]
            lines.append((name, row["kind"], row["state"], *_rest(first, now), *tail))
            lines += [("", "", other["state"], *_rest(other, now), *("" for _ in tail)) for other in others]
        else:
            why = "by an operator" if row["state"] == "disabled" else row["reason"] or NONE
            lines.append((name, row["kind"], row["state"], why, until(row), *tail))
        if row["link"]:
            links.append(f"{name}: its owner must open {printable(row['link'])}")
    return "\n".join([aligned(lines), *links])


def full_name(row: Row) -> str:
    """Return the name that tells a credential from all others."""
    return f"{row['upstream']}/{row['name']}"


def terms(row: Row) -> str:
    """Return how much a credential is used, as far as that is not how most are."""
    told = []
    if row["weight"] != 1:
        told.append(f"weight {row['weight']:g}")
    if row["priority"]:
        told.append(f"priority {row['priority']}")
    if row["max_concurrent"]:
        told.append(f"at most {row['max_concurrent']} at a time")
    return ", ".join(told) or NONE


def until(row: Row) -> str:
    """Return when a credential that is out as a whole is back."""
    return {"halted": "told to resume", "quarantined": "cleared", "disabled": "enabled"}.get(row["state"], NONE)


def explained(told: Row, now: float) -> str:
    """Return where a request would go and why nowhere else."""
    model = told["model"] if told["model"] == told["resolved"] else f"{told['model']} ({told['resolved']})"
    chosen = next((option for option in told["options"] if option["chosen"]), None)
    if chosen is not None:
        first = f"{told['verb']} of {model} goes to {full_name(chosen)}."
    else:
        waits = [option["free_seconds"] for option in told["options"] if option["free_seconds"] is not None]
        soonest = f"; the first is back {later(min(waits))}" if waits else ", and none comes back by itself"
        first = f"{told['verb']} of {model} goes to nobody now{soonest}."
    lines = [first]
    if told["session"]:
        on = told["session_on"]
        lines.append(f"Session {told['session']}: " + (f"on {on}." if on else "on none yet, or forgotten."))
    table = [("", "CREDENTIAL", "STATE", "WHY", "FREE", "IN LOGS AS")]
    for option in told["options"]:
        name, free = full_name(option), option["free_seconds"]
        why = option["reason"] or ("chosen" if option["chosen"] else NONE)
        table.append((
            "->" if option["chosen"] else "",
            name,
            option["state"],
            why,
            NONE if free is None else later(free),
            option["label"] if option["label"] != name else NONE,
        ))  # fmt: skip
    return "\n".join([*lines, "", aligned(table)])


def tested(result: Row) -> str:
    """Return how a test went."""
    name = full_name(result["account"])
    if result["good"]:
        count = "" if result["tokens"] is None else f" ({result['tokens']} tokens)"
        text = f"{name} works: it answered countTokens of {result['model']} in {result['seconds']:.2f} s{count}."
    else:
        answer = f"status {result['status']}, " if result["status"] else ""
        text = (
            f"{name} does not work: {answer}{result['reason'] or 'no reason given'}, after {result['seconds']:.2f} s:"
            f" {result['message']}"
        )
    if result["link"]:
        text += f"\nIts owner must open {result['link']}"
    state = result["account"]["state"]
    if result["good"] and state not in ("ok", "half-open"):
        text += f"\nIt is {state} all the same, and stays so until that is over or `antigravity accounts` ends it."
    return "\n".join(map(printable, text.split("\n")))


def quota(figures: Sequence[Row]) -> str:
    """Return the least that is left, and of which model; nothing is known where nothing was told."""
    if not figures:
        return "unknown"
    least = min(figures, key=lambda one: (one["remaining"], one["model"]))
    share = f"{math.floor(least['remaining'] * 100)} %"
    return share if all(one["remaining"] == least["remaining"] for one in figures) else f"{share} ({least['model']})"


def ago(stamp: str | None, now: float) -> str:
    """Return how long ago something was."""
    if stamp is None:
        return "never"
    seconds = now - _seconds(stamp)
    return f"{span(seconds)} ago" if seconds >= 1 else "now"


def later(seconds: float) -> str:
    """Return how far in the future something is."""
    return f"in {span(seconds)}" if seconds > 0 else "now"


def span(seconds: float) -> str:
    """Return a time of two units at most, such as ``2 h 13 min``."""
    whole = max(math.ceil(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(whole / 3600), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as columns, two blanks apart."""
    clean = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(*clean, strict=True)]
    return "\n".join(
        "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in clean
    )


def printable(text: str) -> str:
    """Return a text that cannot move a terminal's cursor: names and reasons come from elsewhere."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _rest(one: Row, now: float) -> tuple[str, str]:
    over = NONE if one["until"] is None else later(_seconds(one["until"]) - now)
    return f"{one['model']}: {one['reason'] or NONE}", over


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
