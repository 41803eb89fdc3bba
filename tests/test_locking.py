"""Locks over files that the daemon and the commands change: accounts/locking.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.locking import exclusive, take
from gateway.accounts.store import load, save_account, save_refresh_token
from gateway.calls import Secret

WRITER = """
import sys
from pathlib import Path
from gateway.accounts.store import load, save_refresh_token
from gateway.calls import Secret
directory, name = Path(sys.argv[1]), sys.argv[2]
for number in range(60):
    account = next(one for one in load(directory) if one.name == name)
    save_refresh_token(account, Secret(f"{name}-{number}"))
"""


class ExclusiveTests(SynchronousTestCase):
    """One at a time."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir(mode=0o700)

    def test_directory_is_locked_within_and_free_afterwards(self) -> None:
        """Another open file of the same directory cannot be locked meanwhile."""
        other = os.open(self.directory, os.O_RDONLY)
        self.addCleanup(os.close, other)
        with exclusive(self.directory):
            self.assertRaises(BlockingIOError, take, other, wait=False)
        take(other, wait=False)

    def test_failure_within_frees_it_too(self) -> None:
        """An error does not lock others out."""
        other = os.open(self.directory, os.O_RDONLY)
        self.addCleanup(os.close, other)
        with self.assertRaises(ValueError), exclusive(self.directory):
            raise ValueError
        take(other, wait=False)

    def test_two_processes_lose_nothing_of_each_others_in_one_file(self) -> None:
        """The daemon rotates one account's token while a command changes the next one in the same list."""
        (self.directory / "list.json").write_text(
            '{"accounts": [{"name": "a", "refresh_token": "0"}, {"name": "b", "refresh_token": "0"}]}'
        )
        (self.directory / "list.json").chmod(0o600)
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(self.directory), name], stderr=subprocess.PIPE)
            for name in ("a", "b")
        ]
        for writer in writers:
            _, complaint = writer.communicate(timeout=60)
            self.assertEqual((writer.returncode, complaint), (0, b""))
        tokens = {account.name: account.refresh_token for account in load(self.directory)}
        self.assertEqual(tokens, {"a": Secret("a-59"), "b": Secret("b-59")})

    def test_new_sign_in_is_seen_by_who_waited(self) -> None:
        """A rotation that comes after a sign-in of the same account does not overwrite it."""
        first, _ = save_account(self.directory, "a", Secret("old"), "p")
        save_account(self.directory, "a", Secret("signed-in-again"), "p")
        with self.assertRaises(Exception) as caught:
            save_refresh_token(first, Secret("rotated"), replaces=Secret("old"))
        self.assertIn("signed in again", str(caught.exception))
