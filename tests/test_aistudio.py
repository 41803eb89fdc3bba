"""The public Gemini API: what is sent, what comes back, byte for byte."""

from __future__ import annotations

import json

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from gateway import splice
from gateway.calls import Call, Credential, Event, Framing, Secret
from gateway.config.values import UpstreamConfig
from gateway.upstreams import kinds
from gateway.upstreams.aistudio import AiStudio, retargeted
from gateway.upstreams.models import Model
from gateway.upstreams.sending import USER_AGENT

BASE = "https://base.test"
WHO = Credential("first", "studio", "aistudio", "studio/first")
KEY = Secret("AIza-key")
UPSTREAM = AiStudio(UpstreamConfig("studio", "aistudio", (BASE,)))
ODD = (
    b'{ "contents" :\r\n[ {"parts":[{"thoughtSignature":"CiQB+/=\\u003d",'
    b'"text":"\\u00e9\\/ \xc3\xa9\xf0\x9f\x98\x80"}]} ],'
    b'\t"generationConfig":{"seed":1e400,"x":12345678901234567890123,"y":1.10},"contents2":[ ] } '
)


def call(body: bytes = ODD, verb: str = "generateContent", **changes: object) -> Call:
    return msgspec.structs.replace(Call("id", verb, "m", "m", body, ""), **changes)


class PrepareTests(SynchronousTestCase):
    """The request."""

    def test_body_is_the_clients_byte_for_byte(self) -> None:
        """Signatures, odd space, escapes and big numbers are not touched."""
        for verb in UPSTREAM.verbs:
            self.assertEqual(UPSTREAM.prepare(call(ODD, verb), BASE, WHO, KEY).body, ODD, verb)

    def test_key_goes_into_a_header_and_never_into_the_url(self) -> None:
        """S16: and nothing else of the client's goes along."""
        request = UPSTREAM.prepare(call(), BASE, WHO, KEY)
        self.assertEqual(
            request.headers,
            (
                (b"content-type", b"application/json"),
                (b"user-agent", USER_AGENT.encode("ascii")),
                (b"accept-encoding", b"identity"),
                (b"x-goog-api-key", b"AIza-key"),
            ),
        )
        self.assertEqual((request.method, request.url), (b"POST", b"https://base.test/v1beta/models/m:generateContent"))

    def test_url_is_built_of_version_model_and_verb(self) -> None:
        """L11: from checked parts, each quoted; a stream is always asked for as SSE."""
        stream = "streamGenerateContent"
        table: list[tuple[Call, bytes]] = [
            (call(api_version="v1"), b"/v1/models/m:generateContent"),
            (call(model="org/m@1", requested_model="org/m@1"), b"/v1beta/models/org/m@1:generateContent"),
            (call(model="a?b#c d", requested_model="a?b#c d"), b"/v1beta/models/a%3Fb%23c%20d:generateContent"),
            (call(verb="countTokens"), b"/v1beta/models/m:countTokens"),
            (call(verb=stream, framing=Framing.SSE), b"/v1beta/models/m:streamGenerateContent?alt=sse"),
            (call(verb=stream, framing=Framing.ARRAY), b"/v1beta/models/m:streamGenerateContent?alt=sse"),
        ]
        for one, path in table:
            self.assertEqual(UPSTREAM.prepare(one, BASE, WHO, KEY).url, b"https://base.test" + path)

    def test_alias_is_resolved_within_the_body_too(self) -> None:
        """Google refuses a body that names another model than the URL."""
        body = b'{"generateContentRequest":{"model":"models/al","contents":[ 1 ]}}'
        request = UPSTREAM.prepare(call(body, "countTokens", requested_model="al"), BASE, WHO, KEY)
        self.assertEqual(request.body, b'{"generateContentRequest":{"model":"models/m","contents":[ 1 ]}}')
        self.assertEqual(request.url, b"https://base.test/v1beta/models/m:countTokens")

    def test_repr_shows_neither_body_nor_key(self) -> None:
        """S12: a request may end up in a log of failures."""
        body = UPSTREAM.prepare(call(b'{"contents":"private"}'), BASE, WHO, KEY)
        self.assertNotIn("private", repr(body))


class RetargetedTests(SynchronousTestCase):
    """Places that repeat the URL's model."""

    def test_model_is_replaced_where_it_stands_and_nowhere_else(self) -> None:
        """Values beside it keep their bytes; a request without a model gets none."""
        table = [
            (b'{"model":"models/al","content":{ "a" : 1e400 }}', b'{"model":"models/m","content":{ "a" : 1e400 }}'),
            (b'{"content":{"model":"models/al"}}', b'{"content":{"model":"models/al"}}'),
            (b'{"generate_content_request":{"model":"al"}}', b'{"generate_content_request":{"model":"models/m"}}'),
            (b'{"generateContentRequest":{"contents":[ ]}}', b'{"generateContentRequest":{"contents":[ ]}}'),
            (b'{"generateContentRequest":7}', b'{"generateContentRequest":7}'),
            (b'{"requests":[{"model":"models/al","content":{ }}, {"content": 1 }, 7, null]}',
             b'{"requests":[{"model":"models/m","content":{ }},{"content": 1 },7,null]}'),
            (b'{"requests":7}', b'{"requests":7}'),
            (b"{}", b"{}"),
        ]  # fmt: skip
        for body, out in table:
            self.assertEqual(retargeted(body, "m"), out, repr(body))

    def test_odd_body_keeps_the_bytes_of_its_values(self) -> None:
        """Under an alias only the space between the members goes."""
        before, after = splice.members(ODD), splice.members(retargeted(ODD, "m"))
        self.assertEqual([(k, bytes(v)) for k, v in before.items()], [(k, bytes(v)) for k, v in after.items()])


class UnwrapTests(SynchronousTestCase):
    """The answer."""

    def test_answer_is_the_clients_byte_for_byte(self) -> None:
        """C11: also with invalid UTF-8 in it."""
        for data in (ODD, b"{}", b'{"t":"\xff","\xff":1}', b'{"error":null}', b'{"candidates":[{"error":{}}]}'):
            self.assertEqual(UPSTREAM.unwrap(data), Event(data), repr(data[:40]))

    def test_error_is_recognised(self) -> None:
        """U17: in an answer or an event that came with a 200."""
        for data in (b'{"error":{"code":503}}', b'{"x":1, "error" : "text"}', b'{"error":{}}'):
            self.assertEqual(UPSTREAM.unwrap(data), Event(data, error=data), repr(data))

    def test_what_is_no_object_is_not_json(self) -> None:
        """C14: nothing else is ever raised."""
        for data in (b"", b"[]", b"null", b"<html>", b"[DONE]", b'{"a":', b'{"a":\xff}', b'{"a":' + b"[" * 100_000):
            self.assertRaises(splice.NotAnObject, UPSTREAM.unwrap, data)


class SurrogateTests(SynchronousTestCase):
    """What the parser refuses and Google's does not."""

    def test_lone_surrogate_in_an_answer_is_passed_on(self) -> None:
        """An answer cut within an emoji is no broken answer."""
        data = rb'{"candidates":[{"content":{"parts":[{"text":"half \udc00"}]}}]}'
        upstream = AiStudio(UpstreamConfig("studio", "aistudio", ("https://base.test",)))
        self.assertEqual(upstream.unwrap(data), Event(data))


class ListingTests(SynchronousTestCase):
    """The model list."""

    def test_pages_are_asked_for_with_the_key_in_a_header(self) -> None:
        """The token goes back quoted."""
        for page, query in (("", b"?pageSize=1000"), ("a&b=c/", b"?pageSize=1000&pageToken=a%26b%3Dc%2F")):
            request = UPSTREAM.listing(BASE, WHO, KEY, page)
            assert request is not None
            self.assertEqual((request.method, request.body), (b"GET", b""))
            self.assertEqual(request.url, b"https://base.test/v1beta/models" + query)
            self.assertIn((b"x-goog-api-key", b"AIza-key"), request.headers)

    def test_page_is_read(self) -> None:
        """Ids lose their prefix; what is not said is not known."""
        entry = {
            "name": "models/m", "displayName": "M", "description": "d", "version": "1", "inputTokenLimit": 10,
            "outputTokenLimit": 20, "supportedGenerationMethods": ["generateContent"], "temperature": 1,
        }  # fmt: skip
        body = json.dumps({"models": [entry, {"name": "models/org/n"}], "nextPageToken": "t"}).encode()
        expected = [Model("m", "M", "d", "1", 10, 20, ("generateContent",)), Model("org/n")]
        self.assertEqual(UPSTREAM.listed(body), (expected, "t"))
        self.assertEqual(UPSTREAM.listed(b"{}"), ([], ""))
        self.assertRaises(msgspec.DecodeError, UPSTREAM.listed, b'{"models":[{}]}')


class KindsTests(SynchronousTestCase):
    """The table of kinds."""

    def test_kind_is_built_by_its_name(self) -> None:
        """Each name gives an upstream of its class."""
        for name in ("aistudio", "codeassist"):
            self.assertIs(type(kinds.build(UpstreamConfig("up", name, (BASE,)))), kinds.KINDS[name])

    def test_kinds_that_have_a_method_are_named(self) -> None:
        """For the 501 that says what to add."""
        table = [("countTokens", {"aistudio", "codeassist"}), ("batchEmbedContents", {"aistudio"}), ("none", set())]
        for verb, names in table:
            self.assertEqual(set(kinds.kinds_with(verb)) & {"aistudio", "codeassist"}, names, verb)
