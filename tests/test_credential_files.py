"""API keys and service accounts that lie in files, and the pool that follows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts import keyfiles, store
from gateway.accounts.given import Given
from gateway.accounts.sealing import Seal
from gateway.accounts.store import StoreError
from gateway.accounts.watch import POLL_SECONDS, SETTLE_SECONDS
from gateway.calls import Secret, Terms
from gateway.config import Config, CredentialConfig, UpstreamConfig, load
from gateway.members import Members
from tests.fakes import FakeWire, router
from tests.keyfiles import key_file

SEAL = Seal(Secret("11" * 32), lambda size: bytes(range(size)))


class FilesCase(SynchronousTestCase):
    """A directory for them."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(0o700)

    def put(self, name: str, document: object, mode: int = 0o600) -> Path:
        fresh = self.directory / ".fresh"
        fresh.touch(0o600)
        fresh.write_text(document if isinstance(document, str) else json.dumps(document))
        fresh.chmod(mode)
        return fresh.rename(self.directory / name)


class ReadTests(FilesCase):
    """``keyfiles.load``."""

    def refused(self, kind: str, document: object, mode: int = 0o600) -> str:
        path = self.put("bad.json", document, mode)
        sentence = str(self.assertRaises(StoreError, keyfiles.load, self.directory, kind))
        self.assertIn(str(path), sentence)
        self.assertNotIn("canary", sentence)
        path.unlink()
        return sentence

    def test_api_keys_are_read(self) -> None:
        """One a file, named by itself or by its file."""
        self.put("b.json", {"name": "mine", "api_key": " key-1 ", "project": "p", "note": 1})
        self.put("c.json", {"api_key": "key-2"})
        self.put("d.txt", "no such file")
        first, second = keyfiles.load(self.directory, "aistudio")
        self.assertEqual((first.name, first.api_key, first.project), ("mine", Secret("key-1"), "p"))
        self.assertEqual((second.name, second.project), ("c", ""))
        self.assertNotIn("key-1", repr(first))

    def test_service_accounts_are_read_bare_or_wrapped(self) -> None:
        """Google's own file as it is, or with a name and another project."""
        self.put("bare.json", key_file())
        self.put("wrapped.json", {"name": "mine", "project": "other", "service_account": json.loads(key_file())})
        bare, wrapped = keyfiles.load(self.directory, "vertex")
        self.assertEqual((bare.name, bare.project), ("bare", "its-project"))
        self.assertEqual((wrapped.name, wrapped.project), ("mine", "other"))
        assert bare.service_account is not None
        self.assertEqual(bare.service_account, wrapped.service_account)

    def test_what_cannot_be_taken_is_told_with_its_file(self) -> None:
        """In a sentence that quotes no secret."""
        self.assertIn("`api_key` is missing", self.refused("aistudio", {"name": "x"}))
        self.assertIn("characters that no key has", self.refused("aistudio", {"api_key": "canary canary"}))
        self.assertIn("must be a string", self.refused("aistudio", {"api_key": "canary", "project": 1}))
        self.assertIn("must be a JSON object", self.refused("aistudio", ["canary"]))
        self.assertIn("must be a JSON object", self.refused("vertex", ["canary"]))
        self.assertIn("chmod 600", self.refused("aistudio", {"api_key": "canary"}, 0o644))
        self.assertIn("no `type`", self.refused("vertex", {"private_key": "canary"}))
        self.assertIn("names no project", self.refused("vertex", key_file(project_id=None)))
        self.put("a.json", {"name": "x", "api_key": "k"})
        self.assertIn("second credential named 'x'", self.refused("aistudio", {"name": "x", "api_key": "canary"}))

    def test_saved_is_read_again(self) -> None:
        """Mode 0600, sealed where there is a seal; one of its name is replaced where it stands."""
        below = self.directory / "deep" / "er"
        made, renewed = keyfiles.save(below, "aistudio", {"name": "a/b", "api_key": "key-1"}, SEAL)
        self.assertFalse(renewed)
        self.assertEqual((made.path.stat().st_mode & 0o777, below.stat().st_mode & 0o777), (0o600, 0o700))
        self.assertNotIn("key-1", made.path.read_text())
        again, renewed = keyfiles.save(below, "aistudio", {"name": "a/b", "api_key": "key-2"}, SEAL)
        self.assertEqual((renewed, again.path), (True, made.path))
        self.assertEqual(keyfiles.load(below, "aistudio", SEAL), [again])
        self.assertRaises(StoreError, keyfiles.save, below, "aistudio", {"name": "c", "api_key": ""}, SEAL)
        self.assertEqual(len(list(below.iterdir())), 1)


class RemoveTests(FilesCase):
    """``store.remove``."""

    def test_account_of_its_own_file_goes_with_it(self) -> None:
        """The others stay."""
        self.put("a.json", {"refresh_token": "a"})
        self.put("b.json", {"refresh_token": "b"})
        store.remove(store.load(self.directory)[0])
        self.assertEqual([account.name for account in store.load(self.directory)], ["b"])

    def test_account_of_a_list_leaves_the_others(self) -> None:
        """Whatever else the file holds stays; one that went meanwhile is told."""
        entries = [{"email": "a", "refresh_token": "a"}, {"refresh_token": "b"}]
        path = self.put("all.json", {"accounts": entries, "x": 1})
        first = store.load(self.directory)[0]
        store.remove(first)
        self.assertEqual(json.loads(path.read_text()), {"accounts": [{"refresh_token": "b"}], "x": 1})
        self.assertRaises(StoreError, store.remove, first)


class ConfigTests(FilesCase):
    """When ``credentials`` may be left out."""

    def read(self, **upstream: Any) -> UpstreamConfig:
        path = self.directory / "c.yaml"
        document = {"state_dir": str(self.directory), "upstreams": {"studio": {"kind": "aistudio", **upstream}}}
        path.write_text(json.dumps(document))
        return load(str(path), {}).upstreams[0]

    def test_directory_makes_them_unnecessary(self) -> None:
        """One that is named, or the usual one with a file in it."""
        self.assertEqual(self.read(credentials_dir="keys").credentials_dir, str(self.directory / "keys"))
        usual = self.directory / "credentials" / "studio"
        usual.mkdir(0o700, parents=True)
        self.assertRaisesRegex(Exception, "it has no credentials", self.read)
        (usual / "a.json").touch()
        upstream = self.read()
        self.assertEqual((upstream.credentials_dir, upstream.credentials), (str(usual), ()))


class MembersTests(FilesCase):
    """The pool."""

    def begin(self, kind: str = "aistudio", **more: Any) -> None:
        self.clock = Clock()
        self.router = router(FakeWire(), self.clock)
        upstream = UpstreamConfig("up", kind, ("https://one.example",), credentials_dir=str(self.directory), **more)
        members = Members(Config(upstreams=(upstream,)), self.clock, FakeWire(), self.router, lambda: 0.0)
        members.start()
        self.addCleanup(members.stop)

    def settle(self) -> None:
        self.clock.advance(POLL_SECONDS)
        self.clock.advance(SETTLE_SECONDS)

    def names(self) -> list[str]:
        return [member.credential.name for member in self.router.members]

    def test_added_and_removed_keys_take_effect(self) -> None:
        """Those that stay are the same members, with their standing and sessions."""
        self.put("a.json", {"api_key": "key-a"})
        self.begin(credentials=(CredentialConfig("fixed", Secret("key")),))
        self.assertEqual(self.names(), ["fixed", "a"])
        before = self.router.members[1]
        self.assertEqual(self.successResultOf(_got(before)), Secret("key-a"))
        other = self.put("b.json", {"api_key": "key-b", "project": "p"})
        self.settle()
        self.assertEqual(self.names(), ["fixed", "a", "b"])
        self.assertIs(self.router.members[1], before)
        self.assertEqual(self.router.members[2].credential.owner, "project:p")
        other.unlink()
        self.settle()
        self.assertEqual(self.names(), ["fixed", "a"])

    def test_changed_key_is_another_credential(self) -> None:
        """What was held against the old one is not held against it."""
        self.put("a.json", {"api_key": "key-a"})
        self.begin()
        self.router.standings.quarantine(self.router.members[0].credential, "API_KEY_INVALID", "", 0.0, 0.0)
        self.put("a.json", {"api_key": "key-c"})
        self.settle()
        (member,) = self.router.members
        self.assertEqual(self.successResultOf(_got(member)), Secret("key-c"))
        self.assertIsNone(self.router.standings.quarantined(member.credential))

    def test_terms_in_a_file_are_the_credentials_own(self) -> None:
        """A service account keeps its token, and is told as changed; renewing a key leaves them as they are."""
        robot = {"name": "robot", "service_account": json.loads(key_file())}
        self.put("robot.json", robot)
        self.begin("vertex", terms=Terms(3.0, 1, 7))
        (before,) = self.router.members
        self.assertEqual(before.credential.terms, Terms(3.0, 1, 7))
        self.put("robot.json", {**robot, "priority": 0, "weight": 0.5})
        self.settle()
        (after,) = self.router.members
        self.assertEqual(after.credential.terms, Terms(0.5, 0, 7))
        self.assertIs(after.tokens, before.tokens)
        made, renewed = keyfiles.save(self.directory, "vertex", robot)
        self.assertEqual((made.given, renewed), (Given(0.5, 0), True))
        self.assertEqual([one.given for one in keyfiles.load(self.directory, "vertex")], [Given(0.5, 0)])

    def test_what_a_file_says_of_its_terms_can_be_changed(self) -> None:
        """None takes a member out; whatever else stands there stays."""
        path = self.put("a.json", {"name": "n", "api_key": "k", "weight": 2, "note": "mine"})
        (file,) = keyfiles.load(self.directory, "aistudio")
        keyfiles.save_given(file, {"weight": None, "max_concurrent": 4})
        self.assertEqual(
            json.loads(path.read_bytes()), {"name": "n", "api_key": "k", "note": "mine", "max_concurrent": 4}
        )
        self.put("a.json", {"name": "n", "api_key": "k", "weight": "much"})
        error = self.assertRaises(StoreError, keyfiles.load, self.directory, "aistudio")
        self.assertIn("`weight` must be a number", str(error))

    def test_configuration_comes_before_a_file_of_the_same_name(self) -> None:
        """The file is told of and not used."""
        self.put("fixed.json", {"api_key": "key-a"})
        self.begin(credentials=(CredentialConfig("fixed", Secret("key")),))
        self.assertEqual(self.names(), ["fixed"])
        self.assertEqual(self.successResultOf(_got(self.router.members[0])), Secret("key"))

    def test_service_accounts_have_tokens_of_their_own(self) -> None:
        """As those of the configuration have."""
        self.put("robot.json", key_file())
        self.begin("vertex", location="global")
        (member,) = self.router.members
        self.assertEqual((member.credential.project, member.tokens.renewable), ("its-project", True))

    def test_file_that_breaks_keeps_its_key(self) -> None:
        """Until it can be read again."""
        self.put("a.json", {"api_key": "key-a"})
        self.begin()
        self.put("a.json", "{")
        self.settle()
        self.assertEqual(self.names(), ["a"])


def _got(member: Any) -> Any:
    from tests.fakes import run

    return run(member.tokens.get())
