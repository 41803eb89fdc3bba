"""Which web pages may use the gateway, and what browsers are told: https://fetch.spec.whatwg.org/#http-cors-protocol.

Without configured origins there is no CORS header at all, and every page is a stranger.  Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.calls import Headers
from gateway.config import authority

METHODS = b"GET, HEAD, POST, OPTIONS"
ALLOWED_HEADERS = (
    b"Authorization, Content-Type, User-Agent, X-Antigravity-Credential, X-Api-Key, X-Goog-Api-Client, X-Goog-Api-Key,"
    b" X-Server-Timeout, X-Session-Id"
)
EXPOSED_HEADERS = (
    b"Retry-After, X-Antigravity-Credential, X-Antigravity-Model, X-Antigravity-Origin, X-Request-Id,"
    b" X-Upstream-Trace-Id"
)
PREFLIGHT_SECONDS = b"600"
"""How long a browser may remember what it was told."""


class Browser(msgspec.Struct, frozen=True):
    """What a browser says about where a request comes from."""

    origins: Sequence[bytes] = ()
    """The values of ``Origin``."""
    fetch_sites: Sequence[bytes] = ()
    """The values of ``Sec-Fetch-Site``, which pages cannot set."""
    preflight: bool = False
    """Whether ``Access-Control-Request-Method`` is there."""


NO_BROWSER = Browser()


class Origins(msgspec.Struct, frozen=True):
    """The origins whose pages may use the gateway, in their plain form."""

    allowed: frozenset[str] = frozenset()

    def admits(self, browser: Browser, hosts: Sequence[bytes]) -> bool:
        """Say whether a request may come from where it says; ``hosts`` are the values of its ``Host``.

        A page of the same host and port is at home, whichever scheme it was fetched by: TLS may end in front of
        the gateway.
        """
        if browser is NO_BROWSER:
            return True
        if len(browser.origins) > 1:
            return False
        if browser.origins:
            origin = _plain(browser.origins[0])
            return origin is not None and (origin in self.allowed or origin in _home(hosts))
        return all(site.strip().lower() != b"cross-site" for site in browser.fetch_sites)

    def headers(self, browser: Browser) -> Headers:
        """Return the header fields that let a configured origin's page read an answer, an error or a stream."""
        if not self.allowed:
            return ()
        vary = (b"vary", b"Origin")
        if not self._configured(browser):
            return (vary,)
        return (
            vary,
            (b"access-control-allow-origin", browser.origins[0]),
            (b"access-control-expose-headers", EXPOSED_HEADERS),
        )

    def options(self, browser: Browser) -> Headers:
        """Return the header fields of the answer to OPTIONS: a preflight's for a configured origin."""
        fields: Headers = ((b"allow", METHODS),)
        if not self.allowed:
            return fields
        vary = (b"vary", b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
        if not browser.preflight or not self._configured(browser):
            return (*fields, vary)
        return (
            *fields,
            vary,
            (b"access-control-allow-origin", browser.origins[0]),
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", ALLOWED_HEADERS),
            (b"access-control-max-age", PREFLIGHT_SECONDS),
        )

    def _configured(self, browser: Browser) -> bool:
        return len(browser.origins) == 1 and _plain(browser.origins[0]) in self.allowed


NO_ORIGINS = Origins()


def _plain(value: bytes) -> str | None:
    try:
        return authority.origin(value.decode("ascii"))
    except UnicodeDecodeError:
        return None


def _home(hosts: Sequence[bytes]) -> tuple[str | None, ...]:
    return tuple(_plain(scheme + b"://" + value) for value in hosts for scheme in (b"http", b"https"))
