"""The state directory: private, and one daemon's at a time."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from gateway.accounts.guards import GUARDED, allows_more, is_strangers
from gateway.accounts.locking import take
from gateway.accounts.store import StoreError

SOCKET = "admin.sock"
_DISK = (errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""What is the disk's fault, and says nothing about who else uses it."""
ADDRESS_MOST = 107
"""Bytes that a unix socket's address holds, its end not counted: unix(7)."""


class InUse(StoreError):
    """The directory is another daemon's."""


class StateDirectory:
    """A directory of mode 0700 that is locked as long as it is open.

    The lock is the kernel's (flock), not a file's existence: it ends with the process, however that ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None
        self._handle: int | None = None

    def open(self) -> None:
        """Make the directory where it is not there, check it, and lock it.

        Raises InUse where it is another daemon's, StoreError where others may read it or where nobody can tell
        whether it is another's, OSError where the disk does not let it be used.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self.path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise StoreError(f"{self.path}: is no directory; name another as state_dir.")
        if is_strangers(found):
            raise StoreError(f"{self.path}: belongs to another user; chown it to the user that runs the gateway.")
        if allows_more(found, 0o700):
            raise StoreError(f"{self.path}: others may read this directory; run: chmod 700 {self.path}")
        lock = self._open_lock(self.path / "lock")
        try:
            take(lock, wait=False)
        except BlockingIOError:
            os.close(lock)
            raise InUse(
                f"{self.path}: another gateway uses this state directory; stop it, or give this one a state_dir of"
                " its own."
            ) from None
        self._lock = lock

    @staticmethod
    def _open_lock(path: Path) -> int:
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | GUARDED, 0o600)
        except OSError as error:
            if error.errno in _DISK or not os.path.lexists(path):
                raise
            raise StoreError(
                f"{path}: cannot be opened ({error.strerror}), so nobody can tell whether another gateway uses this"
                " directory; chown it to the user that runs the gateway, or remove it if no gateway runs."
            ) from None

    @property
    def locked(self) -> bool:
        """Whether the directory is ours."""
        return self._lock is not None

    def address(self, name: str) -> str:
        """Return an address for a socket in the directory, good until it is closed, however long its path is.

        Raises OSError.
        """
        path = self.path / name
        if len(os.fsencode(path)) <= ADDRESS_MOST:
            return str(path)
        if self._handle is None:
            self._handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._handle}/{name}"

    def close(self) -> None:
        """Let go of the lock, and of what addresses stand on."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
