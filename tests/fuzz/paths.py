"""Paths and model ids: one plain form, which bends no URL that is made of it.  Pure."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, urlsplit

from gateway.calls import Credential, Secret
from gateway.config.values import UpstreamConfig
from gateway.dialects.paths import BadPath, normalise
from gateway.dialects.verbs import VERBS
from gateway.modelid import is_model_id
from gateway.upstreams.kinds import build
from tests.fakes import call

SEEDS = (
    b"/v1beta/models/gemini-2.5-flash:generateContent",
    b"//v1beta//models/models/org%2Fname-7b%3AstreamGenerateContent/",
    b"/v1beta1/publishers/google/models/m@001:countTokens",
    b"/v1/v1beta/models/a/b/countTokens",
    b"/models/m", b"/healthz", b"/upload/v1beta/files", b"*", b"", b"/v1beta/models/%2e%2e/m:generateContent",
    b"/v1beta/models/m%00:generateContent", b"/v1beta/models/m%252e", b"/v1beta/models/\xc3\xa9:x", b"http://h/p",
)  # fmt: skip
DICTIONARY = (
    b"/v1beta", b"/v1alpha", b"/v1beta1", b"/models/", b"models/", b"/publishers/google", b":generateContent",
    b"%2F", b"%3A",
    b"%2e", b"..", b"countTokens", b"healthz", b"%25", b"@", b"~",
)  # fmt: skip

_PLAIN = re.compile(r"/(?:[A-Za-z0-9._~@+\-: ]+(?:/[A-Za-z0-9._~@+\-: ]+)*)?\Z")
_ROUTE = re.compile(r"/(v1beta|v1|v1alpha)/models/(.+):([A-Za-z]+)\Z")
_BASES = {
    "aistudio": "https://studio.test",
    "vertex": "https://cloud.test",
    "codeassist": "https://accounts.test/v1internal",
}
_UPSTREAMS = {kind: build(UpstreamConfig(kind, kind, (base,), location="global")) for kind, base in _BASES.items()}
_CREDENTIAL = Credential("one", "any", "any", "any/one", "p")


def one_input(data: bytes) -> None:
    """Raise where a path has no single plain form, leaves the grammar, or bends the URL that goes upstream."""
    try:
        plain = normalise(data)
    except BadPath:
        return
    assert _PLAIN.match(plain), f"{data!r} became {plain!r}"
    assert not {".", ".."} & set(plain.split("/")), f"{data!r} climbs: {plain!r}"
    assert normalise(quote(plain).encode("ascii")) == plain, f"{plain!r} has another plain form"
    assert normalise(plain.encode("ascii")) == plain, f"{plain!r} has another plain form"
    route = _ROUTE.match(plain)
    if route is None or not is_model_id(route[2]) or not (route[3] in VERBS and VERBS[route[3]].served):
        return
    version, model, verb = route.groups()
    for kind, upstream in _UPSTREAMS.items():
        if verb in upstream.verbs:
            one = call(model=model, requested_model=model, verb=verb, api_version=version)
            request = upstream.prepare(one, _BASES[kind], _CREDENTIAL, Secret("token"))
            _unbent(kind, request.url.decode("ascii"), model, verb)


def _unbent(kind: str, url: str, model: str, verb: str) -> None:
    """The URL names the configured host, and this model and verb alone."""
    parts, base = urlsplit(url), urlsplit(_BASES[kind])
    assert (parts.scheme, parts.netloc, parts.fragment) == (base.scheme, base.netloc, ""), url
    assert parts.query in ("", "alt=sse"), url
    assert not {".", ".."} & set(unquote(parts.path).split("/")), url
    if kind == "codeassist":
        assert parts.path == f"{base.path}:{verb}", url
    else:
        assert unquote(parts.path).endswith(f"/models/{model}:{verb}"), url
        # Vertex takes a model as one segment of the path, the public API as all that stands between.
        assert kind != "vertex" or parts.path.count("/") == 9, url
