"""How much may be tried again while the backend itself fails.  Pure.

As gRPC's retry throttling (https://github.com/grpc/proposal/blob/master/A6-client-retries.md): every server fault
takes a token, every good answer gives back a part of one, and while the bucket is at most half full nothing is tried
again on account of a server fault.  Faults of credentials do not draw on it: rotating away from them is the pool's
purpose, and costs the backend nothing.
"""

from __future__ import annotations

import attrs

TOKENS = 10.0
RATIO = 0.1


@attrs.define(eq=False, repr=False)
class RetryBudget:
    """One upstream's bucket."""

    _tokens: float = TOKENS

    def allows(self) -> bool:
        """Say whether another attempt may follow a server fault now."""
        return self._tokens > TOKENS / 2

    def failed(self) -> None:
        """Take note of a server fault."""
        self._tokens = max(self._tokens - 1.0, 0.0)

    def succeeded(self) -> None:
        """Take note of an answer that the backend was well enough to give."""
        if self._tokens < TOKENS:
            self._tokens = min(self._tokens + RATIO, TOKENS)
