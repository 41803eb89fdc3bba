"""Set up the environments that the real clients run in.  Does I/O.

``python tests/clients/environments.py`` makes one virtual environment for each ``requirements-*.txt``
beside this file and one Node project from ``package.json``.  They live outside git, in ``.work/clients``
under the repository or where ``ANTIGRAVITY_CLIENT_CACHE`` says, each under the digest of its list: a
second run does nothing, a changed list makes a new environment.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent


def cache() -> Path:
    """The directory of all environments, whether or not it exists."""
    chosen = os.environ.get("ANTIGRAVITY_CLIENT_CACHE")
    return REPOSITORY / chosen if chosen else REPOSITORY / ".work" / "clients"


def install_python(directory: Path, requirements: Path) -> None:
    """Make a virtual environment and install a requirements file into it."""
    run([sys.executable, "-m", "venv", str(directory)], cache())
    python = directory / "bin" / "python"
    run([str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)], directory)


def install_node(directory: Path, package: Path) -> None:
    """Make a Node project; no lock file, because one records where each package came from."""
    directory.mkdir(parents=True)
    shutil.copy(package, directory / "package.json")
    run(["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"], directory)


def run(command: list[str], directory: Path) -> None:
    """Run an installer, or raise RuntimeError with what it printed."""
    try:
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, timeout=900, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"{command[0]} could not run: {error}") from error
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


@dataclass(frozen=True)
class Environment:
    """One place to run a client in: its name, the committed list that defines it, how it is installed."""

    name: str
    definition: Path
    install: Callable[[Path, Path], None]

    @property
    def directory(self) -> Path:
        """Where it lives; the digest covers the list and the interpreter."""
        seed = self.definition.read_bytes() + sys.version.encode()
        return cache() / f"{self.name}-{hashlib.sha256(seed).hexdigest()[:12]}"

    @property
    def ready(self) -> bool:
        """Whether an installation was finished."""
        return (self.directory / ".ready").exists()

    def prepare(self) -> str:
        """Install it if it is not there, and say in one line what was done."""
        if self.ready:
            return f"{self.name}: ready"
        # What is left of an interrupted installation is of no use.
        shutil.rmtree(self.directory, ignore_errors=True)
        self.install(self.directory, self.definition)
        (self.directory / ".ready").touch()
        return f"{self.name}: installed"


GENAI_2 = Environment("genai2", HERE / "requirements-genai2.txt", install_python)
GENAI_3 = Environment("genai3", HERE / "requirements-genai3.txt", install_python)
GENERATIVEAI = Environment("generativeai", HERE / "requirements-generativeai.txt", install_python)
NODE = Environment("node", HERE / "package.json", install_node)
ENVIRONMENTS = (GENAI_2, GENAI_3, GENERATIVEAI, NODE)


def prepared() -> bool:
    """Whether every environment is there, and so the tests with real clients run."""
    return all(environment.ready for environment in ENVIRONMENTS)


def main() -> int:
    """Prepare all environments side by side; 1 and a message if one cannot be made."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        # Two checkouts may share a cache, and two runs a checkout.
        fcntl.flock(lock, fcntl.LOCK_EX)
        return prepare_all()


def prepare_all() -> int:
    """Prepare them, with the lock held."""
    with ThreadPoolExecutor(len(ENVIRONMENTS)) as pool:
        results = [(environment, pool.submit(environment.prepare)) for environment in ENVIRONMENTS]
    failed = False
    for environment, result in results:
        try:
            print(result.result())
        except RuntimeError as error:
            failed = True
            print(f"{environment.name}: could not be set up: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
