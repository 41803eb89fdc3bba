"""Write log events as lines of text or JSON, where twistd's options say.  Writes; reads nothing.

Twistd builds its own observer only where the application has none, so ours has to repeat its choice of place:
``--syslog``, ``--logfile``, standard output in the foreground, ``twistd.log`` otherwise.  A
``--logger`` of the operator's goes before both.
"""

from __future__ import annotations

import enum
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from string import Formatter
from typing import Any, Protocol

import attrs
from twisted.logger import ILogObserver, LogEvent, formatEvent
from twisted.python.components import Componentized
from zope.interface import implementer

from gateway.calls import Secret
from gateway.config import LogConfig
from gateway.operations.logfile import LogFile

DEFAULT_LOG_FILE = "twistd.log"

_ORDER = ("debug", "info", "warn", "error", "critical")
_RANKS = {name: rank for rank, name in enumerate(_ORDER)}
_OURS = ("time", "level", "logger", "message", "failure")
"""The members of a JSON line that no field of an event replaces."""

_LEGACY = ("system", "format", "isError", "why", "logLevel", "debug", "printed", "syslogPriority")
"""What twisted.python.log adds to events that pass through it."""

_DEEPEST = 5
_SYSLOG_PRIORITIES = {"debug": "LOG_DEBUG", "info": "LOG_INFO", "warn": "LOG_WARNING", "error": "LOG_ERR"}


class Sink(Protocol):
    """What text is written to: a TextIO, or a LogFile."""

    def write(self, text: str, /) -> object:
        """Take some text."""

    def flush(self) -> object:
        """Let the text out of buffers."""


@implementer(ILogObserver)
@attrs.define(eq=False)
class LineObserver:
    """Formats the events from a level on and hands each one on; never raises."""

    _emit: Callable[[str, str], object]
    """Takes the level's name and the text, which ends with a newline."""
    _lowest: int
    _format: Callable[[LogEvent, str], str]

    def level(self, lowest: str) -> None:
        """Write events from this level on."""
        self._lowest = _ORDER.index(lowest)

    def format(self, name: str) -> None:
        """Write them in this format."""
        self._format = _FORMATS[name]

    def __call__(self, event: LogEvent) -> None:
        """Write one event.  A full disk or a closed pipe loses it, and costs nobody else anything."""
        level = getattr(event.get("log_level"), "name", "info")
        if level not in _RANKS:
            level = "info"
        if _RANKS[level] < self._lowest:
            return
        try:
            self._emit(level, self._format(event, level))
        except Exception:  # noqa: S110
            # Who logs is serving a client; there is nowhere left to report this to.
            pass


def observer(out: Sink, level: str, format: str) -> LineObserver:
    """Return an observer that writes events of ``level`` and above to ``out``.

    ``level`` is debug, info, warn or error; ``format`` is text, json, or auto, which is text.
    """

    def emit(_level: str, text: str) -> None:
        try:
            try:
                out.write(text)
            except UnicodeEncodeError:
                out.write(text.encode("ascii", "backslashreplace").decode("ascii"))
            out.flush()
        except BrokenPipeError:
            if out is sys.stdout:
                _fall_silent()

    return _observer(emit, level, format)


def _fall_silent() -> None:
    # Nobody reads any more.  What is in the buffer would make the interpreter's end a failure.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def syslog_observer(prefix: str, level: str, format: str, send: Callable[[int, str], object]) -> LineObserver:
    """Return an observer that passes each line of an event to ``send(priority, line)``."""
    import syslog

    def emit(name: str, text: str) -> None:
        priority = getattr(syslog, _SYSLOG_PRIORITIES.get(name, "LOG_CRIT"))
        for line in text.splitlines():
            send(priority, line)

    syslog.openlog(prefix, 0, syslog.LOG_USER)
    return _observer(emit, level, format)


@attrs.frozen
class Log:
    """Where the log goes."""

    observer: LineObserver
    file: LogFile | None = None

    def follow(self, config: LogConfig) -> None:
        """Write what ``config`` says, as it says, from now on."""
        self.observer.level(config.level)
        self.observer.format(config.format)

    def reopen(self) -> None:
        """Begin the file anew, if it is one that was renamed."""
        if self.file is not None:
            self.file.reopen()


def install(application: Componentized, config: LogConfig, options: Mapping[str, Any]) -> Log | None:
    """Make ``application`` log as ``config`` says to where twistd's ``options`` say, and return that place.

    Call it when the application is known and twistd has not begun to log: in the top service's
    ``setServiceParent``.  Raises SystemExit where a daemon is told to log to standard output, or to a file that
    cannot be opened.  With a ``--logger`` of the operator's there is nothing to do, and nothing returned.
    """
    if options.get("logger"):
        return None
    log = _chosen(config, options)
    application.setComponent(ILogObserver, log.observer)
    return log


def text_line(event: LogEvent, level: str) -> str:
    """Return an event as ``time level logger: message``; a failure's lines follow, indented."""
    line = _escaped(f"{_time(event)} {level} {_logger(event)}: {_message(event)}")
    if "log_failure" not in event and "isError" not in event:
        return line + "\n"
    lines = [line, *(f"    {_escaped(more)}" for more in _failure(event).split("\n") if more)]
    return "\n".join(lines) + "\n"


def json_line(event: LogEvent, level: str) -> str:
    """Return an event as one JSON object on one line."""
    entry: dict[str, Any] = {
        "time": _time(event),
        "level": level,
        "logger": _text(_logger(event)),
        "message": _text(_message(event)),
    }
    entry.update(_fields(event))
    failure = _failure(event)
    if failure:
        entry["failure"] = _text(failure)
    return json.dumps(entry, allow_nan=False) + "\n"


_FORMATS: Mapping[str, Callable[[LogEvent, str], str]] = {
    "auto": text_line,
    "text": text_line,
    "json": json_line,
}


def _observer(emit: Callable[[str, str], object], level: str, format: str) -> LineObserver:
    return LineObserver(emit, _ORDER.index(level), _FORMATS[format])


def _chosen(config: LogConfig, options: Mapping[str, Any]) -> Log:
    if options.get("syslog"):
        import syslog

        return Log(syslog_observer(options.get("prefix", "twisted"), config.level, config.format, syslog.syslog))
    name, foreground = options.get("logfile"), options.get("nodaemon")
    if name == "-" and not foreground:
        raise SystemExit("a daemon has no standard output to log to: name a file, or add -n")
    if name == "-" or (foreground and not name):
        return Log(observer(sys.stdout, config.level, config.format))
    try:
        file = LogFile(name or DEFAULT_LOG_FILE)
    except OSError as error:
        raise SystemExit(f"the log file cannot be opened: {error}") from None
    return Log(observer(file, config.level, config.format), file)


def _logger(event: LogEvent) -> str:
    namespace = str(event.get("log_namespace") or "-")
    # What still comes through twisted.python.log is Twisted's own.
    return "twisted" if namespace == "log_legacy" else namespace


def _time(event: LogEvent) -> str:
    whole, part = divmod(int((event.get("log_time") or 0.0) * 1000), 1000)
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
        if name.startswith("log_") or name in _OURS or name in legacy:
            continue
        plain = _plain(value, 0)
        if plain is not _NOT_PLAIN:
            yield _text(name), plain


_NOT_PLAIN = object()


def _plain(value: object, depth: int) -> Any:
    """Return what JSON can show of a value, or _NOT_PLAIN."""
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
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def _escaped(value: str) -> str:
    """Return text on one line: what a terminal or a reader of lines would act on is shown as an escape."""
    if value.isprintable():
        return value
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in value)
