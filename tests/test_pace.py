"""Slow clients: deadlines for heads, a least rate for bodies, an end to those that take nothing."""

from __future__ import annotations

from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from gateway.config import Limits, Timeouts
from gateway.edge.pace import Late, Pace, Paces
from gateway.edge.paced import AT_A_TIME, Rounds, unsent
from tests.fakes import BODY, SSE, Client, Edge, FakeExchange, event, ok, sse
from tests.test_edge import PATH

PACES = Paces(head=10, body=10, body_rate=1024, idle=75, write=120)
STREAM = PATH.replace("generate", "streamGenerate") + "?alt=sse"


def late_after(pace: Pace, start: float, seconds: float, received: int = 0, unsent: int = 0) -> Late | None:
    """Look whenever it is due, until so many seconds are over, and say what was late first."""
    while pace.due <= start + seconds:
        late = pace.judge(max(pace.due, start), received, unsent)
        if late is not None:
            return late
    return None


class PaceTests(SynchronousTestCase):
    """The rules, without a connection."""

    def test_a_head_has_its_seconds_in_all(self) -> None:
        """L4: every byte of it in between changes nothing."""
        pace = Pace.of(PACES, 100)
        for moment in range(100, 110):
            pace.came(moment)
            self.assertIsNone(pace.judge(moment, 0, 0))
        self.assertIs(pace.judge(110, 0, 0), Late.HEAD)

    def test_a_later_head_has_its_seconds_from_its_first_byte(self) -> None:
        """L4: the wait before it is idleness."""
        pace = Pace.of(PACES, 0)
        pace.came(0)
        pace.head_over(1)
        pace.body_over(1)
        pace.answered(5)
        self.assertIsNone(late_after(pace, 5, 74))
        pace.came(79)
        self.assertIsNone(late_after(pace, 79, 9))
        self.assertIs(late_after(pace, 79, 11), Late.HEAD)

    def test_an_idle_connection_ends(self) -> None:
        """After its seconds, counted from the answer's end."""
        pace = Pace.of(PACES, 0)
        pace.answered(5)
        self.assertIsNone(late_after(pace, 5, 74))
        self.assertIs(late_after(pace, 5, 76), Late.IDLE)

    def test_a_body_has_a_least_rate_over_every_stretch(self) -> None:
        """L4: what came fast at first is no credit for later."""
        pace = Pace.of(PACES, 0)
        pace.head_over(0)
        self.assertIsNone(pace.judge(5, 0, 0))
        self.assertIsNone(pace.judge(10, 10_240, 0))
        self.assertIsNone(pace.judge(20, 50_000_000, 0))
        self.assertIs(pace.judge(30, 50_010_239, 0), Late.BODY)

    def test_an_answer_may_take_any_time(self) -> None:
        """Upstream's time is not the client's."""
        pace = Pace.of(PACES, 0)
        pace.head_over(0)
        pace.body_over(0)
        self.assertIsNone(late_after(pace, 0, 10_000))

    def test_who_takes_nothing_is_late_and_who_takes_a_little_is_not(self) -> None:
        """L3: whatever is written to it meanwhile."""
        pace = Pace.of(PACES, 0)
        pace.body_over(0)
        self.assertIs(late_after(pace, 0, 130, unsent=1000), Late.UNTAKEN)
        pace = Pace.of(PACES, 0)
        pace.body_over(0)
        for second in range(1, 2000):
            left = 100_000 - second
            self.assertIsNone(pace.judge(second, 0, left))

    def test_more_that_waits_is_no_progress(self) -> None:
        """L3: only less is, or nothing."""
        pace = Pace.of(PACES, 0)
        pace.body_over(0)
        judged = [pace.judge(second, 0, 1000 + second) for second in range(122)]
        self.assertIs(judged[-1], Late.UNTAKEN)
        pace = Pace.of(PACES, 0)
        pace.body_over(0)
        for second in range(500):
            if second % 60 == 0:
                pace.drained()
            self.assertIsNone(pace.judge(second, 0, 1000))

    def test_who_still_takes_an_answer_is_not_idle(self) -> None:
        """L3: its next request's time begins when it has taken it."""
        pace = Pace.of(PACES, 0)
        pace.answered(0)
        for second in range(200):
            self.assertIsNone(pace.judge(second, 0, 1000 - second))
        self.assertIsNone(late_after(pace, 200, 70))

    def test_a_close_that_is_not_answered_ends_too(self) -> None:
        """L4: over TLS a close waits for the peer's; it gets its time when the answer has been taken, and no more."""
        pace = Pace.of(PACES, 0)
        pace.closing(0)
        for second in range(100):
            self.assertIsNone(pace.judge(second, 0, 1000 - second))
        pace.came(99)
        pace.answered(99)
        self.assertIsNone(late_after(pace, 99, 14))
        self.assertIs(late_after(pace, 99, 16), Late.UNCLOSED)

    @given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 50), st.integers(0, 5), st.integers(0, 5))))
    def test_it_is_always_due_again(self, steps: list[tuple[int, float, int, int]]) -> None:
        """Whatever happens, who is not late is looked at again within ten seconds."""
        now, pace = 0.0, Pace.of(PACES, 0)
        for kind, seconds, received, waiting in steps:
            now += seconds
            (pace.came, pace.head_over, pace.body_over, pace.answered)[kind](now)
            if pace.judge(now, received, waiting) is None:
                self.assertTrue(now < pace.due <= now + 10, (now, pace))


class Socket:
    """As much of Twisted's own transport as tells what waits in it."""

    def __init__(self, waiting: int = 0) -> None:
        self.dataBuffer, self.offset, self._tempDataLen = bytes(waiting), 0, 0


class SlowCase(SynchronousTestCase):
    def begin(self, *script: Any, **changes: Any) -> Client:
        self.world = Edge.build(*script, **changes)
        return self.world.connect()

    def wait(self, seconds: float) -> None:
        """Let the time pass second by second, as it does."""
        for _ in range(int(seconds)):
            self.world.clock.advance(1)

    def reason(self, client: Client) -> str:
        answer = client.answers()[-1]
        self.assertEqual(answer.headers["connection"], "close")
        reason: str = answer.json["error"]["details"][0]["reason"]
        return f"{answer.status} {reason}"


class SlowHeadTests(SlowCase):
    """L4: heads."""

    def test_a_head_that_drips_is_408_after_ten_seconds_in_all(self) -> None:
        """L4: a deadline, not an idle timeout."""
        client = self.begin()
        client.send(b"GET /healthz HTTP/1.1\r\n")
        for number in range(9):
            self.wait(1)
            client.send(b"X-%d: a\r\n" % number)
        self.assertEqual((client.received, client.dropped), (b"", False))
        self.wait(2)
        self.assertEqual(self.reason(client), "408 HEAD_TOO_SLOW")
        self.assertTrue(client.dropped)

    def test_a_request_line_that_does_not_end_is_408(self) -> None:
        """L4: before there is any line."""
        client = self.begin()
        client.send(b"GET /heal")
        self.wait(11)
        self.assertEqual(self.reason(client), "408 HEAD_TOO_SLOW")

    def test_a_new_connection_without_a_byte_is_closed_without_a_word(self) -> None:
        """L4: browsers open some ahead."""
        client = self.begin()
        self.wait(9)
        self.assertFalse(client.dropped)
        self.wait(2)
        self.assertEqual((client.received, client.dropped), (b"", True))

    def test_the_second_head_of_a_connection_has_the_same_deadline(self) -> None:
        """L4: from its first byte; the wait before it is another limit's."""
        client = self.begin()
        client.ask("GET", "/healthz")
        self.wait(60)
        client.send(b"GET /healthz HTTP/1.1\r\n")
        self.wait(9)
        self.assertFalse(client.dropped)
        self.wait(2)
        self.assertEqual(self.reason(client), "408 HEAD_TOO_SLOW")

    def test_the_deadline_is_a_setting(self) -> None:
        """``timeouts.head``."""
        client = self.begin(timeouts=Timeouts(head=3))
        client.send(b"GET")
        self.wait(4)
        self.assertTrue(client.dropped)


class SlowBodyTests(SlowCase):
    """L4: bodies."""

    def test_a_slow_body_is_408_and_reaches_nobody(self) -> None:
        """L4: 1 KiB/s after ten seconds of grace; it is reported once, as what it was."""
        client = self.begin(ok())
        client.ask("POST", PATH, length=10**6)
        for _ in range(10):
            client.send(b" " * 1000)
            self.assertFalse(client.dropped)
            self.wait(1)
        self.assertEqual(self.reason(client), "408 BODY_TOO_SLOW")
        self.assertTrue(client.dropped)
        client.leave()
        end = self.world.ended
        self.assertEqual((end.status, end.reason, self.world.wire.requests), (408, "BODY_TOO_SLOW", []))
        self.assertEqual((self.world.site.busy, self.world.site.room.buffered), (0, 0))

    def test_a_body_at_its_rate_is_taken(self) -> None:
        """L4: however long that takes."""
        client = self.begin(ok())
        body = b'{"a":"' + b"x" * (1024 * 60) + b'"}'
        client.ask("POST", PATH, length=len(body))
        for start in range(0, len(body), 1100):
            client.send(body[start : start + 1100])
            self.wait(1)
        self.assertEqual(client.answer().status, 200)

    def test_rate_and_grace_are_settings(self) -> None:
        """``limits.body_rate`` and ``timeouts.body``."""
        client = self.begin(limits=Limits(body_rate=10), timeouts=Timeouts(body=30))
        client.ask("POST", PATH, length=1000)
        self.wait(25)
        client.send(b" " * 301)
        self.wait(20)
        self.assertFalse(client.dropped)
        self.wait(20)
        self.assertEqual(self.reason(client), "408 BODY_TOO_SLOW")


class SlowReaderTests(SlowCase):
    """L3: clients that do not read."""

    def stalled(self, waiting: int) -> tuple[Client, Socket]:
        exchange = FakeExchange(200, SSE)
        client = self.begin(exchange, timeouts=Timeouts(idle=10_000))
        client.post(STREAM)
        exchange.send(sse(event("a")))
        socket = Socket(waiting)
        client.transport.transport = socket  # type: ignore[attr-defined]
        return client, socket

    def test_who_takes_nothing_is_cut_off_and_upstream_with_it(self) -> None:
        """L3: after ``timeouts.write``; by a reset, since there is nobody to say it to."""
        client, _ = self.stalled(1000)
        self.wait(119)
        self.assertFalse(client.reset)
        self.wait(10)
        self.assertTrue(client.reset)
        client.leave()
        self.assertEqual((self.world.ended.reason, self.world.leases), ("CLIENT_STALLED", 0))

    def test_who_takes_a_little_is_served_on(self) -> None:
        """L3: it is slow, not gone."""
        client, socket = self.stalled(1000)
        for taken in range(500):
            socket.dataBuffer = bytes(1000 - taken)
            self.wait(1)
        self.assertFalse(client.reset)

    def test_what_waits_is_counted_below_tls_too(self) -> None:
        """L3: the socket's buffer, under whatever stands in front of it; a transport without one has none."""

        class Tls:
            transport = Socket(5)

        self.assertEqual((unsent(Tls()), unsent(Socket(7)), unsent(object())), (5, 7, 0))


class CloseTests(SlowCase):
    """Closing, where the peer has a say in it."""

    def test_who_does_not_answer_a_close_is_reset(self) -> None:
        """L4: an idle connection over TLS that is closed, its client silent, holds its descriptor no longer."""
        client = self.begin()
        client.ask("GET", "/healthz")
        self.wait(76)
        self.assertEqual((client.dropped, client.reset), (True, False))
        self.wait(12)
        self.assertFalse(client.reset)
        self.wait(5)
        self.assertTrue(client.reset)


class RoundTests(SlowCase):
    """One timer for all."""

    def test_there_is_one_timer_and_none_without_connections(self) -> None:
        """However many connections and requests there are."""
        self.world = Edge.build()
        clients = [self.world.connect() for _ in range(10)]
        for client in clients:
            client.ask("GET", "/healthz")
        self.assertEqual(len(self.world.clock.getDelayedCalls()), 1)
        for client in clients:
            client.leave()
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_many_late_ones_are_ended_a_few_at_a_time(self) -> None:
        """L4: with turns of the reactor in between, so that two thousand of them do not hold up who is good."""
        self.world = Edge.build()
        clients = [self.world.connect() for _ in range(AT_A_TIME * 3 + 1)]
        ended: list[int] = []
        turns: list[int] = []
        later = self.world.clock.callLater

        def counted(delay: float, call: Any, *args: Any) -> Any:
            if delay == 0:
                turns.append(len(ended))
            return later(delay, call, *args)

        self.world.clock.callLater = counted  # type: ignore[method-assign]
        for number, client in enumerate(clients):
            client.transport.loseConnection = partial(ended.append, number)  # type: ignore[method-assign]
        self.wait(10)
        self.assertEqual(len(ended), len(clients))
        self.assertEqual(turns[:3], [AT_A_TIME, AT_A_TIME * 2, AT_A_TIME * 3])

    def test_connections_that_go_meanwhile_leave_no_timer(self) -> None:
        """Nor are they looked at."""
        rounds = Rounds(Clock())
        looked: list[int] = []

        class Slow:
            pace = Pace.of(PACES, -100)

            def __init__(self, number: int) -> None:
                self.number = number

            def look(self, now: float) -> None:
                looked.append(self.number)

        channels: list[Any] = [Slow(number) for number in range(AT_A_TIME + 1)]
        clock: Any = rounds._clock
        for channel in channels:
            rounds.add(channel)
        later = clock.callLater
        clock.callLater = lambda delay, *call: later(delay or 0.5, *call)
        clock.advance(1)
        self.assertEqual(len(looked), AT_A_TIME)
        for channel in channels:
            rounds.remove(channel)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_a_round_that_ends_a_connection_looks_at_the_others(self) -> None:
        """It may leave the set while that is gone through."""
        self.world = Edge.build()
        clients = [self.world.connect() for _ in range(3)]
        for client in clients:
            client.transport.loseConnection = client.leave  # type: ignore[method-assign]
        self.wait(12)
        self.assertEqual([client.gone for client in clients], [True] * 3)
        self.assertIsInstance(self.world.site.rounds, Rounds)


class HalfCloseTests(SlowCase):
    """L5: ``proxy.half_close``."""

    def test_leave_is_no_half_closeable_protocol(self) -> None:
        """L5: a FIN is the connection's end."""
        self.assertFalse(IHalfCloseableProtocol.providedBy(self.begin().protocol))

    def test_answer_waits_for_the_answer_and_then_closes(self) -> None:
        """L5: the request under way is answered; a FIN between requests is the end."""
        client = self.begin(answers_half_closed=True)
        self.assertTrue(verifyObject(IHalfCloseableProtocol, client.protocol))
        held = self.world.wire.hold()
        self.world.wire.script = [held]
        client.post(PATH)
        client.protocol.readConnectionLost()
        self.assertFalse(client.dropped)
        held.callback(ok())
        self.assertEqual(client.answer().status, 200)
        client.protocol.readConnectionLost()
        self.assertTrue(client.dropped)

    def test_answer_does_not_wait_for_what_never_comes(self) -> None:
        """L5: a FIN within a head or a body leaves nothing to answer."""
        for data in (b"", b"GET /healthz HT", b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"):
            client = self.begin(answers_half_closed=True)
            client.send(data)
            client.protocol.readConnectionLost()
            self.assertTrue(client.dropped)

    def test_pipelined_requests_before_the_fin_are_answered_too(self) -> None:
        """L5, L6: in order."""
        client = self.begin(ok(), ok(), answers_half_closed=True)
        client.post(PATH, BODY)
        client.post(PATH, BODY)
        client.protocol.readConnectionLost()
        self.assertEqual([answer.status for answer in client.answers()], [200, 200])
        self.assertTrue(client.dropped)
