"""The page on which the holder of a client key sees what is left of it: three files, read when they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gateway.calls import Headers
from gateway.edge.request import GatewayRequest

_PAGES: Final = Path(__file__).parent / "pages"
_TYPES: Final = {"html": b"text/html; charset=utf-8", "css": b"text/css; charset=utf-8",
                 "js": b"text/javascript; charset=utf-8"}  # fmt: skip
POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    b" frame-ancestors 'none'"
)
"""No script but ours, no request but to this gateway, and a form that sends nothing by itself, whose field is a key."""
_FIELDS: Final[Headers] = (
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)


def answer(request: GatewayRequest) -> None:
    """Answer with the file that the path names; the routes name no others."""
    name = request.path.decode("ascii").rpartition("/")[2]
    stem, _, suffix = name.partition(".")
    suffix = suffix or "html"
    body = (_PAGES / f"{stem}.{suffix}").read_bytes()
    fields = ((b"content-type", _TYPES[suffix]), (b"content-length", b"%d" % len(body)))
    request.reply(200, (*fields, *_FIELDS))
    request.write(body)
