"""Bodies whose images are kept apart from their text: guard, gathering and what is done with what they return."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import GatewayError
from gateway.dialects import gemini
from gateway.dialects.guard import FOLDED_FROM_BYTES, Guard, GuardError
from gateway.edge.gathering import Gathering
from gateway.edge.storing import Spare
from gateway.folding import Folded, mark, unfolded
from gateway.routing.affinity import resources
from gateway.routing.session import fingerprint
from gateway.upstreams.aistudio import retargeted

LONG = "iVBORw0KGgo/" * 8000
PIECES = st.sampled_from(
    ["x", "A" * 20, "0123456789abcdef" * 3, "é", "\\n", '\\"', "\\\\", "\\u00e9", "\\ud83d\\ude00", "\\ud83d", "\\",
     "\n", "\x7f", '"', '":"', '","', "]", "{", " ", " a b c d ", "\\n \\n "]
)  # fmt: skip
STRING = st.lists(PIECES, max_size=6).map("".join)
NUMBER = st.sampled_from(
    ["1", "-2.5e3", "0", "[]", "[3,4]", "[[5], 6]", "", "]", "[", " 7\n", "true", "{}", "01", '"8"']
)
NUMBERS = st.lists(NUMBER, max_size=9).map(",".join)
TEXT = st.lists(st.tuples(STRING, STRING, NUMBERS), max_size=4).map(
    lambda members: "{" + ",".join(f'"{name}":["{value}",1{more and ","}{more}]' for name, value, more in members) + "}"
)


def read(chunks: Sequence[bytes], guard: Guard | None = None) -> Folded:
    """Return what a body in these chunks becomes; raises GuardError."""
    guard, gathering = guard or Guard(), Gathering(Spare(Clock()))
    for chunk in chunks:
        gathering.add(chunk, guard.feed(chunk))
    guard.end()
    return gathering.take()


def read_in_place(chunks: Sequence[bytes], guard: Guard) -> Folded:
    """Return the same of a body whose chunks are put into their place where there is one; raises GuardError."""
    gathering = Gathering(Spare(Clock()))
    for chunk in chunks:
        place = gathering.place(len(chunk)) if chunk else None
        if place is not None:
            place[:] = chunk
        if place is not None and guard.goes_on(place):
            gathering.placed(len(chunk))
        else:
            gathering.add(chunk, guard.feed(chunk))
    guard.end()
    return gathering.take()


def chunks_of(text: bytes, size: int) -> list[bytes]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def request(image: str = LONG) -> bytes:
    parts = [{"text": "what is it?"}, {"inlineData": {"mimeType": "image/png", "data": image}}]
    return json.dumps({"contents": [{"role": "user", "parts": parts}], "x": "y" * FOLDED_FROM_BYTES}).encode()


class FoldingTests(SynchronousTestCase):
    """L10: a text is the same with folds as without."""

    @given(TEXT, st.lists(st.integers(0, 300), max_size=6))
    @example('{"a":["\\u12' + "3" * 40 + '",1]}', [10])
    @example('{"a":["\\ud83d' + "3" * 40 + '",1]}', [13])
    @example('{"' + "n" * 40 + '":["x",1]}', [2])
    @example('{"a":["x\\ud83d ' + "3" * 40 + ' \\ude00 ",1]}', [10, 61])
    @example('{"a":[1,2,3,4,5]}', [2, 7, 12])
    @example('{"a":[[1,2],[3,4],[5,6],[7]]}', [8, 23])
    @example('{"a":1,2,3,4,"b":5}', [6, 13])
    @example('{"a":[0,1],[2,3],[4,0]}', [6, 20])
    @example('{"a":["x\\ ' + "3" * 40 + ' \\",1]}', [9, 54])
    @example('{"a":["' + "3" * 40 + "\n" + "3" * 40 + '",1]}', [8, 60])
    @example('{"a":["' + "3" * 40 + "é" + "3" * 9 + '",1]}', [20, 48])
    @example('{"a":["' + "3" * 30 + "==" + "3" * 30 + '=",1]}', [20, 48])
    @example('{"a":["' + "3" * 40 + "-_" + "3" * 22 + '",1]}', [20, 44, 60])
    @example('{"a":["' + "3" * 40 + " " + "3" * 21 + "\x1f" + '",1]}', [20, 44, 60])
    @example('{"a":["' + "3" * 42 + '\\' + "3" * 9 + '",1]}', [20, 50])
    @settings(deadline=None, max_examples=600)
    def test_text_is_taken_and_read_as_it_would_be_whole(self, text: str, cuts: list[int]) -> None:
        """Over strings with escapes, half ones, quotes and control characters, and any chunks: nothing is lost."""
        body = text.encode()
        edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
        chunks = [body[start:end] for start, end in pairwise(edges)]
        try:
            due: object = {name: bytes(value) for name, value in gemini.parse_body(body).items()}
        except GatewayError as error:
            due = str(error)
        folded = read(chunks, Guard(100, 0, 1))
        self.assertEqual(folded.whole().text, body)
        found: object
        try:
            left, members = gemini.taken_apart(folded)
            self.assertEqual(left.whole().text, body)
            found = {name: b"".join(unfolded(bytes(value), left.folds)) for name, value in members.items()}
        except GatewayError as error:
            found = str(error)
        self.assertEqual(found, due)
        self.assertEqual(read_in_place(chunks, Guard(100, 0, 1)), folded)

    def test_an_image_is_kept_apart(self) -> None:
        """What is left of a large body is small, whatever the size of the chunks that it comes in."""
        body = request()
        for size in (1200, 16_384, 65_536):
            folded = read(chunks_of(body, size))
            self.assertLess(len(folded.text), FOLDED_FROM_BYTES + 3 * size, size)
            self.assertEqual(folded.whole().text, body)
            self.assertLess(len(folded.folds), 4, size)

    def test_a_long_text_is_kept_apart_too(self) -> None:
        """Line breaks, quotes and other than ASCII are no matter, where spaces show that no escape is cut."""
        text = 'def f(x):\n    return {"é": "漢\\"}  # \t\u0001 😀\n' * 8000
        for ascii_only in (False, True):
            body = json.dumps({"contents": [{"parts": [{"text": text}]}]}, ensure_ascii=ascii_only).encode()
            for size in (1500, 16_384, 65_536):
                folded = read(chunks_of(body, size))
                self.assertLess(len(folded.text), FOLDED_FROM_BYTES + 3 * size + len(body) // size * 200, size)
                self.assertTrue(folded.whole().text == body)
                left, members = gemini.taken_apart(folded)
                self.assertEqual((left.folds, list(members)), (folded.folds, ["contents"]))

    def test_long_lists_of_numbers_are_kept_apart_too(self) -> None:
        """Flat ones and lists of lists: what is left to be parsed in one go is small."""
        flat = [at / 7 for at in range(40_000)]
        for numbers in (flat, [flat[at : at + 30] for at in range(0, len(flat), 30)]):
            body = json.dumps({"contents": [{"parts": [{"text": "x"}]}], "numbers": numbers}).encode()
            for size in (4096, 16_384, 65_536):
                folded = read(chunks_of(body, size))
                self.assertLess(len(folded.text), FOLDED_FROM_BYTES + 3 * size + len(body) // size * 1200, size)
                self.assertTrue(folded.whole().text == body)
                left, members = gemini.taken_apart(folded)
                self.assertEqual((left.folds, list(members)), (folded.folds, ["contents", "numbers"]))

    def test_a_small_body_is_left_as_it_is(self) -> None:
        """Of what is no larger than one read nothing is taken out."""
        body = request("x" * 100)[:FOLDED_FROM_BYTES]
        self.assertEqual(read([body]), Folded(body))

    def test_a_session_does_not_depend_on_the_chunks(self) -> None:
        """The same first turn has the same fingerprint, whether of its image more or less is kept apart."""
        body = request()
        plain = fingerprint("key", None, gemini.first_user_turn(gemini.parse_body(body)))
        for size in (1200, 16_384, 65_536):
            left, members = gemini.taken_apart(read(chunks_of(body, size)))
            self.assertTrue(left.folds)
            turn = unfolded(gemini.first_user_turn(members), left.folds)
            self.assertEqual(fingerprint("key", None, *turn), plain, size)

    def test_marks_go_where_their_member_goes(self) -> None:
        """A member may be replaced, dropped or moved: its fold goes with it."""
        long = b"a" * 90_000, b"b" * 90_000
        body = b'{"model":"m","x":"%b","contents":["%b"]}' % long
        folded = read(chunks_of(body, 30_000))
        moved = b'{"contents":[%b]}' % gemini.parse_body(folded.text)["contents"]
        self.assertEqual(b"".join(unfolded(moved, folded.folds)), b'{"contents":[["%b"]]}' % long[1])
        renamed = b"".join(unfolded(retargeted(folded.text, "other"), folded.folds))
        self.assertEqual(renamed, body.replace(b'"m"', b'"models/other"'))

    def test_a_resource_is_found_beside_a_fold(self) -> None:
        """A folded string that should have been a URI keeps no other one from being seen."""
        uris = ["x" * 200_000, "https://host/v1beta/files/abc"]
        body = json.dumps({"contents": [{"parts": [{"fileData": {"fileUri": uri}} for uri in uris]}]}).encode()
        folded = read(chunks_of(body, 65_536))
        self.assertTrue(folded.folds)
        self.assertEqual(resources(folded.text), ("files/abc",))

    def test_a_clients_own_mark_is_refused(self) -> None:
        """What stands for a fold is no UTF-8, and so cannot come from a client."""
        self.assertRaises(GuardError, read, [b'{"a":"' + mark(0) + b'"}'])

    def test_a_folds_control_character_is_refused_at_its_place(self) -> None:
        """What may not stand in a string is found wherever it is, and told at its byte of the text as it came."""
        body = b'{"a":"' + b"x" * 200_000 + b"\n" + b"x" * 200_000 + b'"}'
        with self.assertRaises(GatewayError) as caught:
            gemini.taken_apart(read(chunks_of(body, 65_536)))
        self.assertIn("byte 200006", str(caught.exception))
