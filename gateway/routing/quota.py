"""Ask in the background what is left of the accounts' quotas."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from gateway.accounts.oauth import TokenRevoked, TokenUnavailable
from gateway.calls import Credential, HttpRequest
from gateway.routing.attempts import Router
from gateway.routing.pool import Member
from gateway.upstreams.exchange import WireError
from gateway.upstreams.kinds import Metered
from gateway.upstreams.models import Figure

FIRST_SECONDS = 2.0
EVERY_SECONDS = 300.0
JITTER = 0.2
RECENT_SECONDS = 900.0
"""An account that served nobody for as long is not asked about again before it does."""
ANSWER_SECONDS = 30.0
ANSWER_BYTES = 1024 * 1024

_log = Logger()


@attrs.define(eq=False, repr=False)
class QuotaWatch:
    """Asks about one account after the other: each once, and those in use every few minutes."""

    _router: Router
    _chance: Callable[[], float]
    _asked: set[Credential] = attrs.field(factory=set)
    _timer: IDelayedCall | None = None
    _running: Deferred[None] | None = None

    def start(self) -> None:
        """Begin, a moment from now: those who wait for an answer come first."""
        self._later(FIRST_SECONDS)

    def stop(self) -> None:
        """Stop; a fetch under way is cancelled."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._running is not None:
            self._running.cancel()

    def _later(self, seconds: float) -> None:
        self._timer = self._router.clock.callLater(seconds * (1 + JITTER * self._chance()), self._begin)

    def _begin(self) -> None:
        self._running = Deferred.fromCoroutine(self._round())

    async def _round(self) -> None:
        members = self._router.members
        present = {member.credential for member in members}
        self._router.chooser.quotas.keep(present)
        self._asked &= present
        try:
            for member in members:
                if self._due(member):
                    await self._ask(member, member.upstream)
        except CancelledError:
            return
        self._later(EVERY_SECONDS)

    def _due(self, member: Member) -> bool:
        credential, now = member.credential, self._router.clock.seconds()
        if not isinstance(member.upstream, Metered):
            return False
        if not self._router.standings.availability(credential, "", now).usable:
            return False
        used = self._router.standings.usage.last_used(credential)
        return credential not in self._asked or (used is not None and now - used < RECENT_SECONDS)

    async def _ask(self, member: Member, upstream: object) -> None:
        assert isinstance(upstream, Metered)
        credential = member.credential
        self._asked.add(credential)
        found: list[Figure] = []
        try:
            token = await member.tokens.get()
            for request in upstream.quota(member.bases[0], credential, token):
                found.extend(upstream.figures(await self._answer(request, credential)))
        except CancelledError:
            raise
        except (WireError, TokenRevoked, TokenUnavailable, msgspec.DecodeError) as error:
            _log.debug("the quota of {credential} is not known: {why}", credential=credential.label, why=str(error))
        except Exception:
            _log.failure("asking for the quota of {credential} failed", credential=credential.label)
        if found:
            router = self._router
            router.chooser.quotas.learn(credential, found, router.clock.seconds(), router.wall_seconds())

    async def _answer(self, request: HttpRequest, credential: Credential) -> bytes:
        exchange = await self._router.wire.open(request, ANSWER_SECONDS, credential.upstream)
        body = await exchange.read(ANSWER_BYTES, ANSWER_SECONDS)
        if exchange.status != 200:
            _log.debug(
                "the quota of {credential}: status {status}", credential=credential.label, status=exchange.status
            )
            return b"{}"
        return body
