"""The tokens that answers told of, as far as they were sent.  Pure."""

import attrs
import msgspec

from gateway.simulator.protojson import Json

MARK = b'"usageMetadata"'


class _Counts(msgspec.Struct, rename="camel"):
    prompt_token_count: int = 0
    candidates_token_count: int = 0
    thoughts_token_count: int = 0
    cached_content_token_count: int = 0


class _Answer(msgspec.Struct, rename="camel"):
    usage_metadata: _Counts | None = None
    response: "_Answer | None" = None


_ANSWER = msgspec.json.Decoder(_Answer)


@attrs.frozen
class Tokens:
    """Those of some answers."""

    answers: int = 0
    prompt: int = 0
    candidates: int = 0
    thoughts: int = 0
    cached: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(*(one + more for one, more in zip(attrs.astuple(self), attrs.astuple(other), strict=True)))

    def report(self) -> Json:
        """Them as JSON."""
        return attrs.asdict(self)


def told(payload: bytes) -> Tokens | None:
    """The tokens of one answer, of which ``payload`` is the last event that told of any, or the whole."""
    try:
        answer = _ANSWER.decode(payload)
    except msgspec.DecodeError:
        return None
    counts = answer.usage_metadata or (answer.response.usage_metadata if answer.response is not None else None)
    if counts is None:
        return None
    return Tokens(
        1,
        counts.prompt_token_count,
        counts.candidates_token_count,
        counts.thoughts_token_count,
        counts.cached_content_token_count,
    )
