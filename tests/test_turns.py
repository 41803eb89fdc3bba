"""Turns of the reactor: connections are read and lost as by Twisted's own, and a fault in one is no other's."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any, cast

from twisted.internet import tcp
from twisted.internet.abstract import FileDescriptor
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from gateway.process import turns
from gateway.process.lag import NEVER, LagWatch


class Fault(Exception):
    """A fault of ours, in a test."""


class Reader(FileDescriptor):
    """Reads one end of a pair of sockets."""

    def __init__(self, reactor: Any, end: socket.socket) -> None:
        super().__init__(reactor)
        self._end = end
        self.got = b""
        self.reasons: list[type[BaseException] | None] = []
        self.before: Callable[[], object] = lambda: None
        self.at_loss: Callable[[], object] = lambda: None

    def fileno(self) -> int:
        return self._end.fileno()

    def doRead(self) -> Any:
        self.before()
        data = self._end.recv(100)
        self.got += data
        return None if data else CONNECTION_DONE

    def connectionLost(self, reason: Failure) -> None:
        self.reasons.append(reason.type)
        self.at_loss()


class Taker(Protocol):
    """Takes what a TCP connection brings."""

    transport: Any

    def __init__(self) -> None:
        self.got = b""
        self.halves = 0
        self.reasons: list[type[BaseException] | None] = []
        self.before: Callable[[], object] = lambda: None

    def dataReceived(self, data: bytes) -> None:
        self.before()
        self.got += data

    def readConnectionLost(self) -> None:
        self.halves += 1

    def writeConnectionLost(self) -> None:
        """Nothing to do."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reasons.append(reason.type)


class Placer(Taker):
    """Has places of its own for what comes, of these sizes; then none."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self._sizes = list(sizes)
        self.parts: list[bytes] = []

    def place(self) -> memoryview | None:
        return memoryview(bytearray(self._sizes.pop(0))) if self._sizes else None

    def placed(self, part: memoryview) -> None:
        self.before()
        self.parts.append(bytes(part))


class Leavings:
    """Leaves things for the ends of turns."""

    def __init__(self) -> None:
        self.left: list[str] = []
        self.done: list[str] = []

    def gather(self) -> None:
        """It always does."""

    def let_out(self) -> None:
        self.done += self.left
        self.left.clear()

    def at_once(self) -> None:
        """Nobody ends here."""


class TurnTests(SynchronousTestCase):
    """A reactor that nobody runs is given single turns."""

    def setUp(self) -> None:
        reactor: Any = EPollReactor()
        self.addCleanup(reactor._poller.close)
        self.addCleanup(reactor.waker.connectionLost, None)
        turns.shorten(reactor, LagWatch(reactor))
        self.reactor = reactor

    def reader(self) -> tuple[Reader, socket.socket]:
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        reader = Reader(self.reactor, ours)
        self.reactor.addReader(reader)
        return reader, theirs

    def _ends_alone(self, *pairs: tuple[Any, socket.socket]) -> None:
        (bad, one), (good, two) = pairs
        bad.before = self._fail
        one.send(b"a")
        two.send(b"b")
        self.reactor.doIteration(0)
        self.assertEqual((bad.reasons, good.got), ([Fault], b"b"))
        self.assertEqual(len(self.flushLoggedErrors(Fault)), 1)

    def test_every_connection_that_has_something_is_read(self) -> None:
        """One turn reads them all, and leaves the silent ones alone."""
        (first, one), (second, two), (silent, _) = self.reader(), self.reader(), self.reader()
        one.send(b"a")
        two.send(b"b")
        self.reactor.doIteration(0)
        self.assertEqual([first.got, second.got, silent.got], [b"a", b"b", b""])

    def test_a_close_is_told(self) -> None:
        """A peer that closed is told of once, and its descriptor is waited for no more."""
        reader, theirs = self.reader()
        theirs.close()
        self.reactor.doIteration(0)
        self.reactor.doIteration(0)
        self.assertEqual((reader.reasons, reader in self.reactor.getReaders()), ([ConnectionDone], False))

    def test_a_fault_in_reading_ends_that_connection_alone(self) -> None:
        """It is logged, and the others of the turn are read."""
        self._ends_alone(self.reader(), self.reader())

    def test_a_fault_in_ending_one_does_not_keep_the_others(self) -> None:
        """What is to be told of a close may fail as well."""
        (bad, one), (good, two) = self.reader(), self.reader()
        bad.at_loss = self._fail
        one.close()
        two.send(b"b")
        self.reactor.doIteration(0)
        self.assertEqual((good.got, len(self.flushLoggedErrors(Fault))), (b"b", 1))

    def test_one_that_another_has_closed_meanwhile_is_not_read(self) -> None:
        """It was ready when the turn began, and is gone by its own."""
        (first, one), (second, two) = self.reader(), self.reader()
        first.before = lambda: self.reactor.removeReader(second)
        second.before = lambda: self.reactor.removeReader(first)
        one.send(b"a")
        two.send(b"b")
        self.reactor.doIteration(0)
        self.assertEqual(len(first.got + second.got), 1)

    def connection(self) -> tuple[Taker, socket.socket]:
        taker = Taker()
        return taker, self.connected(taker)

    def placing(self, *sizes: int) -> tuple[Placer, socket.socket]:
        placer = Placer(*sizes)
        theirs = self.connected(placer)
        placer.transport.bufferSize = FileDescriptor.bufferSize + 1
        return placer, theirs

    def connected(self, taker: Taker) -> socket.socket:
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        ours.setblocking(False)
        server = tcp.Server(ours, taker, ("127.0.0.1", 1), cast(Any, None), 0, self.reactor)
        taker.makeConnection(server)
        server.startReading()
        return theirs

    def test_what_is_large_is_read_into_the_places_for_it(self) -> None:
        """One turn fills one after the other; where there is none, what comes is handed over."""
        placer, theirs = self.placing(3, 4)
        theirs.send(b"aaabb")
        self.reactor.doIteration(0)
        self.assertEqual((placer.parts, placer.got), ([b"aaa", b"bb"], b""))
        theirs.send(b"c")
        self.reactor.doIteration(0)
        self.assertEqual((placer.parts, placer.got), ([b"aaa", b"bb"], b"c"))

    def test_others_have_their_turn_within_what_is_large(self) -> None:
        """However much is there, one turn reads so much of it, and the next one goes on."""
        placer, theirs = self.placing(*[turns.AT_A_TIME_BYTES // 4] * 8)
        theirs.setblocking(False)
        sent = 0
        for _ in range(8):
            with contextlib.suppress(BlockingIOError):
                sent += theirs.send(bytes(turns.AT_A_TIME_BYTES))
            before = sum(map(len, placer.parts))
            self.reactor.doIteration(0)
            self.assertLessEqual(sum(map(len, placer.parts)) - before, turns.AT_A_TIME_BYTES)
        self.assertTrue(placer.parts)

    def test_an_end_within_what_is_large_is_told(self) -> None:
        """A close where there is a place, and a fault in taking what was put there, end that connection alone."""
        (closed, one), (bad, two) = self.placing(9, 9), self.placing(9, 9)
        bad.before = self._fail
        one.close()
        two.send(b"b")
        self.reactor.doIteration(0)
        self.assertEqual((closed.reasons, bad.reasons), ([ConnectionDone], [Fault]))
        self.assertEqual(len(self.flushLoggedErrors(Fault)), 1)

    def test_plain_tcp_is_read_and_its_end_is_told(self) -> None:
        """What is read on the short way is what Twisted's own would have read."""
        taker, theirs = self.connection()
        theirs.send(b"a")
        self.reactor.doIteration(0)
        theirs.send(b"b")
        theirs.close()
        for _ in range(3):
            self.reactor.doIteration(0)
        self.assertEqual((taker.got, taker.reasons), (b"ab", [ConnectionDone]))

    def test_a_client_that_has_closed_its_half_is_told_apart(self) -> None:
        """Who can answer such a client is asked to, and its connection stays."""
        taker, theirs = self.connection()
        directlyProvides(taker, IHalfCloseableProtocol)
        theirs.shutdown(socket.SHUT_WR)
        self.reactor.doIteration(0)
        taker.transport.write(b"answer")
        self.reactor.doIteration(0)
        self.assertEqual((taker.halves, taker.reasons, theirs.recv(100)), (1, [], b"answer"))

    def test_a_fault_in_taking_bytes_ends_that_connection_alone(self) -> None:
        """It is logged, and the others of the turn are read."""
        self._ends_alone(self.connection(), self.connection())

    def test_what_a_turn_left_is_done_before_the_next_one_waits(self) -> None:
        """Connections leave something when they are read; it is done once, in front of the next look at them."""
        gathers = Leavings()
        turns.shorten(self.reactor, LagWatch(self.reactor), gathers)
        for taker, theirs in (self.connection(), self.connection()):
            taker.before = lambda: gathers.left.append("something")
            theirs.send(b"a")
        self.reactor.doIteration(0)
        self.assertEqual((gathers.left, gathers.done), (["something"] * 2, []))
        self.reactor.doIteration(0)
        self.assertEqual((gathers.left, gathers.done), ([], ["something"] * 2))

    def test_a_turn_that_took_long_is_told_once(self) -> None:
        """It is when the next wait begins that it is known how long it took (P14)."""
        watch = LagWatch(self.reactor)
        turns.shorten(self.reactor, watch)
        watch.start()
        self.addCleanup(watch.stop)
        taker, theirs = self.connection()

        def long() -> None:
            watch.since -= 1

        taker.before = long
        theirs.send(b"a")
        self.reactor.doIteration(0)
        self.assertEqual((watch.blocked, watch.since is NEVER), (0, False))
        for _ in range(2):
            self.reactor.doIteration(0)
            self.assertEqual(watch.blocked, 1)
        self.assertGreaterEqual(watch.most_seconds, 1)

    def running(self) -> None:
        """Let the reactor take itself for one that runs, for the rest of a test."""
        self.reactor.running = self.reactor._started = True
        self.reactor._stopped = False
        self.addCleanup(self.reactor.crash)
        # No turn goes on for ever.
        guard = self.reactor.callLater(10, self.reactor.crash)
        self.addCleanup(lambda: guard.active() and guard.cancel())
        self.reactor.runUntilCurrent()

    def test_a_turn_goes_on_while_there_is_nothing_else_to_do(self) -> None:
        """What becomes ready meanwhile is read without a look at timers and threads in between."""
        (first, one), (second, two) = self.reader(), self.reader()
        self.running()
        first.before = lambda: two.send(b"b")
        second.before = self.reactor.crash
        one.send(b"a")
        self.reactor.doIteration(10)
        self.assertEqual((first.got, second.got), (b"a", b"b"))

    def test_a_turn_ends_where_the_reactor_has_something_to_do(self) -> None:
        """A new timer, a call from a thread and a stop are seen to before anything more is read."""
        things: tuple[Callable[[], object], ...] = (
            lambda: self.reactor.callLater(60, self._fail).cancel(),
            lambda: self.reactor.callFromThread(self._fail),
            self.reactor.stop,
            self.reactor.crash,
        )
        for thing in things:
            (first, one), (second, two) = self.reader(), self.reader()
            self.running()
            first.before = lambda thing=thing, two=two: (thing(), two.send(b"b"))
            second.before = self.reactor.crash
            one.send(b"a")
            self.reactor.doIteration(10)
            self.assertEqual((first.got, second.got), (b"a", b""), thing)
            self.reactor.removeReader(second)
            self.reactor._newTimedCalls.clear()
            self.reactor.threadCallQueue.clear()
            self.reactor._justStopped = False

    def test_a_turn_ends_when_a_timer_is_due(self) -> None:
        """It waits no longer than until then, and calls none itself."""
        self.running()
        called: list[str] = []
        self.reactor.callLater(0.01, called.append, "due")
        self.reactor.runUntilCurrent()
        self.reactor.doIteration(0)
        before, _ = list(called), self.reactor.runUntilCurrent()
        self.assertEqual((before, called), ([], ["due"]))

    def test_a_twisted_that_has_other_parts_keeps_its_own_turns(self) -> None:
        """They are named nowhere in its documentation."""
        other: Any = EPollReactor()
        self.addCleanup(other._poller.close)
        self.addCleanup(other.waker.connectionLost, None)
        selectables = other.__dict__.pop("_selectables")
        turns.shorten(other, LagWatch(other))
        self.assertNotIn("doIteration", vars(other))
        other._selectables = selectables

    def test_other_reactors_turn_as_they_did(self) -> None:
        """Nothing is put upon one that waits otherwise, or that is a kind of its own."""
        other: Any = MemoryReactorClock()
        turns.shorten(other, LagWatch(other))
        self.assertFalse(hasattr(other, "doIteration"))

    @staticmethod
    def _fail() -> None:
        raise Fault
