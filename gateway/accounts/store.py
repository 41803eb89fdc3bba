"""OAuth accounts as files: one JSON file an account, or a list of them as users bring it along.

The directory is 0700 and the files 0600; a file is replaced by a whole new one or not at all.  With a seal, what is
written is encrypted; a plain file is read all the same, and sealed when it is next written.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from gateway.accounts import guards
from gateway.accounts.given import NOTHING, Given, given
from gateway.accounts.locking import exclusive
from gateway.accounts.sealing import Seal, SealError, is_sealed, no_key
from gateway.calls import Secret

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._@+-]")
_STEM_MOST = 80


class StoreError(Exception):
    """An account file cannot be taken; the message names it and the cure."""


@attrs.frozen
class Account:
    """One OAuth account."""

    name: str
    refresh_token: Secret
    project: str = ""
    path: Path | None = None
    """The file it came from; None for one that is kept in memory alone."""
    index: int | None = None
    """Its place in the file's list, where the file holds a list."""
    email: str = ""
    given: Given = NOTHING
    """How much it is to be used, where the file says so."""


def load(directory: Path, seal: Seal | None = None) -> list[Account]:
    """Return the accounts of a directory's ``*.json`` files, in order of the files' names.

    A directory that is not there holds none.  Raises StoreError.
    """
    accounts = [account for path in files(directory) for account in read(path, seal)]
    names: set[str] = set()
    for account in accounts:
        if account.name in names:
            raise StoreError(f"{account.path}: a second account named {account.name!r}; rename or remove one.")
        names.add(account.name)
    return accounts


def files(directory: Path) -> list[Path]:
    """Return the paths of a directory's account files, in order; raises StoreError, and OSError as it is read."""
    if not os.path.lexists(directory):
        return []
    _check(directory, 0o700, "directory")
    return sorted(directory.glob("*.json"))


def read(path: Path, seal: Seal | None = None) -> list[Account]:
    """Return the accounts of one file; raises StoreError."""
    _check(path, 0o600, "file")
    return list(_read(path, seal))


def document(path: Path, seal: Seal | None = None) -> Any:
    """Return one file's JSON document; raises StoreError."""
    _check(path, 0o600, "file")
    return _parse(path, seal)


def entries(document: Any, path: Path) -> list[Account]:
    """Return the accounts of a document that came from elsewhere, in the form that users bring along.

    An account's name is empty where it has neither a name nor an address.  Raises StoreError.
    """
    if isinstance(document, dict) and "accounts" not in document:
        return [_account(document, path, None, "")]
    return [_account(entry, path, index, "") for index, entry in enumerate(_listed(document, path))]


def keep(directory: Path, name: str, document: Any, path: Path | None, seal: Seal | None = None) -> Path:
    """Write a credential's document, into a file of its own unless ``path`` says where; return where.

    Raises OSError where it cannot be written.
    """
    make_directory(directory)
    path = path or _free_path(directory, name)
    _write(path, document, seal)
    return path


def remove(account: Account, seal: Seal | None = None) -> None:
    """Remove an account: its file, or its entry in a list.  Raises StoreError, and OSError."""
    assert account.path is not None
    with exclusive(account.path.parent):
        _remove(account, account.path, seal)


def _remove(account: Account, path: Path, seal: Seal | None) -> None:
    if account.index is None:
        path.unlink()
        return
    document = _parse(path, seal)
    entries = _listed(document, path)
    kept = [
        entry
        for index, entry in enumerate(entries)
        if not isinstance(entry, dict) or _name(entry, f"{path.stem}-{index + 1}") != account.name
    ]
    if len(kept) == len(entries):
        raise StoreError(f"{path}: the account is not there any more.")
    entries[:] = kept
    _write(path, document, seal)


def save_refresh_token(
    account: Account, refresh_token: Secret, seal: Seal | None = None, replaces: Secret | None = None
) -> None:
    """Keep an account's rotated refresh token; other members of its file stay as they are.

    Raises OSError where the file cannot be written, StoreError where it is not the account's any more, or where
    it holds another token than ``replaces``: somebody has signed the account in again.
    """
    _amend(account, {"refresh_token": refresh_token.reveal()}, seal, replaces)


def save_project(account: Account, project: str, seal: Seal | None = None) -> None:
    """Keep the project that was found for an account; otherwise as ``save_refresh_token``."""
    _amend(account, {"project": project}, seal)


def save_given(account: Account, changes: Mapping[str, Any], seal: Seal | None = None) -> None:
    """Keep how much an account is to be used; None takes a member out.  Otherwise as ``save_refresh_token``."""
    _amend(account, changes, seal)


def change(entry: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Change members of a document; None takes one out."""
    for member, value in changes.items():
        entry.pop(member, None)
        if value is not None:
            entry[member] = value


def _amend(
    account: Account, changes: Mapping[str, Any], seal: Seal | None, replaces: Secret | None = None
) -> None:
    if account.path is None:
        return
    with exclusive(account.path.parent):
        document = _parse(account.path, seal)
        # The file may have been edited since: its list need not have the same order, nor the same accounts.
        entry = next((entry for name, entry in _entries(document, account.path) if name == account.name), None)
        if entry is None:
            raise StoreError(f"{account.path}: the account is not there any more; add it again.")
        if replaces is not None and str(entry.get("refresh_token")).strip() != replaces.reveal():
            raise StoreError(f"{account.path}: the account was signed in again meanwhile, which counts.")
        change(entry, changes)
        _write(account.path, document, seal)


def save_account(
    directory: Path,
    name: str,
    refresh_token: Secret,
    project: str,
    email: str = "",
    seal: Seal | None = None,
    terms: Given = NOTHING,
) -> tuple[Account, bool]:
    """Keep a signed-in account; return it, and whether it took an older one's place.

    The place is that of the account with this ``name``, else of the one with this ``email``, in whatever file it
    stands, and members of its that are not named here stay; else it is a new file of its own.  Without a ``name``
    an account keeps the name it has, and a new one is named after its ``email``.  An empty ``project`` leaves the
    one that is known.  Raises StoreError, and OSError where the file cannot be written.
    """
    name, email, project = name.strip(), email.strip(), project.strip()
    if not name and not email:
        raise ValueError("an account needs a name or an e-mail address")
    make_directory(directory)
    with exclusive(directory):
        # Whatever is wrong in the directory is said before anything is written to it.
        paths = dict.fromkeys(account.path for account in load(directory, seal) if account.path is not None)
        documents = [(path, _parse(path, seal)) for path in paths]
        known = [(path, document, *found) for path, document in documents for found in _entries(document, path)]
        same_name = [each for each in known if name and each[2] == name]
        same_owner = [each for each in known if email and email.lower() in (_email(each[3]), each[2].lower())]
        older = next(iter(same_name or same_owner), None)
        fresh: dict[str, Any] = {}
        path, document, old_name, entry = older or (_free_path(directory, name or email), fresh, email, fresh)
        if email and _email(entry) not in ("", email.lower()):
            # Another owner's project is of no use to this one.
            entry.pop("project", None)
        _fill(entry, name or old_name, email, refresh_token, project)
        change(entry, terms.members())
        _write(path, document, seal)
        return Account(entry["name"], refresh_token, entry.get("project", ""), path), older is not None


def _fill(entry: dict[str, Any], name: str, email: str, refresh_token: Secret, project: str) -> None:
    given = {"name": name, "email": email, "refresh_token": refresh_token.reveal(), "project": project}
    entry.update({key: value for key, value in given.items() if value})


def _email(entry: dict[str, Any]) -> str:
    email = entry.get("email", "")
    return email.strip().lower() if isinstance(email, str) else ""


def make_directory(directory: Path) -> None:
    """Create what is missing of a path, for the owner alone."""
    if not directory.exists():
        make_directory(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)


def _free_path(directory: Path, name: str) -> Path:
    """Return where a new account's file goes: a name of plain characters that no file has yet."""
    stem = _NOT_PLAIN.sub("_", name).lstrip(".-")[:_STEM_MOST]
    path = directory / f"{stem}.json"
    turn = 0
    while not stem or os.path.lexists(path):
        digest = hashlib.sha256(f"{turn}:{name}".encode("utf-8", "surrogatepass")).hexdigest()[:8]
        stem, turn = stem or "account", turn + 1
        path = directory / f"{stem}-{digest}.json"
    return path


def check_file(path: Path) -> None:
    """Raise StoreError where a file is not its owner's alone, or no file; OSError where it is not there."""
    _check(path, 0o600, "file")


def _check(path: Path, mode: int, what: str) -> None:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise StoreError(f"{path}: is a symbolic link; put the {what} itself there.")
    if not (stat.S_ISDIR if what == "directory" else stat.S_ISREG)(found.st_mode):
        raise StoreError(f"{path}: is no {what}; remove it, or name another.")
    if guards.is_strangers(found):
        raise StoreError(f"{path}: belongs to another user; chown it to the user that runs the gateway.")
    if guards.allows_more(found, mode):
        raise StoreError(f"{path}: others may read this {what}; run: chmod {mode:o} {path}")


def _parse(path: Path, seal: Seal | None) -> Any:
    try:
        document = json.loads(path.read_bytes())
        if not is_sealed(document):
            return document
        if seal is None:
            raise no_key()
        return json.loads(seal.open(path.name, document))
    except SealError as error:
        raise StoreError(f"{path}: {error}") from None
    except (OSError, ValueError, RecursionError) as error:
        # The text of a JSON error is safe to show; it quotes nothing of the file.
        raise StoreError(f"{path}: cannot be read as JSON ({error}); repair or remove it.") from None


def _write(path: Path, document: Any, seal: Seal | None) -> None:
    content = json.dumps(document, indent=2).encode("utf-8") + b"\n"
    replace(path, content if seal is None else seal.close(path.name, content))


def _listed(document: Any, path: Path) -> list[Any]:
    entries = document.get("accounts") if isinstance(document, dict) else document
    if not isinstance(entries, list):
        raise StoreError(f"{path}: needs `refresh_token`, or `accounts` with a list of accounts.")
    return entries


def _read(path: Path, seal: Seal | None) -> Iterator[Account]:
    document = _parse(path, seal)
    if isinstance(document, dict) and "accounts" not in document:
        yield _account(document, path, None, path.stem)
        return
    for index, entry in enumerate(_listed(document, path)):
        yield _account(entry, path, index, f"{path.stem}-{index + 1}")


def _entries(document: Any, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(document, dict) and "accounts" not in document:
        yield _name(document, path.stem), document
        return
    for index, entry in enumerate(_listed(document, path)):
        if isinstance(entry, dict):
            yield _name(entry, f"{path.stem}-{index + 1}"), entry


def _name(entry: dict[str, Any], default_name: str) -> str:
    given = (entry.get(key) for key in ("name", "email"))
    return next((text.strip() for text in given if isinstance(text, str) and text.strip()), default_name)


def _account(entry: Any, path: Path, index: int | None, default_name: str) -> Account:
    where = f"{path}" if index is None else f"{path}: accounts[{index}]"
    if not isinstance(entry, dict):
        raise StoreError(f"{where}: must be a JSON object with `refresh_token`.")
    values: dict[str, str] = {}
    for name in ("name", "email", "refresh_token", "project"):
        value = entry.get(name, "")
        if not isinstance(value, str):
            raise StoreError(f"{where}: `{name}` must be a string.")
        values[name] = value.strip()
    if not values["refresh_token"]:
        raise StoreError(f"{where}: `refresh_token` is missing; sign the account in again.")
    try:
        terms = given(entry)
    except ValueError as error:
        raise StoreError(f"{where}: {error}.") from None
    name, token = _name(entry, default_name), Secret(values["refresh_token"])
    return Account(name, token, values["project"], path, index, values["email"], terms)


def replace(path: Path, content: bytes) -> None:
    """Put ``content`` in the place of a file, as a whole or not at all; raises OSError."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | guards.GUARDED, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if guards.POSIX:
                # One left over from a crash may have another mode.
                os.fchmod(file.fileno(), 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    guards.settle(path.parent)
