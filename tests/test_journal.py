"""What operations/journal.py writes into the log about requests and credentials."""

from __future__ import annotations

import io

from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import Credential, Ended, Journal, Usage
from gateway.operations.journal import LogRecorder
from gateway.operations.logs import observer
from gateway.routing.asking import Whole
from tests.fakes import FakeWire, call, member, ok, reason, refused, retry_info, router, run


class RecorderTests(SynchronousTestCase):
    """One recorder, and what it is told."""

    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def lines(self, level: LogLevel) -> list[str]:
        """Return the lines of a level."""
        return [formatEvent(event) for event in self.events if event.get("log_level") is level]

    def test_every_choice_is_told_at_debug_with_who_was_out_and_why(self) -> None:
        """A rotation has two; neither names a secret."""
        exhausted = refused(429, "RESOURCE_EXHAUSTED", reason("RATE_LIMIT_EXCEEDED"), retry_info("30s"))
        asked = router(FakeWire(exhausted, ok()), Clock(), member("a"), member("b"), member("c"), explains=True)
        asked.standings.set_enabled(member("c").credential, False)
        journal = Journal("request-1", session="s" * 32)
        self.assertIsInstance(self.successResultOf(run(asked.run(call(), journal))), Whole)
        LogRecorder().ended(Ended(journal, 200, "", "upstream", 0.5, 10, 20))
        choices = [line for line in self.lines(LogLevel.debug) if " choice " in line]
        self.assertEqual(
            choices,
            [
                "request-1 choice 1: studio/a (least used) after 0.000 s of waiting, session=" + "s" * 32
                + "; out: studio/b ok another comes first; studio/c disabled DISABLED",
                "request-1 choice 2: studio/b (rotation) after 0.000 s of waiting, session=" + "s" * 32
                + "; out: studio/a tried RATE_LIMIT_EXCEEDED, free in 30.0 s; studio/c disabled DISABLED",
            ],
        )  # fmt: skip

    def test_owner_is_told_where_to_go_and_the_operator_what_stands_still(self) -> None:
        """One alert each, at error and at critical."""
        LogRecorder().quarantined(member("a").credential, "VALIDATION_REQUIRED", "https://verify.example/x")
        LogRecorder().halted("studio")
        (error,) = self.lines(LogLevel.error)
        self.assertEqual(
            error,
            "credential studio/a is out until its operator acts: VALIDATION_REQUIRED, its owner must open"
            " https://verify.example/x; mend that, and run `antigravity accounts clear studio/a`",
        )
        (critical,) = self.lines(LogLevel.critical)
        self.assertIn("upstream studio stands still until its operator says go", critical)
        self.assertTrue(critical.endswith("run `antigravity accounts resume studio`"))

    def test_first_byte_has_its_unit_or_is_missing(self) -> None:
        """In the line for people; as a number for programs."""
        for first_byte, text, seconds in ((10.25, "first=0.250s whole=0.500s", 0.25), (None, "first=- whole=", None)):
            self.events.clear()
            LogRecorder().ended(Ended(Journal("id", started=10.0, first_byte=first_byte), 200, "", "", 0.5, 1, 2))
            (line,) = self.lines(LogLevel.info)
            self.assertIn(text, line)
            self.assertEqual(self.events[-1]["first_seconds"], seconds)

    def test_text_alone_is_the_same_text(self) -> None:
        """Where nobody wants more than a line of text, no event is made; where somebody does, one is."""
        full = Journal("id", "POST", "/v1/\x1b[2J", "::1", model="m", credential="a/b", started=10.0, first_byte=10.25)
        ended = (
            Ended(full, 200, "", "upstream", 0.5, 10, 20, Usage(3, 42), "STOP"),
            Ended(Journal("id", "GET", "/", started=1.0), 499, "CLIENT_LEFT", "gateway", 0.1, 0, 0),
        )
        for event in ended:
            out = io.StringIO()
            lines = observer(out, "info", "text")
            LogRecorder(lines).ended(event)
            self.assertEqual(self.events, [])
            globalLogPublisher.addObserver(lines)
            LogRecorder().ended(event)
            globalLogPublisher.removeObserver(lines)
            first, second = out.getvalue().splitlines()
            self.assertEqual(first.partition("Z info ")[2], second.partition("Z info ")[2])
            self.events.clear()
        for level, format in (("info", "json"), ("warn", "text")):
            LogRecorder(observer(io.StringIO(), level, format)).ended(ended[0])
        self.assertEqual([one["id"] for one in self.events], ["id", "id"])

    def test_account_is_told_by_both_its_names(self) -> None:
        """The label, as answers and other lines have it, and the name that commands take; no link where none is."""
        account = Credential("ann", "accounts", "codeassist", "accounts/71d4f55f")
        LogRecorder().quarantined(account, "invalid_grant", "")
        (error,) = self.lines(LogLevel.error)
        self.assertEqual(
            error,
            "credential accounts/71d4f55f (accounts/ann) is out until its operator acts: invalid_grant; mend that, and"
            " run `antigravity accounts clear accounts/ann`",
        )
