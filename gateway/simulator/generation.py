"""generateContent, streamGenerateContent and countTokens, as every face speaks them.  Pure."""

from collections.abc import Callable, Iterator

import msgspec

from gateway.simulator import answers
from gateway.simulator.actions import Shape
from gateway.simulator.counting import prompt_tokens
from gateway.simulator.prompts import Prompt
from gateway.simulator.protojson import Json
from gateway.simulator.state import Ask, State
from gateway.simulator.steps import Answer, Stream, Unary

Wrap = Callable[[Json], Json]


def bare(frame: Json) -> Json:
    """A frame as it is: the public API has no envelope."""
    return frame


def document(body: Json) -> Unary:
    """A JSON answer under 200."""
    return Unary(200, body)


def is_array(ask: Ask) -> bool:
    """Whether a stream is to be a JSON array: whenever ``alt`` is not ``sse``."""
    return ask.verb == "streamGenerateContent" and ask.query.get("alt") != "sse"


def _payloads(prompt: Prompt, shape: Shape, answer_id: str, wrap: Wrap) -> Iterator[bytes]:
    if shape.count is not None or shape.size is not None:
        number = len(answers.sentences(prompt)) if shape.count is None else shape.count
        frames = answers.shaped(prompt, number, shape.size, answer_id)
    else:
        frames = answers.events(answers.compose(prompt), answer_id)
    return (msgspec.json.encode(wrap(frame)) for frame in frames)


def generate(state: State, ask: Ask, prompt: Prompt, shape: Shape, wrap: Wrap = bare) -> Answer:
    """The answer to a generation, whole or in events."""
    answer_id = state.word()
    if ask.verb == "streamGenerateContent":
        return Stream(_payloads(prompt, shape, answer_id, wrap), is_array(ask))
    return document(wrap(answers.whole(answers.compose(prompt), answer_id)))


def counted(request: Json) -> Json:
    """The answer of countTokens."""
    total = prompt_tokens(request)
    details = [{"modality": "TEXT", "tokenCount": total}]
    return {"totalTokens": total, "promptTokensDetails": details} if total else {"totalTokens": 0}
