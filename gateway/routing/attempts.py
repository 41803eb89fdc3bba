"""The retry and rotation loop: one call in, one good answer or the honest last error out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from gateway.accounts.oauth import TokenRevoked, TokenUnavailable
from gateway.accounts.rests import ANY
from gateway.accounts.standing import Lease, Standings
from gateway.calls import (
    Action,
    Attempt,
    Blame,
    Call,
    Credential,
    GatewayError,
    Journal,
    Recorder,
    Secret,
    Verdict,
)
from gateway.config import Limits, RoutingConfig, Timeouts
from gateway.routing import decision
from gateway.routing.affinity import Affinity
from gateway.routing.asking import UNUSED, Asker, Live, Reply, Uses, Whole
from gateway.routing.budget import RetryBudget
from gateway.routing.catalog import Catalog
from gateway.routing.choosing import Chooser, Run, Taken
from gateway.routing.outcome import Failure, Refusal, final, nobody
from gateway.routing.pool import Member
from gateway.routing.queue import Waiting
from gateway.routing.rotation import STRATEGIES, Nobody, Sessions, Strategy
from gateway.upstreams import unanswered
from gateway.upstreams import verdict as verdicts
from gateway.upstreams.errordetails import scrubbed, status_body
from gateway.upstreams.exchange import Wire

__all__ = ["Live", "Reply", "Router", "Whole"]

REFUSED_SECONDS = 15.0
"""How long a credential rests after a 401 that a fresh token did not cure; doubled each time in a row."""
REFUSALS_MOST = 5
"""After so many rests, some eight minutes in all, the next such 401 quarantines."""
GROWTH_MOST_SECONDS = 60.0
JITTER = 0.2
JITTER_MOST_SECONDS = 60.0
"""Spreads who comes back; a day's quota need not be waited for an hour longer."""

TOKEN_SECONDS = 5.0
"""How long a request waits for one credential's token while it might go out as another."""


class _TokenPending(TokenUnavailable):
    """The token was not there in time."""


_NO_TOKEN: Mapping[type[Exception], Verdict] = {
    TokenRevoked: Verdict(Action.NEXT, Blame.CREDENTIAL, "INVALID_GRANT", hides=True),
    TokenUnavailable: Verdict(Action.NEXT, Blame.NOBODY, "TOKEN_UNAVAILABLE", hides=True),
    _TokenPending: Verdict(Action.NEXT, Blame.NOBODY, "TOKEN_PENDING", hides=True),
}
_TAKEN_OUT = Verdict(Action.NEXT, Blame.NOBODY, "TAKEN_OUT", hides=True)
"""What became of a credential while a request waited for a fresh token of its."""


@attrs.define(eq=False)
class Router:
    """Finds a good answer for a call.

    ``members`` and ``catalog`` may be replaced while calls are under way; each call keeps what it began with.
    """

    wire: Wire
    clock: IReactorTime
    wall_seconds: Callable[[], float]
    chance: Callable[[], float]
    """A number from 0 to below 1."""
    standings: Standings
    sessions: Sessions
    recorder: Recorder
    routing: RoutingConfig
    timeouts: Timeouts
    limits: Limits
    catalog: Catalog
    members: Sequence[Member] = ()
    affinity: Affinity = attrs.field(factory=Affinity)
    explains: bool = False
    """Whether every request's journal says why its credentials were chosen."""
    chooser: Chooser = attrs.field(init=False)
    strategy: Strategy = attrs.field(init=False)
    """Who is first among those that may serve a request."""
    _asker: Asker = attrs.field(init=False)
    _budgets: dict[str, RetryBudget] = attrs.field(factory=lambda: defaultdict(RetryBudget))

    def __attrs_post_init__(self) -> None:
        waiting: Waiting[Taken] = Waiting(self.clock, self.limits.queue)
        self.strategy = STRATEGIES[self.routing.strategy]
        self._asker = Asker(self.wire, self.clock, self.wall_seconds, self.timeouts, self.limits)
        self.chooser = Chooser(self.clock, self.standings, self.sessions, self.affinity, waiting)

    def renewed(self, **settings: Any) -> Router:
        """Return a router with other settings and no members yet, which goes on with what this one has learnt."""
        other = attrs.evolve(self, members=(), **settings)
        other.chooser = self.chooser
        return other

    async def run(self, call: Call, journal: Journal) -> Reply:
        """Return the first good answer, or upstream's last error.

        Raises GatewayError where there is no upstream error to show.  Cancelling it closes the connection to
        upstream and blames nobody.
        """
        able, bound_by = self.chooser.admitted(self.members, call)
        now = self.clock.seconds()
        budget = min(self.timeouts.budget, call.server_timeout_seconds or self.timeouts.budget)
        run = Run(call, journal, able, now + budget, bound_by)
        while True:
            taken = await self.chooser.take(run, self.catalog, self.strategy, self.timeouts.queue, self.explains)
            if isinstance(taken, Nobody):
                return self._give_up(run, self.clock.seconds())
            credential = taken.choice.credential
            run.why = taken.choice.why
            journal.credential = credential.label
            journal.upstream = credential.upstream
            result = await self._visit(run, run.members[credential], taken.lease)
            if result is None:
                continue
            if not isinstance(result, Failure):
                self.chooser.settle(run, taken, self.strategy)
                return result
            run.tried.add(credential)
            run.failures.append(result)
            if not self._goes_on(run, result.verdict, credential.upstream):
                return self._give_up(run, self.clock.seconds())

    def _goes_on(self, run: Run, verdict: Verdict, upstream: str) -> bool:
        """Say whether another credential is to be tried after a failure."""
        if verdict.action is Action.PASS or run.calls >= self.routing.max_attempts:
            return False
        alike = sum(1 for attempt in run.journal.attempts if attempt.reason == verdict.reason)
        if verdict.max_tries and alike >= verdict.max_tries:
            return False
        if verdict.blame is Blame.BASE and not self._budgets[upstream].allows():
            return False
        return self.clock.seconds() < run.deadline

    def _give_up(self, run: Run, now: float) -> Refusal:
        free_in, busy = self.chooser.free_in(run, now)
        routed = decision.detail(
            run.journal.attempts, self.chooser.options(run, Nobody(None), now), run.call.session
        )
        if not run.failures:
            error = nobody(free_in, busy)
            raise attrs.evolve(error, details=(*error.details, routed))
        return final(run.failures, run.journal.attempts, free_in, (routed,))

    async def _visit(self, run: Run, member: Member, lease: Lease) -> Whole | Live | Failure | None:
        """Try one credential, its bases in turn; None where it was taken out while its token was waited for."""
        result: Whole | Live | Failure | None = None
        try:
            result = await self._try_bases(run, member, lease)
            if isinstance(result, Failure):
                self._blame(run, member.credential, result.verdict)
            elif result is not None:
                self.standings.succeeded(lease)
                self.standings.pace.took(run.call.model, self.clock.seconds() - lease.since)
                if isinstance(result, Live):
                    # A probe that went well frees its pair long before its stream is over.
                    self.chooser.waiting.offer()
        finally:
            if not isinstance(result, Live):
                self.chooser.release(lease)
        return result

    async def _try_bases(self, run: Run, member: Member, lease: Lease) -> Whole | Live | Failure | None:
        now = self.clock.seconds()
        bases = list(member.bases)
        if len(bases) > 1:
            bases.sort(key=lambda base: self.standings.bases.until(base, run.call.model, now) > now)
        try:
            at_hand = member.tokens.at_hand()
            token = at_hand if at_hand is not None else await self._token(run, member, member.tokens.get)
        except (TokenRevoked, TokenUnavailable) as error:
            return self._no_token(run, member, error, now)
        if at_hand is None and not self.standings.holds(lease, self.clock.seconds()):
            return None
        renewed = False
        while True:
            base = bases.pop(0)
            result = await self._attempt(run, member, base, token, lease)
            if isinstance(result, Failure) and result.verdict.action is Action.REFRESH and not renewed:
                renewed = True
                try:
                    token = await self._token(run, member, partial(member.tokens.renew, token))
                except (TokenRevoked, TokenUnavailable) as error:
                    return self._no_token(run, member, error, now, result.verdict)
                if not self.standings.holds(lease, self.clock.seconds()):
                    return Failure(_TAKEN_OUT)
                run.calls -= 1
                result = await self._attempt(run, member, base, token, lease)
            if not isinstance(result, Failure) or not bases:
                return result
            if result.verdict.action is not Action.BASE or not self._goes_on(
                run, result.verdict, member.credential.upstream
            ):
                return result
            if result.verdict.blame is Blame.BASE:
                self._rest_base(run, base, result.verdict)
            run.failures.append(result)

    async def _token(
        self, run: Run, member: Member, ask: Callable[[], Coroutine[Deferred[Any], Any, Secret]]
    ) -> Secret:
        """Return a token as ``ask`` gives it, without waiting for ever; raises as that does, and _TokenPending."""
        asked = Deferred.fromCoroutine(ask())
        if asked.called:
            return await asked
        now = self.clock.seconds()
        seconds = run.deadline - now
        if run.calls + 1 < self.routing.max_attempts and self.chooser.others(run, member.credential, now):
            seconds = min(seconds, TOKEN_SECONDS)
        try:
            return await asked.addTimeout(max(seconds, 0.001), self.clock)
        except TimeoutError:
            raise _TokenPending("it was not there in time") from None

    def _no_token(
        self,
        run: Run,
        member: Member,
        error: TokenRevoked | TokenUnavailable,
        since: float,
        refused: Verdict | None = None,
    ) -> Failure:
        """Judge a credential that has no token; ``refused`` is upstream's 401 where that led to the refresh."""
        verdict = _NO_TOKEN[type(error)]
        if refused is not None and not member.tokens.renewable:
            return Failure(refused)
        # Taken as an attempt although nothing was sent upstream: whoever reads the details has to see it.  After
        # a 401 the request that led here counts already.
        run.calls += refused is None
        self._note(run, member, "", verdict, since)
        return Failure(verdict)

    async def _attempt(
        self, run: Run, member: Member, base: str, token: Secret, lease: Lease
    ) -> Whole | Live | Failure:
        call, started = run.call, self.clock.seconds()
        request = member.prepare(call, base, token)
        limit = self.timeouts.first_event_stream if call.streams else self.timeouts.first_byte_unary
        seconds = max(min(limit, run.deadline - started), 0.001)
        run.calls += 1
        run.bases.add(base)
        uses = UNUSED if not call.streams else Uses(
            lambda: self.chooser.release(lease),
            lambda error: self._failed_late(run, member.credential, error),
        )
        result = await self._asker.ask(call, member, request, seconds, uses)
        self._note(run, member, base, result.verdict if isinstance(result, Failure) else None, started)
        if seconds >= limit or not (isinstance(result, Failure) and result.verdict.reason == "UPSTREAM_TIMEOUT"):
            # Where the client's own deadline was the shorter one, it says nothing about the backend.
            self._heed_backend(member, run.call.model, base, result)
        return result

    def _failed_late(self, run: Run, credential: Credential, error: bytes) -> bytes | GatewayError:
        """Judge an error event of a committed stream; see asking.Live."""
        verdict = verdicts.judge_error_object(error, self.wall_seconds())
        self._blame(run, credential, verdict)
        if verdict.hides:
            return unanswered.failure(verdict)
        return scrubbed(status_body(error, verdict.status))

    def _heed_backend(self, member: Member, model: str, base: str, result: Whole | Live | Failure) -> None:
        """Keep count of the backend's own health, which is not the credential's."""
        budget = self._budgets[member.credential.upstream]
        if isinstance(result, Failure) and result.verdict.blame is Blame.BASE:
            budget.failed()
            now = self.clock.seconds()
            self.standings.bases.failed(base, now)
            self.standings.doubts.failed(member.credential, model, now)
            return
        self.standings.bases.answered(base)
        if not isinstance(result, Failure):
            self.standings.doubts.answered(member.credential, model)
            budget.succeeded()

    def _note(self, run: Run, member: Member, base: str, verdict: Verdict | None, since: float) -> None:
        seconds = self.clock.seconds() - since
        label = member.credential.label
        status, reason = (200, "") if verdict is None else (verdict.status, verdict.reason)
        attempt = Attempt(label, base, status, reason, seconds, run.why, run.waited)
        run.journal.attempts.append(attempt)
        self.recorder.attempted(run.journal, attempt)

    def _blame(self, run: Run, credential: Credential, verdict: Verdict) -> None:
        now = self.clock.seconds()
        model = run.call.model
        if verdict.action is Action.REFRESH:
            # The token is the credential's for every model, and not its project's.
            model = ANY
            verdict = self._refused(verdict, self.standings.strikes(credential, model, own=True))
        if verdict.blame is Blame.PAIR and verdict.cool_seconds > 0:
            seconds = verdict.cool_seconds
            if verdict.grows:
                times = self.standings.strikes(credential, model, verdict.own)
                seconds = min(seconds * 2**times, GROWTH_MOST_SECONDS)
            until = now + self._jittered(seconds)
            self.standings.cool(credential, model, until, now, verdict.reason, verdict.own)
        elif verdict.blame is Blame.CREDENTIAL:
            wall = self.wall_seconds()
            condemned = self.standings.quarantine(
                credential, verdict.reason, verdict.link, now, wall, verdict.needs_owner
            )
            if condemned.new:
                self.recorder.quarantined(credential, verdict.reason, verdict.link)
            if condemned.halts:
                self.recorder.halted(credential.upstream)
        elif verdict.blame is Blame.BASE and run.journal.attempts:
            self._rest_base(run, run.journal.attempts[-1].base, verdict)

    @staticmethod
    def _refused(verdict: Verdict, strikes: int) -> Verdict:
        """Judge a 401 that a fresh token did not cure, or for which there is no other token.

        Identity services have outages of minutes, and nobody would put a credential in again after each: it rests,
        longer each time, and is out only when it was refused again and again.
        """
        if strikes >= REFUSALS_MOST:
            return verdict
        seconds = REFUSED_SECONDS * 2**strikes
        return attrs.evolve(verdict, blame=Blame.PAIR, cool_seconds=seconds, own=True)

    def _rest_base(self, run: Run, base: str, verdict: Verdict) -> None:
        if verdict.cool_seconds > 0:
            until = self.clock.seconds() + self._jittered(verdict.cool_seconds)
            self.standings.bases.cool(base, run.call.model, until)

    def _jittered(self, seconds: float) -> float:
        return seconds + min(seconds * JITTER, JITTER_MOST_SECONDS) * self.chance()


