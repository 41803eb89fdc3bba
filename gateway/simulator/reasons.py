"""The error bodies that Google really sends, each under the name that chooses it.  Pure."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import msgspec

RPC = "type.googleapis.com/google.rpc."
JSON_TYPE = "application/json; charset=UTF-8"
HTML_TYPE = "text/html; charset=UTF-8"

#: HTTP status to google.rpc code, as Google's front ends pair them.
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    413: "INVALID_ARGUMENT",
    416: "OUT_OF_RANGE",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}


@attrs.frozen
class Scene:
    """What an error body quotes.

    ``now`` is Unix time; ``seconds`` is how long until a quota refills, ``None`` for the reason's own figure.
    """

    model: str = "gemini-2.5-flash"
    project: str = "simulated-project"
    face: str = "aistudio"
    now: float = 0.0
    seconds: float | None = None

    @property
    def service(self) -> str:
        """The host that a client believes it is talking to."""
        hosts = {"codeassist": "cloudcode-pa.googleapis.com", "vertex": "aiplatform.googleapis.com"}
        return hosts.get(self.face, "generativelanguage.googleapis.com")


@attrs.frozen
class Reason:
    """A status with the builder of its body: a JSON document, or text with its content type."""

    code: int
    build: Callable[[Scene], Any]
    content_type: str = JSON_TYPE
    headers: tuple[tuple[str, str], ...] = ()

    def body(self, scene: Scene) -> bytes:
        """The body as bytes; JSON is indented, as Google's is."""
        built = self.build(scene)
        return built.encode() if isinstance(built, str) else pretty(built)


class Refusal(Exception):
    """A request that the simulator refuses; ``code`` and ``body`` are the whole answer."""

    def __init__(self, code: int, body: Any, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(code)
        self.code = code
        self.body = body
        self.headers = headers


def pretty(document: Any) -> bytes:
    """JSON with two spaces of indent and a final newline, as Google's servers print it."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def error(code: int, message: str, *details: Any, status: str = "") -> dict[str, Any]:
    """A google.rpc.Status in its JSON envelope."""
    body: dict[str, Any] = {"code": code, "message": message, "status": status or STATUSES.get(code, "UNKNOWN")}
    if details:
        body["details"] = list(details)
    return {"error": body}


def invalid(message: str, *details: Any) -> Refusal:
    """A 400 INVALID_ARGUMENT: the request is wrong."""
    return Refusal(400, error(400, message, *details))


def refuse(name: str, scene: Scene) -> Refusal:
    """The named reason of the table as a refusal."""
    reason = REASONS[name]
    return Refusal(reason.code, reason.build(scene), reason.headers)


def info(reason: str, domain: str = "googleapis.com", **metadata: str) -> dict[str, Any]:
    """A google.rpc.ErrorInfo."""
    return {"@type": RPC + "ErrorInfo", "reason": reason, "domain": domain, "metadata": metadata}


def retry_info(seconds: float) -> dict[str, Any]:
    """A google.rpc.RetryInfo with its delay as a proto duration."""
    return {"@type": RPC + "RetryInfo", "retryDelay": f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"}


def spelled(seconds: float) -> str:
    """A duration as Go prints it: ``2h1m1s``."""
    whole = int(seconds)
    if whole < 1:
        return f"{seconds:.3f}s"
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest}s"


def stamp(when: float) -> str:
    """Unix time as RFC 3339 in UTC."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=when)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _plain(code: int, message: str, status: str = "") -> Reason:
    return Reason(code, lambda scene: error(code, message, status=status))


def _help(text: str, url: str) -> dict[str, Any]:
    return {"@type": RPC + "Help", "links": [{"description": text, "url": url}]}


def _bad_key(message: str) -> Reason:
    return Reason(400, lambda s: error(400, message, info("API_KEY_INVALID", service=s.service)))


def _disabled(s: Scene) -> Any:
    url = f"https://console.developers.google.com/apis/api/{s.service}/overview?project={s.project}"
    message = (
        f"Generative Language API has not been used in project {s.project} before or it is disabled. Enable it by "
        f"visiting {url} then retry. If you enabled this API recently, wait a few minutes for the action to "
        "propagate to our systems and retry."
    )
    consumer = f"projects/{s.project}"
    detail = info("SERVICE_DISABLED", service=s.service, consumer=consumer, activationUrl=url)
    return error(403, message, _help("Google developers console API activation", url), detail)


def _suspended(s: Scene) -> Any:
    consumer = f"projects/{s.project}"
    message = f"Permission denied: Consumer '{consumer}' has been suspended."
    return error(403, message, info("CONSUMER_SUSPENDED", service=s.service, consumer=consumer))


def _validate(s: Scene) -> Any:
    url = "https://accounts.google.com/signin/continue?sarp=1&scc=1&plt=simulated"
    detail = info("VALIDATION_REQUIRED", "cloudcode-pa.googleapis.com", validation_link=url)
    link = _help("Complete validation to continue", url)
    return error(403, "Verify your account to continue.", detail, link)


def _quota(s: Scene, window: str, seconds: float) -> Any:
    seconds = s.seconds if s.seconds is not None else seconds
    quota_id = f"GenerateRequests{window}PerProjectPerModel-FreeTier"
    violation = {
        "quotaMetric": f"{s.service}/generate_content_free_tier_requests",
        "quotaId": quota_id,
        "quotaDimensions": {"location": "global", "model": s.model},
        "quotaValue": "10" if window == "PerMinute" else "250",
    }
    message = (
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        "error, head over to: https://ai.google.dev/gemini-api/docs/rate-limits.\n* Quota exceeded for metric: "
        f"{violation['quotaMetric']}, limit: {violation['quotaValue']}, model: {s.model}\n"
        f"Please retry in {seconds}s."
    )
    failure = {"@type": RPC + "QuotaFailure", "violations": [violation]}
    link = _help("Learn more about Gemini API quotas", "https://ai.google.dev/gemini-api/docs/rate-limits")
    return error(429, message, failure, link, retry_info(seconds))


def _exhausted(s: Scene) -> Any:
    seconds = s.seconds if s.seconds is not None else 7261.0
    detail = info(
        "QUOTA_EXHAUSTED",
        "cloudcode-pa.googleapis.com",
        model=s.model,
        quotaResetDelay=spelled(seconds),
        quotaResetTimeStamp=stamp(s.now + seconds),
        uiMessage="true",
    )
    message = f"You have exhausted your capacity on this model. Your quota will reset after {spelled(seconds)}."
    return error(429, message, detail, retry_info(seconds))


def _rate(s: Scene) -> Any:
    seconds = s.seconds if s.seconds is not None else 4.0
    detail = info("RATE_LIMIT_EXCEEDED", "cloudcode-pa.googleapis.com", model=s.model, uiMessage="true")
    message = f"You have exhausted your capacity on this model. Your quota will reset after {spelled(seconds)}."
    return error(429, message, detail, retry_info(seconds))


def _capacity(s: Scene) -> Any:
    detail = info("MODEL_CAPACITY_EXHAUSTED", "cloudcode-pa.googleapis.com", model=s.model)
    return error(429, f"No capacity available for model {s.model} on the server", detail)


def _html(code: int, title: str, text: str) -> Reason:
    page = (
        "<!DOCTYPE html>\n<html lang=en>\n  <meta charset=utf-8>\n"
        f"  <title>Error {code} ({title})!!1</title>\n"
        f"  <p><b>{code}.</b> <ins>That\u2019s an error.</ins>\n  <p>{text}  <ins>That\u2019s all we know.</ins>\n"
    )
    return Reason(code, lambda scene: page, HTML_TYPE)


def _auth(message: str, reason: str) -> Reason:
    tail = "See https://developers.google.com/identity/sign-in/web/devconsole-project."
    challenge = (("WWW-Authenticate", 'Bearer realm="https://accounts.google.com/"'),)
    return Reason(401, lambda s: error(401, f"{message} {tail}", info(reason, service=s.service)), headers=challenge)


def _oauth(code: int, name: str, text: str) -> Reason:
    return Reason(code, lambda scene: {"error": name, "error_description": text})


_EXPECTED = "Expected OAuth 2 access token, login cookie or other valid authentication credential."

#: Reason name to status and body; ``status`` faults choose from it, and so do the simulator's own refusals.
REASONS: dict[str, Reason] = {
    "INVALID_ARGUMENT": _plain(400, "Request contains an invalid argument."),
    "API_KEY_INVALID": _bad_key("API key not valid. Please pass a valid API key."),
    "API_KEY_EXPIRED": _bad_key("API key expired. Please renew the API key."),
    "THOUGHT_SIGNATURE": _plain(400, "Corrupted thought signature."),
    "REGION": _plain(400, "User location is not supported for the API use.", "FAILED_PRECONDITION"),
    "BILLING": _plain(
        400,
        "Gemini API free tier is not available in your country. Please enable billing on your project in Google "
        "AI Studio.",
        "FAILED_PRECONDITION",
    ),
    "UNAUTHENTICATED": _auth(
        f"Request is missing required authentication credential. {_EXPECTED}", "CREDENTIALS_MISSING"
    ),
    "ACCESS_TOKEN_EXPIRED": _auth(
        f"Request had invalid authentication credentials. {_EXPECTED}", "ACCESS_TOKEN_EXPIRED"
    ),
    "ACCESS_TOKEN_UNKNOWN": _auth(
        f"Request had invalid authentication credentials. {_EXPECTED}", "ACCESS_TOKEN_TYPE_UNSUPPORTED"
    ),
    "UNREGISTERED": _plain(
        403,
        "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or "
        "other form of API consumer identity to call this API.",
    ),
    "PERMISSION_DENIED": _plain(403, "The caller does not have permission"),
    "SERVICE_DISABLED": Reason(403, _disabled),
    "CONSUMER_SUSPENDED": Reason(403, _suspended),
    "VALIDATION_REQUIRED": Reason(403, _validate),
    "TERMS_OF_SERVICE": _plain(
        403, "This service has been disabled in this account for violation of Terms of Service."
    ),
    "MODEL_FORBIDDEN": Reason(403, lambda s: error(403, f"The caller may not use the model models/{s.model}.")),
    "NOT_FOUND": _plain(404, "Requested entity was not found."),
    "MODEL_NOT_FOUND": Reason(
        404,
        lambda s: error(
            404,
            f"models/{s.model} is not found for API version v1beta, or is not supported for generateContent. Call "
            "ListModels to see the list of available models and their supported methods.",
        ),
    ),
    "HTML_NOT_FOUND": _html(404, "Not Found", "The requested URL was not found on this server."),
    "REQUEST_TIMEOUT": _plain(408, "The request timed out."),
    "PER_MINUTE": Reason(429, lambda s: _quota(s, "PerMinute", 34.074824224)),
    "PER_DAY": Reason(429, lambda s: _quota(s, "PerDay", 37.0)),
    "QUOTA_EXHAUSTED": Reason(429, _exhausted),
    "RATE_LIMIT_EXCEEDED": Reason(429, _rate),
    "MODEL_CAPACITY_EXHAUSTED": Reason(429, _capacity),
    "RESOURCE_EXHAUSTED": _plain(429, "Resource has been exhausted (e.g. check quota)."),
    "CANCELLED": _plain(499, "The operation was cancelled."),
    "INTERNAL": _plain(
        500,
        "An internal error has occurred. Please retry or report in "
        "https://developers.generativeai.google/guide/troubleshooting",
    ),
    "BAD_GATEWAY": _html(
        502,
        "Server Error",
        "The server encountered a temporary error and could not complete your request.<p>Please try again in 30 "
        "seconds.",
    ),
    "UNAVAILABLE": _plain(503, "The model is overloaded. Please try again later."),
    "DEADLINE_EXCEEDED": _plain(504, "Deadline expired before operation could complete."),
    "OVERLOADED": _plain(529, "The service is currently overloaded."),
    "invalid_grant": _oauth(400, "invalid_grant", "Token has been expired or revoked."),
    "invalid_request": _oauth(400, "invalid_request", "Could not determine client ID from request."),
    "invalid_client": _oauth(401, "invalid_client", "The OAuth client was not found."),
    "unsupported_grant_type": _oauth(400, "unsupported_grant_type", "Invalid grant_type."),
    "temporarily_unavailable": _oauth(503, "temporarily_unavailable", "Please try again later."),
}

#: The reason that a bare status code means: the first of the table with that code, unless named here.
USUAL = {401: "ACCESS_TOKEN_EXPIRED", 403: "PERMISSION_DENIED", 429: "PER_MINUTE"}


def usual(code: int) -> Reason:
    """The body that goes with a status when no reason is named; an unlisted status gets a plain one."""
    named = USUAL.get(code) or next((name for name, reason in REASONS.items() if reason.code == code), "")
    return REASONS[named] if named else _plain(code, f"The request failed with status {code}.")
