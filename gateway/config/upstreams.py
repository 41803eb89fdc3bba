"""The ``upstreams`` of a configuration: backends, credentials, OAuth clients.  Reads secrets' files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

import attrs

from gateway.calls import Secret, Terms
from gateway.config import cloud
from gateway.config.nodes import Fields, Node, optional
from gateway.config.proxies import proxy_server
from gateway.config.secrets import located, sealing_key, secret
from gateway.config.urls import base_url
from gateway.config.values import (
    CONCURRENT_MOST,
    PRIORITY_MOST,
    WEIGHT_MOST,
    CloudCredentialConfig,
    CredentialConfig,
    EnvelopeConfig,
    OAuthConfig,
    UpstreamConfig,
)

DEFAULT_BASE_URLS: Mapping[str, str] = {
    "aistudio": "https://generativelanguage.googleapis.com",
    "codeassist": "https://cloudcode-pa.googleapis.com/v1internal",
    "vertex": cloud.base_url_of(cloud.DEFAULT_LOCATION),
}
"""Each kind, and where it is."""

DEFAULT_TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105
PROFILES = ("antigravity", "gemini-cli")

_KINDS_OF_KEY: Mapping[str, tuple[str, ...]] = {
    "credentials": ("aistudio", "vertex"),
    "oauth": ("codeassist",),
    "envelope": ("codeassist",),
    "project": ("codeassist",),
    "location": ("vertex",),
}
"""Keys of an upstream that not every kind has."""

_KINDS_OF_CREDENTIAL_KEY: Mapping[str, tuple[str, ...]] = {
    "api_key": ("aistudio",),
    "api_key_env": ("aistudio",),
    "api_key_file": ("aistudio",),
    "service_account_file": ("vertex",),
    "application_default": ("vertex",),
}

T = TypeVar("T", CredentialConfig, CloudCredentialConfig)

_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]+\Z")
_MODEL_PATTERN = re.compile(r"(?!/)(?!.*(?:\.\.|//))[A-Za-z0-9._@/+*-]+\Z")
_PROJECT = re.compile(r"[A-Za-z0-9.:_-]*\Z")
_HEADER_VALUE = re.compile(r"(?! )[\x20-\x7e]*(?<! )\Z")
_WORD = re.compile(r"[A-Za-z0-9_-]+\Z")


def upstreams(node: Node, state_dir: str) -> tuple[UpstreamConfig, ...]:
    """Return the configured upstreams in order; there is at least one."""
    found: list[UpstreamConfig] = []
    for name, member in node.entries():
        if not _NAME.match(name):
            raise member.error("this is no name for an upstream", "use letters, digits, '.', '_' and '-'")
        upstream = _upstream(name, member, state_dir)
        for other in found:
            if upstream.credentials_dir and upstream.credentials_dir == other.credentials_dir:
                raise member.error(
                    f"its credentials' files are those of upstreams.{other.name}",
                    "write another credentials_dir, for two users of one refresh token disturb each other",
                )
        found.append(upstream)
    if not found:
        raise node.error("no upstream is named", "name one, such as `studio: {kind: aistudio, ...}`")
    return tuple(found)


def _upstream(name: str, node: Node, state_dir: str) -> UpstreamConfig:
    fields = node.fields("upstream")
    if "kind" not in fields:
        raise node.error("it has no kind", "write kind: " + " or kind: ".join(DEFAULT_BASE_URLS))
    kind = fields["kind"].choice(DEFAULT_BASE_URLS)
    _refuse_foreign(fields, _KINDS_OF_KEY, kind)
    location = optional(fields, "location", cloud.location, cloud.DEFAULT_LOCATION) if kind == "vertex" else ""
    default = cloud.base_url_of(location) if location else DEFAULT_BASE_URLS[kind]
    base_urls: tuple[str, ...] = optional(fields, "base_urls", _base_urls, (default,))
    models: tuple[str, ...] = optional(fields, "models", _models, ())
    default_directory = "accounts" if kind == "codeassist" else os.path.join("credentials", name)
    directory = os.path.join(state_dir, optional(fields, "credentials_dir", _directory, default_directory))
    upstream = UpstreamConfig(
        name,
        kind,
        base_urls,
        models,
        location=location,
        credentials_dir=directory,
        credentials_key=optional(fields, "credentials_key_file", _sealing_key, None),
        terms=_terms(fields, Terms()),
        proxy=optional(fields, "proxy", proxy_server, None),
    )
    if kind == "aistudio":
        keys = _credentials(node, fields, upstream, "{name: first, api_key_env: GEMINI_API_KEY}", _api_key)
        return attrs.evolve(upstream, credentials=keys)
    if kind == "vertex":
        example = "{name: first, service_account_file: sa.json}"
        found = _credentials(node, fields, upstream, example, cloud.credential)
        if upstream.proxy is not None and any(one.service_account is None for one in found):
            raise fields["proxy"].error(
                "google-auth, which fetches application default credentials, does not go through it",
                "use service_account_file, or remove the proxy",
            )
        return attrs.evolve(upstream, cloud=found)
    return attrs.evolve(
        upstream,
        oauth=_oauth(node, fields),
        envelope=optional(fields, "envelope", _envelope, EnvelopeConfig()),
        project=optional(fields, "project", _project, ""),
    )


def _terms(fields: Fields, default: Terms) -> Terms:
    return Terms(
        optional(fields, "weight", lambda n: n.number(WEIGHT_MOST), default.weight),
        optional(fields, "priority", lambda n: n.integer(-PRIORITY_MOST, PRIORITY_MOST), default.priority),
        optional(fields, "max_concurrent", lambda n: n.integer(0, CONCURRENT_MOST), default.max_concurrent),
    )


def _base_urls(node: Node) -> tuple[str, ...]:
    urls = tuple(base_url(item) for item in node.items())
    if not urls:
        raise node.error("the list is empty", "name a URL, or remove the key for Google's own")
    return urls


def _models(node: Node) -> tuple[str, ...]:
    return tuple(item.match(_MODEL_PATTERN, "a model id, or a pattern with *") for item in node.items())


def _project(node: Node) -> str:
    return node.match(_PROJECT, "a Google project id")


def _directory(node: Node) -> str:
    text = node.text()
    if not text:
        raise node.error("this is empty", "name a directory, or remove the key")
    return located(node.context, text) if text.startswith("~") else os.path.normpath(text)


def _sealing_key(node: Node) -> Secret | None:
    return sealing_key(node) if node.value != "" else None


def _refuse_foreign(fields: Fields, kinds_of_key: Mapping[str, tuple[str, ...]], kind: str) -> None:
    for key, kinds in kinds_of_key.items():
        if key in fields and kind not in kinds:
            raise fields[key].error(f"only kind {' or '.join(kinds)} has this", "remove it")


def _holds_files(directory: str) -> bool:
    try:
        return any(name.endswith(".json") and not name.startswith(".") for name in os.listdir(directory))
    except OSError:
        return False


def _credentials(
    owner: Node, fields: Fields, upstream: UpstreamConfig, example: str, read: Callable[[str, Node, Fields], T]
) -> tuple[T, ...]:
    items: list[Node] = optional(fields, "credentials", Node.items, [])
    if not items and "credentials_dir" not in fields and not _holds_files(upstream.credentials_dir):
        place = fields.get("credentials", owner)
        raise place.error(
            "it has no credentials", f"write credentials: [{example}], or credentials_dir: for files that hold them"
        )
    terms = _terms(fields, Terms())
    names: set[str] = set()
    found = []
    for item in items:
        members = item.fields("credential")
        _refuse_foreign(members, _KINDS_OF_CREDENTIAL_KEY, upstream.kind)
        if "name" not in members:
            raise item.error("it has no name", "write name: and a word of yours, for logs and answers show it")
        name = members["name"].match(_NAME, "letters, digits, '.', '_' and '-'")
        if name in names:
            raise members["name"].error(f"{name!r} is taken", "give each credential a name of its own")
        names.add(name)
        found.append(attrs.evolve(read(name, item, members), terms=_terms(members, terms)))
    return tuple(found)


def _api_key(name: str, item: Node, members: Fields) -> CredentialConfig:
    return CredentialConfig(name, secret(item, members, "api_key"), optional(members, "project", _project, ""))


def _oauth(owner: Node, fields: Fields) -> OAuthConfig:
    if "oauth" not in fields:
        raise owner.error(
            "No OAuth client is bundled", "write oauth: with the client_id and client_secret_file of your own"
        )
    node = fields["oauth"]
    members = node.fields("oauth")
    client_id = optional(members, "client_id", Node.text, "").strip()
    if not client_id:
        place = members.get("client_id", node)
        raise place.error("No OAuth client is bundled", "write the client_id of your own")
    client_secret = secret(node, members, "client_secret")
    urls = {name: base_url(members[name]) for name in ("auth_url", "userinfo_url") if name in members}
    return OAuthConfig(
        client_id, client_secret, optional(members, "token_url", base_url, DEFAULT_TOKEN_URL), **urls
    )


def _envelope(node: Node) -> EnvelopeConfig:
    members = node.fields("envelope")
    default = EnvelopeConfig()
    return EnvelopeConfig(
        optional(members, "profile", lambda n: n.choice(PROFILES), default.profile),
        optional(
            members,
            "user_agent",
            lambda n: n.match(_HEADER_VALUE, "printable ASCII, such as my-gateway/1.0"),
            default.user_agent,
        ),
        optional(members, "request_type", lambda n: n.match(_WORD, "one word, such as agent"), default.request_type),
    )
