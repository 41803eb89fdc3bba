"""The file of client keys, and what is taken up of it: read whole, or refused in a sentence.  Writes files."""

from __future__ import annotations

import hashlib
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from gateway.config import Limits
from gateway.keys import accounting
from gateway.keys.bookfile import BookError, BookFile
from gateway.keys.holders import Holders, Key
from gateway.keys.meters import Meters
from tests.fuzz import SCRATCH

NOW, WALL = 1000.0, 1_795_680_000.0
GRANT: dict[str, Any] = {
    "expires": "2027-01-31T00:00:00Z",
    "models": ["gemini-*"],
    "networks": ["10.0.0.0/8", "unix"],
    "requests_per_minute": 60,
    "concurrent": 0,
    "tokens_per_minute": None,
    "tokens_per_day": 10**15,
    "micros_per_day": 1,
    "micros_per_month": None,
}
ROW: dict[str, Any] = {
    "id": "key-1",
    "name": "team",
    "sha256": "00" * 32,
    "created": WALL,
    "former": [["11" * 32, WALL]],
    "rotated": WALL,
    "revoked": None,
    "grant": GRANT,
}
SEEDS = (
    b"", b"[]", b"{}", json.dumps([ROW]).encode(), json.dumps([ROW, {**ROW, "id": "key-2", "revoked": 1}]).encode(),
    *(json.dumps([{**ROW, name: odd}]).encode() for name in ROW for odd in (None, 1e400, "x", [], {}, -1, True)),
    *(json.dumps([{**ROW, "grant": {**GRANT, name: odd}}]).encode() for name in GRANT for odd in (None, -1, "x", [1])),
    b'{"schema":1,"sha256":"","keys":[]}', b'{"schema":2,"sha256":"","keys":[]}', b'{"schema":true}',
)  # fmt: skip
DICTIONARY = (
    b'"schema":1', b'"sha256":"', b'"keys":[', b'"id":"', b'"former":[[', b'"grant":{', b'"expires":"', b'"models":["',
    b'"networks":["', b'"revoked":', b"null", b"NaN", b"1e400", b"::/0", b"9999-12-31T23:59:59Z", b"*",
)  # fmt: skip


def one_input(data: bytes) -> None:
    """Raise where a file of these bytes, or a sound one with these rows, is neither taken nor refused as stated."""
    _loaded(data)
    try:
        body = json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode("utf-8")
    except (ValueError, RecursionError):
        return
    digest = hashlib.sha256(body).hexdigest().encode("ascii")
    _loaded(b'{"schema":1,"sha256":"%s","keys":%s}' % (digest, body))


def _loaded(text: bytes) -> None:
    file = BookFile(_directory())
    file.path.touch(0o600)
    file.path.write_bytes(text)
    try:
        keys = file.load()
    except BookError as error:
        said = str(error)
        assert said.startswith(str(file.path)), said
        assert "\n" not in said, said
        assert file.path.read_bytes() == text, "a refused file was touched"
        return
    _sound(file, keys)


def _sound(file: BookFile, keys: list[Key]) -> None:
    """Whatever was taken up can be used, shown, and written and taken up again."""
    holders, meters = Holders(lambda: WALL), Meters(Limits(), lambda: WALL)
    holders.take(keys)
    for key in keys:
        meters.grant(key.id, key.grant, NOW)
        meters.enter(key.id, NOW).left()
        json.dumps(accounting.row(key, meters.meter(key.id), NOW, WALL), allow_nan=False)
    file.save(keys)
    assert file.load() == keys


@cache
def _directory() -> Path:
    return Path(tempfile.mkdtemp(prefix=SCRATCH, dir=Path.cwd()))
