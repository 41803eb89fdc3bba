"""Write log events as lines of text or JSON, where twistd's options say.  Writes; reads nothing.

Twistd builds its own observer only where the application has none, so ours has to repeat its choice of place:
``--syslog``, ``--logfile``, standard output in the foreground, ``twistd.log`` otherwise.  A
``--logger`` of the operator's goes before both.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from threading import get_ident
from typing import Any, Protocol

import attrs
import msgspec
from twisted.logger import ILogObserver, LogEvent
from twisted.python.components import Componentized
from zope.interface import implementer

from gateway.config import LogConfig
from gateway.config.log import SUBSYSTEMS
from gateway.operations.lines import json_line, plain_line, text_line
from gateway.operations.logfile import LogFile

DEFAULT_LOG_FILE = "twistd.log"

ACCESS = SUBSYSTEMS["access"]
NAMES_MOST = 256
WAITING_MOST = 64
"""How many lines wait at most for the end of a turn."""

_ORDER = ("debug", "info", "warn", "error", "critical")
_RANKS = {name: rank for rank, name in enumerate(_ORDER)}
_INFO, _URGENT = _RANKS["info"], _RANKS["warn"]
"""From the second on an event waits for nothing."""
_SYSLOG_PRIORITIES = {"debug": "LOG_DEBUG", "info": "LOG_INFO", "warn": "LOG_WARNING", "error": "LOG_ERR"}

Lines = Sequence[tuple[str, str]]
"""The level's name of each, and its text, which ends with a newline."""


class Sink(Protocol):
    """What text is written to: a TextIO, or a LogFile."""

    def write(self, text: str, /) -> object:
        """Take some text."""

    def flush(self) -> object:
        """Let the text out of buffers."""


@implementer(ILogObserver)
@attrs.define(eq=False, repr=False)
class LineObserver:
    """Formats the events from a level on and hands them on, each at once or those of a turn together; never raises."""

    _emit: Callable[[Lines], object]
    _lowest: int
    _format: Callable[[LogEvent, str], str]
    _levels: Mapping[str, int] = attrs.field(factory=dict)
    """By how loggers' names begin, where they have levels of their own."""
    _ranks: dict[str, int] = attrs.field(factory=dict)
    """By loggers' names, as found out from these."""
    lost: int = 0
    """How many lines could not be written."""
    left: list[tuple[str, str]] = attrs.field(factory=list)
    """The lines that wait for ``let_out``."""
    _thread: int = 0
    """Whose lines wait while they are gathered: others' find no turn that ends.  0, nobody's, while they are not."""

    takes_text: bool = attrs.field(init=False)
    """Whether of a request's event nothing is wanted but its line of text: see ``told``."""

    def __attrs_post_init__(self) -> None:
        self._look_at_text()

    def _look_at_text(self) -> None:
        self.takes_text = self._format is text_line and self._lowest_of(ACCESS) <= _INFO

    def level(self, lowest: str, levels: Mapping[str, str]) -> None:
        """Write events from this level on, those of some subsystems from others on."""
        self._lowest = _RANKS[lowest]
        self._levels = {SUBSYSTEMS[name]: _RANKS[level] for name, level in levels.items()}
        self._ranks.clear()
        self._look_at_text()

    def format(self, name: str) -> None:
        """Write them in this format."""
        self._format = _FORMATS[name]
        self._look_at_text()

    def gather(self) -> None:
        """Let the lines of this thread wait for ``let_out``, which whoever calls this promises to call soon.

        To write is what a line costs most.  What is urgent waits for nothing, and nothing waits behind it.
        """
        self._thread = get_ident()

    def let_out(self) -> None:
        """Write what waits."""
        if self.left:
            lines = self.left.copy()
            self.left.clear()
            self._write(lines)

    def at_once(self) -> None:
        """Write what waits, and from now on every event when it comes."""
        self._thread = 0
        self.let_out()

    def __call__(self, event: LogEvent) -> None:
        """Take one event.  A full disk or a closed pipe loses it, and costs nobody else anything."""
        level = getattr(event.get("log_level"), "name", "info")
        if level not in _RANKS:
            level = "info"
        rank = _RANKS[level]
        if rank < (self._lowest_of(event.get("log_namespace")) if self._levels else self._lowest):
            return
        try:
            line = self._format(event, level)
        except Exception:
            # Who logs is serving a client; there is nowhere left to report this to but a number.
            self.lost += 1
            return
        self._take(level, line, rank >= _URGENT)

    def told(self, seconds: float, namespace: str, message: str) -> None:
        """Take an event at info of which there is this text alone, where that is what it ``takes``."""
        self._take("info", plain_line(seconds, "info", namespace, message), False)

    def _take(self, level: str, line: str, urgent: bool) -> None:
        if get_ident() != self._thread:
            self._write([(level, line)])
            return
        self.left.append((level, line))
        if urgent or len(self.left) >= WAITING_MOST:
            self.let_out()

    def _lowest_of(self, name: object) -> int:
        """Return from which level on a logger's events are written."""
        if not self._levels:
            return self._lowest
        if not isinstance(name, str):
            name = ""
        found = self._ranks.get(name)
        if found is None:
            begins = [begin for begin in SUBSYSTEMS.values() if f"{name}.".startswith(begin and f"{begin}.")]
            # Events of others may have any name.
            if len(self._ranks) >= NAMES_MOST:
                self._ranks.clear()
            found = self._ranks[name] = self._levels.get(max(begins, key=len), self._lowest)
        return found

    def _write(self, lines: Lines) -> None:
        try:
            self._emit(lines)
        except Exception:
            self.lost += len(lines)


def observer(out: Sink, level: str, format: str) -> LineObserver:
    """Return an observer that writes events of ``level`` and above to ``out``.

    ``level`` is debug, info, warn or error; ``format`` is text, json, or auto, which is text.
    """

    def emit(lines: Lines) -> None:
        text = "".join([text for _, text in lines])
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

    def emit(lines: Lines) -> None:
        for name, text in lines:
            priority = getattr(syslog, _SYSLOG_PRIORITIES.get(name, "LOG_CRIT"))
            for line in text.splitlines():
                send(priority, line)

    syslog.openlog(prefix, 0, syslog.LOG_USER)
    return _observer(emit, level, format)


class Log(msgspec.Struct, frozen=True):
    """Where the log goes."""

    observer: LineObserver
    file: LogFile | None = None
    auto: str = "text"
    """The format where the configuration leaves it to the place."""

    def follow(self, config: LogConfig) -> None:
        """Write what ``config`` says, as it says, from now on."""
        self.observer.let_out()
        self.observer.level(config.level, dict(config.levels))
        self.observer.format(self.auto if config.format == "auto" else config.format)
        if self.file is not None:
            self.file.rotate_bytes, self.file.rotate_keep = config.rotate_bytes, config.rotate_keep

    def reopen(self) -> None:
        """Begin the file anew, if it is one that was renamed."""
        self.observer.let_out()
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
    log = _chosen(options)
    log.follow(config)
    application.setComponent(ILogObserver, log.observer)
    return log


_FORMATS: Mapping[str, Callable[[LogEvent, str], str]] = {
    "auto": text_line,
    "text": text_line,
    "json": json_line,
}


def _observer(emit: Callable[[Lines], object], level: str, format: str) -> LineObserver:
    return LineObserver(emit, _ORDER.index(level), _FORMATS[format])


def _chosen(options: Mapping[str, Any]) -> Log:
    if options.get("syslog"):
        import syslog

        return Log(syslog_observer(options.get("prefix", "twisted"), "info", "auto", syslog.syslog), auto="json")
    name, foreground = options.get("logfile"), options.get("nodaemon")
    if name == "-" and not foreground:
        raise SystemExit("a daemon has no standard output to log to: name a file, or add -n")
    if name == "-" or (foreground and not name):
        return Log(observer(sys.stdout, "info", "auto"), auto="json" if _is_journal(sys.stdout) else "text")
    try:
        file = LogFile(name or DEFAULT_LOG_FILE)
    except OSError as error:
        raise SystemExit(f"the log file cannot be opened: {error}") from None
    return Log(observer(file, "info", "auto"), file, "text" if foreground else "json")


def _is_journal(out: Any) -> bool:
    """Say whether what is written there goes to systemd's journal; see systemd.exec(5), $JOURNAL_STREAM."""
    try:
        mine = os.fstat(out.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{mine.st_dev}:{mine.st_ino}"
