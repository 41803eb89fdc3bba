"""Judge a request's head before any of its body is kept.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import msgspec

from gateway.calls import GatewayError, Headers
from gateway.dialects.paths import BadPath, normalise
from gateway.edge.hosts import LOOPBACK_HOSTS, Hosts
from gateway.edge.keys import ANONYMOUS, NO_KEYS, KeyRing
from gateway.edge.origins import NO_BROWSER, NO_ORIGINS, Browser, Origins
from gateway.edge.proxies import NO_PROXIES, Proxies
from gateway.keys.holders import NO_HOLDERS, Holder, Holders

HEALTH = "/healthz"
OWN = "/antigravity/me"
"""Where the holder of a key learns what is left of it; no route of Google's begins like this."""
PAGES = frozenset({"/antigravity/usage", "/antigravity/usage.css", "/antigravity/usage.js"})
"""The page that asks it; there is nothing of anybody's in it."""
_OPEN = PAGES | {HEALTH}
_UNCOUNTED = _OPEN | {OWN}
KEY_INVALID = "CLIENT_KEY_INVALID"
_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})


class Head(msgspec.Struct, frozen=True):
    """What is known of a request when its head is complete."""

    method: bytes
    path: bytes
    """The target's path, percent-encoded as it came."""
    target_bytes: int
    keys: Sequence[bytes]
    content_length: int | None
    credentials: Sequence[bytes] = ()
    """The values of ``X-Antigravity-Credential``."""
    hosts: Sequence[bytes] = ()
    """The values of ``Host``, and the authority of a target in absolute form.  HTTP/1.0 may have none: no browser
    speaks it, so nobody's page is behind such a request."""
    local: str = ""
    """The address that the client connected to."""
    browser: Browser = NO_BROWSER
    encodings: Sequence[bytes] = ()
    """The values of ``Content-Encoding``."""
    peer: str = ""
    """The client's address."""

    def __repr__(self) -> str:
        """Without the keys."""
        return f"Head({self.method!r}, {self.path!r}, <{len(self.keys)} keys>)"


class Admitted(msgspec.Struct, frozen=True):
    """A request that may send its body."""

    path: str
    """In its plain form."""
    key_id: str
    """Who is calling; one name for everybody where no key is asked for."""
    credential: str | None = None
    """The label of the one credential that the operator lets serve it."""
    counts: bool = True
    """Whether it counts against what its key may have; what tells of the gateway or the key itself does not."""
    settled: Headers | None = None
    """Where it is OPTIONS, which needs nothing more than 204 and these header fields."""
    holder: Holder | None = None
    """Who is calling, where it is with a key that the gateway has made."""


@attrs.frozen
class Gate:
    """The rules of the door."""

    keys: KeyRing
    authenticates: bool
    open_health: bool
    body_limit: int
    target_limit: int
    operator: KeyRing = NO_KEYS
    """The keys whose bearer may name a credential."""
    hosts: Hosts = LOOPBACK_HOSTS
    origins: Origins = NO_ORIGINS
    proxies: Proxies = NO_PROXIES
    holders: Holders = NO_HOLDERS
    """Those of the keys that the gateway has made."""
    follows_keys: bool = False
    """Whether a key is asked for as soon as there is one among ``holders``."""
    resolve: Callable[[str], str] = str
    """Returns the model that a name stands for."""

    @property
    def asks(self) -> bool:
        """Whether a client has to show a key now."""
        return self.authenticates or (self.follows_keys and self.holders.exist)

    def judge(self, head: Head) -> Admitted:
        """Return the admitted request; raises GatewayError with what to tell the client."""
        if head.target_bytes > self.target_limit:
            raise GatewayError(
                414,
                "INVALID_ARGUMENT",
                "TARGET_TOO_LONG",
                f"The request target is longer than {self.target_limit} bytes; send parameters in the body.",
            )
        if head.method not in _METHODS:
            raise GatewayError(
                501, "UNIMPLEMENTED", "METHOD_UNKNOWN", "This HTTP method is not known here; use GET or POST."
            )
        self._judge_sender(head)
        if head.method == b"OPTIONS":
            # Browsers ask it without a key before they send one; it tells nothing that is not in the documents.
            return Admitted("/", ANONYMOUS, counts=False, settled=self.origins.options(head.browser))
        path = problem = ""
        try:
            path = normalise(head.path)
        except BadPath as bad:
            problem = str(bad)
        key_id, holder = ANONYMOUS, None
        if self.asks and not (self.open_health and path in _OPEN):
            holder = self.holders.find(head.keys)
            identity = self.keys.identify(head.keys) if holder is None else holder.id
            if identity is None:
                raise _no_key()
            key_id = identity
        if problem:
            raise GatewayError(
                400, "INVALID_ARGUMENT", "PATH_INVALID", f"The request path cannot be served: {problem}."
            )
        if head.encodings and any(value.strip().lower() not in (b"", b"identity") for value in head.encodings):
            raise GatewayError(
                415,
                "INVALID_ARGUMENT",
                "CONTENT_ENCODED",
                "This gateway takes request bodies as they are: leave Content-Encoding out and send plain JSON.",
                headers=((b"accept-encoding", b"identity"),),
            )
        if head.content_length is not None and head.content_length > self.body_limit:
            raise self.too_large()
        if holder is not None and holder.bounded:
            holder.judge(head.peer, path, self.resolve)
        credential = self._credential(head) if head.credentials else None
        return Admitted(path, key_id, credential, path not in _UNCOUNTED, None, holder)

    def _judge_sender(self, head: Head) -> None:
        """Raise GatewayError where the request is meant for somebody else, or comes from a foreign page."""
        for value in head.hosts:
            if not self.hosts.admits(value, head.local):
                raise GatewayError(
                    403,
                    "PERMISSION_DENIED",
                    "HOST_NOT_ALLOWED",
                    "The name in the Host header is not one that this gateway answers to; its operator can add it to"
                    " proxy.hosts.",
                )
        if head.browser is NO_BROWSER or head.method == b"OPTIONS":
            return
        if not self.origins.admits(head.browser, head.hosts):
            raise GatewayError(
                403,
                "PERMISSION_DENIED",
                "ORIGIN_NOT_ALLOWED",
                "Pages of this origin may not use this gateway; its operator can add it to proxy.origins.",
            )

    def _credential(self, head: Head) -> str:
        if self.operator.identify(head.keys) is None:
            raise GatewayError(
                403,
                "PERMISSION_DENIED",
                "CREDENTIAL_HEADER_FORBIDDEN",
                "X-Antigravity-Credential is for the operator's key alone (proxy.operator_key); leave it out, or send"
                " that key.",
            )
        if len(head.credentials) > 1:
            raise GatewayError(
                400,
                "INVALID_ARGUMENT",
                "CREDENTIAL_HEADER_TWICE",
                "X-Antigravity-Credential came more than once; name one credential.",
            )
        return head.credentials[0].decode("utf-8", "replace")

    def too_large(self) -> GatewayError:
        """Return the error of a body beyond the limit."""
        return GatewayError(
            413,
            "INVALID_ARGUMENT",
            "BODY_TOO_LARGE",
            f"The request body is larger than {self.body_limit} bytes, the limit of this gateway (limits.body);"
            " send less, or refer to large media by URI.",
        )


def _no_key() -> GatewayError:
    return GatewayError(
        401,
        "UNAUTHENTICATED",
        KEY_INVALID,
        "This gateway needs one of its own keys, which is not a Google key: send it as x-goog-api-key, x-api-key,"
        " Authorization: Bearer, or ?key=.",
        headers=((b"www-authenticate", b'Bearer realm="antigravity-gateway"'),),
    )
