"""The retry and rotation loop: one call in, one good answer or the honest last error out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
from twisted.internet.interfaces import IReactorTime

from gateway.accounts.oauth import TokenRevoked, TokenUnavailable
from gateway.accounts.standing import Lease, Standings
from gateway.calls import Action, Attempt, Blame, Call, Credential, Event, Journal, Recorder, Secret, Verdict
from gateway.config import Limits, RoutingConfig, Timeouts
from gateway.routing.budget import RetryBudget
from gateway.routing.catalog import Catalog
from gateway.routing.outcome import Failure, Refusal, final, nobody
from gateway.routing.pool import Member, candidates
from gateway.routing.rotation import Choice, Nobody, Sessions, choose
from gateway.routing.stream import EventStream
from gateway.splice import NotAnObject
from gateway.upstreams import unanswered
from gateway.upstreams import verdict as verdicts
from gateway.upstreams.exchange import Exchange, Wire, WireError

ERROR_BODY_BYTES = 256 * 1024
GROWTH_MOST_SECONDS = 60.0
JITTER = 0.2

_TOKEN_REVOKED = Verdict(Action.NEXT, Blame.CREDENTIAL, "INVALID_GRANT", hides=True)
_TOKEN_UNAVAILABLE = Verdict(Action.NEXT, Blame.NOBODY, "TOKEN_UNAVAILABLE", hides=True)


@attrs.frozen
class Whole:
    """A good answer in one piece."""

    event: Event


@attrs.frozen
class Live:
    """A good stream: its first event has come and nothing of it has been passed on.

    ``release`` is called once when the stream is over, whatever its end.
    """

    stream: EventStream
    first: Event
    release: Callable[[], None]


Reply = Whole | Live | Refusal


@attrs.define(eq=False)
class _Run:
    """One request's way through the credentials."""

    call: Call
    journal: Journal
    members: dict[Credential, Member]
    deadline: float
    tried: set[Credential] = attrs.field(factory=set)
    bases: set[str] = attrs.field(factory=set)
    calls: int = 0
    """Requests sent upstream, forced refreshes' repetitions apart."""
    failures: list[Failure] = attrs.field(factory=list)


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
    _budgets: dict[str, RetryBudget] = attrs.field(factory=dict)

    async def run(self, call: Call, journal: Journal) -> Reply:
        """Return the first good answer, or upstream's last error.

        Raises GatewayError where there is no upstream error to show.  Cancelling it closes the connection to
        upstream and blames nobody.
        """
        able = candidates(self.members, call.verb, call.model)
        now = self.clock.seconds()
        budget = min(self.timeouts.budget, call.server_timeout_seconds or self.timeouts.budget)
        run = _Run(call, journal, {member.credential: member for member in able}, now + budget)
        while True:
            now = self.clock.seconds()
            choice = self._choose(run, now)
            if isinstance(choice, Nobody):
                return self._give_up(run, now)
            journal.credential = choice.credential.label
            journal.upstream = choice.credential.upstream
            result = await self._visit(run, run.members[choice.credential])
            if not isinstance(result, Failure):
                self.sessions.bind(call.session, call.model, choice.credential, now)
                return result
            run.tried.add(choice.credential)
            run.failures.append(result)
            if not self._goes_on(run, result.verdict, choice.credential.upstream):
                return self._give_up(run, self.clock.seconds())

    def _choose(self, run: _Run, now: float) -> Choice | Nobody:
        call = run.call
        open_to_all = list(run.members)
        if run.failures and run.failures[-1].verdict.other_project:
            owners = {credential.owner for credential in run.tried}
            open_to_all = [credential for credential in open_to_all if credential.owner not in owners]
        if run.failures and run.failures[-1].verdict.other_base:
            open_to_all = [
                credential for credential in open_to_all if set(run.members[credential].bases) - run.bases
            ]
        preferred = {one.upstream for one in open_to_all if self.catalog.knows(one.upstream, call.model)}
        bound = self.sessions.get(call.session, call.model, now) if call.session else None
        return choose(open_to_all, preferred, self.standings, bound, run.tried, call.model, now)

    def _goes_on(self, run: _Run, verdict: Verdict, upstream: str) -> bool:
        """Say whether another credential is to be tried after a failure."""
        if verdict.action is Action.PASS or run.calls >= self.routing.max_attempts:
            return False
        alike = sum(1 for attempt in run.journal.attempts if attempt.reason == verdict.reason)
        if verdict.max_tries and alike >= verdict.max_tries:
            return False
        if verdict.blame is Blame.BASE and not self._budget(upstream).allows():
            return False
        return self.clock.seconds() < run.deadline

    def _give_up(self, run: _Run, now: float) -> Refusal:
        some = [self.standings.availability(credential, run.call.model, now) for credential in run.members]
        free_at = [now if one.usable else one.free_at for one in some if one.usable or one.free_at is not None]
        free_in = min(at for at in free_at if at is not None) - now if free_at else None
        if not run.failures:
            raise nobody(free_in)
        return final(run.failures, run.journal.attempts, free_in)

    async def _visit(self, run: _Run, member: Member) -> Whole | Live | Failure:
        """Try one credential: its bases in turn, and a forced refresh once."""
        credential = member.credential
        lease = self.standings.lease(credential, run.call.model, self.clock.seconds())
        result: Whole | Live | Failure | None = None
        try:
            result = await self._try_bases(run, member, lease)
            if isinstance(result, Failure):
                self._blame(run, credential, result.verdict)
            else:
                self.standings.succeeded(lease)
        finally:
            if not isinstance(result, Live):
                self.standings.release(lease)
        return result

    async def _try_bases(self, run: _Run, member: Member, lease: Lease) -> Whole | Live | Failure:
        now = self.clock.seconds()
        bases = sorted(member.bases, key=lambda base: self.standings.base_until(base, run.call.model, now) > now)
        try:
            token = await member.tokens.get()
        except (TokenRevoked, TokenUnavailable) as error:
            return self._no_token(run, member, error, now)
        renewed = False
        while True:
            base = bases.pop(0)
            result = await self._attempt(run, member, base, token, lease)
            if isinstance(result, Failure) and result.verdict.action is Action.REFRESH and not renewed:
                renewed = True
                try:
                    token = await member.tokens.renew(token)
                except (TokenRevoked, TokenUnavailable) as error:
                    return self._no_token(run, member, error, now, result.verdict)
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

    def _no_token(
        self,
        run: _Run,
        member: Member,
        error: TokenRevoked | TokenUnavailable,
        since: float,
        refused: Verdict | None = None,
    ) -> Failure:
        """Judge a credential that has no token; ``refused`` is upstream's 401 where that led to the refresh."""
        verdict = _TOKEN_REVOKED if isinstance(error, TokenRevoked) else _TOKEN_UNAVAILABLE
        if refused is not None and not member.tokens.renewable:
            return Failure(refused)
        # Taken as an attempt although nothing was sent upstream: whoever reads the details has to see it.
        run.calls += 1
        self._note(run, member, "", verdict, since)
        return Failure(verdict)

    async def _attempt(
        self, run: _Run, member: Member, base: str, token: Secret, lease: Lease
    ) -> Whole | Live | Failure:
        call, started = run.call, self.clock.seconds()
        request = member.upstream.prepare(call, base, member.credential, token)
        limit = self.timeouts.first_event_stream if call.streams else self.timeouts.first_byte_unary
        seconds = max(min(limit, run.deadline - started), 0.001)
        run.calls += 1
        run.bases.add(base)
        try:
            exchange = await self.wire.open(request, seconds)
            if exchange.status != 200:
                result: Whole | Live | Failure = await self._judged(exchange)
            elif call.streams:
                result = await self._stream(member, lease, exchange, seconds - (self.clock.seconds() - started))
            else:
                result = await self._whole(member, exchange)
        except WireError as error:
            result = Failure(unanswered.transport(error.kind, call.streams))
        self._note(run, member, base, result.verdict if isinstance(result, Failure) else None, started)
        self._heed_backend(member, base, result)
        return result

    def _heed_backend(self, member: Member, base: str, result: Whole | Live | Failure) -> None:
        """Keep count of the backend's own health, which is not the credential's."""
        budget = self._budget(member.credential.upstream)
        if isinstance(result, Failure) and result.verdict.blame is Blame.BASE:
            budget.failed()
            self.standings.base_failed(base, self.clock.seconds())
            return
        self.standings.base_answered(base)
        if not isinstance(result, Failure):
            budget.succeeded()

    def _budget(self, upstream: str) -> RetryBudget:
        return self._budgets.setdefault(upstream, RetryBudget())

    async def _judged(self, exchange: Exchange) -> Failure:
        try:
            body = await exchange.read(ERROR_BODY_BYTES, self.timeouts.idle)
        except WireError:
            body = b""
        verdict = verdicts.judge(exchange.status, exchange.headers, body, self.wall_seconds())
        return Failure(verdict, body, exchange.headers.get(b"retry-after", b""))

    async def _whole(self, member: Member, exchange: Exchange) -> Whole | Failure:
        body = await exchange.read(self.limits.event, self.timeouts.idle)
        try:
            event = member.upstream.unwrap(body)
        except NotAnObject:
            return Failure(unanswered.transport("not-json", False))
        if event.error:
            return Failure(verdicts.judge_error_object(event.error, self.wall_seconds()), event.error)
        return Whole(event)

    async def _stream(
        self, member: Member, lease: Lease, exchange: Exchange, seconds: float
    ) -> Live | Failure:
        kind = exchange.headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower()
        if kind != b"text/event-stream":
            exchange.abort()
            return Failure(unanswered.transport("bad-content-type", True))
        stream = EventStream(
            exchange, member.upstream.unwrap, self.clock, self.timeouts.idle, self.limits.event
        )
        first = await stream.first(max(seconds, 0.001))
        if first.error:
            stream.abort()
            return Failure(verdicts.judge_error_object(first.error, self.wall_seconds()), first.error)
        return Live(stream, first, lambda: self.standings.release(lease))

    def _note(self, run: _Run, member: Member, base: str, verdict: Verdict | None, since: float) -> None:
        seconds = self.clock.seconds() - since
        label = member.credential.label
        if verdict is None:
            attempt = Attempt(label, base, 200, "", seconds)
        else:
            attempt = Attempt(label, base, verdict.status, verdict.reason, seconds)
        run.journal.attempts.append(attempt)
        self.recorder.attempted(run.journal, attempt)

    def _blame(self, run: _Run, credential: Credential, verdict: Verdict) -> None:
        now = self.clock.seconds()
        model = run.call.model
        if verdict.blame is Blame.PAIR and verdict.cool_seconds > 0:
            seconds = verdict.cool_seconds
            if verdict.grows:
                seconds = min(seconds * 2 ** self.standings.strikes(credential, model), GROWTH_MOST_SECONDS)
            until = now + seconds * (1 + JITTER * self.chance())
            self.standings.cool(credential, model, until, now, verdict.reason)
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

    def _rest_base(self, run: _Run, base: str, verdict: Verdict) -> None:
        if verdict.cool_seconds > 0:
            seconds = verdict.cool_seconds * (1 + JITTER * self.chance())
            self.standings.cool_base(base, run.call.model, self.clock.seconds() + seconds)


