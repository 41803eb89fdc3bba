"""The client keys' routes of the admin API: made, seen, changed, rotated and revoked."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Annotated, Any, NotRequired, Protocol, TypedDict

import msgspec
from msgspec import UNSET, UnsetType
from twisted.logger import Logger
from twisted.web.server import Request

from gateway.operations.adminroutes import Route, Row, answer, body, who

_log = Logger(namespace="gateway.admin")


class Keys(Protocol):
    """The client keys: plain values that hold no secret, except for a new key; each raises GatewayError."""

    def rows(self) -> list[Row]:
        """Return a row for each key."""

    def row(self, name: str) -> Row:
        """Return the row of the key of that name or id."""

    def create(self, members: Mapping[str, Any]) -> Awaitable[tuple[Row, str]]:
        """Make a key: its row, and the key itself."""

    def change(self, name: str, members: Mapping[str, Any]) -> Awaitable[Row]:
        """Change what a key has."""

    def rotate(self, name: str, grace_seconds: float = 0.0) -> Awaitable[tuple[Row, str]]:
        """Give a key another secret: its row, and the new key itself."""

    def revoke(self, name: str) -> Awaitable[tuple[Row, bool]]:
        """End a key: its row, and whether it was not revoked before."""


class Limit(TypedDict):
    """One limit of a key; ``micros`` are micro-dollars."""

    limit: str
    value: int
    used: int
    left: int
    renews: str | None


class Window(TypedDict):
    """What was used in a time: tokens of all kinds, and what they cost in micro-dollars."""

    since: str
    until: str
    requests: int
    tokens: int
    micros: int


class Usage(TypedDict):
    """What was used in this day and this month of UTC."""

    day: Window
    month: Window


class Key(TypedDict):
    """A client key, as its operator sees it; those of the configuration have no grant of their own."""

    id: str
    name: str
    source: str
    state: str
    created: NotRequired[str]
    rotated: NotRequired[str | None]
    revoked: NotRequired[str | None]
    former_good_until: NotRequired[str | None]
    expires: NotRequired[str | None]
    models: NotRequired[list[str]]
    networks: NotRequired[list[str]]
    requests_per_minute: NotRequired[int | None]
    concurrent: NotRequired[int | None]
    tokens_per_minute: NotRequired[int | None]
    tokens_per_day: NotRequired[int | None]
    micros_per_day: NotRequired[int | None]
    micros_per_month: NotRequired[int | None]
    last_used: str | None
    under_way: int
    limits: list[Limit]
    usage: Usage


class AllKeys(TypedDict):
    """All keys."""

    keys: list[Key]


class OneKey(TypedDict):
    """One key."""

    key: Key


class NewKey(TypedDict):
    """A key, and its secret, which is told this once."""

    key: Key
    secret: str


class Revoked(TypedDict):
    """A key after its end, and whether it was not revoked before."""

    key: Key
    changed: bool


_Number = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
_Optional = _Number | UnsetType | None


class _Grant(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    expires: str | UnsetType | None = UNSET
    models: list[str] | UnsetType = UNSET
    networks: list[str] | UnsetType = UNSET
    requests_per_minute: _Optional = UNSET
    concurrent: _Optional = UNSET
    tokens_per_minute: _Optional = UNSET
    tokens_per_day: _Optional = UNSET
    micros_per_day: _Optional = UNSET
    micros_per_month: _Optional = UNSET


class KeyWish(_Grant):
    """A key that is to be made.  Of each number: null is the configuration's default, 0 no limit."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class KeyChange(_Grant):
    """What is to be changed of a key; what is not named stays."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | UnsetType = UNSET


class Rotation(msgspec.Struct, forbid_unknown_fields=True):
    """For how many seconds the old secret is good still."""

    grace_seconds: Annotated[float, msgspec.Meta(ge=0, le=366 * 86400)] = 0.0


class KeyRoutes:
    """The routes over the keys."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def routes(self) -> Sequence[Route]:
        """See adminroutes.Part."""
        one = "/v1/keys/<name>"
        return [
            Route("GET", "/v1/keys", self._all, "List the client keys.", AllKeys),
            Route("POST", "/v1/keys", self._create, "Make a client key, which is told this once.", NewKey, KeyWish),
            Route("GET", one, self._one, "Return one client key, by its name or id.", OneKey),
            Route("PATCH", one, self._change, "Change what a client key may do.", OneKey, KeyChange),
            Route("POST", f"{one}/rotate", self._rotate, "Give a client key another secret.", NewKey, Rotation),
            Route("POST", f"{one}/revoke", self._revoke, "End a client key, at once and for good.", Revoked),
        ]

    def _all(self, request: Request) -> bytes:
        return answer(request, {"keys": self._keys.rows()})

    def _one(self, request: Request, name: str) -> bytes:
        return answer(request, {"key": self._keys.row(name)})

    async def _create(self, request: Request) -> bytes:
        row, secret = await self._keys.create(_members(body(request, KeyWish)))
        _told(request, "made", row)
        return answer(request, {"key": row, "secret": secret})

    async def _change(self, request: Request, name: str) -> bytes:
        row = await self._keys.change(name, _members(body(request, KeyChange)))
        _told(request, "changed", row)
        return answer(request, {"key": row})

    async def _rotate(self, request: Request, name: str) -> bytes:
        row, secret = await self._keys.rotate(name, body(request, Rotation).grace_seconds)
        _told(request, "rotated", row)
        return answer(request, {"key": row, "secret": secret})

    async def _revoke(self, request: Request, name: str) -> bytes:
        row, changed = await self._keys.revoke(name)
        _told(request, "revoked" if changed else "revoked again", row)
        return answer(request, {"key": row, "changed": changed})


def _members(wish: msgspec.Struct) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.structs.asdict(wish)
    return {name: value for name, value in told.items() if value is not UNSET}


def _told(request: Request, what: str, row: Row) -> None:
    _log.info("{who}: {what} client key {name} ({id})", who=who(request), what=what, name=row["name"], id=row["id"])
