"""JSONTestSuite's 318 texts as bodies: what is valid is taken, what is not is 400, and nothing is ever a 5xx.

A body has to be an object, and most of the texts are none.  So each text is sent twice.  Within an object, as the
value of a member, it is judged as its name says.  As a whole body a valid text that is no object is 400 by the
gateway's own rule, and so is an object with a name that comes twice.
"""

from __future__ import annotations

import json

from tests.corpora import MISSING, JsonCase, fetched, json_texts
from tests.fakes import Answer, Edge, ok
from tests.test_site import PATH, SiteCase

MEMBER = b'{"contents":[],"probe":%s}'
TAKEN, REFUSED, EITHER = {200}, {400}, {200, 400}
SPECIFIED = {"y": TAKEN, "n": REFUSED, "i": EITHER}


def is_object(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


class JsonTextTests(SiteCase):
    """L10/X."""

    def post(self, body: bytes) -> Answer:
        """Send a body whole, and again byte by byte, and check that it is relayed unchanged or not at all."""
        answers = []
        for pieces in ([body], [body[at : at + 1] for at in range(len(body))] if len(body) < 2000 else [body]):
            self.world = Edge.build(ok())
            client = self.world.connect()
            client.ask("POST", PATH, b"", length=len(body))
            for piece in pieces:
                client.send(piece)
            answer = client.answer()
            relayed = [request.body for request in self.world.wire.requests]
            self.assertEqual(relayed, [body] if answer.status == 200 else [])
            if answer.status != 200:
                self.is_refusal(answer, 400, "BODY_NOT_JSON")
            answers.append(answer)
        self.assertEqual(len({answer.status for answer in answers}), 1, body)
        return answers[0]

    def cases(self) -> list[JsonCase]:
        cases = json_texts()
        self.assertEqual(len(cases), 318)
        return cases

    def test_every_text_is_judged_as_specified(self) -> None:
        """L10/X: ``y_`` taken, ``n_`` refused, ``i_`` either, each as the value of a member."""
        for case in self.cases():
            with self.subTest(case=case.name):
                self.assertIn(self.post(MEMBER % case.text).status, SPECIFIED[case.name[0]])

    def test_no_text_is_taken_as_a_body_that_is_no_valid_object(self) -> None:
        """L10/X: what is no object is 400, and a valid object is taken."""
        for case in self.cases():
            with self.subTest(case=case.name):
                specified = SPECIFIED[case.name[0]] if is_object(case.text) else REFUSED
                self.assertIn(self.post(case.text).status, specified)


LACKS = "" if fetched() else MISSING
if LACKS:
    print(f"{__name__}: {LACKS}")
    del JsonTextTests
