"""What an upstream refuses with: judged within bounds, read without surprise, shown without secrets.  Pure.

An input is a line ``STATUS RETRY-AFTER`` and the body after it.
"""

from __future__ import annotations

import json
import math
import re

from gateway.calls import Action, Blame, Verdict
from gateway.upstreams import unanswered
from gateway.upstreams.durations import BACKEND, LONG, duration, retry_after, timestamp
from gateway.upstreams.errordetails import BODY_LIMIT, read, scrubbed, status_body
from gateway.upstreams.verdict import judge, judge_error_object

WALL_SECONDS = 1_780_000_000.0


def _refused(code: int, after: str, **error: object) -> bytes:
    return f"{code} {after}\n{json.dumps({'error': {'code': code, **error}})}".encode()


def _typed(name: str, **members: object) -> dict[str, object]:
    return {"@type": f"type.googleapis.com/google.rpc.{name}", **members}


SEEDS = (
    _refused(429, "7", message="Please retry in 37.2s.", details=[_typed("RetryInfo", retryDelay="34.07s")]),
    _refused(
        429, "", status="RESOURCE_EXHAUSTED", message="Your quota will reset after 2h52m39s.",
        details=[_typed("QuotaFailure", violations=[{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}])],
    ),
    _refused(
        429, "Wed, 21 Oct 2026 07:28:00 GMT",
        details=[_typed("ErrorInfo", reason="QUOTA_EXHAUSTED", domain="cloudcode-pa.googleapis.com",
                        metadata={"quotaResetDelay": "9h3m", "quotaResetTimeStamp": "2026-03-08T08:00:00Z"})],
    ),
    _refused(503, "120", status="UNAVAILABLE", details=[_typed("ErrorInfo", reason="MODEL_CAPACITY_EXHAUSTED")]),
    _refused(
        403, "", status="PERMISSION_DENIED", message="Verify your account.",
        details=[
            _typed("ErrorInfo", reason="VALIDATION_REQUIRED", domain="cloudcode-pa.googleapis.com",
                   metadata={"validation_url": "https://accounts.google.com/signin"}),
            _typed("Help", links=[{"description": "d", "url": "https://support.google.com/a?b=c"}]),
        ],
    ),
    _refused(400, "", message="API key not valid.", details=[_typed("ErrorInfo", reason="API_KEY_INVALID")]),
    b'429 1e9\n[{"error":{"code":429,"message":'
    b'"Bearer ya29.a0AfH6SMBcanary \\u0022api_key\\u0022: \\"AIzaSyCANARYcanary0123\\""}}]',
    b'500 \n{"response":{"error":{"code":"x","status":7,"details":{}}}}',
    b"502 0.5\n<html>Bad Gateway</html>", b"200 \n{}", b"407 \n", b"301 -1\n\xff\xfe", b"529 nan\n[]",
)  # fmt: skip
DICTIONARY = (
    b'"error":', b'"details":[', b'"@type":"type.googleapis.com/google.rpc.ErrorInfo"', b'"reason":"QUOTA_EXHAUSTED"',
    b'"@type":"type.googleapis.com/google.rpc.RetryInfo"', b'"retryDelay":"', b'{"seconds":1,"nanos":2}',
    b'"metadata":{',
    b'"quotaResetDelay":"', b'"quotaResetTimeStamp":"', b'"quotaId":"PerDay"', b"AIzaSyA0123456789012345", b"ya29.",
    b"1//",
    b"GOCSPX-", b"@example.com", b"Bearer ", b"reset after ", b"retry in ", b"1e400", b"9999999999s", b"\\u003d",
    b'\\"',
)  # fmt: skip

_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,62}\Z")
_CANARIES = re.compile(rb"AIza[A-Za-z0-9_-]{16,}|ya29\.[A-Za-z0-9._-]+|1//[A-Za-z0-9_-]{20,}|GOCSPX-[A-Za-z0-9_-]+")


def one_input(data: bytes) -> None:
    """Raise where a verdict leaves its bounds, an answer is unreadable, or a key gets through."""
    head, _, body = data.partition(b"\n")
    code, _, after = head.partition(b" ")
    status = int(code) if code.isdigit() and len(code) == 3 else 429
    _bounded(judge(status, {b"retry-after": after}, body, WALL_SECONDS), status)
    _bounded(judge(status, {}, body, WALL_SECONDS), status)
    _bounded(judge_error_object(body, WALL_SECONDS), 0)
    text = after.decode("latin-1")
    for seconds in (retry_after(after, WALL_SECONDS), duration(text), *read(body).delays):
        assert seconds is None or (math.isfinite(seconds) and seconds >= 0), seconds
    moment = timestamp(text)
    assert moment is None or math.isfinite(moment), moment
    _shown(body, status)


def _bounded(verdict: Verdict, status: int) -> None:
    """The table's promises: which statuses are good, how long anything rests, what a reason looks like."""
    assert status == 0 or (verdict.action is Action.DELIVER) == (status == 200), verdict
    most = {Blame.BASE: BACKEND.most, Blame.PAIR: LONG.most}.get(verdict.blame, 0.0)
    assert 0.0 <= verdict.cool_seconds <= most, verdict
    assert (verdict.blame is Blame.PAIR) <= (verdict.cool_seconds >= 1.0), verdict
    assert verdict.action is Action.DELIVER or _REASON.match(verdict.reason), verdict
    assert not verdict.link or (verdict.link.startswith("https://") and verdict.link.isprintable()), verdict
    assert verdict.blame is Blame.CREDENTIAL or not verdict.link, verdict
    if verdict.hides:
        assert 500 <= unanswered.failure(verdict).code < 600, verdict


def _shown(body: bytes, status: int) -> None:
    """What a client is shown is a JSON error object of bounded size without keys in it."""
    plain = status_body(body, status)
    shown = scrubbed(plain)
    assert not _CANARIES.search(shown), shown
    assert len(shown) <= len(plain) * 2 + 512 <= BODY_LIMIT * 2 + 512, len(shown)
    assert isinstance(json.loads(shown)["error"], dict), shown
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return
    json.loads(scrubbed(body))
