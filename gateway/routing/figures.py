"""What is left of the credentials' quotas, as Google tells it: advice, never a ban.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

import attrs
import msgspec

from gateway.calls import Credential
from gateway.upstreams.models import Figure

STALE_SECONDS = 3600.0
"""A figure is no advice when it is older than this."""


class _Told(msgspec.Struct, frozen=True):
    figures: dict[str, Figure]
    at: float


@attrs.define(eq=False, repr=False)
class Quotas:
    """The figures that are known, by credential and model.  Times are monotonic seconds."""

    _told: dict[Credential, _Told] = attrs.field(factory=dict)
    _spent: dict[tuple[Credential, str], float] = attrs.field(factory=dict)
    """What has nothing left, and until when that is believed."""

    def learn(self, credential: Credential, figures: Iterable[Figure], now: float, wall: float) -> None:
        """Take note of all that is known of a credential now; of two figures of one model the lower counts."""
        lowest: dict[str, Figure] = {}
        for figure in figures:
            if figure.model not in lowest or figure.remaining < lowest[figure.model].remaining:
                lowest[figure.model] = figure
        self._forget(credential)
        self._told[credential] = _Told(lowest, now)
        for model, figure in lowest.items():
            if figure.remaining <= 0.0:
                reset = STALE_SECONDS if figure.reset_wall is None else figure.reset_wall - wall
                self._spent[credential, model] = now + min(reset, STALE_SECONDS)

    def keep(self, credentials: Set[Credential]) -> None:
        """Forget all others."""
        for gone in self._told.keys() - credentials:
            self._forget(gone)

    def figures(self, credential: Credential, now: float, wall: float) -> Sequence[Figure]:
        """Return what is left of a credential's quotas, by model; a figure whose quota is full again is dropped."""
        told = self._told.get(credential)
        if told is None or now - told.at > STALE_SECONDS:
            return []
        found = [one for one in told.figures.values() if one.reset_wall is None or one.reset_wall > wall]
        return sorted(found, key=lambda one: one.model)

    def spent(self, credentials: Iterable[Credential], model: str, now: float) -> Set[Credential]:
        """Return those of the credentials that are said to have nothing left for a model."""
        if not self._spent:
            return frozenset()
        return {one for one in credentials if now < self._spent.get((one, model), now)}

    def _forget(self, credential: Credential) -> None:
        self._told.pop(credential, None)
        for key in [key for key in self._spent if key[0] == credential]:
            del self._spent[key]
