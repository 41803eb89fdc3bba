"""A document's values together with where they stand, so that every error can say so.  Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import attrs

from gateway.config.errors import ConfigError, member, nearest, shown

T = TypeVar("T")
Fields = Mapping[str, "Node"]

KNOWN: Mapping[str, tuple[str, ...]] = {
    "file": (
        "proxy",
        "admin",
        "upstreams",
        "routing",
        "timeouts",
        "limits",
        "wire",
        "models",
        "usage",
        "state_dir",
        "log",
        "otel",
    ),
    "proxy": (
        "listen",
        "auth_mode",
        "api_key",
        "operator_key",
        "hosts",
        "origins",
        "trusted_proxies",
        "half_close",
        "done_marker",
        "client_ca",
    ),
    "admin": ("listen", "token", "password", "dashboard", "session_idle", "session_most"),
    "upstream": (
        "kind",
        "base_urls",
        "models",
        "credentials",
        "oauth",
        "envelope",
        "credentials_dir",
        "credentials_key_file",
        "project",
        "location",
        "proxy",
        "weight",
        "priority",
        "max_concurrent",
    ),
    "credential": (
        "name",
        "api_key",
        "api_key_env",
        "api_key_file",
        "service_account_file",
        "application_default",
        "project",
        "weight",
        "priority",
        "max_concurrent",
    ),
    "oauth": (
        "client_id",
        "client_secret",
        "client_secret_env",
        "client_secret_file",
        "token_url",
        "auth_url",
        "userinfo_url",
    ),
    "envelope": ("profile", "user_agent", "request_type"),
    "routing": ("max_attempts", "aliases", "strategy", "sessions"),
    "sessions": ("limit", "seconds"),
    "timeouts": (
        "connect",
        "first_byte_unary",
        "first_event_stream",
        "idle",
        "budget",
        "drain",
        "queue",
        "head",
        "body",
        "write",
        "keep_alive",
    ),
    "limits": (
        "body",
        "event",
        "head",
        "target",
        "body_rate",
        "buffered",
        "connections",
        "streams",
        "queue",
        "key_concurrent",
        "key_per_minute",
    ),
    "wire": ("agent", "warm"),
    "model": ("input_token_limit", "output_token_limit", "methods"),
    "usage": ("enabled", "keep", "keep_rollups", "size", "prices"),
    "price": ("input", "output", "cached", "over_200k"),
    "rates": ("input", "output", "cached"),
    "log": ("level", "format", "levels", "rotate"),
    "rotate": ("size", "keep"),
    "otel": ("endpoint", "headers", "sample", "propagate_upstream", "service_name"),
}
"""The keys of each kind of mapping."""

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\Z")
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


@attrs.define(eq=False, repr=False)
class Context:
    """Where a document came from, and what reading it has shown so far."""

    source: str
    directory: str
    """Absolute; relative paths of the document start here."""
    environ: Mapping[str, str]
    warnings: list[str] = attrs.Factory(list)
    clear_secrets: list[str] = attrs.Factory(list)
    """The paths of secrets that the document itself holds."""
    installed: Callable[[str], bool] = lambda module: True
    """Says whether a module can be imported."""


@attrs.frozen
class Node:
    """One value of the document."""

    context: Context = attrs.field(repr=False)
    path: str
    value: Any = attrs.field(repr=False)

    def error(self, problem: str, cure: str) -> ConfigError:
        """Return the error that names this place."""
        return ConfigError(self.context.source, self.path, problem, cure)

    def entries(self) -> list[tuple[str, Node]]:
        """Return the members of a mapping whose names are the operator's, in order."""
        if not isinstance(self.value, dict):
            raise self.error(f"this is {_kind(self.value)}, not a mapping", "write `name: value` members")
        for name in self.value:
            if not isinstance(name, str):
                raise self.error(f"the name {shown(name)} is {_kind(name)}", f"write it in quotes: '{name}'")
        return [(name, Node(self.context, member(self.path, name), value)) for name, value in self.value.items()]

    def fields(self, kind: str) -> Fields:
        """Return the members of a mapping of a known ``kind``; those left empty are left out."""
        known = KNOWN[kind]
        found = {}
        for name, node in self.entries():
            if name not in known:
                raise node.error("this key is unknown", nearest(name, known))
            if node.value is not None:
                found[name] = node
        return found

    def items(self) -> list[Node]:
        """Return the items of a list."""
        if not isinstance(self.value, list):
            raise self.error(f"this is {_kind(self.value)}, not a list", "write [first, second]")
        return [Node(self.context, f"{self.path}[{index}]", value) for index, value in enumerate(self.value)]

    def text(self) -> str:
        """Return a string."""
        if not isinstance(self.value, str):
            raise self.error(f"this is {_kind(self.value)}, not text", "write the value in quotes")
        return self.value

    def match(self, pattern: re.Pattern[str], what: str) -> str:
        """Return a string that ``pattern`` describes; ``what`` names it for people."""
        text = self.text()
        if not pattern.match(text):
            raise self.error(f"{shown(text)!r} does not fit", f"write {what}")
        return text

    def choice(self, known: Iterable[str]) -> str:
        """Return one of the ``known`` words."""
        text = self.text()
        if text not in known:
            raise self.error(f"{shown(text)!r} is unknown", nearest(text, known))
        return text

    def yes(self) -> bool:
        """Return yes or no."""
        if not isinstance(self.value, bool):
            raise self.error(f"this is {_kind(self.value)}, not a yes or no", "write true or false")
        return self.value

    def integer(self, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self.error(f"this is {_kind(self.value)}, not a whole number", f"write {low} to {high}")
        if not low <= self.value <= high:
            raise self.error(f"{shown(self.value)} is out of range", f"write {low} to {high}")
        return self.value

    def number(self, high: float) -> float:
        """Return a number above zero and up to ``high``."""
        number = self.value
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            raise self.error(f"this is {_kind(number)}, not a number", f"write more than 0 and at most {high:g}")
        # Whoever compares with NaN gets no.
        if not 0 < number <= high:
            raise self.error(f"{shown(number)} is out of range", f"write more than 0 and at most {high:g}")
        return float(number)

    def seconds(self, high: float = 86400.0, none: bool = False) -> float:
        """Return a duration in seconds: a number, or text such as ``90s``, ``2m``, ``1h``, ``500ms``.

        With ``none`` it may be 0.
        """
        number, unit = self._quantity(_SECONDS, "write seconds as a number, or text such as 90s, 2m or 500ms")
        seconds = number * _SECONDS[unit]
        if not 0 < seconds <= high and not (none and seconds == 0):
            least = "0 or more" if none else "more than 0"
            raise self.error(f"{shown(self.value)} is out of range", f"write {least} and at most {high:.0f} seconds")
        return seconds

    def size(self, low: int, high: int) -> int:
        """Return a size in bytes: a whole number, or text such as ``16KiB``, ``100MiB``, ``1GiB``."""
        number, unit = self._quantity(_BYTES, "write bytes as a whole number, or text such as 16KiB, 100MiB or 1GiB")
        size = number * _BYTES[unit]
        if size != int(size):
            raise self.error(f"{shown(self.value)} is not a whole number of bytes", "write a whole number")
        if not low <= size <= high:
            raise self.error(f"{shown(self.value)} is out of range", f"write {low} to {high} bytes")
        return int(size)

    def _quantity(self, units: Mapping[str, float], cure: str) -> tuple[float, str]:
        value = self.value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            # NaN and the infinities fail here: they are no amounts, and int() of them raises.
            if not abs(value) < 1e18:
                raise self.error(f"{shown(value)} is out of range", cure)
            return value, ""
        if not isinstance(value, str):
            raise self.error(f"this is {_kind(value)}, not an amount", cure)
        match = _QUANTITY.match(value.strip())
        if not match or match[2] not in units:
            raise self.error(f"{shown(value)!r} is no amount", cure)
        return float(match[1]), match[2]


def optional(fields: Fields, name: str, read: Callable[[Node], T], default: T) -> T:
    """Return what ``read`` makes of the member, or ``default`` where there is none."""
    node = fields.get(name)
    return default if node is None else read(node)


def _kind(value: object) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "a yes or no"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"a {type(value).__name__}"
