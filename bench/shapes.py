"""What travels in the bench: one request, one answer, numbered events, and how they are recognised.  Pure.

The stand-in upstream sends these bytes and the load generator compares what arrives with the same
values, member by member, so a relay may re-encode JSON but may not lose, add or reorder anything.
"""

from __future__ import annotations

import base64
import random
from functools import lru_cache
from typing import Any

import msgspec

CLIENT_KEY = "bench-client-key"
UPSTREAM_TOKEN = "bench-access-token"
UPSTREAM_KEY = "bench-upstream-key"
TRANSLATOR_KEY = "bench-translator-key"
"""The key of a relay that makes a request of its own of the client's, which is judged by its prompt."""
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


@lru_cache(maxsize=1)
def _clocked() -> Answer:
    """Return the event of an endless stream, with a stamp of zeros."""
    size = EVENT_BYTES - len(_WRAP_HEAD) - len(_WRAP_TAIL)
    return _fitted(stamp(0), size, 1, None)


def stamp(at_ns: int) -> str:
    """Return how an event says when it was sent, by the monotonic clock that all processes of a machine share."""
    return f"bench-at-{at_ns:020d} "


def clocked(at_ns: int) -> Answer:
    """Return the event of an endless stream that was sent at that time."""
    template = _clocked()
    text = template.candidates[0].content.parts[0].text
    replaced = Part(stamp(at_ns) + text[len(stamp(0)) :])
    candidate = template.candidates[0]
    content = msgspec.structs.replace(candidate.content, parts=(replaced,))
    return msgspec.structs.replace(template, candidates=(msgspec.structs.replace(candidate, content=content),))


def _request(size: int, image: str = "") -> dict[str, Any]:
    """Return a client's request whose JSON has that size, filled up with text or with an image in base64."""
    parts: list[dict[str, Any]] = [{"text": ""}]
    if image:
        parts.append({"inlineData": {"mimeType": "image/png", "data": image}})
    value: dict[str, Any] = {
        "contents": [{"role": "user", "parts": parts}],
        "systemInstruction": {"parts": [{"text": "Answer in one paragraph."}]},
        "generationConfig": {"temperature": 0.7, "topP": 0.95, "maxOutputTokens": 1024},
        "safetySettings": [
            {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"},
            {"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "BLOCK_ONLY_HIGH"},
        ],
    }
    parts[0]["text"] = _filler(size - len(msgspec.json.encode(value)))
    return value


@lru_cache(maxsize=3)
def request(megabytes: int = 0) -> dict[str, Any]:
    """Return the request of 2 KB, or one of so many million bytes that are nearly all an inline image."""
    if not megabytes:
        return _request(REQUEST_BYTES)
    size = megabytes * 1_000_000
    image = random.Random(megabytes).randbytes((size - REQUEST_BYTES) // 4 * 3)
    return _request(size, base64.b64encode(image).decode("ascii"))


@lru_cache(maxsize=3)
def request_body(megabytes: int = 0) -> bytes:
    """Return the same as bytes."""
    return msgspec.json.encode(request(megabytes))


def megabytes_of(model: str) -> int:
    """Return the size of the request that goes to ``model``: ``image-20`` gets one of 20 MB."""
    return int(model.removeprefix("image-")) if model.startswith("image-") else 0


def carries_request(raw: bytes, model: str) -> bool:
    """Whether every member of the client's request arrived as it was sent: the same bytes, or the same values."""
    due = megabytes_of(model)
    if raw == request_body(due):
        return True
    value = msgspec.json.decode(raw)
    return isinstance(value, dict) and all(value.get(name) == member for name, member in request(due).items())


def carries_prompt(raw: bytes, model: str) -> bool:
    """Whether the client's text and image arrived, for those that translate a request rather than carry it."""
    value = msgspec.json.decode(raw)
    return bool(value["contents"][-1]["parts"] == request(megabytes_of(model))["contents"][0]["parts"])
