"""API keys and service accounts as files: one JSON file each, guarded and sealed as account files are.

An API key's is ``{"name", "api_key", "project"?}``; a service account's is Google's own key file, as it is or as
``{"name", "project"?, "service_account": {...}}``; each may have ``weight``, ``priority`` and ``max_concurrent``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

from gateway.accounts import store
from gateway.accounts.given import NOTHING, Given, given
from gateway.accounts.locking import exclusive
from gateway.accounts.sealing import Seal
from gateway.accounts.store import StoreError
from gateway.calls import Secret
from gateway.config import ConfigError, ServiceAccountConfig
from gateway.config.cloud import service_account_in
from gateway.config.nodes import Context, Node

_VISIBLE = re.compile(r"[\x21-\x7e]+\Z")


@attrs.frozen
class KeyFile:
    """One credential that lies in a file."""

    name: str
    path: Path
    project: str = ""
    api_key: Secret | None = None
    service_account: ServiceAccountConfig | None = None
    given: Given = NOTHING
    """How much it is to be used, where the file says so."""

    @property
    def secret(self) -> Secret:
        """What authenticates it."""
        if self.service_account is not None:
            return self.service_account.private_key
        assert self.api_key is not None
        return self.api_key


def load(directory: Path, kind: str, seal: Seal | None = None) -> list[KeyFile]:
    """Return the credentials of a directory's files, in order of the files' names; raises StoreError."""
    read = reader(kind)
    found: dict[str, KeyFile] = {}
    for path in store.files(directory):
        for one in read(path, seal):
            if one.name in found:
                raise StoreError(f"{path}: a second credential named {one.name!r}; rename or remove one.")
            found[one.name] = one
    return list(found.values())


def reader(kind: str) -> Callable[[Path, Seal | None], list[KeyFile]]:
    """Return what reads a file of a kind's; it raises StoreError, and OSError."""
    parse = PARSERS[kind]
    return lambda path, seal: [parse(path, store.document(path, seal))]


def save(directory: Path, kind: str, document: Mapping[str, Any], seal: Seal | None = None) -> tuple[KeyFile, bool]:
    """Keep a document under the ``name`` in it; return the credential, and whether it took an older one's place.

    What an older one says of how much it is to be used stays, where the document does not say it.  Raises
    StoreError where something in the directory or in the document is not in order, OSError where it cannot be written.
    """
    made = PARSERS[kind](directory / "(what was given)", document)
    store.make_directory(directory)
    with exclusive(directory):
        older = next((one for one in load(directory, kind, seal) if one.name == made.name), None)
        kept = {**(older.given.members() if older else {}), **document}
        path = store.keep(directory, made.name, kept, older.path if older else None, seal)
    return attrs.evolve(made, path=path, given=given(kept)), older is not None


def save_given(file: KeyFile, changes: Mapping[str, Any], seal: Seal | None = None) -> None:
    """Keep how much a credential is to be used; None takes a member out.

    Raises StoreError where the file is not in order, OSError where it cannot be written.
    """
    with exclusive(file.path.parent):
        document = store.document(file.path, seal)
        store.change(document, changes)
        store.keep(file.path.parent, file.name, document, file.path, seal)


def _api_key(path: Path, document: Any) -> KeyFile:
    key = _text(path, document, "api_key")
    if not _VISIBLE.match(key):
        problem = "`api_key` holds characters that no key has" if key else "`api_key` is missing"
        raise StoreError(f"{path}: {problem}; write the key, or remove the file.")
    return KeyFile(
        _named(path, document), path, _text(path, document, "project"), Secret(key), given=_given(path, document)
    )


def _service_account(path: Path, document: Any) -> KeyFile:
    _text(path, document, "name")
    inner = document.get("service_account", document)
    node = Node(Context(str(path), str(path.parent), {}), "", None)
    try:
        account = service_account_in(node, "it", json.dumps(inner).encode("utf-8"))
    except ConfigError as error:
        raise StoreError(f"{error}.") from None
    project = _text(path, document, "project") or account.project
    if not project:
        raise StoreError(f"{path}: names no project; write `project` beside `service_account`.")
    return KeyFile(_named(path, document), path, project, None, account, _given(path, document))


def _given(path: Path, document: Any) -> Given:
    try:
        return given(document)
    except ValueError as error:
        raise StoreError(f"{path}: {error}.") from None


def _named(path: Path, document: Any) -> str:
    return _text(path, document, "name") or path.stem


def _text(path: Path, document: Any, member: str) -> str:
    if not isinstance(document, dict):
        raise StoreError(f"{path}: must be a JSON object; repair or remove it.")
    value = document.get(member, "")
    if not isinstance(value, str):
        raise StoreError(f"{path}: `{member}` must be a string; repair or remove it.")
    return value.strip()


PARSERS: Mapping[str, Callable[[Path, Any], KeyFile]] = {"aistudio": _api_key, "vertex": _service_account}
"""A document to a credential, by the upstream's kind."""
