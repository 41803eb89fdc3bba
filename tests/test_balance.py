"""Whatever clients, upstream and the clock do, in the end nothing is counted as under way any more."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from gateway.config import Limits, Timeouts
from gateway.upstreams.exchange import WireError
from tests.fakes import ANSWER, BODY, SSE, Client, Edge, FakeExchange, event, member, ok, refused, sse
from tests.test_edge import PATH

KEY = b"x-goog-api-key: right-key\r\n"
STREAM = PATH.replace("generate", "streamGenerate").encode() + b"?alt=sse"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
LIMITS = Limits(
    body=500, buffered=1200, streams=2, connections=6, key_concurrent=3, key_per_minute=40, body_rate=10, head=2000
)


def post(target: bytes, *fields: bytes, body: bytes = BODY) -> bytes:
    """A POST as bytes."""
    return b"POST %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n%s" % (target, b"".join(fields), body)


REQUESTS = (
    post(PATH.encode(), KEY, LENGTH),
    post(STREAM, KEY, LENGTH),
    post(STREAM, KEY, CHUNKED, body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)),
    post(PATH.encode(), LENGTH),
    post(PATH.encode(), KEY, b"Content-Length: 400\r\n", body=b" " * 400),
    post(PATH.encode(), KEY, CHUNKED, body=b"1f5\r\n" + b" " * 501 + b"\r\n0\r\n\r\n"),
    post(PATH.encode(), KEY, LENGTH, b"Content-Encoding: gzip\r\n"),
    post(PATH.encode(), KEY, LENGTH, b"Origin: https://evil.example\r\n"),
    post(PATH.encode(), KEY, CHUNKED, body=b"zz\r\n"),
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"OPTIONS /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /v1beta/models HTTP/1.0\r\n" + KEY + b"\r\n",
    b"junk\r\n\r\n",
)
WHOLE = st.tuples(
    st.just("send"), st.integers(0, 7), st.sampled_from((0, 1, 1, 2, *range(len(REQUESTS)))), st.just(1.0)
)
ANSWER_STEP = st.tuples(st.just("upstream"), st.integers(0, 9), st.integers(0, 5), st.just(0.0))
STEP = st.one_of(
    WHOLE,
    WHOLE,
    WHOLE,
    ANSWER_STEP,
    ANSWER_STEP,
    st.tuples(st.just("send"), st.integers(0, 7), st.integers(0, len(REQUESTS) - 1), st.floats(0, 0.95)),
    st.tuples(st.just("rest"), st.integers(0, 7), st.just(0), st.just(0.0)),
    st.tuples(st.sampled_from(["leave", "finish"]), st.integers(0, 7), st.just(0), st.just(0.0)),
    st.tuples(st.just("wait"), st.sampled_from([1, 1, 3, 11, 80]), st.just(0), st.just(0.0)),
)


class Play:
    """A gateway with eight clients at most, and an upstream that answers when it is told to."""

    def __init__(self, patient: bool) -> None:
        self.world = Edge.build(
            members=(member("a"), member("b")), keys=("right-key",), limits=LIMITS,
            timeouts=Timeouts(budget=60, idle=30), answers_half_closed=patient,
        )  # fmt: skip
        self.asked: list[Deferred[Any]] = []
        self.streams: list[FakeExchange] = []
        self.world.wire.by = self._asked
        self.clients: dict[int, Client] = {}
        self.unsent: dict[int, bytes] = {}

    def _asked(self, request: Any) -> Deferred[Any]:
        self.asked.append(self.world.wire.hold())
        return self.asked[-1]

    def client(self, number: int) -> Client:
        if number not in self.clients or self.clients[number].gone:
            self.clients[number] = self.world.connect()
            self.unsent[number] = b""
        return self.clients[number]

    def step(self, kind: str, number: int, which: int, share: float) -> None:
        """Do one thing."""
        if kind == "send":
            client, data = self.client(number), self.unsent.get(number) or REQUESTS[which]
            cut = int(len(data) * share) if share < 1 else len(data)
            self.unsent[number] = data[cut:]
            self._send(client, data[:cut])
        elif kind == "rest":
            client = self.client(number)
            data, self.unsent[number] = self.unsent[number], b""
            self._send(client, data)
        elif kind == "leave":
            self.client(number).leave()
        elif kind == "finish":
            client = self.client(number)
            if client.dropped or client.reset:
                client.leave()
        elif kind == "wait":
            for _ in range(number):
                self.world.clock.advance(1)
        else:
            self._upstream(number, which)

    def _send(self, client: Client, data: bytes) -> None:
        if data and not client.reset and not client.gone:
            client.send(data)

    def _upstream(self, number: int, which: int) -> None:
        waiting = [one for one in self.asked if not one.called]
        if self.streams and number % 2:
            stream = self.streams[number % len(self.streams)]
            if which < 3:
                stream.send(sse(event("b")))
            else:
                stream.end(None if which < 5 else WireError("truncated"))
        elif waiting:
            answers = (ok(ANSWER), FakeExchange(200, SSE), refused(500), refused(429), FakeExchange(200, SSE))
            answer = answers[which] if which < 5 else WireError("reset")
            if isinstance(answer, FakeExchange) and answer.headers == SSE:
                answer.send(sse(event("a")))
                self.streams.append(answer)
            if isinstance(answer, Exception):
                waiting[number % len(waiting)].errback(answer)
            else:
                waiting[number % len(waiting)].callback(answer)


class BalanceTests(SynchronousTestCase):
    """P9, L16, L1, L2: what is taken is given back, once."""

    @settings(max_examples=100, deadline=None)
    @given(st.lists(STEP, min_size=20, max_size=80), st.booleans())
    def test_what_is_taken_is_given_back(self, steps: list[tuple[str, int, int, float]], patient: bool) -> None:
        """P9, L16: bytes, streams, a key's requests, leases, timers; and every request is reported once."""
        play = Play(patient)
        site = play.world.site
        for step in steps:
            play.step(*step)
            self.assertLessEqual(site.room.buffered, LIMITS.buffered)
            self.assertLessEqual(site.room.streams, LIMITS.streams)
            self.assertLessEqual(len(site.channels), LIMITS.connections)
            self.assertTrue(all(0 <= count <= 3 for count in site.meters.under_way().values()))
        for client in play.clients.values():
            client.leave()
        for _ in range(200):
            play.world.clock.advance(1)
        self.assertEqual((site.room.buffered, site.room.streams, site.busy, len(site.channels)), (0, 0, 0, 0))
        self.assertEqual(site.meters.under_way(), {})
        self.assertEqual(play.world.leases, 0)
        self.assertEqual([str(call) for call in play.world.clock.getDelayedCalls()], [])
        ids = [end.journal.request_id for end in play.world.recorder.ends]
        self.assertEqual(len(ids), len(set(ids)))
        self.flushLoggedErrors()
