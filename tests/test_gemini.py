"""The Gemini API as a client's language: what the query asks for, and how events are laid out."""

from __future__ import annotations

import json
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import Call, Event, Framing, GatewayError, Usage
from gateway.config.values import DoneMarker
from gateway.dialects import gemini
from gateway.dialects.verbs import UNSERVED_COLLECTIONS, VERBS
from gateway.sse import DONE, Decoder
from gateway.upstreams.kinds import kinds_with

AUTO, NEVER, ALWAYS = DoneMarker.AUTO, DoneMarker.NEVER, DoneMarker.ALWAYS
STREAM = "streamGenerateContent"


def call(framing: Framing, forwards_done: bool = False) -> Call:
    return Call("id", STREAM, "m", "m", b"{}", "", framing, forwards_done)


def streamed(framing: Framing, payloads: Sequence[bytes], forwards_done: bool = False) -> bytes:
    """Return the whole answer, the events given one by one."""
    encoder = gemini.StreamEncoder(call(framing, forwards_done))
    return b"".join(encoder.encode([Event(payload)]) for payload in payloads) + encoder.end()


def turn(body: bytes) -> bytes:
    return gemini.first_user_turn(gemini.parse_body(body))


class FramingTests(SynchronousTestCase):
    """The query decides."""

    def test_query_decides_how_a_stream_is_laid_out(self) -> None:
        """SSE for ``alt=sse`` and for none, an array for ``alt=json``; ``[DONE]`` on the bare form alone."""
        table: list[tuple[dict[bytes, list[bytes]], DoneMarker, tuple[Framing, bool]]] = [
            ({}, AUTO, (Framing.SSE, True)),
            ({}, NEVER, (Framing.SSE, False)),
            ({}, ALWAYS, (Framing.SSE, True)),
            ({b"alt": [b""]}, AUTO, (Framing.SSE, True)),
            ({b"key": [b"k"]}, AUTO, (Framing.SSE, True)),
            ({b"alt": [b"sse"]}, AUTO, (Framing.SSE, False)),
            ({b"alt": [b"SSE"]}, AUTO, (Framing.SSE, False)),
            ({b"$alt": [b"sse"]}, AUTO, (Framing.SSE, False)),
            ({b"alt": [b"sse"]}, NEVER, (Framing.SSE, False)),
            ({b"alt": [b"sse"]}, ALWAYS, (Framing.SSE, True)),
            ({b"alt": [b"json"]}, AUTO, (Framing.ARRAY, False)),
            ({b"alt": [b"json"]}, ALWAYS, (Framing.ARRAY, False)),
            ({b"$alt": [b"json;enum-encoding=int"]}, AUTO, (Framing.ARRAY, False)),
            ({b"$alt": [b"json"]}, AUTO, (Framing.ARRAY, False)),
            ({b"alt": [b"json;enum-encoding=int"]}, AUTO, (Framing.ARRAY, False)),
            ({b"alt": [b"json", b"sse"]}, AUTO, (Framing.SSE, False)),
        ]
        for query, done, expected in table:
            self.assertEqual(gemini.framing(STREAM, query, done), expected, f"{query} {done}")

    def test_answer_in_one_piece_has_no_framing(self) -> None:
        """Other verbs answer with one object whatever ``alt`` says."""
        for verb, entry in VERBS.items():
            for query in ({}, {b"alt": [b"sse"]}, {b"$alt": [b"json;enum-encoding=int"]}):
                if not entry.streams:
                    self.assertEqual(gemini.framing(verb, query, ALWAYS), (Framing.UNARY, False), verb)

    def test_another_alt_is_refused(self) -> None:
        """What the gateway cannot answer with is the client's mistake, said in words."""
        for verb in (STREAM, "generateContent"):
            for query in ({b"alt": [b"media"]}, {b"$alt": [b"proto"]}, {b"alt": [b"\xff"]}):
                error = self.assertRaises(GatewayError, gemini.framing, verb, query, AUTO)
                self.assertEqual((error.code, error.reason), (400, "ALT_UNKNOWN"), query)


class EncoderTests(SynchronousTestCase):
    """Events out."""

    def test_sse_is_data_lines_and_blank_lines_alone(self) -> None:
        """Every event, the last included: ``data: ``, one line, a blank line."""
        self.assertEqual(
            streamed(Framing.SSE, [b'{"a":1}', b'{"b":\r\n2}']), b'data: {"a":1}\n\ndata: {"b":2}\n\n'
        )
        self.assertEqual(streamed(Framing.SSE, []), b"")

    def test_done_is_forwarded_or_taken_out_and_never_made(self) -> None:
        """``[DONE]`` reaches only those who do not fail on it."""
        payloads = [b'{"a":1}', DONE]
        self.assertEqual(streamed(Framing.SSE, payloads, True), b'data: {"a":1}\n\ndata: [DONE]\n\n')
        self.assertEqual(streamed(Framing.SSE, payloads), b'data: {"a":1}\n\n')
        self.assertEqual(streamed(Framing.SSE, payloads[:1], True), b'data: {"a":1}\n\n')
        self.assertEqual(streamed(Framing.ARRAY, [DONE, *payloads, DONE]), b'[{"a":1}]')

    def test_array_begins_and_ends_with_its_brackets(self) -> None:
        """First byte ``[``, last byte ``]``: Google's own client fails on a newline after it."""
        table: list[tuple[list[bytes], list[object]]] = [
            ([], []),
            ([b'{"a":1}'], [{"a": 1}]),
            ([b'{"a":1}', b'{"b":\n2}', b"{}"], [{"a": 1}, {"b": 2}, {}]),
        ]
        for payloads, document in table:
            text = streamed(Framing.ARRAY, payloads)
            self.assertEqual((text[:1], text[-1:]), (b"[", b"]"))
            self.assertEqual(json.loads(text), document)
        self.assertEqual(streamed(Framing.ARRAY, []), b"[]")

    def test_each_element_is_whole_when_it_is_written(self) -> None:
        """An array is flushed element by element: nothing of one waits for the next."""
        encoder = gemini.StreamEncoder(call(Framing.ARRAY))
        self.assertEqual(encoder.encode([]), b"")
        self.assertEqual(encoder.encode([Event(b'{"a":1}')]), b'[{"a":1}')
        self.assertEqual(encoder.encode([Event(b'{"b":2}'), Event(b'{"c":3}')]), b',\r\n{"b":2},\r\n{"c":3}')
        self.assertEqual(encoder.end(), b"]")

    def test_events_together_are_the_same_as_one_by_one(self) -> None:
        """How upstream's reads fall does not show."""
        payloads = [b'{"a":1}', DONE, b'{"b":2}', b"{}"]
        for framing in (Framing.SSE, Framing.ARRAY):
            for forwards in (False, True):
                encoder = gemini.StreamEncoder(call(framing, forwards))
                together = encoder.encode([Event(payload) for payload in payloads]) + encoder.end()
                self.assertEqual(together, streamed(framing, payloads, forwards), f"{framing} {forwards}")

    def test_what_a_backend_sent_arrives_as_it_was(self) -> None:
        """Decoder and encoder between them change no byte of an event on one line."""
        text = '{"t":"é😀\\u00e9","n":1e400, "s" : [ ] }'.encode()
        events = Decoder(1000).feed(b"data:" + text + b"\r\n\r\n")
        self.assertEqual(streamed(Framing.SSE, events), b"data: " + text + b"\n\n")
        self.assertEqual(streamed(Framing.ARRAY, events), b"[" + text + b"]")

    def test_broken_stream_ends_with_an_error_event_except_in_an_array(self) -> None:
        """C7: a ``data:`` line would corrupt an array; there the dropped connection says it alone."""
        body = b'{"error":{"code":502}}'
        for framing, said in ((Framing.SSE, b"data: " + body + b"\n\n"), (Framing.ARRAY, b"")):
            self.assertEqual(gemini.StreamEncoder(call(framing)).failure(body), said, framing)

    def test_content_type_follows_the_framing(self) -> None:
        """An event stream is called one, an array is JSON."""
        self.assertEqual(gemini.StreamEncoder(call(Framing.SSE)).content_type, b"text/event-stream")
        self.assertEqual(
            gemini.StreamEncoder(call(Framing.ARRAY)).content_type, b"application/json; charset=UTF-8"
        )


class FirstUserTurnTests(SynchronousTestCase):
    """What a session is known by."""

    def test_first_user_turn_is_found(self) -> None:
        """A turn without a role is a user's; a count's conversation is one level down."""
        user = b'{"role":"user","parts":[ {"text":"hi"} ]}'
        table = [
            (b'{"contents":[' + user + b"]}", b'[ {"text":"hi"} ]'),
            (b'{"contents":[{"role":"model","parts":[1]},' + user + b",{}]}", b'[ {"text":"hi"} ]'),
            (b'{"contents":[{"parts":[2]},' + user + b"]}", b"[2]"),
            (b'{"contents":[{"role":null,"parts":[2]},' + user + b"]}", b"[2]"),
            (b'{"contents":[{"role":"","parts":[2]},' + user + b"]}", b"[2]"),
            (b'{"contents":[ { "role" : "user" , "parts":[3] } ]}', b"[3]"),
            (b'{"generateContentRequest":{"contents":[' + user + b"]}}", b'[ {"text":"hi"} ]'),
            (b'{"generate_content_request":{"contents":[' + user + b"]}}", b'[ {"text":"hi"} ]'),
            (b'{"contents":[{"role":"model","parts":[1]}]}', b""),
            (b'{"contents":[{"role":"user"}]}', b""),
            (b'{"contents":[' + user + b",1]}", b'[ {"text":"hi"} ]'),
            (b'{"contents":[1,' + user + b"]}", b""),
            (b'{"contents":[]}', b""),
            (b'{"contents":"hi"}', b""),
            (b'{"contents":[1]}', b""),
            (b'{"generateContentRequest":1}', b""),
            (b'{"generateContentRequest":{}}', b""),
            (b"{}", b""),
        ]
        for body, parts in table:
            self.assertEqual(turn(body), parts, repr(body))


class BodyTests(SynchronousTestCase):
    """Requests in."""

    def test_bad_body_is_the_clients_mistake(self) -> None:
        """L10: whatever is no JSON object is 400 with what to do, and never a fault of ours."""
        bodies = [
            b"", b"[]", b"null", b'{"a":NaN}', b"\xef\xbb\xbf{}", b'{"a":1', b'{"a":"\\ud800"}', b'{"\xff":1}',
            b"[" * 100_000, b'{"a":' * 100_000,
        ]  # fmt: skip
        for body in bodies:
            error = self.assertRaises(GatewayError, gemini.parse_body, body)
            self.assertEqual((error.code, error.status), (400, "INVALID_ARGUMENT"), repr(body[:40]))
            self.assertEqual(error.reason, "BODY_NOT_JSON", repr(body[:40]))
            self.assertIn("Send the object", error.message, repr(body[:40]))

    def test_server_timeout_is_read_where_it_makes_sense(self) -> None:
        """Seconds above zero and below a day; all else is as if it were not there."""
        table: list[tuple[bytes | None, float | None]] = [
            (None, None), (b"1200", 1200.0), (b"0.5", 0.5), (b" 7 ", 7.0), (b"0", None), (b"-1", None), (b"", None),
            (b"nan", None), (b"inf", None), (b"1e9", None), (b"86400", None), (b"soon", None), (b"\xff", None),
        ]  # fmt: skip
        for value, seconds in table:
            self.assertEqual(gemini.server_timeout(value), seconds, repr(value))


class SummaryTests(SynchronousTestCase):
    """What an answer says of itself, for the log."""

    def test_usage_and_finish_reason_are_read(self) -> None:
        """C11: from whatever shape proto-JSON allows; what cannot be read is left out and never raises."""
        table: list[tuple[bytes, tuple[Usage | None, str]]] = [
            (
                b'{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":1,'
                b'"candidatesTokenCount":2,"thoughtsTokenCount":3,"cachedContentTokenCount":4,"totalTokenCount":6}}',
                (Usage(1, 2, 3, 4), "STOP"),
            ),
            (b'{"usageMetadata":{"totalTokenCount":"7"}}', (Usage(), "")),
            (b'{"candidates":null,"usageMetadata":{"totalTokenCount":7}}', (Usage(), "")),
            (b'{"usageMetadata":{"promptTokenCount":null,"totalTokenCount":7}}', (Usage(), "")),
            (b'{"candidates":[{"finishReason":null}],"usageMetadata":null}', (None, "")),
            (b'{"candidates":[{"finishReason":1}]}', (None, "1")),
            (b'{"candidates":[{},{"finishReason":"STOP"}]}', (None, "")),
            (b'{"candidates":[{"content":"\xff","finishReason":"STOP"}]}', (None, "STOP")),
            (b'{"candidates":[{"finishReason":"\xff"}]}', (None, "")),
            (b'{"usageMetadata":{"promptTokenCount":1e400}}', (None, "")),
            (b"{}", (None, "")),
            (b"[]", (None, "")),
            (b"", (None, "")),
            (DONE, (None, "")),
            (b'{"x":' * 100_000, (None, "")),
        ]
        for data, found in table:
            self.assertEqual(gemini.summary(data), found, repr(data[:80]))


class VerbTests(SynchronousTestCase):
    """The table of methods."""

    def test_every_served_method_has_a_kind_that_serves_it(self) -> None:
        """A method that no kind has would be answered 501 with nobody to name."""
        for name, verb in VERBS.items():
            self.assertIs(bool(kinds_with(name)), verb.served, name)

    def test_only_conversations_stay_on_a_credential(self) -> None:
        """Embeddings and pictures are spread over all of them."""
        self.assertEqual(
            {name for name, verb in VERBS.items() if verb.session}, {"generateContent", STREAM, "countTokens"}
        )
        self.assertEqual({name for name, verb in VERBS.items() if verb.streams}, {STREAM})

    def test_models_are_served(self) -> None:
        """The collection that is served is not among those that are not."""
        self.assertNotIn("models", UNSERVED_COLLECTIONS)
