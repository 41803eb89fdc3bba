"""What a request that failed everywhere ends with.  Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import attrs
import msgspec

from gateway import splice
from gateway.calls import Attempt, Details, GatewayError, Verdict
from gateway.upstreams import unanswered
from gateway.upstreams.errordetails import rpc_name, scrubbed, status_body


class Failure(msgspec.Struct, frozen=True):
    """An attempt that did not end with a good answer."""

    verdict: Verdict
    body: bytes = b""
    """Upstream's own error body, where there was an answer."""
    retry_after: bytes = b""
    """Upstream's Retry-After in whole seconds, clamped; empty where there was none."""


class Refusal(msgspec.Struct, frozen=True):
    """Upstream's own error, to be passed on."""

    status: int
    body: bytes
    retry_after: bytes = b""


def tried(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """Return the ``details`` entry that lists what was tried: an ErrorInfo of the gateway's domain."""
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "ATTEMPTS",
        "domain": "antigravity.gateway",
        "metadata": {
            f"attempt-{number}": f"{attempt.credential} {attempt.status or 'no answer'} {attempt.reason}"
            for number, attempt in enumerate(attempts, 1)
        },
    }


def final(
    failures: Sequence[Failure],
    attempts: Sequence[Attempt],
    free_in_seconds: float | None,
    more: Details = (),
) -> Refusal:
    """Return what the client is told when nothing is left to try.

    It is the last upstream error that speaks of the client's request rather than of the operator's
    credentials, with what was tried in its details; raises GatewayError where there is none such.
    ``free_in_seconds`` is when the first credential may be used again, None where none will; ``more`` are
    entries for the error's ``details``.
    """
    shown = next((failure for failure in reversed(failures) if not failure.verdict.hides), None)
    if shown is None:
        error = unanswered.failure(failures[-1].verdict)
        raise attrs.evolve(error, details=(*error.details, *more, tried(attempts)))
    status = shown.verdict.status
    retry_after = shown.retry_after
    if status == 429 and free_in_seconds is not None:
        retry_after = b"%d" % max(1, math.ceil(free_in_seconds))
    body = scrubbed(status_body(shown.body, status))
    return Refusal(status, _completed(body, status, (*more, tried(attempts))), retry_after)


def nobody(free_in_seconds: float | None, busy: bool = False) -> GatewayError:
    """Return the error of a request for which no credential could even be tried.

    ``busy`` says that one could have been but for its limit of concurrent requests.
    """
    if free_in_seconds is None:
        return GatewayError(
            503,
            "UNAVAILABLE",
            "UPSTREAM_CREDENTIALS_UNAVAILABLE",
            "No credential of this gateway is usable for this request; its operator finds the cause in the log.",
        )
    seconds = max(1, math.ceil(free_in_seconds))
    if busy:
        return GatewayError(
            429,
            "RESOURCE_EXHAUSTED",
            "ALL_CREDENTIALS_BUSY",
            "Every credential of this gateway that may serve this has as many requests under way as it is allowed"
            f" (max_concurrent); try again in {seconds} s.",
            retry_after_seconds=float(seconds),
        )
    return GatewayError(
        429,
        "RESOURCE_EXHAUSTED",
        "ALL_CREDENTIALS_COOLING",
        f"Every credential of this gateway has used up its quota for this model; try again in {seconds} s.",
        retry_after_seconds=float(seconds),
    )


def _completed(body: bytes, status: int, more: Details) -> bytes:
    """Return an ``{"error": {...}}`` body with more details; its other members keep their bytes.

    A code or status that upstream left out is filled in, since clients show these.
    """
    try:
        outer = splice.members(body)
        error: dict[str, Any] = dict(splice.members(outer["error"]))
        details: list[Any] = list(splice.items(error["details"])) if "details" in error else []
    except (KeyError, splice.NotAnObject):
        return body
    error.setdefault("code", b"%d" % status)
    error.setdefault("status", splice.string(rpc_name(status)))
    error["details"] = splice.array([*details, *map(msgspec.json.encode, more)])
    return splice.join({**outer, "error": splice.join(error.items())}.items())
