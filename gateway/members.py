"""The other half of the composition: credentials and account files in, the router's members out, kept up to date."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from gateway.accounts import store
from gateway.accounts.given import Given
from gateway.accounts.keyfiles import KeyFile
from gateway.accounts.names import label, mark
from gateway.accounts.onboarding import OnboardingError
from gateway.accounts.projects import Finder, project_of
from gateway.accounts.store import Account
from gateway.accounts.tokens import Ahead, RefreshedToken, StaticToken, TokenSource
from gateway.accounts.watch import Watcher
from gateway.calls import Credential, HttpRequest, Secret, Terms
from gateway.config import CloudCredentialConfig, Config, UpstreamConfig
from gateway.credentials import Held, Key, Prepared, account_tokens, ask, cloud_tokens, prepared, watcher
from gateway.routing.attempts import Router
from gateway.routing.pool import Member
from gateway.upstreams.exchange import Wire
from gateway.upstreams.sending import USER_AGENT

STOP_SECONDS = 5.0
"""How long the end waits for refreshes under way: an exchanged refresh token is lost with them."""
NO_PROJECT = "PROJECT_MISSING"

_log = Logger(namespace="gateway")


_Cloud = tuple[CloudCredentialConfig, Member]


class Members:
    """Builds the router's members, and puts others in their place when account files or the configuration change.

    Calls under way keep the members that they began with.  A credential that did not change keeps its token,
    its standing and its sessions, and so does one whose project or upstream's settings alone changed.
    """

    def __init__(
        self, config: Config, reactor: Any, wire: Wire, router: Router, chance: Callable[[], float]
    ) -> None:
        """Build the members; raises StoreError where an account file is not in order."""
        self._reactor = reactor
        self._started = False
        self.ahead = Ahead(reactor.callLater, chance)
        self._upstreams: dict[str, UpstreamConfig] = {}
        self._fixed: dict[str, list[Member]] = {}
        self._clouds: dict[tuple[str, str], _Cloud] = {}
        self._keys: dict[str, dict[str, Key]] = {}
        self._held: dict[str, dict[str, Held]] = {}
        self.watchers: list[Watcher] = []
        self._finder = Finder(reactor, chance, self._ask_project, self._found, self._not_found)
        self.take(prepared(config), router, wire)

    def take(self, what: Prepared, router: Router, wire: Wire) -> None:
        """Let these be the configured upstreams from now on, and ``router`` whom their members serve."""
        before, self._upstreams = self._upstreams, {one.name: one for one in what.config.upstreams}
        self._kinds, self._seals = what.kinds, what.seals
        self._router, self._wire = router, wire
        for name in before:
            self._adapt(before[name], self._upstreams.get(name))
        for name in self._upstreams:
            self._keys.setdefault(name, {})
            self._held.setdefault(name, {})
        clouds, self._clouds = self._clouds, {}
        self._fixed = {name: self._built(upstream, clouds) for name, upstream in self._upstreams.items()}
        kept = {id(member.tokens) for _, member in self._clouds.values()}
        for _, member in clouds.values():
            if id(member.tokens) not in kept:
                member.tokens.stop()
        for upstream in what.config.upstreams:
            if upstream.oauth is not None:
                self._update(upstream, what.accounts[upstream.name])
            elif upstream.credentials_dir:
                self._update_keys(upstream, what.keyfiles[upstream.name])
        self._publish()
        self._watch()

    def _adapt(self, old: UpstreamConfig, new: UpstreamConfig | None) -> None:
        """Let what an upstream's credentials hold follow its settings; they lose it where these are others'."""
        name = old.name
        if new is None or (new.kind, new.oauth) != (old.kind, old.oauth):
            gone = [one.member for one in self._held.pop(name, {}).values()]
            gone += [key.member for key in self._keys.pop(name, {}).values()]
            for member in gone:
                member.tokens.stop()
                self._router.standings.forget(member.credential)
            return
        if new != old:
            self._held[name] = {
                account: attrs.evolve(held, member=self._adapted(held.member, new, held.account.given))
                for account, held in self._held[name].items()
            }
            self._keys[name] = {
                one: Key(key.file, self._adapted(key.member, new, key.file.given))
                for one, key in self._keys[name].items()
            }

    def _adapted(self, member: Member, config: UpstreamConfig, given: Given) -> Member:
        credential = attrs.evolve(member.credential, terms=given.over(config.terms))
        return Member(credential, self._kinds[config.name], member.tokens, config.base_urls, config.models)

    def _watch(self) -> None:
        for one in self.watchers:
            one.stop()
        self.watchers = [
            watcher(
                upstream,
                self._seals[upstream.name],
                self._reactor,
                partial(self._update if upstream.oauth else self._update_keys, upstream),
            )
            for upstream in self._upstreams.values()
            if upstream.credentials_dir
        ]
        if self._started:
            for one in self.watchers:
                one.start()

    def start(self) -> None:
        """Begin to watch the account files, and to look for projects that are missing."""
        self._started = True
        for one in self.watchers:
            one.start()
        self._finder.start()

    def stop(self) -> None:
        """Watch and look no longer; tokens are still to be had."""
        for one in self.watchers:
            one.stop()
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

    def _built(self, config: UpstreamConfig, clouds: Mapping[tuple[str, str], _Cloud]) -> list[Member]:
        """Return the members that the configuration itself names; those of ``clouds`` were there before."""
        members: list[Member] = []
        for key in config.credentials:
            source: TokenSource = StaticToken(key.api_key)
            members.append(self._member(config, key.name, key.project, key.api_key, source, key.terms))
        for one in config.cloud:
            # Application defaults have no secret of ours to tell apart.
            secret = one.service_account.private_key if one.service_account else Secret("")
            known, before = clouds.get((config.name, one.name), (None, None))
            same = known is not None and known.service_account == one.service_account
            tokens = before.tokens if before is not None and same else self._cloud_tokens(config, one)
            members.append(self._member(config, one.name, one.project, secret, tokens, one.terms))
            self._clouds[config.name, one.name] = one, members[-1]
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
        shown = label(config.name, config.kind, name)
        credential = Credential(name, config.name, config.kind, shown, project, mark(secret), terms)
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

    def _of_file(self, config: UpstreamConfig, file: KeyFile, known: Key | None) -> Key:
        """Return a key's use: the one it has, as far as the file is the same."""
        terms = file.given.over(config.terms)
        if known is not None and attrs.evolve(known.file, path=file.path, given=file.given) == file:
            if known.member.credential.terms == terms:
                return Key(file, known.member)
            credential = attrs.evolve(known.member.credential, terms=terms)
            return Key(file, attrs.evolve(known.member, credential=credential))
        if file.api_key is not None:
            tokens: TokenSource = StaticToken(file.api_key)
        else:
            one = CloudCredentialConfig(file.name, file.project, file.service_account)
            tokens = self._cloud_tokens(config, one)
        return Key(file, self._member(config, file.name, file.project, file.secret, tokens, terms))

    def _hold(self, config: UpstreamConfig, account: Account, held: Held | None) -> Held:
        """Return an account's use: the one it has, as far as the account is the same."""
        secret, tokens, found = account.refresh_token, None, ""
        if held is not None and secret in (held.account.refresh_token, held.tokens.refresh_token):
            tokens, found = held.tokens, held.found
        project, terms = account.project or config.project or found, account.given.over(config.terms)
        if held is not None and tokens is not None:
            credential = held.member.credential
            if (credential.project, credential.terms) == (project, terms):
                return Held(account, tokens, held.member, found)
            # Of the same secret, however often it was exchanged: what is held against it stands.
            member = attrs.evolve(held.member, credential=attrs.evolve(credential, project=project, terms=terms))
        else:
            tokens = self._account_tokens(config, account)
            member = self._member(config, account.name, project, secret, tokens, terms)
        if project:
            self._router.standings.usable(member.credential)
        else:
            self._router.standings.unusable(member.credential, NO_PROJECT)
        return Held(account, tokens, member, found)

    def _publish(self) -> None:
        held, members = self._held, []
        for name, fixed in self._fixed.items():
            members += [*fixed, *(key.member for key in self._keys[name].values())]
            members += [one.member for one in held[name].values()]
        self._router.members = members
        credentials = (one.member.credential for some in held.values() for one in some.values())
        self._finder.want(credential for credential in credentials if not credential.project)

    def _account_tokens(self, config: UpstreamConfig, account: Account) -> RefreshedToken:
        assert config.oauth is not None

        def save(refresh_token: Secret) -> None:
            held = self._held.get(config.name, {}).get(account.name)
            # One that was removed, or signed in again, meanwhile has no use for it.
            if held is not None and held.tokens is tokens:
                self._keep(config, held, refresh_token)

        send = partial(self._send, config.name)
        tokens = account_tokens(config, config.oauth, account, send, save, self._reactor, self.ahead)
        return tokens

    def _keep(self, config: UpstreamConfig, held: Held, refresh_token: Secret) -> None:
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

    def _cloud_tokens(self, config: UpstreamConfig, credential: CloudCredentialConfig) -> TokenSource:
        return cloud_tokens(config, credential, partial(self._send, config.name), self._reactor, self.ahead)

    async def _send(self, upstream: str, request: HttpRequest) -> tuple[int, bytes]:
        return await ask(self._wire, request, upstream)

    async def _ask_project(self, credential: Credential) -> str:
        """Return an account's project; raises OnboardingError."""
        config, held = self._upstreams[credential.upstream], self._held[credential.upstream][credential.name]
        user_agent = (config.envelope.user_agent if config.envelope else "") or USER_AGENT
        send = partial(self._send, config.name)
        return await project_of(held.tokens, send, config.base_urls, config.project, self._reactor, user_agent)

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
