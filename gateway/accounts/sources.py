"""Where the tokens of accounts, service accounts and this machine come from: each kind with what it needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.threads import deferToThreadPool

from gateway.accounts import adc, serviceaccount
from gateway.accounts.oauth import refresh_request
from gateway.accounts.tokens import Ahead, RefreshedToken, Send, TokenSource
from gateway.calls import HttpRequest, Secret
from gateway.config import CloudCredentialConfig, OAuthConfig


@attrs.frozen
class Sources:
    """Makes token sources."""

    _reactor: Any
    _send: Send
    _ahead: Ahead
    _user_agent: str

    def account(
        self, oauth: OAuthConfig, refresh_token: Secret, save: Callable[[Secret], None]
    ) -> RefreshedToken:
        """Return an account's; ``save`` keeps a refresh token that was exchanged."""

        def request(refresh_token: Secret) -> HttpRequest:
            return refresh_request(
                oauth.token_url, oauth.client_id, oauth.client_secret, refresh_token, self._user_agent
            )

        return RefreshedToken(request, refresh_token, self._send, self._reactor.seconds, save, self._ahead)

    def cloud(self, credential: CloudCredentialConfig) -> TokenSource:
        """Return a service account's, or that of application default credentials."""
        seconds = self._reactor.seconds
        if credential.service_account is not None:
            return serviceaccount.token_source(
                credential.service_account, self._send, seconds, time.time, self._user_agent, self._ahead
            )
        return adc.token_source(
            adc.library(),
            lambda function: deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function),
            seconds,
            time.time,
            self._ahead,
        )
