"""Fuzz what strangers' bytes reach, with atheris: https://github.com/google/atheris.

    python tests/fuzz/run.py [TARGET...] [--seconds N] [--jobs N] [--work DIRECTORY]

Each target runs alone for the given time, from its seeds and from what earlier runs found worth keeping.  Prints what
was executed and covered; exits 1 where an input broke a promise (it is kept, and named), 2 where atheris is missing.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from tests.fuzz import SCRATCH, TARGETS  # noqa: E402

LENGTH_MOST = 4096
INPUT_SECONDS_MOST = 10
MEMORY_MOST_MB = 1024
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_NEW = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)/")
_FIRST = re.compile(r"INITED\s+cov: (\d+)")


@attrs.frozen
class Outcome:
    """What one target came to."""

    target: str
    seconds: int
    executions: int
    edges: int
    """Of the gateway's own code."""
    edges_at_first: int
    """By the seeds, and by what earlier runs kept."""
    corpus: int
    findings: list[Path]
    log: Path
    status: int

    @property
    def good(self) -> bool:
        return self.status == 0 and not self.findings and self.executions > 0


def child(target: str, arguments: list[str]) -> None:
    """Fuzz in this process; never returns."""
    import atheris

    atheris.enabled_hooks.add("str")
    with atheris.instrument_imports(include=["gateway"]):
        module = importlib.import_module(f"tests.fuzz.{target}")
    atheris.Setup([sys.argv[0], *arguments], module.one_input)
    atheris.Fuzz()


def fuzz(target: str, seconds: int, work: Path) -> Outcome:
    """Fuzz one target in a process of its own."""
    module = importlib.import_module(f"tests.fuzz.{target}")
    place = work / target
    seeds, corpus, findings = (place / name for name in ("seeds", "corpus", "findings"))
    for directory in (seeds, corpus, findings):
        directory.mkdir(parents=True, exist_ok=True)
    more = module.more_seeds() if hasattr(module, "more_seeds") else ()
    for number, seed in enumerate((*module.SEEDS, *more)):
        (seeds / f"{number:04}").write_bytes(seed)
    (place / "dictionary").write_text("".join(f'"{_escaped(word)}"\n' for word in module.DICTIONARY), "ascii")
    known = set(findings.iterdir())
    command = [
        sys.executable, str(Path(__file__).resolve()), "--child", target, f"-max_total_time={seconds}",
        f"-max_len={LENGTH_MOST}", f"-timeout={INPUT_SECONDS_MOST}", f"-rss_limit_mb={MEMORY_MOST_MB}",
        f"-artifact_prefix={findings}/", f"-dict={place}/dictionary", "-print_final_stats=1", str(corpus), str(seeds),
    ]  # fmt: skip
    log = place / "log"
    with log.open("wb") as output:
        status = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=place, check=False
        ).returncode
    for scratch in place.glob(f"{SCRATCH}*"):
        shutil.rmtree(scratch, ignore_errors=True)
    said = log.read_text("utf-8", "replace")
    executed, new, first = _EXECUTED.findall(said), _NEW.findall(said), _FIRST.findall(said)
    return Outcome(
        target,
        seconds,
        int(executed[-1]) if executed else 0,
        int(new[-1][0]) if new else 0,
        int(first[-1]) if first else 0,
        int(new[-1][2]) if new else 0,
        sorted(set(findings.iterdir()) - known),
        log,
        status,
    )


def _escaped(word: bytes) -> str:
    return "".join(chr(byte) if byte < 0x80 and chr(byte).isalnum() else f"\\x{byte:02x}" for byte in word)


def main() -> int:
    """Fuzz and tell; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=30, help="for each target (30)")
    parser.add_argument("--jobs", type=int, default=1, help="so many targets at a time (1)")
    parser.add_argument("--work", type=Path, default=REPOSITORY / ".work" / "fuzz", help="where corpora are kept")
    options = parser.parse_args()
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if importlib.util.find_spec("atheris") is None:
        print("atheris is missing: pip install -e '.[fuzz]'", file=sys.stderr)
        return 2
    with ThreadPoolExecutor(options.jobs) as pool:
        chosen = options.targets or TARGETS
        outcomes = list(pool.map(lambda target: fuzz(target, options.seconds, options.work.resolve()), chosen))
    print(f"{'target':<14} {'seconds':>7} {'executions':>11} {'edges':>6} {'at first':>8} {'corpus':>6}  findings")
    for one in outcomes:
        told = ", ".join(str(path) for path in one.findings) or ("none" if one.good else f"it did not run: {one.log}")
        print(
            f"{one.target:<14} {one.seconds:>7} {one.executions:>11} {one.edges:>6} {one.edges_at_first:>8}"
            f" {one.corpus:>6}  {told}"
        )
    bad = [one.target for one in outcomes if not one.good]
    total = sum(one.executions for one in outcomes)
    print(f"{'FAIL' if bad else 'pass'}: {total} executions, {len(bad)} of {len(outcomes)} targets with findings")
    return 1 if bad else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3:])
    sys.exit(main())
