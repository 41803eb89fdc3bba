"""The pages for whoever watches: health, readiness, status, metrics.  Nothing can be changed through them.

Whatever else is served on their listeners has a door of its own; see adminweb.py.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IProtocolFactory
from twisted.logger import Logger
from twisted.protocols.policies import ThrottlingFactory
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

IDLE_SECONDS = 60.0
CONNECTIONS_MOST = 64
"""They are to cost the clients no descriptors."""
BODY_MOST_BYTES = 64 * 1024

PATHS = (b"/healthz", b"/readyz", b"/status", b"/metrics")

_HOST = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+))(?::[0-9]{1,5})?\Z")
_log = Logger(namespace="gateway.admin")


class Pages(msgspec.Struct, frozen=True):
    """What the pages show, made when it is asked for."""

    not_ready: Callable[[], str]
    """Why no request should be sent here; empty while all is well."""
    pool: Callable[[], dict[str, Any]]
    """The upstreams and the credentials, with their states and the reasons for these."""
    status: Callable[[], dict[str, Any]]
    """Holds no secret."""
    metrics: Callable[[str], tuple[bytes | Deferred[bytes], bytes]]
    """Takes what the reader accepts, and returns the page, now or later, and its type."""


class _Brief(Request):
    """A request whose body is kept in memory as long as it is small, and else let pass."""

    overflown = False

    def gotLength(self, length: int | None) -> None:
        """Begin with nothing; see http.Request."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a little; see http.Request."""
        kept: Any = self.content
        self.overflown = self.overflown or kept.tell() + len(data) > BODY_MOST_BYTES
        if self.overflown:
            self.content = BytesIO()
        else:
            kept.write(data)


class WatchSite(Site):
    """The site, to be put behind a listener of its own; it keeps no access log."""

    noisy = False
    displayTracebacks = False
    timeOut = IDLE_SECONDS
    requestFactory = _Brief

    def __init__(self, pages: Pages, tokens: Iterable[bytes], reactor: Any) -> None:
        """``tokens`` are SHA-256 digests; without any, whoever asks under a name of loopback is let in."""
        self.pages = pages
        self.tokens = tuple(tokens)
        self.private = True
        """Whether nobody but this machine reaches the listeners."""
        self.beyond: Callable[[Request], Any] | None = None
        """Answers what lies beyond these pages, where anything does."""
        super().__init__(_Page(self), reactor=reactor, parsePOSTFormSubmission=False)  # type: ignore[no-untyped-call]

    def log(self, request: Any) -> None:
        """Log nothing."""

    def capped(self) -> IProtocolFactory:
        """Return what is to be listened with: it takes so many connections, and closes what comes beyond."""
        factory: IProtocolFactory = _Capped(self, maxConnectionCount=CONNECTIONS_MOST)  # type: ignore[no-untyped-call]
        return factory


class _Capped(ThrottlingFactory):
    """Speaks of no cap in the log: whoever floods these pages would fill it."""

    noisy = False

    def logPrefix(self) -> str:
        """Be called in the log what is capped."""
        return type(self.wrappedFactory).__name__

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """See IProtocolFactory."""
        if self.connectionCount >= self.maxConnectionCount:
            return None
        return super().buildProtocol(addr)  # type: ignore[no-untyped-call]


class _Page(Resource):
    """All paths: there are four."""

    isLeaf = True

    def __init__(self, site: WatchSite) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._site = site

    def render(self, request: Request) -> Any:
        if self._site.beyond is not None and request.path not in PATHS:
            return self._site.beyond(request)
        request.setHeader(b"cache-control", b"no-store")
        request.setHeader(b"x-content-type-options", b"nosniff")
        request.setHeader(b"content-type", b"application/json")
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader(b"allow", b"GET, HEAD")
            return _told(request, 405, "METHOD_NOT_ALLOWED", "These pages are read with GET.")
        if request.path == b"/healthz":
            return b'{"status":"ok"}\n'
        refusal = self._refused(request)
        if refusal is not None:
            return refusal
        try:
            return self._page(request)
        except Exception:
            return _failed(request, Failure())

    def _refused(self, request: Request) -> bytes | None:
        if self._site.tokens or not self._site.private:
            given = request.getHeader(b"authorization") or b""
            if _matches(given, self._site.tokens):
                return None
            request.setHeader(b"www-authenticate", b'Bearer realm="antigravity-gateway"')
            return _told(request, 401, "TOKEN_INVALID", "This page needs admin.token, as a bearer.")
        if not all(map(_is_loopback, request.requestHeaders.getRawHeaders(b"host", []))):
            # A page in a browser may have a name of its own point here.
            return _told(request, 403, "HOST_NOT_ALLOWED", "Ask for localhost, or set admin.token.")
        return None

    def _later(self, request: Request, page: Deferred[bytes]) -> int:
        gone: Deferred[None] = request.notifyFinish()
        gone.addErrback(lambda _: page.cancel())

        def failed(failure: Failure) -> bytes:
            if failure.check(CancelledError):
                failure.raiseException()
            return _failed(request, failure)

        def written(body: bytes) -> None:
            request.setHeader(b"content-length", b"%d" % len(body))
            request.write(body)
            request.finish()

        page.addErrback(failed).addCallback(written).addErrback(lambda failure: failure.trap(CancelledError))
        return NOT_DONE_YET

    def _page(self, request: Request) -> bytes | int:
        pages = self._site.pages
        if request.path == b"/readyz":
            why = pages.not_ready()
            if why:
                request.setResponseCode(503)
            return _json({"status": "not ready" if why else "ready", "reason": why, **pages.pool()})
        if request.path == b"/status":
            return _json(pages.status())
        if request.path == b"/metrics":
            page, kind = pages.metrics((request.getHeader(b"accept") or b"").decode("latin-1"))
            request.setHeader(b"content-type", kind)
            return self._later(request, page) if isinstance(page, Deferred) else page
        return _told(request, 404, "ROUTE_UNKNOWN", "There are /healthz, /readyz, /status and /metrics.")


def _matches(authorization: bytes, tokens: Iterable[bytes]) -> bool:
    """Compare with all of them, in the same time whichever it is."""
    scheme, _, token = authorization.partition(b" ")
    digest = hashlib.sha256(token.strip()).digest()
    found = False
    for known in tokens:
        found = hmac.compare_digest(digest, known) or found
    return found and scheme.lower() == b"bearer"


def _is_loopback(host: bytes) -> bool:
    match = _HOST.match(host)
    if match is None:
        return False
    name = (match[1] or match[2]).decode("ascii").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _failed(request: Request, failure: Failure) -> bytes:
    _log.failure("the page {path} failed", failure, path=request.path.decode("latin-1"))
    request.setHeader(b"content-type", b"application/json")
    return _told(request, 500, "INTERNAL", "The gateway failed; its log tells why.")


def _told(request: Request, code: int, reason: str, message: str) -> bytes:
    request.setResponseCode(code)
    return _json({"error": {"code": code, "reason": reason, "message": message}})


def _json(value: object) -> bytes:
    return msgspec.json.encode(value) + b"\n"
