"""``antigravity login``: sign an account in for a ``codeassist`` upstream and keep it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from gateway.accounts import signin, store
from gateway.accounts.loopback import CannotListen, Loopback
from gateway.accounts.oauth import TokenUnavailable
from gateway.accounts.onboarding import OnboardingError, discover
from gateway.accounts.sealing import seal_of
from gateway.accounts.tokens import Send
from gateway.calls import HttpRequest, Secret
from gateway.commands.sending import sender
from gateway.commands.terminal import deliver_lines, open_browser
from gateway.config import Config, ConfigError, OAuthConfig, UpstreamConfig, load
from gateway.upstreams.sending import USER_AGENT

Say = Callable[[str], None]
"""Tells the operator something; it is never a secret."""

KIND = "codeassist"


@attrs.frozen
class Wish:
    """What the command line asks for."""

    config: str
    """The configuration file; empty where none is named."""
    upstream: str = ""
    name: str = ""
    browser: bool = True
    timeout_seconds: float = 600.0


async def login(reactor: Any, wish: Wish, environ: Mapping[str, str], say: Say) -> int:
    """Sign an account in and return the exit status; raises ConfigError before anything is asked."""
    config, upstream, oauth = _chosen(wish, environ)
    try:
        async with sender(reactor, config, upstream.name) as send:
            return await _SignIn(reactor, wish, upstream, oauth, send, say).run(environ)
    except (signin.SignInFailed, CannotListen, store.StoreError) as failure:
        say(str(failure))
    except OSError as error:
        say(f"The account could not be saved: {error}")
    except CancelledError:
        say("Given up; nothing was saved.")
    return 1


def _chosen(wish: Wish, environ: Mapping[str, str]) -> tuple[Config, UpstreamConfig, OAuthConfig]:
    """Return the configuration and the upstream to sign in to, whose account files are in order."""
    if not wish.config:
        raise ConfigError(
            "antigravity login", "", "no configuration is named", "name the file that holds your OAuth client: --config"
        )
    config = load(wish.config, environ)
    known = {upstream.name: upstream for upstream in config.upstreams if upstream.kind == KIND}
    if not known:
        raise ConfigError(config.source, "upstreams", f"none is of kind {KIND}", f"add one: kind: {KIND}, oauth: ...")
    name = wish.upstream or next(iter(known))
    if name not in known or (len(known) > 1 and not wish.upstream):
        problem = f"{signin.shown(name)!r} is none of kind {KIND}" if wish.upstream else f"several are of kind {KIND}"
        raise ConfigError(config.source, "upstreams", problem, "name one with --upstream: " + ", ".join(known))
    upstream = known[name]
    assert upstream.oauth is not None
    try:
        store.load(Path(upstream.credentials_dir), seal_of(upstream.credentials_key))
    except store.StoreError as error:
        raise ConfigError(config.source, f"upstreams.{name}.credentials_dir", str(error), "mend it") from None
    return config, upstream, upstream.oauth


@attrs.define(eq=False)
class _SignIn:
    """One sign-in, from the address that is printed to the file that is written."""

    _reactor: Any
    _wish: Wish
    _upstream: UpstreamConfig
    _oauth: OAuthConfig
    _send: Send
    _say: Say

    async def run(self, environ: Mapping[str, str]) -> int:
        attempt = signin.begin(secrets.token_bytes)
        loopback = Loopback(self._reactor, lambda query: signin.read_redirect(query, attempt))
        redirect_uri = loopback.listen(self._reactor)
        try:
            oauth = self._oauth
            self._invite(signin.authorisation_url(oauth.auth_url, oauth.client_id, redirect_uri, attempt), environ)
            code = await self._code(loopback, attempt)
            token, refresh_token = await self._redeem(code, redirect_uri, attempt)
            email = await self._who(token)
            loopback.conclude(True)
            return await self._keep(token, refresh_token, email)
        finally:
            await loopback.close()

    def _invite(self, url: str, environ: Mapping[str, str]) -> None:
        opened = self._wish.browser and open_browser(url, environ)
        self._say(
            ("A browser opens this address; if not, open it yourself" if opened else "Open this address in a browser")
            + f", and sign in with the account to add:\n\n{url}\n\n"
            "Waiting for the browser to come back.  If it runs on another machine its last page will not load: copy\n"
            "that page's address (or the code in it), paste it here, and press Enter."
        )

    async def _code(self, loopback: Loopback, attempt: signin.Attempt) -> Secret:
        """Return the code that comes first, from the browser or pasted."""
        waiting: Deferred[Secret] = Deferred()

        def settle(result: Secret | Failure) -> None:
            if not waiting.called:
                waiting.callback(result)

        def pasted(line: str) -> None:
            if not line.strip() or waiting.called:
                return
            try:
                settle(signin.read_pasted(line, attempt))
            except signin.NotOurs as why:
                self._say(f"That is not the answer to this sign-in: {why}.  Paste the last page's whole address.")
            except signin.SignInFailed:
                settle(Failure())

        def too_late(result: object, seconds: float) -> Secret:
            raise signin.SignInFailed(f"Nobody signed in within {seconds:g} seconds. Start again when you are ready.")

        loopback.code.addBoth(settle)
        deliver_lines(self._reactor, pasted)
        return await waiting.addTimeout(self._wish.timeout_seconds, self._reactor, too_late)

    async def _redeem(self, code: Secret, redirect_uri: str, attempt: signin.Attempt) -> tuple[Secret, Secret]:
        oauth = self._oauth
        request = signin.code_request(
            oauth.token_url, oauth.client_id, oauth.client_secret, redirect_uri, code, attempt, USER_AGENT
        )
        granted, refresh_token = signin.read_code_answer(*await self._ask(request, "The token endpoint"))
        return granted.access_token, refresh_token

    async def _who(self, token: Secret) -> str:
        """Return the account's address; without it a name from the command line will do."""
        request = signin.userinfo_request(self._oauth.userinfo_url, token, USER_AGENT)
        try:
            email = signin.read_userinfo(*await self._ask(request, "The user info endpoint"))
        except signin.SignInFailed as failure:
            if not self._wish.name:
                raise signin.SignInFailed(f"{failure} Name the account with --name to do without.") from None
            self._say(str(failure))
            return ""
        self._say(f"Signed in as {email}.  Looking for the account's project; a new account may take a minute.")
        return email

    async def _keep(self, token: Secret, refresh_token: Secret, email: str) -> int:
        """Save the account, with its project where there is one: what is missing can be added later."""
        project, missing = "", None
        try:
            project = await self._project(token)
        except OnboardingError as error:
            missing = error
        directory = Path(self._upstream.credentials_dir)
        seal = seal_of(self._upstream.credentials_key)
        account, replaced = store.save_account(directory, self._wish.name, refresh_token, project, email, seal)
        self._say(f"{'Renewed' if replaced else 'Saved'} account {account.name} in {account.path}.")
        if missing is None:
            self._say(f"Project: {project}.")
        else:
            self._say(f"No project was found: {missing}")
            if missing.link:
                self._say(f"Its owner must open: {missing.link}")
        if not account.project and not self._upstream.project:
            self._say("Without a project the account is not used.")
            return 1
        self._say("A gateway that is running takes it up by itself.")
        return 0

    async def _project(self, token: Secret) -> str:
        last = OnboardingError("no base URL is configured")
        for base in self._upstream.base_urls:
            try:
                return await discover(
                    self._send, base, token, self._upstream.project, self._reactor, user_agent=self._user_agent()
                )
            except OnboardingError as error:
                last = error
                if not error.transient:
                    break
        raise last

    def _user_agent(self) -> str:
        envelope = self._upstream.envelope
        return (envelope.user_agent if envelope else "") or USER_AGENT

    async def _ask(self, request: HttpRequest, whom: str) -> tuple[int, bytes]:
        try:
            return await self._send(request)
        except TokenUnavailable as error:
            raise signin.SignInFailed(f"{whom} did not help: {error}. Check the network and sign in again.") from None

