"""``antigravity accounts add``, ``import``, ``export``, ``set`` and ``remove``: credentials as files.

A running gateway watches its files, so these work whether or not one runs.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.accounts import keyfiles, store
from gateway.accounts.guards import GUARDED
from gateway.accounts.kept import Kept, configured, kept
from gateway.accounts.sealing import seal_of
from gateway.accounts.store import StoreError
from gateway.commands.accounts import Run, Scene
from gateway.commands.adminclient import Refused
from gateway.commands.tables import printable
from gateway.config import Config, UpstreamConfig

INPUT_MOST = 16 * 1024 * 1024
_AT_ONCE = "A gateway that is running uses it at once."


def _guarded(run: Callable[[Scene, Config], int]) -> Run:
    async def command(scene: Scene) -> int:
        try:
            return run(scene, scene.wish.place.read(scene.environ))
        except StoreError as error:
            raise Refused(str(error)) from None
        except OSError as error:
            raise Refused(f"{error.filename or 'A file'}: {error.strerror}") from None

    return command


def add(scene: Scene, config: Config) -> int:
    """``accounts add``: an API key or a service account."""
    (name,) = scene.wish.names
    given = scene.wish.given
    kind = "aistudio" if given["key-file"] else "vertex"
    upstream = _upstream(config, kind, given["upstream"] or "")
    named: dict[str, Any] = {"name": name}
    store.change(named, _terms(given))
    if given["project"]:
        named["project"] = given["project"]
    if kind == "aistudio":
        document = {**named, "api_key": _text(given["key-file"]).strip()}
    else:
        document = {**named, "service_account": _json(given["service-account"])}
    if name in configured(upstream):
        raise Refused(f"The configuration has a credential {upstream.name}/{name}; choose another name.")
    directory, seal = Path(upstream.credentials_dir), seal_of(upstream.credentials_key)
    made, renewed = keyfiles.save(directory, kind, document, seal)
    text = f"{'Renewed' if renewed else 'Added'} {upstream.name}/{name} in {made.path}.\n{_AT_ONCE}"
    scene.show({"upstream": upstream.name, "name": name, "path": str(made.path), "renewed": renewed}, text)
    return 0


def take_in(scene: Scene, config: Config) -> int:
    """``accounts import``: OAuth accounts as users bring them along."""
    (source,) = scene.wish.names
    upstream = _upstream(config, "codeassist", scene.wish.given["upstream"] or "")
    accounts = store.entries(_json(source), Path(source))
    nameless = [number for number, account in enumerate(accounts, 1) if not account.name]
    if nameless:
        raise Refused(f"{source}: account {nameless[0]} has neither `email` nor `name`; give it one. None was taken.")
    directory, seal = Path(upstream.credentials_dir), seal_of(upstream.credentials_key)
    rows = []
    for account in accounts:
        email = account.email or (account.name if "@" in account.name else "")
        saved, renewed = store.save_account(
            directory, account.name, account.refresh_token, account.project, email, seal, account.given
        )
        rows.append({"upstream": upstream.name, "name": saved.name, "path": str(saved.path), "renewed": renewed})
    lines = [
        f"{'Renewed' if row['renewed'] else 'Added'} {row['upstream']}/{row['name']} in {row['path']}." for row in rows
    ]
    lines.append("A gateway that is running uses them at once." if rows else f"{source} holds no account.")
    scene.show({"accounts": rows}, "\n".join(map(printable, lines)))
    return 0


def export(scene: Scene, config: Config) -> int:
    """``accounts export``: OAuth accounts as other programs take them."""
    target = scene.wish.given["output"]
    upstream = _upstream(config, "codeassist", scene.wish.given["upstream"] or "")
    accounts = store.load(Path(upstream.credentials_dir), seal_of(upstream.credentials_key))
    content = json.dumps({"accounts": [_entry(account) for account in accounts]}, indent=2) + "\n"
    if target == "-":
        sys.stdout.write(content)
        sys.stdout.flush()
    else:
        try:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | GUARDED, 0o600)
        except FileExistsError:
            raise Refused(f"{target} is there already, and is not overwritten; name another file.") from None
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        scene.show({"output": target, "accounts": len(accounts)}, f"Wrote {len(accounts)} accounts to {target}.")
    print(
        "antigravity: the export holds refresh tokens in clear: whoever has it can use these accounts. Keep it to"
        " yourself, and delete it when it has served.",
        file=sys.stderr,
    )
    return 0


def remove(scene: Scene, config: Config) -> int:
    """``accounts remove``: files, or entries in them."""
    chosen = _chosen(scene, config, "remove it there, and restart the gateway")
    for one in chosen:
        assert one.remove is not None
        one.remove()
    lines = [f"Removed {one.upstream}/{one.name}." for one in chosen]
    lines.append("A gateway that is running uses it no more.")
    rows = [{"upstream": one.upstream, "name": one.name} for one in chosen]
    scene.show({"removed": rows}, "\n".join(map(printable, lines)))
    return 0


def put(scene: Scene, config: Config) -> int:
    """``accounts set``: weight, priority and requests at a time, in files."""
    changes = _terms(scene.wish.given)
    chosen = _chosen(scene, config, "write them there, and restart the gateway")
    for one in chosen:
        assert one.set is not None
        one.set(changes)
    told = ", ".join(f"{name} {'default' if value is None else f'{value:g}'}" for name, value in changes.items())
    rows = [{"upstream": one.upstream, "name": one.name, **changes} for one in chosen]
    lines = [f"{one.upstream}/{one.name}: {told}." for one in chosen]
    scene.show({"set": rows}, "\n".join(map(printable, [*lines, _AT_ONCE])))
    return 0


COMMANDS: Mapping[str, Run] = {
    "add": _guarded(add),
    "import": _guarded(take_in),
    "export": _guarded(export),
    "set": _guarded(put),
    "remove": _guarded(remove),
}
"""By the word on the command line."""


def _upstream(config: Config, kind: str, name: str) -> UpstreamConfig:
    fitting = [upstream for upstream in config.upstreams if upstream.kind == kind and upstream.credentials_dir]
    found = [upstream for upstream in fitting if upstream.name == name] if name else fitting
    if len(found) == 1:
        return found[0]
    names = ", ".join(upstream.name for upstream in fitting) or "none"
    problem = f"{name!r} is no upstream" if name else "Several upstreams are" if found else "No upstream is"
    raise Refused(f"{problem} of kind {kind} that can have such files; name one with --upstream: {names}.")


def _chosen(scene: Scene, config: Config, instead: str) -> list[Kept]:
    """Return the credentials that are named, all of which lie in files; raises Refused."""
    known = [one for upstream in config.upstreams for one in kept(upstream)]
    chosen: list[Kept] = []
    for name in scene.wish.names:
        exact = [one for one in known if f"{one.upstream}/{one.name}" == name]
        fitting = exact or [one for one in known if one.name == name]
        if len(fitting) != 1:
            several = ", ".join(f"{one.upstream}/{one.name}" for one in fitting)
            raise Refused(f"{name!r} is {f'several: name one of {several}' if fitting else 'no credential'}.")
        if fitting[0].remove is None:
            raise Refused(f"{name!r} stands in {config.source}; {instead}.")
        chosen.append(fitting[0])
    return chosen


def _terms(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the options say of how much a credential is used, as its file's members."""
    return dict(given[name] for name in ("weight", "priority", "max-concurrent") if given[name] is not None)


def _entry(account: store.Account) -> dict[str, Any]:
    email = account.email or (account.name if "@" in account.name else "")
    told = {"name": account.name if account.name != email else "", "email": email, "project": account.project}
    named = {key: value for key, value in told.items() if value}
    # Other programs take no notice of the last ones.
    return {**named, "refresh_token": account.refresh_token.reveal(), **account.given.members()}


def _text(source: str) -> str:
    """Return what a file holds, or standard input for ``-``."""
    try:
        if source == "-":
            data = sys.stdin.buffer.read(INPUT_MOST)
        else:
            with open(source, "rb") as file:
                data = file.read(INPUT_MOST)
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(f"{source} is no text.") from None


def _json(source: str) -> Any:
    try:
        return json.loads(_text(source))
    except (ValueError, RecursionError) as error:
        raise Refused(f"{source} cannot be read as JSON ({error}).") from None
