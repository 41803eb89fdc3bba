"""What an action is: five places where it may change an answer.  Pure."""

from typing import Annotated

import attrs
from msgspec import Meta, Struct

from gateway.simulator.reasons import Scene
from gateway.simulator.steps import Answer, Framing, Steps

Count = Annotated[int, Meta(ge=0)]
Size = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0)]
Code = Annotated[int, Meta(ge=200, le=599)]


@attrs.frozen
class Shape:
    """How an answer is to be composed: seconds between events, how many events, bytes of text in each."""

    pace: float = 0.0
    count: int | None = None
    size: int | None = None


class Base(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="action"):
    """An action that changes nothing."""

    def shape(self, shape: Shape) -> Shape:
        """Change how the answer is composed."""
        return shape

    def instead(self, scene: Scene) -> Answer | None:
        """Another answer, which spares the backend."""
        return None

    def frame(self, framing: Framing) -> Framing:
        """Change how events are written."""
        return framing

    def stream(self, steps: Steps) -> Steps:
        """Edit the steps while events are whole."""
        return steps

    def wire(self, steps: Steps) -> Steps:
        """Edit the steps when they are bytes."""
        return steps
