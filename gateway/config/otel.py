"""The section of traces.  Opens nothing."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from gateway.calls import Secret
from gateway.config.nodes import Node, optional
from gateway.config.telling import OtelConfig

MODULE = "opentelemetry.exporter.otlp.proto.http"
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?\Z")
_SERVICE = re.compile(r"[\x20-\x7e]{1,128}\Z")
_EXAMPLE = "write such as http://127.0.0.1:4318"


def otel(node: Node) -> OtelConfig:
    """Return the section; with an endpoint it needs the extra ``otel``."""
    fields = node.fields("otel")
    default = OtelConfig()
    endpoint = optional(fields, "endpoint", _endpoint, default.endpoint)
    if endpoint and not node.context.installed(MODULE):
        raise fields["endpoint"].error(
            "traces need the extra `otel`, which is not installed", "run pip install 'antigravity-gateway[otel]'"
        )
    return OtelConfig(
        endpoint,
        optional(fields, "headers", _headers, default.headers),
        optional(fields, "sample", _share, default.sample),
        optional(fields, "propagate_upstream", Node.yes, default.propagate_upstream),
        optional(fields, "service_name", lambda n: n.match(_SERVICE, "a name in ASCII"), default.service_name),
    )


def _endpoint(node: Node) -> str:
    text = node.text().strip()
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port == 0 or not text.isascii() or not text.isprintable() or " " in text:
        raise node.error("this is no URL of a collector", _EXAMPLE)
    if parts.scheme not in ("http", "https"):
        raise node.error("a collector is reached by OTLP over HTTP", _EXAMPLE)
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise node.error("a collector's URL has no user, query or fragment", "write otel.headers for what it asks for")
    return text


def _headers(node: Node) -> tuple[tuple[str, Secret], ...]:
    found = []
    for name, value in node.entries():
        if not _NAME.match(name):
            raise value.error("this is no name of a header field", "write such as authorization")
        text = value.text()
        if not _VALUE.match(text):
            # What does not fit may be a secret all the same.
            raise value.error("this cannot travel in a header", "write printable ASCII")
        value.context.clear_secrets.append(value.path)
        found.append((name.lower(), Secret(text)))
    return tuple(found)


def _share(node: Node) -> float:
    number = node.value
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number <= 1:
        raise node.error("this is no share", "write a number from 0 (none) to 1 (all)")
    return float(number)
