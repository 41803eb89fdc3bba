"""What follows a sign-in: a code in, an account out that is kept with its project.

Sequences over an injected ``send`` and clock; only the keeping writes a file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from gateway.accounts import signin, store
from gateway.accounts.oauth import TokenUnavailable
from gateway.accounts.onboarding import OnboardingError, discover
from gateway.accounts.sealing import seal_of
from gateway.accounts.tokens import Send
from gateway.calls import HttpRequest, Secret
from gateway.config import OAuthConfig, UpstreamConfig


@attrs.define(eq=False, repr=False)
class Enrolment:
    """One account on its way in; each step raises SignInFailed."""

    upstream: UpstreamConfig
    send: Send
    clock: Any
    say: Callable[[str], None]
    """Tells the operator something; it is never a secret."""
    user_agent: str
    """What the gateway calls itself where the upstream's envelope does not say."""
    name: str = ""
    """What the account is to be called; its e-mail address unless given."""

    @property
    def oauth(self) -> OAuthConfig:
        """The OAuth client that the account signs in to."""
        assert self.upstream.oauth is not None
        return self.upstream.oauth

    async def redeem(self, code: Secret, redirect_uri: str, attempt: signin.Attempt) -> tuple[Secret, Secret]:
        """Return the access token and the refresh token that a code stands for."""
        oauth = self.oauth
        request = signin.code_request(
            oauth.token_url, oauth.client_id, oauth.client_secret, redirect_uri, code, attempt, self.user_agent
        )
        granted, refresh_token = signin.read_code_answer(*await self._ask(request, "The token endpoint"))
        return granted.access_token, refresh_token

    async def who(self, token: Secret) -> str:
        """Return the account's address; without it a name that was given will do."""
        request = signin.userinfo_request(self.oauth.userinfo_url, token, self.user_agent)
        try:
            email = signin.read_userinfo(*await self._ask(request, "The user info endpoint"))
        except signin.SignInFailed as failure:
            if not self.name:
                raise signin.SignInFailed(f"{failure} Name the account with --name to do without.") from None
            self.say(str(failure))
            return ""
        self.say(f"Signed in as {email}.  Looking for the account's project; a new account may take a minute.")
        return email

    async def keep(self, token: Secret, refresh_token: Secret, email: str) -> tuple[store.Account, bool]:
        """Save the account, with its project where there is one; return it, and whether it can be used.

        What is missing can be added later.  Raises StoreError, and OSError.
        """
        project, missing = "", None
        try:
            project = await self._project(token)
        except OnboardingError as error:
            missing = error
        directory = Path(self.upstream.credentials_dir)
        seal = seal_of(self.upstream.credentials_key)
        account, replaced = store.save_account(directory, self.name, refresh_token, project, email, seal)
        self.say(f"{'Renewed' if replaced else 'Saved'} account {account.name} in {account.path}.")
        if missing is None:
            self.say(f"Project: {project}.")
        else:
            self.say(f"No project was found: {missing}")
            if missing.link:
                self.say(f"Its owner must open: {missing.link}")
        usable = bool(account.project or self.upstream.project)
        self.say(
            "A gateway that is running takes it up by itself."
            if usable
            else "Without a project the account is not used."
        )
        return account, usable

    async def _project(self, token: Secret) -> str:
        last = OnboardingError("no base URL is configured")
        for base in self.upstream.base_urls:
            try:
                return await discover(
                    self.send, base, token, self.upstream.project, self.clock, user_agent=self._user_agent()
                )
            except OnboardingError as error:
                last = error
                if not error.transient:
                    break
        raise last

    def _user_agent(self) -> str:
        envelope = self.upstream.envelope
        return (envelope.user_agent if envelope else "") or self.user_agent

    async def _ask(self, request: HttpRequest, whom: str) -> tuple[int, bytes]:
        try:
            return await self.send(request)
        except TokenUnavailable as error:
            raise signin.SignInFailed(f"{whom} did not help: {error}. Check the network and sign in again.") from None
