"""Turn log events into lines of text or JSON."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from string import Formatter
from typing import Any

import msgspec
from twisted.logger import LogEvent, formatEvent

from gateway.calls import Secret

_OURS = ("time", "level", "logger", "message", "failure")
"""The members of a JSON line that no field of an event replaces."""

_LEGACY = ("system", "format", "isError", "why", "logLevel", "debug", "printed", "syslogPriority")
"""What twisted.python.log adds to events that pass through it."""

_DEEPEST = 5


def text_line(event: LogEvent, level: str) -> str:
    """Return an event as ``time level logger: message``; a failure's lines follow, indented."""
    line = plain_line(event.get("log_time") or 0.0, level, _logger(event), _message(event))
    if "log_failure" not in event and "isError" not in event:
        return line
    lines = [line[:-1], *(f"    {_escaped(more)}" for more in _failure(event).split("\n") if more)]
    return "\n".join(lines) + "\n"


def plain_line(seconds: float, level: str, logger: str, message: str) -> str:
    """Return the line of text of an event that has no failure; ``seconds`` are those of ``time.time``."""
    return _escaped(f"{_time(seconds)} {level} {logger}: {message}") + "\n"


def json_line(event: LogEvent, level: str) -> str:
    """Return an event as one JSON object on one line."""
    entry: dict[str, Any] = {
        "time": _time(event.get("log_time") or 0.0),
        "level": level,
        "logger": _text(_logger(event)),
        "message": _text(_message(event)),
    }
    entry.update(_fields(event))
    failure = _failure(event)
    if failure:
        entry["failure"] = _text(failure)
    return _json(entry) + "\n"


def _json(entry: dict[str, Any]) -> str:
    """Return an object as JSON in ASCII, which no terminal and no reader of lines acts on."""
    quick = msgspec.json.encode(entry)
    if quick.isascii():
        return quick.decode("ascii")
    return json.dumps(entry, allow_nan=False, separators=(",", ":"))


def _logger(event: LogEvent) -> str:
    namespace = str(event.get("log_namespace") or "-")
    # What still comes through twisted.python.log is Twisted's own.
    return "twisted" if namespace == "log_legacy" else namespace


def _time(seconds: float) -> str:
    whole, part = divmod(int(seconds * 1000), 1000)
    return f"{_second(whole)}.{part:03d}Z"


@lru_cache(maxsize=8)
def _second(second: int) -> str:
    """Return a moment in UTC without its fraction; many lines fall into one second."""
    return datetime.fromtimestamp(second, UTC).isoformat().removesuffix("+00:00")


def _message(event: LogEvent) -> str:
    if event.get("isError") and "failure" in event:
        # twisted.python.log makes the whole traceback the message; it comes once, as the failure.
        return str(event.get("why") or "Unhandled Error")
    template = event.get("log_format")
    if type(template) is str and _plain_format(template):
        try:
            return template.format_map(event).strip()
        except Exception:
            # Twisted says in its place what is wrong with the event.
            return formatEvent(event).strip()
    return formatEvent(event).strip()


@lru_cache(maxsize=256)
def _plain_format(template: str) -> bool:
    """Say whether a format needs nothing but Python's own formatting; else Twisted has to read it.

    Twisted's own formatting of a line costs several times what the line is about.  It also knows calls, attributes,
    items and conversions; formats that have none of these mean here what they mean there.
    """
    try:
        parts = [(name or "", spec or "", change) for _, name, spec, change in Formatter().parse(template)]
    except ValueError:
        return False
    return not any(change or "{" in spec or (name and not name.isidentifier()) for name, spec, change in parts)


def _failure(event: LogEvent) -> str:
    failure = event.get("log_failure")
    if failure is None and event.get("isError"):
        failure = event.get("failure")
    if failure is None:
        return ""
    try:
        # Without detail="verbose": local variables hold prompts and tokens.
        return str(failure.getTraceback()).strip("\n")
    except Exception:
        return f"{getattr(failure, 'type', 'an exception')} whose traceback cannot be shown"


def _fields(event: LogEvent) -> Iterator[tuple[str, Any]]:
    legacy = _LEGACY if "isError" in event else ()
    for name, value in event.items():
        if name[:4] == "log_" or name in _OURS or name in legacy:
            continue
        plain = value if type(value) in _AS_IT_IS else _plain(value, 0)
        if plain is not _NOT_PLAIN:
            yield _text(name), plain


_NOT_PLAIN = object()
_AS_IT_IS = (int, bool, type(None))


def _plain(value: object, depth: int) -> Any:
    """Return what JSON can show of a value, or _NOT_PLAIN."""
    if type(value) is str:
        return _text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return _plain(value.value, depth)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Secret):
        return "..."
    if depth < _DEEPEST and isinstance(value, (list, tuple)):
        return [item for item in (_plain(one, depth + 1) for one in value) if item is not _NOT_PLAIN]
    if depth < _DEEPEST and isinstance(value, Mapping):
        shown = {_text(str(name)): _plain(one, depth + 1) for name, one in value.items()}
        return {name: one for name, one in shown.items() if one is not _NOT_PLAIN}
    return _NOT_PLAIN


def _text(value: str) -> str:
    """Return text that UTF-8 can carry."""
    if value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def _escaped(value: str) -> str:
    """Return text on one line: what a terminal or a reader of lines would act on is shown as an escape."""
    if value.isprintable():
        return value
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in value)
