"""What every credential is good for right now.

Standing is kept by (quota owner, model), because Google counts quotas by project and model, by credential for what
condemns it as a whole, by upstream for what endangers all of its accounts, and by base URL for the backend's own
health.  Times are seconds of a monotonic clock and come in as arguments; what is kept over a restart is told in wall
time.  Pure.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from typing import Any

import attrs

from gateway.calls import Credential

COOL_LIMIT_SECONDS = 26 * 3600.0
"""No rest is longer: a day's quota, and the hour that the clocks may go back by."""
FORGET_SECONDS = 120.0
"""How long after a rest it still counts that there was one: twice the longest that a guess grows to."""
LONG_SECONDS = 1800.0
"""From here on a rest is probed now and then, because what ordered it may have been wrong."""
PROBE_EVERY_SECONDS = 900.0
PROBE_WAIT_SECONDS = 1.0
"""What somebody is told to wait who comes while a probe is out."""
HALT_WITHIN_SECONDS = 600.0
HALT_COUNT = 2
EJECT_AFTER = 5
EJECT_SECONDS = 30.0
EJECT_LIMIT_SECONDS = 300.0

Pair = tuple[str, str]


class State(enum.Enum):
    """What a credential is to a model at one moment."""

    OK = "ok"
    COOLING = "cooling"
    HALF_OPEN = "half-open"
    QUARANTINED = "quarantined"
    DISABLED = "disabled"
    HALTED = "halted"


@attrs.frozen
class Availability:
    """Whether a credential may be used for a model now."""

    state: State
    usable: bool
    free_at: float | None = None
    """When it may be used again, if time alone decides."""
    reason: str = ""


@attrs.frozen
class Quarantine:
    """Why a credential is out until somebody acts."""

    reason: str
    link: str = ""
    since_wall: float = 0.0
    kept: bool = True
    """Whether it outlasts a restart."""
    mark: str = ""
    """The credential's mark when it was condemned."""


@attrs.frozen
class Condemned:
    """What a quarantine changed."""

    new: bool
    """Whether the credential was in until now."""
    halts: bool
    """Whether it stops its whole upstream."""


@attrs.define(eq=False)
class Lease:
    """One request's use of a credential for a model."""

    credential: Credential
    model: str
    probe: bool
    open: bool = True
    since: float = 0.0


@attrs.define(eq=False)
class _Rest:
    until: float
    strikes: int
    reason: str
    probe_at: float
    probing: bool = False


@attrs.define(eq=False)
class _Base:
    failures: int = 0
    """In a row."""
    ejections: int = 0
    until: float = -math.inf


@attrs.define(eq=False)
class Standings:
    """The standings of all credentials of the process."""

    version: int = 0
    """Grows with every change that is to survive a restart."""
    _rests: dict[Pair, _Rest] = attrs.field(factory=dict)
    _model_bases: dict[Pair, float] = attrs.field(factory=dict)
    _bases: dict[str, _Base] = attrs.field(factory=dict)
    _quarantined: dict[Pair, Quarantine] = attrs.field(factory=dict)
    _disabled: set[Pair] = attrs.field(factory=set)
    _halted: dict[str, str] = attrs.field(factory=dict)
    _condemned_at: dict[str, list[float]] = attrs.field(factory=dict)
    _in_flight: dict[Pair, int] = attrs.field(factory=dict)
    _used: dict[Pair, int] = attrs.field(factory=dict)
    _uses: int = 0
    _turns: dict[Pair, float] = attrs.field(factory=dict)
    """When a credential's next turn begins, in the virtual time of its priority: each use takes 1 / weight."""
    _virtual: dict[int, float] = attrs.field(factory=dict)
    """By priority: when the turn of the last use began."""

    def availability(self, credential: Credential, model: str, now: float) -> Availability:
        """Return what a credential is to a model now."""
        key = _key(credential)
        if credential.upstream in self._halted:
            return Availability(State.HALTED, False, None, self._halted[credential.upstream])
        if key in self._disabled:
            return Availability(State.DISABLED, False, None, "DISABLED")
        quarantine = self.quarantined(credential)
        if quarantine is not None:
            return Availability(State.QUARANTINED, False, None, quarantine.reason)
        rest = self._rests.get((credential.owner, model))
        if rest is None:
            return Availability(State.OK, True)
        if now < rest.until and now < rest.probe_at:
            return Availability(State.COOLING, False, min(rest.until, rest.probe_at), rest.reason)
        if rest.probing:
            free_at = max(min(rest.until, rest.probe_at), now) + PROBE_WAIT_SECONDS
            return Availability(State.HALF_OPEN, False, free_at, rest.reason)
        return Availability(State.HALF_OPEN, True, None, rest.reason)

    def lease(self, credential: Credential, model: str, now: float) -> Lease:
        """Take note that a request goes out; one on a half-open pair is its probe."""
        key = _key(credential)
        self._in_flight[key] = self._in_flight.get(key, 0) + 1
        self._uses += 1
        self._used[key] = self._uses
        turn = self._turn(credential)
        self._virtual[credential.terms.priority] = turn
        self._turns[key] = turn + 1 / credential.terms.weight
        rest = self._rests.get((credential.owner, model))
        probe = rest is not None and not rest.probing and now >= min(rest.until, rest.probe_at)
        if rest is not None and probe:
            rest.probing = True
        return Lease(credential, model, probe, since=now)

    def release(self, lease: Lease) -> None:
        """Take note that a request is over, once; a probe that decided nothing leaves its pair half-open."""
        if not lease.open:
            return
        lease.open = False
        self._in_flight[_key(lease.credential)] -= 1
        rest = self._rests.get((lease.credential.owner, lease.model))
        if lease.probe and rest is not None:
            rest.probing = False

    def succeeded(self, lease: Lease) -> None:
        """Take note of a good answer.

        Only a probe ends a rest: another request that was under way when the rest began says nothing about the
        quota since.
        """
        pair = (lease.credential.owner, lease.model)
        if lease.probe and pair in self._rests:
            del self._rests[pair]
            self.version += 1

    def cool(self, credential: Credential, model: str, until: float, now: float, reason: str = "") -> None:
        """Let (quota owner, model) rest until a time; a longer rest already ordered stands."""
        pair = (credential.owner, model)
        until = min(until, now + COOL_LIMIT_SECONDS)
        old = self._rests.get(pair)
        if old is not None and old.until > until:
            until, reason = old.until, old.reason
        probe_at = now + PROBE_EVERY_SECONDS if until - now > LONG_SECONDS else math.inf
        self._rests[pair] = _Rest(until, (old.strikes if old else 0) + 1, reason, probe_at)
        self.version += 1

    def strikes(self, credential: Credential, model: str) -> int:
        """Return how often (quota owner, model) was sent to rest since it was last good, at most 30 times.

        Callers raise two to this power, which a day of refusals would take beyond any float.
        """
        rest = self._rests.get((credential.owner, model))
        return min(rest.strikes, 30) if rest else 0

    def unusable(self, credential: Credential, reason: str) -> None:
        """Take a credential out for what is missing in its configuration, until the next start."""
        self._quarantined[_key(credential)] = Quarantine(reason, kept=False, mark=credential.mark)

    def quarantine(
        self, credential: Credential, reason: str, link: str, now: float, wall: float, needs_owner: bool = False
    ) -> Condemned:
        """Take a credential out until somebody acts.

        Two that ``needs_owner`` within ten minutes halt their upstream: what struck two accounts may be about to
        strike them all.
        """
        key = _key(credential)
        if self.quarantined(credential) is not None:
            return Condemned(False, False)
        self._quarantined[key] = Quarantine(reason, link, wall, mark=credential.mark)
        self.version += 1
        if not needs_owner:
            return Condemned(True, False)
        recent = [at for at in self._condemned_at.get(credential.upstream, []) if now - at < HALT_WITHIN_SECONDS]
        recent.append(now)
        self._condemned_at[credential.upstream] = recent
        if len(recent) < HALT_COUNT or credential.upstream in self._halted:
            return Condemned(True, False)
        self._halted[credential.upstream] = "POOL_HALTED"
        return Condemned(True, True)

    def quarantined(self, credential: Credential) -> Quarantine | None:
        """Return why a credential is out, None where it is in."""
        found = self._quarantined.get(_key(credential))
        return found if found is not None and found.mark == credential.mark else None

    def halted(self) -> Mapping[str, str]:
        """Return the upstreams that stand still until an operator says go, and why."""
        return dict(self._halted)

    def resume(self, upstream: str) -> bool:
        """Let a halted upstream go on; say whether it was halted."""
        self._condemned_at.pop(upstream, None)
        self.version += 1
        return self._halted.pop(upstream, None) is not None

    def set_enabled(self, credential: Credential, enabled: bool) -> None:
        """Let an operator take a credential out, or put it in again."""
        if enabled:
            self._disabled.discard(_key(credential))
        else:
            self._disabled.add(_key(credential))
        self.version += 1

    def clear(self, credential: Credential) -> None:
        """Forget what is held against a credential: its quarantine, and its owner's rests for all models."""
        self._quarantined.pop(_key(credential), None)
        for pair in [pair for pair in self._rests if pair[0] == credential.owner]:
            del self._rests[pair]
        self.version += 1

    def rests(self, credential: Credential, now: float) -> dict[str, Availability]:
        """Return the models for which a credential's owner is not known to be good."""
        return {
            model: self.availability(credential, model, now)
            for owner, model in self._rests
            if owner == credential.owner
        }

    def base_until(self, base: str, model: str, now: float) -> float:
        """Return until when other bases are better for a model; ``now`` or earlier where this one is good."""
        whole = self._bases.get(base)
        return max(self._model_bases.get((base, model), now), whole.until if whole else now)

    def cool_base(self, base: str, model: str, until: float) -> None:
        """Prefer other bases for a model until a time."""
        self._model_bases[base, model] = max(until, self._model_bases.get((base, model), until))

    def base_failed(self, base: str, now: float) -> float:
        """Count a failure of the backend's own; the fifth in a row ejects the base.

        Returns for how many seconds it is ejected by this one, 0 where it is not.  An ejected base comes last,
        it is never out.
        """
        state = self._bases.setdefault(base, _Base())
        state.failures += 1
        if state.failures < EJECT_AFTER:
            return 0.0
        state.failures = 0
        state.ejections += 1
        seconds = min(EJECT_SECONDS * state.ejections, EJECT_LIMIT_SECONDS)
        state.until = now + seconds
        return seconds

    def base_answered(self, base: str) -> None:
        """Take note that a base does its work."""
        self._bases.pop(base, None)

    def load(self, credential: Credential) -> tuple[int, int]:
        """Return how busy a credential is: requests in flight, then when it was last chosen."""
        key = _key(credential)
        return self._in_flight.get(key, 0), self._used.get(key, 0)

    def share(self, credential: Credential) -> tuple[float, float, int]:
        """Return how busy a credential is for its weight: requests in flight, then as ``turn``."""
        return (self._in_flight.get(_key(credential), 0) / credential.terms.weight, *self.turn(credential))

    def turn(self, credential: Credential) -> tuple[float, int]:
        """Return when it is a credential's turn among those of its priority, then when it was last chosen.

        Turns come in proportion to the weights, as in start-time fair queueing; one that was idle gets no more
        than its next turn for it.
        """
        return self._turn(credential), self._used.get(_key(credential), 0)

    def _turn(self, credential: Credential) -> float:
        return max(self._turns.get(_key(credential), 0.0), self._virtual.get(credential.terms.priority, 0.0))

    def full(self, credential: Credential) -> bool:
        """Say whether a credential has as many requests in flight as it may."""
        most = credential.terms.max_concurrent
        return most > 0 and self._in_flight.get(_key(credential), 0) >= most

    def in_flight(self) -> Mapping[Pair, int]:
        """Return the requests in flight by (upstream, credential)."""
        return dict(self._in_flight)

    def prune(self, now: float) -> None:
        """Forget rests that are long over, so that a client's invented model names leave nothing behind."""
        for pair, rest in list(self._rests.items()):
            if rest.until + FORGET_SECONDS <= now and not rest.probing:
                del self._rests[pair]
        for pair, until in list(self._model_bases.items()):
            if until <= now:
                del self._model_bases[pair]

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
            "quarantined": [
                {
                    "upstream": upstream,
                    "name": name,
                    "mark": one.mark,
                    "reason": one.reason,
                    "link": one.link,
                    "since": one.since_wall,
                }
                for (upstream, name), one in self._quarantined.items()
                if one.kept
            ],
            "disabled": [{"upstream": upstream, "name": name} for upstream, name in sorted(self._disabled)],
            "halted": [{"upstream": upstream, "reason": reason} for upstream, reason in self._halted.items()],
        }

    def restore(self, kept: Mapping[str, Any], now: float, wall: float) -> None:
        """Take up what ``dump`` returned, perhaps long ago or by another clock: no rest exceeds the limit.

        Raises KeyError, TypeError or ValueError where it is not such.
        """
        for row in kept["rests"]:
            seconds = min(float(row["until"]) - wall, COOL_LIMIT_SECONDS)
            if seconds > 0:
                probe_at = now + PROBE_EVERY_SECONDS if seconds > LONG_SECONDS else math.inf
                pair = (str(row["owner"]), str(row["model"]))
                self._rests[pair] = _Rest(now + seconds, int(row["strikes"]), str(row["reason"]), probe_at)
        for row in kept["quarantined"]:
            key = (str(row["upstream"]), str(row["name"]))
            self._quarantined[key] = Quarantine(
                str(row["reason"]), str(row["link"]), float(row["since"]), mark=str(row["mark"])
            )
        for row in kept["disabled"]:
            self._disabled.add((str(row["upstream"]), str(row["name"])))
        for row in kept["halted"]:
            self._halted[str(row["upstream"])] = str(row["reason"])


def _key(credential: Credential) -> Pair:
    return (credential.upstream, credential.name)
