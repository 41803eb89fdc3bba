"""The listener that the browser comes back to, in memory."""

from __future__ import annotations

import errno
from typing import Any
from urllib.parse import urlencode

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts import loopback, signin
from gateway.accounts.loopback import CannotListen, Loopback, Visit
from gateway.accounts.signin import Attempt, SignInFailed
from gateway.calls import Secret

ATTEMPT = Attempt(Secret("the-state"), Secret("the-verifier"))


def target(**parameters: str) -> str:
    return "/callback?" + urlencode({"state": "the-state", **parameters})


def request(what: str, method: str = "GET") -> bytes:
    return f"{method} {what} HTTP/1.1\r\nHost: 127.0.0.1:1\r\nUser-Agent: a browser\r\n\r\n".encode()


class Transport(StringTransport):
    """Tells its protocol when it is closed."""

    protocol: Visit
    aborted = False
    stuck = False
    """Whether the peer takes nothing: then closing waits."""

    def loseConnection(self) -> None:
        if not self.disconnecting:
            super().loseConnection()
            if not self.stuck:
                self.protocol.connectionLost()

    def abortConnection(self) -> None:
        if not self.aborted:
            self.aborted = True
            self.disconnecting = True
            self.protocol.connectionLost()


class LoopbackCase(SynchronousTestCase):
    """A listener and its visitors."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.loopback = Loopback(self.clock, lambda query: signin.read_redirect(query, ATTEMPT))

    def visit(self, data: bytes = b"") -> Transport:
        transport = Transport()
        transport.protocol = self.loopback.buildProtocol(None)
        transport.protocol.makeConnection(transport)
        self.send(transport, data)
        return transport

    def send(self, transport: Transport, data: bytes) -> None:
        if data:
            transport.protocol.dataReceived(data)

    def status(self, transport: Transport) -> int:
        """Return the answer's status; it is whole, and the connection is closed."""
        head, _, body = transport.value().partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        self.assertEqual(int(fields["Content-Length"]), len(body))
        self.assertTrue(transport.disconnecting)
        return int(head.split(b" ")[1])


class VisitTests(LoopbackCase):
    """What is answered to whom."""

    def test_redirect_brings_the_code_and_its_page_waits_for_the_outcome(self) -> None:
        """The browser learns whether it went well, not whether Google did its part."""
        browser = self.visit(request(target(code="4/0A", scope="x")))
        self.assertEqual(self.successResultOf(self.loopback.code), Secret("4/0A"))
        self.assertEqual(browser.value(), b"")
        self.loopback.conclude(True)
        self.assertEqual(self.status(browser), 200)
        self.assertIn(b"Signed in", browser.value())

    def test_redirect_may_come_in_pieces(self) -> None:
        """Split at any byte, the last line end included."""
        whole = request(target(code="4/0A"))
        for at in range(1, len(whole)):
            self.setUp()
            browser = self.visit(whole[:at])
            self.assertNoResult(self.loopback.code)
            self.send(browser, whole[at:])
            self.assertEqual(self.successResultOf(self.loopback.code), Secret("4/0A"))
        self.setUp()
        browser = self.visit()
        for byte in whole:
            self.send(browser, bytes([byte]))
        self.assertEqual(self.successResultOf(self.loopback.code), Secret("4/0A"))

    def test_other_connections_do_not_disturb(self) -> None:
        """One opened in advance, a favicon, a half request, one that leaves: the redirect still arrives."""
        early = self.visit()
        half = self.visit(b"GET /call")
        gone = self.visit()
        gone.loseConnection()
        self.assertEqual(self.status(self.visit(request("/favicon.ico"))), 404)
        browser = self.visit(request(target(code="c")))
        self.assertEqual(self.successResultOf(self.loopback.code), Secret("c"))
        self.assertEqual(self.status(self.visit(request("/favicon.ico"))), 404)
        self.loopback.conclude(True)
        self.assertEqual(self.status(browser), 200)
        self.assertFalse(early.disconnecting or half.disconnecting)

    def test_strangers_redirect_is_refused_and_the_wait_goes_on(self) -> None:
        """A wrong state, none, and a refusal with a wrong state: 400, and then the right one is taken."""
        for what in (target(code="c", state="another"), "/callback", "/callback?code=c", "/callback?error=x&state=y"):
            self.assertEqual(self.status(self.visit(request(what))), 400)
            self.assertNoResult(self.loopback.code)
        self.visit(request(target(code="c")))
        self.assertEqual(self.successResultOf(self.loopback.code), Secret("c"))

    def test_refusal_ends_the_wait(self) -> None:
        """The page says so, and the terminal why."""
        browser = self.visit(request(target(error="access_denied")))
        self.assertEqual(self.status(browser), 400)
        self.assertIn(b"failed", browser.value())
        self.assertIn("access_denied", str(self.failureResultOf(self.loopback.code, SignInFailed).value))

    def test_reloaded_page_changes_nothing(self) -> None:
        """The first redirect decides."""
        first = self.visit(request(target(code="c")))
        again = self.visit(request(target(code="d")))
        self.assertEqual(self.status(again), 400)
        self.assertEqual(self.successResultOf(self.loopback.code), Secret("c"))
        self.loopback.conclude(False)
        self.assertEqual(self.status(first), 400)
        self.assertIn(b"failed", first.value())

    def test_browser_that_leaves_has_brought_its_code_all_the_same(self) -> None:
        """And the outcome is told to nobody."""
        browser = self.visit(request(target(code="c")))
        browser.loseConnection()
        self.loopback.conclude(True)
        self.assertEqual(browser.value(), b"")
        self.assertEqual(self.successResultOf(self.loopback.code), Secret("c"))

    def test_pages_repeat_nothing_and_may_do_nothing(self) -> None:
        """No state, code or error of Google's in them, no script, no frame, no cache, no referrer."""
        waiting = self.visit(request(target(code="the-code")))
        pages = [
            self.visit(request(target(code="the-code", state="<script>"))),
            self.visit(request("/<script>?the-code")),
            self.visit(request(target(), "POST")),
            waiting,
        ]
        self.loopback.conclude(True)
        for page in pages:
            text = page.value().decode()
            for word in ("the-state", "the-code", "the-verifier", "<script"):
                self.assertNotIn(word, text)
            self.assertIn("\r\nContent-Security-Policy: default-src 'none';", text)
            for line in ("Referrer-Policy: no-referrer", "Cache-Control: no-store", "X-Content-Type-Options: nosniff"):
                self.assertIn(f"\r\n{line}\r\n", text)

    def test_what_is_no_request_is_refused(self) -> None:
        """Another method, another form of target, another protocol, and a head without end."""
        for data, status in (
            (request(target(code="c"), "POST"), 405),
            (request("http://127.0.0.1:1" + target(code="c")), 400),
            (request("//callback"), 400),
            (request("/\t/["), 404),
            (b"\x16\x03\x01\r\n\r\n", 400),
            (b"GET " + target(code="c").encode() + b"\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nx: " + b"a" * 20000, 431),
        ):
            self.assertEqual(self.status(self.visit(data)), status, data[:40])
        self.assertNoResult(self.loopback.code)

    def test_what_follows_a_request_is_dropped(self) -> None:
        """One request a connection; a second code in it counts for nothing."""
        browser = self.visit(request(target(code="c")) + request(target(code="d")))
        self.send(browser, request(target(code="e")))
        self.assertEqual(self.successResultOf(self.loopback.code), Secret("c"))
        self.loopback.conclude(True)
        self.assertEqual(browser.value().count(b"HTTP/1.1"), 1)

    def test_silent_connection_is_dropped_after_a_minute(self) -> None:
        """But not the page that waits for its outcome."""
        silent = self.visit(b"GET /")
        browser = self.visit(request(target(code="c")))
        self.clock.advance(loopback.IDLE_SECONDS)
        self.assertTrue(silent.aborted)
        self.clock.advance(600)
        self.assertFalse(browser.disconnecting)
        self.loopback.conclude(True)
        self.assertEqual(self.status(browser), 200)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_many_connections_push_out_the_oldest(self) -> None:
        """A page that holds them all cannot keep the redirect out, nor push out the page that waits."""
        first = self.visit()
        browser = self.visit(request(target(code="c")))
        for _ in range(100):
            self.visit()
        self.assertTrue(first.disconnecting)
        self.assertFalse(browser.disconnecting)
        self.assertEqual(len(self.loopback.visits), loopback.CONNECTIONS)


class FakePort:
    """A listening port of a fake reactor."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.open = True

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", self.number)

    def stopListening(self) -> Deferred[None]:
        self.open = False
        return succeed(None)


class FakeReactor:
    """Listens where it is told that there is an address, and no port is taken."""

    def __init__(self, addresses: tuple[str, ...], taken: frozenset[tuple[str, int]] = frozenset()) -> None:
        self.addresses = addresses
        self.taken = taken
        self.ports: list[tuple[str, FakePort]] = []
        self._next = 5000

    def listenTCP(self, number: int, factory: Any, interface: str) -> FakePort:
        if interface not in self.addresses:
            raise CannotListenError(interface, number, OSError(errno.EADDRNOTAVAIL, "no such address"))
        if (interface, number) in self.taken:
            raise CannotListenError(interface, number, OSError(errno.EADDRINUSE, "in use"))
        if not number:
            self._next += 1
            number = self._next
        port = FakePort(number)
        self.ports.append((interface, port))
        return port

    def open(self) -> list[tuple[str, int]]:
        return [(interface, port.number) for interface, port in self.ports if port.open]


class ListenTests(LoopbackCase):
    """Where it listens."""

    def test_both_addresses_share_a_port(self) -> None:
        """Whatever a browser makes of the address, it arrives."""
        reactor = FakeReactor(("127.0.0.1", "::1"))
        self.assertEqual(self.loopback.listen(reactor), "http://127.0.0.1:5001/callback")
        self.assertEqual(reactor.open(), [("127.0.0.1", 5001), ("::1", 5001)])

    def test_port_that_another_has_on_one_address_is_given_up(self) -> None:
        """Or the code might go to whoever listens there."""
        reactor = FakeReactor(("127.0.0.1", "::1"), frozenset({("::1", 5001), ("::1", 5002)}))
        self.assertEqual(self.loopback.listen(reactor), "http://127.0.0.1:5003/callback")
        self.assertEqual(reactor.open(), [("127.0.0.1", 5003), ("::1", 5003)])

    def test_one_address_is_enough(self) -> None:
        """A machine without IPv6, and one with nothing else."""
        reactor = FakeReactor(("127.0.0.1",))
        self.assertEqual(self.loopback.listen(reactor), "http://127.0.0.1:5001/callback")
        reactor = FakeReactor(("::1",))
        self.assertEqual(self.loopback.listen(reactor), "http://[::1]:5001/callback")

    def test_no_address_is_an_error(self) -> None:
        """Neither, or never a free port: it does not try for ever."""
        self.assertRaises(CannotListen, self.loopback.listen, FakeReactor(()))
        reactor = FakeReactor(("127.0.0.1", "::1"), frozenset(("::1", number) for number in range(5000, 6000)))
        self.assertRaises(CannotListen, self.loopback.listen, reactor)
        self.assertEqual(reactor.open(), [])

    def test_closing_lets_everybody_go(self) -> None:
        """Ports and silent connections are closed, and a page that still waits learns that it failed."""
        reactor = FakeReactor(("127.0.0.1", "::1"))
        self.loopback.listen(reactor)
        silent = self.visit()
        browser = self.visit(request(target(code="c")))
        self.successResultOf(Deferred.fromCoroutine(self.loopback.close()))
        self.assertEqual(reactor.open(), [])
        self.assertTrue(silent.disconnecting)
        self.assertEqual(self.status(browser), 400)
        self.assertEqual((self.loopback.visits, self.clock.getDelayedCalls()), ([], []))

    def test_closing_waits_for_the_last_page(self) -> None:
        """The program ends with it, and a page that is still on its way would be lost; but not for ever."""
        browser = self.visit(request(target(code="c")))
        browser.stuck = True
        self.loopback.conclude(True)
        closed = Deferred.fromCoroutine(self.loopback.close())
        self.assertNoResult(closed)
        browser.protocol.connectionLost()
        self.successResultOf(closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

        self.setUp()
        browser = self.visit()
        browser.stuck = True
        closed = Deferred.fromCoroutine(self.loopback.close())
        self.clock.advance(loopback.CLOSE_SECONDS)
        self.assertTrue(browser.aborted)
        self.successResultOf(closed)

    def test_redirect_after_the_end_counts_for_nothing(self) -> None:
        """A connection that was accepted just before."""
        self.successResultOf(Deferred.fromCoroutine(self.loopback.close()))
        self.assertEqual(self.status(self.visit(request(target(code="c")))), 400)
        self.assertNoResult(self.loopback.code)
