"""A directory of account files that changes while it is watched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from gateway.accounts.sealing import Seal
from gateway.accounts.store import Account, save_refresh_token
from gateway.accounts.watch import POLL_SECONDS, SETTLE_MOST_SECONDS, SETTLE_SECONDS, Watcher, by_inotify
from gateway.calls import Secret

reactor: Any = _reactor


class WatchCase(SynchronousTestCase):
    """A watched directory, and a system that tells of its changes when the test says so."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir(0o700)
        self.clock = Clock()
        self.told: list[list[tuple[str, str]]] = []
        self.pokes: list[Callable[[], None]] = []
        self.refuses = False
        self.logged: list[Any] = []
        globalLogPublisher.addObserver(self.logged.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.logged.append)

    def watcher(self, seal: Seal | None = None, subscribe: bool = True) -> Watcher:
        watcher = Watcher(self.directory, seal, self.clock, self.changed, self.subscribe if subscribe else None)
        watcher.start()
        return watcher

    def changed(self, accounts: Sequence[Account]) -> None:
        self.told.append([(one.name, one.refresh_token.reveal()) for one in accounts])

    def subscribe(self, directory: Path, poke: Callable[[], None]) -> Callable[[], None]:
        if self.refuses:
            raise OSError("no more watches")
        self.assertEqual(directory, self.directory)
        self.pokes.append(poke)
        return lambda: self.pokes.remove(poke)

    def put(self, name: str, document: Any, mode: int = 0o600) -> Path:
        path = self.directory / name
        path.write_bytes(document if isinstance(document, bytes) else json.dumps(document).encode())
        path.chmod(mode)
        return path

    def notice(self) -> None:
        """The system tells of a change, and the files settle."""
        self.pokes[0]()
        self.clock.advance(SETTLE_SECONDS)

    def warnings(self) -> list[str]:
        found = [one for one in self.logged if one["log_level"] is LogLevel.warn]
        return [one["log_format"].format(**one) for one in found]


class ChangeTests(WatchCase):
    """What takes effect."""

    def test_added_changed_and_removed_files_are_told(self) -> None:
        """Each time all that are there now, once."""
        self.put("a.json", {"refresh_token": "1"})
        self.watcher()
        self.assertEqual(self.told, [[("a", "1")]])
        self.put("b.json", {"refresh_token": "2"})
        self.notice()
        self.put("a.json", {"refresh_token": "11"})
        self.notice()
        (self.directory / "b.json").unlink()
        self.notice()
        self.assertEqual(self.told[1:], [[("a", "1"), ("b", "2")], [("a", "11"), ("b", "2")], [("a", "11")]])

    def test_what_changes_no_account_is_not_told(self) -> None:
        """A touched file, a file of another kind, a member that means nothing."""
        path = self.put("a.json", {"refresh_token": "1"})
        self.watcher()
        os.utime(path, (1, 1))
        self.notice()
        self.put("notes.txt", b"x")
        self.notice()
        self.put("a.json", {"refresh_token": "1", "note": "x"})
        self.notice()
        self.assertEqual(len(self.told), 1)

    def test_polling_alone_notices_everything(self) -> None:
        """Where the system tells of nothing, within five seconds and the time to settle."""
        for subscribe, refuses in ((False, False), (True, True)):
            self.refuses = refuses
            self.told.clear()
            watcher = self.watcher(subscribe=subscribe)
            self.put("a.json", {"refresh_token": "1"})
            self.clock.advance(POLL_SECONDS)
            self.clock.advance(SETTLE_SECONDS)
            self.put("a.json", {"refresh_token": "2"})
            self.clock.advance(POLL_SECONDS)
            self.clock.advance(SETTLE_SECONDS)
            (self.directory / "a.json").unlink()
            self.clock.advance(POLL_SECONDS)
            self.clock.advance(SETTLE_SECONDS)
            self.assertEqual(self.told, [[], [("a", "1")], [("a", "2")], []])
            watcher.stop()

    def test_change_that_keeps_size_and_time_is_noticed(self) -> None:
        """The time of a content can be set; that of the inode cannot."""
        path = self.put("a.json", {"refresh_token": "1"})
        self.watcher(subscribe=False)
        found = path.stat()
        self.put("a.new", {"refresh_token": "2"})
        os.utime(self.directory / "a.new", ns=(found.st_atime_ns, found.st_mtime_ns))
        (self.directory / "a.new").rename(path)
        self.clock.advance(POLL_SECONDS)
        self.clock.advance(SETTLE_SECONDS)
        self.assertEqual(self.told[-1], [("a", "2")])

    def test_writes_of_the_gateways_own_are_told_like_others(self) -> None:
        """Who is told knows what it wrote; see the members."""
        self.put("a.json", {"refresh_token": "1"})
        self.watcher()
        save_refresh_token(Account("a", Secret("1"), path=self.directory / "a.json"), Secret("2"))
        self.notice()
        self.assertEqual(self.told[1:], [[("a", "2")]])

    def test_sealed_files_are_watched_too(self) -> None:
        """With the key that the start had."""
        seal = Seal(Secret("00" * 32), os.urandom)
        self.watcher(seal)
        self.put("a.json", seal.close("a.json", b'{"refresh_token":"1"}'))
        self.notice()
        self.assertEqual(self.told, [[], [("a", "1")]])


class SettleTests(WatchCase):
    """When the files are read."""

    def test_files_are_read_once_they_have_settled(self) -> None:
        """Each change puts the reading off by 0.2 s."""
        self.watcher()
        self.put("a.json", b"{")
        for _ in range(4):
            self.pokes[0]()
            self.clock.advance(SETTLE_SECONDS - 0.01)
        self.assertEqual((len(self.told), self.warnings()), (1, []))
        self.put("a.json", {"refresh_token": "1"})
        self.clock.advance(0.01)
        self.assertEqual(self.told[-1], [("a", "1")])

    def test_reading_is_not_put_off_for_ever(self) -> None:
        """Who never stops writing does not hide the others' changes."""
        self.watcher()
        self.put("a.json", {"refresh_token": "1"})
        for _ in range(int(SETTLE_MOST_SECONDS / 0.1) + 1):
            self.pokes[0]()
            self.clock.advance(0.1)
        self.assertEqual(self.told[-1], [("a", "1")])

    def test_stopped_watcher_leaves_nothing_behind(self) -> None:
        """No timer, no subscription."""
        watcher = self.watcher()
        self.pokes[0]()
        watcher.stop()
        self.assertEqual((self.pokes, self.clock.getDelayedCalls()), ([], []))


class ProblemTests(WatchCase):
    """What cannot be read."""

    def test_file_that_cannot_be_read_keeps_its_accounts_and_warns_once(self) -> None:
        """P4: half written, no JSON, no account, of the wrong mode, a link: the rest takes effect all the same."""
        good = json.dumps({"refresh_token": "1"}).encode()
        bad: list[tuple[bytes, int, str]] = [
            (good[:-4], 0o600, "cannot be read as JSON"), (b"", 0o600, "cannot be read as JSON"),
            (b"{}", 0o600, "sign the account in again"), (good, 0o644, "chmod 600"),
            (b'{"sealed":1}', 0o600, "write credentials_key_file"),
        ]  # fmt: skip
        for number, (content, mode, cure) in enumerate(bad):
            self.told.clear()
            self.logged.clear()
            self.put("a.json", good)
            watcher = self.watcher()
            self.put("a.json", content, mode)
            self.put(f"b-{number}.json", {"refresh_token": "2"})
            for _ in range(3):
                self.notice()
            self.assertEqual(self.told[-1][0], ("a", "1"), cure)
            self.assertIn((f"b-{number}", "2"), self.told[-1])
            self.assertEqual(len(self.warnings()), 1, self.warnings())
            self.assertIn(cure, self.warnings()[0])
            self.assertIn(str(self.directory / "a.json"), self.warnings()[0])
            self.put("a.json", {"refresh_token": "mended"})
            self.notice()
            self.assertEqual(self.told[-1][0], ("a", "mended"))
            watcher.stop()

    def test_new_file_that_cannot_be_read_holds_no_account(self) -> None:
        """Until it can."""
        self.watcher()
        path = self.put("a.json", {"refresh_token": "1"}, 0o604)
        self.notice()
        self.assertEqual(self.told, [[]])
        self.assertIn("chmod 600", self.warnings()[0])
        path.chmod(0o600)
        self.notice()
        self.assertEqual(self.told[1:], [[("a", "1")]])

    def test_directory_that_others_may_read_keeps_what_was_read(self) -> None:
        """P10: one warning with the cure; nothing new is taken from it until it is mended."""
        self.put("a.json", {"refresh_token": "1"})
        self.watcher()
        self.directory.chmod(0o755)
        self.put("b.json", {"refresh_token": "2"})
        for _ in range(3):
            self.notice()
            self.clock.advance(POLL_SECONDS)
        self.assertEqual(len(self.told), 1)
        self.assertEqual(len(self.warnings()), 1)
        self.assertIn("chmod 700", self.warnings()[0])
        self.directory.chmod(0o700)
        self.clock.advance(POLL_SECONDS)
        self.clock.advance(SETTLE_SECONDS)
        self.assertEqual(self.told[-1], [("a", "1"), ("b", "2")])

    def test_directory_that_goes_and_comes_is_watched_again(self) -> None:
        """Gone, it holds none; another in its place is the one that is watched."""
        self.put("a.json", {"refresh_token": "1"})
        self.watcher()
        self.directory.rename(self.mktemp())
        self.clock.advance(POLL_SECONDS)
        self.clock.advance(SETTLE_SECONDS)
        self.assertEqual((self.told[-1], self.pokes), ([], []))
        self.directory.mkdir(0o700)
        self.put("b.json", {"refresh_token": "2"})
        self.clock.advance(POLL_SECONDS)
        self.clock.advance(SETTLE_SECONDS)
        self.assertEqual((self.told[-1], len(self.pokes)), ([("b", "2")], 1))

    def test_second_account_of_a_name_is_not_used(self) -> None:
        """The first one serves on; one warning says which is not."""
        self.put("a.json", {"refresh_token": "1"})
        self.watcher()
        self.put("b.json", {"name": "a", "refresh_token": "2"})
        self.notice()
        self.put("c.json", {"refresh_token": "3"})
        self.notice()
        self.assertEqual(self.told[-1], [("a", "1"), ("c", "3")])
        self.assertEqual(len(self.warnings()), 1)
        self.assertIn("b.json", self.warnings()[0])

    def test_no_token_is_logged(self) -> None:
        """Whatever the file looks like."""
        self.watcher()
        for content in (b'{"refresh_token":"hush" "hush"}', b'{"refresh_token":["hush"]}', b'["hush"]'):
            self.put("a.json", content)
            self.notice()
        self.assertEqual(len(self.warnings()), 3)
        self.assertNotIn("hush", repr(self.logged))


class InotifyTests(TestCase):
    """The system's own word, on the real reactor."""

    timeout = 30

    def setUp(self) -> None:
        subscribe = by_inotify(reactor)
        if subscribe is None:
            raise SkipTest("there is no inotify here")
        self.subscribe = subscribe
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(0o700)

    async def poked(self, change: Callable[[], object]) -> None:
        poked: Deferred[None] = Deferred()
        cancel = self.subscribe(self.directory, lambda: poked.called or poked.callback(None))
        self.addCleanup(cancel)
        change()
        await poked

    async def test_every_kind_of_change_is_told(self) -> None:
        """Written, renamed into its place, removed, its mode mended."""
        path = self.directory / "a.json"
        await self.poked(lambda: path.write_bytes(b"{}"))
        await self.poked(lambda: path.chmod(0o600))
        await self.poked(lambda: path.rename(self.directory / "b.json"))
        await self.poked((self.directory / "b.json").unlink)

    async def test_directory_that_is_removed_harms_nothing(self) -> None:
        """Its notifier ends by itself."""
        (self.directory / "a.json").write_bytes(b"{}")

        def remove() -> None:
            (self.directory / "a.json").unlink()
            self.directory.rmdir()

        await self.poked(remove)

    def test_directory_that_is_not_there_cannot_be_watched(self) -> None:
        """The poll tries again."""
        self.assertRaises(OSError, self.subscribe, self.directory / "none", lambda: None)

    def test_where_there_is_no_reactor_for_files_there_is_no_inotify(self) -> None:
        """Polling does."""
        self.assertIsNone(by_inotify(Clock()))
