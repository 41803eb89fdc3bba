"""Which requests a fault is for, and when.  Pure: time and chance are arguments."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Annotated

import attrs
from msgspec import UNSET, Meta, Struct, UnsetType, field, to_builtins

from gateway.simulator.actions import Action, Early

Seconds = Annotated[float, Meta(ge=0)]


class Match(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a request must be; every field is optional.

    face, verb, model, credential, method and path take shell wildcards; prompt is a substring of the texts
    that the request sends.
    """

    face: str = "*"
    verb: str = "*"
    model: str = "*"
    credential: str = "*"
    method: str = "*"
    path: str = "*"
    prompt: str = ""


class Rule(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A fault: whom it meets, what it does, how often and when.

    ``times`` is how often it acts in all, ``nth`` picks one matching request by its number from 1, ``each``
    every n-th, ``probability`` a share of them.  ``from`` and ``until`` are seconds after the rule was added;
    ``every`` repeats: with ``lasting`` the rule holds for so long in each period, without it for one request.
    """

    do: Action | list[Action]
    match: Match = Match()
    name: str = ""
    times: Annotated[int, Meta(ge=1)] | None = None
    nth: Annotated[int, Meta(ge=1)] | None = None
    each: Annotated[int, Meta(ge=1)] | None = None
    probability: Annotated[float, Meta(ge=0, le=1)] | None = None
    start: Seconds = field(default=0.0, name="from")
    until: Seconds | None = None
    every: Annotated[float, Meta(gt=0)] | None = None
    lasting: Annotated[float, Meta(gt=0)] | None = None

    def actions(self) -> tuple[Action, ...]:
        """Its actions, one or many."""
        return tuple(self.do) if isinstance(self.do, list) else (self.do,)


@attrs.frozen
class Probe:
    """A request as rules see it.  ``prompt`` is asked for only if a rule needs it."""

    face: str
    verb: str
    model: str
    credential: str
    method: str
    path: str
    prompt: Callable[[], str]

    def fits(self, match: Match) -> bool:
        """Whether the request is one that the match describes."""
        pairs = (
            (self.face, match.face),
            (self.verb, match.verb),
            (self.model, match.model),
            (self.credential, match.credential),
            (self.method, match.method),
            (self.path, match.path),
        )
        fits = all(wanted == "*" or fnmatchcase(value, wanted) for value, wanted in pairs)
        return fits and (not match.prompt or match.prompt in self.prompt())


@attrs.define(eq=False)
class Standing:
    """A rule with its memory."""

    number: int
    rule: Rule
    added: float
    seen: int = 0
    acted: int = 0
    period: int = -1

    def due(self, now: float, chance: Callable[[], float]) -> bool:
        """Whether the rule acts on the matching request that just came; counts it."""
        rule = self.rule
        age = now - self.added - rule.start
        if age < 0 or (rule.until is not None and now - self.added >= rule.until):
            return False
        self.seen += 1
        period = int(age // rule.every) if rule.every else -1
        if rule.every and (age % rule.every >= rule.lasting if rule.lasting else period == self.period):
            return False
        if (rule.times is not None and self.acted >= rule.times) or (rule.nth or self.seen) != self.seen:
            return False
        if (rule.each and self.seen % rule.each) or (rule.probability is not None and chance() >= rule.probability):
            return False
        self.acted += 1
        self.period = period
        return True

    def report(self) -> dict[str, object]:
        """The rule as JSON with its number and counts."""
        return {"id": self.number, "seen": self.seen, "acted": self.acted, **to_builtins(self.rule)}


@attrs.define(eq=False)
class Rules:
    """The faults that are set, in the order in which they were added; the first that is due acts alone."""

    chance: Callable[[], float]
    standing: list[Standing] = attrs.Factory(list)
    added: int = 0

    def add(self, rule: Rule, now: float) -> int:
        """Add a rule; its number is returned."""
        self.added += 1
        self.standing.append(Standing(self.added, rule, now))
        return self.added

    def remove(self, number: int | UnsetType = UNSET) -> int:
        """Remove one rule, or all; how many there were."""
        kept = [s for s in self.standing if number is not UNSET and s.number != number]
        gone = len(self.standing) - len(kept)
        self.standing = kept
        return gone

    def choose(self, probe: Probe, now: float, early: bool | None = False) -> Standing | None:
        """The rule that acts on this request, if any.

        Rules with an ``early`` action are judged at the head, all others when the body is there; None judges both.
        """
        for standing in self.standing:
            is_early = any(isinstance(action, Early) for action in standing.rule.actions())
            if early in (None, is_early) and probe.fits(standing.rule.match) and standing.due(now, self.chance):
                return standing
        return None
