"""Writing at once: the same bytes in the same order, whether or not the socket takes them."""

from __future__ import annotations

import socket
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import tcp
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from gateway import eager
from gateway.upstreams.bodies import EAGER_BYTES, PIECE_BYTES, Sending, WholeBody


class Reactor:
    """Notes who waits for a socket."""

    def __init__(self) -> None:
        self.writers: set[Any] = set()

    def addReader(self, reader: Any) -> None:
        """Nobody reads here."""

    removeReader = addReader

    def addWriter(self, writer: Any) -> None:
        self.writers.add(writer)

    def removeWriter(self, writer: Any) -> None:
        self.writers.discard(writer)


class Producer:
    """Notes what its consumer asks of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def pauseProducing(self) -> None:
        self.asked.append("pause")

    def resumeProducing(self) -> None:
        self.asked.append("resume")

    def stopProducing(self) -> None:
        self.asked.append("stop")


class Taking:
    """A socket that takes whatever it is given."""

    def __init__(self, taken: bytearray) -> None:
        self._taken = taken

    def send(self, data: bytes | memoryview) -> int:
        self._taken += data
        return len(data)


class EagerTests(SynchronousTestCase):
    """One end of a pair of sockets is a transport, the other one is read."""

    def pair(self) -> tuple[Any, socket.socket, Reactor]:
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        ours.setblocking(False)
        theirs.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        reactor = Reactor()
        transport: Any = tcp.Server(ours, Protocol(), ("127.0.0.1", 1), None, 0, reactor)
        return transport, theirs, reactor

    @staticmethod
    def read(theirs: socket.socket, most: int = 1 << 20) -> bytes:
        try:
            return theirs.recv(most)
        except BlockingIOError:
            return b""

    def test_socket_that_takes_it_is_not_asked_first(self) -> None:
        """The bytes are there before the reactor has its next turn."""
        transport, theirs, reactor = self.pair()
        eager.write(transport, b"now")
        self.assertEqual((self.read(theirs), reactor.writers), (b"now", set()))

    @given(st.lists(st.tuples(st.binary(min_size=1, max_size=9000), st.booleans(), st.booleans()), max_size=30))
    def test_order_is_kept_whatever_waits(self, steps: list[tuple[bytes, bool, bool]]) -> None:
        """A write that comes while an earlier one waits waits behind it."""
        transport, theirs, reactor = self.pair()
        wanted, seen = b"", b""
        for data, reads, turns in steps:
            eager.write(transport, data)
            wanted += data
            if reads:
                seen += self.read(theirs, 5000)
            if turns and reactor.writers:
                transport.doWrite()
        for _ in range(300):
            seen += self.read(theirs)
            if reactor.writers:
                transport.doWrite()
        self.assertEqual(seen, wanted)

    def test_large_body_gives_others_a_turn(self) -> None:
        """However much the socket takes at once, only so much is given to it before the reactor goes on (L8)."""
        transport, _, reactor = self.pair()
        taken = bytearray()
        transport.socket = Taking(taken)
        ended: list[Exception | None] = []
        body = bytes(range(256)) * (EAGER_BYTES // 64)
        Sending(WholeBody(body), transport, ended.append).start()
        turns = 0
        while reactor.writers:
            self.assertLess(len(taken), (turns + 1) * (EAGER_BYTES + 2 * PIECE_BYTES) + 1)
            transport.doWrite()
            turns += 1
        self.assertEqual((ended, transport.producer), ([None], None))
        self.assertTrue(taken == body)
        self.assertGreater(turns, 2)

    def test_full_socket_pauses_the_producer(self) -> None:
        """Back-pressure is Twisted's: what waits pauses, and what has gone resumes (L3, C18)."""
        transport, theirs, _ = self.pair()
        producer = Producer()
        transport.registerProducer(producer, True)
        while not producer.asked:
            eager.write(transport, b"x" * 60_000)
        self.assertEqual(producer.asked, ["pause"])
        while producer.asked == ["pause"]:
            self.read(theirs)
            transport.doWrite()
        self.assertEqual(producer.asked, ["pause", "resume"])

    def test_broken_socket_is_found_out_by_twisted(self) -> None:
        """Nothing is raised to whoever writes."""
        transport, theirs, reactor = self.pair()
        theirs.close()
        eager.write(transport, b"lost")
        self.assertEqual(reactor.writers, {transport})

    def test_what_closes_gets_what_was_written_before(self) -> None:
        """A write behind loseConnection goes out before the end, as one by Twisted does."""
        transport, theirs, _ = self.pair()
        eager.write(transport, b"first")
        transport.loseConnection()
        eager.write(transport, b"second")
        transport.doWrite()
        self.assertEqual(self.read(theirs), b"firstsecond")

    def test_closed_half_takes_nothing(self) -> None:
        """What is written behind the end of the half is dropped, as Twisted drops it, and nothing is raised."""
        transport, theirs, reactor = self.pair()
        eager.write(transport, b"first")
        transport.loseWriteConnection()
        transport.doWrite()
        reactor.writers.clear()
        eager.write(transport, b"second")
        self.assertEqual((self.read(theirs), self.read(theirs), reactor.writers), (b"first", b"", set()))

    def test_other_transports_are_written_to_as_ever(self) -> None:
        """What is no socket of its own."""
        transport = StringTransport()
        eager.write(transport, b"data")
        self.assertEqual(transport.value(), b"data")
