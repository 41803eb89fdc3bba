"""The section ``usage``: what is written down of requests, for how long, and what tokens cost."""

from __future__ import annotations

import re

from gateway.config.nodes import Node, optional
from gateway.config.tariff import DAY_SECONDS, HOUR_SECONDS, Price, Rates, UsageConfig

_PATTERN = re.compile(r"[A-Za-z0-9._@/+*-]+\Z")
_KEEP_MOST = 100 * 366 * DAY_SECONDS
_RATE_MOST = 1_000_000
_SIZES = (1024**2, 1024**5)


def usage(node: Node) -> UsageConfig:
    """Return the section."""
    fields = node.fields("usage")
    default = UsageConfig()
    config = UsageConfig(
        optional(fields, "enabled", Node.yes, default.enabled),
        optional(fields, "keep", _keep, default.keep),
        optional(fields, "keep_rollups", _keep, default.keep_rollups),
        optional(fields, "size", lambda n: n.size(*_SIZES), default.size),
        optional(fields, "prices", _prices, default.prices),
    )
    if config.keep_rollups < config.keep:
        named = fields.get("keep_rollups") or fields["keep"]
        raise named.error(
            "the sums would be forgotten before what they are of", "let usage.keep_rollups be usage.keep or more"
        )
    return config


def _keep(node: Node) -> float:
    seconds = node.seconds(_KEEP_MOST)
    if seconds < HOUR_SECONDS:
        raise node.error("sums are made by the hour", "write 1h or more, such as 90d")
    return seconds


def _prices(node: Node) -> tuple[tuple[str, Price], ...]:
    found = []
    for pattern, member in node.entries():
        if not _PATTERN.match(pattern):
            raise member.error("this is no pattern for model ids", "use the characters of model ids, and * for any run")
        fields = member.fields("price")
        long = optional(fields, "over_200k", lambda n: _rates(n, "rates"), None)
        found.append((pattern, Price(_rates(member, "price"), long)))
    return tuple(found)


def _rates(node: Node, kind: str) -> Rates:
    fields = node.fields(kind)
    for name in ("input", "output"):
        if name not in fields:
            raise node.error(f"there is no {name}", f"write {name}: and dollars for a million tokens")
    prompt = _rate(fields["input"])
    return Rates(prompt, _rate(fields["output"]), optional(fields, "cached", _rate, prompt))


def _rate(node: Node) -> float:
    return 0.0 if node.value == 0 and not isinstance(node.value, bool) else node.number(_RATE_MOST)
