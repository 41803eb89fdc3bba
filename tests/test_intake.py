"""Bodies as they are taken in: edge/intake.py."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.dialects.guard import FOLDED_FROM_BYTES, GuardError
from gateway.edge.intake import NO_BODY, Intake
from gateway.edge.storing import Spare
from gateway.folding import Folded

GOOD, BAD = b'{"a":["b"]}', b'{"a":1e999}'


def intake(length: int | None, judges: bool = True) -> Intake:
    return Intake(length, judges, Spare(Clock()))


class IntakeTests(SynchronousTestCase):
    """In one piece or in several, it is the same body, and judged in the same way."""

    def test_body_is_given_out_once(self) -> None:
        """However it came, and whether or not its length was told."""
        for pieces in ([GOOD], [GOOD[:4], GOOD[4:]]):
            for length in (len(GOOD), None):
                body = intake(length)
                for piece in pieces:
                    body.add(piece)
                body.end()
                self.assertEqual((body.take(), body.take()), (Folded(GOOD), NO_BODY))

    def test_large_body_is_the_same_in_one_piece_and_in_two(self) -> None:
        """What is kept apart of it comes in again."""
        text = b'{"a":"%b"}' % (b"b" * FOLDED_FROM_BYTES)
        for pieces in ([text], [text[:30000], text[30000:]]):
            body = intake(len(text))
            for piece in pieces:
                body.add(piece)
            body.end()
            self.assertEqual(body.take().whole(), Folded(text))

    def test_what_is_to_be_json_is_judged(self) -> None:
        """And nothing else is."""
        for pieces in ([BAD], [BAD[:4], BAD[4:]]):
            judging, other = intake(len(BAD)), intake(len(BAD), False)
            with self.assertRaises(GuardError):
                for piece in pieces:
                    judging.add(piece)
            for piece in pieces:
                other.add(piece)
            self.assertEqual(other.take(), Folded(BAD))

    def test_what_only_the_end_shows_is_judged_there(self) -> None:
        """A character that was cut off."""
        body = intake(None)
        body.add(b'"\xc3')
        self.assertRaises(GuardError, body.end)
        self.assertRaises(GuardError, intake(2).add, b'"\xc3')

    def test_nothing_is_held_of_a_body_that_is_dropped(self) -> None:
        """However it came."""
        for length in (len(GOOD), None):
            body = intake(length)
            body.add(GOOD)
            body.drop()
            self.assertEqual(body.take(), NO_BODY)
