"""The state directory: accounts/statedir.py."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.statedir import StateDirectory
from gateway.accounts.store import StoreError
from tests.owners import another_users


class StateDirectoryTests(SynchronousTestCase):
    """One daemon's, and private."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "state"

    def test_directory_is_made_private(self) -> None:
        """A directory that is not there is made, for its owner alone."""
        state = StateDirectory(self.path)
        state.open()
        self.addCleanup(state.close)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o700)

    def test_second_daemon_is_told(self) -> None:
        """K8: as long as one has the directory open, another cannot; afterwards it can."""
        first, second = StateDirectory(self.path), StateDirectory(self.path)
        first.open()
        error = self.assertRaises(StoreError, second.open)
        self.assertIn("another gateway uses this state directory", str(error))
        first.close()
        second.open()
        second.close()

    def test_open_mode_is_refused_with_the_cure(self) -> None:
        """P10: a directory that others may read is refused, and the sentence says what to run."""
        self.path.mkdir(parents=True, mode=0o755)
        self.path.chmod(0o755)
        error = self.assertRaises(StoreError, StateDirectory(self.path).open)
        self.assertIn(f"chmod 700 {self.path}", str(error))

    def test_symbolic_link_is_refused(self) -> None:
        """P10: the directory is not looked for behind a link."""
        target = self.path.with_name("elsewhere")
        target.mkdir(parents=True, mode=0o700)
        self.path.symlink_to(target.absolute())
        self.assertRaises(StoreError, StateDirectory(self.path).open)

    def test_another_users_directory_is_refused_with_the_cure(self) -> None:
        """P10: whoever owns it could read what is kept there."""
        self.path.mkdir(parents=True, mode=0o700)
        error = self.assertRaises(StoreError, StateDirectory(another_users(self.path)).open)
        self.assertIn("belongs to another user; chown it to the user that runs the gateway", str(error))

    def test_lock_that_cannot_be_opened_is_refused_with_the_cure(self) -> None:
        """K8: nobody can tell whether another gateway holds it, so this one does not begin."""
        self.path.mkdir(parents=True, mode=0o700)
        (self.path / "lock").symlink_to("elsewhere")
        state = StateDirectory(self.path)
        error = self.assertRaises(StoreError, state.open)
        self.assertIn(f"{self.path / 'lock'}: cannot be opened", str(error))
        self.assertIn("remove it if no gateway runs", str(error))
        self.assertFalse(state.locked)
        self.assertFalse((self.path / "elsewhere").exists())
        (self.path / "lock").unlink()
        (self.path / "lock").mkdir()
        self.assertIn("cannot be opened", str(self.assertRaises(StoreError, state.open)))
