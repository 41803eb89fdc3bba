"""The state directory: private, and one daemon's at a time."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from gateway.accounts.store import StoreError


class StateDirectory:
    """A directory of mode 0700 that is locked as long as it is open.

    The lock is the kernel's (flock), not a file's existence: it ends with the process, however that ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def open(self) -> None:
        """Make the directory where it is not there, check it, and lock it.

        Raises StoreError where it is another daemon's or others may read it, OSError where it cannot be used.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self.path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise StoreError(f"{self.path}: is no directory; name another as state_dir.")
        if found.st_uid != os.geteuid():
            raise StoreError(f"{self.path}: belongs to another user; chown it to the user that runs the gateway.")
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise StoreError(f"{self.path}: others may read this directory; run: chmod 700 {self.path}")
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _take(lock)
        except BlockingIOError:
            os.close(lock)
            raise StoreError(
                f"{self.path}: another gateway uses this state directory; stop it, or give this one a state_dir of"
                " its own."
            ) from None
        self._lock = lock

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _take(descriptor: int) -> None:
    try:
        import fcntl
    except ImportError:
        # Windows has no flock, and no daemons of ours.
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
