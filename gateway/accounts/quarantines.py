"""Credentials that are out until somebody acts: what is held against a secret, what is missing.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import msgspec

from gateway.accounts.usage import finite
from gateway.calls import Credential

Key = tuple[str, str]


class Quarantine(msgspec.Struct, frozen=True):
    """Why a credential is out until somebody acts."""

    reason: str
    link: str = ""
    since_wall: float = 0.0
    mark: str = ""
    """The credential's mark when it was condemned."""


@attrs.define(eq=False, repr=False)
class Quarantines:
    """Those that are out; what is held against one secret is not held against the next of the same name."""

    condemned: dict[Key, Quarantine] = attrs.field(factory=dict)
    """What upstream holds against them."""
    lacking: dict[Key, Quarantine] = attrs.field(factory=dict)
    """What their configuration lacks."""
    _rotated: dict[Key, tuple[str, str]] = attrs.field(factory=dict)
    """The mark that a credential goes by, and the one that it will have at the next start."""

    def find(self, credential: Credential) -> Quarantine | None:
        """Return why a credential is out, None where it is in."""
        return self.lacking.get(_key(credential)) or self._held(credential)

    def condemn(self, credential: Credential, reason: str, link: str, wall: float) -> bool:
        """Take a credential out; say whether it was in until now, as far as upstream is concerned."""
        if self._held(credential) is not None:
            return False
        self.condemned[_key(credential)] = Quarantine(reason, link, wall, mark=credential.mark)
        return True

    def acquit(self, credential: Credential) -> None:
        """Forget what upstream holds against a credential; what its configuration lacks, it lacks still."""
        self.condemned.pop(_key(credential), None)

    def unusable(self, credential: Credential, reason: str, link: str) -> None:
        """Take a credential out for what is missing in its configuration, until it is there."""
        self.lacking[_key(credential)] = Quarantine(reason, link, mark=credential.mark)

    def usable(self, credential: Credential) -> None:
        """Take back ``unusable``."""
        self.lacking.pop(_key(credential), None)

    def rotated(self, credential: Credential, mark: str) -> bool:
        """Take note that a credential has a new secret, whose mark it will go by from the next start on.

        Says whether that changes what is kept.
        """
        self._rotated[_key(credential)] = (credential.mark, mark)
        return _key(credential) in self.condemned

    def dump(self) -> list[dict[str, Any]]:
        """Return what is kept over a restart."""
        return [
            {
                "upstream": upstream,
                "name": name,
                "mark": self._lasting_mark((upstream, name), one.mark),
                "reason": one.reason,
                "link": one.link,
                "since": one.since_wall,
            }
            for (upstream, name), one in self.condemned.items()
        ]

    def restore(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take up what ``dump`` returned; raises KeyError, TypeError or ValueError where it is not such."""
        for row in rows:
            found = Quarantine(str(row["reason"]), str(row["link"]), finite(row["since"]), mark=str(row["mark"]))
            self.condemned[str(row["upstream"]), str(row["name"])] = found

    def _held(self, credential: Credential) -> Quarantine | None:
        found = self.condemned.get(_key(credential))
        return found if found is not None and found.mark == credential.mark else None

    def _lasting_mark(self, key: Key, mark: str) -> str:
        now, later = self._rotated.get(key, (mark, mark))
        return later if mark == now else mark


def _key(credential: Credential) -> Key:
    return (credential.upstream, credential.name)
