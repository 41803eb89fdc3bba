"""All actions together, and how they are applied to an answer.  Pure.

Each action may act at five places, in this order: it shapes the answer before it is composed, puts another
answer in its place, edits the steps before framing, changes the framing of events, or edits the steps as bytes.
"""

from collections.abc import Callable

from gateway.simulator import steps as s
from gateway.simulator.action import Base, Shape
from gateway.simulator.answer_actions import (
    ContentType,
    Early,
    Gzip,
    HeadersAction,
    Interim,
    Raw,
    Redirect,
    ResetAction,
    Stall,
    Status,
    Truncate,
)
from gateway.simulator.reasons import Scene
from gateway.simulator.steps import Answer, Framing, Steps, Unary
from gateway.simulator.stream_actions import (
    Done,
    EmptyStream,
    Endless,
    ErrorEvent,
    Events,
    FramingAction,
    NotJson,
    RawEvent,
    Slow,
)

__all__ = [
    "Action",
    "Base",
    "ContentType",
    "Done",
    "Early",
    "EmptyStream",
    "Endless",
    "ErrorEvent",
    "Events",
    "FramingAction",
    "Gzip",
    "HeadersAction",
    "Interim",
    "NotJson",
    "Raw",
    "RawEvent",
    "Redirect",
    "ResetAction",
    "Shape",
    "Slow",
    "Stall",
    "Status",
    "Truncate",
    "compose",
    "perform",
]

#: What a rule may do; msgspec picks the class by the member "action".
Action = (
    Status
    | Early
    | Redirect
    | Interim
    | Raw
    | Gzip
    | ContentType
    | HeadersAction
    | Stall
    | ResetAction
    | Truncate
    | ErrorEvent
    | RawEvent
    | NotJson
    | Done
    | EmptyStream
    | FramingAction
    | Slow
    | Events
    | Endless
)


def perform(answer: Answer, actions: tuple[Action, ...], framing: Framing, pace: float) -> Steps:
    """The steps of an answer with all actions applied, in the order in which they were given."""
    if isinstance(answer, Unary):
        steps = answer.steps(divided=bool(actions))
    else:
        steps = answer.steps(pace)
        for action in actions:
            steps = action.stream(steps)
        for action in actions:
            framing = action.frame(framing)
        steps = s.framed_array(steps) if answer.array else s.framed_sse(steps, framing)
    for action in actions:
        steps = action.wire(steps)
    return steps


def compose(
    actions: tuple[Action, ...], scene: Scene, backend: Callable[[Shape], Answer], pace: float, framing: Framing
) -> Steps:
    """Ask the actions for an answer, then the backend, and apply the actions to what came of it."""
    shape = Shape(pace)
    for action in actions:
        shape = action.shape(shape)
    instead = next((found for action in actions if (found := action.instead(scene))), None)
    return perform(instead or backend(shape), actions, framing, shape.pace)
