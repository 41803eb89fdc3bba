"""Where a credential's token comes from: kept in memory, refreshed ahead of its end, by one request at a time."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import ClassVar, Protocol

import attrs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from gateway.accounts.oauth import Granted, TokenRevoked, TokenUnavailable, read_answer
from gateway.calls import HttpRequest, Secret
from gateway.tally import Counts

AHEAD = 0.8
"""Where in a token's life it is refreshed while it still serves."""
MARGIN_SECONDS = 60.0
"""A token is not used in the last minute of its life: clocks differ and requests take time."""
JITTER = 0.1
"""A refresh ahead comes earlier by up to this share, so that tokens of one moment are not refreshed at one."""
IDLE_SECONDS = 3600.0
"""A token that nobody asked for as long as this is let go: the next one to ask has it refreshed."""
BACKOFF_FIRST_SECONDS = 1.0
BACKOFF_MOST_SECONDS = 60.0

_log = Logger()

Send = Callable[[HttpRequest], Awaitable[tuple[int, bytes]]]
"""Sends a request and returns status and body; raises TokenUnavailable where no answer comes."""


@attrs.frozen
class Ahead:
    """What refreshes tokens in the background: a reactor's ``callLater``, and chance from 0 to below 1."""

    later: Callable[[float, Callable[[], None]], IDelayedCall]
    chance: Callable[[], float]
    fetched: Counts = attrs.field(factory=Counts)
    """How many of its fetches ended how: ``ok``, ``unavailable``, ``revoked``."""


class TokenSource(Protocol):
    """Gives out what authenticates one credential."""

    @property
    def ready(self) -> bool:
        """Whether ``get`` has a token at hand, and nobody would wait."""

    def at_hand(self) -> Secret | None:
        """Return what ``get`` would without a wait, as ``get`` does; None where it would wait or raise."""

    def prefetch(self) -> None:
        """See to it that a token is at hand soon, as far as that is up to the gateway."""

    def stop(self) -> Deferred[None]:
        """Do nothing in the background any more; fires when a refresh under way has ended."""

    @property
    def renewable(self) -> bool:
        """Whether a token that upstream refuses can be exchanged for another."""

    @property
    def quota_project(self) -> str:
        """The project that requests are counted to where that is not theirs; known as soon as there is a token."""

    async def get(self) -> Secret:
        """Return a token that is good as far as is known; raises TokenUnavailable or TokenRevoked."""

    async def renew(self, stale: Secret) -> Secret:
        """Return another token than ``stale``, which upstream refused; raises as ``get`` does."""


@attrs.frozen
class StaticToken:
    """An API key: it is what it is."""

    _key: Secret
    renewable: ClassVar[bool] = False
    ready: ClassVar[bool] = True
    quota_project: ClassVar[str] = ""

    def prefetch(self) -> None:
        """It is at hand."""

    def stop(self) -> Deferred[None]:
        """Nothing happens in the background."""
        return succeed(None)

    def at_hand(self) -> Secret:
        """Return the key."""
        return self._key

    async def get(self) -> Secret:
        """Return the key."""
        return self._key

    async def renew(self, stale: Secret) -> Secret:
        """There is no other key: raises TokenUnavailable."""
        raise TokenUnavailable("an API key cannot be refreshed")


@attrs.define(eq=False, repr=False)
class FetchedToken:
    """An access token that somebody hands out.

    However many requests wait for one, it is fetched once; each of them waits on a Deferred of its own, so that
    one that leaves takes nothing from the others.  With ``ahead`` it is fetched again by a timer at 80 % of
    its life, and after a failure as often as the back-off allows, for as long as it is in use; without, by the
    first who asks after these 80 %.
    """

    _fetch: Callable[[], Awaitable[Granted]]
    """Raises TokenRevoked or TokenUnavailable; runs once at a time."""
    _seconds: Callable[[], float]
    """A monotonic clock."""
    _ahead: Ahead | None = None
    _whose: str = attrs.field(default="", kw_only=True)
    """The label of the credential, for the log."""
    _told: str = ""
    """What the log was last told of why there is no token."""
    renewable: ClassVar[bool] = True
    quota_project: str = ""
    _token: Secret | None = None
    _used_at: float = -math.inf
    _timer: IDelayedCall | None = None
    _stopped: bool = False
    _ended: list[Deferred[None]] = attrs.field(factory=list)
    """Who waits for the end of the refresh under way."""
    _ahead_at: float = 0.0
    _expires_at: float = 0.0
    _waiters: list[Deferred[Secret]] = attrs.field(factory=list)
    _refresh: Deferred[None] | None = None
    _failures: int = 0
    _quiet_until: float = 0.0
    _failure: Exception | None = None

    @property
    def ready(self) -> bool:
        """Whether ``get`` has a token at hand, or the news that there is none any more: whoever asks condemns it."""
        if isinstance(self._failure, TokenRevoked):
            return True
        return self._token is not None and self._seconds() < self._expires_at

    def prefetch(self) -> None:
        """Fetch a token unless there is one, or a failure was a moment ago."""
        now = self._used_at = self._seconds()
        if not self.ready and now >= self._quiet_until:
            self._start()

    def stop(self) -> Deferred[None]:
        """Fetch no token by itself any more; fires when a refresh under way has ended."""
        self._stopped = True
        self._at_rest()
        if self._refresh is None:
            return succeed(None)
        ended: Deferred[None] = Deferred(self._ended.remove)
        self._ended.append(ended)
        return ended

    def at_hand(self) -> Secret | None:
        """Return the token, if it is good; one near its end still serves while another is fetched."""
        now = self._used_at = self._seconds()
        if self._token is None or now >= self._expires_at:
            return None
        if now >= self._ahead_at and now >= self._quiet_until:
            self._start()
        return self._token

    async def get(self) -> Secret:
        """Return the token; one near its end still serves while another is fetched."""
        return self.at_hand() or await self._wait(self._used_at)

    async def renew(self, stale: Secret) -> Secret:
        """Return a token other than ``stale``; a refresh that already happened is not made again."""
        if self._token is not None and self._token != stale:
            return await self.get()
        self._token = None
        self._used_at = self._seconds()
        return await self._wait(self._used_at)

    async def _wait(self, now: float) -> Secret:
        if self._refresh is None and now < self._quiet_until and self._failure is not None:
            # A fresh exception each time: a shared one would gather every waiter's traceback.
            raise type(self._failure)(*self._failure.args)
        waiter: Deferred[Secret] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        self._start()
        return await waiter

    def _start(self) -> None:
        self._at_rest()
        if self._refresh is None:
            # Set before it runs, because it may end before it returns.
            self._refresh = Deferred()
            Deferred.fromCoroutine(self._run())

    def _tick(self) -> None:
        self._timer = None
        if self._seconds() - self._used_at < IDLE_SECONDS:
            self._start()

    def _tick_at(self, at: float) -> None:
        self._at_rest()
        if self._ahead is not None and not self._stopped:
            self._timer = self._ahead.later(max(at - self._seconds(), 0.0), self._tick)

    def _at_rest(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    async def _run(self) -> None:
        try:
            granted = await self._fetch()
        except TokenRevoked as error:
            self._failed(error)
        except TokenUnavailable as error:
            self._tell(str(error))
            self._failed(error)
        except CancelledError:
            self._failed(TokenUnavailable("the refresh was cancelled"))
        except Exception as error:
            _log.failure("token refresh failed unexpectedly")
            self._failed(TokenUnavailable(f"the refresh failed: {type(error).__name__}"))
        else:
            self._succeeded(granted)

    def _tell(self, why: str) -> None:
        """Log why there is no token, once: a request's line has no more than TOKEN_UNAVAILABLE."""
        if why == self._told:
            return
        self._told = why
        if why:
            _log.warn("no access token for {credential}, tried again: {why}", credential=self._whose, why=why)
        else:
            _log.info("access tokens for {credential} come again", credential=self._whose)

    def _count(self, outcome: str) -> None:
        if self._ahead is not None:
            self._ahead.fetched[(outcome,)] += 1

    def _succeeded(self, granted: Granted) -> None:
        self._tell("")
        self._count("ok")
        now = self._seconds()
        self._token, self.quota_project = granted.access_token, granted.quota_project
        self._expires_at = now + max(granted.life_seconds - MARGIN_SECONDS, granted.life_seconds / 2)
        early = 1 - JITTER * self._ahead.chance() if self._ahead is not None else 1.0
        self._ahead_at = now + min(granted.life_seconds * AHEAD, self._expires_at - now) * early
        self._failures, self._quiet_until, self._failure = 0, 0.0, None
        self._over()
        self._tick_at(self._ahead_at)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.callback(granted.access_token)

    def _failed(self, error: TokenRevoked | TokenUnavailable) -> None:
        self._failures += 1
        self._count("revoked" if isinstance(error, TokenRevoked) else "unavailable")
        backoff = min(BACKOFF_FIRST_SECONDS * 2 ** min(self._failures - 1, 10), BACKOFF_MOST_SECONDS)
        self._quiet_until = self._seconds() + backoff
        self._failure = error
        self._over()
        if not isinstance(error, TokenRevoked):
            early = JITTER * self._ahead.chance() if self._ahead is not None else 0.0
            self._tick_at(self._quiet_until + backoff * early)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.errback(type(error)(*error.args))

    def _over(self) -> None:
        self._refresh = None
        ended, self._ended = self._ended, []
        for one in ended:
            one.callback(None)


@attrs.define(eq=False, repr=False)
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
    _ahead: Ahead | None = None
    _whose: str = attrs.field(default="", kw_only=True)
    """The label of the credential, for the log."""
    renewable: ClassVar[bool] = True
    quota_project: ClassVar[str] = ""
    _fetched: FetchedToken = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._fetched = FetchedToken(self._exchange, self._seconds, self._ahead, whose=self._whose)

    @property
    def refresh_token(self) -> Secret:
        """The refresh token as it is now; the endpoint may have exchanged the one that it began with."""
        return self._refresh_token

    @property
    def ready(self) -> bool:
        """Whether ``get`` has a token at hand."""
        return self._fetched.ready

    def prefetch(self) -> None:
        """Fetch a token unless there is one, or a failure was a moment ago."""
        self._fetched.prefetch()

    def stop(self) -> Deferred[None]:
        """Refresh no token by itself any more; fires when a refresh under way has ended."""
        return self._fetched.stop()

    def at_hand(self) -> Secret | None:
        """Return the token, if it is good; one near its end still serves while another is fetched."""
        return self._fetched.at_hand()

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
            try:
                self._save(granted.refresh_token)
            except Exception:
                # The access token is good all the same, and the next refresh has the new refresh token.
                _log.failure("a new refresh token could not be kept")
        return granted
