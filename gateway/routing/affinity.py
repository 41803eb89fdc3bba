"""Which credential owns a resource that lives upstream, and which of them a request names.  Pure."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable
from urllib.parse import urlsplit

import attrs
import msgspec

from gateway import splice
from gateway.calls import Credential
from gateway.folding import MARK

LIMIT = 20_000

_CACHE_NAME = re.compile(r"cachedContents/[A-Za-z0-9_-]+\Z")
_FILE_PATH = re.compile(r"/?(?:v[0-9][a-z0-9]*/)?(files/[A-Za-z0-9_-]+)\Z")


class _File(msgspec.Struct):
    camel: str | None = msgspec.field(default=None, name="fileUri")
    snake: str | None = msgspec.field(default=None, name="file_uri")


class _Part(msgspec.Struct):
    camel: _File | None = msgspec.field(default=None, name="fileData")
    snake: _File | None = msgspec.field(default=None, name="file_data")


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Asked(msgspec.Struct):
    contents: list[_Content] | None = None
    cache_camel: str | None = msgspec.field(default=None, name="cachedContent")
    cache_snake: str | None = msgspec.field(default=None, name="cached_content")
    nested_camel: _Asked | None = msgspec.field(default=None, name="generateContentRequest")
    nested_snake: _Asked | None = msgspec.field(default=None, name="generate_content_request")


_ASKED = msgspec.json.Decoder(_Asked)
_HINTS = (b'"cachedContent"', b'"cached_content"', b"fileUri", b"file_uri")


def resources(body: bytes) -> tuple[str, ...]:
    """Return the names of upstream's resources that a request's body refers to, each once, in order.

    ``cachedContents/...`` and ``files/...``, the latter out of URIs such as
    ``https://host/v1beta/files/abc``; whatever else a URI names belongs to nobody here.  A body without any of the
    members' names is not parsed, and one that is not as documented names nothing.
    """
    if not any(hint in body for hint in _HINTS):
        return ()
    try:
        # What is within a fold is no resource's name, and its mark no text.
        asked = _ASKED.decode(body.replace(MARK, b"?"))
    except splice.UNREADABLE:
        return ()
    return tuple(dict.fromkeys(_named(asked)))


def _named(asked: _Asked) -> Iterable[str]:
    for nested in (asked.nested_camel, asked.nested_snake):
        if nested is not None:
            yield from _named(nested)
    for cache in (asked.cache_camel, asked.cache_snake):
        if cache and _CACHE_NAME.match(cache):
            yield cache
    for content in asked.contents or ():
        for part in content.parts or ():
            for file in (part.camel, part.snake):
                for uri in (file.camel, file.snake) if file else ():
                    name = _file(uri) if uri else ""
                    if name:
                        yield name


def _file(uri: str) -> str:
    try:
        parts = urlsplit(uri)
    except ValueError:
        return ""
    if parts.scheme not in ("https", "http", ""):
        return ""
    found = _FILE_PATH.match(parts.path)
    return found[1] if found else ""


@attrs.define(eq=False, repr=False)
class Affinity:
    """The owners of resources: bounded, forgetting the one that was not asked for or told of for longest."""

    _limit: int = LIMIT
    owners: OrderedDict[str, Credential] = attrs.field(factory=OrderedDict)
    """By resource; in most gateways there is none."""

    def __len__(self) -> int:
        return len(self.owners)

    def learn(self, name: str, credential: Credential) -> None:
        """Take note of whose a resource is."""
        self.owners[name] = credential
        self.owners.move_to_end(name)
        while len(self.owners) > self._limit:
            self.owners.popitem(last=False)

    def forget(self, name: str) -> None:
        """Take note that a resource is gone."""
        self.owners.pop(name, None)

    def owner(self, body: bytes) -> Credential | None:
        """Return whose the first known resource is that a request's body names."""
        for name in resources(body):
            if name in self.owners:
                self.owners.move_to_end(name)
                return self.owners[name]
        return None
