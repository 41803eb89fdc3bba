"""A request's body: taken where Python's own parser takes it, under the rules, and carried unchanged.  Pure."""

from __future__ import annotations

import json
import math
from typing import Any

from twisted.internet.task import Clock

from gateway.calls import Call, Credential, GatewayError, HttpRequest, Secret
from gateway.config.values import EnvelopeConfig, UpstreamConfig
from gateway.dialects import gemini
from gateway.dialects.guard import DEPTH_LIMIT, NUMBER_MOST, Guard, GuardError
from gateway.edge.gathering import Gathering
from gateway.edge.storing import Spare
from gateway.folding import Folded
from gateway.upstreams.codeassist import PROFILES
from gateway.upstreams.kinds import build
from tests.corpora import fetched, json_texts
from tests.fakes import call
from tests.fuzz.cuts import cuts

SEEDS = (
    b'{"contents":[{"role":"user","parts":[{"text":"Hello"}]}],"generation_config":{"temperature":1e0}}',
    b'{"contents":[{"parts":[{"text":"\\u00e9\\ud83d\\ude00\\"\\\\"}]}],"system_instruction":{},"safetySettings":[]}',
    b'{"generateContentRequest":{"model":"models/m","contents":[{"parts":[]}]},"model":"models/other"}',
    b'{"requests":[{"model":"models/m","content":{}},null],"tools":[{"googleSearch":{}}]}',
    b' { "a" : -0.0E+10 , "a" : null , "b":[[],{"":true}] } \n',
    b'{"x":"\\ud800"}',
    b'{"x":' + b"[" * 99 + b"]" * 99 + b"}",
    b'{"x":' + b"[" * 100 + b"]" * 100 + b"}",
    b"[]", b'"x"', b"{", b'{"a":01}', b'{"a":1.}', b'{"a":NaN}', b'{"a":-1e999}', b"\xef\xbb\xbf{}",
    b'{"a":"\t"}', b'{"a":"\xff"}',
)  # fmt: skip
DICTIONARY = (
    b'"contents":', b'"parts":', b'"role":"user"', b'"generateContentRequest":', b'"model":"models/m"', b"\\u",
    b"\\ud800",
    b'"tools":', b'"googleSearch"', b'"requests":[', b"null", b"true", b"false", b"1e400", b"-0", b'"\\"',
    b'"system_instruction":',
)  # fmt: skip

_CONFIGS = (
    UpstreamConfig("studio", "aistudio", ("https://studio.test",)),
    *(
        UpstreamConfig("accounts", "codeassist", ("https://one.test/v1internal",), envelope=EnvelopeConfig(profile))
        for profile in PROFILES
    ),
    UpstreamConfig("cloud", "vertex", ("https://cloud.test",), location="global"),
)
_UPSTREAMS = tuple((config.kind, config.base_urls[0], build(config)) for config in _CONFIGS)
_CREDENTIAL = Credential("one", "any", "any", "any/one", "p")
_CAMEL = {
    "system_instruction": "systemInstruction", "cached_content": "cachedContent", "tool_config": "toolConfig",
    "safety_settings": "safetySettings", "generation_config": "generationConfig",
}  # fmt: skip


def more_seeds() -> list[bytes]:
    """JSON texts that others wrote, alone and as a member."""
    texts = [case.text for case in json_texts() if len(case.text) < 2000] if fetched() else []
    return [*texts, *(b'{"contents":' + text + b"}" for text in texts)]


def one_input(data: bytes) -> None:
    """Raise where the gateway and Python differ on whether this is a body, or where one changes on its way."""
    due = expected(data)
    for pieces in cuts(data):
        # A backslash outside of strings may mislead the guard, but such a text is no JSON anyway.
        folded = guarded(pieces)
        taken = folded is not None and parsed(folded, data)
        assert taken == (due is not None), f"the gateway says {taken}, Python {due is not None}: {pieces}"
    if due is None:
        return
    gemini.first_user_turn(gemini.parse_body(data))
    gemini.summary(data)
    for verb in ("generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents"):
        for kind, base, upstream in _UPSTREAMS:
            if verb in upstream.verbs:
                _carried(kind, base, upstream.prepare, verb, data, due)


def guarded(pieces: list[bytes]) -> Folded | None:
    """Return the body with all apart from it that may be, or None where the guard refuses it."""
    guard, gathering = Guard(DEPTH_LIMIT, 0, 1), Gathering(Spare(Clock()))
    try:
        for piece in pieces:
            gathering.add(piece, guard.feed(piece))
        guard.end()
    except GuardError:
        return None
    return gathering.take()


def parsed(folded: Folded, data: bytes) -> bool:
    assert folded.whole().text == data, folded
    try:
        left, _ = gemini.taken_apart(folded)
        assert left.whole().text == data, left
    except GatewayError as error:
        code = error.code
        assert code == 400, data
        return False
    return True


def expected(data: bytes) -> dict[str, Any] | None:
    """Read a body with Python's parser: strict UTF-8 without a mark, an object, 100 deep, only doubles and text."""
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_refuse, parse_int=_number, parse_float=_number)
        if not isinstance(value, dict) or _depth(value) > DEPTH_LIMIT:
            return None
        # A lone surrogate is no text: nothing can carry it.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError):
        return None
    return value


def _refuse(name: str) -> None:
    raise ValueError(name)


def _number(text: str) -> tuple[str]:
    """Keep a number as it is spelled, since it has to arrive so; one that is too long or too large is refused."""
    if len(text) > NUMBER_MOST or math.isinf(float(text)):
        raise ValueError(text)
    return (text,)


def _depth(value: object) -> int:
    if isinstance(value, tuple):
        return 0
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def _carried(kind: str, base: str, prepare: Any, verb: str, data: bytes, due: dict[str, Any]) -> None:
    """Compare what goes out with what came in, number by number as they are spelled."""
    one: Call = call(body=data, verb=verb)
    try:
        request: HttpRequest = prepare(one, base, _CREDENTIAL, Secret("token"))
    except GatewayError as error:
        why = (verb, error.reason)
        assert why == ("countTokens", "CONTENTS_MISSING"), data
        return
    assert request.url.startswith(base.encode("ascii")), request.url
    sent = expected(request.body)
    if kind != "codeassist" and sent is None:
        raise AssertionError(f"{kind} {verb}: {request.body!r} is no body")
    if kind == "aistudio":
        assert request.body == data, f"{kind} {verb}: {request.body!r}"
    elif kind == "vertex" and verb != "countTokens":
        assert sent == {name: value for name, value in due.items() if name != "model"}, request.body
    elif kind == "codeassist" and verb != "countTokens":
        # An envelope adds a level, so the body is compared without the limit on them.
        whole = json.loads(request.body, parse_int=_number, parse_float=_number)["request"]
        assert {**whole, "session_id": None} == {**_renamed(due), "session_id": None}, request.body


def _renamed(due: dict[str, Any]) -> dict[str, Any]:
    out = {name: value for name, value in due.items() if name not in (*_CAMEL, "model")}
    for name, value in due.items():
        if name in _CAMEL:
            out.setdefault(_CAMEL[name], value)
    return out
