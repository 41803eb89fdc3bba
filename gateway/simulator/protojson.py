"""Read JSON the way Google's servers read it: either case, strict about names.  Pure."""

from collections.abc import Iterable
from typing import Any

import msgspec

from gateway.simulator.reasons import invalid

Json = dict[str, Any]


def snake(name: str) -> str:
    """The snake_case spelling of a camelCase field name."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def field(message: Any, name: str, default: Any = None) -> Any:
    """A field by its camelCase name, also found under its snake_case spelling; null counts as absent."""
    if not isinstance(message, dict):
        return default
    value = message.get(name)
    if value is None:
        value = message.get(snake(name))
    return default if value is None else value


def rows(message: Any, name: str) -> list[Json]:
    """A repeated message field; a single message is taken as a list of one, as proto JSON parsers do."""
    value = field(message, name, [])
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise invalid(f"Invalid value at '{snake(name)}' (type.googleapis.com/google.protobuf.ListValue)")
    return value


def text(message: Any, name: str, default: str = "") -> str:
    """A string field, or the default."""
    value = field(message, name, default)
    if not isinstance(value, str):
        raise invalid(f"Invalid value at '{snake(name)}' (TYPE_STRING), {msgspec.json.encode(value).decode()}")
    return value


def number(message: Any, name: str) -> float | None:
    """A number field; proto JSON also allows it as a string of digits."""
    value = field(message, name)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise invalid(f"Invalid value at '{snake(name)}' (TYPE_INT32), \"{value}\"") from None
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    raise invalid(f"Invalid value at '{snake(name)}' (TYPE_INT32), {msgspec.json.encode(value).decode()}")


def parse(body: bytes) -> Json:
    """The body as one JSON object; raises the refusal that Google gives for anything else."""
    if not body.strip():
        return {}
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        shown = body[:60].decode("utf-8", "replace")
        raise invalid(f"Invalid JSON payload received. Unexpected token.\n{shown}\n^") from None
    if not isinstance(document, dict):
        message = 'Invalid JSON payload received. Unknown name "": Root element must be a message.'
        raise invalid(message)
    return document


def only(message: Json, known: Iterable[str], where: str = "") -> None:
    """Refuse names that the message does not have, in Google's words, one violation a name."""
    allowed = {spelling for name in known for spelling in (name, snake(name))}
    unknown = [name for name in message if name not in allowed]
    if not unknown:
        return
    at = f" at '{where}'" if where else ""
    lines = [f'Invalid JSON payload received. Unknown name "{name}"{at}: Cannot find field.' for name in unknown]
    violations = [{"field": where, "description": line} if where else {"description": line} for line in lines]
    detail = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations}
    raise invalid("\n".join(lines), detail)
