"""Read what an upstream's error body says: a google.rpc.Status, however it is wrapped.  Pure.

See AIP-193, https://google.aip.dev/193, and google/rpc/error_details.proto.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs
import msgspec

from gateway.upstreams.durations import duration

BODY_LIMIT: Final = 64 * 1024
"""Bytes of an error body that are read; a longer one is judged by its status alone."""

_LINK_LIMIT: Final = 2048
_REASON: Final = re.compile(r"[A-Z][A-Z0-9_]{0,62}")
_LINK: Final = re.compile(r"https://[A-Za-z0-9._~:/?#\[\]@!$&()*+,;=%-]+")
_LINK_KEYS: Final = ("validation_url", "validation_link", "validationUrl", "validationLink", "activationUrl")
_QUOTA_KEYS: Final = ("quota_limit", "quota_metric", "quota_unit", "quotaId", "quotaMetric", "quotaLimit")
_RESET_AFTER: Final = re.compile(r"(?i)\breset after ([0-9][0-9.hmsd]*[hmsd])")
_RETRY_IN: Final = re.compile(r"(?i)\bretry in ([0-9][0-9.hmsd]*[hmsd])")


class ErrorInfo(msgspec.Struct, frozen=True):
    """One google.rpc.ErrorInfo; ``reason`` is empty where it is not UPPER_SNAKE_CASE."""

    reason: str
    domain: str
    metadata: Mapping[str, Any]


@attrs.frozen
class ErrorDetails:
    """What an error body says, of all its details; empty where it says nothing."""

    raw: bytes = attrs.field(default=b"", repr=lambda raw: f"<{len(raw)} bytes>")
    """The plain ``{"error": {...}}`` as upstream wrote it, without an array or an envelope around it."""
    code: int = 0
    status: str = ""
    """The name of a google.rpc.Code."""
    message: str = attrs.field(default="", repr=lambda text: f"<{len(text)} characters>")
    infos: tuple[ErrorInfo, ...] = ()
    quotas: tuple[str, ...] = ()
    """Ids, metrics and units of the quotas that were violated."""
    delays: tuple[float, ...] = ()
    """Seconds, of every RetryInfo."""
    links: tuple[str, ...] = ()
    """Where the account's owner is sent: the details' own links first, those of Help after them."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons of all ErrorInfos, in order."""
        return tuple(info.reason for info in self.infos if info.reason)

    @property
    def reset_in_message(self) -> float | None:
        """The seconds of "Your quota will reset after 2h52m39s."."""
        match = _RESET_AFTER.search(self.message)
        return duration(match.group(1)) if match else None

    @property
    def retry_in_message(self) -> float | None:
        """The seconds of "Please retry in 37.2s."."""
        match = _RETRY_IN.search(self.message)
        return duration(match.group(1)) if match else None


NOTHING: Final = ErrorDetails()


def read(body: bytes) -> ErrorDetails:
    """Read an error body: the plain object, Google's array form, or one inside ``response``.

    Whatever is not an error object, or is longer than `BODY_LIMIT`, is `NOTHING`; it never raises.
    """
    if len(body) > BODY_LIMIT:
        return NOTHING
    for raw in _candidates(body):
        tree = _decoded(raw)
        error = tree.get("error") if isinstance(tree, dict) else None
        if isinstance(error, dict) and error.keys() & {"code", "message", "status"}:
            return _details(raw, error)
    return NOTHING


_TREE = msgspec.json.Decoder(float_hook=float)
"""Takes numbers that no float holds as infinite, where the stock decoder would refuse the whole text."""


def _candidates(body: bytes) -> Iterator[bytes]:
    """Give the places where an error object may be, as the bytes they are."""
    tree = _decoded(body)
    if isinstance(tree, dict):
        yield body
        if isinstance(tree.get("response"), dict):
            yield bytes(msgspec.json.decode(body, type=dict[str, msgspec.Raw])["response"]).strip()
    elif isinstance(tree, list):
        for element in msgspec.json.decode(body, type=list[msgspec.Raw]):
            yield bytes(element).strip()


def _decoded(body: bytes) -> Any:
    try:
        return _TREE.decode(body)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None


def _details(raw: bytes, error: Mapping[str, Any]) -> ErrorDetails:
    details = _objects(error.get("details"))
    infos = tuple(_info(item) for item in details if _is(item, "ErrorInfo"))
    return ErrorDetails(
        raw=raw,
        code=_code(error.get("code")),
        status=_name(error.get("status")),
        message=_text(error.get("message")),
        infos=infos,
        quotas=tuple(_quotas(details, infos)),
        delays=tuple(
            seconds
            for item in details
            if _is(item, "RetryInfo") and (seconds := duration(item.get("retryDelay"))) is not None
        ),
        links=tuple(_links(details, infos)),
    )


def _info(item: Mapping[str, Any]) -> ErrorInfo:
    metadata = item.get("metadata")
    return ErrorInfo(
        reason=_name(item.get("reason")),
        domain=_text(item.get("domain")),
        metadata=metadata if isinstance(metadata, dict) else {},
    )


def _quotas(details: list[dict[str, Any]], infos: tuple[ErrorInfo, ...]) -> Iterator[str]:
    for item in details:
        violations = item.get("violations") if _is(item, "QuotaFailure") else None
        for violation in _objects(violations):
            yield from (_text(violation.get(key)) for key in _QUOTA_KEYS if key in violation)
    for info in infos:
        yield from (_text(info.metadata.get(key)) for key in _QUOTA_KEYS if key in info.metadata)


def _links(details: list[dict[str, Any]], infos: tuple[ErrorInfo, ...]) -> Iterator[str]:
    found = [info.metadata[key] for info in infos for key in _LINK_KEYS if key in info.metadata]
    for item in details:
        links = item.get("links") if _is(item, "Help") else None
        found += [link.get("url") for link in _objects(links)]
    for url in found:
        if isinstance(url, str) and len(url) <= _LINK_LIMIT and _LINK.fullmatch(url):
            yield url


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _is(item: Mapping[str, Any], name: str) -> bool:
    return _text(item.get("@type")).rpartition("/")[2] == f"google.rpc.{name}"


def _code(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1000 else 0


def _name(value: object) -> str:
    """Give a reason or a code's name only where it is one: it goes into logs and into answers."""
    return value if isinstance(value, str) and _REASON.fullmatch(value) else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


RPC_NAMES: Final[Mapping[int, str]] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    416: "OUT_OF_RANGE",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}


def rpc_name(status: int) -> str:
    """Return the name of the google.rpc.Code for an HTTP status."""
    if status in RPC_NAMES:
        return RPC_NAMES[status]
    return "INVALID_ARGUMENT" if 400 <= status < 500 else "INTERNAL" if 500 <= status < 600 else "UNKNOWN"


def status_body(body: bytes, status: int) -> bytes:
    """Return an upstream's error body as clients can read it: ``{"error": {...}}``, at most 64 KiB.

    An error object is returned byte for byte, without the array or envelope around it.  HTML, what is not
    JSON and what is too long gives a google.rpc.Status of ours, which quotes none of it.
    """
    raw = read(body).raw
    if raw:
        return raw
    return msgspec.json.encode(
        {
            "error": {
                "code": status,
                "message": f"The upstream answered {status} with a body that is not a JSON error.",
                "status": rpc_name(status),
                "details": [
                    {
                        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                        "reason": "UPSTREAM_ERROR_UNREADABLE",
                        "domain": "antigravity.gateway",
                    }
                ],
            }
        }
    )


_VALUE: Final = rb"""(?:[^\s"'\\&,;:<>{}\[\]]|\\/|\\u00(?:2[bBdDfF]|3[dD]))"""
_SECRETS: Final = re.compile(
    rb"""
    (?P<keep>
        (?i: (?:api[_-]?key|access[_-]?token|refresh[_-]?token|id[_-]?token|client[_-]?secret|password)
             (?: \\{0,3}["'] \s* : \s* \\{0,3}["']          # "api_key": "..."
               | \s* (?:[:=]|\\u003[dD]|%3[dD]) \s* (?:\\{0,3}["'])?)
           | (?:key|token) (?:=|\\u003[dD]|%3[dD])
        ) (?= VALUE )
      | (?i: (?:bearer|basic) (?:\s|%20|\+){1,4} )
        (?= [A-Za-z._~+/-]{0,100}[0-9] | [A-Za-z._~+/-]{20} )
    ) VALUE{1,8192}
  | AIza[A-Za-z0-9_-]{16,}
  | AQ\.[A-Za-z0-9_-]{20,}
  | ya29\.[A-Za-z0-9._-]+
  | 1//[A-Za-z0-9_-]{20,}
  | GOCSPX-[A-Za-z0-9_-]+
  | [A-Za-z0-9._%+-]{1,64} (?:@|\\u0040|%40) [A-Za-z0-9-]{1,63} (?:\.[A-Za-z0-9-]{1,63}){0,8} \.[A-Za-z]{2,24}
  | (?P<escape> \\u[0-9A-Fa-f]{4} | \\. )                   # never cut in two: the JSON stays JSON
    """.replace(b"VALUE", _VALUE),
    re.VERBOSE,
)


def scrubbed(body: bytes) -> bytes:
    """Return an upstream's body with keys, tokens and e-mail addresses as ``...`` and all else as it was.

    What was JSON stays JSON.
    """
    return _SECRETS.sub(lambda match: match["escape"] or (match["keep"] or b"") + b"...", body)
