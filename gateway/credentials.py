"""What a configuration's credentials are before anybody uses them: files, and sources of tokens.  Reads files."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec
from twisted.internet.threads import deferToThreadPool

from gateway.accounts import adc, keyfiles, names, serviceaccount, store
from gateway.accounts.keyfiles import KeyFile
from gateway.accounts.oauth import TokenUnavailable, refresh_request
from gateway.accounts.sealing import Seal, seal_of
from gateway.accounts.store import Account
from gateway.accounts.tokens import Ahead, RefreshedToken, Send, TokenSource
from gateway.accounts.watch import Watcher, by_inotify
from gateway.calls import HttpRequest, Secret
from gateway.config import CloudCredentialConfig, Config, OAuthConfig, UpstreamConfig
from gateway.routing.pool import Member
from gateway.upstreams import kinds
from gateway.upstreams.exchange import Wire, WireError
from gateway.upstreams.sending import USER_AGENT


def accounts(config: UpstreamConfig) -> list[Account]:
    """Return the accounts in an upstream's files; raises StoreError."""
    return store.load(Path(config.credentials_dir), seal_of(config.credentials_key)) if config.credentials_dir else []


TOKEN_SECONDS = 30.0
TOKEN_BYTES = 256 * 1024


@attrs.define(eq=False, repr=False)
class Held:
    """An account in use."""

    account: Account
    """As its file is known to have it."""
    tokens: RefreshedToken
    member: Member
    found: str = ""
    """The project that was found for it, where its file could not be told."""


class Key(msgspec.Struct, frozen=True):
    """An API key or a service account of a file, in use."""

    file: KeyFile
    member: Member


class Prepared(msgspec.Struct, frozen=True):
    """What a configuration names, read and in order."""

    config: Config
    kinds: Mapping[str, kinds.Upstream]
    """By the upstream's name, as the rest."""
    seals: Mapping[str, Seal | None]
    accounts: Mapping[str, Sequence[Account]]
    keyfiles: Mapping[str, Sequence[KeyFile]]


def prepared(config: Config) -> Prepared:
    """Read the files of a configuration's credentials; raises StoreError where one is not in order."""
    seals = {upstream.name: seal_of(upstream.credentials_key) for upstream in config.upstreams}
    return Prepared(
        config,
        {upstream.name: kinds.build(upstream) for upstream in config.upstreams},
        seals,
        {upstream.name: accounts(upstream) for upstream in config.upstreams if upstream.oauth is not None},
        {
            upstream.name: keyfiles.load(Path(upstream.credentials_dir), upstream.kind, seals[upstream.name])
            for upstream in config.upstreams
            if upstream.oauth is None and upstream.credentials_dir
        },
    )


def account_tokens(
    config: UpstreamConfig,
    oauth: OAuthConfig,
    account: Account,
    send: Send,
    save: Callable[[Secret], None],
    reactor: Any,
    ahead: Ahead,
) -> RefreshedToken:
    """Return where an account's tokens come from; ``save`` keeps a refresh token that was exchanged."""

    def request(token: Secret) -> HttpRequest:
        return refresh_request(oauth.token_url, oauth.client_id, oauth.client_secret, token, USER_AGENT)

    whose = names.label(config.name, config.kind, account.name)
    return RefreshedToken(request, account.refresh_token, send, reactor.seconds, save, ahead, whose=whose)


def cloud_tokens(
    config: UpstreamConfig, credential: CloudCredentialConfig, send: Send, reactor: Any, ahead: Ahead
) -> TokenSource:
    """Return where a service account's tokens come from, or those of the application defaults."""
    whose = names.label(config.name, config.kind, credential.name)
    if credential.service_account is not None:
        return serviceaccount.token_source(
            credential.service_account, send, reactor.seconds, time.time, USER_AGENT, ahead, whose
        )
    return adc.token_source(
        adc.library(),
        lambda function: deferToThreadPool(reactor, reactor.getThreadPool(), function),
        reactor.seconds,
        time.time,
        ahead,
        whose,
    )


def watcher(
    upstream: UpstreamConfig, seal: Seal | None, reactor: Any, changed: Callable[[Sequence[Any]], None]
) -> Watcher:
    """Return what tells when an upstream's files change."""
    read = store.read if upstream.oauth else keyfiles.reader(upstream.kind)
    return Watcher(Path(upstream.credentials_dir), seal, reactor, changed, by_inotify(reactor), read)


async def ask(wire: Wire, request: HttpRequest, upstream: str) -> tuple[int, bytes]:
    """Return an upstream's token endpoint's answer; see tokens.Send."""
    try:
        exchange = await wire.open(request, TOKEN_SECONDS, upstream)
        return exchange.status, await exchange.read(TOKEN_BYTES, TOKEN_SECONDS)
    except WireError as error:
        raise TokenUnavailable(f"the token endpoint gave no answer ({error.kind})") from None
