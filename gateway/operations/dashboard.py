"""The dashboard's files, as browsers may have them: from this package alone, and with nothing that runs beside them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import attrs
import msgspec
from twisted.web.http import CACHED
from twisted.web.server import Request

from gateway.calls import GatewayError
from gateway.operations.adminroutes import problem

ROOT = b"/dashboard/"
FILES = Path(__file__).parent.parent / "dashboard"
TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".txt": b"text/plain; charset=utf-8",
}
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
    b" base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class _File(msgspec.Struct, frozen=True):
    content: bytes
    type: bytes
    etag: bytes


class Dashboard:
    """The files by their paths, read when they are first asked for."""

    def __init__(self) -> None:
        self._paths = {
            ROOT + str(path.relative_to(FILES)).encode("ascii"): path
            for path in FILES.rglob("*")
            if path.suffix in TYPES
        }
        self._paths[ROOT] = FILES / "index.html"
        self._read: dict[bytes, _File] = {}

    def render(self, request: Request) -> Any:
        """Answer a request; see IResource."""
        if request.method not in (b"GET", b"HEAD"):
            told = GatewayError(405, "UNIMPLEMENTED", "METHOD_NOT_ALLOWED", "Pages are read with GET.")
            return problem(request, attrs.evolve(told, headers=((b"allow", b"GET, HEAD"),)))
        if request.path in (b"/", ROOT.rstrip(b"/")):
            request.redirect(ROOT)
            return b""
        path = self._paths.get(request.path)
        if path is None:
            return problem(request, GatewayError(404, "NOT_FOUND", "ROUTE_UNKNOWN", "There is no such page."))
        file = self._read.get(request.path)
        if file is None:
            content = path.read_bytes()
            etag = b'"%s"' % hashlib.sha256(content).hexdigest()[:32].encode("ascii")
            file = self._read[request.path] = _File(content, TYPES[path.suffix], etag)
        request.setHeader(b"content-type", file.type)
        request.setHeader(b"content-security-policy", POLICY)
        # What is kept is asked for again each time, and costs nothing as long as it is the same.
        request.setHeader(b"cache-control", b"no-cache")
        if request.setETag(file.etag) is CACHED:
            return b""
        return file.content
