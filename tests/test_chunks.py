"""A chunked body: the same bytes at every split, and nothing that could be read in two ways."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import GatewayError
from gateway.edge.chunks import EXTENSIONS_MOST, FORBIDDEN_TRAILERS, LINE_MOST, Chunks
from gateway.edge.head import FIELDS_MOST

TRAILERS_MOST = 4096
HELLO = b"5\r\nhello\r\n"
LAST = b"0\r\n\r\n"
BAD = (400, "CHUNK_INVALID")


def decoded(*pieces: bytes) -> tuple[bytes, bytes] | tuple[int, str]:
    """Return the body and what followed it, or the code and reason of a refusal."""
    chunks, body = Chunks(TRAILERS_MOST), b""
    try:
        for at, piece in enumerate(pieces):
            body += chunks.feed(piece)
            if chunks.done:
                return body, chunks.rest + b"".join(pieces[at + 1 :])
    except GatewayError as error:
        return error.code, error.reason
    raise AssertionError(f"the end of {pieces} was not found")


def refused_at(data: bytes) -> int:
    """Return how many bytes it took, one at a time, until a body was refused."""
    chunks = Chunks(TRAILERS_MOST)
    for at in range(len(data)):
        try:
            chunks.feed(data[at : at + 1])
        except GatewayError:
            return at + 1
        if chunks.done:
            break
    raise AssertionError(f"{data!r} was not refused")


GOOD: list[tuple[str, bytes, bytes, bytes]] = [
    ("empty", LAST, b"", b""),
    ("one chunk", HELLO + LAST, b"hello", b""),
    ("two chunks", HELLO + b"6\r\n world\r\n" + LAST, b"hello world", b""),
    ("another request behind it", HELLO + LAST + b"GET / HTTP/1.1\r\n", b"hello", b"GET / HTTP/1.1\r\n"),
    ("line ends within", b"4\r\n\r\n\r\n\r\n" + LAST, b"\r\n\r\n", b""),
    ("what looks like its end within", b"7\r\n\r\n" + LAST + b"\r\n" + LAST, b"\r\n" + LAST, b""),
    ("zeros in front", b"0005\r\nhello\r\n000\r\n\r\n", b"hello", b""),
    ("capitals", b"A\r\n0123456789\r\n" + LAST, b"0123456789", b""),
    ("extensions", b'5;a;b=c;d="e; \\"f\\" \xff"\r\nhello\r\n0;last\r\n\r\n', b"hello", b""),
    ("extensions with white space", b"5 ; some\t; parameters = stuff\r\nhello\r\n" + LAST, b"hello", b""),
    ("trailers", HELLO + b"0\r\nVary: *\r\nX-Sum:\t1\r\n\r\nrest", b"hello", b"rest"),
]


class DecodingTests(SynchronousTestCase):
    """What is taken."""

    def test_a_body_is_the_same_at_every_split(self) -> None:
        """L7: whole, byte by byte, and cut once anywhere."""
        for name, data, body, rest in GOOD:
            splits = [[data], [data[at : at + 1] for at in range(len(data))]]
            splits += [[data[:at], data[at:]] for at in range(len(data) + 1)]
            for pieces in splits:
                self.assertEqual(decoded(*pieces), (body, rest), f"{name}: {pieces}")

    @given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.lists(st.integers(0, 400), max_size=6))
    def test_what_is_encoded_is_decoded(self, parts: list[bytes], cuts: list[int]) -> None:
        """Any chunks, cut anywhere."""
        data = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + LAST + b"next"
        at = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
        pieces = [data[a:b] for a, b in pairwise(at)]
        self.assertEqual(decoded(*pieces), (b"".join(parts), b"next"))

    @given(st.binary(max_size=60))
    def test_any_bytes_are_decoded_or_refused(self, data: bytes) -> None:
        """Nothing else is ever raised, and a refusal does not depend on the pieces."""
        results = []
        for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
            chunks, body = Chunks(TRAILERS_MOST), b""
            try:
                for piece in pieces:
                    if not chunks.done:
                        body += chunks.feed(piece)
                results.append((chunks.done, body))
            except GatewayError:
                results.append((False, b"refused"))
        whole, single = results
        self.assertEqual(whole[0], single[0])
        if whole[0]:
            self.assertEqual(whole, single)


class RefusalTests(SynchronousTestCase):
    """What is not."""

    def test_a_size_is_hexadecimal_and_nothing_else(self) -> None:
        """L7: no sign, base, space, separator nor overflow."""
        for size in (b"", b" ", b"-5", b"+5", b"0x5", b"5_0", b" 5", b"5 ", b"5\t", b"g", b"5h", b"5,5", b"f5" * 9,
                     b"0" * 17, b"\xd9\xa5", b"5\x00", b"5\x0b", b"5 5"):  # fmt: skip
            with self.subTest(size=size):
                self.assertEqual(decoded(size + b"\r\nhello\r\n" + LAST), BAD)

    def test_a_line_ends_in_cr_and_lf(self) -> None:
        """L7: wherever there is one, and it is seen before more comes."""
        for data in (b"5\nhello\r\n", b"5\rhello\r\n", b"5\r\rhello", b"5\r\nhello\n", b"5\r\nhello\r\r", b"0\n\n",
                     HELLO + b"0\r\n\n", HELLO + b"0\r\nVary: *\n\r\n", b"5;a\rb\r\nhello", b"5;a\n\r\n"):  # fmt: skip
            with self.subTest(data=data):
                refused_at(data)
                self.assertEqual(decoded(data + LAST)[0], 400)

    def test_a_chunk_ends_where_its_size_says(self) -> None:
        """L7: neither before nor after."""
        for data in (b"5\r\nhell\r\n" + LAST, b"5\r\nhello!\r\n" + LAST, b"5\r\nhello" + LAST, b"5\r\nhelloX"):
            self.assertEqual(decoded(data), BAD, repr(data))

    def test_extensions_parse(self) -> None:
        """L7: RFC 9112 section 7.1.1."""
        for extension in (b";", b"; ", b";;a", b";a;", b";a=", b";=b", b";a b", b";a ", b';a="', b';a="b',
                          b';a="b"c', b';a="\\"', b";a=b=c", b";a=(b)", b";\x00", b";a=\xff", b';a="\x01"',
                          b" x", b"x"):  # fmt: skip
            with self.subTest(extension=extension):
                self.assertEqual(decoded(b"5" + extension + b"\r\nhello\r\n" + LAST), BAD)

    def test_extensions_are_bounded(self) -> None:
        """L7: each line, and all together, whether or not they ever end."""
        name = b"a" * (LINE_MOST - 2)
        self.assertEqual(decoded(b"5;" + name + b"\r\nhello\r\n" + LAST), (b"hello", b""))
        self.assertEqual(decoded(b"5;a" + name + b"\r\nhello\r\n" + LAST), BAD)
        self.assertEqual(refused_at(b"5;" + b"a" * 2 * LINE_MOST), LINE_MOST + 1)
        times = EXTENSIONS_MOST // (LINE_MOST - 1)
        chunk = b"1;" + name + b"\r\nx\r\n"
        self.assertEqual(decoded(chunk * times + LAST), (b"x" * times, b""))
        self.assertEqual(decoded(chunk * (times + 1) + LAST), BAD)

    def test_trailers_that_would_change_the_request_are_refused(self) -> None:
        """L7: framing, routing, credentials; with an underscore too."""
        for name in (*FORBIDDEN_TRAILERS, b"Content-Length", b"HOST", b"transfer_encoding", b"X-Goog-Api-Key"):
            with self.subTest(name=name):
                self.assertEqual(decoded(HELLO + b"0\r\n" + name + b": 5\r\n\r\n"), (400, "TRAILER_FORBIDDEN"))

    def test_trailers_are_fields(self) -> None:
        """L7: as a head's are."""
        for line in (b"Vary", b": x", b"Vary : x", b" Vary: x", b"Vary: x\r\n y", b"V: \x00", b"V(: x", b"V: \x7f"):
            with self.subTest(line=line):
                self.assertEqual(decoded(HELLO + b"0\r\n" + line + b"\r\n\r\n"), (400, "HTTP_MALFORMED"))

    def test_trailers_are_bounded(self) -> None:
        """L9: in number and in bytes, also where a line never ends."""
        many = b"".join(b"X-%d: a\r\n" % number for number in range(FIELDS_MOST))
        self.assertEqual(decoded(HELLO + b"0\r\n" + many + b"\r\n"), (b"hello", b""))
        self.assertEqual(decoded(HELLO + b"0\r\n" + many + b"X: a\r\n\r\n"), (431, "HEAD_TOO_LARGE"))
        long = b"X: " + b"a" * (TRAILERS_MOST - 5)
        self.assertEqual(decoded(HELLO + b"0\r\n" + long + b"\r\n\r\n"), (b"hello", b""))
        self.assertEqual(decoded(HELLO + b"0\r\n" + long + b"a\r\n\r\n"), (431, "HEAD_TOO_LARGE"))
        self.assertEqual(refused_at(HELLO + b"0\r\nX: " + b"a" * 2 * TRAILERS_MOST), len(HELLO) + 3 + TRAILERS_MOST + 1)
