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
from gateway.accounts.enrolment import Enrolment
from gateway.accounts.loopback import CannotListen, Loopback
from gateway.accounts.sealing import seal_of
from gateway.accounts.tokens import Send
from gateway.calls import Secret
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


@attrs.define(eq=False, repr=False)
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
            enrolment = Enrolment(self._upstream, self._send, self._reactor, self._say, USER_AGENT, self._wish.name)
            token, refresh_token = await enrolment.redeem(code, redirect_uri, attempt)
            email = await enrolment.who(token)
            loopback.conclude(True)
            _, usable = await enrolment.keep(token, refresh_token, email)
            return 0 if usable else 1
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
