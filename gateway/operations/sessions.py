"""Who is signed in to the admin API, and the codes that sign in once.  Pure."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable

import attrs

SESSIONS_MOST = 100
CODES_MOST = 16
CODE_SECONDS = 300.0


@attrs.define(eq=False, repr=False)
class Session:
    """Somebody who has signed in; what a browser shows for it is kept as a digest alone."""

    name: str
    """The beginning of its digest, for the log."""
    how: str
    """What was shown: ``password``, ``token`` or ``code``."""
    began: float
    used: float
    over: bool = False


@attrs.define(eq=False, repr=False)
class Sessions:
    """Those signed in now; each ends when nothing came of it for a while, and in any case some time after it began.

    Beyond the limit the one that was used least lately has to go.
    """

    idle_seconds: float
    most_seconds: float
    limit: int = SESSIONS_MOST
    _held: OrderedDict[bytes, Session] = attrs.field(factory=OrderedDict)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._held)

    def begin(self, token: str, how: str, now: float) -> Session:
        """Begin one that is shown by ``token``: 256 bits of chance."""
        self._tidy(now)
        digest = _digest(token)
        session = self._held[digest] = Session(f"session-{digest.hex()[:12]}", how, now, now)
        if len(self._held) > self.limit:
            self._held.popitem(last=False)[1].over = True
        return session

    def find(self, tokens: Iterable[str], now: float) -> Session | None:
        """Return the session that one of ``tokens`` shows, as used now; None where none does."""
        for token in tokens:
            digest = _digest(token)
            session = self._held.get(digest)
            if session is None:
                continue
            if self.left(session, now) > 0.0:
                session.used = now
                self._held.move_to_end(digest)
                return session
            self._drop(digest)
        return None

    def left(self, session: Session, now: float) -> float:
        """Return for how many seconds more it lasts if nothing comes of it; none once it is over."""
        if session.over:
            return 0.0
        return max(min(session.used + self.idle_seconds, session.began + self.most_seconds) - now, 0.0)

    def end(self, session: Session) -> None:
        """End one."""
        for digest in [digest for digest, one in self._held.items() if one is session]:
            self._drop(digest)

    def end_all(self) -> None:
        """End them all, as where the password is another."""
        for digest in list(self._held):
            self._drop(digest)

    def _drop(self, digest: bytes) -> None:
        self._held.pop(digest).over = True

    def _tidy(self, now: float) -> None:
        for digest in [digest for digest, one in self._held.items() if self.left(one, now) <= 0.0]:
            self._drop(digest)


@attrs.define(eq=False, repr=False)
class Codes:
    """Codes that sign in once and soon: whoever reaches ``admin.sock`` is the operator, and has them made there."""

    _held: OrderedDict[bytes, float] = attrs.field(factory=OrderedDict)

    def make(self, code: str, now: float) -> None:
        """Let ``code``, 256 bits of chance, be good for a while; beyond the limit the oldest is so no more."""
        self._held[_digest(code)] = now + CODE_SECONDS
        if len(self._held) > CODES_MOST:
            self._held.popitem(last=False)

    def take(self, code: str, now: float) -> bool:
        """Say whether a code is good, which it then is no more."""
        ends = self._held.pop(_digest(code), None)
        return ends is not None and now < ends


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
