"""Text in, plain values out: YAML without the parts that surprise.  Reads one file."""

from __future__ import annotations

import re
from typing import Any

import yaml

from gateway.config.errors import ConfigError, member, shown

_TEXT = "tag:yaml.org,2002:str"
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class _Loader(yaml.SafeLoader):
    """The safe loader; a class of its own, so that nobody's registered constructors reach it."""


def parse(data: bytes, source: str) -> Any:
    """Return the document's plain values.  Raises ConfigError for what is not YAML, or surprises."""
    try:
        loader = _Loader(data)
        try:
            root = loader.get_single_node()
            if root is None:
                return {}
            _refuse_surprises(root, "", source, loader, set())
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise ConfigError(source, _place(error.problem_mark), _problem(error), "mend the YAML") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigError(source, "", f"this is not YAML text ({shown(error)})", "write it as UTF-8 YAML") from None


def _refuse_surprises(node: yaml.Node, path: str, source: str, loader: _Loader, seen: set[int]) -> None:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _refuse_surprises(item, f"{path}[{index}]", source, loader, seen)
    elif isinstance(node, yaml.ScalarNode):
        _refuse_controls(node.value, path, source)
        plain = loader.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]
        if node.tag not in (_TEXT, plain):
            raise ConfigError(source, path, f"a tag makes it {shown(node.tag)}, which it is not", "leave the tag out")
    elif isinstance(node, yaml.MappingNode):
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(source, _place(key.start_mark), "a key is not a plain word", "mend the YAML")
            place = member(path, key.value)
            _refuse_controls(key.value, place, source)
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                raise ConfigError(
                    source, place, f"this key is written twice, in lines {lines[name]} and {line}", "keep one"
                )
            lines[name] = line
            _refuse_surprises(value, place, source, loader, seen)


def _refuse_controls(text: str, path: str, source: str) -> None:
    # YAML's escapes can write what no file name, no variable and no field of HTTP can hold.
    if _CONTROLS.search(text):
        raise ConfigError(
            source, path, "the text holds a control character or half a character", "remove the escape that writes it"
        )


def _place(mark: yaml.Mark | None) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _problem(error: yaml.MarkedYAMLError) -> str:
    return "this is not YAML" + (f" ({shown(error.problem)})" if error.problem else "")
