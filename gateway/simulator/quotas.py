"""Quotas by credential and model that run out and refill.  Pure: time is an argument."""

from fnmatch import fnmatchcase
from typing import Annotated

import attrs
from msgspec import Meta, Struct, to_builtins

from gateway.simulator.reasons import Refusal, Scene, refuse

DAY = 86_400.0


class Quota(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """So many ``requests`` in each ``window`` seconds, and so many ``daily`` in each 24 hours.

    Windows begin with the first request in them and refill at once when they end.  credential (an API key, or
    an account) and model take wildcards; each credential and model that fits counts on its own.
    """

    credential: str = "*"
    model: str = "*"
    requests: Annotated[int, Meta(ge=0)] | None = None
    window: Annotated[float, Meta(gt=0)] = 60.0
    daily: Annotated[int, Meta(ge=0)] | None = None


@attrs.define
class Window:
    """When a window began, and what was used in it."""

    began: float
    used: int = 0


#: Face to the reasons of a short and of a long refusal.
REFUSALS = {"codeassist": ("RATE_LIMIT_EXCEEDED", "QUOTA_EXHAUSTED")}


@attrs.define(eq=False)
class Quotas:
    """All quotas with what has been used of them; the last one that fits a request holds."""

    quotas: list[Quota] = attrs.Factory(list)
    windows: dict[tuple[str, str, float], Window] = attrs.Factory(dict)

    def set(self, quota: Quota) -> None:
        """Add a quota; one for the same credential and model is replaced."""
        same = (quota.credential, quota.model)
        self.quotas = [q for q in self.quotas if (q.credential, q.model) != same] + [quota]

    def find(self, credential: str, model: str) -> Quota | None:
        """The quota of a credential and model."""
        for quota in reversed(self.quotas):
            if fnmatchcase(credential, quota.credential) and fnmatchcase(model, quota.model):
                return quota
        return None

    def _window(self, credential: str, model: str, length: float, now: float) -> Window:
        key = (credential, model, length)
        found = self.windows.get(key)
        if found is None or now - found.began >= length:
            found = self.windows[key] = Window(now)
        return found

    def take(self, credential: str, model: str, now: float, scene: Scene) -> None:
        """Count one request; raises the 429 of the face when the quota is used up."""
        quota = self.find(credential, model)
        if quota is None:
            return
        short, long = REFUSALS.get(scene.face, ("PER_MINUTE", "PER_DAY"))
        limits = ((quota.daily, DAY, long), (quota.requests, quota.window, short))
        held: list[Window] = []
        for limit, length, name in limits:
            if limit is None:
                continue
            window = self._window(credential, model, length, now)
            if window.used >= limit:
                raise self._refusal(name, window.began + length - now, scene)
            held.append(window)
        for window in held:
            window.used += 1

    def _refusal(self, name: str, seconds: float, scene: Scene) -> Refusal:
        # Google's daily refusals carry a RetryInfo of 37 s, however long the day still is.
        told = None if name == "PER_DAY" else seconds
        return refuse(name, attrs.evolve(scene, seconds=told))

    def left(self, credential: str, model: str, now: float) -> tuple[int | None, float, float]:
        """How many requests remain (None: no limit), which share of the quota, and when it refills."""
        quota = self.find(credential, model)
        if quota is None:
            return None, 1.0, now + DAY
        found: list[tuple[float, int, float]] = []
        for limit, length in ((quota.daily, DAY), (quota.requests, quota.window)):
            if limit is not None:
                window = self._window(credential, model, length, now)
                rest = max(0, limit - window.used)
                found.append((rest / limit if limit else 0.0, rest, window.began + length))
        if not found:
            return None, 1.0, now + DAY
        share, rest, ends = min(found)
        return rest, share, ends

    def report(self) -> list[object]:
        """The quotas as JSON."""
        return [to_builtins(quota) for quota in self.quotas]
