"""JSON objects taken apart and put together: every value keeps its bytes."""

from __future__ import annotations

import json

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway import splice

VALUES = [
    b"1e400", b"-1E-400", b"1" + b"0" * 5000, b"0.10000000000000000000000001", b"-0", b"null", b"true",
    b'"\\u00e9\\/\\ud83d\\ude00\\n"', '"é😀"'.encode(), b'"\x7f"', b'""', b"[ 1 ,\t2 ]", b'{ "a" :\r\n{ } , "a":2 }',
]  # fmt: skip

REFUSED = [
    b"", b" ", b"[]", b"null", b'"x"', b"1", b"{", b"}", b"{}x", b"{}{}", b"\xef\xbb\xbf{}", b"{'a':1}", b'{"a"}',
    b'{"a":1,}', b'{,"a":1}', b'{"a":[1,]}', b'{"a":{"b":1,}}', b'{"a":[1 2]}', b'{"a":01}', b'{"a":-01}',
    b'{"a":1.}', b'{"a":.5}', b'{"a":+1}', b'{"a":-}', b'{"a":1e}', b'{"a":0x1}', b'{"a":NaN}', b'{"a":Infinity}',
    b'{"a":-Infinity}', b'{"a":nul}', b'{"a":truex}', b'{"a":"\\q"}', b'{"a":"\\u12G4"}', b'{"a":"\\ud800"}',
    b'{"a":"\\ud800x"}', b'{"a":"\x01"}', b'{"a":"\n"}', b'{"a":"x', b'{"a":"x\\', b'{"a":1/**/}', b'{"a":1 \x0b}',
    b'{"a":\xc2\xa01}', b'{"\xff":1}', b'{"\\ud800":1}', b'{1:1}', b'{"a":[}', b'{"a":' + b"[" * 200_000,
    b'{"a":' * 100_000,
]  # fmt: skip

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class MembersTests(SynchronousTestCase):
    """Objects and arrays taken apart."""

    def test_values_keep_the_bytes_they_came_in(self) -> None:
        """Numbers, escapes and space within a value come out as they went in."""
        for value in VALUES:
            for space in (b"", b" ", b"\r\n\t"):
                text = b"{" + space + b'"a"' + space + b":" + space + value + space + b',"b":1}' + space
                found = splice.members(text)
                self.assertEqual(list(found), ["a", "b"], repr(text[:60]))
                self.assertEqual(bytes(found["a"]), value, repr(text[:60]))

    def test_members_come_in_order_and_the_last_of_a_name_counts(self) -> None:
        """L10: of a name that comes twice the last value counts."""
        found = splice.members(b'{"b":1,"a":2,"\\u0062":3}')
        self.assertEqual({name: bytes(value) for name, value in found.items()}, {"b": b"3", "a": b"2"})
        self.assertEqual(list(found), ["b", "a"])

    def test_what_is_no_object_is_refused(self) -> None:
        """L10: bad syntax anywhere, another type, wrong bytes in a name, endless nesting."""
        for text in REFUSED:
            with self.assertRaises(splice.NotAnObject, msg=repr(text[:60])) as caught:
                splice.members(text)
            self.assertTrue(str(caught.exception), repr(text[:60]))

    def test_items_keep_their_bytes(self) -> None:
        """An array's items come out as they went in; what is no array is refused."""
        text = b" [ " + b" , ".join(VALUES) + b" ] "
        self.assertEqual([bytes(item) for item in splice.items(text)], VALUES)
        self.assertEqual(splice.items(b"[]"), [])
        for bad in (b"{}", b"", b"[1", b"[1,]", b"null", b"[" * 200_000, b'[{"\xff":01}]'):
            with self.assertRaises(splice.NotAnObject, msg=repr(bad[:60])):
                splice.items(bad)

    @given(st.dictionaries(st.text(), JSON, max_size=6), st.sampled_from([None, 2]), st.booleans())
    @settings(deadline=None)
    def test_what_is_taken_apart_goes_together_again(
        self, document: dict[str, object], indent: int | None, ascii_only: bool
    ) -> None:
        """Apart and together again is the same document, with each value's own bytes."""
        text = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        found = splice.members(text)
        joined = splice.join(found.items())
        self.assertEqual(json.loads(joined), document)
        self.assertEqual(
            {name: bytes(value) for name, value in splice.members(joined).items()},
            {name: bytes(value) for name, value in found.items()},
        )


class JoinTests(SynchronousTestCase):
    """Objects and arrays put together."""

    def test_object_is_written_without_space(self) -> None:
        """Names are strings of JSON, values go in as they are."""
        table: list[tuple[list[tuple[str, bytes]], bytes]] = [
            ([], b"{}"),
            ([("a", b"1")], b'{"a":1}'),
            ([("a", b" 1 "), ('q"\\\n', b"[ ]"), ("é", b"1e400")], '{"a": 1 ,"q\\"\\\\\\n":[ ],"é":1e400}'.encode()),
        ]
        for parts, text in table:
            self.assertEqual(splice.join(parts), text)

    def test_array_is_written_without_space(self) -> None:
        """Items go in as they are."""
        self.assertEqual(splice.array([]), b"[]")
        self.assertEqual(splice.array([b"1", msgspec.Raw(b"{ }")]), b"[1,{ }]")

    def test_strings_are_quoted(self) -> None:
        """What a name or an id holds cannot end its string."""
        for text in ('a"},"x":{"', "\\", "\x00\n", "é😀", ""):
            self.assertEqual(json.loads(splice.string(text)), text)

    def test_renaming_leaves_a_name_that_is_there(self) -> None:
        """The member under the new name wins over one that would be renamed to it."""
        names = {"system_instruction": "systemInstruction"}
        table = [
            (b'{"system_instruction":1,"a":2}', {"a": b"2", "systemInstruction": b"1"}),
            (b'{"system_instruction":1,"systemInstruction":3}', {"systemInstruction": b"3"}),
            (b'{"systemInstruction":3,"system_instruction":1}', {"systemInstruction": b"3"}),
            (b'{"a":1}', {"a": b"1"}),
        ]
        for text, out in table:
            found = splice.renamed(splice.members(text), names)
            self.assertEqual({name: bytes(value) for name, value in found.items()}, out, repr(text))

    def test_null_is_the_same_as_nothing(self) -> None:
        """As in proto-JSON."""
        for value, given_ in ((msgspec.UNSET, False), (msgspec.Raw(b"null"), False), (msgspec.Raw(b"0"), True)):
            self.assertIs(splice.given(value), given_, repr(value))
