"""What the holder of a client key is told whose request is refused: which limit, its value, when it frees.  Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from gateway.calls import GatewayError
from gateway.keys.grants import Grant, dollars, stamp

_TYPE: Final = "type.googleapis.com/google.rpc."
_CONCURRENT_WAIT: Final = 1.0
"""Nobody knows when a request of the key ends; one may ask again after these seconds."""


class Over(msgspec.Struct, frozen=True):
    """A limit that a key has reached."""

    limit: str
    """Its name in the grant."""
    value: int
    wait: float | None
    """Seconds until it frees, None where nobody knows."""


class Limit(msgspec.Struct, frozen=True):
    """How one of the limits is told."""

    reason: str
    quota: str
    """As Google's own are named: clients look for PerMinute and PerDay in it."""
    sentence: str
    default: str = ""
    """What of the configuration counts for keys that have none of their own."""
    money: bool = False

    def value(self, number: int) -> str:
        """Return its value for people."""
        return dollars(number) if self.money else str(number)


LIMITS: Final[Mapping[str, Limit]] = {
    "concurrent": Limit(
        "KEY_CONCURRENCY_EXCEEDED",
        "ConcurrentRequestsPerClientKey",
        "has {value} requests under way at the gateway, as many as it may; wait for one to end",
        "limits.key_concurrent",
    ),
    "requests_per_minute": Limit(
        "KEY_RATE_EXCEEDED",
        "RequestsPerMinutePerClientKey",
        "has made the {value} requests a minute that the gateway allows it; slow down",
        "limits.key_per_minute",
    ),
    "tokens_per_minute": Limit(
        "KEY_TOKENS_PER_MINUTE_EXCEEDED",
        "TokensPerMinutePerClientKey",
        "has used the {value} tokens a minute that the gateway allows it; slow down",
    ),
    "tokens_per_day": Limit(
        "KEY_TOKENS_PER_DAY_EXCEEDED",
        "TokensPerDayPerClientKey",
        "has used the {value} tokens a day that the gateway allows it; a day begins at midnight UTC",
    ),
    "micros_per_day": Limit(
        "KEY_BUDGET_PER_DAY_EXCEEDED",
        "BudgetPerDayPerClientKey",
        "has used up its budget of {value} a day at the gateway; a day begins at midnight UTC",
        money=True,
    ),
    "micros_per_month": Limit(
        "KEY_BUDGET_PER_MONTH_EXCEEDED",
        "BudgetPerMonthPerClientKey",
        "has used up its budget of {value} a month at the gateway; a month begins on its first day, at midnight UTC",
        money=True,
    ),
}
"""By their names in the grant."""


def refusal(key_id: str, over: Sequence[Over], wall: float, own: Grant | None) -> GatewayError:
    """Return what is told of limits that a key has reached; the first word has what frees last.

    ``own`` is what was granted to the key itself, for which the configuration's defaults do not stand in.  The quota
    details are as Google's own: https://google.aip.dev/193 and google.rpc.QuotaFailure.
    """
    worst = max(over, key=_wait)
    limit, seconds = LIMITS[worst.limit], _wait(worst)
    told, source = limit.sentence.format(value=limit.value(worst.value)), ""
    if limit.default and getattr(own, worst.limit, None) is None:
        source = f" ({limit.default})"
    message = f"This client key {told}{source}."
    metadata = {"key": key_id, "limit": worst.limit, "value": limit.value(worst.value)}
    if worst.wait is not None:
        metadata["frees"] = stamp(math.ceil(wall + seconds)) or ""
        message += f" The next request may come in {_duration(seconds)}, at {metadata['frees']}."
    violations = [
        {
            "subject": f"key:{key_id}",
            "description": "The client key " + LIMITS[one.limit].sentence.format(value=_value(one)) + ".",
            "quotaId": LIMITS[one.limit].quota,
            "quotaValue": str(one.value),
        }
        for one in over
    ]
    details = ({"@type": _TYPE + "QuotaFailure", "violations": violations},)
    return GatewayError(
        429,
        "RESOURCE_EXHAUSTED",
        limit.reason,
        message,
        details,
        retry_after_seconds=seconds,
        metadata=metadata,
    )


def _wait(over: Over) -> float:
    return _CONCURRENT_WAIT if over.wait is None else over.wait


def _value(over: Over) -> str:
    return LIMITS[over.limit].value(over.value)


def _duration(seconds: float) -> str:
    whole = math.ceil(seconds)
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if whole >= 2 * unit:
            return f"{-(-whole // unit)} {name}"
    return f"{whole} s"
