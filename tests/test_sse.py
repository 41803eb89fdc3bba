"""Event framing, in and out: golden streams at every split, the format's own cases, the limit."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway import sse
from gateway.sse import Decoder, EventTooLarge

LIMIT = 1 << 20
PIECES = [b"{", b"\n", b"\r", b"\xe2\x80\xa8", b"\xc2\x85", b"\xe2", b"data: "]
"""What framing looks for, and some of it in part."""


def decoded(chunks: Iterable[bytes], limit: int = LIMIT) -> list[bytes]:
    """Decode a whole body that comes in these chunks."""
    decoder = Decoder(limit)
    out = [payload for chunk in chunks for payload in decoder.feed(chunk)]
    return out + decoder.feed(sse.GAP)


def as_a_stream_does(chunks: Iterable[bytes]) -> list[bytes]:
    """Decode a whole body, each event that comes by itself in the short way."""
    decoder = Decoder(LIMIT)
    out: list[bytes] = []
    for chunk in chunks:
        alone = decoder.alone(chunk)
        out += [alone] if alone else decoder.feed(chunk)
    return out + decoder.feed(sse.GAP)


def two_ways(text: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Return every split of a text in two, those with an empty half included."""
    return ((text[:at], text[at:]) for at in range(len(text) + 1))


def single_bytes(text: bytes) -> list[bytes]:
    return [text[at : at + 1] for at in range(len(text))]


GOLDEN: dict[str, tuple[bytes, list[bytes]]] = {
    "lf": (b'data: {"a":1}\n\ndata: {"b":2}\n\n', [b'{"a":1}', b'{"b":2}']),
    "crlf": (b'data: {"a":1}\r\n\r\ndata: {"b":2}\r\n\r\n', [b'{"a":1}', b'{"b":2}']),
    "cr": (b'data: {"a":1}\r\rdata: {"b":2}\r\r', [b'{"a":1}', b'{"b":2}']),
    "mixed ends": (b"data: 1\r\n\ndata: 2\n\r\ndata: 3\r\r\ndata: 4\n\n", [b"1", b"2", b"3", b"4"]),
    "cr then crlf": (b"data: 1\r\r\n\r\ndata: 2\r\n\r", [b"1", b"2"]),
    "several data lines": (b'data: {"a":\ndata: 1,\r\ndata: "b":2}\r\n\r\n', [b'{"a":\n1,\n"b":2}']),
    "comments": (b': hello\n\ndata: {"a":1}\n: in between\n\n:\n\n:data: 2\n\n', [b'{"a":1}']),
    "comment between data lines": (b"data: 1\n:x\ndata: 2\n\n", [b"1\n2"]),
    "byte order mark": (b"\xef\xbb\xbfdata: 1\n\ndata: 2\n\n", [b"1", b"2"]),
    "byte order mark before a comment": (b"\xef\xbb\xbf: c\ndata: 1\n\n", [b"1"]),
    "no space after the colon": (b'data:{"a":1}\n\ndata:[DONE]\n\n', [b'{"a":1}', b"[DONE]"]),
    "two spaces": (b"data:  1\n\n", [b" 1"]),
    "tab": (b"data:\t1\n\n", [b"\t1"]),
    "done": (b'data: {"a":1}\n\ndata: [DONE]\n\n', [b'{"a":1}', b"[DONE]"]),
    "further fields": (b'event: message\nid: 7\nretry: 10\ndata: {"a":1}\nwhat: ever\n\n', [b'{"a":1}']),
    "blank lines": (b"\n\r\n\r\rdata: 1\n\n\n\n\r\ndata: 2\n\n\n", [b"1", b"2"]),
    "multi-byte": ('data: {"t":"é漢😀"}\n\n'.encode(), ['{"t":"é漢😀"}'.encode()]),
    "Unicode's line separators are text": ("data: \u0085\u2028\u2029\n\n".encode(), ["\u0085\u2028\u2029".encode()]),
    "control bytes are text": (b"data: \x0b\x0c\x1c\x1d\x1e\x00\n\n", [b"\x0b\x0c\x1c\x1d\x1e\x00"]),
    "invalid UTF-8": (b'data: {"t":"\xff\xc3\x28\xed\xa0\x80"}\n\n', [b'{"t":"\xff\xc3\x28\xed\xa0\x80"}']),
    "nul": (b'data: {"t":"\x00"}\nid: a\x00b\n\n', [b'{"t":"\x00"}']),
    "last event without its blank line": (b"data: 1\n\ndata: 2\n", [b"1", b"2"]),
    "last line without its end": (b"data: 1\n\ndata: 2", [b"1", b"2"]),
    "cut before the last line feed": (b"data: 1\r\n\r\ndata: 2\r\n\r", [b"1", b"2"]),
    "nothing but comments": (b": a\n\n: b\n\n", []),
    "empty": (b"", []),
}

HTML_STANDARD: list[tuple[str, bytes, list[bytes]]] = [
    # https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
    ("a field name is matched as it is", b"DATA: 1\ndATA:2\ndata: 3\n\n", [b"3"]),
    ("a space before the name makes another name", b" data: 1\ndata: 2\n\n", [b"2"]),
    ("a space before the colon makes another name", b"data : 1\ndata: 2\n\n", [b"2"]),
    ("a longer name is another name", b"data1: 1\ndatax\ndata: 2\n\n", [b"2"]),
    ("a NUL in the name makes another name", b"da\x00ta: 1\ndata\x00: 2\ndata: 3\n\n", [b"3"]),
    ("one leading space is taken away", b"data: test\n\ndata:test\n\n", [b"test", b"test"]),
    ("only the first leading space is taken away", b"data:  test\n\n", [b" test"]),
    ("a leading tab is text", b"data:\ttest\n\n", [b"\ttest"]),
    ("trailing space is text", b"data: test \n\n", [b"test "]),
    ("several data lines are joined by line feeds", b"data: YHOO\ndata: +2\ndata: 10\n\n", [b"YHOO\n+2\n10"]),
    ("the colons that follow are text", b"data: a:b: c\n\n", [b"a:b: c"]),
    ("a leading colon makes a comment", b":data: 1\n: \n:\ndata: 2\n\n", [b"2"]),
    ("a data line of one empty value keeps its place", b"data: 1\ndata:\ndata: 2\n\n", [b"1\n\n2"]),
    ("retry and id say nothing here", b"retry: 1000\nid: 1\ndata: x\n\nid\nretry: 1x\ndata: y\n\n", [b"x", b"y"]),
    ("an event type says nothing to a client here", b"event: test\ndata: x\n\nevent: y\n\ndata: z\n\n", [b"x", b"z"]),
    ("a byte order mark counts once", b"\xef\xbb\xbf\xef\xbb\xbfdata: 1\n\ndata: 2\n\n", [b"2"]),
    ("a byte order mark counts at the start only", b"data: 1\n\n\xef\xbb\xbfdata: 2\n\ndata: 3\n\n", [b"1", b"3"]),
    ("line ends may be mixed", b"data: 1\rdata: 2\r\ndata: 3\n\r", [b"1\n2\n3"]),
    ("a CR and an LF apart are two ends", b"data: 1\r\ndata: 2\n\rdata: 3\n\n", [b"1\n2", b"3"]),
    # Where the gateway leaves the standard, on purpose: nothing that holds no JSON is passed on,
    ("an event of empty data is left out", b"data:\n\ndata\ndata\n\ndata:\ndata: \n\ndata: test\n\n", [b"test"]),
    # and what a cleanly ended body leaves unfinished still counts.
    ("an unfinished event at a clean end counts", b"data: 1\n\ndata: 2", [b"1", b"2"]),
]


class DecoderTests(SynchronousTestCase):
    """Bytes in, payloads out."""

    def test_golden_streams_give_their_payloads_at_every_split(self) -> None:
        """C10: every split in two, and bytes one by one, give the same payloads as the whole."""
        for name, (text, payloads) in GOLDEN.items():
            self.assertEqual(decoded([text]), payloads, f"{name}, whole")
            self.assertEqual(decoded(single_bytes(text)), payloads, f"{name}, byte by byte")
            for head, tail in two_ways(text):
                self.assertEqual(decoded([head, tail]), payloads, f"{name}, split after {head!r}")

    def test_the_standards_cases_give_their_payloads_at_every_split(self) -> None:
        """C9/X: field names, colons, spaces, comments, marks and line ends as the HTML standard has them."""
        for name, text, payloads in HTML_STANDARD:
            self.assertEqual(decoded([text]), payloads, name)
            self.assertEqual(decoded(single_bytes(text)), payloads, f"{name}, byte by byte")
            for head, tail in two_ways(text):
                self.assertEqual(decoded([head, tail]), payloads, f"{name}, split after {head!r}")

    def test_the_short_way_of_an_event_that_comes_alone_gives_what_the_other_gives(self) -> None:
        """At every split, so that such an event comes after every beginning of another."""
        cases = [*GOLDEN.values(), *((text, payloads) for _, text, payloads in HTML_STANDARD)]
        for text, payloads in cases:
            for chunks in ([text], *two_ways(text), single_bytes(text)):
                self.assertEqual(as_a_stream_does(chunks), payloads, repr(chunks))
        self.assertEqual(Decoder(LIMIT).alone(b'data: {"a":1}\r\n\r\n'), b'{"a":1}')
        self.assertEqual(Decoder(10).alone(b'data: {"a":1}\n\n'), b"")

    def test_events_come_out_as_soon_as_their_blank_line_is_there(self) -> None:
        """An event waits for nothing but the first byte of its blank line."""
        for ends in (b"\n", b"\r\n", b"\r"):
            decoder = Decoder(LIMIT)
            self.assertEqual(decoder.feed(b"data: 1" + ends), [], repr(ends))
            self.assertEqual(decoder.feed(ends[:1]), [b"1"], repr(ends))
            self.assertEqual(decoder.feed(ends[1:] + b"data: 2" + ends + ends), [b"2"], repr(ends))
            self.assertEqual(decoder.feed(sse.GAP), [], repr(ends))

    def test_bad_lines_do_not_spoil_the_event_that_follows(self) -> None:
        """C9: the decoder is in step again at the next blank line."""
        self.assertEqual(decoded([b'\x00\xff{"a":1}\n<html>\r\r\n\ndata: 1\n\n']), [b"1"])

    @given(
        st.lists(
            st.sampled_from(
                [b"data:", b"data: ", b"data", b":", b"id: 1", b"\r", b"\n", b"\r\n", b"\n\n", b"x", b" ", b"[DONE]",
                 b"\xef\xbb\xbf", b"\xff", "é".encode(), b"\x00"]
            ),
            max_size=30,
        ).map(b"".join),
        st.lists(st.integers(0, 200), max_size=8),
    )  # fmt: skip
    @settings(deadline=None, max_examples=300)
    def test_no_split_in_many_changes_the_payloads(self, text: bytes, cuts: list[int]) -> None:
        """C10: whatever the text and wherever it is cut, the payloads are those of the whole."""
        edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
        pieces = [text[start:end] for start, end in pairwise(edges)]
        self.assertEqual(decoded(pieces), decoded([text]))

    @given(st.lists(st.binary(min_size=1, max_size=20).filter(lambda data: not set(data) & {10, 13, 32, 0x85, 0x80})))
    @settings(deadline=None)
    def test_what_is_framed_is_decoded_again(self, payloads: list[bytes]) -> None:
        """The two halves of the module agree with each other."""
        self.assertEqual(decoded([b"".join(map(sse.frame, payloads))]), payloads)

    @given(st.lists(st.lists(st.sampled_from(PIECES)).map(b"".join), min_size=1, max_size=9))
    def test_events_framed_together_are_as_those_framed_alone(self, payloads: list[bytes]) -> None:
        """Whatever one of them needs, each gets."""
        self.assertEqual(sse.frames(payloads), b"".join(map(sse.frame, payloads)))


class LimitTests(SynchronousTestCase):
    """C12: what the decoder holds is bounded."""

    def refused(self, text: bytes, limit: int) -> list[bool]:
        """Say for the whole text, for every split in two and for single bytes whether it was refused."""
        out = []
        for chunks in ([text], *two_ways(text), single_bytes(text)):
            try:
                decoded(chunks, limit)
            except EventTooLarge:
                out.append(True)
            else:
                out.append(False)
        return out

    def test_limit_is_the_same_at_every_split(self) -> None:
        """C12: an event up to the limit passes and one beyond it is refused, however it comes."""
        table = [
            ("one line, at the limit", b"data: 6789\n\n", 10, False),
            ("one line, over it", b"data: 67890\n\n", 10, True),
            ("several lines, at the limit", b"data: 1\ndata: 2\n\n", 14, False),
            ("several lines, over it", b"data: 1\ndata: 2\n\n", 13, True),
            ("a line without an end", b"data: " + b"x" * 20, 25, True),
            ("a long comment", b":" + b"x" * 30 + b"\n\n", 30, True),
            ("a long field of another name", b"id: " + b"x" * 30 + b"\n\n", 30, True),
            ("two events, each within it", b"data: 6789\n\ndata: 6789\n\n", 10, False),
            ("many comments between events", b": 345678\n" * 20 + b"data: 1\n\n", 10, False),
            ("a mark before the line, over it with it", b"\xef\xbb\xbfdata: 6789\n\n", 12, True),
            ("empty data lines, over it", b"data:\n" * 10, 49, True),
        ]
        for name, text, limit, refused in table:
            self.assertEqual(set(self.refused(text, limit)), {refused}, name)

    def test_comments_in_pieces_do_not_add_up(self) -> None:
        """Comments without blank lines between them hold nothing, so they never are too much."""
        decoder = Decoder(64)
        for _ in range(100):
            self.assertEqual(decoder.feed(b": keep-"), [])
            self.assertEqual(decoder.feed(b"alive\n"), [])
        self.assertEqual(decoder.feed(b"data: 1\n\n"), [b"1"])

    def test_empty_data_lines_do_not_gather_without_end(self) -> None:
        """C12: lines that hold nothing are counted too, for they take room."""
        decoder = Decoder(1000)
        with self.assertRaises(EventTooLarge):
            for _ in range(1000):
                decoder.feed(b"data:\n" * 10)

    def test_work_grows_with_the_bytes_and_not_with_their_square(self) -> None:
        """C12: each line of an event of very many lines is looked at once, not the lines before it again."""
        looked_at = 0

        class Counting(Decoder):
            def _line(self, line: bytes, events: list[bytes]) -> None:
                nonlocal looked_at
                looked_at += len(line)
                super()._line(line, events)

        text = b"data: 1\n" * 200_000
        self.assertEqual(Counting(len(text)).feed(text), [])
        self.assertEqual(looked_at, 7 * 200_000)
        # With a sum over all earlier lines at each line this would take hours.
        decoder = Decoder(16 * len(text))
        for _ in range(8):
            self.assertEqual(decoder.feed(text), [])
        (payload,) = decoder.feed(b"\n")
        self.assertEqual(payload.count(b"\n") + 1, 8 * 200_000)

    def test_long_line_in_small_pieces_is_put_together_once(self) -> None:
        """C12: a long line that comes in small pieces is whole in the end."""
        decoder = Decoder(LIMIT)
        decoder.feed(b"data: ")
        for _ in range(100_000):
            self.assertEqual(decoder.feed(b"0123456789"), [])
        self.assertEqual(decoder.feed(b"\n\n"), [b"0123456789" * 100_000])


class FrameTests(SynchronousTestCase):
    """One payload in, one event out."""

    def test_event_is_one_line_and_a_blank_line(self) -> None:
        """Exactly ``data: ``, one line, a blank line: what every known client accepts."""
        table = [
            (b'{"a":1}', b'data: {"a":1}\n\n'),
            (b"[DONE]", b"data: [DONE]\n\n"),
            (b'{"a":\n1,\r\n"b":2\r}', b'data: {"a":1,"b":2}\n\n'),
            ('{"t":"é\u2028\u2029\u0085"}'.encode(), 'data: {"t":"é\\u2028\\u2029\\u0085"}\n\n'.encode()),
            ('{"t":"\u2027\u0084\u00a0"}'.encode(), 'data: {"t":"\u2027\u0084\u00a0"}\n\n'.encode()),
            (b'{"t":"\xff\x00"}', b'data: {"t":"\xff\x00"}\n\n'),
        ]
        for payload, event in table:
            self.assertEqual(sse.frame(payload), event, repr(payload))

    def test_no_reader_of_lines_sees_a_break_within_an_event(self) -> None:
        """google-genai 2 takes Unicode's line breaks for the end of a line, and fails on the rest."""
        text = "".join(map(chr, (*range(0x20, 0x300), *range(0x2000, 0x2100))))
        event = sse.frame(json.dumps({"t": text}, ensure_ascii=False).encode()).decode()
        self.assertEqual(len(event.splitlines()), 2)
        self.assertEqual(json.loads(event[6:])["t"], text)

    def test_json_keeps_its_meaning_without_its_line_breaks(self) -> None:
        """A pretty-printed object says the same on one line."""
        document = {"candidates": [{"content": {"parts": [{"text": "a\nb\r"}]}}], "n": [1, 2, {}]}
        line = sse.frame(json.dumps(document, indent=2).encode())
        self.assertEqual(json.loads(line[6:]), document)
        self.assertEqual(line.count(b"\n"), 2)
