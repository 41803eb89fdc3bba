"""Keeping an account that was signed in: where it goes, and whose place it takes."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.store import StoreError, load, save_account
from gateway.calls import Secret


class SaveTests(SynchronousTestCase):
    """``save_account``."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute() / "state" / "accounts"

    def save(self, name: str = "", token: str = "r", project: str = "p", email: str = "") -> tuple[str, bool]:
        account, replaced = save_account(self.directory, name, Secret(token), project, email)
        assert account.path is not None
        return account.path.name, replaced

    def put(self, name: str, document: Any) -> None:
        self.directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        path = self.directory / name
        path.touch(mode=0o600)
        path.write_text(json.dumps(document), "utf-8")

    def read(self, name: str) -> Any:
        return json.loads((self.directory / name).read_bytes())

    def test_first_account_makes_its_directory(self) -> None:
        """Directory and what leads to it 0700, file 0600, whatever the umask allows; and it loads."""
        self.addCleanup(os.umask, os.umask(0))
        self.assertEqual(self.save(email="a@b.example"), ("a@b.example.json", False))
        for path, mode in (
            (self.directory.parent, 0o700),
            (self.directory, 0o700),
            (self.directory / "a@b.example.json", 0o600),
        ):
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), mode, path)
        (account,) = load(self.directory)
        self.assertEqual((account.name, account.refresh_token, account.project), ("a@b.example", Secret("r"), "p"))
        self.assertEqual([path.name for path in self.directory.iterdir()], ["a@b.example.json"])

    def test_name_makes_no_path(self) -> None:
        """Separators, dots, control characters, emptiness and length: the file stays in the directory."""
        names = ["../../x", "/etc/passwd", "..", ".hidden", "a\0b", "-", "é" * 300, "a/b", "a_b", "x" * 300, "\udce9"]
        for number, name in enumerate(names):
            file, replaced = self.save(name, f"r{number}")
            self.assertFalse(replaced, name)
            self.assertRegex(file, r"\A[A-Za-z0-9_@+][A-Za-z0-9._@+-]*\.json\Z")
        self.assertEqual(len(list(self.directory.iterdir())), len(names))
        self.assertEqual(sorted(account.name for account in load(self.directory)), sorted(names))

    def test_same_address_is_the_same_account(self) -> None:
        """A second sign-in renews the token where it stands; the name, other members and the project stay."""
        self.put("w.json", {"name": "work", "email": "A@b.example", "refresh_token": "old", "project": "q", "note": 1})
        self.assertEqual(self.save(token="new", project="", email="a@B.example"), ("w.json", True))
        self.assertEqual(
            self.read("w.json"),
            {"name": "work", "email": "a@B.example", "refresh_token": "new", "project": "q", "note": 1},
        )

    def test_account_in_a_list_is_renewed_there(self) -> None:
        """A file as users bring it along keeps its other accounts."""
        other = {"email": "c@d.example", "refresh_token": "other"}
        self.put("many.json", {"accounts": [other, {"email": "a@b.example", "refresh_token": "old"}], "v": 1})
        self.assertEqual(self.save(token="new", email="a@b.example"), ("many.json", True))
        found = self.read("many.json")
        self.assertEqual((found["v"], found["accounts"][0]), (1, other))
        self.assertEqual(
            found["accounts"][1],
            {"email": "a@b.example", "refresh_token": "new", "name": "a@b.example", "project": "p"},
        )

    def test_name_goes_before_the_address(self) -> None:
        """A name that is taken is the account that is meant, and another owner's project is no use to it."""
        self.put("1.json", {"name": "work", "email": "old@b.example", "refresh_token": "1", "project": "theirs"})
        self.put("2.json", {"name": "home", "email": "a@b.example", "refresh_token": "2"})
        self.assertEqual(self.save("work", "new", "", "a@b.example"), ("1.json", True))
        self.assertEqual(self.read("1.json"), {"name": "work", "email": "a@b.example", "refresh_token": "new"})
        self.assertEqual(self.read("2.json")["refresh_token"], "2")

    def test_new_name_renames_the_account_of_the_address(self) -> None:
        """There are not two accounts of one owner after it."""
        self.put("1.json", {"email": "a@b.example", "refresh_token": "1"})
        self.assertEqual(self.save("work", "new", "", "a@b.example"), ("1.json", True))
        self.assertEqual([account.name for account in load(self.directory)], ["work"])

    def test_file_of_another_account_is_not_overwritten(self) -> None:
        """A file that has the name by chance stays."""
        self.put("work.json", {"name": "other", "refresh_token": "1"})
        file, replaced = self.save("work")
        self.assertNotEqual(file, "work.json")
        self.assertFalse(replaced)
        self.assertEqual(self.read("work.json"), {"name": "other", "refresh_token": "1"})

    def test_directory_in_disorder_is_refused_before_anything_is_written(self) -> None:
        """As at the start of the daemon, with the cure."""
        self.put("1.json", {"refresh_token": "1"})
        (self.directory / "1.json").chmod(0o644)
        error = self.assertRaises(StoreError, self.save, "work")
        self.assertIn("chmod 600", str(error))
        self.assertEqual(len(list(self.directory.iterdir())), 1)

    def test_account_of_nobody_is_a_mistake_of_ours(self) -> None:
        """Without a name and an address there is nothing to call it."""
        self.assertRaises(ValueError, self.save, " ")
