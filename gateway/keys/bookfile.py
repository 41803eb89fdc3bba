"""The client keys on disk: one JSON file of digests, replaced as a whole, with a schema version and a checksum.

Keys are few, and change seldom: a file that is written anew at each change, by the one way in which all small files
of the gateway are written, has no states between the old one and the new one, and needs no journal and no server.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gateway.accounts import store
from gateway.keys import grants
from gateway.keys.holders import Key

NAME = "keys.json"
SCHEMA = 1
_CURE = "restore it from a copy, or move it away, which ends all keys that were made"


class BookError(Exception):
    """The file cannot be used; the message names it and the cure."""


class BookFile:
    """The file in a state directory."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / NAME

    def load(self) -> list[Key]:
        """Return the keys that were kept.

        Raises BookError where the file is not what was written: to go on without its keys could be to go on without a
        lock on the door.  Raises OSError where the directory cannot be read.
        """
        try:
            store.check_file(self.path)
            text = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except store.StoreError as error:
            raise BookError(str(error)) from None
        try:
            document = json.loads(text)
            schema, rows = document["schema"], document["keys"]
            if schema > SCHEMA:
                raise BookError(
                    f"{self.path}: was written by a newer version (schema {schema}, this one knows {SCHEMA}); start"
                    " that version."
                )
            if hashlib.sha256(_body(rows)).hexdigest() != document["sha256"]:
                raise BookError(f"{self.path}: is not what was written (the checksum does not match); {_CURE}.")
            return [_key(row) for row in rows]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
            raise BookError(f"{self.path}: cannot be read ({type(problem).__name__}); {_CURE}.") from None

    def save(self, keys: Iterable[Key]) -> None:
        """Replace the file; raises OSError, and then the old one is still whole."""
        body = _body([_row(key) for key in keys])
        digest = hashlib.sha256(body).hexdigest().encode("ascii")
        store.replace(self.path, b'{"schema":%d,"sha256":"%s","keys":%s}\n' % (SCHEMA, digest, body))


def _body(rows: Any) -> bytes:
    return json.dumps(rows, sort_keys=True, separators=(",", ":")).encode("utf-8")


def _row(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "sha256": key.digest.hex(),
        "created": key.created,
        "former": [[digest.hex(), until] for digest, until in key.former],
        "rotated": key.rotated,
        "revoked": key.revoked,
        "grant": grants.members(key.grant),
    }


def _key(row: Any) -> Key:
    """Return the key of a row; raises ValueError, KeyError, TypeError or AttributeError where it is none."""
    if not isinstance(row["id"], str) or not row["id"].isprintable():
        raise TypeError("an id is a text")
    return Key(
        row["id"],
        grants.name_of(row["name"]),
        _digest(row["sha256"]),
        _time(row["created"]),
        grants.granted(row["grant"], grants.NOTHING),
        tuple((_digest(digest), _time(until)) for digest, until in row["former"]),
        None if row["rotated"] is None else _time(row["rotated"]),
        None if row["revoked"] is None else _time(row["revoked"]),
    )


def _digest(text: str) -> bytes:
    digest = bytes.fromhex(text)
    if len(digest) != hashlib.sha256().digest_size:
        raise ValueError("a digest has 32 bytes")
    return digest


def _time(number: Any) -> float:
    if not isinstance(number, int | float) or isinstance(number, bool) or not 0 <= number <= grants.TIME_MOST:
        raise TypeError("a time is seconds since 1970")
    return float(number)
