"""A request in, a credential and a lease on it out: the pool's rules, sessions, affinity, and the wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from functools import partial
from typing import Any

import attrs
import msgspec
from twisted.internet.interfaces import IReactorTime

from gateway.accounts.standing import Lease, Standings
from gateway.calls import Call, Credential, Decision, GatewayError, HttpRequest, Journal, Option, Secret
from gateway.routing.affinity import Affinity
from gateway.routing.catalog import Catalog
from gateway.routing.decision import options
from gateway.routing.figures import Quotas
from gateway.routing.outcome import Failure
from gateway.routing.pool import Member, candidates
from gateway.routing.queue import Waiting, worth_waiting
from gateway.routing.rotation import FIXED, OVERFLOW, OWNER, Choice, Nobody, Sessions, Strategy, choose

_NONE: frozenset[Any] = frozenset()
KNOWN_MOST = 64
"""Of so many verbs and models it is remembered who may serve them; clients choose the names."""


class Run(msgspec.Struct, eq=False):
    """One request's way through the credentials."""

    call: Call
    journal: Journal
    members: Mapping[Credential, Member]
    deadline: float
    bound_by: str = ""
    """Why the members are all that may serve it, where it is not the pool's rules alone."""
    tried: set[Credential] = set()
    bases: set[str] = set()
    calls: int = 0
    """Requests sent upstream, forced refreshes' repetitions apart."""
    failures: list[Failure] = []
    why: str = ""
    """Why the credential of now was chosen."""
    waited: float = 0.0
    """For how many seconds, before the attempt of now."""
    waited_before: float = 0.0

    def request(self, member: Member, base: str, token: Secret) -> HttpRequest:
        """Return what goes upstream now; where the request is traced, that is an attempt of it."""
        request, trace = member.prepare(self.call, base, token), self.journal.trace
        if trace is None:
            return request
        fields = trace.sent()
        return msgspec.structs.replace(request, headers=(*request.headers, *fields)) if fields else request


class Taken(msgspec.Struct, frozen=True):
    """A credential that is this request's now."""

    choice: Choice
    lease: Lease


@attrs.define(eq=False, repr=False)
class Chooser:
    """Gives credentials to requests, and lets them wait for one."""

    clock: IReactorTime
    standings: Standings
    sessions: Sessions
    affinity: Affinity
    waiting: Waiting[Taken]
    quotas: Quotas = attrs.field(factory=Quotas)
    _members: Sequence[Member] = ()
    _known: dict[tuple[str, str], Mapping[Credential, Member]] = attrs.field(factory=dict)
    """By verb and model, who of these members may serve them."""

    def admitted(self, members: Sequence[Member], call: Call) -> tuple[Mapping[Credential, Member], str]:
        """Return who may serve a call, and why nobody else where that is not the pool's rules alone.

        Raises GatewayError where nobody is meant to serve it; see pool.candidates.
        """
        if call.fixed is not None:
            return self._fixed(members, call, call.fixed), FIXED
        able = self._able(members, call.verb, call.model)
        owner = self.affinity.owner(call.body) if self.affinity.owners else None
        if owner is not None:
            # What belongs to a project can be used by all of its credentials.
            owns = {one: member for one, member in able.items() if (one.kind, one.owner) == (owner.kind, owner.owner)}
            if owns:
                return owns, OWNER
        return able, ""

    def _able(self, members: Sequence[Member], verb: str, model: str) -> Mapping[Credential, Member]:
        """Return the pool's own rules' answer, remembered for as long as the members are the same."""
        if members is not self._members:
            self._members = members
            self._known.clear()
        able = self._known.get((verb, model))
        if able is None:
            able = {member.credential: member for member in candidates(members, verb, model)}
            if len(self._known) >= KNOWN_MOST:
                del self._known[next(iter(self._known))]
            self._known[verb, model] = able
        return able

    @staticmethod
    def _fixed(members: Sequence[Member], call: Call, label: str) -> dict[Credential, Member]:
        named = [member for member in members if member.credential.label == label]
        if not named:
            raise GatewayError(
                404,
                "NOT_FOUND",
                "CREDENTIAL_UNKNOWN",
                f"No credential of this gateway has the label {label[:100]!r}; answers name theirs in"
                " X-Antigravity-Credential. Send one of those, or leave the header out.",
            )
        one = named[0]
        if call.verb not in one.upstream.verbs or not one.serves(call.model):
            raise GatewayError(
                400,
                "INVALID_ARGUMENT",
                "CREDENTIAL_DOES_NOT_SERVE",
                f"The upstream of the credential {label!r} does not serve {call.verb} of the model {call.model!r};"
                " name another credential, or leave the header out.",
            )
        return {one.credential: one}

    def eligible(self, run: Run) -> list[Credential]:
        """Return who may serve a run after the failures it had."""
        able = list(run.members)
        if not run.failures:
            return able
        if run.failures[-1].verdict.other_project:
            owners = {credential.owner for credential in run.tried}
            able = [credential for credential in able if credential.owner not in owners]
        if run.failures[-1].verdict.other_base:
            able = [credential for credential in able if set(run.members[credential].bases) - run.bases]
        return able

    def look(self, run: Run, catalog: Catalog, strategy: Strategy, now: float) -> Choice | Nobody:
        """Return who would be chosen now, and change nothing."""
        call = run.call
        able = self.eligible(run)
        bound = self.sessions.get(call.session, call.model, now) if call.session else None
        preferred: Set[str] = _NONE
        spent: Set[Credential] = _NONE
        pending: Set[Credential] = _NONE
        if len(able) > 1:
            preferred = {one.upstream for one in able if catalog.knows(one.upstream, call.model)}
            spent = self.quotas.spent(able, call.model, now)
            pending = {one for one in able if not run.members[one].tokens.ready}
        choice = choose(able, preferred, self.standings, bound, run.tried, call.model, now, strategy, spent, pending)
        if run.bound_by and isinstance(choice, Choice):
            return Choice(choice.credential, run.bound_by, choice.passed_over)
        return choice

    def claim(
        self, run: Run, catalog: Catalog, strategy: Strategy, explains: bool, began: float | None = None
    ) -> Taken | Nobody:
        """Return the next credential, if somebody is free now; ``began`` is since when the run waits for one."""
        now = self.clock.seconds()
        run.waited = 0.0 if began is None else now - began
        found = self.look(run, catalog, strategy, now)
        if isinstance(found, Nobody):
            return found
        if explains:
            self._record(run, found, now)
        if found.passed_over is not None:
            run.members[found.passed_over].tokens.prefetch()
        return Taken(found, self.standings.lease(found.credential, run.call.model, now))

    async def wait(
        self, run: Run, nobody: Nobody, catalog: Catalog, strategy: Strategy, seconds: float, explains: bool
    ) -> Taken | Nobody:
        """Return the next credential where nobody was free, after up to ``seconds`` of waiting in the whole run."""
        began = self.clock.seconds()
        found: Taken | Nobody = nobody
        left = min(began + seconds - run.waited_before, run.deadline) - began
        if left > 0 and worth_waiting(nobody, began + left) and not self.waiting.full:
            key = (run.call.model, *self.eligible(run)) if not run.tried else run
            claim = partial(self.claim, run, catalog, strategy, explains, began)
            # The wait may end in the very moment in which somebody is free.
            found = await self.waiting.wait(key, claim, left, nobody.free_at) or claim()
            run.waited_before += run.waited
        if explains and isinstance(found, Nobody):
            self._record(run, found, self.clock.seconds())
        return found

    def settle(self, run: Run, taken: Taken, strategy: Strategy) -> None:
        """Put a run's session on the credential that served it, unless it was there as a guest."""
        if strategy.keeps_sessions and not run.bound_by and taken.choice.why != OVERFLOW:
            self.sessions.bind(run.call.session, run.call.model, taken.choice.credential, self.clock.seconds())

    def others(self, run: Run, credential: Credential, now: float) -> bool:
        """Say whether another credential may be tried in this run now."""
        model = run.call.model
        return any(
            self.standings.availability(one, model, now).usable and not self.standings.usage.full(one)
            for one in self.eligible(run)
            if one != credential and one not in run.tried
        )

    def release(self, lease: Lease) -> None:
        """Give a credential back; whoever waits for it gets it."""
        if not lease.open:
            return
        self.standings.release(lease)
        if lease.credential.terms.max_concurrent:
            self.waiting.held(self.clock.seconds() - lease.since)
        if self.waiting.waiters:
            self.waiting.offer()

    def free_in(self, run: Run, now: float) -> tuple[float | None, bool]:
        """Return in how many seconds the first credential may serve such a request, and whether it is busy now.

        None where time alone frees none.
        """
        found: list[float] = []
        places = 0
        for credential in run.members:
            one = self.standings.availability(credential, run.call.model, now)
            if one.usable and self.standings.usage.full(credential):
                places += credential.terms.max_concurrent
            elif one.usable:
                found.append(0.0)
            elif one.free_at is not None:
                found.append(one.free_at - now)
        if places:
            found.append(self.waiting.estimate(places))
        return (min(found) if found else None), places > 0

    def options(self, run: Run, found: Choice | Nobody, now: float) -> tuple[Option, ...]:
        """Return what every candidate of a run is now."""
        return options(run.members, self.standings, found, run.tried, run.call.model, now)

    def _record(self, run: Run, found: Choice | Nobody, now: float) -> None:
        why = found.why if isinstance(found, Choice) else ""
        run.journal.decisions.append(Decision(self.options(run, found, now), why, run.waited))
