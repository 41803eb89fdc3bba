"""A log file that follows its name: renamed or removed, it is made anew, and no line is lost.  Writes files."""

from __future__ import annotations

import os
from itertools import pairwise

MODE = 0o640


class LogFile:
    """Text appended to a file.

    Before each write it is looked whether the name still leads to the file, so a rename rotates it; ``reopen`` is for
    who wants to be sure of the moment.  Every line goes out whole, with others or by itself, at the file's end,
    wherever that is, so a file that is cut to nothing (``copytruncate``) begins anew at its beginning.
    """

    rotate_bytes = 0
    """At what size it is put aside under the name ``.1``, what is there under ``.2``, and so on; 0 for never."""
    rotate_keep = 0
    """How many of those are kept."""

    def __init__(self, path: str) -> None:
        """Open or make the file; raises OSError."""
        # A daemon may be told to work elsewhere.
        self._path = os.path.abspath(path)
        self._torn = False
        self._file = self._opened()

    def write(self, text: str) -> None:
        """Append whole lines; raises OSError where that fails.  What follows one that went out in part begins anew."""
        mine = os.fstat(self._file)
        if self._moved(mine):
            self.reopen()
        elif self.rotate_bytes and mine.st_size >= self.rotate_bytes:
            self._rotate()
        data = text.encode("utf-8", "backslashreplace")
        if self._torn:
            data = b"\n" + data
        written = os.write(self._file, data)
        self._torn = written < len(data)

    def flush(self) -> None:
        """Nothing waits here."""

    def reopen(self) -> None:
        """Go on in the file of that name, or in the one of now where that cannot be opened."""
        try:
            file = self._opened()
        except OSError:
            return
        os.close(self._file)
        self._file, self._torn = file, False

    def _opened(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), MODE)

    def _rotate(self) -> None:
        """Put the file aside and begin another; where that fails it goes on in this one."""
        names = [self._path, *(f"{self._path}.{number}" for number in range(1, self.rotate_keep + 1))]
        try:
            if len(names) == 1:
                os.unlink(self._path)
            for older, newer in pairwise(reversed(names)):
                if os.path.lexists(newer):
                    os.replace(newer, older)
        except OSError:
            return
        self.reopen()

    def _moved(self, mine: os.stat_result) -> bool:
        try:
            named = os.stat(self._path)
        except OSError:
            return True
        return (mine.st_dev, mine.st_ino) != (named.st_dev, named.st_ino)
