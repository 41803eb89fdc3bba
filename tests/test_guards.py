"""Files and the state directory on a system that has not all of POSIX."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.clients.environments import REPOSITORY

WITHOUT = """
import os, sys
for name in ("geteuid", "fchmod", "O_NOFOLLOW", "O_CLOEXEC", "O_DIRECTORY"):
    delattr(os, name)
sys.modules["fcntl"] = None
from pathlib import Path
from gateway.accounts import store
from gateway.accounts.locking import exclusive
from gateway.accounts.statedir import StateDirectory
directory = Path(sys.argv[1])
os.chmod(directory, 0o777)
state = StateDirectory(directory)
state.open()
assert state.locked
file = directory / "ann.json"
with exclusive(directory):
    store.replace(file, b'{"name": "ann", "refresh_token": "r"}')
os.chmod(file, 0o666)
(account,) = store.load(directory / ".", None)
state.close()
print(account.name)
"""


class WindowsTests(SynchronousTestCase):
    def test_what_has_no_owners_and_modes_is_not_asked_for_them(self) -> None:
        """A directory is opened, a file is replaced and read; nothing is refused for what cannot be had."""
        directory = Path(self.mktemp())
        directory.mkdir()
        command = [sys.executable, "-c", WITHOUT, str(directory.absolute())]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, "ann\n"), done.stderr)
