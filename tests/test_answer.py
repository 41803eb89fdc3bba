"""An answer's head as bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.edge.answer import chunk, has_length, head


class HeadTests(SynchronousTestCase):
    """What goes out in front of a body."""

    def test_head_is_a_status_line_and_the_fields_in_their_order(self) -> None:
        """RFC 9112 section 4."""
        self.assertEqual(
            head(b"HTTP/1.0", 429, ((b"retry-after", b"3"), (b"a", b""))),
            b"HTTP/1.0 429 Too Many Requests\r\nretry-after: 3\r\na: \r\n\r\n",
        )

    def test_status_that_has_no_name_here_is_sent_all_the_same(self) -> None:
        """Upstream's own statuses are passed on."""
        self.assertTrue(head(b"HTTP/1.1", 529, ()).startswith(b"HTTP/1.1 529 "))

    @given(st.binary())
    def test_no_value_begins_a_line_of_its_own(self, value: bytes) -> None:
        """A trace id is whatever upstream says it is (L7)."""
        made = head(b"HTTP/1.1", 200, ((b"x-upstream-trace-id", value), (b"last", b"1")))
        self.assertEqual(made.split(b"\r\n")[2:], [b"last: 1", b"", b""])
        self.assertFalse(set(made.replace(b"\r\n", b"")) & {0, 10, 13})

    def test_a_length_is_found_among_fields(self) -> None:
        """It decides whether a body goes out in chunks."""
        self.assertTrue(has_length(((b"a", b"b"), (b"content-length", b"0"))))
        self.assertFalse(has_length(((b"a", b"content-length"),)))

    def test_chunk_has_its_size_in_hexadecimal(self) -> None:
        """RFC 9112 section 7.1."""
        self.assertEqual(chunk(b"x" * 26), b"1a\r\n" + b"x" * 26 + b"\r\n")
