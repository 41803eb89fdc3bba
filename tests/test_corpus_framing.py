"""Where requests begin and end: as h11 and llhttp see it, over streams that were made to be misread."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.corpora import MISSING, fetched
from tests.framing import compare

STREAMS = 3000


class ComparisonTests(SynchronousTestCase):
    """The short form of ``python -m tests.framing``."""

    def test_nobody_sees_other_requests_than_the_gateway(self) -> None:
        """L6/X, L7/X: in 3,000 streams, of which many are taken by all."""
        comparison = compare(STREAMS, seed=7)
        self.assertEqual(comparison.disagreements, [])
        self.assertEqual(comparison.tally["streams"], STREAMS)
        for name in ("h11", "llhttp"):
            self.assertGreater(comparison.tally[f"{name} and gateway take all"], STREAMS / 10)


LACKS = "" if fetched() else MISSING
if LACKS:
    print(f"{__name__}: {LACKS}")
    del ComparisonTests
