"""Watch a directory of credentials' files: what changes there takes effect without a restart.  Reads files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs
from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReactorTime
from twisted.logger import Logger
from twisted.python.filepath import FilePath

from gateway.accounts import store
from gateway.accounts.sealing import Seal
from gateway.accounts.store import StoreError

POLL_SECONDS = 5.0
"""How often the files' times are looked at, whether or not the system tells of changes."""
SETTLE_SECONDS = 0.2
"""How long nothing must change before the files are read: who writes one seldom writes once."""
SETTLE_MOST_SECONDS = 1.0
"""After so long they are read all the same."""

_log = Logger()

Stamp = tuple[int, ...]
"""What tells one state of a file from the next, without reading it."""
Cancel = Callable[[], object]
Read = Callable[[Path, Seal | None], Sequence[Any]]
"""Returns the credentials of one file; raises StoreError, and OSError."""
Subscribe = Callable[[Path, Callable[[], None]], Cancel]
"""Calls back after changes in a directory, until what it returns is called; raises OSError where it cannot."""


class Named(Protocol):
    """A credential that came from a file."""

    @property
    def name(self) -> str:
        """The operator's name for it."""

    @property
    def path(self) -> Path | None:
        """The file."""


@attrs.frozen
class _File:
    stamp: Stamp
    accounts: Sequence[Named]
    """Those that were read last, perhaps from an earlier state of it."""
    problem: str


@attrs.define(eq=False, repr=False)
class Watcher:
    """Tells whenever the accounts in a directory are others than before.

    A file that cannot be read keeps the accounts it had, and one warning names the cure; so does the whole
    directory where that cannot be used.  One that is not there holds none.
    """

    _directory: Path
    _seal: Seal | None
    _clock: IReactorTime
    _changed: Callable[[Sequence[Any]], None]
    """Takes all accounts of the directory, in the order of their files."""
    _subscribe: Subscribe | None = None
    _reads: Read = store.read
    _files: dict[Path, _File] = attrs.field(factory=dict)
    _problem: str = ""
    _doubles: set[str] = attrs.field(factory=set)
    _told: Sequence[Named] | None = None
    _poll: IDelayedCall | None = None
    _settle: IDelayedCall | None = None
    _settle_by: float = 0.0
    _cancel: Cancel | None = None
    _subscribed: Stamp = ()
    """Which directory the subscription is for: the name may come to mean another."""

    def start(self) -> None:
        """Read the files, tell what they hold, and begin to watch."""
        self._attend()
        self.look()
        self._poll = self._clock.callLater(POLL_SECONDS, self._again)

    def stop(self) -> None:
        """Watch no longer."""
        for timer in (self._poll, self._settle):
            if timer is not None and timer.active():
                timer.cancel()
        self._leave()

    def poke(self) -> None:
        """Read the files as soon as they have settled: something may have changed."""
        now = self._clock.seconds()
        if self._settle is not None and self._settle.active():
            self._settle.reset(max(min(SETTLE_SECONDS, self._settle_by - now), 0.0))
            return
        self._settle_by = now + SETTLE_MOST_SECONDS
        self._settle = self._clock.callLater(SETTLE_SECONDS, self.look)

    def _again(self) -> None:
        self._attend()
        try:
            stamps = self._stamps()
        except (OSError, StoreError) as error:
            changed = str(error) != self._problem
        else:
            changed = bool(self._problem) or stamps != {path: file.stamp for path, file in self._files.items()}
        if changed:
            self.poke()
        self._poll = self._clock.callLater(POLL_SECONDS, self._again)

    def look(self) -> None:
        """Read at once what has changed, and tell of it."""
        try:
            stamps = self._stamps()
        except (OSError, StoreError) as error:
            if str(error) != self._problem:
                _log.warn("the account files stay as they were last read: {why}", why=str(error))
            self._problem = str(error)
            if self._told is None:
                self._tell([])
            return
        self._problem = ""
        self._files = {path: self._read(path, stamp) for path, stamp in stamps.items()}
        self._tell(self._named_once())

    def _named_once(self) -> list[Named]:
        """Return all accounts; of two with one name the first counts, and a warning tells of the other."""
        known: dict[str, Named] = {}
        doubles = set()
        for file in self._files.values():
            for account in file.accounts:
                if known.setdefault(account.name, account) is not account:
                    doubles.add(f"{account.path}: a second account named {account.name!r}; rename or remove one.")
        for double in sorted(doubles - self._doubles):
            _log.warn("an account is not used: {why}", why=double)
        self._doubles = doubles
        return list(known.values())

    def _tell(self, accounts: Sequence[Named]) -> None:
        if accounts != self._told:
            self._told = accounts
            self._changed(accounts)

    def _read(self, path: Path, stamp: Stamp) -> _File:
        before = self._files.get(path)
        if before is not None and before.stamp == stamp:
            return before
        try:
            accounts = self._reads(path, self._seal)
        except FileNotFoundError:
            # It went just now; the next look will tell.
            return _File((), before.accounts if before else (), "")
        except (OSError, StoreError) as error:
            if before is None or before.problem != str(error):
                kept = "its accounts stay as they were" if before and before.accounts else "it is not used"
                _log.warn("an account file cannot be read, and {kept}: {why}", kept=kept, why=str(error))
            return _File(stamp, before.accounts if before else (), str(error))
        if before is not None and before.problem:
            _log.info("{path} can be read again", path=str(path))
        return _File(stamp, accounts, "")

    def _stamps(self) -> dict[Path, Stamp]:
        """Return the account files and their stamps; raises StoreError or OSError."""
        stamps: dict[Path, Stamp] = {}
        for path in store.files(self._directory):
            try:
                stamps[path] = _stamp(path)
            except FileNotFoundError:
                continue
        return stamps

    def _attend(self) -> None:
        """See to it that the subscription is for what the directory's name means now."""
        try:
            found = self._directory.lstat()
            present: Stamp = (found.st_dev, found.st_ino)
        except OSError:
            present = ()
        if present == self._subscribed:
            return
        self._leave()
        if self._subscribe is None or not present:
            return
        try:
            self._cancel = self._subscribe(self._directory, self.poke)
        except OSError as error:
            path, why = str(self._directory), str(error)
            _log.debug("changes of {path} are noticed by polling alone: {why}", path=path, why=why)
        self._subscribed = present

    def _leave(self) -> None:
        cancel, self._cancel, self._subscribed = self._cancel, None, ()
        if cancel is not None:
            cancel()


def _stamp(path: Path) -> Stamp:
    found = path.lstat()
    # The time of the last change of the inode: that of its content can be set to anything.
    return (found.st_ino, found.st_size, found.st_mode, found.st_uid, found.st_mtime_ns, found.st_ctime_ns)


def by_inotify(reactor: Any) -> Subscribe | None:
    """Return how Linux tells of changes, None where there is no inotify."""
    if not IReactorFDSet.providedBy(reactor):
        return None
    try:
        from twisted.internet import inotify
    except (ImportError, OSError):
        return None
    mask = (
        inotify.IN_CLOSE_WRITE | inotify.IN_MODIFY | inotify.IN_ATTRIB | inotify.IN_MOVED_TO | inotify.IN_MOVED_FROM
        | inotify.IN_CREATE | inotify.IN_DELETE
    )  # fmt: skip

    def subscribe(directory: Path, poke: Callable[[], None]) -> Cancel:
        try:
            notifier = inotify.INotify(reactor)
        except inotify.INotifyError as error:
            raise OSError(f"no inotify instance is to be had ({error})") from None

        def cancel() -> None:
            # A directory that is removed ends its notifier by itself.
            if notifier.connected:
                notifier.loseConnection()

        notifier.startReading()
        try:
            notifier.watch(FilePath(str(directory)), mask, callbacks=[lambda *_: poke()])
        except inotify.INotifyError as error:
            cancel()
            raise OSError(f"inotify does not watch it ({error})") from None
        return cancel

    return subscribe
