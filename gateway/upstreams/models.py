"""What is known of a model.  Pure."""

from __future__ import annotations

import attrs


@attrs.frozen
class Model:
    """One model; a limit of 0 and no verbs mean that they are not known."""

    id: str
    display_name: str = ""
    description: str = ""
    version: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    verbs: tuple[str, ...] = ()


@attrs.frozen
class Figure:
    """What is said to be left of a credential's quota for a model; advice, never a ban."""

    model: str
    remaining: float
    """The share that is left, 0 to 1."""
    reset_wall: float | None = None
    """When it is full again, in Unix seconds, where that was said."""
