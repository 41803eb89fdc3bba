"""What accounts/ledger.py and accounts/keeper.py keep over a restart."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.keeper import EVERY_SECONDS, Keeper
from gateway.accounts.ledger import Corrupt, Ledger, LedgerError, decode, encode
from gateway.accounts.rests import State
from gateway.accounts.standing import COOL_LIMIT_SECONDS, Standings
from gateway.calls import Credential

ONE = Credential("one", "studio", "aistudio", "studio/one")
TWO = Credential("two", "studio", "aistudio", "studio/two", "shared-project")
MODEL = "gemini-2.5-flash"


def _standings() -> Standings:
    standings = Standings()
    standings.cool(ONE, MODEL, 1000.0 + 3600.0, 1000.0, "QUOTA_EXHAUSTED")
    standings.quarantine(TWO, "API_KEY_INVALID", "https://example.com/", 1000.0, 50_000.0)
    return standings


class FileTests(SynchronousTestCase):
    """The file itself."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        self.ledger = Ledger(self.directory)

    def test_what_is_saved_is_loaded(self) -> None:
        """A ledger gives back what was put into it, and its file is for its owner alone."""
        kept = _standings().dump(1000.0, 50_000.0)
        self.ledger.save(kept)
        self.assertEqual(self.ledger.load(), (kept, ""))
        self.assertEqual(self.ledger.path.stat().st_mode & 0o777, 0o600)

    def test_no_file_is_an_empty_ledger(self) -> None:
        """The first start finds nothing and says nothing."""
        self.assertEqual(self.ledger.load(), (None, ""))

    def test_every_flipped_byte_is_noticed(self) -> None:
        """P11: whichever byte of the file is changed, it is put aside or reads as before, and nothing raises."""
        kept = _standings().dump(1000.0, 50_000.0)
        text = encode(kept)
        for at in range(len(text)):
            broken = bytearray(text)
            broken[at] ^= 0x15
            try:
                _, content = decode(bytes(broken))
            except Corrupt:
                continue
            self.assertEqual(content, kept, f"byte {at} was changed and not noticed")

    def test_every_shorter_file_is_noticed(self) -> None:
        """P11: a file cut short anywhere, or empty, is not taken for a ledger."""
        text = encode(_standings().dump(1000.0, 50_000.0)).rstrip()
        for length in range(len(text)):
            self.assertRaises(Corrupt, decode, text[:length])

    def test_corrupt_file_is_put_aside(self) -> None:
        """P11: what cannot be read is kept under another name, and the sentence for the log names both."""
        self.ledger.path.write_bytes(b"{")
        kept, note = self.ledger.load()
        self.assertIsNone(kept)
        self.assertIn("standing.corrupt", note)
        self.assertEqual((self.directory / "standing.corrupt").read_bytes(), b"{")
        self.assertFalse(self.ledger.path.exists())

    def test_file_in_somebody_elses_directory_is_left_as_it_is(self) -> None:
        """K8: whoever has no lock puts nothing aside, and migrates in memory alone."""
        self.ledger.path.write_bytes(b"{")
        kept, note = self.ledger.load(owned=False)
        self.assertIsNone(kept)
        self.assertIn("could not be read", note)
        old = encode({"cooling": ["x"]}).replace(b'"schema":1', b'"schema":0')
        self.ledger.path.write_bytes(old)
        ledger = Ledger(self.directory, {0: lambda kept: {"rests": kept["cooling"]}})
        self.assertEqual(ledger.load(owned=False), ({"rests": ["x"]}, ""))
        left = [(path.name, path.read_bytes()) for path in self.directory.iterdir()]
        self.assertEqual(left, [("standing.json", old)])

    def test_newer_schema_is_refused(self) -> None:
        """A ledger of a later version is neither read nor touched, and the sentence says what to do."""
        text = b'{"schema":99,"sha256":"","standings":{"shape":"unknown"}}'
        self.ledger.path.write_bytes(text)
        error = self.assertRaises(LedgerError, self.ledger.load)
        self.assertIn("newer version", str(error))
        self.assertEqual(self.ledger.path.read_bytes(), text)


class MigrationTests(SynchronousTestCase):
    """A file of an older version."""

    def test_older_schema_is_migrated_after_a_backup(self) -> None:
        """The content arrives in today's form, the file is rewritten in it, and the old one is kept beside it."""
        directory = Path(self.mktemp())
        directory.mkdir()
        old = encode({"cooling": ["x"]}).replace(b'"schema":1', b'"schema":0')
        ledger = Ledger(directory, {0: lambda kept: {"rests": kept["cooling"]}})
        ledger.path.write_bytes(old)
        kept, note = ledger.load()
        self.assertEqual(kept, {"rests": ["x"]})
        self.assertIn("migrated from schema 0", note)
        self.assertEqual((directory / "standing.schema0.bak").read_bytes(), old)
        self.assertEqual(ledger.load(), ({"rests": ["x"]}, ""))

    def test_migration_that_fails_leaves_the_old_file(self) -> None:
        """Nothing is written before the content is there in whole."""
        directory = Path(self.mktemp())
        directory.mkdir()
        old = encode({}).replace(b'"schema":1', b'"schema":0')
        ledger = Ledger(directory, {0: lambda kept: {"rests": kept["cooling"]}})
        ledger.path.write_bytes(old)
        self.assertRaises(KeyError, ledger.load)
        self.assertEqual(ledger.path.read_bytes(), old)

    def test_schema_that_never_was_is_refused(self) -> None:
        """A number that no version wrote is told in a sentence, and the file is left alone."""
        directory = Path(self.mktemp())
        directory.mkdir()
        ledger = Ledger(directory)
        ledger.path.write_bytes(encode({}).replace(b'"schema":1', b'"schema":0'))
        self.assertIn("no version of the gateway wrote", str(self.assertRaises(LedgerError, ledger.load)))


class KeptTests(SynchronousTestCase):
    """What comes back after a restart."""

    def test_rests_and_quarantines_outlast_a_restart(self) -> None:
        """A day's quota is still used up after a restart on another monotonic clock; a refused key stays out."""
        kept = _standings().dump(1000.0, 50_000.0)
        after = Standings()
        after.restore(kept, 7.0, 50_600.0)
        resting = after.availability(ONE, MODEL, 7.0)
        self.assertEqual(resting.state, State.COOLING)
        self.assertEqual(after.availability(ONE, MODEL, 7.0 + 2999.9).usable, True, "a long rest is probed")
        self.assertEqual(after.availability(TWO, MODEL, 7.0).state, State.QUARANTINED)

    def test_new_key_of_the_same_name_is_not_held_to_the_old_ones_account(self) -> None:
        """An operator who replaces a refused key and starts again has a working credential."""
        after = Standings()
        after.restore(_standings().dump(1000.0, 50_000.0), 7.0, 50_600.0)
        mended = attrs.evolve(TWO, mark="another secret's digest")
        self.assertEqual(after.availability(mended, MODEL, 7.0).state, State.OK)

    def test_clock_that_jumped_back_does_not_lengthen_a_rest_beyond_the_limit(self) -> None:
        """K6: a deadline far in the future, as after a clock that was set back, is clamped."""
        kept = _standings().dump(1000.0, 50_000.0)
        after = Standings()
        after.restore(kept, 0.0, -1e9)
        after.prune(COOL_LIMIT_SECONDS + 121.0)
        self.assertEqual(after.availability(ONE, MODEL, COOL_LIMIT_SECONDS + 121.0).state, State.OK)

    def test_rest_that_is_over_is_forgotten(self) -> None:
        """A deadline that has passed while nothing ran leaves nothing behind."""
        after = Standings()
        after.restore(_standings().dump(1000.0, 50_000.0), 0.0, 60_000.0)
        self.assertEqual(after.availability(ONE, MODEL, 0.0).state, State.OK)


    def test_number_that_cannot_be_counted_with_is_refused(self) -> None:
        """P6: infinity, what is too large and what is no number are ValueErrors, which the start survives."""
        kept = _standings().dump(1000.0, 50_000.0)
        for odd in (math.inf, math.nan, 10**400):
            for section, member in (("rests", "strikes"), ("quarantined", "since"), ("used", "at")):
                row = {"upstream": "studio", "name": "one", "at": 0.0} if section == "used" else kept[section][0]
                changed = {**kept, section: [{**row, member: odd}]}
                self.assertRaises(ValueError, Standings().restore, changed, 0.0, 50_000.0)


class _Disk:
    """A ledger whose disk may be full, and a thread in which it is written to when the test says so."""

    def __init__(self) -> None:
        self.path = Path("standing.json")
        self.full = False
        self.slow = False
        self.saved: list[Mapping[str, Any]] = []
        self.kept: dict[str, Any] | None = None
        self.begun: list[tuple[Callable[[], None], Deferred[None]]] = []

    def load(self, owned: bool = True) -> tuple[dict[str, Any] | None, str]:
        return self.kept, ""

    def save(self, kept: Mapping[str, Any]) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.saved.append(kept)

    def in_thread(self, function: Callable[[], None]) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self.begun.append((function, done))
        if not self.slow:
            self.end_one()
        return done

    def end_one(self) -> None:
        """Let the write that began first come to its end."""
        function, done = self.begun.pop(0)
        try:
            function()
        except OSError:
            done.errback(Failure())
        else:
            done.callback(None)


class KeeperTests(SynchronousTestCase):
    """When the standings are written."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.disk = _Disk()
        self.standings = Standings()
        self.keeper = self.keeper_of(self.standings)
        self.keeper.load()
        self.keeper.start()

    def keeper_of(self, standings: Standings, names: Mapping[str, set[str]] | None = None) -> Keeper:
        ledger: Any = self.disk
        return Keeper(standings, ledger, self.clock, lambda: 50_000.0, self.disk.in_thread, lambda: names or {})

    def disabled(self) -> list[list[str]]:
        """The names that each write so far told as disabled."""
        return [[row["name"] for row in kept["disabled"]] for kept in self.disk.saved]

    def test_change_is_written_within_a_second_and_only_once(self) -> None:
        """What changed is on disk soon, and what did not change is not written again."""
        self.clock.advance(EVERY_SECONDS)
        self.assertEqual(self.disk.saved, [])
        self.standings.cool(ONE, MODEL, 500.0, 0.0)
        self.clock.pump([EVERY_SECONDS] * 3)
        self.assertEqual(len(self.disk.saved), 1)

    def test_end_writes_what_is_left(self) -> None:
        """A change just before the stop is not lost, and nothing is left running."""
        self.standings.set_enabled(ONE, False)
        self.successResultOf(self.keeper.stop())
        self.assertEqual(self.disk.saved[-1]["disabled"], [{"upstream": "studio", "name": "one"}])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_full_disk_costs_nothing_and_is_retried(self) -> None:
        """P6: with a full disk the standings go on in memory; with space again they are written."""
        self.disk.full = True
        self.standings.cool(ONE, MODEL, 500.0, 0.0)
        self.clock.pump([EVERY_SECONDS] * 3)
        self.assertTrue(self.keeper.failing)
        self.disk.full = False
        self.clock.advance(EVERY_SECONDS)
        self.assertFalse(self.keeper.failing)
        self.assertEqual(len(self.disk.saved), 1)

    def test_slow_disk_holds_nobody_up(self) -> None:
        """Writing is the thread's business; however long one takes, there is no second beside it."""
        self.disk.slow = True
        self.standings.set_enabled(ONE, False)
        self.clock.advance(EVERY_SECONDS)
        self.assertEqual((len(self.disk.begun), self.disk.saved), (1, []))
        self.standings.set_enabled(TWO, False)
        self.clock.pump([EVERY_SECONDS] * 5)
        self.assertEqual(len(self.disk.begun), 1, "one write at a time")
        self.disk.end_one()
        self.clock.advance(EVERY_SECONDS)
        self.disk.end_one()
        self.assertEqual(self.disabled(), [["one"], ["one", "two"]], "in their order")

    def test_write_is_of_the_moment_in_which_it_begins(self) -> None:
        """What changes while the thread writes is in the next one, and not half in this."""
        self.disk.slow = True
        self.standings.set_enabled(ONE, False)
        self.clock.advance(EVERY_SECONDS)
        self.standings.set_enabled(TWO, False)
        self.disk.end_one()
        self.assertEqual(self.disabled(), [["one"]])

    def test_whoever_asked_for_it_waits_for_what_he_asked_for(self) -> None:
        """A save during another one's write comes back after a write of its own; so does the end."""
        self.disk.slow = True
        self.standings.set_enabled(ONE, False)
        first = self.keeper.save()
        self.standings.set_enabled(TWO, False)
        second, end = self.keeper.save(), self.keeper.stop()
        self.disk.end_one()
        self.successResultOf(first)
        self.assertNoResult(second)
        self.assertNoResult(end)
        self.disk.end_one()
        self.successResultOf(second)
        self.successResultOf(end)
        self.assertEqual(self.disabled(), [["one"], ["one", "two"]])
        self.assertEqual(self.disk.begun, [], "nobody writes what is written")

    def test_who_leaves_stops_nobodys_write(self) -> None:
        """A command that is broken off leaves no second write beside the first."""
        self.disk.slow = True
        self.standings.set_enabled(ONE, False)
        left = self.keeper.save()
        left.cancel()
        self.failureResultOf(left, CancelledError)
        self.standings.set_enabled(TWO, False)
        self.keeper.save()
        self.assertEqual(len(self.disk.begun), 1)
        self.disk.end_one()
        self.disk.end_one()
        self.assertEqual(self.disabled(), [["one"], ["one", "two"]])

    def test_directory_of_somebody_elses_is_not_written_to(self) -> None:
        """K8: without the lock nothing is kept, neither now nor in the end."""
        self.disk.kept = _standings().dump(1000.0, 50_000.0)
        standings = Standings()
        keeper = self.keeper_of(standings)
        keeper.load(owned=False)
        self.assertEqual(standings.availability(TWO, MODEL, 0.0).state, State.QUARANTINED)
        keeper.start()
        standings.set_enabled(ONE, False)
        self.clock.advance(EVERY_SECONDS)
        self.successResultOf(keeper.stop())
        self.assertEqual((self.disk.saved, keeper.failing), ([], True))

    def test_nothing_is_kept_of_credentials_that_went(self) -> None:
        """Who is there no more leaves neither a switch nor a last use; an upstream left out for a while keeps all."""
        elsewhere = attrs.evolve(ONE, upstream="another")
        for one in (ONE, TWO, elsewhere):
            self.standings.set_enabled(one, False)
            self.standings.release(self.standings.lease(one, MODEL, 0.0))
        kept = self.disk.kept = self.standings.dump(0.0, 50_000.0)
        self.assertEqual((len(kept["disabled"]), len(kept["used"])), (3, 3))
        standings = Standings()
        self.keeper_of(standings, {"studio": {"two", "three"}}).load()
        after = standings.dump(0.0, 50_000.0)
        for rows in (after["disabled"], after["used"]):
            self.assertEqual({(row["upstream"], row["name"]) for row in rows}, {("studio", "two"), ("another", "one")})
