"""How much one client key may have: requests at a time, and requests a minute.  Pure."""

from __future__ import annotations

import attrs

from gateway.calls import GatewayError
from gateway.config import Limits


@attrs.define(eq=False)
class _Account:
    under_way: int = 0
    left: float = 0.0
    """Requests that may still come at ``at``."""
    at: float = 0.0


@attrs.define(eq=False)
class Allowances:
    """What each client key has used; those that the configuration knows, so they are few."""

    limits: Limits
    _accounts: dict[str, _Account] = attrs.field(factory=dict)

    def enter(self, key_id: str, now: float) -> None:
        """Count a request; raises GatewayError where the key has no more, and then counts nothing."""
        limits = self.limits
        if not limits.key_concurrent and not limits.key_per_minute:
            return
        account = self._accounts.get(key_id)
        if account is None:
            account = self._accounts[key_id] = _Account(left=limits.key_per_minute, at=now)
        if limits.key_concurrent and account.under_way >= limits.key_concurrent:
            raise _refused(
                "KEY_CONCURRENCY_EXCEEDED",
                f"This client key has {account.under_way} requests under way at the gateway, as many as it may"
                " (limits.key_concurrent); wait for one to end.",
                1.0,
            )
        if limits.key_per_minute:
            self._spend(account, now, limits.key_per_minute)
        account.under_way += 1

    def leave(self, key_id: str) -> None:
        """A request that was counted is over."""
        account = self._accounts.get(key_id)
        if account is not None and account.under_way:
            account.under_way -= 1

    @staticmethod
    def _spend(account: _Account, now: float, per_minute: int) -> None:
        left = min(per_minute, account.left + (now - account.at) * per_minute / 60.0)
        account.left, account.at = left, now
        if left < 1.0:
            raise _refused(
                "KEY_RATE_EXCEEDED",
                f"This client key has made the {per_minute} requests a minute that the gateway allows it"
                " (limits.key_per_minute); slow down.",
                (1.0 - left) * 60.0 / per_minute,
            )
        account.left = left - 1.0


def _refused(reason: str, message: str, seconds: float) -> GatewayError:
    return GatewayError(429, "RESOURCE_EXHAUSTED", reason, message, retry_after_seconds=seconds)
