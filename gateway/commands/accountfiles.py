"""``antigravity accounts add``, ``import``, ``export``, ``set`` and ``remove``: credentials as files.

A gateway that runs is asked to change them, through its API; where none runs they are changed here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import attrs

from gateway.accounts import store
from gateway.accounts.guards import GUARDED
from gateway.accounts.kept import kept
from gateway.accounts.names import label
from gateway.accounts.sealing import seal_of
from gateway.accounts.store import StoreError
from gateway.commands.accounts import Run, Scene, chosen
from gateway.commands.adminclient import AdminClient, Refused
from gateway.commands.pool import Row, Running, reached, told
from gateway.commands.tables import full_name, printable
from gateway.config import Config
from gateway.filing import Filing

INPUT_MOST = 16 * 1024 * 1024
_AT_ONCE = "A gateway that is running uses it at once."


class Keeping(Protocol):
    """Where credentials are kept as files; each raises Refused."""

    @property
    def source(self) -> str:
        """What has those that are no files."""

    async def upstreams(self, kind: str) -> list[str]:
        """Return the names of the upstreams of a kind that may have such files."""

    async def accounts(self) -> list[Row]:
        """Return a row for each credential; see routing.oversight."""

    async def add(self, upstream: str, document: Row) -> Row:
        """Keep one."""

    async def put(self, row: Row, changes: Row) -> None:
        """Change how much one is used."""

    async def remove(self, row: Row) -> None:
        """Remove one."""


@attrs.frozen
class OfDaemon:
    """A running gateway, which keeps them and uses them at once."""

    _client: AdminClient
    source: str = "the configuration"

    async def upstreams(self, kind: str) -> list[str]:
        """Return the names of the upstreams of a kind."""
        return [one["name"] for one in (await self._client.get("/v1/status"))["upstreams"] if one["kind"] == kind]

    async def accounts(self) -> list[Row]:
        """Return a row for each credential."""
        return await Running(self._client).accounts()

    async def add(self, upstream: str, document: Row) -> Row:
        """Keep one."""
        row: Row = await self._client.post(f"/v1/upstreams/{upstream}/credentials", document=document)
        return row

    async def put(self, row: Row, changes: Row) -> None:
        """Change how much one is used."""
        await self._client.patch(f"/v1/accounts/{row['label']}/terms", changes)

    async def remove(self, row: Row) -> None:
        """Remove one."""
        await self._client.delete(f"/v1/accounts/{row['label']}")


@attrs.frozen
class OfFiles:
    """The files of a gateway that does not run."""

    _config: Config
    _filing: Filing

    @property
    def source(self) -> str:
        """The configuration's file."""
        return self._config.source

    async def upstreams(self, kind: str) -> list[str]:
        """Return the names of the upstreams of a kind that may have such files."""
        return [one.name for one in self._config.upstreams if one.kind == kind and one.credentials_dir]

    async def accounts(self) -> list[Row]:
        """Return what `OfDaemon` does of each credential, as far as it is asked for here."""
        return [
            {
                "upstream": upstream.name,
                "name": one.name,
                "label": label(upstream.name, upstream.kind, one.name),
                "in_file": one.remove is not None,
            }
            for upstream in self._config.upstreams
            for one in kept(upstream)
        ]

    async def add(self, upstream: str, document: Row) -> Row:
        """Keep one."""
        with told():
            return await self._filing.add(upstream, document)

    async def put(self, row: Row, changes: Row) -> None:
        """Change how much one is used."""
        with told():
            await self._filing.put(row["upstream"], row["name"], changes)

    async def remove(self, row: Row) -> None:
        """Remove one."""
        with told():
            await self._filing.remove(row["upstream"], row["name"])


@asynccontextmanager
async def keeping(scene: Scene) -> AsyncIterator[Keeping]:
    """Yield who keeps the files: the running gateway, through its API, or this command where none runs."""
    place = scene.wish.place
    async with reached(scene.reactor, place, scene.environ) as (_, client):
        if client is not None:
            yield OfDaemon(client)
            return
        config = place.read(scene.environ)
        yield OfFiles(config, Filing(lambda: config, scene.reactor))


def _guarded(run: Run) -> Run:
    async def command(scene: Scene) -> int:
        try:
            return await run(scene)
        except StoreError as error:
            raise Refused(str(error)) from None
        except OSError as error:
            raise Refused(f"{error.filename or 'A file'}: {error.strerror}") from None

    return command


async def add(scene: Scene) -> int:
    """``accounts add``: an API key or a service account."""
    (name,) = scene.wish.names
    given = scene.wish.given
    document: Row = {"name": name, **{term: value for term, value in _terms(given).items() if value is not None}}
    if given["project"]:
        document["project"] = given["project"]
    async with keeping(scene) as files:
        kind = "aistudio" if given["key-file"] else "vertex"
        upstream = await _upstream(files, kind, given["upstream"] or "")
        if kind == "aistudio":
            document["api_key"] = _text(given["key-file"]).strip()
        else:
            document["service_account"] = _json(given["service-account"])
        row = await files.add(upstream, document)
    text = f"{'Renewed' if row['renewed'] else 'Added'} {upstream}/{name} in {row['path']}.\n{_AT_ONCE}"
    shown = {"upstream": upstream, "name": name, "path": row["path"], "renewed": row["renewed"]}
    scene.show(shown, "\n".join(map(printable, text.splitlines())))
    return 0


async def take_in(scene: Scene) -> int:
    """``accounts import``: OAuth accounts as users bring them along."""
    (source,) = scene.wish.names
    rows = []
    async with keeping(scene) as files:
        upstream = await _upstream(files, "codeassist", scene.wish.given["upstream"] or "")
        accounts = store.entries(_json(source), Path(source))
        nameless = [number for number, account in enumerate(accounts, 1) if not account.name]
        if nameless:
            raise Refused(
                f"{source}: account {nameless[0]} has neither `email` nor `name`; give it one. None was taken."
            )
        for account in accounts:
            row = await files.add(upstream, {"name": account.name, **_entry(account)})
            rows.append({name: row[name] for name in ("upstream", "name", "path", "renewed")})
    lines = [
        f"{'Renewed' if row['renewed'] else 'Added'} {row['upstream']}/{row['name']} in {row['path']}." for row in rows
    ]
    lines.append("A gateway that is running uses them at once." if rows else f"{source} holds no account.")
    scene.show({"accounts": rows}, "\n".join(map(printable, lines)))
    return 0


def export(scene: Scene, config: Config) -> int:
    """``accounts export``: OAuth accounts as other programs take them."""
    target = scene.wish.given["output"]
    fitting = {one.name: one for one in config.upstreams if one.kind == "codeassist" and one.credentials_dir}
    upstream = fitting[_one_of(list(fitting), "codeassist", scene.wish.given["upstream"] or "")]
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


async def remove(scene: Scene) -> int:
    """``accounts remove``: files, or entries in them."""
    async with keeping(scene) as files:
        rows = await _chosen(scene, files, "remove it there, and restart the gateway")
        for row in rows:
            await files.remove(row)
    lines = [f"Removed {full_name(row)}." for row in rows]
    lines.append("A gateway that is running uses it no more.")
    removed = [{"upstream": row["upstream"], "name": row["name"]} for row in rows]
    scene.show({"removed": removed}, "\n".join(map(printable, lines)))
    return 0


async def put(scene: Scene) -> int:
    """``accounts set``: weight, priority and requests at a time, in files."""
    changes = _terms(scene.wish.given)
    async with keeping(scene) as files:
        chosen_rows = await _chosen(scene, files, "write them there, and restart the gateway")
        for row in chosen_rows:
            await files.put(row, changes)
    terms = ", ".join(f"{name} {'default' if value is None else f'{value:g}'}" for name, value in changes.items())
    rows = [{"upstream": row["upstream"], "name": row["name"], **changes} for row in chosen_rows]
    lines = [f"{full_name(row)}: {terms}." for row in chosen_rows]
    scene.show({"set": rows}, "\n".join(map(printable, [*lines, _AT_ONCE])))
    return 0


async def _exported(scene: Scene) -> int:
    # Not of a running gateway: nothing that is asked over the network tells a secret.
    return export(scene, scene.wish.place.read(scene.environ))


COMMANDS: Mapping[str, Run] = {
    "add": _guarded(add),
    "import": _guarded(take_in),
    "export": _guarded(_exported),
    "set": _guarded(put),
    "remove": _guarded(remove),
}
"""By the word on the command line."""


async def _upstream(files: Keeping, kind: str, name: str) -> str:
    return _one_of(await files.upstreams(kind), kind, name)


def _one_of(fitting: Sequence[str], kind: str, name: str) -> str:
    found = [one for one in fitting if one == name] if name else list(fitting)
    if len(found) == 1:
        return found[0]
    problem = f"{name!r} is no upstream" if name else "Several upstreams are" if found else "No upstream is"
    raise Refused(
        f"{problem} of kind {kind} that can have such files; name one with --upstream: {', '.join(fitting) or 'none'}."
    )


async def _chosen(scene: Scene, files: Keeping, instead: str) -> list[Row]:
    """Return the credentials that are named, all of which lie in files; raises Refused."""
    rows = chosen(await files.accounts(), scene.wish.names)
    for row in rows:
        if not row["in_file"]:
            raise Refused(f"{full_name(row)} stands in {files.source}; {instead}.")
    return rows


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
