"""GatewayError as google.rpc.Status in JSON: https://google.aip.dev/193.  Pure."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from gateway.calls import GatewayError, Headers

DOMAIN = "antigravity.gateway"
_TYPE = "type.googleapis.com/google.rpc."


def body(error: GatewayError) -> bytes:
    """Return the ``{"error": ...}`` object of an error that the gateway itself made."""
    info: dict[str, Any] = {"@type": _TYPE + "ErrorInfo", "reason": error.reason, "domain": DOMAIN}
    if error.metadata:
        info["metadata"] = error.metadata
    details: list[Any] = [info]
    if error.retry_after_seconds is not None:
        details.append({"@type": _TYPE + "RetryInfo", "retryDelay": _duration(error.retry_after_seconds)})
    details.extend(error.details)
    status = {"code": error.code, "message": error.message, "status": error.status, "details": details}
    return msgspec.json.encode({"error": status})


def _duration(seconds: float) -> str:
    """Return a google.protobuf.Duration in JSON, which knows no exponents."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def headers(error: GatewayError) -> Headers:
    """Return the header fields that belong to an error, Retry-After among them."""
    if error.retry_after_seconds is None:
        return error.headers
    return (*error.headers, (b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_seconds))))


def internal(request_id: str) -> GatewayError:
    """Return what a client is told of a fault in the gateway: where to look, and nothing else."""
    return GatewayError(
        500,
        "INTERNAL",
        "INTERNAL",
        f"The gateway failed on this request; its log tells why under the request id {request_id}.",
    )
