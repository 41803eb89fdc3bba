"""The stated token rule.  Pure.

A text part counts one token for every four bytes of UTF-8, rounded up; a function call, a function response and
the tools count the same over their compact JSON; an image, a file or any other blob counts 258.
"""

from typing import Any

import msgspec

from gateway.simulator.protojson import Json, field, rows

BLOB = 258
BYTES_PER_TOKEN = 4


def text_tokens(text: str) -> int:
    """Tokens of one text part."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def json_tokens(document: Any) -> int:
    """Tokens of a JSON value in its compact form."""
    return -(-len(msgspec.json.encode(document)) // BYTES_PER_TOKEN)


def part_tokens(part: Json) -> int:
    """Tokens of one part of a content."""
    if isinstance(part.get("text"), str):
        return text_tokens(part["text"])
    if field(part, "inlineData") is not None or field(part, "fileData") is not None:
        return BLOB
    return json_tokens(part)


def content_tokens(content: Json) -> int:
    """Tokens of one content: its role is free."""
    return sum(part_tokens(part) for part in rows(content, "parts"))


def system_parts(request: Json) -> list[Json]:
    """The parts of the system instruction, which may also be a bare string as some clients send it."""
    instruction = field(request, "systemInstruction", {})
    if isinstance(instruction, str):
        return [{"text": instruction}]
    return rows(instruction, "parts")


def prompt_tokens(request: Json) -> int:
    """Tokens of a whole request: contents, system instruction and tools."""
    total = sum(content_tokens(content) for content in rows(request, "contents"))
    total += sum(part_tokens(part) for part in system_parts(request))
    tools = rows(request, "tools")
    return total + (json_tokens(tools) if tools else 0)


def shortened(text: str, tokens: int) -> str:
    """The longest beginning of a text that counts no more than so many tokens."""
    encoded = text.encode("utf-8", "surrogatepass")
    return encoded[: max(tokens, 0) * BYTES_PER_TOKEN].decode("utf-8", "ignore")
