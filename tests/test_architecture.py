"""The rules that keep it a house, read off the imports."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

import gateway

ROOT = Path(gateway.__file__).parent

LAYERS: list[set[str]] = [
    {"cli"},
    {"tap", "commands"},
    {"service"},
    {"console", "traces"},
    {"signins", "playground"},
    {"situation", "starting", "filing"},
    {"composition"},
    {"members"},
    {"credentials"},
    {"edge"},
    {"dialects", "keys", "routing"},
    {"usage"},
    {"accounts", "process", "upstreams"},
    {"calls", "sse", "splice", "folding", "eager", "tally", "tracecontext", "modelid", "config"},
]
"""From the top down: a part imports what stands below it.  ``operations`` and the simulator stand beside."""
LOWEST = {
    "config": {"calls"},
    "calls": {"tracecontext"},
    "modelid": {"calls"},
    **{name: set[str]() for name in ("splice", "folding", "sse", "eager", "tally", "tracecontext")},
}
"""What parts of the lowest layer may import of one another."""
OPERATIONS = {"calls", "config", "tally", "tracecontext"}
"""What ``operations`` listens with."""

IMPURE = {"os", "time", "random", "socket", "select", "subprocess", "threading", "asyncio", "ssl", "tempfile", "shutil",
          "pathlib", "signal", "secrets", "uuid", "io"}  # fmt: skip
"""What of the standard library has to do with the world, with time or with chance."""
PURE_LIBRARIES = {"attrs", "attr", "msgspec", "pybase64"}
NAMELESS = {"utils", "util", "manager", "managers", "handler", "handlers", "helpers", "helper", "misc", "common"}
LINES_MOST = 350

EXCEPTIONS: dict[tuple[str, str], str] = {
    ("config.values", "gateway.config.listeners"): "reads a description with Twisted's own parser; opens nothing",
    ("config.describe", "gateway.config.listeners"): "likewise",
}
"""What is let pass, and why: (module, what it imports)."""
LONG: dict[str, str] = {}
"""Modules over the limit, and why."""


@attrs.frozen
class Import:
    """One name that a module imports."""

    module: str
    """The importing module, without ``gateway.``."""
    target: str
    """In full; for a name of a package, the module that defines it."""
    line: int
    inside: bool
    """Whether it stands within a function."""

    @property
    def root(self) -> str:
        return self.target.split(".")[0]

    @property
    def where(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}"


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in PATHS.items()}


def part(name: str) -> str:
    """Return the package, or top-level module, that a module is of; empty for ``gateway`` itself."""
    return name.split(".")[0]


def defined_in(module: str, name: str) -> str:
    """Return the module that ``from module import name`` has it from."""
    short = module.removeprefix("gateway").lstrip(".")
    if f"{short}.{name}".lstrip(".") in PATHS:
        return f"{module}.{name}"
    tree = TREES.get(short)
    for node in tree.body if tree is not None else []:
        if not isinstance(node, ast.ImportFrom) or not node.module or not node.module.startswith(module + "."):
            continue
        if any((alias.asname or alias.name) == name for alias in node.names):
            return node.module
    return module


def guarded(node: ast.stmt) -> bool:
    """Say whether a statement is ``if TYPE_CHECKING``: what it imports is not imported when it runs."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def walked(node: ast.AST, inside: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, inside
        elif not (isinstance(child, ast.stmt) and guarded(child)):
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walked(child, inside or function)


def imports_of(name: str) -> Iterator[Import]:
    for node, inside in walked(TREES[name]):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(name, alias.name, node.lineno, inside)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno} imports relatively"
            assert node.module
            for alias in node.names:
                ours = node.module == "gateway" or node.module.startswith("gateway.")
                target = defined_in(node.module, alias.name) if ours else f"{node.module}.{alias.name}"
                yield Import(name, target, node.lineno, inside)


IMPORTS = [found for name in PATHS for found in imports_of(name)]
OURS = [found for found in IMPORTS if found.root == "gateway"]


def target_of(found: Import) -> str:
    """Return an imported module of the gateway's, without ``gateway.``."""
    return found.target.removeprefix("gateway").lstrip(".")


def is_pure(name: str) -> bool:
    docstring = ast.get_docstring(TREES[name]) or ""
    return "Pure." in docstring or "Pure:" in docstring


def layer(name: str) -> int | None:
    return next((at for at, parts in enumerate(LAYERS) if name in parts), None)


class LayerTests(SynchronousTestCase):
    """Arrows go one way."""

    def none_of(self, offences: list[str]) -> None:
        self.assertEqual(offences, [], "\n" + "\n".join(offences))

    def test_every_part_has_its_place(self) -> None:
        """A new package at the top is given a layer here and in the documents, or it is not made."""
        known = {"", "operations", "simulator"}.union(*LAYERS)
        self.none_of([name for name in PATHS if part(name) not in known])

    def test_arrows_go_down(self) -> None:
        """Each part imports only what stands below it, two parts of one layer nothing of each other."""
        offences = []
        for found in OURS:
            importer, imported = part(found.module), part(target_of(found))
            above, below = layer(importer), layer(imported)
            if imported in ("", importer) or above is None or below is None:
                continue
            if above == len(LAYERS) - 1 and imported in LOWEST[importer]:
                continue
            if above >= below:
                offences.append(found.where)
        self.none_of(offences)

    def test_packages_form_no_circle(self) -> None:
        """Whatever the layers say, no part reaches itself through others."""
        arrows: dict[str, set[str]] = {}
        for found in OURS:
            importer, imported = part(found.module), part(target_of(found))
            if imported not in ("", importer):
                arrows.setdefault(importer, set()).add(imported)
        for start in arrows:
            seen: set[str] = set()
            waiting = list(arrows[start])
            while waiting:
                one = waiting.pop()
                if one not in seen:
                    seen.add(one)
                    waiting.extend(arrows.get(one, ()))
            self.assertNotIn(start, seen, f"{start} reaches itself through {sorted(seen)}")

    def test_operations_only_listen(self) -> None:
        """Only ``service``, ``console`` and ``traces`` import it, and it knows nothing of the path itself."""
        self.none_of(
            [
                found.where
                for found in OURS
                if part(target_of(found)) == "operations"
                and part(found.module) not in ("operations", "service", "console", "traces")
            ]
            + [
                found.where
                for found in OURS
                if part(found.module) == "operations" and part(target_of(found)) not in {"", "operations", *OPERATIONS}
            ]
        )

    def test_simulator_is_a_house_of_its_own(self) -> None:
        """It imports nothing of the gateway's; only ``service`` and ``tap`` import it, inside functions."""
        offences = []
        for found in OURS:
            importer, imported = part(found.module), part(target_of(found))
            if importer == "simulator" and imported != "simulator":
                offences.append(found.where)
            allowed = importer in ("service", "tap") and found.inside
            if imported == "simulator" and importer != "simulator" and not allowed:
                offences.append(found.where)
        self.none_of(offences)


class LibraryTests(SynchronousTestCase):
    """Who may import what of others."""

    def importers(self, library: str) -> set[str]:
        return {found.module for found in IMPORTS if found.root == library and part(found.module) != "simulator"}

    def test_only_the_wire_imports_treq(self) -> None:
        """One place knows how requests are sent."""
        self.assertEqual(self.importers("treq"), {"upstreams.wire"})

    def test_only_the_routes_import_klein(self) -> None:
        """Those of the clients and the operator's; and Werkzeug, on which it stands."""
        found = self.importers("klein") | self.importers("werkzeug")
        self.assertEqual(found, {"edge.api", "edge.routes", "operations.admin"})

    def test_only_the_spans_import_opentelemetry(self) -> None:
        """An extra, and some 15 MB: who imports them does so in a thread, when traces are asked for."""
        self.assertEqual(self.importers("opentelemetry"), {"operations.spans"})
        spans = [found for found in OURS if target_of(found) == "operations.spans"]
        self.assertEqual([(found.module, found.inside) for found in spans], [("operations.tracing", True)])

    def test_only_the_configuration_reads_yaml(self) -> None:
        """One place knows how files are written."""
        self.assertEqual(self.importers("yaml"), {"config.document"})

    def test_reactor_is_imported_late_and_at_the_top_alone(self) -> None:
        """Importing it installs one: only ``tap`` and ``cli`` do, inside functions, and the simulator's ``tap``."""
        found = [one for one in IMPORTS if one.target == "twisted.internet.reactor"]
        self.assertTrue(found)
        offences = [
            one.where for one in found if not one.inside or one.module not in ("tap", "cli", "simulator.tap")
        ]
        self.assertEqual(offences, [])

    def test_klein_is_not_imported_before_the_reactor_is_chosen(self) -> None:
        """Importing klein installs a reactor, so whatever leads to it from ``tap`` stands inside a function."""
        eager: dict[str, set[str]] = {}
        for found in IMPORTS:
            if not found.inside:
                reached = target_of(found) if found.root == "gateway" else found.root
                eager.setdefault(found.module, set()).add(reached)
        for start in ("tap", "simulator.tap"):
            seen: set[str] = set()
            waiting = [start]
            while waiting:
                one = waiting.pop()
                if one not in seen:
                    seen.add(one)
                    waiting.extend(eager.get(one, ()))
            self.assertFalse({"klein", "edge.api", "operations.admin"} & seen, f"{start} leads to klein at import")


class PurityTests(SynchronousTestCase):
    """Modules that say they are pure."""

    def test_pure_modules_import_nothing_of_the_world(self) -> None:
        """The standard library without clocks, chance, files and sockets; attrs, msgspec, pybase64; one another."""
        offences = []
        for found in IMPORTS:
            if not is_pure(found.module) or (found.module, found.target) in EXCEPTIONS:
                continue
            if found.root == "gateway":
                name = target_of(found)
                good = name == "" or is_pure(name)
            elif found.root in sys.stdlib_module_names:
                good = found.root not in IMPURE
            else:
                good = found.root in PURE_LIBRARIES or (found.inside and part(found.module) == "simulator")
            if not good:
                offences.append(found.where)
        self.assertEqual(offences, [], "\n" + "\n".join(offences))

    def test_modules_that_must_be_pure_say_so(self) -> None:
        """The core: what the design calls pure carries the word that this test goes by."""
        core = {
            "calls", "sse", "splice", "edge.gate", "edge.keys", "edge.errors", "routing.catalog", "routing.rotation",
            "routing.session", "routing.outcome", "accounts.standing", "accounts.oauth", "upstreams.aistudio",
            "upstreams.codeassist", "upstreams.kinds", "upstreams.verdict",
        }  # fmt: skip
        core |= {name for name in PATHS if part(name) == "dialects"}
        self.assertEqual({name for name in core if not is_pure(name)}, set())

    def test_exceptions_are_still_needed(self) -> None:
        """One that is not is taken off the list."""
        present = {(found.module, found.target) for found in IMPORTS}
        self.assertEqual(set(EXCEPTIONS) - present, set())


class ShapeTests(SynchronousTestCase):
    """Sizes and names."""

    def test_every_module_says_what_it_is(self) -> None:
        """In a line, or at least in some."""
        self.assertEqual([name for name, tree in TREES.items() if not ast.get_docstring(tree)], [])

    def test_every_module_is_on_the_map(self) -> None:
        """docs/architecture.rst names each, apart from the simulator's, and none that is gone."""
        page = (ROOT.parent / "docs" / "architecture.rst").read_text("utf-8")
        picture = page[: page.index("Where the layout differs")]
        named = set(re.findall(r"\b(\w+)\.py\b", picture))
        files = {path.stem for name, path in PATHS.items() if part(name) != "simulator" and path.stem != "__init__"}
        self.assertEqual(files ^ named, set())

    def test_modules_are_named_for_what_they_are(self) -> None:
        """No utils, manager, handler or helpers."""
        offences = [name for name in PATHS if NAMELESS & set(name.replace("_", ".").split("."))]
        self.assertEqual(offences, [])

    def test_modules_fit_in_the_head(self) -> None:
        """At most 350 lines."""
        lengths = {name: len(path.read_text("utf-8").splitlines()) for name, path in PATHS.items()}
        long = {name: count for name, count in lengths.items() if count > LINES_MOST}
        self.assertEqual({name: count for name, count in long.items() if name not in LONG}, {})
        self.assertLessEqual(set(LONG), set(long), "no longer needed")
