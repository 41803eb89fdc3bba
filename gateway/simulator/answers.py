"""The answer to a prompt: deterministic, made of the prompt's own words.  Pure."""

import re
from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import attrs
import msgspec

from gateway.simulator.counting import BYTES_PER_TOKEN, json_tokens, part_tokens, shortened, text_tokens
from gateway.simulator.prompts import Prompt, signature
from gateway.simulator.protojson import Json, field

#: Words in the user's last turn that block the prompt, and the blockReason they give.
BLOCKING = {
    "simulator:block": "SAFETY",
    "simulator:blocklist": "BLOCKLIST",
    "simulator:prohibited": "PROHIBITED_CONTENT",
}
#: Words that end the answer behind its first sentence, and the finishReason they give.
ENDING = {"simulator:safety": "SAFETY", "simulator:recitation": "RECITATION", "simulator:other": "OTHER"}
#: What a named cachedContent counts for.
CACHED_TOKENS = 1024
#: The smallest PNG: one transparent pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


@attrs.frozen
class Candidate:
    """One candidate: its pieces in the order of their events, and how it ended."""

    pieces: tuple[Json, ...]
    finish: str
    tokens: int
    thoughts: int


@attrs.frozen
class Reply:
    """All candidates of an answer, or why the prompt was blocked."""

    prompt: Prompt
    candidates: tuple[Candidate, ...]
    blocked: str = ""


def sentences(prompt: Prompt) -> list[str]:
    """What the simulator says in plain text; each sentence is an event of its own."""
    last = prompt.last
    words = last.split()
    said = [f"You said: {last}. "] if last else ["You said nothing in words. "]
    for name, response in prompt.responses.items():
        said.append(f"The function {name} answered {msgspec.json.encode(response).decode()}. ")
    said.append(f"This is turn {len(prompt.turns)} of our conversation. ")
    if len(prompt.turns) > 1:
        said.append(f"Before that you said: {prompt.turns[-2]}. ")
        said.append(f"You began with: {prompt.turns[0]}. ")
    if prompt.system and "system instruction" in last.lower():
        said.append(f"My system instruction is: {prompt.system}. ")
    said.append(f"I am {prompt.model}, simulated. ")
    said.append(f"Your last turn has {len(words)} words. ")
    if words:
        said.append(f"Backwards they read: {' '.join(reversed(words[-50:]))}. ")
    return [*said, "That is all."]


_TYPE_NUMBERS: dict[int | str, str] = {
    1: "string",
    2: "number",
    3: "integer",
    4: "boolean",
    5: "array",
    6: "object",
    7: "null",
}
"""google.ai.generativelanguage.v1beta.Type by number."""


def filled(schema: Any, words: list[str], depth: int = 0) -> Any:
    """A value that fits a JSON schema (or Google's dialect of it), made of the given words."""
    schema = schema if isinstance(schema, dict) else {}
    choices = schema.get("enum")
    if isinstance(choices, list) and choices:
        return next((choice for choice in choices if choice in words), choices[0])
    for name in ("anyOf", "oneOf", "allOf"):
        options = field(schema, name)
        if isinstance(options, list) and options:
            return filled(options[0], words, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    # proto-JSON takes an enum by its number too, and google-generativeai sends it so.
    kind = _TYPE_NUMBERS.get(kind, str(kind).lower()) if isinstance(kind, int | str) else "string"
    numbers = [int(word) for word in words if word.isdecimal() and len(word) < 10]
    if kind == "object":
        members = schema.get("properties")
        inner = members.items() if isinstance(members, dict) and depth < 20 else ()
        return {name: filled(member, words[at:] or words, depth + 1) for at, (name, member) in enumerate(inner)}
    if kind == "array":
        least = field(schema, "minItems", 1)
        return [filled(schema.get("items"), words, depth + 1)] * max(1, min(int(least), 100))
    scalars = {"integer": (numbers or [1])[0], "number": float((numbers or [1])[0]), "boolean": True, "null": None}
    return scalars.get(kind, words[0] if words else "word")


def _words(prompt: Prompt) -> list[str]:
    return re.findall(r"\w+", prompt.last) or ["word"]


def _parts(prompt: Prompt) -> list[Json]:
    """The parts of an answer before any limit; consecutive texts are one part in a unary answer."""
    call = next((f for f in prompt.functions if f.get("name") not in prompt.responses), None)
    if call is not None and not prompt.responses:
        schema = field(call, "parameters") or field(call, "parametersJsonSchema") or {"type": "object"}
        name = str(call.get("name", ""))
        part: Json = {"functionCall": {"name": name, "args": filled(schema, _words(prompt))}}
        if prompt.thoughts or "gemini-3" in prompt.model:
            part["thoughtSignature"] = signature(name)
        return [part]
    if prompt.as_json:
        value = {"you_said": prompt.last, "turn": len(prompt.turns), "words": len(prompt.last.split())}
        document = msgspec.json.encode(filled(prompt.schema, _words(prompt)) if prompt.schema else value).decode()
        third = max(1, -(-len(document) // 3))
        return [{"text": document[at : at + third]} for at in range(0, len(document), third)]
    parts: list[Json] = [{"text": sentence} for sentence in sentences(prompt)]
    if "image" in prompt.model:
        parts.append({"inlineData": {"mimeType": "image/png", "data": PIXEL}})
    return parts


def _candidate(prompt: Prompt, index: int) -> Candidate:
    thought: list[Json] = []
    if prompt.thoughts:
        thought = [{"text": f"The user wants: {prompt.last[:200]}", "thought": True}]
    thoughts = sum(part_tokens(part) for part in thought)
    left = prompt.limit - thoughts if prompt.limit is not None else None
    pieces = [*thought]
    finish = "STOP"
    answer = _parts(prompt)
    if index and "text" in answer[0]:
        answer[0] = {"text": f"(Candidate {index + 1}.) {answer[0]['text']}"}
    if prompt.thoughts and "text" in answer[0]:
        answer[0] = {**answer[0], "thoughtSignature": signature(prompt.last)}
    word = next((word for word in ENDING if word in prompt.last), "")
    if word:
        answer, finish = answer[:1], ENDING[word]
    said = ""
    others = 0
    for part in answer:
        if "text" not in part:
            others += json_tokens(part) if "functionCall" in part else part_tokens(part)
            pieces.append(part)
            continue
        fits = part["text"] if left is None else shortened(said + part["text"], left)[len(said) :]
        said += fits
        if fits:
            pieces.append({**part, "text": fits})
        if fits != part["text"]:
            finish = "MAX_TOKENS"
            break
    return Candidate(tuple(pieces), finish, text_tokens(said) + others, thoughts)


def compose(prompt: Prompt) -> Reply:
    """The whole answer to a prompt."""
    word = next((word for word in sorted(BLOCKING, key=len, reverse=True) if word in prompt.last), "")
    if word:
        return Reply(prompt, (), BLOCKING[word])
    return Reply(prompt, tuple(_candidate(prompt, index) for index in range(prompt.candidates)))


def usage(prompt: Prompt, answered: int, thoughts: int) -> Json:
    """usageMetadata by the stated rule."""
    cached = CACHED_TOKENS if prompt.cached else 0
    asked = prompt.tokens + cached
    found: Json = {"promptTokenCount": asked}
    if answered:
        found["candidatesTokenCount"] = answered
    found["totalTokenCount"] = asked + answered + thoughts
    if cached:
        found["cachedContentTokenCount"] = cached
    found["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": asked}]
    if thoughts:
        found["thoughtsTokenCount"] = thoughts
    return found


def _total(reply: Reply) -> Json:
    answered = sum(c.tokens for c in reply.candidates)
    return usage(reply.prompt, answered, sum(c.thoughts for c in reply.candidates))


def _frame(reply: Reply, candidates: list[Json], counted: Json, answer_id: str) -> Json:
    frame: Json = {"candidates": candidates} if candidates else {}
    if reply.blocked:
        frame["promptFeedback"] = {"blockReason": reply.blocked}
    return {**frame, "usageMetadata": counted, "modelVersion": reply.prompt.model, "responseId": answer_id}


def joined(pieces: tuple[Json, ...]) -> list[Json]:
    """Pieces of one kind that follow each other, as one part."""
    parts: list[Json] = []
    for piece in pieces:
        if parts and "text" in piece and "text" in parts[-1] and parts[-1].get("thought") == piece.get("thought"):
            parts[-1] = {**parts[-1], "text": parts[-1]["text"] + piece["text"]}
        else:
            parts.append(piece)
    return parts


def whole(reply: Reply, answer_id: str) -> Json:
    """A unary answer."""
    candidates = [
        {"content": {"parts": joined(c.pieces), "role": "model"}, "finishReason": c.finish, "index": index}
        for index, c in enumerate(reply.candidates)
    ]
    return _frame(reply, candidates, _total(reply), answer_id)


def events(reply: Reply, answer_id: str) -> Iterator[Json]:
    """The events of a stream; the last one has finishReason and the final usage, the others what is known."""
    longest = max((len(c.pieces) for c in reply.candidates), default=0)
    said = ""
    for at in range(max(longest, 1)):
        final = at >= longest - 1
        candidates: list[Json] = []
        for index, candidate in enumerate(reply.candidates):
            piece = candidate.pieces[at : at + 1]
            entry: Json = {"content": {"parts": list(piece), "role": "model"}, "index": index}
            if index == 0 and piece and not piece[0].get("thought"):
                said += piece[0].get("text", "")
            if final:
                entry["finishReason"] = candidate.finish
            if piece or final:
                candidates.append(entry)
        counted = _total(reply) if final else usage(reply.prompt, text_tokens(said), 0)
        yield _frame(reply, candidates, counted, answer_id)


def shaped(prompt: Prompt, number: int, size: int | None, answer_id: str) -> Iterator[Json]:
    """A stream of so many numbered events (-1: without end) with texts of ``size`` bytes each."""
    reply = Reply(prompt, ())
    written = 0
    for at in islice(count(1), number if number >= 0 else None):
        text = f"Event {at}. "
        if size is not None:
            text = (text + "x" * (size - len(text)))[:size]
        written += len(text)
        entry: Json = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
        if at == number:
            entry["finishReason"] = "STOP"
        counted = usage(prompt, -(-written // BYTES_PER_TOKEN), 0)
        yield _frame(reply, [entry], counted, answer_id)
