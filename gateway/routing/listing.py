"""Fetch the models that the upstreams list: in the background, kept when it fails, never in a request's way."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from gateway.accounts.oauth import TokenRevoked, TokenUnavailable
from gateway.calls import Secret
from gateway.routing.attempts import Router
from gateway.routing.pool import Member
from gateway.splice import UNREADABLE
from gateway.upstreams.exchange import WireError
from gateway.upstreams.models import Model

EVERY_SECONDS = 900.0
RETRY_SECONDS = 60.0
ANSWER_SECONDS = 30.0
ANSWER_BYTES = 8 * 1024 * 1024
PAGES_MOST = 20
JITTER = 0.2

_log = Logger()


class _NotListed(Exception):
    """The list could not be had; the message says why."""


class Lister:
    """Keeps a router's catalogue up to date with what one upstream lists."""

    def __init__(self, name: str, router: Router, clock: IReactorTime, chance: Callable[[], float]) -> None:
        self._name = name
        self._router = router
        self._clock = clock
        self._chance = chance
        self._timer: IDelayedCall | None = None
        self._running: Deferred[None] | None = None

    def start(self) -> None:
        """Fetch now, and again and again."""
        self._timer = None
        self._running = Deferred.fromCoroutine(self._round())

    def stop(self) -> None:
        """Stop; a fetch under way is cancelled."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._running is not None:
            self._running.cancel()

    async def _round(self) -> None:
        delay = EVERY_SECONDS
        try:
            models = await self._fetch()
            self._router.catalog = self._router.catalog.with_listing(self._name, models)
            _log.debug("{upstream} lists {count} models", upstream=self._name, count=len(models))
        except CancelledError:
            return
        except (_NotListed, WireError, TokenRevoked, TokenUnavailable, *UNREADABLE) as error:
            delay = RETRY_SECONDS
            _log.debug("the models of {upstream} could not be listed: {why}", upstream=self._name, why=str(error))
        except Exception:
            delay = RETRY_SECONDS
            _log.failure("listing the models of {upstream} failed", upstream=self._name)
        self._timer = self._clock.callLater(delay * (1 + JITTER * self._chance()), self.start)

    async def _fetch(self) -> Sequence[Model]:
        standings = self._router.standings
        usable = [
            member
            for member in self._router.members
            if member.credential.upstream == self._name and standings.quarantined(member.credential) is None
        ]
        if not usable:
            raise _NotListed("no usable credential")
        member = min(usable, key=lambda one: standings.load(one.credential))
        token = await member.tokens.get()
        models: list[Model] = []
        page = ""
        for _ in range(PAGES_MOST):
            body = await self._page(member, token, page)
            if body is None:
                break
            some, page = member.upstream.listed(body)
            models.extend(some)
            if not page:
                break
        return [model for model in models if member.serves(model.id)]

    async def _page(self, member: Member, token: Secret, page: str) -> bytes | None:
        request = member.upstream.listing(member.bases[0], member.credential, token, page)
        if request is None:
            return None
        exchange = await self._router.wire.open(request, ANSWER_SECONDS, member.credential.upstream)
        body = await exchange.read(ANSWER_BYTES, ANSWER_SECONDS)
        if exchange.status != 200:
            raise _NotListed(f"status {exchange.status}")
        return body
