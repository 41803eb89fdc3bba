"""What a verdict costs: a credential, its quota owner's pair, or a base URL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import attrs
import msgspec
from twisted.internet.interfaces import IReactorTime

from gateway.accounts.rests import ANY
from gateway.accounts.standing import NOBODY, Condemned, Standings
from gateway.calls import Action, Blame, Credential, Verdict
from gateway.routing.budget import RetryBudget

REFUSED_SECONDS = 15.0
"""How long a credential rests after a 401 that a fresh token did not cure; doubled each time in a row."""
REFUSALS_MOST = 5
"""After so many rests, some eight minutes in all, the next such 401 quarantines."""
GROWTH_MOST_SECONDS = 60.0
JITTER = 0.2
JITTER_MOST_SECONDS = 60.0
"""Spreads who comes back; a day's quota need not be waited for an hour longer."""

Budgets = Mapping[str, RetryBudget]
"""By upstream; one that was not seen yet has a full one."""


def budgets() -> Budgets:
    """Return full budgets for all."""
    return defaultdict(RetryBudget)


@attrs.define(eq=False, repr=False)
class Consequences:
    """Lets standings, bases and retry budgets have what verdicts say."""

    clock: IReactorTime
    wall_seconds: Callable[[], float]
    chance: Callable[[], float]
    """A number from 0 to below 1."""
    standings: Standings
    _budgets: Budgets

    def allows(self, upstream: str) -> bool:
        """Say whether another attempt may follow a server fault of an upstream now."""
        return self._budgets[upstream].allows()

    def answered(self, credential: Credential, model: str, base: str, verdict: Verdict | None) -> None:
        """Keep count of the backend's own health, which is not the credential's; None is a good answer."""
        bases, doubts = self.standings.bases, self.standings.doubts
        if verdict is not None and verdict.blame is Blame.BASE:
            now = self.clock.seconds()
            self._budgets[credential.upstream].failed()
            bases.failed(base, now)
            doubts.failed(credential, model, now)
            return
        if bases.failing:
            bases.answered(base)
        if verdict is None:
            if doubts.until:
                doubts.answered(credential, model)
            self._budgets[credential.upstream].succeeded()

    def blame(self, credential: Credential, model: str, base: str | None, verdict: Verdict) -> Condemned:
        """Let whoever a verdict blames suffer for it; ``base`` is where it was given, None where nowhere.

        Returns whom that has taken out.
        """
        now = self.clock.seconds()
        if verdict.action is Action.REFRESH:
            # The token is the credential's for every model, and not its project's.
            model = ANY
            verdict = _refused(verdict, self.standings.strikes(credential, model, own=True))
        if verdict.blame is Blame.PAIR and verdict.cool_seconds > 0:
            seconds = verdict.cool_seconds
            if verdict.grows:
                times = self.standings.strikes(credential, model, verdict.own)
                seconds = min(seconds * 2**times, GROWTH_MOST_SECONDS)
            until = now + self._jittered(seconds)
            self.standings.cool(credential, model, until, now, verdict.reason, verdict.own)
        elif verdict.blame is Blame.CREDENTIAL:
            wall = self.wall_seconds()
            return self.standings.quarantine(
                credential, verdict.reason, verdict.link, now, wall, verdict.needs_owner
            )
        elif verdict.blame is Blame.BASE and base is not None:
            self.rest_base(base, model, verdict)
        return NOBODY

    def rest_base(self, base: str, model: str, verdict: Verdict) -> None:
        """Prefer other bases for a model, for as long as a verdict says."""
        if verdict.cool_seconds > 0:
            until = self.clock.seconds() + self._jittered(verdict.cool_seconds)
            self.standings.bases.cool(base, model, until)

    def _jittered(self, seconds: float) -> float:
        return seconds + min(seconds * JITTER, JITTER_MOST_SECONDS) * self.chance()


def _refused(verdict: Verdict, strikes: int) -> Verdict:
    """Judge a 401 that a fresh token did not cure, or for which there is no other token.

    Identity services have outages of minutes, and nobody would put a credential in again after each: it rests,
    longer each time, and is out only when it was refused again and again.
    """
    if strikes >= REFUSALS_MOST:
        return verdict
    seconds = REFUSED_SECONDS * 2**strikes
    return msgspec.structs.replace(verdict, blame=Blame.PAIR, cool_seconds=seconds, own=True)
