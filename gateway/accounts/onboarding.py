"""Which Google project an account works in: found, or made by Google when the account is new; never invented.

A sequence over an injected ``send`` and clock; does no I/O of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import attrs
import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from gateway.accounts.oauth import TokenUnavailable
from gateway.accounts.signin import shown
from gateway.accounts.tokens import Send
from gateway.calls import HttpRequest, Secret
from gateway.splice import UNREADABLE

POLL_SECONDS = 5.0
DEADLINE_SECONDS = 120.0
"""How long an onboarding may take; ``send`` limits what each answer may."""
FREE_TIER = "free-tier"

_LINK_KEYS = ("validation_url", "validation_link", "validationUrl", "validationLink")
_OPERATION = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9._-]+)*\Z")
_PROJECT = re.compile(r"[A-Za-z0-9.:_-]{1,200}\Z")
_METADATA = {"ideType": "IDE_UNSPECIFIED", "platform": "PLATFORM_UNSPECIFIED", "pluginType": "GEMINI"}


@attrs.frozen(auto_exc=True)
class OnboardingError(Exception):
    """There is no project; ``message`` says what is missing."""

    message: str
    link: str = ""
    """Where the account's owner must go, if Google says so."""
    transient: bool = False
    """Whether asking again later may help with nothing changed."""

    def __str__(self) -> str:
        return self.message


class _Project(msgspec.Struct):
    id: str = ""


class _Tier(msgspec.Struct, rename="camel"):
    id: str = ""
    is_default: bool | None = None


class _Ineligible(msgspec.Struct, rename="camel"):
    reason_code: str = ""
    reason_message: str = ""
    tier_name: str = ""
    validation_url: str | None = None


class _Loaded(msgspec.Struct, rename="camel"):
    current_tier: _Tier | None = None
    allowed_tiers: list[_Tier] | None = None
    ineligible_tiers: list[_Ineligible] | None = None
    cloudaicompanion_project: str | _Project | None = None


class _Onboarded(msgspec.Struct, rename="camel"):
    cloudaicompanion_project: str | _Project | None = None


class _Problem(msgspec.Struct):
    message: str = ""
    status: str = ""
    details: list[Any] = []


class _Operation(msgspec.Struct):
    name: str = ""
    done: bool | None = None
    error: _Problem | None = None
    response: _Onboarded | None = None


class _Refused(msgspec.Struct):
    error: _Problem


_LOADED = msgspec.json.Decoder(_Loaded)
_OPERATION_DECODER = msgspec.json.Decoder(_Operation)
_REFUSED = msgspec.json.Decoder(_Refused)


async def discover(
    send: Send,
    base: str,
    token: Secret,
    operator_project: str,
    clock: IReactorTime,
    *,
    user_agent: str,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> str:
    """Return the project that an account works in.

    An account with a tier has the project that Google names, or else the operator's.  One without a tier is
    onboarded to the tier that Google calls its default.  Raises OnboardingError.
    """
    ends = clock.seconds() + deadline_seconds
    talk = _Talk(send, base, token, user_agent)
    request: dict[str, Any] = {"metadata": _metadata(operator_project)}
    if operator_project:
        request["cloudaicompanionProject"] = operator_project
    loaded = _decoded(_LOADED, await talk.post("loadCodeAssist", request), "loadCodeAssist")
    if loaded.current_tier is None:
        order = _order(loaded, operator_project)
        return _project_id(await _onboard(talk, order, clock, ends), operator_project, loaded)
    return _project_id(loaded.cloudaicompanion_project, operator_project, loaded)


@attrs.frozen
class _Talk:
    """One account's conversation with one base URL."""

    _send: Send
    _base: str
    _token: Secret
    _user_agent: str

    async def post(self, method: str, document: dict[str, Any]) -> bytes:
        return await self._ask(b"POST", f"{self._base}:{method}", msgspec.json.encode(document), method)

    async def get(self, name: str) -> bytes:
        return await self._ask(b"GET", f"{self._base}/{name}", b"", "the onboarding operation")

    async def _ask(self, method: bytes, url: str, body: bytes, what: str) -> bytes:
        headers = (
            (b"content-type", b"application/json"),
            (b"accept-encoding", b"identity"),
            (b"user-agent", self._user_agent.encode("latin-1")),
            (b"authorization", b"Bearer " + self._token.reveal().encode("latin-1")),
        )
        try:
            status, answer = await self._send(HttpRequest(method, url.encode("ascii"), headers, body))
        except TokenUnavailable as error:
            raise OnboardingError(f"{what} was not answered: {error}.", transient=True) from None
        if status != 200:
            raise _refusal(what, status, answer)
        return answer


async def _onboard(
    talk: _Talk, order: dict[str, Any], clock: IReactorTime, ends: float
) -> str | _Project | None:
    """Ask for the tier and wait until Google has set it up; a poll that fails is only asked again."""
    operation = _decoded(_OPERATION_DECODER, await talk.post("onboardUser", order), "onboardUser")
    while not operation.done:
        if clock.seconds() + POLL_SECONDS > ends:
            raise OnboardingError(
                "Google is still setting the account up; it takes longer than usual. Try again in some minutes.",
                transient=True,
            )
        await deferLater(clock, POLL_SECONDS)
        try:
            # An answer that names no operation is asked for by the same order again.
            named = _OPERATION.match(operation.name)
            answer = await (talk.get(operation.name) if named else talk.post("onboardUser", order))
            latest = _decoded(_OPERATION_DECODER, answer, "the onboarding operation")
        except OnboardingError as error:
            if not error.transient:
                raise
            continue
        operation = latest if latest.name else msgspec.structs.replace(latest, name=operation.name)
    if operation.error is not None:
        told = shown(operation.error.message) or "without a reason"
        raise OnboardingError(f"Google did not set the account up: {told}", _problem_link(operation.error))
    return operation.response.cloudaicompanion_project if operation.response else None


def _order(loaded: _Loaded, operator_project: str) -> dict[str, Any]:
    """Return the onboardUser request for the default tier; raises OnboardingError where it lacks something."""
    tier = next((tier.id for tier in loaded.allowed_tiers or () if tier.is_default and tier.id), "")
    link = _tier_link(loaded.ineligible_tiers or ())
    why = _ineligibility(loaded.ineligible_tiers or ())
    if not tier:
        raise OnboardingError(f"Google offers this account no tier to begin with.{why}", link)
    # On the free tier the project is Google's own.
    project = "" if tier == FREE_TIER else operator_project
    if tier != FREE_TIER and not project:
        raise OnboardingError(
            f"The tier that Google offers this account ({shown(tier)}) needs a Google Cloud project of your own: write"
            f" `project` under the upstream, or into the account's file.{why}",
            link,
        )
    order: dict[str, Any] = {"tierId": tier, "metadata": _metadata(project)}
    return {**order, "cloudaicompanionProject": project} if project else order


def _project_id(named: str | _Project | None, operator_project: str, loaded: _Loaded) -> str:
    project = (named.id if isinstance(named, _Project) else named or "") or operator_project
    if not project:
        raise OnboardingError(
            "Google names no project for this account: write the Google Cloud project that it shall use as `project`"
            f" under the upstream, or into the account's file.{_ineligibility(loaded.ineligible_tiers or ())}",
            _tier_link(loaded.ineligible_tiers or ()),
        )
    if not _PROJECT.match(project):
        raise OnboardingError(f"Google names a project that is no project id: {shown(project)}")
    return project


def _metadata(project: str) -> dict[str, str]:
    return {**_METADATA, "duetProject": project} if project else dict(_METADATA)


def _ineligibility(tiers: Sequence[_Ineligible]) -> str:
    told = "; ".join(
        f"{shown(tier.tier_name) or 'a tier'}: {shown(tier.reason_message or tier.reason_code)}" for tier in tiers
    )
    return f" Not open to it: {told}" if told else ""


def _tier_link(tiers: Sequence[_Ineligible]) -> str:
    return next((url for tier in tiers if (url := _link(tier.validation_url))), "")


def _link(url: object) -> str:
    """Return what an operator may be told to open: an https URL, in printable ASCII."""
    if isinstance(url, str) and url.startswith("https://") and url.isascii() and url.isprintable() and " " not in url:
        return url
    return ""


def _problem_link(problem: _Problem) -> str:
    for detail in problem.details:
        metadata = detail.get("metadata") if isinstance(detail, dict) else None
        for key in _LINK_KEYS:
            if isinstance(metadata, dict) and (url := _link(metadata.get(key))):
                return url
    return ""


def _refusal(what: str, status: int, answer: bytes) -> OnboardingError:
    try:
        problem = _REFUSED.decode(answer).error
    except UNREADABLE:
        problem = _Problem()
    told = " ".join(part for part in (shown(problem.status), shown(problem.message)) if part)
    return OnboardingError(
        f"{what} was answered with {status}" + (f": {told}" if told else "."),
        _problem_link(problem),
        # 401: another token may do.  404: another base URL may know it.
        transient=status in (401, 404, 408, 429) or status >= 500,
    )


def _decoded(decoder: msgspec.json.Decoder[Any], answer: bytes, what: str) -> Any:
    try:
        return decoder.decode(answer)
    except UNREADABLE:
        raise OnboardingError(f"{what}'s answer is not what it should be.", transient=True) from None
