"""What a request asks for: validated as Google validates it, and read into one value.  Pure."""

import base64
import binascii
import hashlib
from typing import Any

import attrs

from gateway.simulator.counting import prompt_tokens, system_parts
from gateway.simulator.protojson import Json, field, number, only, rows, text
from gateway.simulator.reasons import Scene, invalid, refuse

#: Fields of a GenerateContentRequest.
FIELDS = (
    "contents",
    "systemInstruction",
    "cachedContent",
    "tools",
    "toolConfig",
    "labels",
    "safetySettings",
    "generationConfig",
    "serviceTier",
    "store",
)
ROLES = ("user", "model", "function", "")
#: Google documents these values for histories that were made elsewhere.
FREE_SIGNATURES = ("skip_thought_signature_validator", "context_engineering_is_the_way_to_go")
_MARK = b"sim1"


def signature(about: str) -> str:
    """A thought signature: opaque to clients, and broken by any change to it."""
    digest = hashlib.sha256(about.encode("utf-8", "replace")).digest()
    return base64.b64encode(_MARK + digest + hashlib.sha256(_MARK + digest).digest()[:8]).decode()


def is_signature(value: Any) -> bool:
    """Whether a thought signature is one of ours, unchanged."""
    if value in FREE_SIGNATURES:
        return True
    try:
        # proto-JSON takes both alphabets, and google-genai sends the URL-safe one.
        raw = base64.b64decode(value.replace("-", "+").replace("_", "/"), validate=True)
    except (AttributeError, binascii.Error, TypeError, ValueError):
        return False
    mark, digest, check = raw[:4], raw[4:36], raw[36:]
    return mark == _MARK and hashlib.sha256(mark + digest).digest()[:8] == check


@attrs.frozen
class Prompt:
    """A generation request.

    ``turns`` are the texts of the user's turns, the last one last; ``responses`` maps the name of a function
    to what it answered; ``schema`` is the response schema, if JSON is asked for.
    """

    model: str
    turns: tuple[str, ...]
    system: str
    functions: tuple[Json, ...]
    responses: dict[str, Any]
    as_json: bool
    schema: Json | None
    thoughts: bool
    limit: int | None
    candidates: int
    tokens: int
    cached: bool

    @property
    def last(self) -> str:
        """The user's last words."""
        return self.turns[-1] if self.turns else ""


def spoken(content: Json) -> str:
    """The text of a content's parts, joined."""
    return " ".join(part["text"] for part in rows(content, "parts") if isinstance(part.get("text"), str))


def everything_said(request: Any) -> str:
    """All texts of a request in any of its forms, for faults that look for a word; "" if there are none."""
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for name, member in value.items():
                if name in ("text", "prompt") and isinstance(member, str):
                    found.append(member)
                else:
                    walk(member)
        elif isinstance(value, list):
            for member in value:
                walk(member)

    walk(request)
    return "\n".join(found)


def check(request: Json, extra: tuple[str, ...] = ()) -> None:
    """Refuse what Google refuses: unknown names, no contents, odd roles, empty parts, broken signatures."""
    only(request, FIELDS + extra)
    contents = rows(request, "contents")
    if not contents:
        raise invalid("* GenerateContentRequest.contents: contents is not specified\n")
    for at, content in enumerate(contents):
        only(content, ("role", "parts"), f"contents[{at}]")
        if text(content, "role") not in ROLES:
            raise invalid("Please use a valid role: user, model.")
        if not rows(content, "parts"):
            where = f"* GenerateContentRequest.contents[{at}].parts: contents.parts must not be empty.\n"
            raise invalid(where)
        for part in rows(content, "parts"):
            given = field(part, "thoughtSignature")
            if given is not None and not is_signature(given):
                raise refuse("THOUGHT_SIGNATURE", Scene())


def _functions(request: Json) -> tuple[Json, ...]:
    calling = field(field(request, "toolConfig", {}), "functionCallingConfig", {})
    if text(calling, "mode").upper() == "NONE":
        return ()
    allowed = field(calling, "allowedFunctionNames", [])
    declared = [f for tool in rows(request, "tools") for f in rows(tool, "functionDeclarations")]
    return tuple(f for f in declared if not allowed or f.get("name") in allowed)


def _responses(contents: list[Json]) -> dict[str, Any]:
    answers = [field(part, "functionResponse") for content in contents for part in rows(content, "parts")]
    return {text(a, "name"): field(a, "response", {}) for a in answers if a is not None}


def read(model: str, request: Json, extra: tuple[str, ...] = (), strict: bool = True) -> Prompt:
    """A request for ``model`` as a Prompt; raises Refusal for what Google would refuse."""
    if strict:
        check(request, extra)
    contents = rows(request, "contents")
    config = field(request, "generationConfig", {})
    thinking = field(config, "thinkingConfig", {})
    asked = [content for content in contents if text(content, "role") in ("user", "")]
    limit = number(config, "maxOutputTokens")
    if limit is not None and limit < 1:
        raise invalid("max_output_tokens must be positive.")
    count = int(number(config, "candidateCount") or 1)
    if not 1 <= count <= 8:
        raise invalid("The candidate count must be between 1 and 8.")
    schema = field(config, "responseSchema") or field(config, "responseJsonSchema")
    return Prompt(
        model=model,
        turns=tuple(said for content in asked if (said := spoken(content))),
        system=" ".join(part["text"] for part in system_parts(request) if isinstance(part.get("text"), str)),
        functions=_functions(request),
        responses=_responses(contents),
        as_json=text(config, "responseMimeType") == "application/json",
        schema=schema if isinstance(schema, dict) else None,
        thoughts=bool(field(thinking, "includeThoughts")) and number(thinking, "thinkingBudget") != 0,
        limit=None if limit is None else int(limit),
        candidates=count,
        tokens=prompt_tokens(request),
        cached=bool(text(request, "cachedContent")),
    )
