"""Credentials' files, plain and sealed: their credentials, or one sentence that names the file.  Writes files."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from gateway.accounts import keyfiles, store
from gateway.accounts.sealing import Seal
from gateway.accounts.store import StoreError
from gateway.calls import Secret
from tests.fuzz import SCRATCH
from tests.keyfiles import key_file

CANARY = "canary-that-is-secret"
SEAL = Seal(Secret("ab" * 32), lambda size: b"n" * size)
NAME = "one.json"
SEEDS = (
    b'{"name": "work", "refresh_token": "1//token", "project": "p"}',
    b'{"accounts": [{"email": "a@x.test", "refresh_token": "a"}, {"email": "b@x.test", "refresh_token": "b"}]}',
    b'[{"refresh_token": "canary-that-is-secret", "name": 7}]',
    b'{"name": "first", "api_key": "canary-that-is-secret"}',
    key_file().encode(),
    json.dumps({"name": "robot", "project": "p", "service_account": {"type": "service_account"}}).encode(),
    SEAL.close(NAME, b'{"refresh_token": "a"}'),
    SEAL.close("other.json", b"{}"),
    b'{"sealed": 2}', b'{"sealed": 1, "nonce": "AA==", "data": ""}', b'{"sealed": null}', b"{", b"\xff", b"[[]]",
    b"null", b"7",
)  # fmt: skip
DICTIONARY = (
    b'"accounts":', b'"refresh_token":', b'"email":', b'"name":', b'"project":', b'"api_key":', b'"service_account":',
    b'"private_key":', b'"client_email":', b'"token_uri":', b'"sealed":1', b'"nonce":"', b'"data":"',
    b"canary-that-is-secret",
    b"\\ud800", b"\\u0000", b"null", b"-----BEGIN PRIVATE KEY-----",
)  # fmt: skip


def one_input(data: bytes) -> None:
    """Raise where a file raises anything but StoreError, its sentence shows a secret, or a token cannot be kept."""
    _read(data)
    # What is within a seal is a stranger's too: whoever has the key may have sealed nonsense.
    _read(SEAL.close(NAME, data))


def _read(content: bytes) -> None:
    path = _directory() / NAME
    for kind, read in (("codeassist", store.read), *((kind, keyfiles.reader(kind)) for kind in keyfiles.PARSERS)):
        for seal in (None, SEAL):
            path.write_bytes(content)
            path.chmod(0o600)
            try:
                found: list[Any] = read(path, seal)
            except StoreError as error:
                _said(str(error), path)
                continue
            assert CANARY not in repr([attr for one in found for attr in _secretless(one)]), found
            if kind == "codeassist":
                _rotated(path, found, seal)


def _said(sentence: str, path: Path) -> None:
    assert sentence.startswith(str(path)), sentence
    assert CANARY not in sentence, sentence


def _secretless(one: Any) -> list[str]:
    return [repr(value) for value in (getattr(one, name, None) for name in ("refresh_token", "api_key")) if value]


def _rotated(path: Path, accounts: list[store.Account], seal: Seal | None) -> None:
    """A rotated token of every account is in the file afterwards, and nobody else's has changed."""
    names = [account.name for account in accounts]
    for number, account in enumerate(accounts[:3]):
        if names.count(account.name) > 1:
            continue
        fresh = Secret(f"1//rotated-{number}-{hashlib.sha256(account.name.encode('utf-8', 'replace')).hexdigest()[:8]}")
        try:
            store.save_refresh_token(account, fresh, seal)
        except StoreError as error:
            _said(str(error), path)
            raise
        tokens = {one.name: one.refresh_token for one in store.read(path, seal)}
        due = {one.name: one.refresh_token for one in accounts}
        assert tokens[account.name] == fresh, "a rotated token was lost"
        accounts = [one if one.name != account.name else store.Account(one.name, fresh) for one in accounts]
        due[account.name] = fresh
        assert {name: token for name, token in tokens.items() if names.count(name) == 1} == {
            name: token for name, token in due.items() if names.count(name) == 1
        }, "another account changed"


@cache
def _directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=Path.cwd()))
    os.chmod(directory, 0o700)
    return directory
