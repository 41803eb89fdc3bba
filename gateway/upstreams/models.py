"""What is known of a model.  Pure."""

from __future__ import annotations

import msgspec


class Model(msgspec.Struct, frozen=True):
    """One model; a limit of 0 and no verbs mean that they are not known."""

    id: str
    display_name: str = ""
    description: str = ""
    version: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    verbs: tuple[str, ...] = ()


class Figure(msgspec.Struct, frozen=True):
    """What is said to be left of a credential's quota for a model; advice, never a ban."""

    model: str
    remaining: float
    """The share that is left, 0 to 1."""
    reset_wall: float | None = None
    """When it is full again, in Unix seconds, where that was said."""
