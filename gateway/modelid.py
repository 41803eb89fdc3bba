"""What can be a model's id, whoever names it: clients, the operator.  Pure."""

from __future__ import annotations

import re

from gateway.calls import GatewayError

_MODEL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+\-]*(/[A-Za-z0-9][A-Za-z0-9._@+\-]*)*\Z")
_MOST = 256


def is_model_id(text: str) -> bool:
    """Say whether ``text`` can be a model id: it may hold slashes, but nothing that would bend a URL."""
    return len(text) <= _MOST and _MODEL_ID.match(text) is not None


def no_model_id() -> GatewayError:
    """Return what to tell whoever names a model by what can be none."""
    return GatewayError(
        400,
        "INVALID_ARGUMENT",
        "MODEL_INVALID",
        "This is not a model id; write one such as gemini-2.5-flash, as GET /v1beta/models lists them.",
    )
