"""The Gemini API as a client's language: requests in, events out.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from gateway import splice, sse
from gateway.calls import Call, Event, Framing, GatewayError, Usage
from gateway.config.values import DoneMarker
from gateway.dialects.verbs import VERBS
from gateway.folding import Folded
from gateway.sse import DONE


class _UsageMetadata(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = 0
    candidates_token_count: int | None = 0
    thoughts_token_count: int | None = 0
    cached_content_token_count: int | None = 0


class _Turn(msgspec.Struct):
    role: msgspec.Raw = msgspec.Raw(b"null")
    parts: msgspec.Raw = msgspec.Raw(b"")


class _Candidate(msgspec.Struct, rename="camel"):
    finish_reason: str | int | None = ""


class _Summary(msgspec.Struct, rename="camel"):
    usage_metadata: _UsageMetadata | None = None
    candidates: list[_Candidate] | None = []


# In proto-JSON a number may be a string, and null is the same as nothing.
_SUMMARY = msgspec.json.Decoder(_Summary, strict=False)
_TURN = msgspec.json.Decoder(_Turn)
_TURNS = msgspec.json.Decoder(list[_Turn])
_USER_ROLES = (b'"user"', b'""', b"null")


def framing(verb: str, query: Mapping[bytes, Sequence[bytes]], done: DoneMarker) -> tuple[Framing, bool]:
    """Return how the answer is laid out and whether ``[DONE]`` is forwarded.

    The query decides: ``alt=sse`` is what SDKs send, and they fail on ``[DONE]``; ``alt=json`` and
    ``$alt=json;enum-encoding=int`` ask for a JSON array; with neither the tutorial promises SSE.
    Raises GatewayError for another ``alt``.
    """
    alt = b""
    for name in (b"$alt", b"alt") if query else ():
        values = query.get(name)
        if values and values[-1]:
            alt = values[-1].split(b";", 1)[0].lower()
    if alt and alt not in (b"sse", b"json"):
        raise GatewayError(
            400,
            "INVALID_ARGUMENT",
            "ALT_UNKNOWN",
            "The gateway answers with alt=sse or alt=json; leave `alt` out or use one of these.",
        )
    if not VERBS[verb].streams:
        return Framing.UNARY, False
    if alt == b"json":
        return Framing.ARRAY, False
    if done is DoneMarker.ALWAYS:
        return Framing.SSE, True
    return Framing.SSE, done is DoneMarker.AUTO and alt == b""


def first_user_turn(parts: Mapping[str, msgspec.Raw]) -> bytes | memoryview:
    """Return the bytes of the first user turn's parts, uncopied; a turn without a role counts as a user's.

    ``parts`` are the members of a request; a countTokens request may hold the conversation one level down.
    Empty where there is no conversation.
    """
    nested = parts.get("generateContentRequest") or parts.get("generate_content_request")
    try:
        if nested is not None:
            parts = splice.members(nested)
        if "contents" not in parts:
            return b""
        for turn in _turns(parts["contents"]):
            if bytes(turn.role) in _USER_ROLES:
                return memoryview(turn.parts)
    except splice.NotAnObject:
        pass
    return b""


def _turns(contents: msgspec.Raw) -> Iterable[_Turn]:
    """Return the turns of a conversation; raises NotAnObject at the first that is none, there or in going on."""
    try:
        # At once, because a large turn would else be read twice.
        return _TURNS.decode(contents)
    except splice.UNREADABLE:
        return _turn_by_turn(contents)


def _turn_by_turn(contents: msgspec.Raw) -> Iterator[_Turn]:
    for item in splice.items(contents):
        try:
            yield _TURN.decode(item)
        except splice.UNREADABLE as error:
            raise splice.NotAnObject(str(error)) from None


def taken_apart(body: Folded) -> tuple[Folded, dict[str, msgspec.Raw]]:
    """Return a request's body and its members, of which folds are left out; raises GatewayError as parse_body does.

    What is returned has no folds where a name would be in one, or where something is wrong with the text: what is
    wrong, and at which byte, is told of the text as it came.
    """
    if body.names_are_whole:
        try:
            return body, splice.members(body.text)
        except splice.NotAnObject:
            pass
    body = body.whole()
    return body, parse_body(body.text)


def parse_body(body: bytes) -> dict[str, msgspec.Raw]:
    """Return the members of a request's body; raises GatewayError where it is not a JSON object."""
    try:
        return splice.members(body)
    except splice.NotAnObject as problem:
        raise GatewayError(
            400,
            "INVALID_ARGUMENT",
            "BODY_NOT_JSON",
            f"The request body must be one JSON object: {problem}. Send the object that the Gemini API"
            " documents for this method.",
        ) from None


def server_timeout(value: bytes | None) -> float | None:
    """Read ``X-Server-Timeout``, in seconds; None where it is absent or makes no sense."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if 0 < seconds < 86400 else None


def summary(data: bytes) -> tuple[Usage | None, str]:
    """Return the usage and the finish reason that an answer or an event reports."""
    try:
        found = _SUMMARY.decode(data)
    except splice.UNREADABLE:
        return None, ""
    reason = str(found.candidates[0].finish_reason or "") if found.candidates else ""
    counts = found.usage_metadata
    if counts is None:
        return None, reason
    usage = Usage(
        counts.prompt_token_count or 0,
        counts.candidates_token_count or 0,
        counts.thoughts_token_count or 0,
        counts.cached_content_token_count or 0,
    )
    return usage, reason


class StreamEncoder:
    """Lay events out for one client, in the shape that all known clients accept."""

    def __init__(self, call: Call) -> None:
        self._array = call.framing is Framing.ARRAY
        self._forwards_done = call.forwards_done
        self._opened = False

    @property
    def content_type(self) -> bytes:
        """The answer's Content-Type."""
        return b"application/json; charset=UTF-8" if self._array else b"text/event-stream"

    @property
    def frame(self) -> bytes:
        """What goes around an event in which `sse.frame` has nothing to change; empty where that is not all of it."""
        return b"" if self._array else sse.FRAME

    def encode(self, events: Sequence[Event]) -> bytes:
        """Return the bytes of some events, complete to the last of them."""
        if not self._array:
            shown = [event.data for event in events if event.data != DONE or self._forwards_done]
            return sse.frames(shown) if shown else b""
        out = bytearray()
        for event in events:
            if event.data != DONE:
                out += b",\r\n" if self._opened else b"["
                out += event.data
                self._opened = True
        return bytes(out)

    def end(self) -> bytes:
        """Return what closes a whole stream."""
        if not self._array:
            return b""
        # Nothing may follow the bracket: Google's own Python client fails on a newline there.
        return b"]" if self._opened else b"[]"

    def failure(self, body: bytes) -> bytes:
        """Return what tells the client that the stream broke, ``body`` being an ``{"error": ...}`` object.

        An array holds no errors: there the dropped connection says it alone.
        """
        return b"" if self._array else sse.frame(body)
