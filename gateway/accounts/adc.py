"""Application default credentials through google-auth, which blocks: it runs in a thread."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC
from functools import partial
from importlib import import_module
from typing import Any

import attrs

from gateway.accounts.oauth import Granted, TokenRevoked, TokenUnavailable, life
from gateway.accounts.serviceaccount import SCOPE
from gateway.accounts.tokens import Ahead, FetchedToken
from gateway.calls import Secret

REQUEST_SECONDS = 30.0

_PROJECT = re.compile(r"[A-Za-z0-9.:_-]*\Z")

InThread = Callable[[Callable[[], Granted]], Awaitable[Granted]]
"""Runs a function in a thread and returns what it returns."""


@attrs.frozen
class Library:
    """What does the work."""

    auth: Any
    """The module ``google.auth``."""
    session: Callable[[], Any]
    """Makes a ``requests.Session``."""


def library() -> Library:
    """Return google-auth and requests; raises ImportError where the extra ``adc`` is not installed."""
    import_module("google.auth.transport.requests")
    return Library(import_module("google.auth"), import_module("requests").Session)


@attrs.define(eq=False, repr=False)
class ApplicationDefault:
    """What this machine's environment says who it is: https://google.aip.dev/auth/4110.

    ``fetch`` runs once at a time, as FetchedToken sees to, for google-auth's objects are not made for more.
    """

    _library: Library
    _in_thread: InThread
    _wall_seconds: Callable[[], float]
    _credentials: Any = None

    async def fetch(self) -> Granted:
        """Return a new token; raises TokenRevoked or TokenUnavailable."""
        return await self._in_thread(self._refresh)

    def _refresh(self) -> Granted:
        """Find the credentials, the first time, and refresh them; in a thread."""
        google_auth = self._library.auth
        request = self._request()
        try:
            if self._credentials is None:
                self._credentials, _ = google_auth.default(scopes=[SCOPE], request=request)
            self._credentials.refresh(request)
        except google_auth.exceptions.DefaultCredentialsError:
            raise TokenUnavailable(
                "no application default credentials are found: set"
                " GOOGLE_APPLICATION_CREDENTIALS, or run `gcloud auth application-default login`"
            ) from None
        except google_auth.exceptions.RefreshError as error:
            if _says_invalid_grant(error):
                raise TokenRevoked("google-auth reports invalid_grant") from None
            raise _unavailable(error) from None
        except google_auth.exceptions.GoogleAuthError as error:
            raise _unavailable(error) from None
        return self._granted()

    def _request(self) -> Any:
        session = self._library.session()
        # A proxy of the environment would be the one way to Google that the configuration does not name.
        session.trust_env = False
        # By default it would wait two minutes.
        return partial(self._library.auth.transport.requests.Request(session), timeout=REQUEST_SECONDS)

    def _granted(self) -> Granted:
        token, expiry = self._credentials.token, self._credentials.expiry
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
            raise TokenUnavailable("google-auth has no usable token")
        # google-auth's times are UTC and do not say so.
        left = None if expiry is None else expiry.replace(tzinfo=UTC).timestamp() - self._wall_seconds()
        project = getattr(self._credentials, "quota_project_id", None) or ""
        return Granted(Secret(token), life(left), None, project if _PROJECT.match(project) else "")


def token_source(
    library: Library,
    in_thread: InThread,
    seconds: Callable[[], float],
    wall_seconds: Callable[[], float],
    ahead: Ahead | None = None,
    whose: str = "",
) -> FetchedToken:
    """Return where application default credentials' tokens come from."""
    return FetchedToken(ApplicationDefault(library, in_thread, wall_seconds).fetch, seconds, ahead, whose=whose)


def _says_invalid_grant(error: Exception) -> bool:
    answers = (part for part in error.args if isinstance(part, Mapping))
    return any(answer.get("error") == "invalid_grant" for answer in answers)


def _unavailable(error: Exception) -> TokenUnavailable:
    # Its text may quote the token endpoint's answer.
    return TokenUnavailable(f"google-auth raised {type(error).__name__}")
