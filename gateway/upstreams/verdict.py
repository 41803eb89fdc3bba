"""Judge an upstream's answer: status, headers and body in, a verdict out, by one table.  Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from gateway.calls import Action, Blame, Verdict
from gateway.upstreams.durations import (
    BACKEND,
    LONG,
    SHORT,
    duration,
    retry_after,
    timestamp,
    until_midnight_pacific,
)
from gateway.upstreams.errordetails import NOTHING, RPC_NAMES, ErrorDetails, read, rpc_name

GUESS_SECONDS: Final = 1.0
"""What a 429 that says nothing cools for, the first time."""
REFUSED_SECONDS: Final = 5.0
"""What a 403 that may be the client's own doing cools for: short, or one client could empty the pool."""
PROJECT_SECONDS: Final = 300.0
"""What a project without billing, or out of its region, cools for."""
CAPACITY_SECONDS: Final = 5.0
"""What a backend without capacity cools for, where it does not say."""
LAPSED_SECONDS: Final = 60.0
"""What a used-up quota cools for, when the reset that it names is already past."""


class Answer(msgspec.Struct, frozen=True):
    """What a rule looks at."""

    status: int
    error: ErrorDetails
    retry_after: float | None
    """Seconds, from the header."""
    wall_seconds: float

    @property
    def told(self) -> float | None:
        """How long upstream says to wait; its RetryInfo and header come before what it says otherwise."""
        asked = [*self.error.delays, *([] if self.retry_after is None else [self.retry_after])]
        asked = asked or [reset for reset in self.resets if reset > 0]
        return max(asked) if asked else self.error.retry_in_message

    @property
    def resets(self) -> list[float]:
        """Seconds to each reset of a quota that is named.

        A delay is believed before a timestamp, since it does not depend on this machine's clock.
        """
        metadata = [info.metadata for info in self.error.infos]
        delays = [duration(entry.get("quotaResetDelay")) for entry in metadata]
        moments = [timestamp(entry.get("quotaResetTimeStamp")) for entry in metadata]
        return (
            [delay for delay in delays if delay is not None]
            or [moment - self.wall_seconds for moment in moments if moment is not None]
            or [delay for delay in (self.error.reset_in_message,) if delay is not None]
        )


def _short(answer: Answer) -> float:
    return SHORT.clamp(GUESS_SECONDS if answer.told is None else answer.told)


def _day(answer: Answer) -> float:
    """Cool to the quota's reset; RetryInfo is a lower bound only, since it says 37 s all day long."""
    resets = answer.resets
    if resets:
        reset = max([reset for reset in resets if reset > 0], default=LAPSED_SECONDS)
    else:
        reset = until_midnight_pacific(answer.wall_seconds)
    return LONG.clamp(max([reset, *answer.error.delays, answer.retry_after or 0.0]))


def _capacity(answer: Answer) -> float:
    return BACKEND.clamp(CAPACITY_SECONDS if answer.told is None else answer.told)


def _asked(answer: Answer) -> float:
    return 0.0 if answer.told is None else BACKEND.clamp(answer.told)


class Rule(msgspec.Struct, frozen=True):
    """One row: it applies where every column that it fills in matches.

    ``reasons`` and ``domains`` match one ErrorInfo together and in full; ``quotas`` is searched for in all
    that is said of violated quotas; ``message`` matches from the message's start, since Google's messages may
    quote the client further on.
    """

    name: str
    fault: str
    """The row of the fault matrix."""
    statuses: Collection[int]
    verdict: Verdict
    """Without a reason of its own it takes upstream's."""
    reasons: re.Pattern[str] | None = None
    domains: re.Pattern[str] | None = None
    rpc: str = ""
    quotas: re.Pattern[str] | None = None
    message: re.Pattern[str] | None = None
    told: bool = False
    """Only where upstream says how long to wait."""
    cool: Callable[[Answer], float] | None = None

    def reason(self, answer: Answer) -> str | None:
        """Return the reason to report, or None where this row does not apply."""
        error = answer.error
        if answer.status not in self.statuses or (self.rpc and error.status != self.rpc):
            return None
        if self.told and answer.told is None:
            return None
        if self.quotas and not any(self.quotas.search(quota) for quota in error.quotas):
            return None
        if self.message and not self.message.match(error.message):
            return None
        given: tuple[str, ...] = error.reasons
        if self.reasons:
            given = tuple(
                info.reason
                for info in error.infos
                if self.reasons.fullmatch(info.reason) and (self.domains is None or self.domains.fullmatch(info.domain))
            )
            if not given:
                return None
        return self.verdict.reason or next(iter(given), "") or error.status or rpc_name(answer.status)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


_WORDS: Final = r"[^'\"/:`]{0,300}?"
"""Google's own words: nothing quoted and no resource's name, which a client could have chosen."""
_DAILY: Final = _pattern(r"per[_ -]?(?:day|week|month)|daily|\b1/d/")
_CODE_ASSIST: Final = _pattern(r"(?:[a-z]+-)*cloudcode-pa\.googleapis\.com")

_PASS: Final = Verdict(Action.PASS)
_NONSENSE: Final = Verdict(Action.PASS, Blame.BASE, "UPSTREAM_NONSENSE", hides=True)
_QUARANTINE: Final = Verdict(Action.NEXT, Blame.CREDENTIAL, hides=True)
_OWNER: Final = replace(_QUARANTINE, needs_owner=True)
_PROJECT: Final = Verdict(Action.NEXT, Blame.PAIR, cool_seconds=PROJECT_SECONDS, max_tries=2, other_project=True)
_COOL: Final = Verdict(Action.NEXT, Blame.PAIR)
_BACKEND: Final = Verdict(Action.BASE, Blame.BASE)
_ONCE_MORE: Final = replace(_BACKEND, max_tries=2)

RULES: Final[tuple[Rule, ...]] = (
    Rule("a good answer", "", (200,), Verdict(Action.DELIVER)),
    # 400
    Rule(
        "a bad API key", "U2", (400,), _QUARANTINE,
        reasons=_pattern("API_KEY_.*"),
    ),
    Rule(
        "a bad API key, without details", "U2", (400,), replace(_QUARANTINE, reason="API_KEY_INVALID"),
        message=_pattern("API key (?:not valid|expired|not found)"),
    ),
    Rule(
        "a project out of its region or without billing", "U3", (400,),
        replace(_PROJECT, reason="FAILED_PRECONDITION"),
        rpc="FAILED_PRECONDITION",
        message=_pattern(_WORDS + r"(?:location is not supported|\bbilling\b|\bbilled\b|\bfree tier\b)"),
    ),
    Rule(
        "another precondition", "U3", (400,),
        replace(_PROJECT, reason="FAILED_PRECONDITION", blame=Blame.NOBODY, cool_seconds=0.0),
        rpc="FAILED_PRECONDITION",
    ),
    # 401
    Rule(
        "a stale token", "U4", (401,),
        Verdict(Action.REFRESH, Blame.CREDENTIAL, hides=True),
    ),
    # 403
    Rule(
        "an account to be verified", "U6", (403,), _OWNER,
        reasons=_pattern("VALIDATION_REQUIRED"), domains=_CODE_ASSIST,
    ),
    Rule(
        "a suspended consumer or broken terms", "U6", (403,), _OWNER,
        reasons=_pattern("CONSUMER_SUSPENDED|TOS_VIOLATION"),
    ),
    Rule(
        "broken terms, in words", "U6", (403,), replace(_OWNER, reason="TOS_VIOLATION"),
        message=_pattern(
            _WORDS + r"\b(?:disabled|suspended|violat\w+)\b" + _WORDS + r"\bterms of service\b"
        ),
    ),
    Rule(
        "a project that must pay", "U3", (403,), _PROJECT,
        reasons=_pattern("BILLING_DISABLED|SUBSCRIPTION_REQUIRED"),
    ),
    Rule(
        "a credential that may not", "U5", (403,), _QUARANTINE,
        reasons=_pattern("SERVICE_DISABLED|CONSUMER_.*|ACCESS_TOKEN_.*|API_KEY_.*"),
    ),
    Rule(
        "a leaked API key", "U5", (403,), replace(_QUARANTINE, reason="API_KEY_LEAKED"),
        message=_pattern("Your API key was reported as leaked"),
    ),
    Rule(
        "a caller that may not use this", "U7", (403,),
        replace(_COOL, cool_seconds=REFUSED_SECONDS, max_tries=2, own=True),
    ),
    # 404, 408
    Rule(
        "not found here", "U7", (404,),
        Verdict(Action.BASE, other_base=True),
    ),
    Rule(
        "a timeout before the answer", "U8", (408,),
        replace(_ONCE_MORE, reason="UPSTREAM_TIMEOUT", hides=True),
    ),
    # 429, and capacity under whatever status
    Rule(
        "no capacity", "U13", (429, 503, 529), _BACKEND,
        reasons=_pattern("MODEL_CAPACITY_EXHAUSTED"), cool=_capacity,
    ),
    Rule(
        "overloaded", "U13", (529,), replace(_BACKEND, reason="UPSTREAM_OVERLOADED"),
        cool=_capacity,
    ),
    Rule(
        "a day's quota", "U10", (429,), replace(_COOL, reason="QUOTA_EXHAUSTED"),
        quotas=_DAILY, cool=_day,
    ),
    Rule(
        "a used-up quota", "U10", (429,), _COOL,
        reasons=_pattern("QUOTA_EXHAUSTED"), cool=_day,
    ),
    Rule(
        "a day's quota, in words", "U10", (429,), replace(_COOL, reason="QUOTA_EXHAUSTED"),
        message=_pattern(r"(?s:.{0,400})(?:\bper day\b|\bdaily (?:quota|limit))"), cool=_day,
    ),
    Rule(
        "a rate limit that says how long", "U9", (429,), _COOL,
        told=True, cool=_short,
    ),
    Rule(
        "a rate limit that says nothing", "U11", (429,), replace(_COOL, grows=True),
        cool=_short,
    ),
    # the backend's own
    Rule("an internal error", "U12", (500,), _ONCE_MORE),
    Rule("a backend that is not there", "U13", (502, 503), _BACKEND, cool=_asked),
    Rule("a deadline passed upstream", "U14", (504,), _ONCE_MORE),
    # the rest
    Rule(
        "a redirect", "U16", range(300, 400),
        replace(_NONSENSE, reason="UPSTREAM_REDIRECT"),
    ),
    Rule("a proxy's demand", "U15", (407,), _NONSENSE),
    Rule("the client's request", "U1", (400,), _PASS),
    Rule("another error", "U15", range(400, 600), _PASS),
)  # fmt: skip
"""Tried in order; what no row takes makes no sense as an answer (U15)."""

_LAST: Final = Rule("nonsense", "U15", (), _NONSENSE)


def rule(answer: Answer) -> tuple[Rule, str]:
    """Return the row that judges this answer, and the reason to report."""
    for row in RULES:
        reason = row.reason(answer)
        if reason is not None:
            return row, reason
    return _LAST, _LAST.verdict.reason


def judge(status: int, headers: Mapping[bytes, bytes], body: bytes, wall_seconds: float) -> Verdict:
    """Judge the answer to one attempt.

    ``headers`` have lower-case names; a ``body`` of more than 64 KiB is not read.  A 200 is
    delivered whatever its body says: an error object in it goes to `judge_error_object`.  With
    `Action.REFRESH` the blame holds only if the refreshed token is refused as well, or there is none to
    refresh.  `Blame.BASE` without ``cool_seconds`` counts one failure of the base and cools nothing.
    """
    if status == 200:
        return _verdict(Answer(status, NOTHING, None, wall_seconds))
    after = headers.get(b"retry-after")
    return _verdict(
        Answer(
            status,
            read(body),
            None if after is None else retry_after(after, wall_seconds),
            wall_seconds,
        )
    )


def judge_error_object(error_json: bytes, wall_seconds: float) -> Verdict:
    """Judge an ``{"error": {...}}`` that came with a 200, in a body or as an event of a stream.

    Its own code decides; without one its status name does, and without either it is an internal error.
    """
    error = read(error_json)
    code = error.code if 400 <= error.code < 600 else _HTTP_CODES.get(error.status, 500)
    return _verdict(Answer(code, error, None, wall_seconds))


def _verdict(answer: Answer) -> Verdict:
    row, reason = rule(answer)
    blamed = row.verdict.blame is Blame.CREDENTIAL
    return replace(
        row.verdict,
        reason="" if row.verdict.action is Action.DELIVER else reason,
        status=answer.status,
        cool_seconds=row.cool(answer) if row.cool else row.verdict.cool_seconds,
        link=next(iter(answer.error.links), "") if blamed else "",
    )


_HTTP_CODES: Final[Mapping[str, int]] = {
    **{name: code for code, name in sorted(RPC_NAMES.items(), reverse=True)},
    "UNAVAILABLE": 503,
    "FAILED_PRECONDITION": 400,
}
