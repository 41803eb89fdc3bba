"""The book of client keys: made, changed, rotated and revoked.  Each change is on disk before it is told of."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from gateway.calls import GatewayError
from gateway.keys import accounting, grants
from gateway.keys.bookfile import BookFile
from gateway.keys.grants import NOTHING, Grant
from gateway.keys.holders import Holders, Key
from gateway.keys.meters import Meters
from gateway.keys.spelling import SECRET_BYTES, digest_of, spelled

KEYS_MOST = 10_000
"""Beyond it the longest revoked are forgotten."""
GRACE_MOST = 366 * 86400.0

Row = dict[str, Any]
T = TypeVar("T")
InThread = Callable[[Callable[[], None]], Deferred[None]]
"""Runs a function where it may wait for a disk."""

_log = Logger(namespace="gateway.keys")


@attrs.define(eq=False, repr=False)
class Book:
    """All keys that were made, for the operator; ``holders`` and ``meters`` follow it at once.

    ``random_bytes`` returns as many as it is asked for that nobody can guess.  ``configured`` are the ids of the keys
    in the configuration, which are shown and not changed here.
    """

    file: BookFile
    holders: Holders
    meters: Meters
    monotonic: Callable[[], float]
    wall_seconds: Callable[[], float]
    random_bytes: Callable[[int], bytes]
    in_thread: InThread
    configured: tuple[str, ...] = ()
    _keys: dict[str, Key] = attrs.field(factory=dict)
    _owned: bool = True
    _lock: DeferredLock = attrs.field(factory=DeferredLock)

    def load(self, owned: bool = True) -> None:
        """Take up what was kept; nothing is written where the directory is not ``owned``.

        Raises BookError, OSError.
        """
        self._owned = owned
        self._take({key.id: key for key in self.file.load()})

    def rows(self) -> list[Row]:
        """Return a row for each key, in the order of their making; see ``accounting.row``."""
        now, wall = self.monotonic(), self.wall_seconds()
        made = [accounting.row(key, self.meters.meter(key.id), now, wall) for key in self._keys.values()]
        return made + [accounting.configured(one, self.meters.meter(one), now, wall) for one in self.configured]

    def row(self, name: str) -> Row:
        """Return the row of the key of that name or id; raises GatewayError."""
        return self._row(self._found(name))

    def own(self, key_id: str) -> Row:
        """Return what the holder of a key is told of it."""
        return accounting.own(
            key_id, self._keys.get(key_id), self.meters.meter(key_id), self.monotonic(), self.wall_seconds()
        )

    def create(self, members: Mapping[str, Any]) -> Deferred[tuple[Row, str]]:
        """Make a key: fires with its row and, this once, the key itself; fails with GatewayError."""
        return self._alone(partial(self._create, members))

    def change(self, name: str, members: Mapping[str, Any]) -> Deferred[Row]:
        """Change the name and what is granted, as far as ``members`` say; fails with GatewayError."""
        return self._alone(partial(self._change, name, members))

    def rotate(self, name: str, grace_seconds: float = 0.0) -> Deferred[tuple[Row, str]]:
        """Give a key another secret: fires with its row and the new key; fails with GatewayError.

        The old secret is good for ``grace_seconds`` more.  Id, limits and what was used stay.
        """
        return self._alone(partial(self._rotate, name, grace_seconds))

    def revoke(self, name: str) -> Deferred[tuple[Row, bool]]:
        """End a key, at once and for good: fires with its row, and whether it was not revoked before.

        It is refused from this moment on even where that cannot be written.  Fails with GatewayError.
        """
        return self._alone(partial(self._revoke, name))

    def _alone(self, change: Callable[[], Coroutine[Deferred[Any], Any, T]]) -> Deferred[T]:
        """Make one change at a time, each to what the one before has left.

        It is made to its end, also where whoever asked for it does not wait: what is on disk is in force.
        """
        waiter: Deferred[T] = Deferred()

        def told(result: Any) -> None:
            if not waiter.called:
                waiter.callback(result)

        self._lock.run(lambda: Deferred.fromCoroutine(change())).addBoth(told)
        return waiter

    async def _create(self, members: Mapping[str, Any]) -> tuple[Row, str]:
        name, grant = self._asked(members, NOTHING)
        if name is None:
            raise _invalid("a key has a `name`")
        self._free(name)
        text, digest = self._secret()
        while (key_id := f"key-{digest.hex()[:12]}") in self._keys:
            text, digest = self._secret()
        key = Key(key_id, name, digest, math.floor(self.wall_seconds()), grant)
        await self._keep(key)
        return self._row(key), text

    async def _change(self, name: str, members: Mapping[str, Any]) -> Row:
        key = self._live(name)
        new_name, grant = self._asked(members, key.grant)
        if new_name is not None and new_name != key.name:
            self._free(new_name)
        key = attrs.evolve(key, name=new_name or key.name, grant=grant)
        await self._keep(key)
        return self._row(key)

    async def _rotate(self, name: str, grace_seconds: float) -> tuple[Row, str]:
        key = self._live(name)
        if not 0 <= grace_seconds <= GRACE_MOST:
            raise _invalid(f"`grace_seconds` is a number from 0 to {GRACE_MOST:.0f}")
        wall = self.wall_seconds()
        text, digest = self._secret()
        former = tuple(one for one in key.former if one[1] > wall) if grace_seconds else ()
        if grace_seconds:
            former += ((key.digest, math.ceil(wall + grace_seconds)),)
        key = attrs.evolve(key, digest=digest, former=former, rotated=math.floor(wall))
        await self._keep(key)
        return self._row(key), text

    async def _revoke(self, name: str) -> tuple[Row, bool]:
        key = self._found(name)
        if key.revoked is not None:
            return self._row(key), False
        key = attrs.evolve(key, revoked=math.floor(self.wall_seconds()), former=())
        self._take({**self._keys, key.id: key})
        await self._keep(key)
        return self._row(key), True

    async def _keep(self, key: Key) -> None:
        """Write a key among the others, and put it into force when it is on disk; raises GatewayError."""
        keys = {**self._keys, key.id: key}
        _forget(keys)
        try:
            if not self._owned:
                raise OSError("the state directory is not this gateway's")
            await self.in_thread(partial(self.file.save, list(keys.values())))
        except OSError as problem:
            _log.error("the client keys cannot be written: {why}", why=str(problem))
            raise GatewayError(
                500,
                "INTERNAL",
                "KEYS_NOT_KEPT",
                "The change could not be kept in the state directory; see to the disk, and to who may write there.",
            ) from None
        self._take(keys)

    def _take(self, keys: dict[str, Key]) -> None:
        now = self.monotonic()
        for key_id in set(self._keys) - set(keys):
            self.meters.forget(key_id)
        for key in keys.values():
            before = self._keys.get(key.id)
            if before is None or before.grant != key.grant:
                self.meters.grant(key.id, key.grant, now)
        self._keys = keys
        self.holders.take(keys.values())

    def _secret(self) -> tuple[str, bytes]:
        text = spelled(self.random_bytes(SECRET_BYTES))
        return text, digest_of(text.encode("ascii"))

    def _asked(self, members: Mapping[str, Any], before: Grant) -> tuple[str | None, Grant]:
        rest = dict(members)
        try:
            name = grants.name_of(rest.pop("name")) if "name" in rest else None
            grant = grants.granted(rest, before)
        except ValueError as problem:
            raise _invalid(str(problem)) from None
        if "expires" in rest and grant.expires is not None and grant.expires <= self.wall_seconds():
            raise _invalid("`expires` lies in the past; `antigravity keys revoke` ends a key at once")
        return name, grant

    def _free(self, name: str) -> None:
        if name.startswith("key-") or any(key.name == name and key.revoked is None for key in self._keys.values()):
            raise GatewayError(
                409,
                "ALREADY_EXISTS",
                "KEY_NAME_TAKEN",
                f"There is a key named {name!r}, or it could be an id; choose another name.",
            )
        if sum(key.revoked is None for key in self._keys.values()) >= KEYS_MOST:
            raise GatewayError(
                429, "RESOURCE_EXHAUSTED", "KEYS_FULL", f"There are {KEYS_MOST} keys; revoke what nobody uses."
            )

    def _found(self, name: str) -> Key:
        named = [key for key in self._keys.values() if key.name == name]
        live = [key for key in named if key.revoked is None]
        found = self._keys.get(name) or next(iter(live or named[-1:]), None)
        if found is not None:
            return found
        if name in self.configured:
            raise _precondition("KEY_CONFIGURED", "This key stands in the configuration (proxy); change it there.")
        raise GatewayError(
            404, "NOT_FOUND", "KEY_UNKNOWN", f"There is no key {name!r}; `antigravity keys list` lists them."
        )

    def _live(self, name: str) -> Key:
        key = self._found(name)
        if key.revoked is not None:
            raise _precondition("KEY_REVOKED", f"The key {name!r} is revoked, for good; create another one.")
        return key

    def _row(self, key: Key) -> Row:
        return accounting.row(key, self.meters.meter(key.id), self.monotonic(), self.wall_seconds())


def _forget(keys: dict[str, Key]) -> None:
    gone = sorted((key.revoked, key.id) for key in keys.values() if key.revoked is not None)
    for _, key_id in gone[: max(0, len(keys) - KEYS_MOST)]:
        del keys[key_id]


def _invalid(sentence: str) -> GatewayError:
    return GatewayError(400, "INVALID_ARGUMENT", "KEY_FIELD_INVALID", f"{sentence[0].upper()}{sentence[1:]}.")


def _precondition(reason: str, sentence: str) -> GatewayError:
    return GatewayError(400, "FAILED_PRECONDITION", reason, sentence)
