"""Kill -9, and failing disks, at each step of a save: strace lets every system call be the last one.

Without strace, or where it may trace nothing, there are no tests here, and a line says so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.ledger import Ledger
from gateway.accounts.sealing import Seal
from gateway.accounts.store import load
from gateway.calls import Secret
from gateway.keys.bookfile import BookFile
from gateway.keys.holders import Key
from tests.clients.environments import REPOSITORY

KEY = "00" * 32
SECONDS = 60

SAVE_ACCOUNT = f"""
import os, sys
from pathlib import Path
from gateway.accounts import store
from gateway.accounts.sealing import Seal
from gateway.calls import Secret
seal = Seal(Secret("{KEY}"), os.urandom)
account = store.Account("a", Secret("old"), "p", Path(sys.argv[1]) / "a.json")
store.save_refresh_token(account, Secret("new"), seal)
"""
SAVE_LEDGER = """
import sys
from pathlib import Path
from gateway.accounts.ledger import Ledger
Ledger(Path(sys.argv[1])).save({"state": "new"})
"""

SAVE_KEYS = """
import sys
from pathlib import Path
from gateway.keys.bookfile import BookFile
from gateway.keys.holders import Key
BookFile(Path(sys.argv[1])).save([Key("key-1", "new", bytes(32), 1.0)])
"""

STRACE = shutil.which("strace") or ""


def traced(program: str, directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a program that saves into a directory; its calls that have to do with these files are traced."""
    files = ("a.json", "standing.json", "keys.json")
    names = (".", *files, *(f".{name}.new" for name in files))
    paths = [option for name in names for option in ("-P", str(directory / name))]
    return subprocess.run(
        [STRACE, "-f", "-qq", "-o", str(directory.parent / "trace"), *paths, *options,
         sys.executable, "-B", "-c", program, str(directory)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip


def may_trace() -> bool:
    if not STRACE:
        return False
    return subprocess.run([STRACE, "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0


class SaveCase(SynchronousTestCase):
    """What a save leaves behind, however it ends."""

    mode = "P"
    program = ""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute() / "state"
        self.directory.mkdir(0o700, parents=True)

    def prepare(self) -> None:
        """Have the old file, and nothing else."""
        for path in self.directory.iterdir():
            path.unlink()
        self.save_old()

    def save_old(self) -> None:
        raise NotImplementedError

    def found(self) -> str:
        """Return ``old`` or ``new``, as the file is loaded; raises where it is neither."""
        raise NotImplementedError

    def steps(self) -> list[tuple[str, int]]:
        """Return the calls of a save that goes well, each with how often it was made until then."""
        self.prepare()
        ended = traced(self.program, self.directory)
        self.assertEqual((ended.returncode, self.found()), (0, "new"), ended.stderr)
        counts: dict[str, int] = {}
        steps = []
        for line in (self.directory.parent / "trace").read_text().splitlines():
            match = re.match(r"\d+ +([a-z_0-9]+)\(", line)
            if match:
                counts[match[1]] = counts.get(match[1], 0) + 1
                steps.append((match[1], counts[match[1]]))
        return steps

    def check_kills(self) -> None:
        steps = self.steps()
        names = {name for name, _ in steps}
        self.assertTrue({"write", "fsync"} <= names and names & {"rename", "renameat", "renameat2"}, names)
        left = []
        for name, number in steps:
            self.prepare()
            ended = traced(self.program, self.directory, "-e", f"inject={name}:signal=KILL:when={number}")
            self.assertEqual(ended.returncode, -9, f"{name} {number}: {ended.stderr}")
            left.append(self.found())
        # Old up to the rename, new from then on, and nothing else at any step.
        self.assertEqual(left, sorted(left, reverse=True), list(zip(steps, left, strict=True)))
        self.assertEqual(set(left), {"old", "new"})
        ended = traced(self.program, self.directory)
        self.assertEqual((ended.returncode, self.found()), (0, "new"), ended.stderr)

    def check_errors(self) -> None:
        left = set()
        for name, number in self.steps():
            if name not in ("write", "fsync", "rename", "renameat", "renameat2", "openat", "fchmod"):
                continue
            for error in ("ENOSPC", "EIO", "EROFS"):
                self.prepare()
                traced(self.program, self.directory, "-e", f"inject={name}:error={error}:when={number}")
                found = self.found()
                self.assertIn(found, ("old", "new"), f"{name} {number} {error}")
                left.add(found)
        self.assertEqual(left, {"old", "new"})


if may_trace():

    class AccountTests(SaveCase):
        """A rotated refresh token, sealed."""

        program = SAVE_ACCOUNT

        def save_old(self) -> None:
            path = self.directory / "a.json"
            path.touch(0o600)
            path.write_bytes(b'{"refresh_token":"old","project":"p"}')

        def found(self) -> str:
            (account,) = load(self.directory, Seal(Secret(KEY), os.urandom))
            self.assertEqual((account.name, account.project), ("a", "p"))
            return account.refresh_token.reveal()

        def test_kill_at_each_step_leaves_the_old_or_the_new_account(self) -> None:
            """P5: never neither, never half of one; and the next save succeeds over what was left."""
            self.check_kills()

        def test_error_at_each_step_leaves_the_old_or_the_new_account(self) -> None:
            """P6: a full, broken or read-only disk."""
            self.check_errors()

    class LedgerTests(SaveCase):
        """The standings."""

        program = SAVE_LEDGER

        def save_old(self) -> None:
            Ledger(self.directory).save({"state": "old"})

        def found(self) -> str:
            kept, note = Ledger(self.directory).load()
            self.assertEqual(note, "")
            assert kept is not None
            return str(kept["state"])

        def test_kill_at_each_step_leaves_the_old_or_the_new_standings(self) -> None:
            """P5: never neither, never half of one; and the next save succeeds over what was left."""
            self.check_kills()

        def test_error_at_each_step_leaves_the_old_or_the_new_standings(self) -> None:
            """P6: a full, broken or read-only disk."""
            self.check_errors()

    class KeysTests(SaveCase):
        """The client keys."""

        program = SAVE_KEYS

        def save_old(self) -> None:
            BookFile(self.directory).save([Key("key-1", "old", bytes(32), 1.0)])

        def found(self) -> str:
            (key,) = BookFile(self.directory).load()
            return key.name

        def test_kill_at_each_step_leaves_the_old_or_the_new_keys(self) -> None:
            """P5: never neither, never half of them; and the next save succeeds over what was left."""
            self.check_kills()

        def test_error_at_each_step_leaves_the_old_or_the_new_keys(self) -> None:
            """P6: a full, broken or read-only disk."""
            self.check_errors()

else:
    LACKS = "strace"
    print("tests.test_crash: strace is not installed, or may trace nothing here: no save was killed at any step")
