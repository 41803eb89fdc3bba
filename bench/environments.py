"""Set up what the bench compares the gateway with, in environments of its own.  Does I/O.

``python bench/environments.py`` makes one virtual environment for each ``requirements-*.txt`` beside this file
and one Node project from ``package.json``, below ``.work/bench`` or where ``ANTIGRAVITY_BENCH_CACHE`` says,
each under the digest of its list: a second run does nothing, a changed list makes a new environment.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs

HERE = Path(__file__).resolve().parent


class CannotSetUp(Exception):
    """Something that is to be compared is not here and could not be had."""


def cache() -> Path:
    """Return the directory of all environments, whether or not it exists."""
    return HERE.parent / (os.environ.get("ANTIGRAVITY_BENCH_CACHE") or ".work/bench")


def _run(command: list[str], directory: Path) -> None:
    """Run an installer, or raise CannotSetUp with the end of what it printed."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, cwd=directory, capture_output=True, text=True, timeout=1800
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotSetUp(f"{command[0]} could not run: {error}") from error
    if done.returncode:
        raise CannotSetUp(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-2000:]}")


def _install_python(directory: Path, requirements: Path) -> None:
    _run([sys.executable, "-m", "venv", str(directory)], requirements.parent)
    pip = [str(directory / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    _run([*pip, "-r", str(requirements)], directory)


def _install_node(directory: Path, package: Path) -> None:
    directory.mkdir(parents=True)
    shutil.copy(package, directory / "package.json")
    _run(["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"], directory)


@attrs.frozen
class Environment:
    """One environment: its name, the committed list that defines it, how it is installed."""

    name: str
    definition: Path
    install: Callable[[Path, Path], None]

    @property
    def directory(self) -> Path:
        """Where it lives."""
        seed = self.definition.read_bytes() + sys.version.encode()
        return cache() / f"{self.name}-{hashlib.sha256(seed).hexdigest()[:12]}"

    def prepare(self) -> Path:
        """Install it if it is not there and return its directory; raises CannotSetUp."""
        cache().mkdir(parents=True, exist_ok=True)
        with (cache() / f"{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            mark = self.directory / ".ready"
            if not mark.exists():
                print(f"installing {self.definition.name} into {self.directory.name} ...", file=sys.stderr, flush=True)
                # What is left of an interrupted installation is of no use.
                shutil.rmtree(self.directory, ignore_errors=True)
                self.install(self.directory, self.definition)
                mark.touch()
        return self.directory


def _python(name: str) -> Environment:
    return Environment(name, HERE / f"requirements-{name}.txt", _install_python)


AIOHTTP = _python("aiohttp")
STARLETTE = _python("starlette")
LITELLM = _python("litellm")
NODE = Environment("node", HERE / "package.json", _install_node)


def program(name: str, package: str) -> str:
    """Return the path of a program, which comes from a Debian package where it is missing and root runs this."""
    beside = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    found = shutil.which(name, path=beside)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _run(["apt-get", "update", "-qq"], HERE)
        _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], HERE)
        found = shutil.which(name, path=beside)
    if found is None:
        raise CannotSetUp(f"there is no {name}: apt-get install {package}")
    return found


def main() -> int:
    """Prepare everything; 1 and a message for each that cannot be had."""
    failed = 0
    steps: dict[str, Callable[[], object]] = {
        **{one.name: one.prepare for one in (AIOHTTP, STARLETTE, LITELLM, NODE)},
        **{name: lambda name=name: program(name, name) for name in ("nginx", "haproxy", "wrk")},  # type: ignore[misc]
    }
    for name, prepare in steps.items():
        try:
            print(f"{name}: {prepare()}")
        except CannotSetUp as error:
            failed = 1
            print(f"{name}: {error}", file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())
