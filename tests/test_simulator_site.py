"""The simulator behind a transport: back-pressure, early answers, resets, and its command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from gateway.simulator.answer_actions import Early, Interim, Raw, ResetAction, Stall, Status, Truncate
from gateway.simulator.player import STEPS_PER_TURN, Player
from gateway.simulator.produced import Tokens
from gateway.simulator.record import Records
from gateway.simulator.stream_actions import Endless
from gateway.simulator.tap import Options, makeService
from gateway.simulator.world import Simulator
from tests.test_simulator import FLASH, said


def request(path: str, body: bytes, length: int | None = None, extra: str = "") -> bytes:
    """A POST as bytes; ``length`` may promise more than there is."""
    size = len(body) if length is None else length
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nx-goog-api-key: k\r\nContent-Length: {size}\r\n{extra}\r\n"
    return head.encode() + body


HELLO = json.dumps(said("Hi")).encode()
WHOLE = f"{FLASH}:generateContent"
STREAM = f"{FLASH}:streamGenerateContent?alt=sse"


class SiteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.simulator = Simulator(self.clock, pace_seconds=0)
        site: Any = self.simulator.site()
        self.addCleanup(site.doStop)
        site.doStart()
        self.transport = StringTransport()
        self.protocol: Any = site.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def test_an_endless_stream_waits_for_a_slow_reader(self) -> None:
        """Paused, it writes nothing; resumed, it goes on; it leaves the reactor to others in between."""
        self.simulator.fault(Endless(event_bytes=10))
        self.protocol.dataReceived(request(STREAM, HELLO))
        (entry,) = self.simulator.requests()
        self.assertLessEqual(entry.events, STEPS_PER_TURN)
        self.clock.advance(1)
        before = entry.events
        self.assertGreater(before, STEPS_PER_TURN)
        self.transport.producer.pauseProducing()
        self.clock.advance(1)
        self.clock.advance(1)
        self.assertEqual(entry.events, before)
        self.transport.producer.resumeProducing()
        self.clock.advance(1)
        self.assertGreater(entry.events, before)
        self.protocol.connectionLost(Failure(ConnectionDone()))
        ended = entry.events
        self.clock.advance(1)
        self.assertEqual((entry.events, entry.ended), (ended, "left"))
        self.assertEqual(self.clock.getDelayedCalls(), [c for c in self.clock.getDelayedCalls() if "Log" in repr(c)])

    def test_a_client_that_leaves_during_a_stall_is_noted(self) -> None:
        """With the time at which it left."""
        self.simulator.fault(Stall(after=0))
        self.protocol.dataReceived(request(STREAM, HELLO))
        self.clock.advance(3)
        self.protocol.connectionLost(Failure(ConnectionLost()))
        (entry,) = self.simulator.requests()
        self.assertEqual((entry.ended, entry.ended_at, entry.report()["client_left"]), ("left", 3.0, True))
        self.assertEqual(self.simulator.report()["open_streams"], 0)

    def test_tokens_are_counted_as_far_as_they_were_sent(self) -> None:
        """Of a whole answer all, of a stream that is cut off those of its last whole event, of half an answer none."""
        for fault, target, part in (
            (None, WHOLE, "all"),
            (None, STREAM, "all"),
            (Truncate(after=2), STREAM, "some"),
            (Truncate(after=0), STREAM, "none"),
            (Truncate(after=1), WHOLE, "none"),
            (Truncate(bytes=20), STREAM, "none"),
        ):
            with self.subTest(fault=fault, target=target):
                self.setUp()
                if fault is not None:
                    self.simulator.fault(fault)
                self.protocol.dataReceived(request(target, HELLO))
                self.clock.pump([1] * 20)
                (entry,) = self.simulator.requests()
                tokens = entry.tokens or Tokens()
                whole = self.whole_answer()
                expected = {"all": whole, "none": Tokens()}.get(part, tokens)
                self.assertEqual(tokens, expected)
                if part == "some":
                    self.assertEqual((tokens.answers, tokens.prompt), (1, whole.prompt))
                    self.assertTrue(0 < tokens.candidates < whole.candidates)
                produced = self.simulator.report()["produced"]
                self.assertEqual(produced, {entry.model: tokens.report()} if tokens.answers else {})

    def whole_answer(self) -> Tokens:
        """The tokens of an answer that nothing happens to."""
        simulator = Simulator(Clock())
        site: Any = simulator.site()
        protocol = site.buildProtocol(None)
        protocol.makeConnection(StringTransport())
        protocol.dataReceived(request(WHOLE, HELLO))
        found = simulator.requests()[0].tokens
        assert found is not None
        return found

    def test_an_early_answer_does_not_wait_for_the_body(self) -> None:
        """The answer is there at the end of the head, without 100 Continue; the connection ends with the body."""
        self.simulator.fault(Early(code=413))
        self.protocol.dataReceived(request(WHOLE, b"x" * 10, 1000, "Expect: 100-continue\r\n"))
        self.assertTrue(self.transport.value().startswith(b"HTTP/1.1 413 "))
        self.assertIn(b'"code": 413', self.transport.value())
        self.assertFalse(self.transport.disconnecting)
        self.protocol.dataReceived(b"x" * 990)
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.simulator.requests()[0].status, 413)

    def test_an_early_answer_may_close_at_once(self) -> None:
        """While the client still sends."""
        self.simulator.fault(Early(code=413, close=True))
        self.protocol.dataReceived(request(WHOLE, b"", 1000))
        self.assertTrue(self.transport.disconnecting)

    def test_other_rules_wait_for_the_body(self) -> None:
        """A rule is judged once, when all it may match is there."""
        self.simulator.fault(Status(code=503), nth=1)
        self.protocol.dataReceived(request(WHOLE, HELLO[:5], len(HELLO)))
        self.assertEqual(self.transport.value(), b"")
        self.protocol.dataReceived(HELLO[5:])
        self.assertTrue(self.transport.value().startswith(b"HTTP/1.1 503 "))

    def test_an_interim_answer_comes_first(self) -> None:
        """103, then the real one."""
        self.simulator.fault(Interim())
        self.protocol.dataReceived(request(WHOLE, HELLO))
        value = self.transport.value()
        self.assertTrue(value.startswith(b"HTTP/1.1 103 Early Hints\r\n"))
        self.assertIn(b"\r\n\r\nHTTP/1.1 200 OK\r\n", value)

    def test_raw_bytes_replace_the_answer(self) -> None:
        """For answers that break HTTP."""
        self.simulator.fault(Raw(text="HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"))
        self.protocol.dataReceived(request(WHOLE, HELLO))
        self.assertTrue(self.transport.value().endswith(b"\r\n\r\nzz\r\n"))
        self.assertTrue(self.transport.disconnecting)

    def test_a_reset_lets_the_events_out_first(self) -> None:
        """What was written reaches the network before the connection is reset."""
        self.simulator.fault(ResetAction(after=2))
        self.protocol.dataReceived(request(STREAM, HELLO))
        self.assertEqual(self.transport.value().count(b"data: "), 2)
        self.assertFalse(self.transport.disconnected)
        self.clock.advance(0.05)
        self.assertTrue(self.transport.disconnected)

    def test_the_player_is_a_push_producer(self) -> None:
        """Twisted's interface is kept."""
        records = Records()
        verifyObject(IPushProducer, Player(None, self.clock, iter(()), records, None))  # type: ignore[arg-type]


class Collector(Protocol):
    """Reads until the connection ends."""

    def __init__(self) -> None:
        self.data = b""
        self.ended: Deferred[Failure] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure | None = None) -> None:
        assert reason is not None
        self.ended.callback(Failure(reason.value))


class LoopbackTests(TestCase):
    async def test_a_reset_is_a_reset_on_the_network(self) -> None:
        """The client reads the events, then the connection is lost uncleanly."""
        clock: Any = reactor
        simulator = Simulator(clock, pace_seconds=0)
        port = await TCP4ServerEndpoint(clock, 0, interface="127.0.0.1").listen(simulator.site())
        self.addCleanup(port.stopListening)
        simulator.fault(ResetAction(after=1))
        endpoint = HostnameEndpoint(clock, b"127.0.0.1", port.getHost().port)
        collector = await connectProtocol(endpoint, Collector())
        assert collector.transport is not None
        collector.transport.write(request(STREAM, HELLO))
        ended: list[Failure] = []
        await collector.ended.addErrback(ended.append)
        ended[0].trap(ConnectionLost)
        self.assertEqual(collector.data.count(b"data: "), 1)


class OptionsTests(SynchronousTestCase):
    def test_the_port_is_short_for_an_endpoint(self) -> None:
        """On loopback."""
        options = Options()
        options.parseOptions(["--port", "1234", "--pace", "0"])
        self.assertEqual(options["listen"], "tcp:1234:interface=127.0.0.1")

    def test_wrong_options_are_told(self) -> None:
        """One sentence each."""
        missing = str(Path(self.mktemp()))
        for wrong in (["--port", "x"], ["--pace", "-1"], ["--pace", "x"], ["--keep", "0"], ["--script", missing]):
            self.assertRaises(UsageError, Options().parseOptions, wrong)

    def test_a_script_is_loaded(self) -> None:
        """YAML or JSON, with faults, quotas and token settings."""
        path = Path(self.mktemp())
        path.write_text("faults:\n- {do: {action: status, code: 503}, times: 1}\nquotas: [{requests: 3}]\n")
        options = Options()
        options.parseOptions(["--script", str(path)])
        simulator = Simulator(Clock())
        simulator.load(options["loaded"])
        self.assertEqual((simulator.report()["faults"], len(simulator.report()["quotas"])), (1, 1))
        self.assertTrue(makeService(options).name is None)

    def test_a_wrong_script_says_where(self) -> None:
        """The path inside the file."""
        path = Path(self.mktemp())
        path.write_text("faults:\n- {do: {action: nope}}\n")
        error = self.assertRaises(UsageError, Options().parseOptions, ["--script", str(path)])
        self.assertIn("$.faults[0].do.action", str(error))
