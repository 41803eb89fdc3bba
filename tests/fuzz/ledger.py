"""The ledger's file, and what is taken up of it: read, migrated or put aside, never a surprise.  Writes files."""

from __future__ import annotations

import json
import math
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from gateway.accounts.ledger import Ledger, LedgerError, encode
from gateway.accounts.standing import COOL_LIMIT_SECONDS, Standings
from gateway.calls import Credential
from tests.fuzz import SCRATCH

NOW, WALL = 1000.0, 1_780_000_000.0
KEPT: dict[str, Any] = {
    "rests": [
        {"owner": "project:p", "model": "m", "until": WALL + 60, "strikes": 2, "reason": "RATE_LIMIT_EXCEEDED"},
        {"owner": "self:studio/first", "model": "*", "until": WALL + 9e9, "strikes": 1, "reason": "QUOTA_EXHAUSTED"},
    ],
    "quarantined": [
        {"upstream": "studio", "name": "first", "mark": "x", "reason": "API_KEY_INVALID", "link": "", "since": WALL}
    ],
    "disabled": [{"upstream": "studio", "name": "second"}],
    "halted": [{"upstream": "accounts", "reason": "TOS_VIOLATION"}],
    "used": [{"upstream": "studio", "name": "first", "at": WALL - 5}],
}
SEEDS = (
    *(json.dumps({**KEPT, "rests": [{**KEPT["rests"][0], "strikes": odd}]}).encode() for odd in (1, "x", math.inf)),
    *(json.dumps({**KEPT, "rests": [{**KEPT["rests"][0], "until": odd}]}).encode() for odd in (10**400, math.nan)),
    *(json.dumps({**KEPT, "used": [{**KEPT["used"][0], "at": odd}]}).encode() for odd in (-math.inf, math.nan)),
    encode(KEPT), json.dumps(KEPT) .encode(), b"", b"{}", b"[]", b'{"schema":2,"standings":{}}',
    b'{"schema":0,"standings":{}}',
    b'{"schema":true,"sha256":"","standings":{}}', b'{"rests":[],"quarantined":[],"disabled":[],"halted":[]}',
)  # fmt: skip
DICTIONARY = (
    b'"schema":1', b'"sha256":"', b'"standings":{', b'"rests":[', b'"until":', b'"strikes":', b'"quarantined":[',
    b'"disabled":[',
    b'"halted":[', b'"used":[', b"1e400", b"NaN", b"-Infinity", b"null", b'"1780000099"', b"99999999999999999999",
)  # fmt: skip

CREDENTIALS = (
    Credential("first", "studio", "aistudio", "studio/first", mark="x"),
    Credential("second", "studio", "aistudio", "studio/second"),
    Credential("third", "accounts", "codeassist", "accounts/third", "p"),
)


def one_input(data: bytes) -> None:
    """Raise where a file of these bytes, or a sound one with this content, is neither taken nor refused as stated."""
    _loaded(data)
    try:
        kept = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(kept, dict):
        try:
            text = encode(kept)
        except (UnicodeEncodeError, RecursionError):
            return
        _loaded(text)


def _loaded(text: bytes) -> None:
    ledger = Ledger(_directory())
    ledger.path.write_bytes(text)
    try:
        kept, note = ledger.load()
    except LedgerError as error:
        said = str(error)
        assert said.startswith(str(ledger.path)), said
        assert ledger.path.read_bytes() == text, "a refused ledger was touched"
        return
    if kept is None:
        assert note, "a ledger was put aside without a word"
        assert ledger.path.with_suffix(".corrupt").read_bytes() == text, "what was put aside is not what was there"
        assert not ledger.path.exists(), "a broken ledger was left in place"
        return
    standings = Standings()
    try:
        standings.restore(kept, NOW, WALL)
    except (KeyError, TypeError, ValueError):
        pass
    _sound(ledger, standings)


def _sound(ledger: Ledger, standings: Standings) -> None:
    """Whatever was taken up can be used, and written and taken up again."""
    for credential in CREDENTIALS:
        found = standings.availability(credential, "m", NOW)
        assert found.free_at is None or NOW <= found.free_at <= NOW + COOL_LIMIT_SECONDS, found
        assert not math.isnan(standings.usage.last_used(credential) or 0.0), credential
        standings.cool(credential, "m", NOW, 1.0, "RATE_LIMIT_EXCEEDED")
        standings.release(standings.lease(credential, "m", NOW))
    ledger.save(standings.dump(NOW, WALL))
    kept, note = ledger.load()
    assert kept is not None, note
    assert not note, note
    Standings().restore(kept, NOW, WALL)


@cache
def _directory() -> Path:
    return Path(tempfile.mkdtemp(prefix=SCRATCH, dir=Path.cwd()))
