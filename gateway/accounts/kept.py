"""What of a pool lies in files, and how it is changed there.  Reads and writes files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from gateway.accounts import keyfiles, store
from gateway.accounts.sealing import seal_of
from gateway.config import UpstreamConfig


class Kept(msgspec.Struct, frozen=True):
    """A credential, and how it is removed; None where it stands in the configuration."""

    upstream: str
    name: str
    remove: Callable[[], None] | None
    set: Callable[[Mapping[str, Any]], None] | None = None
    """Changes how much it is used."""


def kept(upstream: UpstreamConfig) -> Iterator[Kept]:
    """Yield an upstream's credentials; raises StoreError where a file is not in order."""
    for name in configured(upstream):
        yield Kept(upstream.name, name, None)
    if not upstream.credentials_dir:
        return
    directory, seal = Path(upstream.credentials_dir), seal_of(upstream.credentials_key)
    if upstream.oauth is None:
        for key in keyfiles.load(directory, upstream.kind, seal):
            yield Kept(upstream.name, key.name, key.path.unlink, partial(keyfiles.save_given, key, seal=seal))
    else:
        for account in store.load(directory, seal):
            change = partial(store.save_given, account, seal=seal)
            yield Kept(upstream.name, account.name, partial(store.remove, account, seal), change)


def configured(upstream: UpstreamConfig) -> Iterable[str]:
    """Return the names of the credentials that stand in the configuration."""
    return [one.name for some in (upstream.credentials, upstream.cloud, upstream.accounts) for one in some]
