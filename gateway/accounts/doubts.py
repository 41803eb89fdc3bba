"""Who met a server fault lately: nobody's blame, and yet others come first.  Pure."""

from __future__ import annotations

import attrs

from gateway.calls import Credential

FIRST_SECONDS = 1.0
MOST_SECONDS = 30.0

Key = tuple[str, str, str]


@attrs.define(eq=False, repr=False)
class Doubts:
    """Doubts about (credential, model).

    Google may fail for one project and serve the next.  A server fault does not say which, so whoever met it comes
    after its equals for a while, longer each time, and is never out; one good answer ends the doubt.  Times are
    seconds of a monotonic clock.
    """

    until: dict[Key, float] = attrs.field(factory=dict)
    """Empty while there is no doubt about anybody."""
    _times: dict[Key, int] = attrs.field(factory=dict)

    def failed(self, credential: Credential, model: str, now: float) -> None:
        """Take note of a server fault; those that come while there is a doubt already tell nothing new."""
        key = (credential.upstream, credential.name, model)
        if self.until.get(key, now) <= now:
            times = self._times.get(key, 0)
            self.until[key] = now + min(FIRST_SECONDS * 2 ** min(times, 30), MOST_SECONDS)
            self._times[key] = times + 1

    def answered(self, credential: Credential, model: str) -> None:
        """Take note of a good answer."""
        key = (credential.upstream, credential.name, model)
        self.until.pop(key, None)
        self._times.pop(key, None)

    def about(self, credential: Credential, model: str, now: float) -> bool:
        """Say whether others come before this credential for a model."""
        return self.until.get((credential.upstream, credential.name, model), now) > now

    def prune(self, now: float) -> None:
        """Forget doubts that were over as long ago as the longest lasts."""
        for key, until in list(self.until.items()):
            if until + MOST_SECONDS <= now:
                del self.until[key], self._times[key]
