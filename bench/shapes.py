"""What travels in the bench: one request, one answer, numbered events, and how they are recognised.  Pure.

The stand-in upstream sends these bytes and the load generator compares what arrives with the same
values, member by member, so a relay may re-encode JSON but may not lose, add or reorder anything.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

CLIENT_KEY = "bench-client-key"
UPSTREAM_TOKEN = "bench-access-token"
UNARY_MODEL = "gemini-2.5-flash"
ANSWER_BYTES = 2048
REQUEST_BYTES = 2048
EVENT_BYTES = 378
"""An event's JSON as the v1internal backend sends it, envelope included, ``data: `` not."""

_FILLER = "The naïve relay carries every word of the answer from one socket to another, unchanged. " * 40
_WRAP_HEAD = b'{"response":'
_WRAP_TAIL = b',"traceId":"bench-0123456789abcdef"}'


class _Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename="camel"):
    """An answer's object: an unknown member, such as a forgotten ``response``, fails to decode."""


class Part(_Shape):
    """A piece of text."""

    text: str


class Content(_Shape):
    """A turn of the model's."""

    parts: tuple[Part, ...]
    role: str


class Candidate(_Shape):
    """One candidate; ``finish_reason`` is there at the end only."""

    content: Content
    index: int
    finish_reason: str | None = None


class Modality(_Shape):
    """Token counts of one modality."""

    modality: str
    token_count: int


class Usage(_Shape):
    """Token counts."""

    prompt_token_count: int
    candidates_token_count: int
    total_token_count: int
    prompt_tokens_details: tuple[Modality, ...]


class Answer(_Shape):
    """A GenerateContentResponse, whole or as one event of a stream."""

    candidates: tuple[Candidate, ...]
    usage_metadata: Usage
    model_version: str
    response_id: str


DECODER = msgspec.json.Decoder(Answer)


def wrap(answer: bytes) -> bytes:
    """Put ``answer`` into the v1internal envelope."""
    return _WRAP_HEAD + answer + _WRAP_TAIL


def _answer(text: str, tokens: int, finish: str | None) -> Answer:
    """Return an answer that says ``text``."""
    return Answer(
        candidates=(Candidate(Content((Part(text),), "model"), 0, finish),),
        usage_metadata=Usage(512, tokens, 512 + tokens, (Modality("TEXT", 512),)),
        model_version=UNARY_MODEL,
        response_id="bench-response",
    )


def _filler(size: int) -> str:
    """Return text of ``size`` bytes."""
    assert 0 <= size <= len(_FILLER.encode()), "an answer's frame is larger than the answer is to be"
    text = _FILLER.encode()[:size].decode("utf-8", "ignore")
    return text + "." * (size - len(text.encode()))


def _fitted(prefix: str, size: int, tokens: int, finish: str | None) -> Answer:
    """Return an answer whose compact JSON is ``size`` bytes long, filled up with text."""
    missing = size - len(msgspec.json.encode(_answer(prefix, tokens, finish)))
    return _answer(prefix + _filler(missing), tokens, finish)


@lru_cache(maxsize=1)
def unary() -> Answer:
    """Return the fixed answer to generateContent, 2 KB as JSON."""
    return _fitted("", ANSWER_BYTES, 480, "STOP")


@lru_cache(maxsize=16)
def events(count: int) -> tuple[Answer, ...]:
    """Return the events of a stream of ``count``, each with its number in its text."""
    size = EVENT_BYTES - len(_WRAP_HEAD) - len(_WRAP_TAIL)
    return tuple(
        _fitted(f"{n:06d} ", size, n + 1, "STOP" if n == count - 1 else None) for n in range(count)
    )


def sse(answer: Answer, wrapped: bool) -> bytes:
    """Return ``answer`` as a server-sent event, with CRLF as Google sends it."""
    plain = msgspec.json.encode(answer)
    return b"data: " + (wrap(plain) if wrapped else plain) + b"\r\n\r\n"


def _request() -> dict[str, Any]:
    """Return the client's request, 2 KB as JSON."""
    value: dict[str, Any] = {
        "contents": [{"role": "user", "parts": [{"text": ""}]}],
        "systemInstruction": {"parts": [{"text": "Answer in one paragraph."}]},
        "generationConfig": {"temperature": 0.7, "topP": 0.95, "maxOutputTokens": 1024},
        "safetySettings": [
            {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"},
            {"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "BLOCK_ONLY_HIGH"},
        ],
    }
    missing = REQUEST_BYTES - len(msgspec.json.encode(value))
    value["contents"][0]["parts"][0]["text"] = _filler(missing)
    return value


REQUEST = _request()
REQUEST_BODY = msgspec.json.encode(REQUEST)


def carries_request(value: object) -> bool:
    """Whether every member of the client's request arrived in ``value`` as it was sent."""
    return isinstance(value, dict) and all(value.get(name) == member for name, member in REQUEST.items())
