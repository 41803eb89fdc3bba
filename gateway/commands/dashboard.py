"""``antigravity dashboard`` and ``antigravity password``: what signs a browser in."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Mapping
from typing import Any

from gateway.accounts.statedir import StateDirectory
from gateway.commands.adminclient import AdminClient, NotRunning, Refused
from gateway.commands.pool import Place
from gateway.config import passwords

PAGE = "/dashboard/"
Say = Callable[[str], None]


async def link(reactor: Any, place: Place, environ: Mapping[str, str], say: Say) -> int:
    """Print where a browser is signed in; return the exit status."""
    state = StateDirectory(place.directory(environ))
    try:
        made = await AdminClient(reactor, state).post("/v1/sign-in-codes")
    except NotRunning:
        print(f"antigravity: no gateway runs that has {state.path} for its state directory", file=sys.stderr)
        return 1
    except Refused as why:
        print(f"antigravity: {why}", file=sys.stderr)
        return 1
    finally:
        state.close()
    if not made["urls"]:
        print("antigravity: this gateway serves no dashboard; see admin.listen and admin.dashboard", file=sys.stderr)
        return 1
    # Behind the # it is sent to nobody and kept in no log on the way.
    say(f"{made['urls'][0]}{PAGE}#code={made['code']}")
    return 0


async def password(say: Say) -> int:
    """Ask for a password and print its hash; return the exit status."""
    try:
        given = _asked()
    except (EOFError, KeyboardInterrupt):
        given = ""
    if len(given) < passwords.LEAST_CHARACTERS:
        print(f"antigravity: a password has at least {passwords.LEAST_CHARACTERS} characters", file=sys.stderr)
        return 1
    say(passwords.hashed(given))
    return 0


def _asked() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first, second = getpass.getpass("Password: "), getpass.getpass("Once more: ")
    if first != second:
        print("antigravity: the two are not the same", file=sys.stderr)
        return ""
    return first
