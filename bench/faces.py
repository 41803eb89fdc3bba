"""How the bench asks a relay for something, and how it knows the right answer.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import attrs
import msgspec
import shapes


@attrs.frozen
class Face:
    """One client language: where a call goes, what it carries, and what its answer says."""

    path: Callable[[str, bool], str]
    """Of a model, and whether the answer streams."""
    body: Callable[[str, bool], bytes]
    says: Callable[[bytes, shapes.Answer], bool]
    """Whether a whole answer, or the data of one event, says what was due."""
    headers: Mapping[str, str]
    done: bytes | None = None
    """The data of an event that says no more than that the stream is over."""

    def request(self, port: int, model: str, streams: bool) -> bytes:
        """Return the whole request for one call."""
        return self.head(port, model, streams) + self.body(model, streams)

    def head(self, port: int, model: str, streams: bool) -> bytes:
        """Return a request's head."""
        fields = {
            "Host": f"127.0.0.1:{port}",
            "User-Agent": "bench/1.0",
            "Accept": "*/*",
            "Content-Type": "application/json",
            **self.headers,
            "Content-Length": str(len(self.body(model, streams))),
        }
        lines = [f"POST {self.path(model, streams)} HTTP/1.1", *(f"{name}: {text}" for name, text in fields.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _gemini_path(model: str, streams: bool) -> str:
    return f"/v1beta/models/{model}:" + ("streamGenerateContent?alt=sse" if streams else "generateContent")


def gemini(key: str = shapes.CLIENT_KEY) -> Face:
    """Return Google's own language: every member of an answer must be what upstream sent."""
    return Face(
        path=_gemini_path,
        body=lambda model, streams: shapes.request_body(shapes.megabytes_of(model)),
        says=lambda raw, due: shapes.DECODER.decode(raw) == due,
        headers={"x-goog-api-key": key},
    )


@lru_cache(maxsize=8)
def _openai_body(model: str, streams: bool) -> bytes:
    parts: list[dict[str, Any]] = []
    for part in shapes.request(shapes.megabytes_of(model))["contents"][0]["parts"]:
        if "text" in part:
            parts.append({"type": "text", "text": part["text"]})
        else:
            url = f"data:{part['inlineData']['mimeType']};base64,{part['inlineData']['data']}"
            parts.append({"type": "image_url", "image_url": {"url": url}})
    return msgspec.json.encode({"model": model, "messages": [{"role": "user", "content": parts}], "stream": streams})


def _openai_says(raw: bytes, due: shapes.Answer) -> bool:
    (choice,) = msgspec.json.decode(raw)["choices"]
    said = choice.get("message") or choice.get("delta") or {}
    candidate = due.candidates[0]
    finish = candidate.finish_reason and candidate.finish_reason.lower()
    text = "".join(part.text for part in candidate.content.parts)
    return (said.get("content"), choice.get("finish_reason")) == (text, finish)


def openai(headers: Mapping[str, str]) -> Face:
    """Return OpenAI's chat completions: the text and how it ended must be what upstream sent."""
    return Face(
        path=lambda model, streams: "/v1/chat/completions",
        body=_openai_body,
        says=_openai_says,
        headers=headers,
        done=b"[DONE]",
    )
