"""The retry and rotation loop: one call in, one good answer or the honest last error out."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime

from gateway.accounts.oauth import TokenRevoked, TokenUnavailable
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
from gateway.routing.catalog import Catalog
from gateway.routing.choosing import Chooser, Run, Taken
from gateway.routing.consequences import Budgets, Consequences, budgets
from gateway.routing.outcome import Failure, Refusal, final, nobody
from gateway.routing.pool import Member
from gateway.routing.queue import Waiting
from gateway.routing.rotation import STRATEGIES, Nobody, Sessions, Strategy
from gateway.upstreams import unanswered
from gateway.upstreams import verdict as verdicts
from gateway.upstreams.errordetails import scrubbed, status_body
from gateway.upstreams.exchange import Wire

__all__ = ["Live", "Reply", "Router", "Whole"]

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


@attrs.define(eq=False, repr=False)
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
    _consequences: Consequences = attrs.field(init=False)
    _budgets: Budgets = attrs.field(factory=budgets)

    def __attrs_post_init__(self) -> None:
        waiting: Waiting[Taken] = Waiting(self.clock, self.limits.queue)
        self.strategy = STRATEGIES[self.routing.strategy]
        self._asker = Asker(self.wire, self.clock, self.wall_seconds, self.timeouts, self.limits)
        self.chooser = Chooser(self.clock, self.standings, self.sessions, self.affinity, waiting)
        self._consequences = Consequences(
            self.clock, self.wall_seconds, self.chance, self.standings, self._budgets
        )

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
        chooser, now = self.chooser, self.clock.seconds()
        able, bound_by = chooser.admitted(self.members, call)
        budget = self.timeouts.budget
        if call.server_timeout_seconds is not None:
            budget = min(budget, call.server_timeout_seconds)
        run = Run(call, journal, able, now + budget, bound_by)
        while True:
            if chooser.waiting.waiters:
                # Whoever waits comes before whoever comes.
                chooser.waiting.offer()
            taken = chooser.claim(run, self.catalog, self.strategy, self.explains)
            if isinstance(taken, Nobody):
                taken = await chooser.wait(
                    run, taken, self.catalog, self.strategy, self.timeouts.queue, self.explains
                )
                if isinstance(taken, Nobody):
                    return self._give_up(run, self.clock.seconds())
            credential, lease = taken.choice.credential, taken.lease
            run.why = taken.choice.why
            journal.credential, journal.upstream = credential.label, credential.upstream
            result: Whole | Live | Failure | None = None
            try:
                result = await self._use(run, run.members[credential], lease)
                if isinstance(result, Failure):
                    base = journal.attempts[-1].base if journal.attempts else None
                    self._blame(credential, call.model, base, result.verdict)
                elif result is not None:
                    self._served(run, lease, isinstance(result, Live))
            finally:
                if not isinstance(result, Live):
                    chooser.release(lease)
            if result is None:
                continue
            if not isinstance(result, Failure):
                chooser.settle(run, taken, self.strategy)
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
        if verdict.blame is Blame.BASE and not self._consequences.allows(upstream):
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

    def _served(self, run: Run, lease: Lease, streams: bool) -> None:
        """Take note of a good answer, or of a good stream's beginning."""
        if lease.probes:
            self.standings.succeeded(lease)
        self.standings.pace.took(run.call.model, self.clock.seconds() - lease.since)
        if streams:
            # A probe that went well frees its pair long before its stream is over.
            self.chooser.waiting.offer()

    async def _use(self, run: Run, member: Member, lease: Lease) -> Whole | Live | Failure | None:
        """Try one credential, its bases in turn, and have a token that upstream refuses renewed once.

        Returns None where the credential was taken out while its token was waited for.
        """
        now = lease.since
        token = member.tokens.at_hand()
        if token is None:
            try:
                token = await self._token(run, member, member.tokens.get)
            except (TokenRevoked, TokenUnavailable) as error:
                return self._no_token(run, member, error, now)
            if not self.standings.holds(lease, self.clock.seconds()):
                return None
        bases = iter(self._in_order(member.bases, run.call.model, now))
        base, renewed = next(bases), False
        while True:
            started = self.clock.seconds()
            result = await self._ask(run, member, base, token, lease, started)
            self._answered(run, member, base, result, started)
            if not isinstance(result, Failure):
                return result
            if result.verdict.action is Action.REFRESH and not renewed:
                renewed = True
                try:
                    token = await self._token(run, member, partial(member.tokens.renew, token))
                except (TokenRevoked, TokenUnavailable) as error:
                    return self._no_token(run, member, error, now, result.verdict)
                if not self.standings.holds(lease, self.clock.seconds()):
                    return Failure(_TAKEN_OUT)
                run.calls -= 1
                continue
            following = next(bases, None)
            if following is None or result.verdict.action is not Action.BASE:
                return result
            if not self._goes_on(run, result.verdict, member.credential.upstream):
                return result
            if result.verdict.blame is Blame.BASE:
                self._consequences.rest_base(base, run.call.model, result.verdict)
            run.failures.append(result)
            base = following

    def _in_order(self, bases: Sequence[str], model: str, now: float) -> Sequence[str]:
        """Return base URLs in the order in which they are tried: those that are not at their best come last."""
        if len(bases) == 1:
            return bases
        return sorted(bases, key=lambda base: self.standings.bases.until(base, model, now) > now)

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

    def _ask(
        self, run: Run, member: Member, base: str, token: Secret, lease: Lease, now: float
    ) -> Coroutine[Any, Any, Whole | Live | Failure]:
        """Send a request upstream, as soon as what this returns is awaited."""
        call = run.call
        request = run.request(member, base, token)
        run.calls += 1
        run.bases.add(base)
        # A stream goes on for long, and keeps no more of its run than it needs.
        uses = UNUSED if not call.streams else Uses(
            partial(self.chooser.release, lease),
            partial(self._failed_late, member.credential, call.model, base),
        )
        return self._asker.ask(call, member, request, now, min(now + self._limit(call), run.deadline), uses)

    def _limit(self, call: Call) -> float:
        return self.timeouts.first_event_stream if call.streams else self.timeouts.first_byte_unary

    def _answered(
        self, run: Run, member: Member, base: str, result: Whole | Live | Failure, started: float
    ) -> None:
        """Take note of what came of a request, for the log and for the backend's own health."""
        verdict = result.verdict if isinstance(result, Failure) else None
        self._note(run, member, base, verdict, started)
        late = verdict is not None and verdict.reason == "UPSTREAM_TIMEOUT"
        if not late or run.deadline - started >= self._limit(run.call):
            # Where the client's own deadline was the shorter one, it says nothing about the backend.
            self._consequences.answered(member.credential, run.call.model, base, verdict)

    def _failed_late(
        self, credential: Credential, model: str, base: str, error: bytes
    ) -> bytes | GatewayError:
        """Judge an error event of a committed stream; see asking.Live."""
        verdict = verdicts.judge_error_object(error, self.wall_seconds())
        self._blame(credential, model, base, verdict)
        if verdict.hides:
            return unanswered.failure(verdict)
        return scrubbed(status_body(error, verdict.status))

    def _note(self, run: Run, member: Member, base: str, verdict: Verdict | None, since: float) -> None:
        seconds = self.clock.seconds() - since
        label = member.credential.label
        status, reason = (200, "") if verdict is None else (verdict.status, verdict.reason)
        attempt = Attempt(label, base, status, reason, seconds, run.why, run.waited)
        run.journal.attempts.append(attempt)
        self.recorder.attempted(run.journal, attempt)

    def _blame(self, credential: Credential, model: str, base: str | None, verdict: Verdict) -> None:
        condemned = self._consequences.blame(credential, model, base, verdict)
        if condemned.new:
            self.recorder.quarantined(credential, verdict.reason, verdict.link)
        if condemned.halts:
            self.recorder.halted(credential.upstream)
