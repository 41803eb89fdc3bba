"""Models, aliases and the list of them.  Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs
import msgspec

from gateway.calls import GatewayError
from gateway.upstreams.models import Model

PAGE_LIMIT = 1000
PAGE_DEFAULT = 1000
DEFAULT_VERBS = ("generateContent", "streamGenerateContent", "countTokens")
"""What a model is taken to have where nothing says otherwise."""


class Aliases(msgspec.Struct, frozen=True):
    """Names that stand for models: exact ones first, then wildcards by the length of their literal text,
    then in the order of the configuration."""

    exact: Mapping[str, str]
    wildcards: tuple[tuple[re.Pattern[str], str], ...]

    @classmethod
    def build(cls, pairs: Iterable[tuple[str, str]]) -> Aliases:
        """Return the aliases of ``(pattern, target)`` pairs; ``*`` stands for any text."""
        exact: dict[str, str] = {}
        wild: list[tuple[str, str]] = []
        for pattern, target in pairs:
            if "*" in pattern:
                wild.append((pattern, target))
            else:
                exact.setdefault(pattern, target)
        wild.sort(key=lambda pair: -len(pair[0].replace("*", "")))
        return cls(exact, tuple((glob(pattern), target) for pattern, target in wild))

    def resolve(self, model: str) -> str:
        """Return the model that ``model`` stands for: itself where no alias matches."""
        if model in self.exact:
            return self.exact[model]
        for pattern, target in self.wildcards:
            if pattern.match(model):
                return target
        return model


def glob(pattern: str) -> re.Pattern[str]:
    """Compile a pattern in which ``*`` stands for any text, slashes included."""
    return re.compile(".*".join(map(re.escape, pattern.split("*"))) + r"\Z", re.DOTALL)


class Served(msgspec.Struct, frozen=True):
    """What one upstream serves: models that match one of the patterns, or all, by its kind's methods."""

    patterns: tuple[re.Pattern[str], ...]
    verbs: frozenset[str]

    @classmethod
    def build(cls, models: Iterable[str], verbs: frozenset[str]) -> Served:
        """Return it for an upstream's ``models``."""
        return cls(tuple(map(glob, models)), verbs)


@attrs.frozen
class Catalog:
    """The models that the gateway lists, and which upstreams are known to have them.

    Three sources, later ones over earlier ones member by member: the package's table, what the upstreams list,
    the configuration.  It is a list, not a gate: an unlisted model goes upstream as it is.
    """

    table: Mapping[str, Model]
    configured: Mapping[str, Model]
    listed: Mapping[str, Mapping[str, Model]] = attrs.field(factory=dict)
    """By upstream name."""
    aliases: Aliases = attrs.field(factory=lambda: Aliases({}, ()))
    served: tuple[Served, ...] = ()
    """What each upstream is configured to serve; the list shows nothing beyond it.  Empty: no limits."""
    _merged: dict[str, Model] = attrs.field(init=False, factory=dict, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        names = sorted({*self.table, *self.configured, *(name for some in self.listed.values() for name in some)})
        for name in names:
            rising = (self.table, *self.listed.values(), self.configured)
            sources = [source[name] for source in rising if name in source]
            model = sources[0]
            for source in sources[1:]:
                model = _over(model, source)
            if not self.served:
                self._merged[name] = model
            elif verbs := self._served(model):
                self._merged[name] = msgspec.structs.replace(model, verbs=verbs)

    def with_listing(self, upstream: str, models: Iterable[Model]) -> Catalog:
        """Return the catalogue with a fresh list of one upstream's."""
        return attrs.evolve(self, listed={**self.listed, upstream: {model.id: model for model in models}})

    def resolve(self, model: str) -> str:
        """Return the model that a client's name stands for."""
        return self.aliases.resolve(model)

    def knows(self, upstream: str, model: str) -> bool:
        """Say whether an upstream is known to have a model; not known is not a no."""
        return model in self.listed.get(upstream, ())

    def lists(self, model: str) -> bool:
        """Say whether a model is in the list under its own name."""
        return model in self._merged

    def get(self, model: str) -> Model:
        """Return a listed model, or what an alias stands for under the alias' name; raises GatewayError."""
        found = self._visible().get(model)
        target = self._merged.get(self.aliases.resolve(model))
        if found is None and target is not None:
            # Only the list leaves wildcards out: it could not name all that they match.
            found = _alias(model, target)
        if found is None:
            raise GatewayError(
                404,
                "NOT_FOUND",
                "MODEL_NOT_LISTED",
                f"Model {model!r} is not in the list; GET /v1beta/models shows the names that are.",
            )
        return found

    def page(
        self, size: int | None, token: str, allows: Callable[[str, str], bool] | None = None
    ) -> tuple[Sequence[Model], str]:
        """Return a page of the list and the token of the next page, empty after the last one.

        ``allows`` says of a model under its name, and of what the name stands for, whether it may be seen.
        Raises GatewayError for a size below zero or a token that this list did not give out.
        """
        if size is not None and size < 0:
            raise GatewayError(400, "INVALID_ARGUMENT", "PAGE_SIZE", "`pageSize` must be 0 or more.")
        models = list(self._visible().values())
        if allows is not None:
            models = [model for model in models if allows(model.id, self.resolve(model.id))]
        start = 0
        if token:
            after = _read_token(token)
            start = next((at for at, model in enumerate(models) if model.id > after), len(models))
        end = start + min(size or PAGE_DEFAULT, PAGE_LIMIT)
        following = _write_token(models[end - 1].id) if end < len(models) else ""
        return models[start:end], following

    def _served(self, model: Model) -> tuple[str, ...]:
        """Return the methods of a model that some upstream is there for."""
        verbs = model.verbs or DEFAULT_VERBS
        able = [one.verbs for one in self.served if not one.patterns or any(p.match(model.id) for p in one.patterns)]
        return tuple(verb for verb in verbs if any(verb in some for some in able))

    def _visible(self) -> dict[str, Model]:
        """Return all models, with exact aliases as names of their own, in order of their ids."""
        out = dict(self._merged)
        for alias, target in self.aliases.exact.items():
            out[alias] = _alias(alias, self._merged.get(target, Model(target)))
        return dict(sorted(out.items()))


def resource(model: Model) -> dict[str, Any]:
    """Return a model in the API's shape: https://ai.google.dev/api/models.

    ``displayName`` is the id, because users copy it into requests; limits and methods that are not known
    are left out, except that every model here generates content unless something says otherwise.
    """
    out: dict[str, Any] = {"name": f"models/{model.id}", "displayName": model.id}
    if model.version:
        out["version"] = model.version
    if model.description or model.display_name:
        out["description"] = model.description or model.display_name
    if model.input_tokens:
        out["inputTokenLimit"] = model.input_tokens
    if model.output_tokens:
        out["outputTokenLimit"] = model.output_tokens
    out["supportedGenerationMethods"] = list(model.verbs or DEFAULT_VERBS)
    return out


def _alias(name: str, target: Model) -> Model:
    return msgspec.structs.replace(target, id=name, description=f"Alias of {target.id}.")


def _over(below: Model, above: Model) -> Model:
    return Model(
        id=above.id,
        display_name=above.display_name or below.display_name,
        description=above.description or below.description,
        version=above.version or below.version,
        input_tokens=above.input_tokens or below.input_tokens,
        output_tokens=above.output_tokens or below.output_tokens,
        verbs=above.verbs or below.verbs,
    )


def _write_token(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode("utf-8")).decode("ascii").rstrip("=")


def _read_token(token: str) -> str:
    try:
        last = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode("utf-8")
    except ValueError:
        last = ""
    # The decoder skips what is not of its alphabet.
    if _write_token(last) != token:
        raise GatewayError(400, "INVALID_ARGUMENT", "PAGE_TOKEN", "`pageToken` is not one that this list gave out.")
    return last
