"""Random schedules on a virtual clock: what holds whatever comes, answers, leaves and passes, in any order."""

from __future__ import annotations

import json
import random
from typing import Any

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import Credential, GatewayError, HttpRequest, Journal, Terms
from gateway.config import RoutingConfig, Timeouts
from gateway.routing.asking import Live
from gateway.routing.explain import explain
from gateway.routing.outcome import Refusal
from gateway.routing.rotation import STRATEGIES
from tests.fakes import (
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

EXACT = 1e-6
"""What sums of seconds may be off by."""

QUOTA = st.sampled_from([1, 3, 10, 60])
PASSING = st.sampled_from([0.0, 0.001, 0.5, 1.0, 1.0, 2.0, 10.0])


@attrs.define(eq=False)
class Ask:
    """One client's request."""

    number: int
    model: str
    streams: bool
    came: float
    reply: Deferred[Any] = attrs.field(init=False)
    served: list[Credential] = attrs.field(factory=list)
    over: bool = False
    """Whether it has its answer, its first byte, or nobody who waits for it."""


@attrs.define(eq=False)
class Outstanding:
    """One request that upstream has not answered."""

    ask: Ask
    credential: Credential
    answer: Deferred[Any]
    probe: bool


@attrs.define
class Rest:
    """What is known of a pair that answered 429."""

    until: float
    probing: bool = False


class Schedules(RuleBasedStateMachine):
    """Clients, an upstream that does as it likes, and a model of what the gateway may know."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.asks: dict[int, Ask] = {}
        self.left: set[int] = set()
        self.waiting: list[Outstanding] = []
        self.streams: list[tuple[Ask, Live]] = []
        self.rests: dict[tuple[str, str], Rest] = {}
        self.out: set[Credential] = set()
        self.broken: list[str] = []

    @initialize(
        strategy=st.sampled_from(sorted(STRATEGIES)),
        pool=st.lists(
            st.tuples(st.sampled_from(["", "", "p"]), st.sampled_from([0, 0, 1, 2]), st.sampled_from([0, 0, 1])),
            min_size=1,
            max_size=5,
        ),
        queue=st.sampled_from([0.0, 5.0, 5.0, 40.0]),
    )
    def begin(self, strategy: str, pool: list[tuple[str, int, int]], queue: float) -> None:
        self.wire = FakeWire(by=self.sent)
        members = []
        for number, (project, most, priority) in enumerate(pool):
            plain = member(f"k{number}", project=project)
            terms = Terms(1.0 + number, priority, most)
            members.append(attrs.evolve(plain, credential=attrs.evolve(plain.credential, terms=terms)))
        self.queue = queue
        self.router = router(
            self.wire,
            self.clock,
            *members,
            routing=RoutingConfig(strategy=strategy),
            timeouts=Timeouts(queue=queue),
        )
        self.by_name = {one.credential.name: one.credential for one in members}

    # What the gateway does is judged here, at every request that it sends; within its calls nothing may be raised.

    def holds(self, so: bool, what: str) -> None:
        if not so:
            self.broken.append(what)

    def sent(self, request: HttpRequest) -> Deferred[Any]:
        ask = self.asks[json.loads(request.body)["number"]]
        credential = self.by_name[dict(request.headers)[b"x-goog-api-key"].decode()]
        now = self.clock.seconds()
        self.holds(not ask.over, "nothing is sent after the first byte, nor for a client that left")
        self.holds(credential not in ask.served, "no credential twice in a request")
        self.holds(credential not in self.out, "none that is in quarantine")
        rest = self.rests.get((credential.owner, ask.model))
        if rest is not None:
            self.holds(now >= rest.until - EXACT, "no call to a cooling pair")
            self.holds(not rest.probing, "one probe at a time")
            rest.probing = True
        if not ask.served:
            older = [one for one in self.asks.values() if one.model == ask.model and self.fresh(one)]
            self.holds(all(one.number >= ask.number for one in older), "nobody is overtaken")
        ask.served.append(credential)
        answer: Deferred[Any] = Deferred()
        self.waiting.append(Outstanding(ask, credential, answer, rest is not None))
        most = credential.terms.max_concurrent
        self.holds(not most or self.busy(credential) <= most, "the cap holds")
        return answer

    def fresh(self, ask: Ask) -> bool:
        return not ask.over and not ask.served

    def busy(self, credential: Credential) -> int:
        held = [one.credential for one in self.waiting] + [ask.served[-1] for ask, _ in self.streams]
        return held.count(credential)

    def replied(self, reply: Any, ask: Ask) -> None:
        ask.over = True
        first_free = self.first_free(ask.model) - self.clock.seconds() - EXACT
        if isinstance(reply, Live):
            self.streams.append((ask, reply))
        elif isinstance(reply, Refusal):
            # Where time alone frees nobody the gateway adds nothing to what upstream said.
            told = float(reply.retry_after or (0 if set(self.by_name.values()) <= self.out else -1))
            self.holds(reply.status != 429 or told >= first_free, "upstream's 429 comes with an honest Retry-After")
        elif isinstance(reply, Failure) and ask.number not in self.left:
            error = reply.value if isinstance(reply.value, GatewayError) else None
            self.holds(error is not None and error.code in (429, 502, 503, 504), f"no other end than ours: {reply}")
            if error is not None and error.code == 429:
                self.holds((error.retry_after_seconds or 0) >= first_free, "Retry-After is honest")
                self.holds(not ask.served, "who was served has upstream's answer")

    def first_free(self, model: str) -> float:
        """When the first credential is back; now where one only has too many requests."""
        now = self.clock.seconds()
        return min(
            (
                max(self.rests.get((one.owner, model), Rest(now)).until, now)
                for one in self.by_name.values()
                if one not in self.out
            ),
            default=now,
        )

    def settle(self, one: Outstanding, cooled: int = 0, good: bool = False) -> None:
        """Take an answer into the model before the gateway hears it."""
        self.waiting.remove(one)
        pair = (one.credential.owner, one.ask.model)
        rest = self.rests.get(pair)
        if one.probe and rest is not None:
            rest.probing = False
        if good and one.probe:
            self.rests.pop(pair, None)
        if cooled:
            until = self.clock.seconds() + cooled
            self.rests[pair] = Rest(max(until, rest.until if rest else until))

    # What may happen.

    @rule(
        model=st.sampled_from(["m", "m", "n"]),
        session=st.sampled_from(["", "s", "t"]),
        streams=st.booleans(),
        count=st.integers(1, 5),
    )
    def clients_come(self, model: str, session: str, streams: bool, count: int) -> None:
        for _ in range(count):
            self.one_comes(model, session, streams)

    def one_comes(self, model: str, session: str, streams: bool) -> None:
        ask = Ask(len(self.asks), model, streams, self.clock.seconds())
        self.asks[ask.number] = ask
        make = stream_call if streams else call
        body = b'{"number":%d}' % ask.number
        ask.reply = run(self.router.run(make(model=model, session=session, body=body), Journal(str(ask.number))))
        ask.reply.addBoth(self.replied, ask)

    @precondition(lambda self: any(not ask.over for ask in self.asks.values()))
    @rule(data=st.data())
    def a_client_leaves(self, data: st.DataObject) -> None:
        ask = data.draw(st.sampled_from([one for one in self.asks.values() if not one.over]))
        self.left.add(ask.number)
        ask.over = True
        for one in [one for one in self.waiting if one.ask is ask]:
            self.settle(one)
        ask.reply.cancel()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def upstream_answers(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.waiting))
        self.settle(one, good=True)
        one.answer.callback(stream(event("x")) if one.ask.streams else ok())

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), seconds=QUOTA)
    def quota_is_used_up(self, data: st.DataObject, seconds: int) -> None:
        one = data.draw(st.sampled_from(self.waiting))
        self.settle(one, cooled=seconds)
        one.answer.callback(
            refused(429, "RESOURCE_EXHAUSTED", reason("RATE_LIMIT_EXCEEDED"), retry_info(f"{seconds}s"))
        )

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), code=st.sampled_from([500, 503, 400, 404]))
    def upstream_fails(self, data: st.DataObject, code: int) -> None:
        one = data.draw(st.sampled_from(self.waiting))
        self.settle(one)
        one.answer.callback(refused(code, "UNAVAILABLE"))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def a_key_is_revoked(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.waiting))
        self.settle(one)
        self.out.add(one.credential)
        one.answer.callback(refused(400, "INVALID_ARGUMENT", reason("API_KEY_INVALID")))

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def the_operator_clears_one(self, data: st.DataObject) -> None:
        credential = data.draw(st.sampled_from(sorted(self.out, key=lambda one: one.name)))
        self.out.remove(credential)
        for pair in [pair for pair in self.rests if pair[0] == credential.owner]:
            del self.rests[pair]
        self.router.standings.clear(credential)
        self.router.chooser.waiting.offer()

    @precondition(lambda self: self.streams)
    @rule(data=st.data())
    def a_stream_ends(self, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(self.streams) - 1))
        _, live = self.streams.pop(at)
        live.stream.abort()
        live.release()

    @rule(seconds=PASSING)
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # What holds at any time.

    @invariant()
    def all_that_was_seen_was_right(self) -> None:
        assert not self.broken, self.broken

    @invariant()
    def nobody_waits_while_somebody_is_free(self) -> None:
        for model in {one.model for one in self.asks.values() if self.fresh(one)}:
            assert not [row for row in explain(self.router, model) if row.chosen], "no starvation"

    @invariant()
    def nobody_waits_for_longer_than_allowed(self) -> None:
        for one in self.asks.values():
            assert not self.fresh(one) or self.clock.seconds() - one.came <= self.queue + EXACT

    def teardown(self) -> None:
        while self.asks and (self.waiting or self.streams or len(self.router.chooser.waiting)):
            while self.waiting:
                one = self.waiting[0]
                self.settle(one, good=True)
                one.answer.callback(stream(event("x")) if one.ask.streams else ok())
            while self.streams:
                _, live = self.streams.pop()
                live.stream.abort()
                live.release()
            self.clock.advance(1.0)
        if not self.asks:
            return
        assert not self.broken, self.broken
        assert all(one.over for one in self.asks.values()), "everybody has an answer"
        assert not any(self.router.standings.in_flight().values()), "nothing is held"
        assert not self.clock.getDelayedCalls(), "no timer is left"


class ScheduleTests(SynchronousTestCase):
    """The router under all of them."""

    def test_rules_hold_under_any_schedule(self) -> None:
        """U9, K4, K10, L1: see the assertions above, each of which says what it holds."""
        run_state_machine_as_test(Schedules, settings=settings(max_examples=max(200, settings().max_examples)))


class AmplificationTests(SynchronousTestCase):
    """What a backend in trouble is spared."""

    REQUESTS = 10_000

    def amplification(self, *names: str, share: float) -> float:
        """Return upstream calls per request while a share of all calls fails with 503."""
        chance = random.Random(7)
        clock = Clock()
        wire = FakeWire(by=lambda request: refused(503, "UNAVAILABLE") if chance.random() < share else ok())
        asked = router(wire, clock, *map(member, names))
        asked.chance = chance.random
        for _ in range(self.REQUESTS):
            ended = run(asked.run(call(), Journal("r")))
            ended.addErrback(lambda failure: failure.trap(GatewayError))
            self.successResultOf(ended)
            clock.advance(chance.random() * 0.2)
        return len(wire.requests) / self.REQUESTS

    def test_steady_503_is_hardly_retried(self) -> None:
        """K9: at most 1.10 calls a request while everything answers 503."""
        self.assertLessEqual(self.amplification("a", "b", "c", share=1.0), 1.10)

    def test_backend_that_fails_half_the_time_is_not_stormed(self) -> None:
        """K9: the budget lives on what succeeds, a tenth of an attempt for each."""
        self.assertLessEqual(self.amplification("a", "b", "c", share=0.5), 1.10)
