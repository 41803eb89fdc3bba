"""``antigravity accounts`` and ``antigravity explain``: the pool seen and steered, whether or not the daemon runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
from twisted.internet.defer import CancelledError

from gateway.commands import tables
from gateway.commands.adminclient import Refused
from gateway.commands.pool import Place, Pool, Row, pool

Say = Callable[[str], None]
"""Prints something; it is never a secret."""


@attrs.frozen
class Wish:
    """What the command line asks for."""

    place: Place
    names: Sequence[str]
    json: bool = False
    given: Mapping[str, Any] = attrs.field(factory=dict)
    """The command's own options."""


@attrs.frozen
class Scene:
    """What a command works with."""

    reactor: Any
    wish: Wish
    environ: Mapping[str, str]
    say: Say
    wall_seconds: Callable[[], float]

    def show(self, document: Any, text: str) -> None:
        """Print one of the two: JSON for programs, text for people."""
        self.say(json.dumps(document, indent=2) if self.wish.json else text)

    def pool(self) -> AbstractAsyncContextManager[tuple[Pool, bool]]:
        """Open the pool at hand; see commands.pool."""
        return pool(self.reactor, self.wish.place, self.environ)


Run = Callable[[Scene], Awaitable[int]]


async def told(
    reactor: Any, run: Run, wish: Wish, environ: Mapping[str, str], say: Say, wall_seconds: Callable[[], float]
) -> int:
    """Run a command and return the exit status; raises ConfigError."""
    try:
        return await run(Scene(reactor, wish, environ, say, wall_seconds))
    except Refused as why:
        print(f"antigravity: {tables.printable(str(why))}", file=sys.stderr)
    except CancelledError:
        print("antigravity: given up", file=sys.stderr)
    return 1


def chosen(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """Return the rows that names stand for, each once; raises Refused."""
    found: dict[str, Row] = {}
    for name in names:
        exact = [row for row in rows if name in (tables.full_name(row), row["label"])]
        fitting = exact or [row for row in rows if row["name"] == name]
        if not fitting:
            raise Refused(f"There is no credential {name!r}; `antigravity accounts list` lists them.")
        if len(fitting) > 1:
            raise Refused(f"{name!r} is several: name one of {', '.join(map(tables.full_name, fitting))}.")
        found[fitting[0]["label"]] = fitting[0]
    return list(found.values())


async def listed(scene: Scene) -> int:
    """``accounts list``."""
    async with scene.pool() as (at_hand, runs):
        rows = await at_hand.accounts()
    lines = [tables.accounts(rows, scene.wall_seconds())] if rows else ["There is no credential yet."]
    if not runs:
        lines.append("(The gateway does not run: this is what its files say.)")
    scene.show({"running": runs, "accounts": rows}, "\n".join(lines))
    return 0


async def acted(scene: Scene, action: str) -> int:
    """``accounts disable``, ``enable`` and ``clear``."""
    done = []
    async with scene.pool() as (at_hand, _):
        rows = await at_hand.accounts()
        for row in rows if scene.wish.given.get("all") else chosen(rows, scene.wish.names):
            done.append(await at_hand.act(action, row))
    text = [
        f"{tables.full_name(row)} is {_standing(row)}{'' if changed else ', as it was'}." for row, changed in done
    ]
    documents = [{"changed": changed, **row} for row, changed in done]
    scene.show({"accounts": documents}, "\n".join(map(tables.printable, text)))
    return 0


def _standing(row: Row) -> str:
    if row["reason"] == "PROJECT_MISSING":
        return "out until its project is found, which a gateway that runs looks for again at `accounts clear`"
    if row["state"] == "quarantined":
        return f"quarantined ({row['reason']}); `antigravity accounts clear` ends that"
    if row["state"] == "halted":
        return f"halted with its upstream; `antigravity accounts resume {row['upstream']}` ends that"
    return str(row["state"])


async def resumed(scene: Scene) -> int:
    """``accounts resume``."""
    (upstream,) = scene.wish.names
    async with scene.pool() as (at_hand, _):
        changed = await at_hand.resume(upstream)
    text = f"{upstream} goes on." if changed else f"{upstream} was not halted."
    scene.show({"upstream": upstream, "changed": changed}, text)
    return 0


async def tested(scene: Scene) -> int:
    """``accounts test``."""
    results: list[Row] = []
    async with scene.pool() as (at_hand, _):
        for row in chosen(await at_hand.accounts(), scene.wish.names):
            results.append(await at_hand.test(row, scene.wish.given.get("model") or ""))
    scene.show({"results": results}, "\n".join(map(tables.tested, results)))
    return 0 if all(result["good"] for result in results) else 1


async def explained(scene: Scene) -> int:
    """``antigravity explain``."""
    given = scene.wish.given
    (model,) = scene.wish.names
    async with scene.pool() as (at_hand, runs):
        result = await at_hand.explain(model, given.get("session") or "", given.get("verb") or "generateContent")
    text = tables.explained(result, scene.wall_seconds())
    if not runs:
        text += "\n(The gateway does not run: this is how it would begin.)"
    scene.show({"running": runs, **result}, text)
    return 0 if any(option["chosen"] for option in result["options"]) else 1


COMMANDS: Mapping[str, Run] = {
    "list": listed,
    "disable": lambda scene: acted(scene, "disable"),
    "enable": lambda scene: acted(scene, "enable"),
    "clear": lambda scene: acted(scene, "clear"),
    "test": tested,
    "resume": resumed,
    "explain": explained,
}
"""By the word on the command line."""
