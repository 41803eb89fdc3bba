"""Credentials that the operator adds, changes and removes, whether or not a gateway runs: as files, which it watches.

Files are read and written in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
from twisted.internet.threads import deferToThreadPool

from gateway.accounts import keyfiles, store
from gateway.accounts.given import given
from gateway.accounts.kept import Kept, configured, kept
from gateway.accounts.names import label
from gateway.accounts.sealing import seal_of
from gateway.accounts.store import StoreError
from gateway.calls import GatewayError, Secret
from gateway.config import Config, UpstreamConfig

Row = dict[str, Any]
T = TypeVar("T")
MEMBERS = {"aistudio": "api_key", "vertex": "service_account", "codeassist": "refresh_token"}
"""What a file of a kind of upstream holds."""


@attrs.define(eq=False, repr=False)
class Filing:
    """The files of the configuration in force."""

    config: Callable[[], Config]
    reactor: Any
    changed: Callable[[], None] = lambda: None
    """Has a running gateway look at its files at once."""

    async def add(self, upstream: str, document: Mapping[str, Any]) -> Row:
        """Keep an API key, a service account or an account's refresh token, as its file has it.

        Return its name, label and path, and whether it took an older one's place; raises GatewayError.
        """
        where = chosen(self.config(), upstream)
        member = MEMBERS[where.kind]
        if not where.credentials_dir:
            raise GatewayError(
                409,
                "FAILED_PRECONDITION",
                "UPSTREAM_TAKES_NONE",
                f"{upstream} has no files for credentials: it has no credentials_dir.",
            )
        if member not in document:
            raise GatewayError(400, "INVALID_ARGUMENT", "SECRET_MISSING", f"{upstream} takes {member}.")
        if document["name"] in configured(where):
            raise GatewayError(
                409,
                "ALREADY_EXISTS",
                "NAME_CONFIGURED",
                f"The configuration has a credential {upstream}/{document['name']}; choose another name.",
            )
        name, path, renewed = await self._done(lambda: _saved(where, document))
        return {**_row(where, name), "path": str(path), "renewed": renewed}

    async def put(self, upstream: str, name: str, changes: Mapping[str, Any]) -> Row:
        """Change how much a credential is used, in its file; None takes a member out.  Raises GatewayError."""

        def put(one: Kept) -> None:
            assert one.set is not None
            one.set(changes)

        return await self._with(upstream, name, put, "write it there, and reload")

    async def remove(self, upstream: str, name: str) -> Row:
        """Remove a credential's file, or its entry in one; nothing is revoked at Google.  Raises GatewayError."""

        def remove(one: Kept) -> None:
            assert one.remove is not None
            one.remove()

        return await self._with(upstream, name, remove, "remove it there, and reload")

    async def _with(self, upstream: str, name: str, act: Callable[[Kept], None], instead: str) -> Row:
        where = chosen(self.config(), upstream)

        def found() -> tuple[str, bool] | None:
            for one in kept(where):
                if name == one.name or f"{upstream}/{name}" == label(where.name, where.kind, one.name):
                    if one.remove is not None:
                        act(one)
                    return one.name, one.remove is not None
            return None

        one = await self._done(found)
        if one is None:
            raise GatewayError(404, "NOT_FOUND", "CREDENTIAL_UNKNOWN", f"{upstream} has no such credential in a file.")
        if not one[1]:
            raise GatewayError(
                409,
                "FAILED_PRECONDITION",
                "CREDENTIAL_CONFIGURED",
                f"This credential stands in the configuration; {instead}.",
            )
        return _row(where, one[0])

    async def _done(self, work: Callable[[], T]) -> T:
        try:
            result: T = await deferToThreadPool(self.reactor, self.reactor.getThreadPool(), work)
        except (StoreError, ValueError) as error:
            raise GatewayError(400, "INVALID_ARGUMENT", "CREDENTIAL_INVALID", str(error)) from None
        except OSError as error:
            told = f"{error.filename or 'The file'} cannot be written: {error.strerror}."
            raise GatewayError(503, "UNAVAILABLE", "FILE_UNWRITABLE", told) from None
        self.changed()
        return result


def _saved(where: UpstreamConfig, document: Mapping[str, Any]) -> tuple[str, Path | None, bool]:
    """Keep a document; return the credential's name and file, and whether it took an older one's place."""
    directory, seal = Path(where.credentials_dir), seal_of(where.credentials_key)
    if where.oauth is None:
        made, renewed = keyfiles.save(directory, where.kind, document, seal)
        return made.name, made.path, renewed
    account, renewed = store.save_account(
        directory,
        document["name"],
        Secret(document["refresh_token"]),
        document.get("project", ""),
        document.get("email", ""),
        seal,
        given(document),
    )
    return account.name, account.path, renewed


def _row(where: UpstreamConfig, name: str) -> Row:
    return {"upstream": where.name, "name": name, "label": label(where.name, where.kind, name)}


def chosen(config: Config, name: str) -> UpstreamConfig:
    """Return an upstream by its name; raises GatewayError."""
    for one in config.upstreams:
        if one.name == name:
            return one
    there = ", ".join(one.name for one in config.upstreams)
    raise GatewayError(
        404, "NOT_FOUND", "UPSTREAM_UNKNOWN", f"There is no upstream {name[:100]!r}; there is: {there}."
    )
