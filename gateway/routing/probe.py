"""Try one credential, whatever its standing is, and say in plain words how it went.  Changes no standing."""

from __future__ import annotations

import msgspec

from gateway.accounts.oauth import TokenRevoked, TokenUnavailable
from gateway.calls import Action, Call, GatewayError
from gateway.modelid import is_model_id, no_model_id
from gateway.routing.asking import UNUSED, Asker, Live, Whole
from gateway.routing.attempts import Router
from gateway.routing.outcome import Failure
from gateway.routing.pool import Member
from gateway.upstreams import unanswered
from gateway.upstreams.errordetails import scrubbed, status_body

VERB = "countTokens"
MODEL = "gemini-2.5-flash"
"""What is asked for unless the operator says otherwise or the upstream does not serve it."""
SECONDS = 30.0
_BODY = b'{"contents":[{"role":"user","parts":[{"text":"Hello"}]}]}'


class _Counted(msgspec.Struct, rename="camel"):
    total_tokens: int | None = None


class _Said(msgspec.Struct):
    message: str = ""


class _Error(msgspec.Struct):
    error: _Said


class Outcome(msgspec.Struct, frozen=True):
    """How a test went."""

    good: bool
    model: str
    status: int
    """The HTTP status; 0 where no answer came."""
    reason: str
    message: str
    """A sentence for people."""
    seconds: float
    tokens: int | None = None
    link: str = ""


def model_for(router: Router, member: Member, wanted: str = "") -> str:
    """Return the model to test a credential with; raises GatewayError where the one that is wanted can be none."""
    if wanted:
        model = router.catalog.resolve(wanted)
        if not is_model_id(model):
            raise no_model_id()
        return model
    listed = router.catalog.listed.get(member.credential.upstream, {})
    named = [MODEL, *(model for model in member.models if "*" not in model)]
    names = [*named, *sorted(listed), *sorted(router.catalog.table)]
    return next((name for name in names if member.serves(name) and (not listed or name in listed)), named[-1])


async def probe(router: Router, member: Member, wanted: str = "") -> Outcome:
    """Have a credential count the tokens of one word; it costs none of its quota for answers.

    Raises GatewayError where ``wanted`` can be no model.
    """
    model = model_for(router, member, wanted)
    call = Call("test", VERB, model, model, _BODY, "")
    began = router.clock.seconds()
    try:
        result = await _asked(router, member, call)
    except TokenRevoked as error:
        result = (0, "INVALID_GRANT", f"its owner has to sign in again: the token endpoint refused it ({error}).", "")
    except TokenUnavailable as error:
        result = (0, "TOKEN_UNAVAILABLE", f"no access token could be had: {error}.", "")
    except GatewayError as error:
        result = (0, error.reason, error.message, "")
    seconds = router.clock.seconds() - began
    if isinstance(result, tuple):
        status, reason, message, link = result
        return Outcome(False, model, status, reason, message, seconds, None, link)
    tokens = _tokens(result.event.data)
    return Outcome(True, model, 200, "", "it answered.", seconds, tokens)


async def _asked(router: Router, member: Member, call: Call) -> Whole | tuple[int, str, str, str]:
    asker = Asker(router.wire, router.clock, router.wall_seconds, router.timeouts, router.limits)
    token = await member.tokens.get()
    renewed = False
    while True:
        request = member.prepare(call, member.bases[0], token)
        now = router.clock.seconds()
        result = await asker.ask(call, member, request, now, now + SECONDS, UNUSED)
        if isinstance(result, Whole):
            return result
        assert not isinstance(result, Live)
        if result.verdict.action is not Action.REFRESH or renewed or not member.tokens.renewable:
            return _failed(result)
        renewed = True
        token = await member.tokens.renew(token)


def _failed(failure: Failure) -> tuple[int, str, str, str]:
    verdict = failure.verdict
    if not verdict.status:
        return 0, verdict.reason, unanswered.failure(verdict).message, ""
    try:
        said = msgspec.json.decode(scrubbed(status_body(failure.body, verdict.status)), type=_Error).error.message
    except msgspec.DecodeError:
        said = ""
    return verdict.status, verdict.reason, said or "Google gave no reason.", verdict.link


def _tokens(data: bytes) -> int | None:
    try:
        return msgspec.json.decode(data, type=_Counted).total_tokens
    except msgspec.DecodeError:
        return None
