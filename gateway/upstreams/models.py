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
