"""The client keys at hand: those of the running daemon, or of the files where none runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from gateway.commands.adminclient import AdminClient, Refused
from gateway.commands.pool import Place, Row, reached, take, told

if TYPE_CHECKING:
    from gateway.keys.book import Book


class Keys(Protocol):
    """What the commands do with them; each raises Refused.  Keys are named by their ids."""

    async def rows(self) -> list[Row]:
        """Return a row for each key; see keys.accounting."""

    async def create(self, members: Mapping[str, Any]) -> tuple[Row, str]:
        """Make a key."""

    async def change(self, key_id: str, members: Mapping[str, Any]) -> Row:
        """Change what a key has."""

    async def rotate(self, key_id: str, grace_seconds: float) -> tuple[Row, str]:
        """Give a key another secret."""

    async def revoke(self, key_id: str) -> tuple[Row, bool]:
        """End a key."""


@attrs.frozen
class Running:
    """The keys of a daemon."""

    _client: AdminClient

    async def rows(self) -> list[Row]:
        """Return a row for each key."""
        rows: list[Row] = (await self._client.get("/v1/keys"))["keys"]
        return rows

    async def create(self, members: Mapping[str, Any]) -> tuple[Row, str]:
        """Make a key."""
        answer = await self._client.post("/v1/keys", document=members)
        return answer["key"], answer["secret"]

    async def change(self, key_id: str, members: Mapping[str, Any]) -> Row:
        """Change what a key has."""
        row: Row = (await self._client.patch(f"/v1/keys/{key_id}", members))["key"]
        return row

    async def rotate(self, key_id: str, grace_seconds: float) -> tuple[Row, str]:
        """Give a key another secret."""
        answer = await self._client.post(f"/v1/keys/{key_id}/rotate", document={"grace_seconds": grace_seconds})
        return answer["key"], answer["secret"]

    async def revoke(self, key_id: str) -> tuple[Row, bool]:
        """End a key."""
        answer = await self._client.post(f"/v1/keys/{key_id}/revoke")
        return answer["key"], answer["changed"]


@attrs.frozen
class AtRest:
    """The keys of a daemon that does not run."""

    _book: Book

    async def rows(self) -> list[Row]:
        """Return a row for each key."""
        return self._book.rows()

    async def create(self, members: Mapping[str, Any]) -> tuple[Row, str]:
        """Make a key."""
        with told():
            return await self._book.create(members)

    async def change(self, key_id: str, members: Mapping[str, Any]) -> Row:
        """Change what a key has."""
        with told():
            return await self._book.change(key_id, members)

    async def rotate(self, key_id: str, grace_seconds: float) -> tuple[Row, str]:
        """Give a key another secret."""
        with told():
            return await self._book.rotate(key_id, grace_seconds)

    async def revoke(self, key_id: str) -> tuple[Row, bool]:
        """End a key."""
        with told():
            return await self._book.revoke(key_id)


@asynccontextmanager
async def keys(reactor: Any, place: Place, environ: Mapping[str, str]) -> AsyncIterator[tuple[Keys, bool]]:
    """Yield the keys, and whether they are a running daemon's; otherwise as ``pool.pool``."""
    async with reached(reactor, place, environ) as (state, client):
        if client is not None:
            yield Running(client), True
            return
        from gateway.composition import client_keys
        from gateway.usage.books import Books

        take(state)
        config = place.read_without_upstreams(environ)
        book = client_keys(config, reactor)
        _load(book)
        book.meters.restore(Books(config.usage, state.path, reactor))
        yield AtRest(book), False


def _load(book: Book) -> None:
    from gateway.keys.bookfile import BookError

    try:
        book.load()
    except BookError as error:
        raise Refused(str(error)) from None
    except OSError as error:
        raise Refused(f"{error.filename or book.file.path} cannot be read: {error.strerror}") from None
