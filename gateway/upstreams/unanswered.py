"""Judge an attempt that ended without a usable answer, and say to the client what a verdict hides.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.calls import Action, Blame, GatewayError, Verdict


def _no_answer(reason: str, blame: Blame = Blame.BASE, cool_seconds: float = 0.0, tries: int = 2) -> Verdict:
    action = Action.PASS if tries == 1 else Action.BASE
    return Verdict(action, blame, reason, cool_seconds=cool_seconds, max_tries=tries, hides=True)


_EITHER_WAY: Final = {
    "connect": _no_answer("UPSTREAM_UNREACHABLE", cool_seconds=1.0, tries=0),
    "tls": _no_answer("UPSTREAM_TLS", Blame.NOBODY, tries=1),
    "timeout-connect": _no_answer("UPSTREAM_CONNECT_TIMEOUT", cool_seconds=5.0),
    "reset": _no_answer("UPSTREAM_RESET"),
    "empty-stream": _no_answer("UPSTREAM_EMPTY"),
    "bad-content-type": _no_answer("UPSTREAM_CONTENT_TYPE"),
    "not-json": _no_answer("UPSTREAM_NOT_JSON"),
    "encoded": _no_answer("UPSTREAM_ENCODED"),
    "too-large": _no_answer("UPSTREAM_TOO_LARGE", Blame.NOBODY, tries=1),
}

_TRANSPORT: Final[Mapping[tuple[str, bool], Verdict]] = {
    **{(kind, streams): verdict for kind, verdict in _EITHER_WAY.items() for streams in (False, True)},
    # A unary call that was at work upstream would be billed twice.
    ("timeout-first-byte", False): _no_answer("UPSTREAM_TIMEOUT", tries=1),
    ("timeout-first-byte", True): _no_answer("UPSTREAM_TIMEOUT"),
    ("timeout-idle", False): _no_answer("UPSTREAM_TIMEOUT", tries=1),
    ("timeout-idle", True): _no_answer("UPSTREAM_TIMEOUT"),
    ("truncated", False): _no_answer("UPSTREAM_TRUNCATED", tries=1),
    ("truncated", True): _no_answer("UPSTREAM_TRUNCATED"),
}

TRANSPORT_KINDS: Final = frozenset(kind for kind, _ in _TRANSPORT)


def transport(kind: str, streams: bool = False) -> Verdict:
    """Judge an attempt that ended without a usable answer; no credential is ever blamed.

    ``kind`` is one of `TRANSPORT_KINDS`: ``connect`` (refused, unreachable, unknown name), ``tls``,
    ``timeout-connect``, ``timeout-first-byte``, ``timeout-idle``, ``reset`` (before any byte of an answer),
    ``truncated``, ``empty-stream``, ``bad-content-type``, ``not-json``, ``encoded`` (nobody asked for that),
    ``too-large``; another raises KeyError.
    """
    return _TRANSPORT[kind, streams]


_BROKEN: Final = (502, "UNAVAILABLE")
_LATE: Final = (504, "DEADLINE_EXCEEDED")
_SHOWN: Final[Mapping[str, tuple[int, str, str]]] = {
    "UPSTREAM_REDIRECT": (*_BROKEN, "The upstream answered with a redirect, which is never followed."),
    "UPSTREAM_NONSENSE": (*_BROKEN, "The upstream answered with a status that makes no sense here."),
    "UPSTREAM_UNREACHABLE": (503, "UNAVAILABLE", "The upstream cannot be reached; try again later."),
    "UPSTREAM_TLS": (*_BROKEN, "The upstream's TLS certificate or protocol was refused; nothing was sent."),
    "UPSTREAM_CONNECT_TIMEOUT": (*_LATE, "The connection to the upstream timed out; try again later."),
    "UPSTREAM_TIMEOUT": (*_LATE, "The upstream did not answer in time; ask for less, or stream the answer."),
    "UPSTREAM_RESET": (*_BROKEN, "The upstream closed the connection before it answered; try again."),
    "UPSTREAM_TRUNCATED": (*_BROKEN, "The upstream's answer broke off; try again."),
    "UPSTREAM_EMPTY": (*_BROKEN, "The upstream's stream ended without an event; try again."),
    "UPSTREAM_CONTENT_TYPE": (*_BROKEN, "The upstream answered with another content type than asked for."),
    "UPSTREAM_NOT_JSON": (*_BROKEN, "The upstream's answer is not JSON."),
    "UPSTREAM_ENCODED": (*_BROKEN, "The upstream's answer is compressed, which was not asked for."),
    "UPSTREAM_TOO_LARGE": (*_BROKEN, "The upstream's answer is larger than the gateway's limit."),
}


def failure(verdict: Verdict) -> GatewayError:
    """Return what the client is told in place of an answer that a verdict hides."""
    if verdict.reason in _SHOWN:
        code, status, message = _SHOWN[verdict.reason]
        return GatewayError(code, status, verdict.reason, message)
    return GatewayError(
        503,
        "UNAVAILABLE",
        "UPSTREAM_CREDENTIALS_UNAVAILABLE",
        "No credential of this gateway is usable for this request; its operator finds the cause in the log.",
    )
