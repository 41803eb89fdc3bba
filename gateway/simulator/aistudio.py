"""The face of the public Gemini API, and Vertex AI's, which differs in its credentials.  Pure."""

import hashlib
from collections.abc import Callable

from gateway.simulator.actions import Shape
from gateway.simulator.answers import PIXEL
from gateway.simulator.counting import content_tokens
from gateway.simulator.credentials import bearer
from gateway.simulator.generation import counted, document, generate
from gateway.simulator.prompts import FIELDS, read
from gateway.simulator.protojson import Json, field, number, only, parse, rows, text
from gateway.simulator.reasons import invalid, refuse
from gateway.simulator.state import Ask, State
from gateway.simulator.steps import Answer

DIMENSIONS = 768


def _generate(state: State, ask: Ask, shape: Shape) -> Answer:
    request = parse(ask.body)
    prompt = read(ask.model, request, ("model",))
    state.catalog.get(ask.model, ask.verb, ask.scene)
    state.quotas.take(ask.credential, ask.model, ask.now, ask.scene)
    return generate(state, ask, prompt, shape)


def _count(state: State, ask: Ask, shape: Shape) -> Answer:
    request = parse(ask.body)
    state.catalog.get(ask.model, ask.verb, ask.scene)
    # Vertex counts a whole request; the public API takes contents alone, or a whole request under a name.
    extra = FIELDS if ask.face == "vertex" else ()
    only(request, ("contents", "generateContentRequest", "model", *extra))
    inner = field(request, "generateContentRequest")
    if inner is not None and rows(request, "contents"):
        raise invalid("contents and generateContentRequest are mutually exclusive.")
    if isinstance(inner, dict):
        only(inner, (*FIELDS, "model"), "generate_content_request")
        request = inner
    if not rows(request, "contents"):
        raise invalid("* CountTokensRequest.contents: contents is not specified\n")
    return document(counted(request))


def _vector(content: Json, dimensions: int) -> list[float]:
    """A unit vector that depends on the content alone."""
    seed = repr(content).encode()
    raw = [
        byte - 127.5 for block in range(-(-dimensions // 32)) for byte in hashlib.sha256(b"%d:" % block + seed).digest()
    ][:dimensions]
    length = sum(value * value for value in raw) ** 0.5
    return [round(value / length, 8) for value in raw]


def _embedding(request: Json) -> Json:
    only(request, ("model", "content", "taskType", "title", "outputDimensionality"))
    content = field(request, "content", {})
    if not content_tokens(content):
        raise invalid("* EmbedContentRequest.content: content is empty\n")
    dimensions = int(number(request, "outputDimensionality") or DIMENSIONS)
    if not 1 <= dimensions <= 3072:
        raise invalid("output_dimensionality must be between 1 and 3072.")
    return {"values": _vector(content, dimensions)}


def _embed(state: State, ask: Ask, shape: Shape) -> Answer:
    request = parse(ask.body)
    state.catalog.get(ask.model, ask.verb, ask.scene)
    return document({"embedding": _embedding(request)})


def _embed_batch(state: State, ask: Ask, shape: Shape) -> Answer:
    request = parse(ask.body)
    state.catalog.get(ask.model, ask.verb, ask.scene)
    only(request, ("requests",))
    requests = rows(request, "requests")
    if not requests:
        raise invalid("* BatchEmbedContentsRequest.requests: at least one request is required\n")
    for at, each in enumerate(requests):
        if text(each, "model") != f"models/{ask.model}":
            where = f"* BatchEmbedContentsRequest.requests[{at}].model: "
            raise invalid(f"{where}model must match the one of the batch: models/{ask.model}\n")
    return document({"embeddings": [_embedding(each) for each in requests]})


def _predict(state: State, ask: Ask, shape: Shape) -> Answer:
    request = parse(ask.body)
    state.catalog.get(ask.model, ask.verb, ask.scene)
    instances = rows(request, "instances")
    if not instances or not text(instances[0], "prompt"):
        raise invalid("instances[0].prompt is required.")
    count = int(number(field(request, "parameters", {}), "sampleCount") or 1)
    image = {"mimeType": "image/png", "bytesBase64Encoded": PIXEL}
    return document({"predictions": [image] * max(1, min(count, 4))})


def _list(state: State, ask: Ask, shape: Shape) -> Answer:
    return document(state.catalog.page(ask.query.get("pageSize", ""), ask.query.get("pageToken", "")))


def _get(state: State, ask: Ask, shape: Shape) -> Answer:
    return document(state.catalog.get(ask.model, "", ask.scene).card())


Verb = Callable[[State, Ask, Shape], Answer]

VERBS: dict[str, Verb] = {
    "generateContent": _generate,
    "streamGenerateContent": _generate,
    "countTokens": _count,
    "embedContent": _embed,
    "batchEmbedContents": _embed_batch,
    "predict": _predict,
}
LISTS: dict[str, Verb] = {"models.list": _list, "models.get": _get}

#: (face, method) to the verbs that answer there; Vertex has no list of models.
TABLE = {
    ("aistudio", "POST"): VERBS,
    ("aistudio", "GET"): LISTS,
    ("vertex", "POST"): VERBS,
}


def key_of(ask_query: dict[str, str], headers: dict[str, str]) -> str:
    """The API key of a request; the header goes before the query."""
    return headers.get("x-goog-api-key", "") or ask_query.get("key", "")


def answer(state: State, ask: Ask, shape: Shape) -> Answer:
    """Answer a request of either face; raises Refusal."""
    verb = TABLE.get((ask.face, ask.method), {}).get(ask.verb)
    if verb is None:
        raise refuse("HTML_NOT_FOUND", ask.scene)
    token = bearer(ask.headers)
    if ask.face == "vertex" or (token and not key_of(ask.query, ask.headers)):
        state.desk.check_token(token, ask.now, ask.scene)
    else:
        state.desk.check_key(key_of(ask.query, ask.headers), ask.scene)
    return verb(state, ask, shape)
