"""The log file: renamed, cut, removed, on a full disk, it goes on and loses no line.  Opens files."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from gateway.operations.logfile import LogFile


class LogFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "log"
        self.path.parent.mkdir()
        self.file = LogFile(str(self.path))

    def moved(self) -> Path:
        return self.path.with_name(self.path.name + ".1")

    def test_a_rename_rotates_and_no_line_is_lost(self) -> None:
        """P7: the lines before it are in the old file, those after it in a new one."""
        self.file.write("one\n")
        self.path.rename(self.moved())
        self.file.write("two\n")
        self.assertEqual((self.moved().read_text(), self.path.read_text()), ("one\n", "two\n"))

    def test_a_file_that_has_grown_is_put_aside(self) -> None:
        """Under numbers, the newest the lowest; so many are kept, and no line of these is lost or cut."""
        self.file.rotate_bytes, self.file.rotate_keep = 8, 2
        for number in range(7):
            self.file.write(f"line {number}\n")
        kept = {path.name.removeprefix(self.path.name): path.read_text() for path in self.path.parent.iterdir()}
        self.assertEqual(kept, {"": "line 6\n", ".1": "line 4\nline 5\n", ".2": "line 2\nline 3\n"})

    def test_a_file_of_which_nothing_is_kept_begins_anew(self) -> None:
        """With 0 to keep; with 0 as its size it only grows."""
        self.file.rotate_bytes = 4
        for number in range(3):
            self.file.write(f"line {number}\n")
        self.assertEqual(self.path.read_text(), "line 2\n")
        self.file.rotate_bytes = 0
        self.file.write("more\n")
        self.assertEqual(self.path.read_text(), "line 2\nmore\n")

    def test_a_file_that_cannot_be_put_aside_goes_on(self) -> None:
        """Where the next name is a directory that is not empty."""
        self.moved().mkdir()
        (self.moved() / "full").touch()
        self.file.rotate_bytes, self.file.rotate_keep = 4, 1
        for number in range(3):
            self.file.write(f"line {number}\n")
        self.assertEqual(self.path.read_text(), "line 0\nline 1\nline 2\n")

    def test_a_name_that_is_gone_or_anothers_is_followed(self) -> None:
        """P7: whether the file was removed or another was put in its place."""
        self.path.unlink()
        self.file.write("one\n")
        self.assertEqual(self.path.read_text(), "one\n")
        other = self.moved()
        other.write_text("before\n")
        os.replace(other, self.path)
        self.file.write("two\n")
        self.assertEqual(self.path.read_text(), "before\ntwo\n")

    def test_a_file_that_is_cut_goes_on_at_its_beginning(self) -> None:
        """P7, copytruncate: no hole of the old length comes before the next line."""
        self.file.write("one\n" * 100)
        os.truncate(self.path, 0)
        self.file.write("two\n")
        self.assertEqual(self.path.read_text(), "two\n")

    def test_reopening_is_for_who_wants_the_moment(self) -> None:
        """P7, SIGUSR1: the new file is there before a line is written."""
        self.path.rename(self.moved())
        self.file.reopen()
        self.assertTrue(self.path.exists())

    def test_where_a_new_file_cannot_be_made_the_old_one_serves_on(self) -> None:
        """P7: lines in the renamed file are better than none."""
        self.file.write("one\n")
        self.path.rename(self.moved())
        self.path.mkdir()
        self.file.write("two\n")
        self.assertEqual(self.moved().read_text(), "one\ntwo\n")

    def test_nobody_else_may_read_it(self) -> None:
        """Addresses of clients are in it."""
        self.assertEqual(self.path.stat().st_mode & 0o007, 0)
