"""The upstream kinds, one line each.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from gateway.calls import Call, Credential, Event, HttpRequest, Secret
from gateway.config.values import UpstreamConfig
from gateway.upstreams.aistudio import AiStudio
from gateway.upstreams.codeassist import CodeAssist
from gateway.upstreams.models import Figure, Model
from gateway.upstreams.vertex import Vertex


class Upstream(Protocol):
    """One kind of Google backend, as pure functions over bytes."""

    @property
    def verbs(self) -> frozenset[str]:
        """The methods that this kind has."""

    def prepare(self, call: Call, base: str, credential: Credential, token: Secret) -> HttpRequest:
        """Return the request that carries ``call``; raises GatewayError where the kind cannot say it."""

    def unwrap(self, data: bytes) -> Event:
        """Return the client's part of an answer or event, with no data where it has none; raises NotAnObject."""

    def listing(self, base: str, credential: Credential, token: Secret, page: str) -> HttpRequest | None:
        """Return the request for one page of the model list, if this kind has a list."""

    def listed(self, body: bytes) -> tuple[Sequence[Model], str]:
        """Return the models of a page and the token of the next page, empty after the last one."""


@runtime_checkable
class Metered(Protocol):
    """A kind that can be asked what is left of a credential's quota."""

    def quota(self, base: str, credential: Credential, token: Secret) -> Sequence[HttpRequest]:
        """Return the requests that ask for it."""

    def figures(self, body: bytes) -> Sequence[Figure]:
        """Read the answer to one of these; raises msgspec.DecodeError."""


KINDS: Mapping[str, type[AiStudio] | type[CodeAssist] | type[Vertex]] = {
    "aistudio": AiStudio,
    "codeassist": CodeAssist,
    "vertex": Vertex,
}


def build(config: UpstreamConfig) -> Upstream:
    """Return the upstream of a configuration's kind."""
    return KINDS[config.kind](config)


def kinds_with(verb: str) -> tuple[str, ...]:
    """Return the names of the kinds that have ``verb``."""
    return tuple(name for name, kind in KINDS.items() if verb in kind.verbs)
