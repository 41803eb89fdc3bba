"""The log: lines of text and JSON, and where twistd's options send them."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

from twisted.application.service import Application
from twisted.logger import ILogObserver, Logger, LogLevel, LogPublisher, formatEvent
from twisted.python import log as legacy
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

import gateway
from gateway.calls import Secret
from gateway.config import LogConfig
from gateway.config.log import SUBSYSTEMS
from gateway.operations.lines import text_line
from gateway.operations.logs import WAITING_MOST, install, observer, syslog_observer

OWN = "gateway.operations.recorders"
"""Tells of recorders that failed, whatever they record."""
NOON = 1767268800.25
"""2026-01-01T12:00:00.250Z"""


class Broken(io.StringIO):
    """A file on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def event(log_format: str, level: Any = LogLevel.info, **fields: Any) -> dict[str, Any]:
    return {
        "log_format": log_format,
        "log_level": level,
        "log_namespace": "gateway.edge",
        "log_time": NOON,
        **fields,
    }


def raised(message: str) -> Failure:
    try:
        prompt = "what the user asked".upper()
        assert prompt
        raise ValueError(message)
    except ValueError:
        return Failure(captureVars=True)


def text(one: dict[str, Any], level: str = "debug") -> str:
    out = io.StringIO()
    observer(out, level, "text")(one)
    return out.getvalue()


def entry(one: dict[str, Any]) -> dict[str, Any]:
    out = io.StringIO()
    observer(out, "debug", "json")(one)
    assert out.getvalue().count("\n") == 1
    found = json.loads(out.getvalue())
    assert isinstance(found, dict)
    return found


class TextLines(SynchronousTestCase):
    """What a person reads."""

    def test_formats_mean_what_they_mean_to_twisted(self) -> None:
        """The quick way of formatting and Twisted's own give the same text, and the same complaint."""
        values = {"a": 1, "b": "two", "seconds": 1.25, "none": None, "call": lambda: "called", "pair": ("x", "y")}
        formats = (
            "{a} {b}", "{seconds:.3f} s", "{b:>5}|", "{{}} {a}", "plain", "{none}", "{b!r}", "{call()}", "{pair[0]}",
            "{a.real}", "{missing}", "{b:d}", "{", "{a:{seconds}}", "{pair}", " {a} ",
        )  # fmt: skip
        for template in formats:
            given = event(template, **values)
            line = text_line(given, "info").removesuffix("\n")
            self.assertEqual(line.partition("gateway.edge: ")[2], formatEvent(given).strip(), template)

    def test_line_has_time_level_logger_and_message(self) -> None:
        """An event is one line: UTC time, level, who says it, and what."""
        self.assertEqual(
            text(event("attempt {n} on {credential}", n=2, credential="first")),
            "2026-01-01T12:00:00.250Z info gateway.edge: attempt 2 on first\n",
        )

    def test_client_cannot_forge_a_line(self) -> None:
        """Line ends, escapes and direction marks in a value are shown, not obeyed."""
        for given, shown in (
            ("a\r\nb", r"a\r\nb"),
            ("\x1b[2J", r"\x1b[2J"),
            ("\x00\x7f\x9b", r"\x00\x7f\x9b"),
            ("\u2028\u202e", r"\u2028\u202e"),
            ("\ud800", r"\ud800"),
            ("Grüße, 世界", "Grüße, 世界"),
        ):
            line = text(event("model {model}", model=given))
            self.assertEqual(line.partition("gateway.edge: ")[2], f"model {shown}\n")

    def test_failure_follows_indented(self) -> None:
        """A traceback's lines stand below the event, and none of them can pass for an event."""
        failure = raised("first\n2026-01-01T12:00:00.250Z info gateway.edge: forged\r")
        first, *rest = text(event("it broke", log_failure=failure)).splitlines()
        self.assertTrue(first.endswith("gateway.edge: it broke"))
        self.assertTrue(all(line.startswith("    ") for line in rest))
        self.assertIn("    Traceback (most recent call last):", rest)
        self.assertIn(r"forged\r", rest[-1])

    def test_local_variables_stay_out(self) -> None:
        """A traceback shows no variable's value, for prompts and tokens are such values."""
        shown = text(event("it broke", log_failure=raised("no")))
        self.assertIn("ValueError: no", shown)
        self.assertNotIn("USER ASKED", shown)

    def test_secret_is_not_shown(self) -> None:
        """A Secret in a message is three dots."""
        self.assertIn("key '...'\n", text(event("key {key}", key=Secret("hidden"))))

    def test_failure_of_the_old_log_comes_once(self) -> None:
        """What twisted.python.log.err writes is one event with one traceback."""
        publisher = LogPublisher()
        out = io.StringIO()
        old = legacy.LogPublisher(publishPublisher=publisher, observerPublisher=LogPublisher())
        publisher.addObserver(observer(out, "info", "text"))
        old.msg(failure=raised("no"), why="while saving", isError=1)
        first, *rest = out.getvalue().splitlines()
        self.assertTrue(first.endswith(" critical twisted: while saving"), first)
        self.assertEqual([line.strip() for line in rest].count("builtins.ValueError: no"), 1)

    def test_ascii_terminal_gets_escapes(self) -> None:
        """A stream that cannot encode a character still gets its line."""
        raw = io.BytesIO()
        out = io.TextIOWrapper(raw, encoding="ascii")
        observer(out, "info", "text")(event("Grüße"))
        self.assertTrue(raw.getvalue().endswith(b"gateway.edge: Gr\\xfc\\xdfe\n"))


class JsonLines(SynchronousTestCase):
    """What a machine reads."""

    def test_event_is_one_object_with_its_fields(self) -> None:
        """Time, level, logger, message, and the event's own plain fields."""
        self.assertEqual(
            entry(event("model {model}\nend", LogLevel.warn, model="m", n=3, ok=True, none=None)),
            {
                "time": "2026-01-01T12:00:00.250Z",
                "level": "warn",
                "logger": "gateway.edge",
                "message": "model m\nend",
                "model": "m",
                "n": 3,
                "ok": True,
                "none": None,
            },
        )

    def test_line_is_ascii_whatever_it_tells(self) -> None:
        """What is not becomes an escape, so that no terminal and no reader of lines acts on it."""
        out = io.StringIO()
        for shown in ("plain", "Grüße \u2028\x9b"):
            observer(out, "info", "json")(event("{shown}", shown=shown, n=10**30))
        self.assertTrue(out.getvalue().isascii())
        shown = [json.loads(line)["shown"] for line in out.getvalue().splitlines()]
        self.assertEqual(shown, ["plain", "Grüße \u2028\x9b"])

    def test_exception_keeps_its_text(self) -> None:
        """The failure's traceback and message are there."""
        found = entry(event("it broke", log_failure=raised("the reason")))
        self.assertIn("ValueError: the reason", found["failure"])
        self.assertIn("Traceback", found["failure"])

    def test_secret_is_three_dots_at_any_depth(self) -> None:
        """A Secret among the fields does not show itself."""
        found = entry(event("x", key=Secret("hidden"), keys=[{"a": Secret("hidden")}]))
        self.assertEqual((found["key"], found["keys"]), ("...", [{"a": "..."}]))

    def test_odd_values_do_not_break_the_line(self) -> None:
        """Bytes are decoded, numbers beyond JSON are text, objects are left out."""
        circle: list[Any] = []
        circle.append(circle)
        found = entry(event("x", raw=b"\xff", big=float("inf"), half="\ud800", odd=object(), circle=circle))
        self.assertEqual((found["raw"], found["big"], found["half"]), ("\\xff", "inf", "\\ud800"))
        self.assertNotIn("odd", found)
        self.assertIn("circle", found)

    def test_fields_do_not_replace_the_line_s_own(self) -> None:
        """An event's field named like one of ours does not hide it."""
        self.assertEqual(entry(event("real", message="fake", level="fake"))["message"], "real")

    def test_old_log_s_bookkeeping_is_left_out(self) -> None:
        """An event that went through twisted.python.log shows no isError and no system."""
        found = entry(event("x", isError=0, system="-", time=1.0, format="x", n=1))
        self.assertEqual(set(found), {"time", "level", "logger", "message", "n"})


class Observing(SynchronousTestCase):
    """Both formats alike."""

    def test_it_is_an_observer(self) -> None:
        """The object provides what Twisted asks of an observer."""
        verifyObject(ILogObserver, observer(io.StringIO(), "info", "auto"))

    def test_events_below_the_level_are_dropped(self) -> None:
        """Each level lets itself and what is worse through."""
        names = ("debug", "info", "warn", "error", "critical")
        for lowest in names[:-1]:
            seen = [name for name in names if text(event("x", LogLevel.lookupByName(name)), lowest)]
            self.assertEqual(seen, list(names[names.index(lowest) :]))

    def test_subsystems_may_have_levels_of_their_own(self) -> None:
        """By how their loggers' names begin, the longest that fits; the others keep the level of all."""
        out = io.StringIO()
        one = observer(out, "info", "text")
        one.level("warn", {"admin": "debug", "gateway": "info", "twisted": "error", "wire": "error"})
        wanted = {
            ("gateway.admin", "debug"): True,
            ("gateway.admin.more", "debug"): True,
            ("gateway.administrator", "debug"): False,
            ("gateway.administrator", "info"): True,
            ("gateway", "info"): True,
            ("gateway", "debug"): False,
            ("gateway.wire", "warn"): False,
            ("gateway.wire", "error"): True,
            ("gateway.edge.relay", "info"): False,
            ("gateway.edge.relay", "warn"): True,
            ("log_legacy", "warn"): False,
            ("twisted.web", "error"): True,
            (None, "warn"): False,
            (Unprintable(), "warn"): False,
        }
        for _ in range(2):
            for (name, level), shown in wanted.items():
                out.truncate(out.seek(0))
                one({**event("x", LogLevel.lookupByName(level)), "log_namespace": name})
                self.assertEqual(bool(out.getvalue()), shown, (name, level))
        one.level("debug", {})
        one(event("x", LogLevel.debug))
        self.assertIn("x", out.getvalue())

    def test_every_logger_is_of_a_subsystem_that_can_be_named(self) -> None:
        """And every subsystem has loggers, so none is named in vain."""
        root = Path(gateway.__file__).parent
        found = set()
        for path in root.rglob("*.py"):
            parts = path.relative_to(root).with_suffix("").parts
            for name in re.findall(r"\bLogger\((?:namespace=\"([^\"]*)\")?\)", path.read_text("utf-8")):
                found.add(name or ".".join(("gateway", *parts)))
        found = {one for one in found if "simulator" not in one}
        fits = {name: {begin for begin in SUBSYSTEMS.values() if f"{name}.".startswith(f"{begin}.")} for name in found}
        self.assertEqual({name for name, begins in fits.items() if begins <= {"gateway"}}, {"gateway", OWN})
        self.assertEqual(set(SUBSYSTEMS.values()) - set.union(*fits.values()), {""})

    def test_lines_that_are_lost_are_counted(self) -> None:
        """Those of a full disk, and those that cannot be formatted."""
        broken = observer(Broken(), "info", "text")
        broken.gather()
        broken(event("one"))
        broken(event("two"))
        broken.let_out()
        self.assertEqual(broken.lost, 2)
        unprintable = observer(io.StringIO(), "info", "text")
        unprintable({**event("x"), "log_namespace": Unprintable()})
        unprintable(event("y"))
        self.assertEqual(unprintable.lost, 1)

    def test_auto_is_text(self) -> None:
        """Without a choice, lines are for people."""
        out = io.StringIO()
        observer(out, "info", "auto")(event("x"))
        self.assertEqual(out.getvalue(), text(event("x")))

    def test_full_disk_does_not_reach_the_caller(self) -> None:
        """A log that cannot be written costs the event and nothing else."""
        seen: list[Any] = []
        publisher = LogPublisher(observer(Broken(), "info", "text"), seen.append)
        Logger(observer=publisher).info("x")
        self.assertEqual(len(seen), 1)

    def test_event_without_anything_is_still_written(self) -> None:
        """An event from elsewhere may lack every member."""
        self.assertEqual(text({}), "1970-01-01T00:00:00.000Z info -: \n")

    def test_syslog_gets_lines_with_priorities(self) -> None:
        """Each line goes out by itself, at the event's severity."""
        import syslog

        sent: list[tuple[int, str]] = []
        to_syslog = syslog_observer("trial", "info", "text", lambda *line: sent.append(line))
        to_syslog(event("one", LogLevel.warn))
        to_syslog(event("two", LogLevel.critical, log_failure=raised("no")))
        self.assertEqual(sent[0][0], syslog.LOG_WARNING)
        self.assertEqual({priority for priority, _ in sent[1:]}, {syslog.LOG_CRIT})
        self.assertFalse([line for _, line in sent if "\n" in line])


class Pieces:
    """A file that keeps what each write gave it."""

    def __init__(self) -> None:
        self.written: list[list[str]] = []

    def write(self, text: str) -> None:
        self.written.append([line.partition("gateway.edge: ")[2] for line in text.splitlines()])

    def flush(self) -> None:
        """Nothing waits here."""


class Unprintable:
    """What has no text."""

    def __str__(self) -> str:
        raise ValueError("no")


class Gathering(SynchronousTestCase):
    """The lines of a turn go out together, and none is lost for it."""

    def setUp(self) -> None:
        self.out = Pieces()
        self.observer = observer(self.out, "debug", "text")
        self.observer.gather()

    def test_lines_of_a_turn_are_one_write(self) -> None:
        """In their order, when the turn is over; a turn without lines writes nothing."""
        self.observer(event("one"))
        self.observer(event("two", LogLevel.debug))
        self.assertEqual(self.out.written, [])
        self.observer.let_out()
        self.observer.let_out()
        self.assertEqual(self.out.written, [["one", "two"]])

    def test_what_is_urgent_waits_for_nothing(self) -> None:
        """A warning and what is worse is written when it comes, behind what came before it."""
        for level in (LogLevel.warn, LogLevel.error, LogLevel.critical):
            self.observer(event("before"))
            self.observer(event("urgent", level))
        self.assertEqual(self.out.written, [["before", "urgent"]] * 3)

    def test_a_long_turn_writes_now_and_then(self) -> None:
        """No more waits than is said."""
        for number in range(WAITING_MOST + 1):
            self.observer(event("{number}", number=number))
        self.assertEqual(self.out.written, [[str(number) for number in range(WAITING_MOST)]])

    def test_other_threads_do_not_wait(self) -> None:
        """The reactor may be at rest, and its turn be long in coming."""
        thread = threading.Thread(target=self.observer, args=(event("elsewhere"),))
        thread.start()
        thread.join()
        self.assertEqual(self.out.written, [["elsewhere"]])

    def test_at_the_end_nothing_waits_any_more(self) -> None:
        """What waited is written, and what comes behind it at once."""
        self.observer(event("waits"))
        self.observer.at_once()
        self.observer(event("last"))
        self.assertEqual(self.out.written, [["waits"], ["last"]])

    def test_one_that_has_no_text_costs_no_other(self) -> None:
        """An event that cannot be formatted is lost by itself."""
        self.observer(event("one"))
        self.observer({**event("two"), "log_namespace": Unprintable()})
        self.observer(event("three"))
        self.observer.let_out()
        self.assertEqual(self.out.written, [["one", "three"]])

    def test_a_full_disk_does_not_reach_the_reactor(self) -> None:
        """A turn whose lines cannot be written goes on."""
        broken = observer(Broken(), "info", "text")
        broken.gather()
        broken(event("lost"))
        broken.let_out()

    def test_syslog_gets_each_at_its_own_priority(self) -> None:
        """There a line is a message, whatever it waits with."""
        import syslog

        sent: list[tuple[int, str]] = []
        to_syslog = syslog_observer("trial", "debug", "text", lambda *line: sent.append(line))
        to_syslog.gather()
        for level in (LogLevel.debug, LogLevel.info):
            to_syslog(event("x", level))
        self.assertEqual(sent, [])
        to_syslog.let_out()
        self.assertEqual([priority for priority, _ in sent], [syslog.LOG_DEBUG, syslog.LOG_INFO])

    def test_what_waits_is_written_before_the_log_changes(self) -> None:
        """By the rules under which it came, and into the file of its time."""
        path = Path(self.mktemp())
        log = install(Application("trial"), LogConfig("debug", "text"), {"logfile": str(path)})
        assert log is not None
        log.observer.gather()
        log.observer(event("one"))
        log.follow(LogConfig("debug", "json"))
        log.observer(event("two"))
        log.reopen()
        kept = path.with_name("renamed")
        path.rename(kept)
        log.observer(event("three"))
        log.observer.let_out()
        first, second = kept.read_text().splitlines()
        self.assertTrue(first.endswith(": one"))
        self.assertEqual(json.loads(second)["message"], "two")
        self.assertEqual(json.loads(path.read_text())["message"], "three")


class Installing(SynchronousTestCase):
    """Twistd's own choice of place is kept."""

    def installed(self, **options: Any) -> Any:
        application = Application("trial")
        install(application, LogConfig("info", "json"), options)
        return application.getComponent(ILogObserver, None)

    def test_foreground_writes_to_standard_output(self) -> None:
        """With -n and no file, the stream is standard output as it is at that time."""
        out = io.StringIO()
        before, sys.stdout = sys.stdout, out
        self.addCleanup(setattr, sys, "stdout", before)
        for options in ({"nodaemon": True}, {"nodaemon": True, "logfile": "-"}):
            self.installed(**options)(event("here"))
        self.assertEqual(out.getvalue().count('"message":"here"'), 2)

    def test_logfile_is_written(self) -> None:
        """The named file gets the lines."""
        name = self.mktemp()
        self.installed(nodaemon=True, logfile=name)(event("here"))
        with open(name) as file:
            self.assertEqual(json.load(file)["message"], "here")

    def test_format_is_the_places_where_nobody_chose_one(self) -> None:
        """auto: text in the foreground, JSON for a daemon, and for the journal, which keeps it."""
        name = self.mktemp()
        for options, places in (({"nodaemon": True}, "text"), ({}, "json")):
            log = install(Application("trial"), LogConfig(), {"logfile": name, **options})
            assert log is not None
            log.observer(event("here"))
            log.follow(LogConfig(level="debug"))
            log.observer(event("there"))
            with open(name) as file:
                lines = file.read().splitlines()
            self.assertEqual([line.startswith("{") for line in lines], [places == "json"] * 2)
            os.unlink(name)

    def test_journal_is_known_by_what_systemd_says_of_it(self) -> None:
        """$JOURNAL_STREAM has to name the very stream: a pipe behind the gateway is for people again."""
        with open(self.mktemp(), "w") as out:
            before, sys.stdout = sys.stdout, out
            self.addCleanup(setattr, sys, "stdout", before)
            found = os.fstat(out.fileno())
            for said, places in ((f"{found.st_dev}:{found.st_ino}", "json"), ("1:2", "text"), ("", "text")):
                self.patch(os, "environ", {"JOURNAL_STREAM": said} if said else {})
                log = install(Application("trial"), LogConfig(), {"nodaemon": True})
                assert log is not None
                self.assertEqual(log.auto, places)

    def test_level_and_format_follow_the_configuration(self) -> None:
        """What is reloaded counts from the next line on, in the same file."""
        name = self.mktemp()
        log = install(Application("trial"), LogConfig("info", "json"), {"logfile": name})
        assert log is not None
        log.observer(event("hidden", LogLevel.debug))
        log.follow(LogConfig("debug", "text"))
        log.observer(event("shown", LogLevel.debug))
        with open(name) as file:
            lines = file.read().splitlines()
        self.assertEqual(len(lines), 1)
        self.assertTrue(lines[0].endswith(": shown"))

    def test_a_file_that_cannot_be_opened_ends_the_start(self) -> None:
        """In one sentence that names it."""
        with self.assertRaises(SystemExit) as caught:
            self.installed(logfile="/nonexistent/directory/log")
        self.assertIn("/nonexistent/directory/log", str(caught.exception.code))

    def test_daemon_does_not_log_to_standard_output(self) -> None:
        """A daemon has none, and is told so in one sentence."""
        with self.assertRaises(SystemExit) as caught:
            self.installed(logfile="-")
        self.assertIn("add -n", str(caught.exception.code))

    def test_operator_s_own_observer_goes_first(self) -> None:
        """With --logger nothing is opened and nothing installed."""
        self.assertIsNone(self.installed(logger=print, logfile="/nonexistent/directory/log"))


PLUGIN = """
    from twisted.application.service import ServiceMaker
    trial = ServiceMaker("Log trial", "log_trial_tap", "A trial of the log.", "log-trial")
"""

TAP = """
    from twisted.application.service import MultiService
    from twisted.logger import Logger
    from twisted.python import usage
    from gateway.config import LogConfig
    from gateway.operations.logs import install

    class Options(usage.Options):
        pass

    class Top(MultiService):
        def __init__(self, options):
            super().__init__()
            self.options = options

        def setServiceParent(self, parent):
            install(parent, LogConfig("info", "json"), self.options.parent)
            super().setServiceParent(parent)

        def startService(self):
            from twisted.internet import reactor
            super().startService()
            Logger().info("service started")
            reactor.callWhenRunning(reactor.stop)

    def makeService(options):
        Logger().info("before the log began")
        return Top(options)
"""


class UnderTwistd(SynchronousTestCase):
    """The whole way, in a process of its own."""

    def run_twistd(self, *options: str) -> tuple[str, str]:
        directory = self.mktemp()
        plugins = os.path.join(directory, "twisted", "plugins")
        os.makedirs(plugins)
        for name, source in (
            (os.path.join(plugins, "log_trial_plugin.py"), PLUGIN),
            (os.path.join(directory, "log_trial_tap.py"), TAP),
        ):
            with open(name, "w") as file:
                file.write(textwrap.dedent(source))
        here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "from twisted.scripts.twistd import run; run()",
                "--nodaemon",
                "--pidfile=",
                *options,
                "log-trial",
            ],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": os.pathsep.join((os.path.abspath(directory), here))},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return directory, done.stdout

    def messages(self, text: str) -> list[str]:
        return [json.loads(line)["message"] for line in text.splitlines()]

    def test_foreground_log_is_ours_from_the_first_event(self) -> None:
        """Every line on standard output is ours, those from before the log began included."""
        _, out = self.run_twistd()
        messages = self.messages(out)
        self.assertEqual(messages[0], "before the log began")
        self.assertIn("service started", messages)
        self.assertEqual(messages[-1], "Server Shut Down.")

    def test_logfile_option_is_honoured(self) -> None:
        """With --logfile the same lines are in the file, and standard output stays empty."""
        directory, out = self.run_twistd("--logfile=own.log")
        self.assertEqual(out, "")
        with open(os.path.join(directory, "own.log")) as file:
            self.assertIn("service started", self.messages(file.read()))
