"""Accounts that the operator signs in while the gateway runs, from a browser on this machine or another."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.accounts import signin, store
from gateway.accounts.enrolment import Enrolment
from gateway.accounts.loopback import CannotListen, Loopback
from gateway.calls import GatewayError, Secret
from gateway.composition import Composition
from gateway.credentials import ask
from gateway.filing import chosen
from gateway.upstreams.sending import USER_AGENT

MOST = 4
"""How many are under way at a time."""
SECONDS = 600.0
"""How long one waits for its browser, and is told about when it is over."""

Row = dict[str, Any]

_log = Logger(namespace="gateway.admin")


@attrs.define(eq=False, repr=False)
class SignIn:
    """One sign-in."""

    id: str
    upstream: str
    attempt: signin.Attempt
    loopback: Loopback
    url: str = ""
    state: str = "waiting"
    """``waiting`` for the browser, ``working``, ``done`` or ``failed``."""
    account: str = ""
    told: list[str] = attrs.field(factory=list)
    """Sentences for people."""
    code: Deferred[Secret] = attrs.field(factory=Deferred)
    task: Deferred[None] | None = None

    def row(self) -> Row:
        """Return it for people."""
        return {
            "id": self.id,
            "upstream": self.upstream,
            "url": self.url,
            "state": self.state,
            "account": self.account,
            "messages": self.told,
        }


@attrs.define(eq=False, repr=False)
class SignIns:
    """Those under way, and those that were lately."""

    composition: Callable[[], Composition]
    reactor: Any
    _held: dict[str, SignIn] = attrs.field(factory=dict)

    def begin(self, upstream: str, name: str) -> Row:
        """Begin one, and return where its owner's browser has to go; raises GatewayError."""
        composition = self.composition()
        where = chosen(composition.config, upstream)
        oauth = where.oauth
        if oauth is None:
            raise GatewayError(
                409, "FAILED_PRECONDITION", "UPSTREAM_TAKES_NONE", f"{upstream} takes no accounts that sign in."
            )
        if sum(one.state in ("waiting", "working") for one in self._held.values()) >= MOST:
            raise GatewayError(
                429, "RESOURCE_EXHAUSTED", "TOO_MANY_SIGN_INS", "Others are under way; finish or cancel one."
            )
        attempt = signin.begin(secrets.token_bytes)
        loopback = Loopback(self.reactor, lambda query: signin.read_redirect(query, attempt))
        one = SignIn(secrets.token_hex(8), upstream, attempt, loopback)
        try:
            redirect_uri = loopback.listen(self.reactor)
        except CannotListen as error:
            raise GatewayError(503, "UNAVAILABLE", "CANNOT_LISTEN", f"{error}.") from None
        one.url = signin.authorisation_url(oauth.auth_url, oauth.client_id, redirect_uri, attempt)
        send = partial(self._send, composition, upstream)
        enrolment = Enrolment(where, send, self.reactor, one.told.append, USER_AGENT, name)
        self._held[one.id] = one
        one.task = Deferred.fromCoroutine(self._run(one, enrolment, redirect_uri))
        return one.row()

    def see(self, id: str) -> Row:
        """Return how one is; raises GatewayError."""
        return self._one(id).row()

    def answer(self, id: str, text: str) -> Row:
        """Take the last page's address, or the code in it, as its owner pasted it; raises GatewayError."""
        one = self._one(id)
        if one.state != "waiting":
            raise GatewayError(409, "FAILED_PRECONDITION", "SIGN_IN_OVER", "This sign-in waits for nothing.")
        try:
            code = signin.read_pasted(text, one.attempt)
        except signin.NotOurs as why:
            raise GatewayError(
                400, "INVALID_ARGUMENT", "NOT_THIS_SIGN_IN", f"That is not the answer to this sign-in: {why}."
            ) from None
        except signin.SignInFailed:
            one.code.errback(Failure())
        else:
            one.code.callback(code)
        return one.row()

    def cancel(self, id: str) -> Row:
        """Give one up; raises GatewayError."""
        one = self._one(id)
        if one.task is not None:
            one.task.cancel()
        return one.row()

    def stop(self) -> None:
        """Give all up."""
        for one in list(self._held.values()):
            self.cancel(one.id)

    async def _run(self, one: SignIn, enrolment: Enrolment, redirect_uri: str) -> None:
        one.loopback.code.addCallbacks(
            lambda code: None if one.code.called else one.code.callback(code),
            lambda failure: None if one.code.called else one.code.errback(failure),
        )
        try:
            code = await one.code.addTimeout(SECONDS, self.reactor, _too_late)
            one.state = "working"
            token, refresh_token = await enrolment.redeem(code, redirect_uri, one.attempt)
            email = await enrolment.who(token)
            one.loopback.conclude(True)
            account, usable = await enrolment.keep(token, refresh_token, email)
            one.account, one.state = account.name, "done" if usable else "failed"
        except CancelledError:
            one.state = "failed"
            one.told.append("Given up; nothing was saved.")
        except (signin.SignInFailed, store.StoreError) as failure:
            one.state = "failed"
            one.told.append(str(failure))
        except OSError as error:
            one.state = "failed"
            one.told.append(f"The account could not be saved: {error.strerror}.")
        except Exception:
            one.state = "failed"
            one.told.append("The gateway failed; its log tells why.")
            _log.failure("a sign-in failed")
        finally:
            one.task = None
            await one.loopback.close()
            self.reactor.callLater(SECONDS, self._held.pop, one.id, None)
            _log.info("a sign-in to {upstream} is {state}", upstream=one.upstream, state=one.state)

    async def _send(self, composition: Composition, upstream: str, request: Any) -> tuple[int, bytes]:
        return await ask(composition.wire, request, upstream)

    def _one(self, id: str) -> SignIn:
        if id not in self._held:
            raise GatewayError(404, "NOT_FOUND", "SIGN_IN_UNKNOWN", "There is no such sign-in, or it is long over.")
        return self._held[id]


def _too_late(result: object, seconds: float) -> Secret:
    raise signin.SignInFailed(f"Nobody signed in within {seconds:g} seconds. Start again when you are ready.")
