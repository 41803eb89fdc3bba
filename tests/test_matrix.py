"""Every fault has its test, and the document says so."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests import matrix
from tests.faults import FAULTS
from tests.matrix import Proof

LOG = """\
tests.test_one
  FirstTests
    test_good ...                                                          [OK]
    test_bad ...                                                         [FAIL]
tests.clients.test_two
  SecondTests
    test_good_with_a_name_that_is_longer_than_a_line_of_the_runner_is_wide ... [OK]
    test_left_out ...                                                 [SKIPPED]
    test_chatty ...
20 readers: 12 KiB each
                                                                            [OK]
"""


class MatrixTests(SynchronousTestCase):
    """The tests as they are, against the table."""

    def test_every_fault_is_proved_and_the_document_says_so(self) -> None:
        """No fault without a test in each of its modes, none that did not pass, and the page names them as they are."""
        claims = matrix.claimed()
        text = matrix.DOCUMENT.read_text()
        self.assertEqual(matrix.complaints(claims, text), [])
        self.assertEqual(matrix.current(claims), text, "write it with python -m tests.matrix LOG")

    def test_table_is_whole(self) -> None:
        """76 rows, numbered without a gap."""
        wanted = [
            f"{letter}{n}"
            for letter, count in zip("UCKLP", (17, 18, 10, 16, 15), strict=True)
            for n in range(1, count + 1)
        ]
        self.assertEqual(list(FAULTS), wanted)


class ToolTests(SynchronousTestCase):
    """What would let a fault slip through."""

    def test_log_is_read_to_the_result_of_each_test(self) -> None:
        """Only ``[OK]`` is a pass."""
        self.assertEqual(
            matrix.results(LOG),
            {
                "test_one.FirstTests.test_good": "passed",
                "test_one.FirstTests.test_bad": "fail",
                "clients.test_two.SecondTests."
                "test_good_with_a_name_that_is_longer_than_a_line_of_the_runner_is_wide": "passed",
                "clients.test_two.SecondTests.test_left_out": "skipped",
                "clients.test_two.SecondTests.test_chatty": "passed",
            },
        )

    def test_document_reads_back(self) -> None:
        """What was written is what a later run finds, with the tests of no result among them."""
        one, two = Proof("C1", "P", "test_one.FirstTests.test_good"), Proof("C1", "P", "test_one.FirstTests.test_new")
        text = matrix.render([one, two], {one.test: "passed"})
        self.assertEqual(matrix.written(text), [(one, "passed"), (two, "not run")])

    def test_lack_is_told(self) -> None:
        """A fault without a test, an id that is none, and a test that failed or never ran."""
        claims = [proof for proof in matrix.claimed() if (proof.fault, proof.mode) != ("U1", "T")]
        strange = Proof("U99", "T", "test_one.FirstTests.test_good")
        failed = Proof("C1", "P", "test_one.FirstTests.test_bad")
        found = matrix.complaints([*claims, strange], matrix.render([failed], {failed.test: "fail"}))
        self.assertEqual(
            found,
            [
                "test_one.FirstTests.test_good names U99, which is no fault",
                "U1/T has no test that names it",
                "C1: test_one.FirstTests.test_bad: fail",
            ],
        )
