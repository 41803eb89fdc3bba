"""Vertex AI: where a request goes, what is sent, what comes back, byte for byte."""

from __future__ import annotations

import json
from typing import Any

import attrs
import msgspec
from twisted.trial.unittest import SynchronousTestCase

from gateway import splice
from gateway.calls import Call, Credential, Event, Framing, Secret
from gateway.config.values import UpstreamConfig
from gateway.upstreams import kinds
from gateway.upstreams.sending import USER_AGENT
from gateway.upstreams.vertex import Vertex

BASE = "https://base.test"
WHO = Credential("sa", "cloud", "vertex", "cloud/0123abcd", "my-project")
TOKEN = Secret("ya29.token")
UPSTREAM = Vertex(UpstreamConfig("cloud", "vertex", (BASE,), location="europe-west4"))
PREFIX = b"https://base.test/v1/projects/my-project/locations/europe-west4/publishers/google/models/"
ODD = (
    b'{ "contents" :\r\n[ {"parts":[{"thoughtSignature":"CiQB+/=\\u003d",'
    b'"text":"\\u00e9\\/ \xc3\xa9\xf0\x9f\x98\x80"}]} ],'
    b'\t"generationConfig":{"seed":1e400,"x":12345678901234567890123,"y":1.10},"contents2":[ ] } '
)


def call(body: bytes = ODD, verb: str = "generateContent", **changes: Any) -> Call:
    return msgspec.structs.replace(Call("id", verb, "m", "m", body, ""), **changes)


def sent(body: bytes, verb: str = "generateContent") -> bytes:
    return UPSTREAM.prepare(call(body, verb), BASE, WHO, TOKEN).body


class PrepareTests(SynchronousTestCase):
    """The request."""

    def test_url_names_project_location_model_and_verb(self) -> None:
        """L11: from checked parts, each quoted into one segment; a stream is always asked for as SSE."""
        table: list[tuple[Call, bytes]] = [
            (call(), b"m:generateContent"),
            (call(verb="predict"), b"m:predict"),
            (call(verb="streamGenerateContent", framing=Framing.SSE), b"m:streamGenerateContent?alt=sse"),
            (call(verb="streamGenerateContent", framing=Framing.ARRAY), b"m:streamGenerateContent?alt=sse"),
            (call(model="text-embedding@001"), b"text-embedding@001:generateContent"),
            (call(model="a/../b?c#d e"), b"a%2F..%2Fb%3Fc%23d%20e:generateContent"),
        ]
        for one, url in table:
            self.assertEqual(UPSTREAM.prepare(one, BASE, WHO, TOKEN).url, PREFIX + url)

    def test_version_is_vertexs_own(self) -> None:
        """The client's v1beta is the public API's; Vertex has v1."""
        for version in ("v1", "v1beta", "v1alpha"):
            self.assertEqual(
                UPSTREAM.prepare(call(api_version=version), BASE, WHO, TOKEN).url, PREFIX + b"m:generateContent"
            )

    def test_project_of_a_domain_is_quoted(self) -> None:
        """Old projects are named after a domain, with a colon."""
        who = attrs.evolve(WHO, project="example.com:old")
        self.assertIn(b"/projects/example.com%3Aold/", UPSTREAM.prepare(call(), BASE, who, TOKEN).url)

    def test_token_is_a_bearer_token(self) -> None:
        """S16: and nothing of the client's headers goes along."""
        request = UPSTREAM.prepare(call(), BASE, WHO, TOKEN)
        self.assertEqual(request.method, b"POST")
        self.assertEqual(
            request.headers,
            (
                (b"content-type", b"application/json"),
                (b"user-agent", USER_AGENT.encode("ascii")),
                (b"accept-encoding", b"identity"),
                (b"authorization", b"Bearer ya29.token"),
            ),
        )

    def test_body_is_the_clients_byte_for_byte(self) -> None:
        """Signatures, odd space, escapes and big numbers are not touched."""
        for verb in UPSTREAM.verbs:
            self.assertEqual(sent(ODD, verb), ODD, verb)

    def test_model_in_the_body_is_taken_out(self) -> None:
        """Vertex has it in the path, and there with project and location; the other members keep their bytes."""
        body = b'{"contents": [ {"parts":[ ]} ] , "model":"models/m", "labels":{"a" : "b"}}'
        for verb in UPSTREAM.verbs:
            self.assertEqual(sent(body, verb), b'{"contents":[ {"parts":[ ]} ],"labels":{"a" : "b"}}', verb)

    def test_count_of_a_whole_request_is_unfolded(self) -> None:
        """What CountTokensRequest has of it stays, byte for byte; the rest Vertex would refuse."""
        whole = (
            b'{"model":"models/m","contents":[ 1 ],"systemInstruction":{ },"tools":[ ],"generationConfig":{"x" : 1},'
            b'"safetySettings":[],"toolConfig":{},"cachedContent":"c"}'
        )
        wanted = b'{"contents":[ 1 ],"systemInstruction":{ },"tools":[ ],"generationConfig":{"x" : 1}}'
        for name in (b"generateContentRequest", b"generate_content_request"):
            self.assertEqual(sent(b'{"%s":%s}' % (name, whole), "countTokens"), wanted)
            self.assertEqual(sent(b'{"model":"models/m","%s": %s}' % (name, whole), "countTokens"), wanted)

    def test_empty_whole_request_counts_as_none(self) -> None:
        """Null is the same as nothing; what is no object is left to upstream to refuse."""
        body = b'{"generateContentRequest":null,"contents":[ 1 ]}'
        self.assertEqual(sent(body, "countTokens"), b'{"contents":[ 1 ]}')
        self.assertEqual(sent(b'{"generateContentRequest":[1]}', "countTokens"), b"{}")

    def test_whole_request_is_unfolded_for_counting_alone(self) -> None:
        """Elsewhere a member of this name is the client's mistake, and passes."""
        body = b'{"generateContentRequest": {}}'
        self.assertEqual(sent(body), body)


class AnswerTests(SynchronousTestCase):
    """The answer."""

    def test_answer_passes_as_it_is(self) -> None:
        """Byte for byte."""
        for data in (ODD, b'{"totalTokens":31,"totalBillableCharacters":96}', b'{"error":null}'):
            self.assertEqual(UPSTREAM.unwrap(data), Event(data))

    def test_error_object_is_recognised(self) -> None:
        """U17: with a 200, and in a stream."""
        data = json.dumps({"error": {"code": 503, "status": "UNAVAILABLE"}}).encode()
        self.assertEqual(UPSTREAM.unwrap(data).error, data)

    def test_what_is_no_object_is_refused(self) -> None:
        """C9: it is counted as a broken answer."""
        for data in (b"[]", b"", b"<html>", b'{"error":', b"\xff"):
            with self.assertRaises(splice.NotAnObject):
                UPSTREAM.unwrap(data)


class KindTests(SynchronousTestCase):
    """What the kind says about itself."""

    def test_kind_is_in_the_table(self) -> None:
        """One line."""
        built = kinds.build(UpstreamConfig("cloud", "vertex", (BASE,), location="global"))
        self.assertIsInstance(built, Vertex)
        self.assertIn(b"/locations/global/", built.prepare(call(), BASE, WHO, TOKEN).url)

    def test_verbs_are_those_of_the_reference(self) -> None:
        """The REST reference of publishers.models has no batchEmbedContents."""
        self.assertEqual(
            UPSTREAM.verbs, {"generateContent", "streamGenerateContent", "countTokens", "embedContent", "predict"}
        )

    def test_there_is_no_list(self) -> None:
        """The list is the catalogue's."""
        self.assertIsNone(UPSTREAM.listing(BASE, WHO, TOKEN, ""))
        self.assertEqual(UPSTREAM.listed(b"{}"), ((), ""))
