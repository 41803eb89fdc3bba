"""The comparison of framing itself: three readers, and what counts as a disagreement."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.corpora import Expected
from tests.framing import Llhttp, Reading, by_h11, disagreement, gateway

A, B = Expected(b"GET", b"/a", b""), Expected(b"POST", b"/b", b"hello")
TWO = (
    b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
    b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
)


class ReaderTests(SynchronousTestCase):
    """The three of them."""

    def test_all_find_the_same_requests(self) -> None:
        """L6/X: two in a row, the second in chunks, whole and cut anywhere."""
        for cut in range(len(TWO)):
            self.assertEqual(gateway(TWO, cut), Reading([A, B], False))
        self.assertEqual(by_h11(TWO), Reading([A, B], False))
        self.assertEqual(Llhttp().read(TWO), Reading([A, B], False))

    def test_all_say_where_they_stop(self) -> None:
        """A refusal, and a connection's end."""
        closing = TWO.replace(b"/a HTTP/1.1\r\n", b"/a HTTP/1.1\r\nConnection: close\r\n")
        broken = TWO.replace(b"5\r\n", b"x\r\n")
        for read in (lambda data: gateway(data, 0), by_h11, lambda data: Llhttp().read(data)):
            self.assertEqual(read(closing), Reading([A], True))
            self.assertEqual(read(broken), Reading([A], True, True))
            self.assertEqual(read(TWO[:-1]), Reading([A], False))


class DisagreementTests(SynchronousTestCase):
    """What counts as one."""

    def test_requests_differ_in_number_or_in_themselves(self) -> None:
        """L7: whoever waits for what the other has had sees other requests."""
        longer = Expected(b"POST", b"/b", b"hello!")
        for ours, theirs in (
            (Reading([A, B], False), Reading([A, longer], False)),
            (Reading([A], True, True), Reading([B], True, True)),
            (Reading([A, B], False), Reading([A], False)),
            (Reading([A], False), Reading([A, B], False)),
            (Reading([A], False), Reading([A, B], True, True)),
        ):
            self.assertNotEqual(disagreement(ours, theirs), "")

    def test_to_be_stricter_is_none(self) -> None:
        """L7: nor to end a connection after a request."""
        for ours, theirs in (
            (Reading([A, B], False), Reading([A, B], False)),
            (Reading([A], True, True), Reading([A, B], False)),
            (Reading([A, B], False), Reading([A], True, True)),
            (Reading([A], True), Reading([A, B], False)),
        ):
            self.assertEqual(disagreement(ours, theirs), "")
