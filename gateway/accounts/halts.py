"""Upstreams that stand still until their operator says go: what struck two may be about to strike all.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

WITHIN_SECONDS = 600.0
COUNT = 2
REASON = "POOL_HALTED"


@attrs.define(eq=False, repr=False)
class Halts:
    """The halted upstreams, and who came near to halting one.  Times are seconds of a monotonic clock."""

    halted: dict[str, str] = attrs.field(factory=dict)
    """Why each of them stands still."""
    _struck: dict[str, dict[str, float]] = attrs.field(factory=dict)
    """By upstream, the credentials whose owners must act, and when that was found."""

    def why(self, upstream: str) -> str:
        """Return why an upstream stands still; empty where it does not."""
        return self.halted.get(upstream, "")

    def all(self) -> Mapping[str, str]:
        """Return the upstreams that stand still, and why."""
        return dict(self.halted)

    def struck(self, upstream: str, name: str, now: float) -> bool:
        """Take note of a credential whose owner must act; say whether its upstream is halted by that."""
        all_of_it = self._struck.get(upstream, {})
        recent = {one: at for one, at in all_of_it.items() if now - at < WITHIN_SECONDS}
        recent[name] = now
        self._struck[upstream] = recent
        if len(recent) < COUNT or upstream in self.halted:
            return False
        self.halted[upstream] = REASON
        return True

    def mended(self, upstream: str, name: str) -> None:
        """Take note that a credential no longer counts."""
        self._struck.get(upstream, {}).pop(name, None)

    def resume(self, upstream: str) -> bool:
        """Let an upstream go on, and count afresh; say whether it was halted."""
        self._struck.pop(upstream, None)
        return self.halted.pop(upstream, None) is not None

    def dump(self) -> list[dict[str, Any]]:
        """Return what is kept over a restart."""
        return [{"upstream": upstream, "reason": reason} for upstream, reason in self.halted.items()]

    def restore(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take up what ``dump`` returned; raises KeyError where it is not such."""
        for row in rows:
            self.halted[str(row["upstream"])] = str(row["reason"])
