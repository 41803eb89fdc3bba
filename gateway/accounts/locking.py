"""Locks that are the kernel's (flock): they end with the process, however that ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.accounts.guards import GUARDED, POSIX


def take(descriptor: int, wait: bool) -> None:
    """Lock an open file; without ``wait`` raises BlockingIOError where another has it."""
    try:
        import fcntl
    except ImportError:
        # Windows has no flock, and no daemons of ours.
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Keep a directory's files to oneself from reading one to having it replaced.

    The daemon and the commands change the same files; whoever comes second sees what the first wrote.  Held for as
    long as one small file takes.  Raises OSError where the directory is not there.
    """
    if not POSIX:
        # As with `take`: there is no second one to keep out.
        yield
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | GUARDED)
    try:
        take(descriptor, wait=True)
        yield
    finally:
        os.close(descriptor)
