"""POSIX's guards over files, as far as this system has them: owners, modes, links not followed.  Does I/O."""

from __future__ import annotations

import os
import stat
from pathlib import Path

POSIX = hasattr(os, "geteuid")
"""Whether files have owners and modes that mean something; on Windows they have not."""
GUARDED = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))
"""Flags for opening: no link is followed, no child gets the descriptor, and what is written stays as it is."""


def is_strangers(found: os.stat_result) -> bool:
    """Return whether a file is another user's."""
    return POSIX and found.st_uid != os.geteuid()


def allows_more(found: os.stat_result, mode: int) -> bool:
    """Return whether a file's mode allows more than ``mode``."""
    return POSIX and bool(stat.S_IMODE(found.st_mode) & ~mode)


def settle(directory: Path) -> None:
    """Have the names in a directory written to the disk; raises OSError."""
    if not POSIX:
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
