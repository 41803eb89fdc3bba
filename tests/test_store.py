"""OAuth accounts as files: what is read, what is refused, and how a new token is kept."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.given import NOTHING, Given
from gateway.accounts.store import Account, StoreError, load, read, save_refresh_token
from gateway.calls import Secret
from tests.owners import another_users


class StoreCase(SynchronousTestCase):
    """A directory of accounts."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir(0o700)

    def put(self, name: str, document: Any, mode: int = 0o600) -> Path:
        path = self.directory / name
        path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
        path.chmod(mode)
        return path

    def names(self) -> list[str]:
        return [account.name for account in load(self.directory)]

    def refusal(self) -> str:
        return str(self.assertRaises(StoreError, load, self.directory))


class LoadTests(StoreCase):
    """Reading."""

    def test_every_form_of_a_file_is_read(self) -> None:
        """One account, the import form, and the bare list; names come from name, e-mail or the file."""
        self.put("b.json", {"name": " n ", "email": "e@example.test", "refresh_token": " r1 ", "project": "p", "x": 1})
        self.put("a.json", {"refresh_token": "r2"})
        self.put("c.json", {"accounts": [{"email": "e@example.test", "refresh_token": "r3"}, {"refresh_token": "r4"}]})
        self.put("d.json", [{"refresh_token": "r5", "project": ""}])
        self.put("e.json", {"accounts": []})
        self.put("notes.txt", b"not an account", 0o644)
        found = [(one.name, one.refresh_token.reveal(), one.project, one.index) for one in load(self.directory)]
        self.assertEqual(
            found,
            [
                ("a", "r2", "", None),
                ("n", "r1", "p", None),
                ("e@example.test", "r3", "", 0),
                ("c-2", "r4", "", 1),
                ("d-1", "r5", "", 0),
            ],
        )

    def test_another_users_files_are_refused_with_the_cure(self) -> None:
        """P10: whoever owns a file could change the accounts in it."""
        path = self.put("a.json", {"refresh_token": "r"})
        error = self.assertRaises(StoreError, read, another_users(path))
        self.assertIn("belongs to another user; chown it to the user that runs the gateway", str(error))
        path.unlink()
        error = self.assertRaises(StoreError, load, another_users(self.directory))
        self.assertIn("belongs to another user", str(error))

    def test_terms_of_an_account_are_read_and_what_is_none_is_refused(self) -> None:
        """With the file, the member and what may stand there."""
        path = self.put("a.json", {"refresh_token": "r", "weight": 2, "priority": -3, "max_concurrent": 0})
        self.assertEqual([one.given for one in read(path)], [Given(2.0, -3, 0)])
        self.put("a.json", {"refresh_token": "r"})
        self.assertEqual([one.given for one in read(path)], [NOTHING])
        for member, values in {
            "weight": (0, -1, 1001, "2", True, [], 10**400),
            "priority": (1.5, 1001, -1001, "1", False),
            "max_concurrent": (-1, 10**7, 0.5, "1"),
        }.items():
            for value in values:
                self.put("a.json", {"refresh_token": "r", member: value})
                self.assertIn(f"a.json: `{member}` must be a", self.refusal())

    def test_directory_that_is_not_there_holds_none(self) -> None:
        """Accounts may be added later."""
        self.assertEqual(load(self.directory / "none"), [])
        self.assertEqual(load(self.directory), [])

    def test_file_with_a_byte_order_mark_is_read(self) -> None:
        """As some editors write it."""
        self.put("a.json", b"\xef\xbb\xbf" + b'{"refresh_token":"r"}')
        self.assertEqual(self.names(), ["a"])

    def test_what_others_may_read_is_refused(self) -> None:
        """P10: the directory is 0700 and a file 0600 at most; the message says what to run."""
        path = self.put("a.json", {"refresh_token": "r"})
        for mode in (0o600, 0o400):
            path.chmod(mode)
            self.assertEqual(self.names(), ["a"], oct(mode))
        for mode in (0o640, 0o604, 0o660, 0o602, 0o700):
            path.chmod(mode)
            self.assertIn("chmod 600", self.refusal(), oct(mode))
        path.chmod(0o600)
        for mode in (0o750, 0o705, 0o710):
            self.directory.chmod(mode)
            self.assertIn("chmod 700", self.refusal(), oct(mode))

    def test_symbolic_links_are_refused(self) -> None:
        """P10: of a file, of the directory, and one that leads nowhere."""
        elsewhere = Path(self.mktemp())
        elsewhere.write_bytes(b'{"refresh_token":"r"}')
        elsewhere.chmod(0o600)
        link = self.directory / "a.json"
        link.symlink_to(elsewhere.absolute())
        self.assertIn("symbolic link", self.refusal())
        link.unlink()
        for target in (self.directory.absolute(), self.directory.absolute() / "nowhere"):
            whole = Path(self.mktemp())
            whole.symlink_to(target)
            self.assertIn("symbolic link", str(self.assertRaises(StoreError, load, whole)))

    def test_what_is_neither_file_nor_directory_is_refused(self) -> None:
        """A pipe would hang the start; a file in the directory's place would look like no accounts."""
        os.mkfifo(self.directory / "a.json", 0o600)
        self.assertIn("is no file", self.refusal())
        (self.directory / "a.json").unlink()
        (self.directory / "b.json").mkdir(0o600)
        self.assertIn("is no file", self.refusal())
        path = Path(self.mktemp())
        path.write_bytes(b"")
        path.chmod(0o600)
        self.assertIn("is no directory", str(self.assertRaises(StoreError, load, path)))

    def test_bad_documents_are_refused_with_the_files_name(self) -> None:
        """Every message names the file and what is wrong; none shows a token."""
        table: list[tuple[Any, str]] = [
            (b"", "cannot be read as JSON"),
            (b"{", "cannot be read as JSON"),
            (b"\xff\xfe\xfd", "cannot be read as JSON"),
            (b"[" * 100_000, "cannot be read as JSON"),
            (b'{"refresh_token": "hush" "hush"}', "cannot be read as JSON"),
            (7, "needs `refresh_token`"),
            ("text", "needs `refresh_token`"),
            (None, "needs `refresh_token`"),
            ({"accounts": {}}, "needs `refresh_token`"),
            ({}, "`refresh_token` is missing"),
            ({"refresh_token": "  "}, "`refresh_token` is missing"),
            ({"refresh_token": 5}, "`refresh_token` must be a string"),
            ({"refresh_token": "hush", "name": ["hush"]}, "`name` must be a string"),
            ({"refresh_token": "hush", "project": None}, "`project` must be a string"),
            ([{"refresh_token": "hush"}, "hush"], "accounts[1]: must be a JSON object"),
            ({"accounts": [{}]}, "accounts[0]: `refresh_token` is missing"),
        ]
        for document, problem in table:
            path = self.put("a.json", document)
            said = self.refusal()
            self.assertIn(problem, said)
            self.assertIn(str(path), said)
            self.assertNotIn("hush", said)

    def test_two_accounts_of_one_name_are_refused(self) -> None:
        """Which of them is meant could not be said."""
        self.put("a.json", {"refresh_token": "r"})
        self.put("b.json", {"name": "a", "refresh_token": "r"})
        self.assertIn("a second account named 'a'", self.refusal())

    def test_account_does_not_show_its_token(self) -> None:
        """Its repr goes into logs."""
        self.put("a.json", {"refresh_token": "hush"})
        self.assertNotIn("hush", repr(load(self.directory)))


class SaveTests(StoreCase):
    """Keeping a rotated token."""

    def account(self, name: str) -> Account:
        return next(one for one in load(self.directory) if one.name == name)

    def test_other_members_stay_as_they_are(self) -> None:
        """In every form of a file, for the account and for its neighbours."""
        table: list[tuple[str, Any, str, Any]] = [
            ("a", {"refresh_token": "r", "n": {"x": [1, "é"]}}, "a", {"refresh_token": "NEW", "n": {"x": [1, "é"]}}),
            (
                "b",
                {"v": 1, "accounts": [{"refresh_token": "r"}, {"email": "e", "refresh_token": "s", "y": None}]},
                "e",
                {"v": 1, "accounts": [{"refresh_token": "r"}, {"email": "e", "refresh_token": "NEW", "y": None}]},
            ),
            ("c", [{"refresh_token": "r"}, {"refresh_token": "s"}], "c-2",
             [{"refresh_token": "r"}, {"refresh_token": "NEW"}]),
        ]  # fmt: skip
        for stem, document, name, kept in table:
            path = self.put(f"{stem}.json", document)
            save_refresh_token(self.account(name), Secret("NEW"))
            self.assertEqual(json.loads(path.read_bytes()), kept, stem)
            self.assertEqual(self.account(name).refresh_token, Secret("NEW"), stem)

    def test_saving_again_is_good_for_the_account_first_loaded(self) -> None:
        """The token rotates more than once in a process's life."""
        path = self.put("a.json", {"refresh_token": "r"})
        account = self.account("a")
        for token in ("s", "t"):
            save_refresh_token(account, Secret(token))
            self.assertEqual(json.loads(path.read_bytes()), {"refresh_token": token})

    def test_file_is_replaced_whole_and_stays_private(self) -> None:
        """P5: a new file takes the old one's place, mode 0600, and nothing is left beside it."""
        path = self.put("a.json", {"refresh_token": "r"})
        account = self.account("a")
        before = path.stat().st_ino
        with path.open("rb") as old:
            save_refresh_token(account, Secret("NEW"))
            self.assertEqual(json.loads(old.read()), {"refresh_token": "r"})
        self.assertNotEqual(path.stat().st_ino, before)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(os.listdir(self.directory), ["a.json"])

    def test_what_a_crash_left_behind_is_no_hindrance(self) -> None:
        """P5: a half-written neighbour of any mode is written over, and the result is private all the same."""
        path = self.put("a.json", {"refresh_token": "r"})
        self.put(".a.json.new", b"half", 0o644)
        self.assertEqual(self.names(), ["a"])
        save_refresh_token(self.account("a"), Secret("NEW"))
        self.assertEqual(self.names(), ["a"])
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)

    def test_link_in_the_way_is_not_followed(self) -> None:
        """Nothing outside the directory is written to, and the old file stays."""
        path = self.put("a.json", {"refresh_token": "r"})
        victim = Path(self.mktemp())
        victim.write_bytes(b"precious")
        (self.directory / ".a.json.new").symlink_to(victim.absolute())
        self.assertRaises(OSError, save_refresh_token, self.account("a"), Secret("NEW"))
        self.assertEqual(victim.read_bytes(), b"precious")
        self.assertEqual(json.loads(path.read_bytes()), {"refresh_token": "r"})

    def test_failed_write_leaves_the_old_file(self) -> None:
        """P6: what cannot be written raises OSError and damages nothing."""
        path = self.put("a.json", {"refresh_token": "r"})
        account = self.account("a")
        (self.directory / ".a.json.new").mkdir()
        self.assertRaises(OSError, save_refresh_token, account, Secret("NEW"))
        self.assertEqual(json.loads(path.read_bytes()), {"refresh_token": "r"})

    def test_list_that_was_edited_meanwhile_keeps_its_other_accounts(self) -> None:
        """The token goes to the account of that name wherever it stands now, never to whoever took its place."""
        path = self.put("a.json", [{"name": name, "refresh_token": name} for name in "xyz"])
        account = self.account("y")
        self.put("a.json", [{"name": "y", "refresh_token": "y"}, {"name": "z", "refresh_token": "z"}])
        save_refresh_token(account, Secret("NEW"))
        self.assertEqual(
            json.loads(path.read_bytes()), [{"name": "y", "refresh_token": "NEW"}, {"name": "z", "refresh_token": "z"}]
        )

    def test_account_that_is_gone_is_not_written_to(self) -> None:
        """StoreError where the file no longer holds it, in whatever way; its content stays."""
        self.put("a.json", [{"refresh_token": "r"}, {"name": "y", "refresh_token": "y"}])
        account = self.account("y")
        documents: list[Any] = [
            [], [{"refresh_token": "r"}], [1, None], {"accounts": []}, {"accounts": 1}, 7, b"{",
            {"name": "z", "refresh_token": "z"}, [{"name": "x"}, {"name": "z", "refresh_token": "z"}],
        ]  # fmt: skip
        for document in documents:
            path = self.put("a.json", document)
            before = path.read_bytes()
            self.assertRaises(StoreError, save_refresh_token, account, Secret("NEW"))
            self.assertEqual(path.read_bytes(), before, repr(document))
        path.unlink()
        self.assertRaises(StoreError, save_refresh_token, account, Secret("NEW"))
        self.assertEqual(os.listdir(self.directory), [])

    def test_account_without_a_file_is_not_written(self) -> None:
        """One that came ready-made is kept in memory alone."""
        save_refresh_token(Account("a", Secret("r")), Secret("NEW"))
        self.assertEqual(os.listdir(self.directory), [])
