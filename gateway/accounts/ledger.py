"""The standings on disk: one JSON file, replaced as a whole, with a schema version and a checksum."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gateway.accounts.store import replace

SCHEMA = 1
Migrations = Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]]
MIGRATIONS: Migrations = {}
"""From a schema version to the next one; the first version has no predecessor."""


class LedgerError(Exception):
    """The file was written by a newer version of the gateway; the message says what to do."""


class Corrupt(Exception):
    """The file is not what was written."""


def encode(kept: Mapping[str, Any]) -> bytes:
    """Return a ledger's bytes."""
    body = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(body.encode("utf-8")).hexdigest()
    return b'{"schema":%d,"sha256":"%s","standings":%s}\n' % (SCHEMA, digest.encode("ascii"), body.encode("utf-8"))


def decode(text: bytes) -> tuple[int, dict[str, Any]]:
    """Return a ledger's schema version and content; raises Corrupt."""
    try:
        document = json.loads(text)
        schema, kept = document["schema"], document["standings"]
        body = json.dumps(kept, sort_keys=True, separators=(",", ":"))
        if not isinstance(schema, int) or isinstance(schema, bool) or not isinstance(kept, dict):
            raise Corrupt("members of the wrong kind")
        if schema <= SCHEMA and hashlib.sha256(body.encode("utf-8")).hexdigest() != document["sha256"]:
            raise Corrupt("the checksum does not match")
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise Corrupt(type(problem).__name__) from None
    return schema, kept


class Ledger:
    """The file in a state directory.

    ``migrations`` has a function for every older schema version; it returns the content in the next one.
    """

    def __init__(self, directory: Path, migrations: Migrations = MIGRATIONS) -> None:
        self.path = directory / "standing.json"
        self._migrations = migrations

    def load(self, owned: bool = True) -> tuple[dict[str, Any] | None, str]:
        """Return what was kept, None where there is nothing, and a sentence for the log where something is odd.

        An older schema is migrated after a backup; a file that cannot be read is put aside.  Where the directory is
        not ``owned``, that is locked, nothing in it is touched.  Raises LedgerError for a newer schema, OSError where
        the directory cannot be used.
        """
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return None, ""
        try:
            schema, kept = decode(text)
        except Corrupt as problem:
            if not owned:
                return None, f"{self.path} could not be read ({problem}), and cool-downs start afresh"
            aside = self.path.with_suffix(".corrupt")
            os.replace(self.path, aside)
            return None, f"{self.path} could not be read ({problem}); it is now {aside}, and cool-downs start afresh"
        if schema > SCHEMA:
            raise LedgerError(
                f"{self.path}: was written by a newer version (schema {schema}, this one knows {SCHEMA});"
                " start that version, or move the file away and lose the cool-downs in it."
            )
        note = ""
        if schema < SCHEMA:
            if schema not in self._migrations:
                raise LedgerError(
                    f"{self.path}: has schema {schema}, which no version of the gateway wrote; move the file away."
                )
            if owned:
                backup = self.path.with_suffix(f".schema{schema}.bak")
                replace(backup, text)
                note = f"{self.path} was migrated from schema {schema}; the old one is {backup}"
            while schema < SCHEMA:
                kept, schema = self._migrations[schema](kept), schema + 1
            if owned:
                self.save(kept)
        return kept, note

    def save(self, kept: Mapping[str, Any]) -> None:
        """Replace the file; raises OSError, and then the old one is still whole."""
        replace(self.path, encode(kept))
