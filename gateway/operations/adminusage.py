"""Usage's routes of the admin API: who used what, and the requests one by one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NotRequired, Protocol, TypedDict

from twisted.web.server import Request

from gateway.calls import GatewayError
from gateway.operations.adminroutes import Query, Route, Row, answer, argument

BY = ("model", "key", "credential", "upstream", "hour", "day")
LIMIT, LIMIT_MOST = 100, 1000
_NUMBER = re.compile(r"[0-9]{1,18}\Z", re.ASCII)


class Keeping(Protocol):
    """What remembers usage; each raises GatewayError."""

    async def report(self, by: str, since: str, until: str, key: str, model: str) -> Row:
        """Return sums; empty texts are for what is usual."""

    async def requests(self, limit: int, after: int, before: int) -> list[Row]:
        """Return requests, the newest first; 0 is for no bound."""


class Sums(TypedDict):
    """What some requests took.  Times are in seconds, ``micros`` in 10^-6 US dollars."""

    requests: int
    failed: int
    prompt: int
    candidates: int
    thoughts: int
    cached: int
    micros: int
    unpriced: int
    bytes_in: int
    bytes_out: int
    firsts: int
    first_seconds: float
    seconds: float


class LabelledSums(Sums):
    """Those of one model, key, credential, upstream, hour or day, whichever was asked for."""

    model: NotRequired[str]
    key: NotRequired[str]
    credential: NotRequired[str]
    upstream: NotRequired[str]
    hour: NotRequired[str]
    day: NotRequired[str]


class Report(TypedDict):
    """Sums of a span of time; it may be longer than was asked for, to whole hours, where requests are forgotten."""

    by: str
    since: str
    until: str
    rows: list[LabelledSums]
    total: Sums
    lost: int


class OneRequest(TypedDict):
    """A request, as it was written down."""

    at: str
    id: int
    request_id: str
    key: str
    session: str
    method: str
    requested_model: str
    model: str
    upstream: str
    credential: str
    attempts: int
    status: int
    reason: str
    origin: str
    first_seconds: float | None
    seconds: float
    bytes_in: int
    bytes_out: int
    prompt: int | None
    candidates: int | None
    thoughts: int | None
    cached: int | None
    finish: str
    micros: int | None


class Requests(TypedDict):
    """Some requests, the newest first."""

    requests: list[OneRequest]


class UsageRoutes:
    """The routes over what remembers usage."""

    def __init__(self, keeping: Keeping) -> None:
        self._keeping = keeping

    def routes(self) -> Sequence[Route]:
        """See adminroutes.Part."""
        return [
            Route(
                "GET",
                "/v1/usage",
                self._usage,
                "Return what was used, in sums.",
                Report,
                query=[
                    Query("by", "What sums are told apart by; model unless given.", choices=BY),
                    Query("since", "How long ago, such as 24h or 7d, or a time in ISO 8601; 7d unless given."),
                    Query("until", "Before when, likewise; now unless given."),
                    Query("key", "Only what was used with the key of this id."),
                    Query("model", "Only what this model was used for."),
                ],
            ),
            Route(
                "GET",
                "/v1/requests",
                self._requests,
                "Return the last requests one by one, the newest first.",
                Requests,
                query=[
                    Query("limit", f"How many at most, up to {LIMIT_MOST}; {LIMIT} unless given."),
                    Query("after", "Only those of larger ids: what is new."),
                    Query("before", "Only those of smaller ids: the next page."),
                ],
            ),
        ]

    async def _usage(self, request: Request) -> bytes:
        by, since, until, key, model = (
            argument(request, name) for name in (b"by", b"since", b"until", b"key", b"model")
        )
        return answer(request, await self._keeping.report(by or BY[0], since, until, key, model))

    async def _requests(self, request: Request) -> bytes:
        limit, after, before = (_number(request, name) for name in ("limit", "after", "before"))
        if limit is not None and not 1 <= limit <= LIMIT_MOST:
            raise _invalid("limit", f"a number from 1 to {LIMIT_MOST}")
        rows = await self._keeping.requests(limit or LIMIT, after or 0, before or 0)
        return answer(request, {"requests": rows})


def _number(request: Request, name: str) -> int | None:
    text = argument(request, name.encode("ascii"))
    if text and not _NUMBER.match(text):
        raise _invalid(name, "a whole number")
    return int(text) if text else None


def _invalid(name: str, wanted: str) -> GatewayError:
    return GatewayError(400, "INVALID_ARGUMENT", "QUERY_INVALID", f"`{name}` is {wanted}.")
