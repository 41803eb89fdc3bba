"""The v1internal backend: the envelope around the client's bytes, and out of it again."""

from __future__ import annotations

import json

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from gateway import splice
from gateway.calls import Call, Credential, Event, Framing, GatewayError, HttpRequest, Secret
from gateway.config.values import EnvelopeConfig, UpstreamConfig
from gateway.upstreams.codeassist import PROFILES, CodeAssist
from gateway.upstreams.models import Model
from gateway.upstreams.sending import USER_AGENT

BASE = "https://base.test/v1internal"
WHO = Credential("acc", "accounts", "codeassist", "accounts/1234", "proj-1")
TOKEN = Secret("ya29.t")
AGENT = USER_AGENT.encode("ascii")
VALUE = (
    b'[ {"parts":[{"thoughtSignature":"CiQB+/=\\u003d","text":"\\u00e9\\/ \xc3\xa9"}],\r\n"n":[1e400,1.10,'
    b"12345678901234567890123]} ]"
)


def prepared(body: bytes, envelope: EnvelopeConfig | None = None, **changes: object) -> HttpRequest:
    call = msgspec.structs.replace(Call("req-1", "generateContent", "m", "m", body, ""), **changes)
    upstream = CodeAssist(UpstreamConfig("accounts", "codeassist", (BASE,), envelope=envelope))
    return upstream.prepare(call, BASE, WHO, TOKEN)


def unwrap(data: bytes) -> Event:
    return CodeAssist(UpstreamConfig("accounts", "codeassist", (BASE,))).unwrap(data)


class EnvelopeTests(SynchronousTestCase):
    """The request."""

    def test_tutorials_envelope_byte_for_byte(self) -> None:
        """Profile ``antigravity``; the client's object keeps every byte, and its values do where a member goes."""
        body = b' { "contents" : ' + VALUE + b' , "labels":{ } } '
        without = body.replace(b'{ "contents"', b'{ "model": "x", "contents"')
        for given, request in ((body, body), (without, b'{"contents":' + VALUE + b',"labels":{ }}')):
            self.assertEqual(
                prepared(given).body,
                b'{"project":"proj-1","requestId":"req-1","request":' + request + b',"model":"m",'
                b'"userAgent":"' + AGENT + b'","requestType":"agent"}',
            )

    def test_command_lines_envelope_byte_for_byte(self) -> None:
        """Profile ``gemini-cli``, with the session where there is one."""
        envelope = EnvelopeConfig("gemini-cli")
        head = b'{"model":"m","project":"proj-1","user_prompt_id":"req-1","request":{"contents":' + VALUE
        body = b'{"contents":' + VALUE + b"}"
        self.assertEqual(prepared(body, envelope, session="s1").body, head + b',"session_id":"s1"}}')
        self.assertEqual(prepared(body, envelope).body, head + b"}}")

    def test_each_profile_is_one_the_configuration_knows(self) -> None:
        """The default is among them."""
        self.assertIn(EnvelopeConfig().profile, PROFILES)

    def test_model_is_the_envelopes_and_not_the_bodys(self) -> None:
        """The client's own member is taken out, however it spells it; deeper ones stay."""
        table = [
            (b'{"model":"models/x","contents":[]}', b'{"contents":[]}'),
            (b'{"contents":[],"\\u006dodel":1,"model":2}', b'{"contents":[]}'),
            (b'{"contents":[{"model":1}]}', b'{"contents":[{"model":1}]}'),
        ]
        for body, request in table:
            sent = prepared(body, model="resolved").body
            self.assertEqual(bytes(splice.members(sent)["request"]), request, repr(body))
            self.assertEqual(bytes(splice.members(sent)["model"]), b'"resolved"', repr(body))

    def test_snake_case_at_the_top_means_the_same(self) -> None:
        """Both spellings are one member; nothing below the top is renamed."""
        table = [
            ("system_instruction", "systemInstruction"),
            ("cached_content", "cachedContent"),
            ("tool_config", "toolConfig"),
            ("safety_settings", "safetySettings"),
            ("generation_config", "generationConfig"),
            ("systemInstruction", "systemInstruction"),
            ("contents", "contents"),
            ("some_other", "some_other"),
        ]
        for given, sent in table:
            body = b'{"%s":{ "tool_config":1 }}' % given.encode()
            request = splice.members(prepared(body).body)["request"]
            self.assertEqual(bytes(request), b'{"%s":{ "tool_config":1 }}' % sent.encode(), given)

    def test_request_type_follows_the_request(self) -> None:
        """Images and searches have types of their own, else the configuration's."""
        table = [
            (b"{}", "m", "agent", "agent"),
            (b"{}", "m", "chat", "chat"),
            (b"{}", "gemini-2.5-flash-image", "agent", "image_gen"),
            (b'{"tools":[{"googleSearch":{}}]}', "m", "agent", "web_search"),
            (b'{"tools":[{"functionDeclarations":[]},{"google_search":{}}]}', "m", "agent", "web_search"),
            (b'{"tools":[{"functionDeclarations":[{"name":"googleSearch"}]}]}', "m", "agent", "agent"),
            (b'{"tools":{"googleSearch":{}}}', "m", "agent", "agent"),
            (b'{"tools":[7]}', "m", "agent", "agent"),
        ]
        for body, model, configured, kind in table:
            sent = json.loads(prepared(body, EnvelopeConfig(request_type=configured), model=model).body)
            self.assertEqual(sent["requestType"], kind, f"{body!r} {model}")

    def test_nothing_of_the_body_gets_out_of_its_place(self) -> None:
        """A body cannot add to the envelope, whatever its names and values hold."""
        body = b'{"a":"}},\\"project\\":\\"theirs","project":"theirs","requestId":1,"x\\"},\\"y":2}'
        sent = json.loads(prepared(body).body)
        self.assertEqual(list(sent), ["project", "requestId", "request", "model", "userAgent", "requestType"])
        self.assertEqual((sent["project"], sent["requestId"]), ("proj-1", "req-1"))
        self.assertEqual(sent["request"], json.loads(body))

    def test_url_and_headers(self) -> None:
        """The method after a colon, a stream as SSE, the token as bearer, the gateway's own name."""
        table: list[tuple[dict[str, object], bytes]] = [
            ({}, b":generateContent"),
            ({"verb": "streamGenerateContent", "framing": Framing.SSE}, b":streamGenerateContent?alt=sse"),
            ({"verb": "streamGenerateContent", "framing": Framing.ARRAY}, b":streamGenerateContent?alt=sse"),
            ({"verb": "countTokens"}, b":countTokens"),
        ]
        for changes, suffix in table:
            request = prepared(b'{"contents":[]}', **changes)
            self.assertEqual((request.method, request.url), (b"POST", BASE.encode("ascii") + suffix))
        for name, agent in (("", AGENT), ("mine/1", b"mine/1")):
            request = prepared(b"{}", EnvelopeConfig(user_agent=name))
            self.assertEqual(
                request.headers,
                (
                    (b"content-type", b"application/json"),
                    (b"user-agent", agent),
                    (b"accept-encoding", b"identity"),
                    (b"authorization", b"Bearer ya29.t"),
                ),
            )
            self.assertEqual(json.loads(request.body)["userAgent"].encode(), agent)


class CountTests(SynchronousTestCase):
    """countTokens."""

    def test_both_forms_of_the_body_give_the_same_request(self) -> None:
        """Only model and contents are sent: a project or model at the top is refused there."""
        bodies = [
            b'{"contents":' + VALUE + b"}",
            b'{"model":"models/x","contents":' + VALUE + b',"tools":[]}',
            b'{"generateContentRequest":{"model":"models/x","contents":' + VALUE + b',"tools":[]}}',
            b'{"generate_content_request":{"contents":' + VALUE + b"}}",
        ]
        for body in bodies:
            self.assertEqual(
                prepared(body, verb="countTokens").body,
                b'{"request":{"model":"models/m","contents":' + VALUE + b"}}",
                repr(body[:40]),
            )

    def test_count_without_contents_is_the_clients_mistake(self) -> None:
        """400 with where they belong."""
        for body in (b"{}", b'{"generateContentRequest":{}}', b'{"generateContentRequest":7}'):
            error = self.assertRaises(GatewayError, prepared, body, verb="countTokens")
            self.assertEqual((error.code, error.reason), (400, "CONTENTS_MISSING"), repr(body))


class UnwrapTests(SynchronousTestCase):
    """The answer."""

    def test_response_comes_out_byte_for_byte(self) -> None:
        """C11: with its space, escapes, numbers and wrong bytes; the trace id goes its own way."""
        inner = b'{ "candidates" : ' + VALUE + b',\n "t":"\xff","\xff":1 }'
        table = [
            (b'{"response":' + inner + b',"traceId":"abc"}', Event(inner, "abc")),
            (b' { "traceId" : "abc" , "x":1, "response" : ' + inner + b" } ", Event(inner, "abc")),
            (b'{"response":' + inner + b"}", Event(inner)),
            (b'{"response":{}}', Event(b"{}")),
            (b'{"response":{},"error":null}', Event(b"{}")),
        ]
        for data, event in table:
            self.assertEqual(unwrap(data), event, repr(data[:40]))

    def test_answer_without_envelope_stays_as_it_is(self) -> None:
        """A count comes bare."""
        for data in (b'{"totalTokens":31}', b"{}", b'{"response":null,"totalTokens":1}'):
            self.assertEqual(unwrap(data), Event(data), repr(data))

    def test_error_is_recognised(self) -> None:
        """U17: with its trace id, and also beside a response; of the envelope the client gets nothing else."""
        for data, error in (
            (b'{"error":{"code":429},"traceId":"t"}', b'{"error":{"code":429}}'),
            (b'{"response":{},"error":{ },"traceId":"t"}', b'{"error":{ }}'),
        ):
            self.assertEqual(unwrap(data), Event(error, "t", error), repr(data))

    def test_envelope_alone_holds_nothing_for_the_client(self) -> None:
        """A trace id goes into a header and the log, never into the stream."""
        self.assertEqual(unwrap(b'{"traceId":"t","metadata":{}}'), Event(b"", "t"))
        self.assertEqual(unwrap(b'{"totalTokens": 31, "traceId":"t"}'), Event(b'{"totalTokens":31}', "t"))

    def test_odd_trace_id_loses_no_answer(self) -> None:
        """It is for the log alone."""
        for odd in (b"null", b"7", b'"\xff"', b'{"a":[]}', b'""'):
            self.assertEqual(unwrap(b'{"response":{"a":1},"traceId":' + odd + b"}"), Event(b'{"a":1}'), repr(odd))

    def test_what_is_no_object_is_not_json(self) -> None:
        """C14: neither the whole nor what ``response`` holds; nothing else is ever raised."""
        for data in (b"", b"[]", b"<html>", b"[DONE]", b'{"response":', b'{"response":[]}', b'{"response":"{}"}',
                     b'{"response":7}', b'{"a":' + b"[" * 100_000):  # fmt: skip
            self.assertRaises(splice.NotAnObject, unwrap, data)


class SurrogateTests(SynchronousTestCase):
    """What the parser refuses and Google's does not."""

    def test_lone_surrogate_in_an_answer_is_passed_on_byte_for_byte(self) -> None:
        """An answer cut within an emoji reaches the client as upstream wrote it."""
        inner = rb'{"candidates":[{"content":{"parts":[{"text":"half \ud83d"}]}}],"x":"\ud83d\ude00"}'
        event = unwrap(b'{"response": ' + inner + b', "traceId": "t1"}')
        self.assertEqual((event.data, event.trace_id, event.error), (inner, "t1", b""))


class ListingTests(SynchronousTestCase):
    """The model list."""

    def test_available_models_are_asked_for_and_read(self) -> None:
        """With the account's project; one page."""
        upstream = CodeAssist(UpstreamConfig("accounts", "codeassist", (BASE,)))
        request = upstream.listing(BASE, WHO, TOKEN, "")
        assert request is not None
        self.assertEqual(request.url, BASE.encode("ascii") + b":fetchAvailableModels")
        self.assertEqual(request.body, b'{"project":"proj-1"}')
        body = b'{"models":{"m":{"displayName":"M","maxTokens":10,"maxOutputTokens":20,"quotaInfo":{}},"n":{}},"x":1}'
        expected = [Model("m", "M", input_tokens=10, output_tokens=20), Model("n")]
        self.assertEqual(upstream.listed(body), (expected, ""))
