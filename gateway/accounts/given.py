"""How much a credential is to be used, where its own file says so: weight, priority, requests at a time.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from gateway.calls import Terms
from gateway.config.values import CONCURRENT_MOST, PRIORITY_MOST, WEIGHT_MOST

MEMBERS = ("weight", "priority", "max_concurrent")


@attrs.frozen
class Given:
    """Terms of a credential's own; None where it has its upstream's."""

    weight: float | None = None
    priority: int | None = None
    max_concurrent: int | None = None

    def over(self, default: Terms) -> Terms:
        """Return the terms, with an upstream's for what is not given."""
        return attrs.evolve(default, **self.members())

    def members(self) -> dict[str, Any]:
        """Return what is given, as a file's members."""
        return attrs.asdict(self, filter=lambda _, value: value is not None)


NOTHING = Given()


def given(document: Mapping[str, Any]) -> Given:
    """Return what a file's document gives; raises ValueError with a sentence that names the member and its range."""
    weight, priority, most = (document.get(name) for name in MEMBERS)
    if weight is not None and not (_is_number(weight) and 0 < weight <= WEIGHT_MOST):
        raise ValueError(f"`weight` must be a number above 0 and at most {WEIGHT_MOST:g}")
    if priority is not None and not (_is_whole(priority) and abs(priority) <= PRIORITY_MOST):
        raise ValueError(f"`priority` must be a whole number from -{PRIORITY_MOST} to {PRIORITY_MOST}")
    if most is not None and not (_is_whole(most) and 0 <= most <= CONCURRENT_MOST):
        raise ValueError(f"`max_concurrent` must be a whole number from 0 to {CONCURRENT_MOST}")
    return Given(None if weight is None else float(weight), priority, most)


def typed(name: str, text: str) -> Any:
    """Return a member's value as somebody typed it, None for ``default``; raises ValueError as ``given`` does."""
    if text == "default":
        return None
    try:
        value: Any = int(text)
    except ValueError:
        try:
            value = float(text)
        except ValueError:
            value = text
    return getattr(given({name: value}), name)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
