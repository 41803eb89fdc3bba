"""Run a client's checks and print one line of JSON for each.  Does I/O: arguments in, stdout out.

The programs that use this run in environments of their own, so it needs the standard library only.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

#: Words in a prompt that make the simulator stream in an odd way that clients must not notice, and in a
#: broken way that they must; test_real_clients.py tells it which.
ROUGH = ("rough-done", "rough-crlf", "rough-dressed")
BROKEN = ("broken-error", "broken-cut", "broken-reset")

E = TypeVar("E", bound=Exception)
Check = Callable[[], "dict[str, Any]"]


class Checklist:
    """The checks of one client, by name, in the order in which they were declared."""

    def __init__(self) -> None:
        self.checks: dict[str, Check] = {}

    def check(self, name: str) -> Callable[[Check], Check]:
        """Declare a check; it asserts, and returns what it saw."""

        def declare(function: Check) -> Check:
            self.checks[name] = function
            return function

        return declare

    def run(self, chosen: str) -> int:
        """Run the chosen checks (names with commas; empty: all); the process's exit status."""
        failed = False
        for name in chosen.split(",") if chosen else self.checks:
            try:
                line = {"check": name, "ok": True, **self.checks[name]()}
            except Exception as error:
                failed = True
                line = {"check": name, "ok": False, "error": f"{type(error).__name__}: {error}"}
                traceback.print_exc(file=sys.stderr)
            print(json.dumps(line, default=str), flush=True)
        return 1 if failed else 0


def rejection(kind: type[E], action: Callable[[], Any]) -> E:
    """The error of this kind that the action raises."""
    try:
        action()
    except kind as error:
        return error
    raise AssertionError(f"a {kind.__name__} was expected, and there was none")


def arguments() -> argparse.Namespace:
    """What every program is told: where, with which key, which models, which checks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("base", help="URL of the gateway, without a version")
    parser.add_argument("key", help="the client's key")
    parser.add_argument("--checks", default="", help="names with commas; all if left out")
    parser.add_argument("--model", default="gemini-2.5-flash")
    parser.add_argument("--signing-model", default="gemini-3-flash-preview")
    parser.add_argument("--embedding-model", default="gemini-embedding-001")
    parser.add_argument("--api-version", default="", help="the client's own default if left out")
    parser.add_argument("--unknown-key-code", type=int, default=401, help="what a wrong key is answered with")
    return parser.parse_args()
