"""Where a credential's token comes from: kept in memory, refreshed by one request at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar, Protocol

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from gateway.accounts.oauth import Granted, TokenRevoked, TokenUnavailable, read_answer
from gateway.calls import HttpRequest, Secret

AHEAD = 0.8
"""Where in a token's life it is refreshed while it still serves."""
MARGIN_SECONDS = 60.0
"""A token is not used in the last minute of its life: clocks differ and requests take time."""
BACKOFF_FIRST_SECONDS = 1.0
BACKOFF_MOST_SECONDS = 60.0

_log = Logger()

Send = Callable[[HttpRequest], Awaitable[tuple[int, bytes]]]
"""Sends a request and returns status and body; raises TokenUnavailable where no answer comes."""


class TokenSource(Protocol):
    """Gives out what authenticates one credential."""

    @property
    def renewable(self) -> bool:
        """Whether a token that upstream refuses can be exchanged for another."""

    async def get(self) -> Secret:
        """Return a token that is good as far as is known; raises TokenUnavailable or TokenRevoked."""

    async def renew(self, stale: Secret) -> Secret:
        """Return another token than ``stale``, which upstream refused; raises as ``get`` does."""


@attrs.frozen
class StaticToken:
    """An API key: it is what it is."""

    _key: Secret
    renewable: ClassVar[bool] = False

    async def get(self) -> Secret:
        """Return the key."""
        return self._key

    async def renew(self, stale: Secret) -> Secret:
        """There is no other key: raises TokenUnavailable."""
        raise TokenUnavailable("an API key cannot be refreshed")


@attrs.define(eq=False)
class FetchedToken:
    """An access token that somebody hands out.

    However many requests wait for one, it is fetched once; each of them waits on a Deferred of its own, so that
    one that leaves takes nothing from the others.
    """

    _fetch: Callable[[], Awaitable[Granted]]
    """Raises TokenRevoked or TokenUnavailable; runs once at a time."""
    _seconds: Callable[[], float]
    """A monotonic clock."""
    renewable: ClassVar[bool] = True
    _token: Secret | None = None
    _ahead_at: float = 0.0
    _expires_at: float = 0.0
    _waiters: list[Deferred[Secret]] = attrs.field(factory=list)
    _refresh: Deferred[None] | None = None
    _failures: int = 0
    _quiet_until: float = 0.0
    _failure: Exception | None = None

    async def get(self) -> Secret:
        """Return the token; one near its end still serves while another is fetched."""
        now = self._seconds()
        if self._token is not None and now < self._expires_at:
            if now >= self._ahead_at and now >= self._quiet_until:
                self._start()
            return self._token
        return await self._wait(now)

    async def renew(self, stale: Secret) -> Secret:
        """Return a token other than ``stale``; a refresh that already happened is not made again."""
        if self._token is not None and self._token != stale:
            return await self.get()
        self._token = None
        return await self._wait(self._seconds())

    async def _wait(self, now: float) -> Secret:
        if self._refresh is None and now < self._quiet_until and self._failure is not None:
            # A fresh exception each time: a shared one would gather every waiter's traceback.
            raise type(self._failure)(*self._failure.args)
        waiter: Deferred[Secret] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        self._start()
        return await waiter

    def _start(self) -> None:
        if self._refresh is None:
            # Set before it runs, because it may end before it returns.
            self._refresh = Deferred()
            Deferred.fromCoroutine(self._run())

    async def _run(self) -> None:
        try:
            granted = await self._fetch()
        except (TokenRevoked, TokenUnavailable) as error:
            self._failed(error)
        except CancelledError:
            self._failed(TokenUnavailable("the refresh was cancelled"))
        except Exception as error:
            _log.failure("token refresh failed unexpectedly")
            self._failed(TokenUnavailable(f"the refresh failed: {type(error).__name__}"))
        else:
            self._succeeded(granted)

    def _succeeded(self, granted: Granted) -> None:
        now = self._seconds()
        self._token = granted.access_token
        self._expires_at = now + max(granted.life_seconds - MARGIN_SECONDS, granted.life_seconds / 2)
        self._ahead_at = min(now + granted.life_seconds * AHEAD, self._expires_at)
        self._failures, self._quiet_until, self._failure = 0, 0.0, None
        self._refresh = None
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(granted.access_token)

    def _failed(self, error: TokenRevoked | TokenUnavailable) -> None:
        self._failures += 1
        backoff = min(BACKOFF_FIRST_SECONDS * 2 ** min(self._failures - 1, 10), BACKOFF_MOST_SECONDS)
        self._quiet_until = self._seconds() + backoff
        self._failure = error
        self._refresh = None
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.errback(type(error)(*error.args))


@attrs.define(eq=False)
class RefreshedToken:
    """An account's access token, from a token endpoint; waiting for it is as with FetchedToken."""

    _request: Callable[[Secret], HttpRequest]
    """Makes the refresh request out of the refresh token."""
    _refresh_token: Secret
    _send: Send
    _seconds: Callable[[], float]
    """A monotonic clock."""
    _save: Callable[[Secret], None]
    """Keeps a rotated refresh token."""
    renewable: ClassVar[bool] = True
    _fetched: FetchedToken = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._fetched = FetchedToken(self._exchange, self._seconds)

    async def get(self) -> Secret:
        """Return the token; one near its end still serves while another is fetched."""
        return await self._fetched.get()

    async def renew(self, stale: Secret) -> Secret:
        """Return a token other than ``stale``; a refresh that already happened is not made again."""
        return await self._fetched.renew(stale)

    async def _exchange(self) -> Granted:
        granted = read_answer(*await self._send(self._request(self._refresh_token)))
        if granted.refresh_token is not None and granted.refresh_token != self._refresh_token:
            self._refresh_token = granted.refresh_token
            self._save(granted.refresh_token)
        return granted
