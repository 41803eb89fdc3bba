"""Write log events as lines of text or JSON, where twistd's options say.  Writes; reads nothing.

Twistd builds its own observer only where the application has none, so ours has to repeat its choice of place:
``--syslog``, ``--logfile`` with rotation, standard output in the foreground, ``twistd.log`` otherwise.  A
``--logger`` of the operator's goes before both.
"""

from __future__ import annotations

import enum
import json
import math
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import attrs
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import ILogObserver, LogEvent, formatEvent
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile
from zope.interface import implementer

from gateway.calls import Secret
from gateway.config import LogConfig

DEFAULT_LOG_FILE = "twistd.log"

_ORDER = ("debug", "info", "warn", "error", "critical")
_OURS = ("time", "level", "logger", "message", "failure")
"""The members of a JSON line that no field of an event replaces."""

_LEGACY = ("system", "format", "isError", "why", "logLevel", "debug", "printed", "syslogPriority")
"""What twisted.python.log adds to events that pass through it."""

_DEEPEST = 5
_SYSLOG_PRIORITIES = {"debug": "LOG_DEBUG", "info": "LOG_INFO", "warn": "LOG_WARNING", "error": "LOG_ERR"}


class Sink(Protocol):
    """What text is written to: a TextIO, or twistd's rotating LogFile."""

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

    def __call__(self, event: LogEvent) -> None:
        """Write one event.  A full disk or a closed pipe loses it, and costs nobody else anything."""
        level = _level(event)
        if _ORDER.index(level) < self._lowest:
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
            out.write(text)
        except UnicodeEncodeError:
            out.write(text.encode("ascii", "backslashreplace").decode("ascii"))
        out.flush()

    return _observer(emit, level, format)


def syslog_observer(prefix: str, level: str, format: str, send: Callable[[int, str], object]) -> LineObserver:
    """Return an observer that passes each line of an event to ``send(priority, line)``."""
    import syslog

    def emit(name: str, text: str) -> None:
        priority = getattr(syslog, _SYSLOG_PRIORITIES.get(name, "LOG_CRIT"))
        for line in text.splitlines():
            send(priority, line)

    syslog.openlog(prefix, 0, syslog.LOG_USER)
    return _observer(emit, level, format)


def install(
    application: Componentized, config: LogConfig, options: Mapping[str, Any], reactor: IReactorFromThreads
) -> None:
    """Make ``application`` log as ``config`` says to where twistd's ``options`` say.

    Call it when the application is known and twistd has not begun to log: in the top service's
    ``setServiceParent``.  Raises SystemExit where a daemon is told to log to standard output.
    """
    if options.get("logger"):
        return
    application.setComponent(ILogObserver, _chosen(config, options, reactor))


def text_line(event: LogEvent, level: str) -> str:
    """Return an event as ``time level logger: message``; a failure's lines follow, indented."""
    lines = [f"{_time(event)} {level} {_escaped(_logger(event))}: {_escaped(_message(event))}"]
    lines += [f"    {_escaped(line)}" for line in _failure(event).split("\n") if line]
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


def _chosen(config: LogConfig, options: Mapping[str, Any], reactor: IReactorFromThreads) -> LineObserver:
    if options.get("syslog"):
        import syslog

        return syslog_observer(options.get("prefix", "twisted"), config.level, config.format, syslog.syslog)
    name, foreground = options.get("logfile"), options.get("nodaemon")
    if name == "-" and not foreground:
        raise SystemExit("a daemon has no standard output to log to: name a file, or add -n")
    if name == "-" or (foreground and not name):
        return observer(sys.stdout, config.level, config.format)
    return observer(_rotating(name or DEFAULT_LOG_FILE, reactor), config.level, config.format)


def _rotating(name: str, reactor: IReactorFromThreads) -> LogFile:
    file: LogFile = LogFile.fromFullPath(name)

    def rotate(_signal: int, _frame: object) -> None:
        reactor.callFromThread(file.rotate)

    # As twistd does: SIGUSR1 rotates, unless somebody has taken that signal.
    if hasattr(signal, "SIGUSR1") and signal.getsignal(signal.SIGUSR1) in (None, signal.SIG_DFL):
        signal.signal(signal.SIGUSR1, rotate)
    return file


def _level(event: LogEvent) -> str:
    name = getattr(event.get("log_level"), "name", "info")
    return name if name in _ORDER else "info"


def _logger(event: LogEvent) -> str:
    namespace = str(event.get("log_namespace") or "-")
    # What still comes through twisted.python.log is Twisted's own.
    return "twisted" if namespace == "log_legacy" else namespace


def _time(event: LogEvent) -> str:
    moment = datetime.fromtimestamp(event.get("log_time") or 0.0, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(event: LogEvent) -> str:
    if event.get("isError") and "failure" in event:
        # twisted.python.log makes the whole traceback the message; it comes once, as the failure.
        return str(event.get("why") or "Unhandled Error")
    return formatEvent(event).strip()


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
