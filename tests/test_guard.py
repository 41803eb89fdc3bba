"""UTF-8 and depth, checked while the bytes come in: the same answer at every split."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.dialects.guard import DEPTH_LIMIT, Guard, GuardError, check


def taken(chunks: Iterable[bytes], limit: int = DEPTH_LIMIT, *, folds: bool = False) -> str:
    """Return what a guard says to these chunks, empty where it takes them; it may keep apart what is very short."""
    guard = Guard(limit, 0, 1) if folds else Guard(limit)
    try:
        for chunk in chunks:
            guard.feed(chunk)
        guard.end()
    except GuardError as error:
        return str(error)
    return ""


def at_once(text: bytes) -> str:
    """Return what is said to a text that is checked as a whole, empty where it is taken."""
    try:
        check(text)
    except GuardError as error:
        return str(error)
    return ""


def reference(text: bytes, limit: int) -> bool:
    """Say whether a text is taken, the simple way: one byte after the other."""
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    depth, quoted, escaped = 0, False, False
    for byte in text:
        if escaped:
            escaped = False
        elif byte == ord("\\") and quoted:
            escaped = True
        elif byte == ord('"'):
            quoted = not quoted
        elif not quoted and byte in b"[{":
            depth += 1
            if depth > limit:
                return False
        elif not quoted and byte in b"]}":
            depth -= 1
    return True


def nested(depth: int, inner: bytes = b"") -> bytes:
    return b'{"a":' * (depth // 2) + b"[" * (depth - depth // 2) + inner + b"]" * (depth - depth // 2) + b"}" * (
        depth // 2
    )


# A backslash stands in strings alone, as in JSON; the last string may lack its end.
OUTSIDE = st.sampled_from([b"[", b"{", b"]", b"}", b"x", b" ", "é".encode()])
INSIDE = st.lists(st.sampled_from([b"[", b"}", b"\\\\", b'\\"', b"\\n", b"x", "é".encode()]), max_size=8).map(b"".join)
TEXT = st.tuples(
    st.lists(OUTSIDE | INSIDE.map(lambda inner: b'"' + inner + b'"'), max_size=40).map(b"".join),
    st.just(b"") | INSIDE.map(lambda inner: b'"' + inner),
).map(b"".join)
DEEP = "nests deeper than 100 levels"
WRONG = "not valid UTF-8"
LARGE = "a number that no double holds"
LONG = "a number of more than 1000 characters"
CUT = "ends within a UTF-8 character"

TEXTS: list[tuple[str, bytes, str]] = [
    ("empty", b"", ""),
    ("as deep as it may be", nested(100), ""),
    ("one deeper", nested(101), DEEP),
    ("as deep as it may be, many times", b"[" + b",".join([nested(99)] * 3) + b"]", ""),
    ("one deeper, the third time", b"[" + b",".join([nested(99), nested(99), nested(100)]) + b"]", DEEP),
    ("brackets in a string", b'["' + b"[{" * 60 + b'"]', ""),
    ("closing brackets in a string", nested(99, b'"' + b"]}" * 9 + b'",[]'), ""),
    ("closing brackets in a string hide nothing", nested(100, b'"]}",[]'), DEEP),
    ("an escaped quote does not end a string", b'["\\"' + b"[" * 200 + b'"]', ""),
    ("an escaped backslash does not escape the quote", b'["\\\\",' + nested(99) + b"]", ""),
    ("a quote after an escaped backslash ends the string", b'["\\\\",' + nested(100) + b"]", DEEP),
    ("three backslashes and a quote", b'["\\\\\\"' + b"[" * 200 + b'"]', ""),
    ("escapes of other kinds", b'["\\n\\u005b\\/\\\\\\\\\\"' + b"[" * 101 + b'"]', ""),
    ("multi-byte characters", '["é漢😀\\"é"]'.encode(), ""),
    ("control bytes that the count itself uses", b'["\x00\x01\x02",\x02\x02]' + b"\x02" * 200, ""),
    ("a wrong byte", b'["\xff"]', WRONG),
    ("an overlong form", b'["\xc0\xaf"]', WRONG),
    ("a surrogate", b'["\xed\xa0\x80"]', WRONG),
    ("beyond Unicode", b'["\xf4\x90\x80\x80"]', WRONG),
    ("the largest doubles", b'[1.7976931348623157e308,-1.7e+308,1E308,' + b"1" * 309 + b"]", ""),
    ("beyond them", b"[1.8e308]", LARGE),
    ("far beyond", b'{"a":[1,2,-1e999]}', LARGE),
    ("exponents on both sides", b"[1e199,1e0199," + b"1" * 110 + b"e198]", ""),
    ("a hundred digits and an exponent", b"[" + b"1" * 111 + b"e199]", LARGE),
    ("four digits of exponent that begin with one", b"[1e1000]", LARGE),
    ("with a sign and zeros", b"[1E+0000000309]", LARGE),
    ("many digits, and two of exponent", b"[" + b"1" * 250 + b"e99]", LARGE),
    ("many digits that the exponent takes back", b"[" + b"1" * 400 + b"e-300]", ""),
    ("more digits than a double has", b"[" + b"2" * 309 + b"]", LARGE),
    ("small ones, which are nothing", b"[1e-999,-0e-9999,0." + b"0" * 500 + b"1]", ""),
    ("no overflow in nought", b"[0e99999]", ""),
    ("as long as it may be", b"[0." + b"1" * 998 + b"]", ""),
    ("longer", b"[0." + b"1" * 999 + b"]", LONG),
    ("5,000 digits", b'{"a":' + b"9" * 5000 + b"}", LONG),
    ("what is no number in a string", b'["1e999","' + b"1" * 5000 + b'"]', ""),
    ("beside strings", b'["1e99",9,"e999",{"e999":1e9}]', ""),
    ("what a string keeps apart, which the parser refuses", b'[1e9""99,1e9"x"99]', ""),
    ("literals with an e before a number", b"[true,999,false,1e9,null]", ""),
    ("malformed ones, which the parser refuses", b"[1e9999e9,1.e999.,-+e1000]", ""),
    ("a character cut at the end", b'["\xe6\xbc', CUT),
]


class GuardTests(SynchronousTestCase):
    """L10: what the parser does not check."""

    @given(
        st.lists(st.text("0123456789.eE+-", max_size=12) | st.integers().map(str) | st.floats().map(repr), max_size=6),
        st.lists(st.integers(0, 80), max_size=6),
    )
    @settings(deadline=None, max_examples=500)
    def test_numbers_are_those_that_python_holds(self, numbers: list[str], cuts: list[int]) -> None:
        """L10: over any that Python reads as JSON, in any chunks."""
        text = ("[" + ",".join(numbers) + "]").encode()
        edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
        said = taken(text[start:end] for start, end in pairwise(edges))
        try:
            values = json.loads(text)
        except ValueError:
            return
        # Python knows NaN and Infinity by name; the guard leaves them to the parser.
        large = any(math.isinf(value) for value in values) and b"Infinity" not in text
        self.assertEqual(said != "", large, text)

    def test_verdict_is_the_same_at_every_split(self) -> None:
        """L10: depth 100 is taken and 101 refused, whatever strings hold and wherever the text is cut."""
        for name, text, problem in TEXTS:
            splits: list[tuple[str, list[bytes]]] = [
                ("whole", [text]),
                ("byte by byte", [text[at : at + 1] for at in range(len(text))]),
                ("with empty chunks", [piece for at in range(len(text)) for piece in (text[at : at + 1], b"")]),
                *((f"cut at {at}", [text[:at], text[at:]]) for at in range(len(text) + 1)),
            ]
            for how, chunks in splits:
                for folds in (False, True):
                    said = taken(chunks, folds=folds)
                    self.assertEqual(bool(said), bool(problem), f"{name}, {how}, {folds}: {said!r}")
                    self.assertIn(problem, said, f"{name}, {how}, {folds}")

    def test_check_of_a_whole_text_says_the_same(self) -> None:
        """L10: in the same words."""
        for name, text, _ in TEXTS:
            self.assertEqual(at_once(text), taken([text]), name)

    @given(TEXT | st.binary(max_size=40) | st.text('0123456789.eE+-[]{},"', max_size=40).map(str.encode))
    @settings(deadline=None, max_examples=500)
    def test_check_agrees_with_the_guard(self, text: bytes) -> None:
        """Over any text, however deep it is within."""
        for shown in (text, nested(98, text)):
            self.assertEqual(at_once(shown), taken([shown]))

    def test_refusal_comes_with_the_chunk_that_deserves_it(self) -> None:
        """A body that is too deep is refused before the rest of it has come."""
        guard = Guard()
        guard.feed(b"[" * 100)
        self.assertRaises(GuardError, guard.feed, b"[")

    def test_message_says_what_to_do(self) -> None:
        """The sentences are for the client."""
        self.assertIn("flatten it", taken([b"[" * 101]))
        self.assertIn("send JSON encoded as UTF-8", taken([b"\xff"]))
        self.assertIn("send all of it", taken([b"\xc3"]))

    @given(
        TEXT,
        st.integers(1, 6),
        st.lists(st.integers(0, 80), max_size=6),
    )
    @settings(deadline=None, max_examples=500)
    def test_guard_agrees_with_the_simple_way(self, text: bytes, limit: int, cuts: list[int]) -> None:
        """Over any text in which a backslash stands in strings alone, as in JSON, and any chunks."""
        edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
        chunks = [text[start:end] for start, end in pairwise(edges)]
        for folds in (False, True):
            self.assertEqual(not taken(chunks, limit, folds=folds), reference(text, limit), repr((text, chunks)))

    @given(st.binary(max_size=40), st.integers(0, 40))
    @settings(deadline=None, max_examples=300)
    def test_utf8_is_checked_as_a_whole_text_would_be(self, text: bytes, cut: int) -> None:
        """Any bytes, cut anywhere."""
        said = taken([text[:cut], text[cut:]])
        try:
            text.decode("utf-8")
        except UnicodeDecodeError:
            self.assertIn("UTF-8", said)
        else:
            self.assertEqual(said, "")
