"""How much was used, and by whom.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec


class Spent(msgspec.Struct, frozen=True):
    """How much was used with one key."""

    requests: int = 0
    tokens: int = 0
    """As ``Usage.taken`` counts them."""
    micros: int = 0
    """What they cost in micro-dollars (10^-6 USD), as far as their prices are known."""


class Spending(Protocol):
    """Remembers what was used."""

    def spent(self, since: float) -> Mapping[str, Spent]:
        """Return what was used since a time, in Unix seconds, by key id; empty where nothing is remembered.

        Reads a file and blocks meanwhile: it is for the start.  What is older than the hours that are kept is left
        out, and ``since`` is an hour's beginning or is taken back to it.  Raises nothing.
        """
