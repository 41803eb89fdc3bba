"""The face of v1internal: the envelope, onboarding and quota pages.  Pure."""

from collections.abc import Callable

from gateway.simulator.actions import Shape
from gateway.simulator.credentials import bearer
from gateway.simulator.generation import counted, document, generate
from gateway.simulator.prompts import FIELDS, read
from gateway.simulator.protojson import Json, field, only, parse, rows, text
from gateway.simulator.reasons import invalid, refuse, stamp
from gateway.simulator.state import Ask, State
from gateway.simulator.steps import Answer

#: The envelope's names in both profiles that are known: ``antigravity`` and ``gemini-cli``.
ENVELOPE = ("project", "requestId", "model", "userAgent", "requestType", "request", "userPromptId")
INNER = (*FIELDS, "sessionId")
REQUEST_TYPES = ("", "agent", "image_gen", "web_search")
PLATFORMS = ("", "PLATFORM_UNSPECIFIED", "DARWIN_AMD64", "DARWIN_ARM64", "LINUX_AMD64", "LINUX_ARM64", "WINDOWS_AMD64")
#: Accounts whose name begins so have no tier yet, and must be onboarded; and those that may never be.
NEW, INELIGIBLE = "new", "ineligible"
#: How many polls an onboarding takes until it is done.
POLLS = 1


def _request(document: Json) -> Json:
    inner = field(document, "request")
    if not isinstance(inner, dict):
        raise invalid("Request contains an invalid argument: request is required.")
    return inner


def _model(state: State, ask: Ask, name: str) -> str:
    if state.catalog.get(name, ask.verb, ask.scene).id != name:
        raise refuse("NOT_FOUND", ask.scene)
    return name


def model_of(body: Json) -> str:
    """The model that an envelope or a count names, for faults that match on it."""
    name = field(body, "model") or field(field(body, "request", {}), "model", "")
    return name.removeprefix("models/") if isinstance(name, str) else ""


def project_of(body: Json) -> str:
    """The project that an envelope names."""
    name = field(body, "project", "")
    return name if isinstance(name, str) else ""


def _generate(state: State, ask: Ask, shape: Shape) -> Answer:
    envelope = parse(ask.body)
    only(envelope, ENVELOPE)
    inner = _request(envelope)
    only(inner, INNER, "request")
    if not text(envelope, "project"):
        raise invalid("Request contains an invalid argument: project is required.")
    name = text(envelope, "model")
    if not name:
        raise invalid("Request contains an invalid argument: model is required.")
    if text(envelope, "requestType") not in REQUEST_TYPES:
        raise invalid(f"Invalid value at 'request_type', \"{text(envelope, 'requestType')}\"")
    if name.startswith("models/"):
        raise refuse("NOT_FOUND", ask.scene)
    prompt = read(_model(state, ask, name), inner, ("sessionId",))
    state.quotas.take(ask.credential, name, ask.now, ask.scene)
    trace = state.word()

    def wrap(frame: Json) -> Json:
        return {"response": frame, "traceId": trace}

    return generate(state, ask, prompt, shape, wrap)


def _count(state: State, ask: Ask, shape: Shape) -> Answer:
    envelope = parse(ask.body)
    only(envelope, ("request",))
    inner = _request(envelope)
    only(inner, ("model", "contents"), "request")
    name = text(inner, "model")
    if not name.startswith("models/"):
        raise invalid("Invalid value at 'request.model': the name must begin with \"models/\".")
    _model(state, ask, name.removeprefix("models/"))
    if not rows(inner, "contents"):
        raise invalid("* CountTokensRequest.contents: contents is not specified\n")
    return document({"totalTokens": counted(inner)["totalTokens"]})


def _metadata(document: Json) -> None:
    metadata = field(document, "metadata", {})
    only(metadata, ("ideType", "platform", "pluginType", "duetProject", "ideVersion", "pluginVersion", "updateChannel"))
    if text(metadata, "platform") not in PLATFORMS:
        raise invalid(f"Invalid value at 'metadata.platform', \"{text(metadata, 'platform')}\"")


def _project(state: State, account: str) -> str:
    """The project that Google made for an account; "" if it has none yet."""
    if account.startswith((NEW, INELIGIBLE)):
        return state.onboarded.get(account, "")
    return f"project-of-{account}"


FREE = {"id": "free-tier", "name": "Gemini Code Assist for individuals", "description": "Free, simulated"}
STANDARD = {
    "id": "standard-tier",
    "name": "Gemini Code Assist",
    "description": "Paid, simulated",
    "userDefinedCloudaicompanionProject": True,
}


def _load(state: State, ask: Ask, shape: Shape) -> Answer:
    request = parse(ask.body)
    only(request, ("cloudaicompanionProject", "metadata", "mode"))
    _metadata(request)
    project = _project(state, ask.credential)
    if project:
        found: Json = {"currentTier": FREE, "allowedTiers": [{**FREE, "isDefault": True}, STANDARD]}
        return document({**found, "cloudaicompanionProject": project, "gcpManaged": False})
    if ask.credential.startswith(INELIGIBLE):
        why = {
            "reasonCode": "VALIDATION_REQUIRED",
            "reasonMessage": "Verify your account to continue.",
            "tierId": "free-tier",
            "tierName": FREE["name"],
            "validationUrl": "https://accounts.google.com/signin/continue?sarp=1&scc=1&plt=simulated",
        }
        return document({"allowedTiers": [{**STANDARD, "isDefault": True}], "ineligibleTiers": [why]})
    return document({"allowedTiers": [{**FREE, "isDefault": True}, STANDARD]})


def _onboard(state: State, ask: Ask, shape: Shape) -> Answer:
    request = parse(ask.body)
    only(request, ("tierId", "cloudaicompanionProject", "metadata"))
    _metadata(request)
    tier, given = text(request, "tierId"), text(request, "cloudaicompanionProject")
    if tier not in (FREE["id"], STANDARD["id"]):
        raise invalid(f"Request contains an invalid argument: unknown tier {tier!r}.")
    if (tier == FREE["id"]) == bool(given):
        wanted = "must not be set for" if given else "is required for"
        raise invalid(f"Precondition check failed: cloudaicompanionProject {wanted} {tier}.")
    project = given or f"project-of-{ask.credential}"
    state.onboarded[ask.credential] = project
    name = f"operations/onboard-{state.word()}"
    companion = {"id": project, "name": project, "projectNumber": "123456789012"}
    kind = "type.googleapis.com/google.internal.cloud.code.v1internal.OnboardUserResponse"
    response = {"@type": kind, "cloudaicompanionProject": companion}
    state.operations[name] = (POLLS, {"name": name, "done": True, "response": response})
    return document({"name": name, "done": False})


def _operation(state: State, ask: Ask, shape: Shape) -> Answer:
    left, done = state.operations.get(ask.model, (0, None))
    if done is None:
        raise refuse("NOT_FOUND", ask.scene)
    state.operations[ask.model] = (left - 1, done)
    return document(done if left <= 0 else {"name": ask.model, "done": False})


def _quota(state: State, ask: Ask, shape: Shape) -> Answer:
    request = parse(ask.body)
    only(request, ("project", "userAgent"))
    if not text(request, "project"):
        raise invalid("Request contains an invalid argument: project is required.")
    buckets: list[Json] = []
    for model in state.catalog.models:
        rest, share, ends = state.quotas.left(ask.credential, model.id, ask.now)
        bucket: Json = {"resetTime": stamp(ends), "tokenType": "REQUESTS", "modelId": model.id}
        bucket["remainingFraction"] = share
        buckets.append(bucket if rest is None else {"remainingAmount": str(rest), **bucket})
    return document({"buckets": buckets})


def _available(state: State, ask: Ask, shape: Shape) -> Answer:
    only(parse(ask.body), ("project",))
    models: Json = {}
    for model in state.catalog.models:
        _, share, ends = state.quotas.left(ask.credential, model.id, ask.now)
        models[model.id] = {
            "quotaInfo": {"remainingFraction": share, "resetTime": stamp(ends)},
            "displayName": model.title,
            "maxTokens": model.input_limit,
            "maxOutputTokens": model.output_limit,
        }
    return document({"models": models})


VERBS: dict[tuple[str, str], Callable[[State, Ask, Shape], Answer]] = {
    ("POST", "generateContent"): _generate,
    ("POST", "streamGenerateContent"): _generate,
    ("POST", "countTokens"): _count,
    ("POST", "loadCodeAssist"): _load,
    ("POST", "onboardUser"): _onboard,
    ("POST", "retrieveUserQuota"): _quota,
    ("POST", "fetchAvailableModels"): _available,
    ("GET", "operations.get"): _operation,
}


def answer(state: State, ask: Ask, shape: Shape) -> Answer:
    """Answer a request of this face; raises Refusal."""
    verb = VERBS.get((ask.method, ask.verb))
    if verb is None:
        raise refuse("HTML_NOT_FOUND", ask.scene)
    state.desk.check_token(bearer(ask.headers), ask.now, ask.scene)
    return verb(state, ask, shape)
