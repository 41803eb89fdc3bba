"""Conversations of the availability bench, and the one right answer to each of their requests.  Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import msgspec

MODEL = "gemini-2.5-flash"
TURNS = 4
CONVERSATIONS_AT_ONCE = 199
"""Between two turns of one conversation come those of the others: eight seconds at 25 requests a second."""
STREAM_EVERY = 5
"""Of so many requests one is a stream."""

_WORDS = ("river", "stone", "light", "answer", "window", "garden", "seven", "paper", "north", "engine", "quiet")


class WrongAnswer(Exception):
    """What came is not the answer that was due; the message begins with a short reason."""


@attrs.frozen
class Ask:
    """One request of a conversation."""

    number: int
    streams: bool
    turns: tuple[tuple[str, str], ...]
    """(role, text), the roles being ``user`` and ``model``."""
    due: str
    """The whole text of the right answer."""


@attrs.frozen
class Dialect:
    """How a request is put to a proxy, and where its answers say what."""

    path: Callable[[Ask], str]
    document: Callable[[Ask], dict[str, Any]]
    said: Callable[[dict[str, Any]], Iterator[tuple[str, str]]]
    """Yields the text and the finish reason of an answer, or of one event; either may be empty."""
    finish: str
    """The finish reason of a whole answer."""

    def body(self, one: Ask) -> bytes:
        """Return the body of a request."""
        return msgspec.json.encode(self.document(one))


def _gemini_path(one: Ask) -> str:
    return f"/v1beta/models/{MODEL}:" + ("streamGenerateContent?alt=sse" if one.streams else "generateContent")


def _gemini_said(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for candidate in value.get("candidates", ()):
        parts = candidate.get("content", {}).get("parts", ())
        text = "".join(part["text"] for part in parts if not part.get("thought"))
        yield text, candidate.get("finishReason") or ""


def _openai_document(one: Ask) -> dict[str, Any]:
    roles = {"user": "user", "model": "assistant"}
    messages = [{"role": roles[role], "content": text} for role, text in one.turns]
    return {"model": MODEL, "messages": messages, "stream": one.streams}


def _openai_said(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for choice in value.get("choices", ()):
        said = choice.get("message") or choice.get("delta") or {}
        yield said.get("content") or "", choice.get("finish_reason") or ""


DIALECTS: Mapping[str, Dialect] = {
    "gemini": Dialect(
        _gemini_path,
        lambda one: {"contents": [{"role": role, "parts": [{"text": text}]} for role, text in one.turns]},
        _gemini_said,
        "STOP",
    ),
    "openai": Dialect(lambda one: "/v1/chat/completions", _openai_document, _openai_said, "stop"),
}


def ask(seed: int, number: int) -> Ask:
    """Return request ``number``; many conversations of TURNS turns run side by side, then the next as many."""
    generation, place = divmod(number, TURNS * CONVERSATIONS_AT_ONCE)
    turn, which = divmod(place, CONVERSATIONS_AT_ONCE)
    conversation = generation * CONVERSATIONS_AT_ONCE + which
    chance = random.Random(seed * 1_000_003 + conversation)
    # Drawn at once, so that a later request repeats the turns of the ones before it.
    said = [
        " ".join([f"Conversation {conversation} turn {at}:", *chance.choices(_WORDS, k=chance.randint(4, 24))])
        for at in range(turn + 1)
    ]
    turns = [pair for at, text in enumerate(said) for pair in (("user", text), ("model", f"Noted, {at}."))]
    streams = number % STREAM_EVERY == STREAM_EVERY - 1
    return Ask(number, streams, tuple(turns[:-1]), _answer(said))


def _answer(said: list[str]) -> str:
    """Return what the simulator answers, as its documentation has it; a wrong guess would fail every request."""
    last = said[-1]
    words = last.split()
    sentences = [f"You said: {last}. ", f"This is turn {len(said)} of our conversation. "]
    if len(said) > 1:
        sentences += [f"Before that you said: {said[-2]}. ", f"You began with: {said[0]}. "]
    return "".join(
        [
            *sentences,
            f"I am {MODEL}, simulated. ",
            f"Your last turn has {len(words)} words. ",
            f"Backwards they read: {' '.join(reversed(words[-50:]))}. ",
            "That is all.",
        ]
    )


@attrs.define
class Heard:
    """The text of an answer as it comes, and how it ended."""

    dialect: Dialect
    text: str = ""
    finish: str = ""

    def take(self, raw: bytes) -> None:
        """Take a whole answer, or one event of a stream; raises WrongAnswer."""
        if raw == b"[DONE]":
            return
        try:
            value = msgspec.json.decode(raw)
        except msgspec.DecodeError as problem:
            raise WrongAnswer(f"no JSON: {raw[:80]!r}") from problem
        if isinstance(value, Mapping) and "error" in value:
            raise WrongAnswer(f"error event: {reason_of(raw)}")
        try:
            for text, finish in self.dialect.said(value):
                self.text += text
                self.finish = finish or self.finish
        except (AttributeError, KeyError, TypeError) as problem:
            raise WrongAnswer(f"not an answer: {raw[:80]!r}") from problem

    def end(self, due: str) -> None:
        """Compare all that was heard with what was due; raises WrongAnswer."""
        if self.text != due:
            raise WrongAnswer(f"text: {self.text[:80]!r} for {due[:80]!r}")
        if self.finish != self.dialect.finish:
            raise WrongAnswer(f"finish: {self.finish!r}")


def reason_of(raw: bytes) -> str:
    """Return the shortest name that an error body gives itself: the gateway's or Google's reason, or its status."""
    try:
        value = msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return "no JSON"
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict):
        return "no error object"
    details = error.get("details")
    found = [one.get("reason") for one in details if isinstance(one, dict)] if isinstance(details, list) else []
    named = [one for one in found if one and one not in ("ATTEMPTS", "ROUTING")]
    return str(next(iter(named), None) or error.get("status") or error.get("type") or error.get("code") or "no reason")
