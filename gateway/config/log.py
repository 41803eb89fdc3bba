"""The section of the log: what is written, as what, and how much of it is kept.  Opens nothing."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.config.errors import nearest
from gateway.config.nodes import Node, optional
from gateway.config.telling import LogConfig

LEVELS = ("debug", "info", "warn", "error")
FORMATS = ("auto", "text", "json")
SUBSYSTEMS: Mapping[str, str] = {
    "access": "gateway.access",
    "accounts": "gateway.accounts",
    "admin": "gateway.admin",
    "edge": "gateway.edge",
    "keys": "gateway.keys",
    "routing": "gateway.routing",
    "tracing": "gateway.tracing",
    "usage": "gateway.usage",
    "wire": "gateway.wire",
    "gateway": "gateway",
    "twisted": "",
}
"""What may have a level of its own, and how the names of its loggers begin; the longest that fits counts."""

_BYTES_MOST = 1024**4


def log(node: Node) -> LogConfig:
    """Return the section."""
    fields = node.fields("log")
    default = LogConfig()
    size, keep = default.rotate_bytes, default.rotate_keep
    if "rotate" in fields:
        rotate = fields["rotate"].fields("rotate")
        if "size" in rotate:
            size = 0 if rotate["size"].value in (0, "0") else rotate["size"].size(1024, _BYTES_MOST)
        keep = optional(rotate, "keep", lambda n: n.integer(0, 10_000), keep)
    return LogConfig(
        optional(fields, "level", lambda n: n.choice(LEVELS), default.level),
        optional(fields, "format", lambda n: n.choice(FORMATS), default.format),
        optional(fields, "levels", _levels, default.levels),
        size,
        keep,
    )


def _levels(node: Node) -> tuple[tuple[str, str], ...]:
    found = []
    for name, level in node.entries():
        if name not in SUBSYSTEMS:
            raise level.error("there is no subsystem of that name", nearest(name, SUBSYSTEMS))
        found.append((name, level.choice(LEVELS)))
    return tuple(found)
