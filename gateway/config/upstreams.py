"""The ``upstreams`` of a configuration: backends, credentials, OAuth clients.  Reads secrets' files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.config.nodes import LATER, Fields, Node, optional
from gateway.config.secrets import located, secret
from gateway.config.values import CredentialConfig, EnvelopeConfig, OAuthConfig, UpstreamConfig

DEFAULT_BASE_URLS: Mapping[str, str] = {
    "aistudio": "https://generativelanguage.googleapis.com",
    "codeassist": "https://cloudcode-pa.googleapis.com/v1internal",
}
"""Each kind, and where it is."""

DEFAULT_TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105
PROFILES = ("antigravity", "gemini-cli")

_KIND_OF_KEY = {
    "credentials": "aistudio",
    "oauth": "codeassist",
    "envelope": "codeassist",
    "credentials_dir": "codeassist",
    "project": "codeassist",
}
"""Keys of an upstream that one kind alone has."""

_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]+\Z")
_MODEL_PATTERN = re.compile(r"(?!/)(?!.*(?:\.\.|//))[A-Za-z0-9._@/+*-]+\Z")
_PROJECT = re.compile(r"[A-Za-z0-9.:_-]*\Z")
_HEADER_VALUE = re.compile(r"(?! )[\x20-\x7e]*(?<! )\Z")
_WORD = re.compile(r"[A-Za-z0-9_-]+\Z")
_URL_PATH = re.compile(r"[A-Za-z0-9._~/:@+,;=%-]*\Z")
_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")


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
                    f"its account files are those of upstreams.{other.name}",
                    "write another credentials_dir, for two users of one refresh token disturb each other",
                )
        found.append(upstream)
    if not found:
        raise node.error("no upstream is named", "name one, such as `studio: {kind: aistudio, ...}`")
    return tuple(found)


def base_url(node: Node) -> str:
    """Return a URL without a trailing slash: https, or http towards this machine."""
    text = node.text().strip()
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise node.error("this is no URL", "write https://host/path") from None
    if not text.isascii() or not text.isprintable() or not host or port == 0:
        raise node.error("this is no URL", "write https://host/path")
    if "@" in parts.netloc:
        raise node.error(
            "a URL here carries no user or password", "take them out; credentials have a place of their own"
        )
    if "?" in text or "#" in text or not _URL_PATH.match(parts.path):
        raise node.error("a URL here has no query, fragment or odd characters", "write https://host/path alone")
    if parts.scheme == "http" and host not in _THIS_MACHINE:
        raise node.error("plain http would send keys in clear", "write https://")
    if parts.scheme not in ("http", "https"):
        raise node.error("this is neither https nor http towards this machine", "write https://host/path")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _upstream(name: str, node: Node, state_dir: str) -> UpstreamConfig:
    fields = node.fields("upstream")
    if "kind" not in fields:
        raise node.error("it has no kind", "write kind: " + " or kind: ".join(DEFAULT_BASE_URLS))
    kind = fields["kind"].choice(DEFAULT_BASE_URLS, LATER["kind"])
    for key, owner in _KIND_OF_KEY.items():
        if key in fields and owner != kind:
            raise fields[key].error(f"only kind {owner} has this", "remove it")
    base_urls: tuple[str, ...] = optional(fields, "base_urls", _base_urls, (DEFAULT_BASE_URLS[kind],))
    models: tuple[str, ...] = optional(fields, "models", _models, ())
    if kind == "aistudio":
        return UpstreamConfig(name, kind, base_urls, models, _credentials(node, fields))
    return UpstreamConfig(
        name,
        kind,
        base_urls,
        models,
        oauth=_oauth(node, fields),
        envelope=optional(fields, "envelope", _envelope, EnvelopeConfig()),
        credentials_dir=os.path.join(state_dir, optional(fields, "credentials_dir", _directory, "accounts")),
        project=optional(fields, "project", _project, ""),
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


def _credentials(owner: Node, fields: Fields) -> tuple[CredentialConfig, ...]:
    items: list[Node] = optional(fields, "credentials", Node.items, [])
    if not items:
        place = fields.get("credentials", owner)
        raise place.error("it has no credentials", "write credentials: [{name: first, api_key_env: GEMINI_API_KEY}]")
    names: set[str] = set()
    found = []
    for item in items:
        members = item.fields("credential")
        if "name" not in members:
            raise item.error("it has no name", "write name: and a word of yours, for logs and answers show it")
        name = members["name"].match(_NAME, "letters, digits, '.', '_' and '-'")
        if name in names:
            raise members["name"].error(f"{name!r} is taken", "give each credential a name of its own")
        names.add(name)
        found.append(
            CredentialConfig(name, secret(item, members, "api_key"), optional(members, "project", _project, ""))
        )
    return tuple(found)


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
    return OAuthConfig(
        client_id,
        secret(node, members, "client_secret"),
        optional(members, "token_url", base_url, DEFAULT_TOKEN_URL),
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
