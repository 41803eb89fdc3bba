"""The other half of the composition: credentials and account files in, the router's members out, kept up to date."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from gateway.accounts import keyfiles, store
from gateway.accounts.keyfiles import KeyFile
from gateway.accounts.names import label, mark
from gateway.accounts.oauth import TokenUnavailable
from gateway.accounts.onboarding import OnboardingError
from gateway.accounts.projects import Finder, project_of
from gateway.accounts.sealing import seal_of
from gateway.accounts.sources import Sources
from gateway.accounts.store import Account
from gateway.accounts.tokens import Ahead, RefreshedToken, StaticToken, TokenSource
from gateway.accounts.watch import Watcher, by_inotify
from gateway.calls import Credential, HttpRequest, Secret, Terms
from gateway.config import CloudCredentialConfig, Config, UpstreamConfig
from gateway.routing.attempts import Router
from gateway.routing.pool import Member
from gateway.upstreams import kinds
from gateway.upstreams.exchange import Wire, WireError
from gateway.upstreams.sending import USER_AGENT

TOKEN_SECONDS = 30.0
TOKEN_BYTES = 256 * 1024
STOP_SECONDS = 5.0
"""How long the end waits for refreshes under way: an exchanged refresh token is lost with them."""
NO_PROJECT = "PROJECT_MISSING"

_log = Logger(namespace="gateway")


def accounts(config: UpstreamConfig) -> list[Account]:
    """Return the accounts in an upstream's files; raises StoreError."""
    return store.load(Path(config.credentials_dir), seal_of(config.credentials_key)) if config.credentials_dir else []


@attrs.define(eq=False)
class _Held:
    """An account in use."""

    account: Account
    """As its file is known to have it."""
    tokens: RefreshedToken
    member: Member
    found: str = ""
    """The project that was found for it, where its file could not be told."""


@attrs.frozen
class _Key:
    """An API key or a service account of a file, in use."""

    file: KeyFile
    member: Member


class Members:
    """Builds the router's members, and puts others in their place when account files change.

    Calls under way keep the members that they began with.  An account that did not change keeps its token,
    its standing and its sessions, and so does one whose project alone changed.
    """

    def __init__(
        self, config: Config, reactor: Any, wire: Wire, router: Router, chance: Callable[[], float]
    ) -> None:
        """Build the members; raises StoreError where an account file is not in order."""
        self._upstreams = {upstream.name: upstream for upstream in config.upstreams}
        self._kinds = {upstream.name: kinds.build(upstream) for upstream in config.upstreams}
        self._seals = {upstream.name: seal_of(upstream.credentials_key) for upstream in config.upstreams}
        self._reactor = reactor
        self._wire = wire
        self._router = router
        self._started = False
        self._sources = Sources(reactor, self._send, Ahead(reactor.callLater, chance), USER_AGENT)
        self._fixed = {upstream.name: self._built(upstream) for upstream in config.upstreams}
        self._keys: dict[str, dict[str, _Key]] = {name: {} for name in self._upstreams}
        self._held: dict[str, dict[str, _Held]] = {name: {} for name in self._upstreams}
        self._finder = Finder(reactor, chance, self._ask_project, self._found, self._not_found)
        self._watchers = [
            Watcher(
                Path(upstream.credentials_dir),
                self._seals[upstream.name],
                reactor,
                partial(self._update if upstream.oauth else self._update_keys, upstream),
                by_inotify(reactor),
                store.read if upstream.oauth else keyfiles.reader(upstream.kind),
            )
            for upstream in config.upstreams
            if upstream.credentials_dir
        ]
        for upstream in config.upstreams:
            if upstream.oauth is not None:
                self._update(upstream, accounts(upstream))
            elif upstream.credentials_dir:
                directory, seal = Path(upstream.credentials_dir), self._seals[upstream.name]
                self._update_keys(upstream, keyfiles.load(directory, upstream.kind, seal))
        self._publish()

    def start(self) -> None:
        """Begin to watch the account files, and to look for projects that are missing."""
        self._started = True
        for watcher in self._watchers:
            watcher.start()
        self._finder.start()

    def stop(self) -> None:
        """Watch and look no longer; tokens are still to be had."""
        for watcher in self._watchers:
            watcher.stop()
        self._finder.stop()

    def names(self) -> dict[str, set[str]]:
        """Return the names of the credentials that there are, by upstream."""
        found: dict[str, set[str]] = {name: set() for name in self._upstreams}
        for member in self._router.members:
            found[member.credential.upstream].add(member.credential.name)
        return found

    def hurry(self, credential: Credential) -> None:
        """Look for a credential's project at once, if it is missing."""
        self._finder.hurry(credential)

    async def close(self) -> None:
        """Refresh no token any more, and let refreshes under way end, in reason."""
        ends = [member.tokens.stop() for member in self._router.members]
        waiting: Deferred[Any] = DeferredList(ends, consumeErrors=True)
        await waiting.addTimeout(STOP_SECONDS, self._reactor, lambda result, seconds: None)

    def _built(self, config: UpstreamConfig) -> list[Member]:
        """Return the members that the configuration itself names."""
        members: list[Member] = []
        for key in config.credentials:
            source: TokenSource = StaticToken(key.api_key)
            members.append(self._member(config, key.name, key.project, key.api_key, source, key.terms))
        for one in config.cloud:
            # Application defaults have no secret of ours to tell apart.
            secret = one.service_account.private_key if one.service_account else Secret("")
            tokens = self._sources.cloud(one)
            members.append(self._member(config, one.name, one.project, secret, tokens, one.terms))
        return members

    def _member(
        self,
        config: UpstreamConfig,
        name: str,
        project: str,
        secret: Secret,
        tokens: TokenSource,
        terms: Terms,
    ) -> Member:
        credential = Credential(
            name,
            config.name,
            config.kind,
            label(config.name, config.kind, name),
            project,
            mark(secret),
            terms,
        )
        return Member(credential, self._kinds[config.name], tokens, config.base_urls, config.models)

    def _update(self, config: UpstreamConfig, files: Sequence[Account]) -> None:
        """Let these be the accounts in an upstream's files."""
        given = [Account(one.name, one.refresh_token, one.project) for one in config.accounts]
        before, now = self._held[config.name], {}
        changes: dict[str, list[str]] = {"added": [], "changed": [], "removed": []}
        for account in [*given, *files]:
            held = before.get(account.name)
            now[account.name] = taken = self._hold(config, account, held)
            if held is None:
                changes["added"].append(taken.member.credential.label)
            elif held.member is not taken.member:
                changes["changed"].append(taken.member.credential.label)
        for name, held in before.items():
            if name not in now:
                changes["removed"].append(held.member.credential.label)
                self._router.standings.forget(held.member.credential)
            if name not in now or now[name].tokens is not held.tokens:
                held.tokens.stop()
        self._held[config.name] = now
        self._publish()
        self._tell("accounts", config, changes)

    def _update_keys(self, config: UpstreamConfig, files: Sequence[KeyFile]) -> None:
        """Let these be the API keys or service accounts in an upstream's files."""
        before, now = self._keys[config.name], {}
        taken = {member.credential.name for member in self._fixed[config.name]}
        changes: dict[str, list[str]] = {"added": [], "changed": [], "removed": []}
        for file in files:
            if file.name in taken:
                _log.warn("{path} is not used: the configuration has a credential of its name", path=str(file.path))
                continue
            known = before.get(file.name)
            now[file.name] = key = self._of_file(config, file, known)
            if known is None or key.member is not known.member:
                changes["added" if known is None else "changed"].append(key.member.credential.label)
        for name, known in before.items():
            if name not in now:
                changes["removed"].append(known.member.credential.label)
                self._router.standings.forget(known.member.credential)
            if name not in now or now[name].member.tokens is not known.member.tokens:
                known.member.tokens.stop()
        self._keys[config.name] = now
        self._publish()
        self._tell("credentials", config, changes)

    def _tell(self, what: str, config: UpstreamConfig, changes: Mapping[str, Sequence[str]]) -> None:
        told = "; ".join(f"{how} {', '.join(labels)}" for how, labels in changes.items() if labels)
        if told and self._started:
            _log.info("{what} of {upstream}: {told}", what=what, upstream=config.name, told=told)

    def _of_file(self, config: UpstreamConfig, file: KeyFile, known: _Key | None) -> _Key:
        """Return a key's use: the one it has, as far as the file is the same."""
        terms = file.given.over(config.terms)
        if known is not None and attrs.evolve(known.file, path=file.path, given=file.given) == file:
            if known.member.credential.terms == terms:
                return _Key(file, known.member)
            credential = attrs.evolve(known.member.credential, terms=terms)
            return _Key(file, attrs.evolve(known.member, credential=credential))
        if file.api_key is not None:
            tokens: TokenSource = StaticToken(file.api_key)
        else:
            tokens = self._sources.cloud(CloudCredentialConfig(file.name, file.project, file.service_account))
        return _Key(file, self._member(config, file.name, file.project, file.secret, tokens, terms))

    def _hold(self, config: UpstreamConfig, account: Account, held: _Held | None) -> _Held:
        """Return an account's use: the one it has, as far as the account is the same."""
        secret, tokens, found = account.refresh_token, None, ""
        if held is not None and secret in (held.account.refresh_token, held.tokens.refresh_token):
            tokens, found = held.tokens, held.found
        project, terms = account.project or config.project or found, account.given.over(config.terms)
        if held is not None and tokens is not None:
            credential = held.member.credential
            if (credential.project, credential.terms) == (project, terms):
                return _Held(account, tokens, held.member, found)
            # Of the same secret, however often it was exchanged: what is held against it stands.
            member = attrs.evolve(held.member, credential=attrs.evolve(credential, project=project, terms=terms))
        else:
            tokens = self._account_tokens(config, account)
            member = self._member(config, account.name, project, secret, tokens, terms)
        if project:
            self._router.standings.usable(member.credential)
        else:
            self._router.standings.unusable(member.credential, NO_PROJECT)
        return _Held(account, tokens, member, found)

    def _publish(self) -> None:
        held, members = self._held, []
        for name, fixed in self._fixed.items():
            members += fixed
            members += [key.member for key in self._keys[name].values()]
            members += [one.member for one in held[name].values()]
        self._router.members = members
        credentials = (one.member.credential for some in held.values() for one in some.values())
        self._finder.want(credential for credential in credentials if not credential.project)

    def _account_tokens(self, config: UpstreamConfig, account: Account) -> RefreshedToken:
        assert config.oauth is not None

        def save(refresh_token: Secret) -> None:
            held = self._held[config.name].get(account.name)
            # One that was removed, or signed in again, meanwhile has no use for it.
            if held is not None and held.tokens is tokens:
                self._keep(config, held, refresh_token)

        tokens = self._sources.account(config.oauth, account.refresh_token, save)
        return tokens

    def _keep(self, config: UpstreamConfig, held: _Held, refresh_token: Secret) -> None:
        try:
            store.save_refresh_token(
                held.account, refresh_token, self._seals[config.name], held.account.refresh_token
            )
        except (OSError, store.StoreError) as error:
            _log.error(
                "the new refresh token of account {credential} could not be kept and is lost at the next start: {why}",
                credential=held.member.credential.label,
                why=str(error),
            )
        else:
            held.account = attrs.evolve(held.account, refresh_token=refresh_token)
            self._router.standings.rotated(held.member.credential, mark(refresh_token))

    async def _send(self, request: HttpRequest) -> tuple[int, bytes]:
        try:
            exchange = await self._wire.open(request, TOKEN_SECONDS)
            return exchange.status, await exchange.read(TOKEN_BYTES, TOKEN_SECONDS)
        except WireError as error:
            raise TokenUnavailable(f"the token endpoint gave no answer ({error.kind})") from None

    async def _ask_project(self, credential: Credential) -> str:
        """Return an account's project; raises OnboardingError."""
        config, held = self._upstreams[credential.upstream], self._held[credential.upstream][credential.name]
        user_agent = (config.envelope.user_agent if config.envelope else "") or USER_AGENT
        return await project_of(held.tokens, self._send, config.base_urls, config.project, self._reactor, user_agent)

    def _found(self, credential: Credential, project: str) -> None:
        held = self._held[credential.upstream].get(credential.name)
        if held is None:
            return
        config = self._upstreams[credential.upstream]
        try:
            store.save_project(held.account, project, self._seals[config.name])
            held.account = attrs.evolve(held.account, project=project)
        except (OSError, store.StoreError) as error:
            _log.error(
                "the project of account {credential} is not kept, and is asked for again at the next start: {why}",
                credential=credential.label,
                why=str(error),
            )
        held.found = project
        self._held[credential.upstream][credential.name] = self._hold(config, held.account, held)
        self._publish()
        _log.info("account {credential} works in project {project}", credential=credential.label, project=project)

    def _not_found(self, credential: Credential, error: OnboardingError) -> None:
        self._router.standings.unusable(credential, NO_PROJECT, error.link)
        _log.error(
            "account {credential} ({name}) has no project and is not used: {why} {link}",
            credential=credential.label,
            name=credential.name,
            why=error.message,
            link=error.link,
        )
