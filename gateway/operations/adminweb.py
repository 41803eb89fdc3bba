"""The admin API over the network, behind its door, and the dashboard; with the headers that browsers go by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource
from twisted.web.server import Request

from gateway.calls import GatewayError
from gateway.operations.adminroutes import problem
from gateway.operations.adminsession import peer_of
from gateway.operations.dashboard import Dashboard
from gateway.operations.door import COOKIE, MARK, Door, Knock

API = b"/v1/"
HEADERS = (
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


class AdminWeb:
    """Under ``/v1/`` the API, and the dashboard's files under any other path."""

    def __init__(self, door: Door, face: IResource, clock: IReactorTime) -> None:
        self.door = door
        self._dashboard = Dashboard()
        self._face = face
        self._clock = clock

    def render(self, request: Request) -> Any:
        """Answer a request; see IResource."""
        for name, value in HEADERS:
            request.setHeader(name, value)
        if not request.path.startswith(API):
            return self._dashboard.render(request)
        try:
            request.caller = self.door.judge(knock(request), self._clock.seconds())  # type: ignore[attr-defined]
            if getattr(request, "overflown", False):
                raise GatewayError(413, "INVALID_ARGUMENT", "BODY_TOO_LARGE", "Nothing here takes so large a body.")
        except GatewayError as error:
            return problem(request, error)
        return self._face.render(request)


def knock(request: Request) -> Knock:
    """Return what the door looks at."""
    values = request.requestHeaders.getRawHeaders
    return Knock(
        method=request.method,
        path=request.path,
        peer=peer_of(request),
        local=str(getattr(request.getHost(), "host", "")),
        hosts=values(b"host", []),
        origins=values(b"origin", []),
        sites=values(b"sec-fetch-site", []),
        authorization=b",".join(values(b"authorization", [])),
        marked=bool(values(MARK, [])),
        cookies=_cookies(values(b"cookie", [])),
    )


def _cookies(headers: Sequence[bytes]) -> list[str]:
    """Return all that are shown as a session's: another program on this host may have set one of the same name."""
    pairs = (pair.strip().partition(b"=") for header in headers for pair in header.split(b";"))
    return [value.decode("latin-1") for name, _, value in pairs if name == COOKIE.encode("ascii")][:8]
