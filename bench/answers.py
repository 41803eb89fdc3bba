"""What the bench's upstream answers, as bytes ready to send.  Pure."""

from __future__ import annotations

import re
from functools import lru_cache

import attrs
import msgspec
import shapes

_PHRASES = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}
_STREAM = re.compile(r"burst-(\d{1,6})|paced-(\d{1,6})-(\d{1,6})ms|clock-(\d{1,6})ms")
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"Cache-Control: no-cache\r\n\r\n"
)
STREAM_END = b"0\r\n\r\n"
_TOKEN = {"access_token": shapes.UPSTREAM_TOKEN, "expires_in": 3599, "token_type": "Bearer"}
_MODEL_LIST = {
    "models": [
        {
            "name": f"models/{shapes.UNARY_MODEL}",
            "displayName": shapes.UNARY_MODEL,
            "supportedGenerationMethods": ["generateContent", "streamGenerateContent"],
        }
    ]
}
_INTERNAL = {  # what a gateway may ask about an account, by verb
    "loadCodeAssist": {"currentTier": {"id": "standard-tier"}, "cloudaicompanionProject": "bench-project"},
    "fetchAvailableModels": {"models": {shapes.UNARY_MODEL: {"displayName": shapes.UNARY_MODEL}}},
    "retrieveUserQuota": {"buckets": []},
}


@attrs.frozen
class Plan:
    """How a stream goes: how many events (0: without end, each with a stamp), how many seconds between two."""

    count: int
    interval_seconds: float


def plan(model: str) -> Plan | None:
    """Read a stream's plan from the model's name."""
    match = _STREAM.fullmatch(model)
    if match is None:
        return None
    burst, paced, milliseconds, clock = match.groups()
    if burst:
        return Plan(int(burst), 0.0)
    return Plan(int(paced), int(milliseconds) / 1000) if paced else Plan(0, int(clock) / 1000)


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


@lru_cache(maxsize=16)
def chunks(count: int, wrapped: bool) -> tuple[bytes, ...]:
    """Return the events of a stream, each in an HTTP chunk of its own."""
    return tuple(_chunk(shapes.sse(event, wrapped)) for event in shapes.events(count))


@lru_cache(maxsize=2)
def _clock_chunk(wrapped: bool) -> tuple[bytes, bytes]:
    before, _, after = _chunk(shapes.sse(shapes.clocked(0), wrapped)).partition(shapes.stamp(0).encode())
    return before, after


def clock_chunk(at_ns: int, wrapped: bool) -> bytes:
    """Return the next event of an endless stream, sent at that time."""
    before, after = _clock_chunk(wrapped)
    return before + shapes.stamp(at_ns).encode() + after


def response(status: int, body: bytes) -> bytes:
    """Return a whole JSON answer with its head."""
    head = (
        f"HTTP/1.1 {status} {_PHRASES[status]}\r\n"
        f"Content-Type: application/json; charset=UTF-8\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@lru_cache(maxsize=2)
def unary(wrapped: bool) -> bytes:
    """Return the whole answer to generateContent."""
    plain = msgspec.json.encode(shapes.unary())
    return response(200, shapes.wrap(plain) if wrapped else plain)


@lru_cache(maxsize=16)
def refusal(status: int, message: str) -> bytes:
    """Return an error in Google's shape."""
    error = {"code": status, "message": message, "status": "INVALID_ARGUMENT"}
    return response(status, msgspec.json.encode({"error": error}))


def token() -> bytes:
    """Return the answer of the token endpoint."""
    return response(200, msgspec.json.encode(_TOKEN))


def model_list() -> bytes:
    """Return the public API's list of models."""
    return response(200, msgspec.json.encode(_MODEL_LIST))


def about_account(verb: str) -> bytes | None:
    """Return what a v1internal verb that is no generation answers, if there is such a verb."""
    return response(200, msgspec.json.encode(_INTERNAL[verb])) if verb in _INTERNAL else None
