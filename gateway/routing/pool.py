"""The credentials that may serve a request."""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

from gateway.accounts.tokens import TokenSource
from gateway.calls import Call, Credential, GatewayError, HttpRequest, Secret
from gateway.routing.catalog import glob
from gateway.upstreams.kinds import Upstream, kinds_with


@attrs.frozen
class Member:
    """A credential together with what it takes to use it."""

    credential: Credential
    upstream: Upstream
    tokens: TokenSource
    bases: tuple[str, ...]
    """Base URLs in the order in which they are tried."""
    models: tuple[str, ...] = ()
    """Ids or ``*`` patterns that are served here; empty for all."""
    _patterns: tuple[re.Pattern[str], ...] = attrs.field(init=False, eq=False, repr=False)

    @_patterns.default
    def _compiled(self) -> tuple[re.Pattern[str], ...]:
        return tuple(glob(pattern) for pattern in self.models)

    def prepare(self, call: Call, base: str, token: Secret) -> HttpRequest:
        """Return the request that carries a call as this credential; raises as Upstream.prepare does.

        Where its token's source says whom Google is to count the request to, it says so too, as Google's own
        libraries do: https://cloud.google.com/apis/docs/system-parameters.
        """
        request = self.upstream.prepare(call, base, self.credential, token)
        project = self.tokens.quota_project
        if not project and not call.folds:
            return request
        headers = request.headers
        if project:
            headers = (*headers, (b"x-goog-user-project", project.encode("ascii")))
        return HttpRequest(request.method, request.url, headers, request.body, call.folds)

    def serves(self, model: str) -> bool:
        """Say whether the operator lets this upstream serve a model."""
        return not self._patterns or any(pattern.match(model) for pattern in self._patterns)


def candidates(members: Sequence[Member], verb: str, model: str) -> list[Member]:
    """Return the members that may serve a request.

    Raises GatewayError: 501 where no configured kind has the method, 404 where no upstream is to serve the model.
    """
    able = [member for member in members if verb in member.upstream.verbs]
    if not able:
        if not members:
            return []
        kinds = kinds_with(verb)
        raise GatewayError(
            501,
            "UNIMPLEMENTED",
            "METHOD_NOT_ON_UPSTREAM",
            f"No configured upstream has {verb}; upstreams of kind {' or '.join(kinds)} do: add one.",
        )
    serving = [member for member in able if member.serves(model)]
    if not serving:
        raise GatewayError(
            404,
            "NOT_FOUND",
            "MODEL_NOT_SERVED",
            f"No upstream of this gateway is configured to serve the model {model!r}; GET /v1beta/models lists"
            " what is.",
        )
    return serving
