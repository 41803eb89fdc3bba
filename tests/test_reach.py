"""What the log tells of origins that cannot be reached."""

from __future__ import annotations

from OpenSSL import SSL
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionAborted, ConnectionRefusedError, DNSLookupError, TimeoutError
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from gateway.upstreams.reach import AGAIN_SECONDS, WORDS_MOST, Reach
from gateway.upstreams.tunnel import ProxyRefused

ORIGIN = "api.example:443"


class ReachTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.reach = Reach(ORIGIN, "", self.clock.seconds)
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def told(self) -> list[str]:
        """Return what has been logged since this was asked last."""
        lines = [f"{event['log_level'].name} {formatEvent(event)}" for event in self.events]
        self.events.clear()
        return lines

    def fail(self, error: Exception, reach: Reach | None = None) -> list[str]:  # type: ignore[override]
        (reach or self.reach).failed(error, 10.0)
        return self.told()

    def test_each_kind_of_failure_is_told_in_words(self) -> None:
        """C1, C2, C3, C4: port, name, handshake, time."""
        for error, words in (
            (DNSLookupError("no such name"), "DNS lookup failed: no such name."),
            (ConnectionRefusedError(111), "Connection was refused by other side: 111."),
            (TimeoutError(), "no connection within 10 s"),
            (SSL.Error([("SSL routines", "", "certificate verify failed")]), "TLS: certificate verify failed"),
            (SSL.Error(), "TLS: the connection was closed"),
            (OSError(), "OSError"),
        ):
            self.assertEqual(self.fail(error), [f"warn {ORIGIN} cannot be reached: {words}"])

    def test_the_same_is_told_once_in_a_while(self) -> None:
        """A storm of requests does not fill the log, and an outage that goes on is not forgotten."""
        self.assertEqual(len(self.fail(TimeoutError())), 1)
        self.assertEqual(self.fail(TimeoutError()), [])
        self.assertEqual(len(self.fail(ConnectionRefusedError(111))), 1)
        self.clock.advance(AGAIN_SECONDS)
        self.assertEqual(len(self.fail(TimeoutError())), 1)

    def test_reasons_without_end_are_bounded(self) -> None:
        """Whoever answers differently each time gets no line each time."""
        lines = [line for number in range(WORDS_MOST * 3) for line in self.fail(OSError(str(number)))]
        self.assertEqual(len(lines), WORDS_MOST)

    def test_that_it_is_back_is_told_once(self) -> None:
        """And nothing of an origin that was never away, nor of one that comes and goes within the minute."""
        self.reach.reached()
        self.assertEqual(self.told(), [])
        self.fail(TimeoutError())
        self.reach.reached()
        self.reach.reached()
        self.assertEqual(self.told(), [f"info {ORIGIN} can be reached again"])
        self.fail(TimeoutError())
        self.reach.reached()
        self.assertEqual(self.told(), [])

    def test_what_is_no_fault_of_the_origin_is_not_told(self) -> None:
        """A client that left while the connection was being opened, and the gateway's own end."""
        for error in (CancelledError(), ConnectionAborted()):
            self.assertEqual(self.fail(error), [])

    def test_a_proxy_is_named(self) -> None:
        """The proxy's own word where it refuses, and that it stands between where it cannot be reached."""
        reach = Reach(ORIGIN, "proxy.example:3128", self.clock.seconds)
        self.assertEqual(
            self.fail(ProxyRefused("it answered CONNECT with 407"), reach),
            [f"warn proxy proxy.example:3128 carries nothing to {ORIGIN}: it answered CONNECT with 407"],
        )
        self.assertEqual(
            self.fail(ConnectionRefusedError(111), reach),
            [f"warn {ORIGIN} cannot be reached through proxy proxy.example:3128:"
             " Connection was refused by other side: 111."],
        )  # fmt: skip
