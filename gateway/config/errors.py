"""What is wrong with a configuration, in one sentence.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+\Z")


class ConfigError(Exception):
    """The configuration cannot be run.

    ``str()`` of it is one printable sentence that names the source, the path within it, and the cure; it never holds a
    secret.
    """

    def __init__(self, source: str, path: str, problem: str, cure: str) -> None:
        place = f"{source}: {path}" if path else source
        super().__init__(_printable(f"{place}: {problem}; {cure}"))
        self.source = source
        self.path = path


def member(path: str, name: str) -> str:
    """Return the path of the member ``name`` of the mapping at ``path``."""
    if not _PLAIN_NAME.match(name):
        return f'{path}["{shown(name)}"]'
    return f"{path}.{name}" if path else name


def shown(value: object) -> str:
    """Return a value for a message: short, on one line, and printable."""
    text = _printable(value if isinstance(value, str) else str(value))
    return text if len(text) <= 60 else text[:57] + "..."


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the cure for a word that is not in ``known``: the nearest one, or the list."""
    candidates = list(known)
    close = get_close_matches(word, candidates, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known here: " + ", ".join(candidates)
