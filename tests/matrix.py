"""Put the faults and the tests that name them together, and write docs/faults.rst.  Does I/O.

``python -m tests.matrix LOG...`` takes what the test runner printed and writes the document; a test of which the logs
say nothing keeps the result that the document has for it.  With ``--check`` it writes nothing, and fails if the
document would change or anything in it did not pass.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import pkgutil
import re
import sys
import unittest
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs

import tests
from tests.clients.environments import REPOSITORY
from tests.faults import FAULTS, SECTIONS

DOCUMENT = REPOSITORY / "docs" / "faults.rst"
PASSED, NOT_RUN = "passed", "not run"

MODES = {"T": "in memory", "P": "real process", "X": "outside corpus or tool"}
_ID = re.compile(r"\b([UCKLP][0-9]{1,2})(?:/([A-Z]))?\b")
_CLAIM = re.compile(r"((?:[A-Z][0-9]{1,2}(?:/[A-Z])?(?:, )?)+)[:.]")
"""What the docstring of a class begins with, where it speaks for all of its tests."""
_TEST = re.compile(r"    (test\w+) \.\.\.(?: |$)")
_RESULT = re.compile(r"\[(OK|FAIL|ERROR|SKIPPED|TODO)\]$")
_ENTRY = re.compile(r"\* ([TPX]) ``([\w.]+)``: (.+)")

_HEAD = """\
Faults
======

What the gateway does when something fails, and the tests that hold it to that.  This page is written by
``python -m tests.matrix`` from what the test runner printed; the test suite fails when a fault has no test in a mode
that is asked for it, or when this page does not name the tests as they are.

Modes: **T** in memory with a clock of the test's own, **P** the real process on loopback, **X** a corpus or a tool from
outside.  "Differs" says where the behaviour is not what was first asked for, or is proved in another way, and why.  The
table counts the tests that passed.

What went wrong is counted by its reason (``agw_attempts_total``, ``agw_streams_truncated_total`` and the others that
`Observe <observe.rst>`_ lists); there are no counters for single rows.
"""


@attrs.frozen(order=True)
class Proof:
    """A test that names a fault."""

    fault: str
    mode: str
    test: str
    """Its id, without the package."""


def modules() -> Iterable[str]:
    """Name the modules with tests in them."""
    for module in pkgutil.walk_packages(tests.__path__, "tests."):
        if module.name.rpartition(".")[2].startswith("test_"):
            yield module.name


def proofs() -> set[Proof]:
    """Return every test's claims, from their docstrings; what a module lacks the tools for is not among them."""
    found: set[Proof] = set()
    for name in modules():
        module = importlib.import_module(name)
        for case in vars(module).values():
            if inspect.isclass(case) and issubclass(case, unittest.TestCase) and case.__module__ == name:
                found.update(_of(case))
    return found


def _of(case: type[unittest.TestCase]) -> Iterable[Proof]:
    begins = _CLAIM.match(inspect.getdoc(case) or "")
    common = _ID.findall(begins[1]) if begins else []
    for method in dir(case):
        if not method.startswith("test"):
            continue
        own = _ID.findall(inspect.getdoc(getattr(case, method)) or "")
        for fault, mode in [*common, *own]:
            test = f"{case.__module__}.{case.__qualname__}.{method}".removeprefix("tests.")
            yield Proof(fault, mode or getattr(case, "mode", "T"), test)


def lacking() -> set[str]:
    """Name the modules that have no tests here because this machine has not their tools."""
    found = set()
    for name in modules():
        if getattr(importlib.import_module(name), "LACKS", ""):
            found.add(name.removeprefix("tests."))
    return found


def place(fault: str) -> tuple[int, int]:
    """Order ids as the table has them."""
    return ("UCKLP".index(fault[0]), int(fault[1:]))


def missing(claims: Iterable[Proof]) -> set[str]:
    """Return ``id/mode`` of what no test proves."""
    have = {(proof.fault, proof.mode) for proof in claims}
    return {
        f"{name}/{mode}"
        for name, fault in FAULTS.items()
        for mode in fault.modes
        if not fault.waits and (name, mode) not in have
    }


def complaints(claims: Sequence[Proof], text: str) -> list[str]:
    """Say what is wrong with the claims and with the document."""
    return [
        *sorted(
            {f"{proof.test} names {proof.fault}, which is no fault" for proof in claims if proof.fault not in FAULTS}
        ),
        *(f"{entry} has no test that names it" for entry in sorted(missing(claims))),
        *(f"{proof.fault}: {proof.test}: {result}" for proof, result in written(text) if result != PASSED),
    ]


def results(log: str) -> dict[str, str]:
    """Read the test runner's tree of modules, classes and tests."""
    found: dict[str, str] = {}
    module = case = test = ""
    for line in map(str.rstrip, log.splitlines()):
        if re.fullmatch(r"tests(\.\w+)+", line):
            module = line.removeprefix("tests.")
        elif re.fullmatch(r"  \w+", line):
            case = line.strip()
        elif begun := _TEST.match(line):
            test = begun[1]
        # What a test prints stands between its name and its result.
        if test and (ended := _RESULT.search(line)):
            found[f"{module}.{case}.{test}"] = PASSED if ended[1] == "OK" else ended[1].lower()
            test = ""
    return found


def written(text: str) -> list[tuple[Proof, str]]:
    """Read the proofs and results of a document."""
    found = []
    fault = ""
    for line in text.splitlines():
        if match := re.match(r"([UCKLP][0-9]{1,2}): ", line):
            fault = match[1]
        elif match := _ENTRY.fullmatch(line):
            found.append((Proof(fault, match[1], match[2]), match[3]))
    return found


def render(claims: Sequence[Proof], outcome: Mapping[str, str]) -> str:
    """Write the document."""
    parts = [_HEAD, *_summary(claims, outcome)]
    for letter, title in SECTIONS.items():
        parts.append(f"\n{title}\n{'-' * len(title)}\n")
        for name, fault in FAULTS.items():
            if name[0] != letter:
                continue
            heading = f"{name}: {fault.what}"
            parts.append(f"\n{heading}\n{'~' * len(heading)}\n\n{fault.does}\n")
            if fault.differs:
                parts.append(f"\nDiffers: {fault.differs}\n")
            if fault.waits:
                parts.append(f"\nWaits for {fault.waits}.\n")
            entries = [
                f"* {proof.mode} ``{proof.test}``: {outcome.get(proof.test, NOT_RUN)}\n"
                for proof in claims
                if proof.fault == name
            ]
            parts += ["\n", *entries] if entries else ()
    return "".join(parts)


def _summary(claims: Sequence[Proof], outcome: Mapping[str, str]) -> Iterable[str]:
    yield "\n.. list-table::\n   :header-rows: 1\n\n   * - id\n     - fault\n"
    yield "".join(f"     - {mode}\n" for mode in "TPX")
    for name, fault in FAULTS.items():
        yield f"   * - {name}\n     - {fault.what}{' (differs)' if fault.differs else ''}\n"
        for mode in "TPX":
            results = [outcome.get(proof.test) for proof in claims if (proof.fault, proof.mode) == (name, mode)]
            passed = results.count(PASSED)
            told = f"{passed}" if passed == len(results) else f"{passed} of {len(results)}"
            if not results:
                told = ("waits" if fault.waits else "none") if mode in fault.modes else ""
            yield f"     - {told}".rstrip() + "\n"


def claimed() -> list[Proof]:
    """Return what the tests prove; of modules that lack their tools here, what the document says that they do."""
    absent = lacking()
    kept = {proof for proof, _ in written(DOCUMENT.read_text()) if proof.test.rsplit(".", 2)[0] in absent}
    return sorted({*proofs(), *kept}, key=lambda proof: (*place(proof.fault), "TPX".index(proof.mode), proof.test))


def current(claims: Sequence[Proof], outcome: Mapping[str, str] | None = None) -> str:
    """Return the document as it should be; of a test that ``outcome`` does not know it keeps the result."""
    known = {proof.test: result for proof, result in written(DOCUMENT.read_text())}
    return render(claims, {**known, **(outcome or {})})


def main(arguments: Sequence[str]) -> int:
    """Write or check the document."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("logs", nargs="*", type=Path, metavar="LOG")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    outcome: dict[str, str] = {}
    for log in options.logs:
        outcome.update(results(log.read_text(errors="replace")))
    claims = claimed()
    text = current(claims, outcome)
    found = complaints(claims, text)
    if not options.check:
        DOCUMENT.write_text(text)
    elif text != DOCUMENT.read_text():
        found.append("docs/faults.rst is not what this run says; write it with python -m tests.matrix LOG")
    for complaint in found:
        print(complaint)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
