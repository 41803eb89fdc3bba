"""A schedule: clients, an upstream that does as it likes, time that passes, and a model of what the gateway may know.

The model states what must hold in terms of what is to be seen from outside: which requests went out when, and what
they were answered.  Where the gateway adds chance it knows the earliest moment alone.  On a virtual clock.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, time, timedelta
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from gateway.accounts.ledger import decode, encode
from gateway.accounts.oauth import Granted, TokenRevoked, TokenUnavailable
from gateway.accounts.standing import Standings
from gateway.accounts.tokens import FetchedToken, StaticToken
from gateway.calls import Credential, GatewayError, HttpRequest, Journal, Secret, Terms
from gateway.config import RoutingConfig, Timeouts
from gateway.routing.asking import Live
from gateway.routing.explain import explain
from gateway.routing.outcome import Refusal
from gateway.routing.pool import Member
from tests.fakes import (
    FakeRecorder,
    FakeWire,
    call,
    event,
    member,
    ok,
    reason,
    refused,
    retry_info,
    router,
    run,
    stream,
    stream_call,
)

EXACT = 1e-5
"""What sums of seconds may be off by."""
PACIFIC = ZoneInfo("America/Los_Angeles")
BEGIN_WALL = 1_767_225_600.0
PROBES_APART = 900.0
"""U10: how far apart the probes of a day's rest are at least."""
UNPROBED = 1700.0
"""A day that is over in less than this is waited for without a probe."""
REFUSED_SECONDS = 15.0
"""How long a credential rests at least after a 401 that no fresh token cured."""
HALT_WITHIN = 600.0
FREE_RETRIES = 5
"""A bucket of ten tokens allows so many retries after server faults before one good answer has come."""

T = TypeVar("T")
Pick = Callable[[Sequence[T]], T]
Key = tuple[str, ...]

DAY = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "RequestsPerDay-FreeTier"}]}
OWNER = {**reason("VALIDATION_REQUIRED"), "domain": "cloudcode-pa.googleapis.com"}


@attrs.define(eq=False)
class Ask:
    """One client's request."""

    number: int
    model: str
    streams: bool
    came: float
    reply: Deferred[Any] = attrs.field(init=False)
    served: list[Credential] = attrs.field(factory=list)
    tokens: list[str] = attrs.field(factory=list)
    renews: bool = False
    """Whether its last answer was a 401, after which the same credential may come once more."""
    renewed: bool = False
    visit: int = 0
    """When the credential of now was first asked for it."""
    fault: str = ""
    """The upstream whose server fault was its last answer."""
    over: bool = False
    """Whether it has its answer, its first byte, or nobody who waits for it."""


@attrs.define(eq=False)
class Sent:
    """One request that upstream has not answered."""

    ask: Ask
    credential: Credential
    answer: Deferred[Any]
    at: int
    """Its place among all that was seen."""


@attrs.define
class Refused:
    """What upstream said last of somebody, and that nobody was served since."""

    not_before: float
    at: int
    day_until: float = -math.inf
    """When the quota is renewed, where it is a day's."""
    lapsed: bool = False
    """Whether it may have been forgotten."""


@attrs.frozen
class Plan:
    """What a schedule begins with."""

    strategy: str = "sticky"
    credentials: tuple[tuple[str, int, int, bool, str], ...] = (("", 0, 0, False, "studio"),)
    """Of each: project, cap, priority, whether it has tokens that can be renewed, upstream."""
    queue: float = 0.0
    storm: bool = False
    """Whether the backend answers everything with 503."""


class Alerts(FakeRecorder):
    """Takes the gateway at its word: whom it reports as out it has to leave alone."""

    def __init__(self, out: set[Credential]) -> None:
        super().__init__()
        self._out = out

    def quarantined(self, credential: Credential, reason: str, link: str) -> None:
        self._out.add(credential)


class Schedule:
    """One run; every method that is an action may be called at any time at which ``possible`` names it."""

    def __init__(self, plan: Plan, chance: Callable[[], float] = lambda: 0.0) -> None:
        self.plan = plan
        self.renews = any(renews for *_, renews, _ in plan.credentials)
        self.chance = chance
        self.asks: dict[int, Ask] = {}
        self.left: set[int] = set()
        self.waiting: list[Sent] = []
        self.streams: list[tuple[Ask, Live]] = []
        self.refusals: dict[Key, Refused] = {}
        self.out: set[Credential] = set()
        self.doubtful: set[Credential] = set()
        """Whose grant was revoked: they are out as soon as somebody has found it out."""
        self.disabled: set[Credential] = set()
        self.halted: set[str] = set()
        self.struck: dict[str, dict[Credential, float]] = {}
        self.fetching: dict[str, list[Deferred[Granted]]] = {}
        self.generations: Counter[str] = Counter()
        self.retries: Counter[str] = Counter()
        self.asked_before = 0
        self.broken: list[str] = []
        self.seen: Counter[str] = Counter()
        self.steps = 0
        self._begin(BEGIN_WALL, Standings(chance=chance))

    def _begin(self, wall: float, standings: Standings) -> None:
        """Start a process, on a monotonic clock that begins anew."""
        self.clock = Clock()
        self.clock.advance(self.chance() * 1e5)
        began = self.clock.seconds()
        self.wall = lambda: wall + self.clock.seconds() - began
        self.members = [self._member(number, *row) for number, row in enumerate(self.plan.credentials)]
        self.by_name = {one.credential.name: one.credential for one in self.members}
        self.router = router(
            FakeWire(by=self.sent),
            self.clock,
            *self.members,
            routing=RoutingConfig(strategy=self.plan.strategy),
            timeouts=Timeouts(queue=self.plan.queue),
            standings=standings,
            wall_seconds=lambda: self.wall(),
            chance=self.chance,
            recorder=Alerts(self.out),
        )

    def _member(
        self, number: int, project: str, most: int, priority: int, renews: bool, upstream: str
    ) -> Member:
        name = f"k{number}"
        tokens = FetchedToken(lambda: self.fetched(name), self.clock.seconds) if renews else StaticToken(Secret(name))
        plain = member(name, tokens, project=project, upstream=upstream)
        terms = Terms(1.0 + number, priority, most)
        return attrs.evolve(plain, credential=attrs.evolve(plain.credential, terms=terms))

    # What the gateway does is judged here; within its own calls nothing may be raised.

    def holds(self, so: bool, what: str) -> None:
        if not so:
            self.broken.append(what)

    def fetched(self, name: str) -> Deferred[Granted]:
        """Take a request for a new token."""
        self.seen["refreshes"] += 1
        waiting = self.fetching.setdefault(name, [])
        self.holds(not waiting, "one refresh at a time for an account")
        granted: Deferred[Granted] = Deferred()
        waiting.append(granted)
        return granted

    def sent(self, request: HttpRequest) -> Deferred[Any]:
        """Take a request to upstream, and judge that it was sent."""
        self.seen["upstream calls"] += 1
        self.steps += 1
        ask = self.asks[json.loads(request.body)["number"]]
        token = dict(request.headers)[b"x-goog-api-key"].decode()
        credential = self.by_name[token.partition("#")[0]]
        now = self.wall()
        self.holds(not ask.over, "nothing is sent after the first byte, nor for a client that left")
        if credential in ask.served:
            again = ask.renews and not ask.renewed and ask.served[-1] is credential and token not in ask.tokens
            self.holds(again, "no credential twice in a request, but once with a fresh token after a 401")
            ask.renewed = True
        else:
            ask.renewed, ask.visit = False, self.steps
            if ask.fault:
                self.retries[ask.fault] += 1
        self.holds(credential not in self.out, "none that is in quarantine")
        self.holds(credential not in self.disabled, "none that its operator took out")
        self.holds(credential.upstream not in self.halted, "none of an upstream that stands still")
        for key in self.keys(credential, ask.model):
            self.judge_refusal(key, now, ask)
        self.judge_turn(ask)
        self.judge_retries()
        ask.served.append(credential)
        ask.tokens.append(token)
        ask.renews, ask.fault = False, ""
        answer: Deferred[Any] = Deferred()
        self.waiting.append(Sent(ask, credential, answer, self.steps))
        most = credential.terms.max_concurrent
        self.holds(not most or self.busy(credential) <= most, "the cap holds")
        return answer

    def judge_refusal(self, key: Key, now: float, ask: Ask) -> None:
        """A pair that was refused is left alone until its time, and then asked by one request at a time."""
        refusal = self.refusals.get(key)
        if refusal is None or (ask.renewed and refusal.at < ask.visit):
            # What was allowed before the 401 is allowed with the fresh token, if nothing came between.
            return
        self.holds(now >= refusal.not_before - EXACT, f"no call to a cooling pair: {key}")
        since = [one for one in self.waiting if one.at > refusal.at and key in self.keys(one.credential, one.ask.model)]
        self.holds(refusal.lapsed or not since, f"one probe at a time: {key}")
        self.seen["probes"] += 1
        if now < refusal.day_until - EXACT:
            self.seen["probes of a day"] += 1
            refusal.not_before = min(refusal.day_until, now + PROBES_APART)

    def judge_turn(self, ask: Ask) -> None:
        """Who came first is served first, where nobody waits for a token."""
        if ask.served or self.renews:
            return
        older = [one for one in self.asks.values() if one.model == ask.model and self.fresh(one)]
        self.holds(all(one.number >= ask.number for one in older), "nobody is overtaken")

    def judge_retries(self) -> None:
        """K9: at most a tenth of all requests is tried again after a server fault, but for the first few."""
        asked = len(self.asks) - self.asked_before
        for upstream, count in self.retries.items():
            self.holds(count <= FREE_RETRIES + 0.1 * asked, f"the retry budget of {upstream}")

    def keys(self, credential: Credential, model: str) -> tuple[Key, Key]:
        """Return what a refusal may be of: the quota of an owner for a model, and a credential by itself."""
        return ("quota", credential.owner, model), ("own", credential.upstream, credential.name)

    def fresh(self, ask: Ask) -> bool:
        return not ask.over and not ask.served

    def busy(self, credential: Credential) -> int:
        held = [one.credential for one in self.waiting] + [ask.served[-1] for ask, _ in self.streams]
        return held.count(credential)

    def in_use(self, credential: Credential) -> bool:
        """Say whether nothing at all is known against a credential."""
        out = credential in self.out or credential in self.doubtful or credential in self.disabled
        return not out and credential.upstream not in self.halted

    def first_free(self, model: str) -> float:
        """Return the earliest moment at which anybody may be asked; now where somebody has too many requests alone."""
        now = self.wall()
        moments = []
        for one in self.by_name.values():
            if one not in self.out and one not in self.disabled and one.upstream not in self.halted:
                rests = [self.refusals[key].not_before for key in self.keys(one, model) if key in self.refusals]
                moments.append(max([now, *rests]))
        return min(moments, default=now)

    def replied(self, reply: Any, ask: Ask) -> None:
        """Judge how a request ended."""
        ask.over = True
        first_free = self.first_free(ask.model) - self.wall() - EXACT
        if isinstance(reply, Live):
            self.streams.append((ask, reply))
        elif isinstance(reply, Refusal):
            # Where time alone frees nobody the gateway adds nothing to what upstream said.
            timeless = not any(map(self.in_use, self.by_name.values()))
            told = float(reply.retry_after or (0 if timeless else -1))
            self.holds(reply.status != 429 or told >= first_free, "upstream's 429 comes with an honest Retry-After")
        elif isinstance(reply, Failure) and ask.number not in self.left:
            error = reply.value if isinstance(reply.value, GatewayError) else None
            self.holds(error is not None and error.code in (429, 502, 503, 504), f"no other end than ours: {reply}")
            if error is not None and error.code == 429:
                self.seen["told to come back"] += 1
                self.holds((error.retry_after_seconds or 0) >= first_free, "Retry-After is honest")
                self.holds(not ask.served, "who was served has upstream's answer")

    # What upstream may answer: it is taken into the model before the gateway hears it.

    def settle(self, one: Sent) -> None:
        self.waiting.remove(one)
        one.ask.renews, one.ask.fault = False, ""

    def refuse(self, key: Key, not_before: float, day_until: float = -math.inf) -> None:
        old = self.refusals.get(key, Refused(not_before, 0))
        self.refusals[key] = Refused(
            max(not_before, old.not_before), self.steps, max(day_until, old.day_until)
        )
        self.steps += 1

    def good(self, one: Sent) -> None:
        self.settle(one)
        for key in self.keys(one.credential, one.ask.model):
            if key in self.refusals and (self.refusals[key].lapsed or one.at > self.refusals[key].at):
                del self.refusals[key]
        one.answer.callback(stream(event("x")) if one.ask.streams else ok())

    def minute(self, one: Sent, seconds: int) -> None:
        self.settle(one)
        self.refuse(self.keys(one.credential, one.ask.model)[0], self.wall() + seconds)
        told = (reason("RATE_LIMIT_EXCEEDED"), retry_info(f"{seconds}s"))
        one.answer.callback(refused(429, "RESOURCE_EXHAUSTED", *told))

    def day(self, one: Sent) -> None:
        self.settle(one)
        now = self.wall()
        here = datetime.fromtimestamp(now, PACIFIC)
        midnight = datetime.combine(here.date() + timedelta(days=1), time(), PACIFIC).timestamp()
        next_call = midnight if midnight - now <= UNPROBED else now + PROBES_APART
        self.refuse(self.keys(one.credential, one.ask.model)[0], next_call, midnight)
        one.answer.callback(refused(429, "RESOURCE_EXHAUSTED", DAY, retry_info("37s")))

    def unauthenticated(self, one: Sent) -> None:
        self.settle(one)
        tokens = self.members[int(one.credential.name[1:])].tokens
        one.ask.renews = tokens.renewable and not one.ask.renewed
        if not one.ask.renews:
            self.refuse(self.keys(one.credential, "")[1], self.wall() + REFUSED_SECONDS)
        one.answer.callback(refused(401, "UNAUTHENTICATED"))

    def fault(self, one: Sent, code: int) -> None:
        self.settle(one)
        one.ask.fault = one.credential.upstream if code >= 500 else ""
        one.answer.callback(refused(code, "UNAVAILABLE"))

    def revoked(self, one: Sent) -> None:
        self.settle(one)
        self.out.add(one.credential)
        one.answer.callback(refused(400, "INVALID_ARGUMENT", reason("API_KEY_INVALID")))

    def owner_must_act(self, one: Sent) -> None:
        self.settle(one)
        now, upstream = self.wall(), one.credential.upstream
        if one.credential not in self.out:
            struck = self.struck.setdefault(upstream, {})
            struck[one.credential] = now
            if sum(now - at < HALT_WITHIN for at in struck.values()) >= 2 and upstream not in self.halted:
                self.halted.add(upstream)
                self.seen["halts"] += 1
        self.out.add(one.credential)
        one.answer.callback(refused(403, "PERMISSION_DENIED", OWNER))

    # What may happen.

    def clients_come(self, pick: Pick[Any]) -> None:
        model, session, streams = pick(("m", "m", "n")), pick(("", "s", "t")), pick((False, True))
        for _ in range(pick((1, 1, 2, 3))):
            ask = Ask(len(self.asks), model, streams, self.wall())
            self.asks[ask.number] = ask
            make = stream_call if streams else call
            body = b'{"number":%d}' % ask.number
            ask.reply = run(self.router.run(make(model=model, session=session, body=body), Journal(str(ask.number))))
            ask.reply.addBoth(self.replied, ask)
            self.seen["requests"] += 1

    def a_client_leaves(self, pick: Pick[Any]) -> None:
        self.leave(pick([one for one in self.asks.values() if not one.over]))

    def leave(self, ask: Ask) -> None:
        self.left.add(ask.number)
        ask.over = True
        for one in [one for one in self.waiting if one.ask is ask]:
            self.settle(one)
        ask.reply.cancel()

    def upstream_answers(self, pick: Pick[Any]) -> None:
        if self.plan.storm:
            self.seen["storms"] += 1
            for one in list(self.waiting):
                if one in self.waiting:
                    self.fault(one, 503)
            return
        one = pick(self.waiting)
        kind = pick(ANSWERS)
        self.seen[kind] += 1
        if kind == "minute":
            self.minute(one, pick((1, 3, 10, 60)))
        elif kind == "fault":
            self.fault(one, pick((500, 503, 503, 400, 404)))
        else:
            getattr(self, kind)(one)

    def a_token_comes(self, pick: Pick[Any]) -> None:
        name = pick(sorted(name for name, waiting in self.fetching.items() if waiting))
        how = pick(("good", "good", "good", "unavailable", "invalid_grant"))
        self.grant(name, how)

    def grant(self, name: str, how: str) -> None:
        granted = self.fetching[name].pop()
        self.seen[f"token: {how}"] += 1
        if how == "good":
            self.generations[name] += 1
            granted.callback(Granted(Secret(f"{name}#{self.generations[name]}"), 3600.0, None))
        elif how == "unavailable":
            granted.errback(TokenUnavailable("the token endpoint gave no answer"))
        else:
            self.doubtful.add(self.by_name[name])
            granted.errback(TokenRevoked("invalid_grant"))

    def the_operator_clears_one(self, pick: Pick[Any]) -> None:
        credential = pick(sorted(self.out | self.doubtful, key=lambda one: one.name))
        for known in (self.out, self.doubtful):
            known.discard(credential)
        self.struck.get(credential.upstream, {}).pop(credential, None)
        own = self.keys(credential, "")[1]
        for key in [key for key in self.refusals if key[1] == credential.owner or key == own]:
            del self.refusals[key]
        self.router.standings.clear(credential)
        self.router.chooser.waiting.offer()

    def the_operator_switches_one(self, pick: Pick[Any]) -> None:
        credential = pick(list(self.by_name.values()))
        on = credential in self.disabled
        (self.disabled.discard if on else self.disabled.add)(credential)
        self.router.standings.set_enabled(credential, on)
        self.router.chooser.waiting.offer()

    def the_operator_says_go(self, pick: Pick[Any]) -> None:
        upstream = pick(sorted(self.halted))
        self.halted.discard(upstream)
        self.struck.pop(upstream, None)
        self.holds(self.router.standings.resume(upstream), "what stood still is told to go on")
        self.router.chooser.waiting.offer()

    def a_stream_ends(self, pick: Pick[Any]) -> None:
        self.end_stream(pick(range(len(self.streams))))

    def end_stream(self, at: int) -> None:
        _, live = self.streams.pop(at)
        live.stream.abort()
        live.release()

    def time_passes(self, pick: Pick[Any]) -> None:
        # The odd ones lead to no moment at which two ways of adding up seconds could differ about ten minutes.
        self.clock.advance(pick((0.001, 0.53, 1.0, 1.0, 2.0, 9.7, 61.3, 950.9, 950.9, 30_000.1)))

    def the_gateway_restarts(self, pick: Pick[Any]) -> None:
        """Whoever is served is cut off; what was kept goes through the ledger's bytes."""
        self.seen["restarts"] += 1
        for ask in [one for one in self.asks.values() if not one.over]:
            self.leave(ask)
        while self.streams:
            self.end_stream(0)
        self.holds(not any(self.router.standings.in_flight().values()), "nothing is held at the end")
        kept = encode(self.router.standings.dump(self.clock.seconds(), self.wall()))
        wall = self.wall() + pick((0.0, 0.7, 30.0, 4000.0))
        self.fetching.clear()
        self.struck.clear()
        self.retries.clear()
        self.asked_before = len(self.asks)
        for one in self.refusals.values():
            # What is over may be forgotten.
            one.lapsed = one.lapsed or max(one.not_before, one.day_until) <= wall + EXACT
        standings = Standings(chance=self.chance)
        self._begin(wall, standings)
        standings.restore(decode(kept)[1], self.clock.seconds(), wall)

    def possible(self) -> Iterator[Callable[[Pick[Any]], None]]:
        """Return the actions that there are now; what comes more often comes more often."""
        yield from (self.clients_come, self.clients_come, self.time_passes)
        if self.waiting:
            yield from [self.upstream_answers] * 4
        if any(not one.over for one in self.asks.values()):
            yield self.a_client_leaves
        if any(self.fetching.values()):
            yield from [self.a_token_comes] * 2
        if self.streams:
            yield self.a_stream_ends
        if self.out | self.doubtful:
            yield self.the_operator_clears_one
        if self.halted:
            yield from (self.the_operator_says_go, self.the_gateway_restarts)
        if self.steps % 5 == 4:
            yield from (self.the_operator_switches_one, self.the_gateway_restarts)

    # What holds at any time, and in the end.

    def check(self) -> None:
        """Raise AssertionError where something does not hold."""
        assert not self.broken, self.broken
        assert set(self.router.standings.halts.all()) == self.halted, "an upstream stands still for its reasons alone"
        if self.renews:
            # Who waits may wait for a token, or have waited for one in vain.
            return
        waiting = [one for one in self.asks.values() if self.fresh(one)]
        for name in {one.model for one in waiting}:
            for credential in self.by_name.values():
                full = 0 < credential.terms.max_concurrent <= self.busy(credential)
                known = any(key in self.refusals for key in self.keys(credential, name))
                assert full or known or not self.in_use(credential), f"{credential.name} is free, and somebody waits"
            assert not [row for row in explain(self.router, name) if row.chosen], "no starvation"
        for one in waiting:
            assert self.wall() - one.came <= self.plan.queue + EXACT, "nobody waits for longer than allowed"

    def finish(self) -> None:
        """Let everything come to its end, and raise AssertionError where something is left."""
        while self.waiting or self.streams or any(self.fetching.values()) or len(self.router.chooser.waiting):
            for name in [name for name, waiting in self.fetching.items() if waiting]:
                self.grant(name, "good")
            while self.waiting:
                self.good(self.waiting[0])
            while self.streams:
                self.end_stream(0)
            self.clock.advance(1.0)
        self.check()
        assert all(one.over for one in self.asks.values()), "everybody has an answer"
        assert not any(self.router.standings.in_flight().values()), "nothing is held"
        assert not self.clock.getDelayedCalls(), "no timer is left"


ANSWERS = (
    *["good"] * 6, *["minute"] * 4, *["unauthenticated"] * 3, *["fault"] * 3, "day", "day", "revoked",
    *["owner_must_act"] * 2,
)  # fmt: skip
"""What upstream answers, as often as it stands here."""
