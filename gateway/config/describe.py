"""What a configuration would run, for people; never a secret.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from gateway.calls import Terms
from gateway.config import listeners
from gateway.config.tariff import DAY_SECONDS, UsageConfig
from gateway.config.telling import MIB, LogConfig, OtelConfig
from gateway.config.values import AuthMode, Config, ProxyConfig, UpstreamConfig

_COUNTS = ("queue", "connections", "streams")


def describe(config: Config) -> str:
    """Return several lines, for ``--check`` and the log at start."""
    return "\n".join(_lines(config))


def _lines(config: Config) -> Iterator[str]:
    yield f"configuration: {config.source or 'built in'}"
    for description in config.proxy.listen:
        reach = "this machine only" if listeners.is_loopback(description) else "open to the network"
        yield f"listens on {description} ({reach})"
    yield f"authentication: {_authentication(config.proxy)}"
    yield "hosts: " + _join(("loopback", "the listeners' own", *config.proxy.hosts))
    yield "browser origins: " + (_join(config.proxy.origins) or "none")
    if config.proxy.trusted_proxies:
        yield "proxies whose X-Forwarded-For is believed: " + _join(config.proxy.trusted_proxies)
    if config.proxy.client_ca:
        yield f"TLS clients show a certificate of {config.proxy.client_ca}"
    yield f"watched on {_join(config.admin.listen) or 'admin.sock alone'}{', with a token' * bool(config.admin.tokens)}"
    yield f"dashboard: {'on' if config.admin.dashboard and config.admin.listen else 'off'}"
    yield f"[DONE] marker: {config.proxy.done_marker.value}"
    for upstream in config.upstreams:
        yield f"upstream {upstream.name} ({upstream.kind})"
        yield from (f"  {line}" for line in _upstream(upstream))
    yield f"attempts: at most {config.routing.max_attempts} a request"
    sessions = config.routing.sessions
    yield f"strategy: {config.routing.strategy}; up to {sessions.limit} sessions for {sessions.seconds:g} s each"
    for pattern, target in config.routing.aliases:
        yield f"alias: {pattern} -> {target}"
    for model in config.models:
        yield f"model: {model.id}"
    yield "timeouts: " + _join(f"{name} {value:g} s" for name, value in attrs.asdict(config.timeouts).items())
    yield "limits: " + _join(f"{name} {_limit(name, value)}" for name, value in attrs.asdict(config.limits).items())
    yield f"wire: agent {config.wire.agent}, connections opened at start to each https base: {config.wire.warm}"
    yield f"state: {config.state_dir or 'a temporary directory'}"
    yield f"usage: {_usage(config.usage)}"
    yield f"log: {_log(config.log)}"
    yield f"traces: {_traces(config.otel)}"
    for warning in config.warnings:
        yield f"warning: {warning}"


def _log(log: LogConfig) -> str:
    levels = "".join(f", {name} {level}" for name, level in log.levels)
    kept = f"put aside at {log.rotate_bytes / MIB:g} MiB, {log.rotate_keep} kept" if log.rotate_bytes else "kept as one"
    return f"level {log.level}{levels}, format {log.format}; its file is {kept}"


def _traces(otel: OtelConfig) -> str:
    if not otel.endpoint:
        return "none"
    told = ", and upstream is told of them" * otel.propagate_upstream
    return f"{otel.sample:.0%} of what has no traceparent, to {otel.traces_url} as {otel.service_name}{told}"


def _authentication(proxy: ProxyConfig) -> str:
    if not proxy.authenticates:
        state = "off until there is a key" if proxy.auth_mode is AuthMode.AUTO else "off"
    else:
        count = len(proxy.keys)
        state = f"on, {count or 'no'} key{'' if count == 1 else 's'}"
        state += ", one of them the operator's" if proxy.operator_keys else ""
        state += ", /healthz open" if proxy.open_health else ""
    return f"{state} (auto)" if proxy.auth_mode is AuthMode.AUTO else state


def _upstream(upstream: UpstreamConfig) -> Iterator[str]:
    yield "base: " + _join(upstream.base_urls)
    yield "models: " + (_join(upstream.models) or "all")
    if upstream.credentials:
        yield "credentials: " + _join(credential.name for credential in upstream.credentials)
    if upstream.location:
        yield f"location: {upstream.location}"
    if upstream.cloud:
        yield "credentials: " + _join(
            f"{credential.name} ({'service account' if credential.service_account else 'application default'},"
            f" project {credential.project})"
            for credential in upstream.cloud
        )
    if upstream.accounts:
        yield "accounts: " + _join(account.name for account in upstream.accounts)
    elif upstream.credentials_dir:
        what = "accounts" if upstream.oauth else "more credentials"
        yield f"{what}: {'encrypted ' if upstream.credentials_key else ''}files in {upstream.credentials_dir}"
    if upstream.oauth:
        yield f"tokens: {upstream.oauth.token_url} as client {upstream.oauth.client_id}"
        yield f"sign-in: {upstream.oauth.auth_url}, {upstream.oauth.userinfo_url}"
    if upstream.envelope:
        yield f"envelope: {upstream.envelope.profile}"
    if upstream.project:
        yield f"project: {upstream.project}"
    if upstream.proxy:
        login = " with a user name" if upstream.proxy.username else ""
        yield f"through: {upstream.proxy.scheme}://{upstream.proxy.host}:{upstream.proxy.port}{login}"
    if upstream.terms != Terms():
        yield f"each: {_terms(upstream.terms)}"
    named = [(one.name, one.terms) for one in upstream.credentials] + [(one.name, one.terms) for one in upstream.cloud]
    for name, terms in named:
        if terms != upstream.terms:
            yield f"{name}: {_terms(terms)}"


def _usage(usage: UsageConfig) -> str:
    if not usage.enabled:
        return "not written down"
    days, sums = usage.keep / DAY_SECONDS, usage.keep_rollups / DAY_SECONDS
    priced = f", prices of its own for {_join(pattern for pattern, _ in usage.prices)}" if usage.prices else ""
    return f"requests for {days:g} days, sums for {sums:g} days, up to {_size(usage.size)}{priced}"


def _terms(terms: Terms) -> str:
    most = f"at most {terms.max_concurrent} requests at a time" if terms.max_concurrent else "any number of requests"
    return f"weight {terms.weight:g}, priority {terms.priority}, {most}"


def _join(words: Iterable[str]) -> str:
    return ", ".join(words)


def _limit(name: str, value: int) -> str:
    if name.startswith("key_"):
        return str(value) if value else "none"
    return str(value) if name in _COUNTS else _size(value)


def _size(value: int) -> str:
    for unit, scale in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if value >= scale and value % scale == 0:
            return f"{value // scale} {unit}"
    return f"{value} bytes"
