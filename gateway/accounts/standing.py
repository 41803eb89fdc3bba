"""What every credential is good for right now.

Standing is kept by (quota owner, model), because Google counts quotas by project and model, by credential for what
condemns it as a whole, and by upstream for what endangers all of its accounts.  Times are seconds of a monotonic
clock and come in as arguments; what is kept over a restart is told in wall time.  Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set
from typing import Any

import attrs
import msgspec

from gateway.accounts.bases import Bases
from gateway.accounts.doubts import Doubts
from gateway.accounts.halts import Halts
from gateway.accounts.pace import Pace
from gateway.accounts.quarantines import Quarantine, Quarantines
from gateway.accounts.rests import ANY, PROBE_EVERY_SECONDS, Availability, Rest, State
from gateway.accounts.usage import Usage, amount, finite
from gateway.calls import Credential

COOL_LIMIT_SECONDS = 26 * 3600.0
"""No rest is longer: a day's quota, and the hour that the clocks may go back by."""
FORGET_SECONDS = 120.0
"""How long after a rest it still counts that there was one: twice the longest that a guess grows to."""
LONG_SECONDS = 1800.0
"""From here on a rest is probed now and then, because what ordered it may have been wrong."""
PROBE_JITTER = 0.2
"""A probe of a long rest comes later by up to this share: those that were sent to rest together are not tried so."""

Pair = tuple[str, str]


_GOOD = Availability(State.OK, True)


class Condemned(msgspec.Struct, frozen=True):
    """What a quarantine changed."""

    new: bool
    """Whether the credential was in until now."""
    halts: bool
    """Whether it stops its whole upstream."""


NOBODY = Condemned(False, False)


class Lease(msgspec.Struct, eq=False):
    """One request's use of a credential for a model."""

    credential: Credential
    model: str
    open: bool = True
    since: float = 0.0
    probes: list[tuple[Pair, Rest]] = []
    """The rests of which it is the probe."""

    @property
    def probe(self) -> bool:
        """Whether it is the probe of something half-open."""
        return bool(self.probes)


@attrs.define(eq=False, repr=False)
class Standings:
    """The standings of all credentials of the process."""

    chance: Callable[[], float] = lambda: 0.0
    """A number from 0 to below 1: when within its share of jitter a probe goes out."""
    version: int = 0
    """Grows with every change that is to survive a restart."""
    _rests: dict[Pair, Rest] = attrs.field(factory=dict)
    _quarantines: Quarantines = attrs.field(factory=Quarantines)
    _disabled: set[Pair] = attrs.field(factory=set)
    halts: Halts = attrs.field(factory=Halts)
    pace: Pace = attrs.field(factory=Pace)
    usage: Usage = attrs.field(factory=Usage)
    bases: Bases = attrs.field(factory=Bases)
    doubts: Doubts = attrs.field(factory=Doubts)

    def availability(self, credential: Credential, model: str, now: float) -> Availability:
        """Return what a credential is to a model now."""
        out = self._quarantines
        if not (self._rests or self._disabled or out.condemned or out.lacking or self.halts.halted):
            # On most days nothing is held against anybody, and every request asks.
            return _GOOD
        barred = self._barred(credential)
        if barred is not None:
            return barred
        found = [self._of(rest, model, now) for _, rest in self._resting(credential, model)]
        if not found:
            return _GOOD
        # The one that is over last decides, and one that is not over before one that is to be tried.
        return max(found, key=lambda one: (not one.usable, one.free_at or 0.0))

    def _barred(self, credential: Credential) -> Availability | None:
        halted = self.halts.why(credential.upstream)
        if halted:
            return Availability(State.HALTED, False, None, halted)
        if _key(credential) in self._disabled:
            return Availability(State.DISABLED, False, None, "DISABLED")
        quarantine = self.quarantined(credential)
        return None if quarantine is None else Availability(State.QUARANTINED, False, None, quarantine.reason)

    def _of(self, rest: Rest, model: str, now: float) -> Availability:
        if rest.probe_since is None:
            return rest.availability(now)
        return rest.availability(now, self.pace.left(model, now - rest.probe_since))

    def lease(self, credential: Credential, model: str, now: float) -> Lease:
        """Take note that a request goes out; it is the probe of what is half-open."""
        self.version += self.usage.begin(credential, now)
        lease = Lease(credential, model, since=now)
        if self._rests:
            self._probes(lease, now)
        return lease

    def holds(self, lease: Lease, now: float) -> bool:
        """Say whether a credential may be used that was leased before a wait; it becomes the probe of what is over."""
        if self._barred(lease.credential) is not None:
            return False
        if not self._rests:
            return True
        self._probes(lease, now)
        probed = [rest for _, rest in lease.probes]
        return all(rest in probed for _, rest in self._resting(lease.credential, lease.model))

    def _probes(self, lease: Lease, now: float) -> None:
        for pair, rest in self._resting(lease.credential, lease.model):
            if rest.begin_probe(now, self._probe_again(now)):
                lease.probes.append((pair, rest))

    def _resting(self, credential: Credential, model: str) -> list[tuple[Pair, Rest]]:
        """Return what rests in the way of a credential for a model; on most days nothing does, and names cost time."""
        if not self._rests:
            return []
        return [(pair, self._rests[pair]) for pair in _pairs(credential, model) if pair in self._rests]

    def release(self, lease: Lease) -> None:
        """Take note that a request is over, once; a probe that decided nothing leaves its pair half-open."""
        if not lease.open:
            return
        lease.open = False
        self.usage.end(lease.credential)
        for _, rest in lease.probes:
            rest.probe_since = None

    def succeeded(self, lease: Lease) -> None:
        """Take note of a good answer.

        Only a probe ends a rest, and only the one that it probed: another request that was under way when the rest
        began says nothing about the quota since.
        """
        for pair, rest in lease.probes:
            if self._rests.get(pair) is rest:
                del self._rests[pair]
                self.version += 1

    def cool(
        self, credential: Credential, model: str, until: float, now: float, reason: str = "", own: bool = False
    ) -> None:
        """Let (quota owner, model) rest until a time; a longer rest already ordered stands.

        With ``own`` it is the credential alone that rests, for ``ANY`` model or one, and not all of its project.
        """
        pair = (_own(credential) if own else credential.owner, model)
        until = min(until, now + COOL_LIMIT_SECONDS)
        old = self._rests.get(pair)
        if old is not None and old.until > until:
            until, reason = old.until, old.reason
        self._rests[pair] = Rest(until, (old.strikes if old else 0) + 1, reason, self._probe_at(until, now))
        self.version += 1

    def strikes(self, credential: Credential, model: str, own: bool = False) -> int:
        """Return how often what ``cool`` names was sent to rest since it was last good, at most 30 times.

        Callers raise two to this power, which a day of refusals would take beyond any float.
        """
        rest = self._rests.get((_own(credential) if own else credential.owner, model))
        return min(rest.strikes, 30) if rest else 0

    def unusable(self, credential: Credential, reason: str, link: str = "") -> None:
        """Take a credential out for what is missing in its configuration, until it is there."""
        self._quarantines.unusable(credential, reason, link)

    def usable(self, credential: Credential) -> None:
        """Take back ``unusable``."""
        self._quarantines.usable(credential)

    def quarantine(
        self, credential: Credential, reason: str, link: str, now: float, wall: float, needs_owner: bool = False
    ) -> Condemned:
        """Take a credential out until somebody acts.

        Two that ``needs_owner`` within ten minutes halt their upstream: what struck two accounts may be about to
        strike them all.
        """
        if not self._quarantines.condemn(credential, reason, link, wall):
            return NOBODY
        self.version += 1
        if not needs_owner:
            return Condemned(True, False)
        return Condemned(True, self.halts.struck(credential.upstream, credential.name, now))

    def quarantined(self, credential: Credential) -> Quarantine | None:
        """Return why a credential is out, None where it is in."""
        return self._quarantines.find(credential)

    def rotated(self, credential: Credential, mark: str) -> None:
        """Take note that a credential has a new secret, whose mark it will go by from the next start on."""
        self.version += self._quarantines.rotated(credential, mark)

    def resume(self, upstream: str) -> bool:
        """Let a halted upstream go on; say whether it was halted."""
        self.version += 1
        return self.halts.resume(upstream)

    def set_enabled(self, credential: Credential, enabled: bool) -> None:
        """Let an operator take a credential out, or put it in again."""
        if enabled:
            self._disabled.discard(_key(credential))
        else:
            self._disabled.add(_key(credential))
        self.version += 1

    def clear(self, credential: Credential) -> None:
        """Forget what is held against a credential: its quarantine, and its owner's rests for all models.

        What its configuration lacks, it lacks still.
        """
        self._quarantines.acquit(credential)
        self.halts.mended(*_key(credential))
        for pair in [pair for pair in self._rests if pair[0] in (credential.owner, _own(credential))]:
            del self._rests[pair]
        self.version += 1

    def forget(self, credential: Credential) -> None:
        """Take note that a credential is there no more; what is held against its secret or its owner stands."""
        self.usable(credential)
        self.usage.forget(_key(credential))

    def retain(self, names: Mapping[str, Set[str]]) -> None:
        """Of the upstreams that are named, forget the use and the switches of all credentials but these.

        An upstream that the configuration leaves out for a while finds its own as they were.
        """
        for upstream, name in [*self._disabled, *self.usage.known()]:
            if name not in names.get(upstream, (name,)):
                self._disabled.discard((upstream, name))
                self.usage.forget((upstream, name))

    def rests(self, credential: Credential, now: float) -> dict[str, Availability]:
        """Return the models for which a credential's owner is not known to be good."""
        owners = (credential.owner, _own(credential))
        return {model: self.availability(credential, model, now) for owner, model in self._rests if owner in owners}

    def load(self, credential: Credential) -> tuple[int, int]:
        """Return how busy a credential is: requests in flight, then when it was last chosen."""
        return self.usage.load(credential)

    def in_flight(self) -> Mapping[Pair, int]:
        """Return the requests in flight by (upstream, credential)."""
        return self.usage.in_flight()

    def prune(self, now: float) -> None:
        """Forget rests that are long over, so that a client's invented model names leave nothing behind."""
        for pair, rest in list(self._rests.items()):
            if rest.until + FORGET_SECONDS <= now and rest.probe_since is None:
                del self._rests[pair]
        self.bases.prune(now)
        self.doubts.prune(now)

    def dump(self, now: float, wall: float) -> dict[str, Any]:
        """Return what is kept over a restart, as plain values with wall-clock times."""
        return {
            "rests": [
                {
                    "owner": owner,
                    "model": model,
                    "until": wall + rest.until - now,
                    "strikes": rest.strikes,
                    "reason": rest.reason,
                }
                for (owner, model), rest in self._rests.items()
                if rest.until > now
            ],
            "quarantined": self._quarantines.dump(),
            "disabled": [{"upstream": upstream, "name": name} for upstream, name in sorted(self._disabled)],
            "halted": self.halts.dump(),
            "used": self.usage.dump(now, wall),
        }

    def _probe_at(self, until: float, now: float) -> float:
        return self._probe_again(now) if until - now > LONG_SECONDS else math.inf

    def _probe_again(self, now: float) -> float:
        return now + PROBE_EVERY_SECONDS * (1 + PROBE_JITTER * self.chance())

    def restore(self, kept: Mapping[str, Any], now: float, wall: float) -> None:
        """Take up what ``dump`` returned, perhaps long ago or by another clock: no rest exceeds the limit.

        Raises KeyError, TypeError or ValueError where it is not such.
        """
        for row in kept["rests"]:
            seconds = min(amount(row["until"]) - wall, COOL_LIMIT_SECONDS)
            if seconds > 0:
                until = now + seconds
                pair = (str(row["owner"]), str(row["model"]))
                strikes, reason = int(finite(row["strikes"])), str(row["reason"])
                self._rests[pair] = Rest(until, strikes, reason, self._probe_at(until, now))
        self._quarantines.restore(kept["quarantined"])
        for row in kept["disabled"]:
            self._disabled.add((str(row["upstream"]), str(row["name"])))
        self.halts.restore(kept["halted"])
        self.usage.restore(kept.get("used", ()), now, wall)


def _key(credential: Credential) -> Pair:
    return (credential.upstream, credential.name)


def _own(credential: Credential) -> str:
    """Return the name under which a credential rests by itself; no quota owner's name is like it."""
    return f"self:{credential.upstream}/{credential.name}"


def _pairs(credential: Credential, model: str) -> tuple[Pair, Pair, Pair]:
    own = _own(credential)
    return (credential.owner, model), (own, model), (own, ANY)
