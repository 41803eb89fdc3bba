"""Credentials that the operator adds and removes while the gateway runs: as files, which it watches.

Files are read and written in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs
from twisted.internet.threads import deferToThreadPool

from gateway.accounts import keyfiles
from gateway.accounts.kept import configured, kept
from gateway.accounts.sealing import seal_of
from gateway.accounts.store import StoreError
from gateway.calls import GatewayError
from gateway.config import Config, UpstreamConfig

T = TypeVar("T")
MEMBERS = {"aistudio": "api_key", "vertex": "service_account"}
"""What a file of a kind of upstream holds."""


@attrs.define(eq=False, repr=False)
class Filing:
    """The files of the configuration in force."""

    config: Callable[[], Config]
    reactor: Any

    async def add(self, upstream: str, document: Mapping[str, Any]) -> bool:
        """Keep an API key or a service account; say whether it took an older one's place.  Raises GatewayError."""
        where = chosen(self.config(), upstream)
        member = MEMBERS.get(where.kind)
        if member is None or not where.credentials_dir:
            raise GatewayError(
                409,
                "FAILED_PRECONDITION",
                "UPSTREAM_TAKES_NONE",
                f"{upstream} takes no such credentials: it is of kind {where.kind}.",
            )
        if member not in document:
            raise GatewayError(400, "INVALID_ARGUMENT", "SECRET_MISSING", f"{upstream} takes {member}.")
        if document["name"] in configured(where):
            raise GatewayError(
                409,
                "ALREADY_EXISTS",
                "NAME_CONFIGURED",
                "The configuration has a credential of this name; choose another.",
            )
        kind, directory, seal = where.kind, Path(where.credentials_dir), seal_of(where.credentials_key)
        _, renewed = await self._done(lambda: keyfiles.save(directory, kind, document, seal))
        return renewed

    async def remove(self, upstream: str, name: str) -> None:
        """Remove a credential's file, or its entry in one; nothing is revoked at Google.  Raises GatewayError."""
        where = chosen(self.config(), upstream)

        def remove() -> str:
            for one in kept(where):
                if one.name == name or f"{upstream}/{one.name}" == name:
                    if one.remove is None:
                        return "CONFIGURED"
                    one.remove()
                    return ""
            return "UNKNOWN"

        what = await self._done(remove)
        if what == "CONFIGURED":
            raise GatewayError(
                409,
                "FAILED_PRECONDITION",
                "CREDENTIAL_CONFIGURED",
                "This credential stands in the configuration; remove it there, and reload.",
            )
        if what:
            raise GatewayError(404, "NOT_FOUND", "CREDENTIAL_UNKNOWN", f"{upstream} has no such credential in a file.")

    async def _done(self, work: Callable[[], T]) -> T:
        try:
            result: T = await deferToThreadPool(self.reactor, self.reactor.getThreadPool(), work)
        except StoreError as error:
            raise GatewayError(400, "INVALID_ARGUMENT", "CREDENTIAL_INVALID", str(error)) from None
        except OSError as error:
            told = f"{error.filename or 'The file'} cannot be written: {error.strerror}."
            raise GatewayError(503, "UNAVAILABLE", "FILE_UNWRITABLE", told) from None
        return result


def chosen(config: Config, name: str) -> UpstreamConfig:
    """Return an upstream by its name; raises GatewayError."""
    for one in config.upstreams:
        if one.name == name:
            return one
    there = ", ".join(one.name for one in config.upstreams)
    raise GatewayError(
        404, "NOT_FOUND", "UPSTREAM_UNKNOWN", f"There is no upstream {name[:100]!r}; there is: {there}."
    )
