"""A log file that follows its name: renamed or removed, it is made anew, and no line is lost.  Writes files."""

from __future__ import annotations

import os

MODE = 0o640


class LogFile:
    """Text appended to a file.

    Before each write it is looked whether the name still leads to the file, so a rename rotates it; ``reopen`` is for
    who wants to be sure of the moment.  Every line goes out whole, with others or by itself, at the file's end,
    wherever that is, so a file that is cut to nothing (``copytruncate``) begins anew at its beginning.
    """

    def __init__(self, path: str) -> None:
        """Open or make the file; raises OSError."""
        # A daemon may be told to work elsewhere.
        self._path = os.path.abspath(path)
        self._torn = False
        self._file = self._opened()

    def write(self, text: str) -> None:
        """Append whole lines; raises OSError where that fails.  What follows one that went out in part begins anew."""
        if self._moved():
            self.reopen()
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

    def _moved(self) -> bool:
        mine = os.fstat(self._file)
        try:
            named = os.stat(self._path)
        except OSError:
            return True
        return (mine.st_dev, mine.st_ino) != (named.st_dev, named.st_ino)
