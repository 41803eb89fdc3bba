"""Answers of every kind, in pieces, through the gateway's agent and through h11."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import HttpRequest
from gateway.upstreams.agent import GatewayAgent
from gateway.upstreams.exchange import WireError
from gateway.upstreams.wire import LeanClient, TreqWire
from tests.fakes import run
from tests.second_opinion import judged

STATUS_LINES = [
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.1 304 Not Modified\r\n", b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 103 Hints\r\n", b"HTTP/1.1 103 Hints\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\n",
]  # fmt: skip
FIELDS = [
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: 05\r\n", b"content-length:5\r\n",
    b"Content-Length: 5, 5\r\n", b"Content-Length: +5\r\n", b"Content-Length: 6\r\n", b"Content-Length:\r\n 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: Chunked\r\n", b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n", b"transfer-encoding:\tchunked\r\n", b"Transfer-Encoding : chunked\r\n",
    b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"X: y\r\n", b" folded\r\n", b"X\r\n", b": y\r\n",
    b"X: \x00\r\n", b"X: a\rb\r\n", b"X: \xff\r\n",
]  # fmt: skip
PARTS = [
    b"hello", b"5\r\nhello\r\n", b"5;x=y\r\nhello\r\n", b"5 \r\nhello\r\n", b"05\r\nhello\r\n", b"4\r\nhello\r\n",
    b"6\r\nhello\r\n", b"-1\r\n", b"0x5\r\nhello\r\n", b"fffffffffffffffff\r\n", b"0\r\n\r\n", b"0\r\n", b"00\r\n\r\n",
    b"0\r\nX: y\r\n\r\n", b"\r\n", b"\n", b"\r", b" ",
]  # fmt: skip

likely = st.tuples(
    st.sampled_from(STATUS_LINES), st.lists(st.sampled_from(FIELDS), max_size=4).map(b"".join), st.just(b"\r\n"),
    st.lists(st.sampled_from(PARTS), max_size=5).map(b"".join),
).map(b"".join)  # fmt: skip
wild = st.lists(st.sampled_from([*STATUS_LINES, *FIELDS, *PARTS]), max_size=8).map(b"".join)


def taken(pieces: Sequence[bytes]) -> tuple[int, bytes] | None:
    """The status and body of an answer whose connection then closes, as the wire reads it; None where it is broken."""
    reactor: Any = MemoryReactorClock()
    wire = TreqWire(LeanClient(GatewayAgent(reactor, 10.0)), reactor)
    got: list[Any] = []

    async def ask() -> tuple[int, bytes]:
        exchange = await wire.open(HttpRequest(b"POST", b"http://127.0.0.1/x", (), b"{}"), 60.0)
        return exchange.status, await exchange.read(1 << 20, 60.0)

    run(ask()).addBoth(got.append)
    protocol = reactor.tcpClients[0][2].buildProtocol(None)
    transport = StringTransport(lenient=True)
    protocol.makeConnection(transport)
    for piece in pieces:
        if not transport.disconnected:
            protocol.dataReceived(piece)
    if not transport.disconnected:
        protocol.connectionLost(Failure(ConnectionDone()))
    (result,) = got
    if isinstance(result, Failure):
        result.trap(WireError)
        return None
    status, body = result
    return status, body


class FramingTests(SynchronousTestCase):
    """Two readers of one answer."""

    @given(likely | wild, st.lists(st.integers(0, 120), max_size=4))
    @settings(deadline=None, max_examples=max(1000, settings().max_examples))
    def test_nothing_is_whole_that_h11_refuses(self, said: bytes, cuts: list[int]) -> None:
        """Wherever it is cut, what the agent takes for whole has the status and body that h11 reads (C13/X, C16/X)."""
        edges = [0, *sorted(min(cut, len(said)) for cut in cuts), len(said)]
        pieces = [said[start:end] for start, end in pairwise(edges) if start < end]
        found = taken(pieces)
        event(f"taken: {found is not None}")
        if found is not None:
            assert found == judged(said)

    def test_what_is_well_formed_is_taken(self) -> None:
        """The comparison would be none if everything were refused."""
        for said in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX: y\r\n\r\n",
            b"HTTP/1.1 103 Hints\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: \xff\r\n\r\nhello",
        ):
            self.assertEqual(taken([said]), (200, b"hello"))
            self.assertEqual(taken([said[at : at + 1] for at in range(len(said))]), (200, b"hello"))
