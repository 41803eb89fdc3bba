"""A configuration file in, a frozen Config out.  Reads the file and the files that it names."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Mapping

import attrs

from gateway.config import callers, document, listeners
from gateway.config.admin import admin
from gateway.config.errors import ConfigError
from gateway.config.log import log
from gateway.config.nodes import Context, Fields, Node, optional
from gateway.config.otel import otel
from gateway.config.proxies import wire
from gateway.config.secrets import default_state_dir, digests, located, open_to_others
from gateway.config.tariff import DEFAULT_USAGE
from gateway.config.telling import LogConfig, OtelConfig
from gateway.config.upstreams import upstreams
from gateway.config.usage import usage
from gateway.config.values import (
    AuthMode,
    Config,
    DoneMarker,
    Limits,
    ModelConfig,
    ProxyConfig,
    RoutingConfig,
    SessionsConfig,
    Timeouts,
    WireConfig,
)

HALF_CLOSES = ("leave", "answer")
STRATEGIES = ("sticky", "round_robin", "least_used")

_ALIAS_PATTERN = re.compile(r"[A-Za-z0-9._@/+:*-]+\Z")
_MODEL_ID = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._@+-]*(?:/[A-Za-z0-9][A-Za-z0-9._@+-]*)*\Z")
_VERB = re.compile(r"[A-Za-z]+\Z")
_GIB = 1024**3
_LIMIT_RANGES = {
    "body": (1024, 4 * _GIB),
    "event": (1024, 4 * _GIB),
    "head": (1024, 1024**2),
    "target": (256, 64 * 1024),
    "body_rate": (1, 1024**2),
    "buffered": (1024, 1024 * _GIB),
}
_COUNT_RANGES = {
    "queue": (1, 10**6),
    "connections": (1, 10**6),
    "streams": (1, 10**6),
    "key_concurrent": (0, 10**6),
    "key_per_minute": (0, 10**6),
}


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        # A package that the module is in.
        return False


def load(
    path: str,
    environ: Mapping[str, str],
    *,
    with_upstreams: bool = True,
    installed: Callable[[str], bool] = _importable,
) -> Config:
    """Return what the YAML file at ``path`` says.  Raises ConfigError.

    Without ``with_upstreams`` that section is not read, so a file whose keys are not at hand can still be
    simulated.  ``installed`` says whether a module can be imported.
    """
    try:
        with open(path, "rb") as file:
            mode, data = os.fstat(file.fileno()).st_mode, file.read()
    except OSError as error:
        raise ConfigError(
            path, "", f"the file cannot be read ({error.strerror})", "name a file that exists and may be read"
        ) from None
    context = Context(path, os.path.dirname(os.path.abspath(path)), environ, installed=installed)
    fields = Node(context, "", document.parse(data, path)).fields("file")
    state_dir = optional(fields, "state_dir", _path, "") or default_state_dir(environ, path)
    config = Config(
        proxy=optional(fields, "proxy", _proxy, ProxyConfig()),
        routing=optional(fields, "routing", _routing, RoutingConfig()),
        timeouts=optional(fields, "timeouts", _timeouts, Timeouts()),
        limits=optional(fields, "limits", _limits, Limits()),
        wire=optional(fields, "wire", wire, WireConfig()),
        state_dir=state_dir,
        log=optional(fields, "log", log, LogConfig()),
        source=path,
        models=optional(fields, "models", _models, ()),
        usage=optional(fields, "usage", usage, DEFAULT_USAGE),
        otel=optional(fields, "otel", otel, OtelConfig()),
    )
    if "admin" in fields:
        config = attrs.evolve(config, admin=admin(fields["admin"], config.proxy, _listen, digests))
    if with_upstreams:
        if "upstreams" not in fields:
            raise ConfigError(
                path, "upstreams", "there is none", "name at least one, such as `studio: {kind: aistudio, ...}`"
            )
        config = attrs.evolve(config, upstreams=upstreams(fields["upstreams"], state_dir))
        for upstream in config.upstreams:
            if upstream.proxy is not None and config.wire.agent == "stock":
                raise ConfigError(
                    path,
                    f"upstreams.{upstream.name}.proxy",
                    "the stock agent goes through no proxy",
                    "write wire.agent: gateway, or remove the proxy",
                )
    if context.clear_secrets and open_to_others(mode):
        context.warnings.append(
            f"{path} holds {' and '.join(context.clear_secrets)} in clear and others may read it: chmod 600 {path}"
        )
    return attrs.evolve(config, warnings=tuple(context.warnings))


def _path(node: Node) -> str:
    text = node.text()
    return located(node.context, text) if text else ""


def _proxy(node: Node) -> ProxyConfig:
    fields = node.fields("proxy")
    default = ProxyConfig()
    proxy = ProxyConfig(
        optional(fields, "listen", _listen, default.listen),
        optional(fields, "auth_mode", _auth_mode, default.auth_mode),
        optional(fields, "api_key", digests, default.api_keys),
        DoneMarker(
            optional(fields, "done_marker", lambda n: n.choice([m.value for m in DoneMarker]), "auto"),
        ),
        optional(fields, "operator_key", digests, default.operator_keys),
        optional(fields, "hosts", callers.hosts, default.hosts),
        optional(fields, "origins", callers.origins, default.origins),
        optional(fields, "trusted_proxies", callers.trusted_proxies, default.trusted_proxies),
        optional(fields, "half_close", lambda n: n.choice(HALF_CLOSES), default.half_close),
        optional(fields, "client_ca", _path, default.client_ca),
    )
    _judge(proxy, fields, node.context)
    return proxy


def _judge(proxy: ProxyConfig, fields: Fields, context: Context) -> None:
    """Refuse to be open to a network with nobody asked for a key, and warn of what works otherwise than meant.

    Whether there is any key is looked at where the gateway starts: they may be made beside the file.
    """
    for description in proxy.listen:
        listener = listeners.parse(description)
        if listener.loopback:
            continue
        if proxy.auth_mode is AuthMode.OFF:
            raise fields["auth_mode"].error(
                f"the gateway refuses to start with authentication off while {description} is open to others",
                "write auth_mode: auto, or listen on interface=127.0.0.1",
            )
        if listener.clear:
            context.warnings.append(
                f"{description} carries keys and prompts in clear over the network: use ssl:, "
                "or a TLS proxy in front of a listener on interface=127.0.0.1"
            )
    if proxy.client_ca and not any(listeners.parse(one).kind == "ssl" for one in proxy.listen):
        raise fields["client_ca"].error("no listener has TLS, so no client shows a certificate", "listen on ssl:")
    if set(proxy.operator_keys) & set(proxy.api_keys):
        raise fields["operator_key"].error(
            "this is the key of api_key too, so every client would be the operator", "choose another"
        )
    if proxy.authenticates and not proxy.keys:
        context.warnings.append(
            "authentication is on and no key is configured: every request is refused with 401, except with a key that"
            " `antigravity keys` has made"
        )


def _listen(node: Node) -> tuple[str, ...]:
    nodes = node.items() if isinstance(node.value, list) else [node]
    found: list[str] = []
    for item in nodes:
        if not isinstance(item.value, str):
            raise item.error("this is no endpoint description", 'write "tcp:8045:interface=127.0.0.1"')
        try:
            listeners.parse(item.value)
        except listeners.BadListener as error:
            raise item.error(str(error), 'write such as "tcp:8045:interface=127.0.0.1"') from None
        if item.value in found:
            raise item.error("this listener is named twice", "remove one")
        found.append(item.value)
    if not found:
        raise node.error("the list is empty", "name a listener, or remove the key for the default")
    return tuple(found)


def _auth_mode(node: Node) -> AuthMode:
    # YAML 1.1 reads a bare `off` as false.
    if node.value is False:
        return AuthMode.OFF
    if node.value is True:
        raise node.error("`on` is no mode", "write strict, all_except_health or auto")
    return AuthMode(node.choice([mode.value for mode in AuthMode]))


def _routing(node: Node) -> RoutingConfig:
    fields = node.fields("routing")
    default = RoutingConfig()
    return RoutingConfig(
        optional(fields, "max_attempts", lambda n: n.integer(1, 10), default.max_attempts),
        optional(fields, "aliases", _aliases, default.aliases),
        optional(fields, "strategy", lambda n: n.choice(STRATEGIES), default.strategy),
        optional(fields, "sessions", _sessions, default.sessions),
    )


def _sessions(node: Node) -> SessionsConfig:
    fields = node.fields("sessions")
    default = SessionsConfig()
    return SessionsConfig(
        optional(fields, "limit", lambda n: n.integer(1, 10**7), default.limit),
        optional(fields, "seconds", Node.seconds, default.seconds),
    )


def _aliases(node: Node) -> tuple[tuple[str, str], ...]:
    found = []
    for pattern, target in node.entries():
        if not _ALIAS_PATTERN.match(pattern):
            raise target.error("this is no pattern for model ids", "use the characters of model ids, and * for any run")
        found.append((pattern, _model_id(target)))
    return tuple(found)


def _model_id(node: Node) -> str:
    text = node.match(_MODEL_ID, "a model id, such as gemini-2.5-flash")
    if text.startswith("models/"):
        raise node.error("an id is written without models/", f"write {text.removeprefix('models/')}")
    return text


def _timeouts(node: Node) -> Timeouts:
    fields = node.fields("timeouts")
    return Timeouts(**{name: member.seconds(none=name == "queue") for name, member in fields.items()})


def _limits(node: Node) -> Limits:
    fields = node.fields("limits")
    sizes = {name: fields[name].size(*bounds) for name, bounds in _LIMIT_RANGES.items() if name in fields}
    counts = {name: fields[name].integer(*bounds) for name, bounds in _COUNT_RANGES.items() if name in fields}
    limits = Limits(**sizes, **counts)
    if limits.buffered < limits.body:
        named = fields.get("buffered") or fields["body"]
        raise named.error(
            "not even one body of the size that limits.body allows would fit into limits.buffered",
            "raise limits.buffered, or lower limits.body",
        )
    return limits


def _models(node: Node) -> tuple[ModelConfig, ...]:
    found = []
    for name, member in node.entries():
        if not _MODEL_ID.match(name) or name.startswith("models/"):
            raise member.error("this is no model id", "write it as upstream does, without models/")
        fields = {} if member.value is None else member.fields("model")
        found.append(
            ModelConfig(
                name,
                optional(fields, "input_token_limit", _tokens, 0),
                optional(fields, "output_token_limit", _tokens, 0),
                optional(fields, "methods", _methods, ()),
            )
        )
    return tuple(found)


def _tokens(node: Node) -> int:
    return node.integer(1, 10**9)


def _methods(node: Node) -> tuple[str, ...]:
    return tuple(item.match(_VERB, "a method, such as generateContent") for item in node.items())
