"""A request's head: what can be read in one way only, and what is refused for its form."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import GatewayError
from gateway.edge.head import FIELDS_MOST, RequestHead, hopeless, read

LINE = b"POST /v1beta/models/m:generateContent HTTP/1.1\r\n"
HOST = b"Host: localhost:8045\r\n"


def head(*fields: bytes, line: bytes = LINE, host: bytes = HOST) -> bytes:
    return line + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def refused(raw: bytes) -> tuple[int, str]:
    """Return the code and reason of a refusal, whose other parts are as they should be."""
    try:
        found = read(raw)
    except GatewayError as caught:
        error = caught
    else:
        raise AssertionError(f"{raw!r} was taken for {found}")
    assert error.message.endswith("."), error.message
    assert error.status == ("UNIMPLEMENTED" if error.code > 500 else "INVALID_ARGUMENT"), error.status
    return error.code, error.reason


VALUE = st.binary(max_size=9).filter(lambda value: b"\r\n" not in value)
MALFORMED = (400, "HTTP_MALFORMED")
Rows = list[tuple[str, bytes, tuple[int, str]]]


class RefusalCase(SynchronousTestCase):
    def check(self, rows: Rows) -> None:
        for name, raw, expected in rows:
            with self.subTest(name=name):
                self.assertEqual(refused(raw), expected)


class ReadingTests(SynchronousTestCase):
    """What is taken."""

    def test_a_head_says_what_it_says(self) -> None:
        """Names in lower case, values without the white space around them and in their order."""
        raw = head(b"X-A:1", b"x-b: \t two words \t", b"X-Empty:", b"x-a: \xc3\xa9", b"Content-Length: 0012")
        named = {b"host": [b"localhost:8045"], b"x-a": [b"1", b"\xc3\xa9"], b"x-b": [b"two words"], b"x-empty": [b""],
                 b"content-length": [b"0012"]}  # fmt: skip
        self.assertEqual(
            read(raw),
            RequestHead(b"POST", b"/v1beta/models/m:generateContent", b"HTTP/1.1", named, 12, True, False),
        )

    def test_every_character_of_a_token_may_stand_in_a_name(self) -> None:
        """RFC 9110 section 5.6.2; a single underscore too, where the name is nobody's alias."""
        raw = head(b"!#$%&'*+-.^_`|~09AZaz: x")
        self.assertEqual(read(raw).named[b"!#$%&'*+-.^_`|~09azaz"], [b"x"])

    def test_a_body_is_announced_in_three_ways(self) -> None:
        """RFC 9112 section 6.3: not at all, by a length, in chunks."""
        for field, length in (
            ((), 0),
            ((b"Content-Length: 0",), 0),
            ((b"Content-Length: 999999999999999999",), 999999999999999999),
            ((b"Transfer-Encoding: chunked",), None),
            ((b"TRANSFER-encoding: \tCHUNKED ",), None),
        ):
            with self.subTest(field=field):
                self.assertEqual(read(head(*field)).length, length)

    def test_a_connection_persists_by_the_rules(self) -> None:
        """RFC 9112 section 9.3: the options are a list, in any case, over several fields."""
        old = LINE.replace(b"1.1", b"1.0")
        for line, fields, persistent in (
            (LINE, (), True),
            (LINE, (b"Connection: keep-alive",), True),
            (LINE, (b"Connection: Upgrade, HTTP2-Settings",), True),
            (LINE, (b"Connection: Close",), False),
            (LINE, (b"Connection: keep-alive, close",), False),
            (LINE, (b"Connection: keep-alive", b"connection: te,close"), False),
            (old, (), False),
            (old, (b"Connection: Keep-Alive",), True),
            (old, (b"Connection: keep-alive, close",), False),
        ):
            with self.subTest(line=line, fields=fields):
                self.assertIs(read(head(*fields, line=line)).persistent, persistent)

    def test_an_expectation_counts_where_there_is_a_body(self) -> None:
        """RFC 9110 section 10.1.1: and not with HTTP/1.0."""
        for line, fields, expects in (
            (LINE, (b"Expect: 100-continue", b"Content-Length: 1"), True),
            (LINE, (b"expect: 100-Continue", b"Transfer-Encoding: chunked"), True),
            (LINE, (b"Expect: 100-continue",), False),
            (LINE.replace(b"1.1", b"1.0"), (b"Expect: 100-continue", b"Content-Length: 1"), False),
        ):
            with self.subTest(line=line, fields=fields):
                self.assertIs(read(head(*fields, line=line)).expects, expects)

    def test_targets_are_paths_or_urls(self) -> None:
        """L11: RFC 9112 sections 3.2.1 and 3.2.2."""
        for target in (b"/", b"/a?b=c#d", b'/%00"<>', b"//x", b"http://h/", b"HTTPS://[::1]:8080/x?y", b"http://h:1"):
            with self.subTest(target=target):
                self.assertEqual(read(head(line=b"GET %s HTTP/1.1\r\n" % target)).target, target)

    def test_http_1_0_does_without_a_host(self) -> None:
        """RFC 9112 section 3.2 asks HTTP/1.1 for it."""
        self.assertEqual(read(head(line=b"GET / HTTP/1.0\r\n", host=b"")).version, b"HTTP/1.0")

    def test_every_host_that_a_client_may_write_is_taken(self) -> None:
        """Whether it is one of ours is not a question of form."""
        for host in (b"localhost", b"LOCALHOST:1", b"127.0.0.1:65535", b"[::1]", b"[::ffff:1.2.3.4]:8045", b"a_b.c-d."):
            with self.subTest(host=host):
                self.assertEqual(read(head(host=b"Host: %s\r\n" % host)).named[b"host"], [host])

    @given(st.lists(st.tuples(st.from_regex(r"\A[a-z][a-z0-9-]{0,9}\Z"), VALUE), max_size=9))
    def test_what_is_taken_is_what_was_sent(self, fields: list[tuple[str, bytes]]) -> None:
        """L7: no field is ever made of another's value, whatever bytes that has."""
        raw = head(*(b"x-%s: %s" % (name.encode(), value) for name, value in fields))
        sent = [(b"x-" + name.encode(), value.strip(b" \t")) for name, value in fields]
        try:
            found = read(raw)
        except GatewayError:
            self.assertTrue(any((byte < 32 and byte != 9) or byte == 127 for _, value in sent for byte in value))
        else:
            named: dict[bytes, list[bytes]] = {}
            for name, value in sent:
                named.setdefault(name, []).append(value)
            self.assertEqual({name: found.named[name] for name in found.named if name != b"host"}, named)


class RequestLineTests(RefusalCase):
    """The first line."""

    def test_a_request_line_is_three_words_and_two_spaces(self) -> None:
        """L7: RFC 9112 section 3."""
        lines = {
            "empty": b"", "one word": b"GET", "no version": b"GET /", "no target": b"GET HTTP/1.1",
            "a tab": b"GET\t/ HTTP/1.1", "two spaces": b"GET  / HTTP/1.1", "a space at the end": b"GET / HTTP/1.1 ",
            "a space in front": b" GET / HTTP/1.1", "a space in the target": b"GET /a b HTTP/1.1",
            "a colon in the method": b"GET: / HTTP/1.1", "a method beyond ASCII": b"GET\xc3\x9f / HTTP/1.1",
            "a NUL": b"GET\x00 / HTTP/1.1", "a NUL in the target": b"GET /\x00 HTTP/1.1",
            "a bare LF": b"GET /\n HTTP/1.1", "a bare CR": b"GET /\r HTTP/1.1", "a second LF": b"\nGET / HTTP/1.1",
            "DEL": b"GET /\x7f HTTP/1.1", "another protocol": b"GET / FTP/1.1", "lower case": b"GET / http/1.1",
            "a long version": b"GET / HTTP/1.10", "a longer version": b"GET / HTTP/01.1", "a sign": b"GET / HTTP/+1.1",
            "no dot": b"GET / HTTP/11", "PROXY protocol": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2",
        }  # fmt: skip
        self.check([(name, head(line=line + b"\r\n"), MALFORMED) for name, line in lines.items()])

    def test_other_versions_are_505(self) -> None:
        """L7: RFC 9110 section 15.6.6; the preface of HTTP/2 too (L15)."""
        expected = (505, "HTTP_VERSION_UNSUPPORTED")
        rows: Rows = [
            (version, head(line=b"GET / HTTP/%s\r\n" % version.encode()), expected)
            for version in ("0.9", "1.2", "1.9", "2.0", "3.0", "9.9")
        ]
        rows.append(("preface", b"PRI * HTTP/2.0\r\n\r\n", expected))
        self.check(rows)

    def test_other_targets_are_400(self) -> None:
        """L11: relative, authority and asterisk forms, other schemes, user information, anything but ASCII."""
        targets = (b"foo/bar", b"*", b"localhost:443", b"?a", b"#", b"ftp://h/", b"http:/h/", b"http://", b"http:///x",
                   b"http://u@h/", b"http://u:p@h/", b"http://h?x", b"http://]h/", b"s://]ufd/:", b"http://h:x/",
                   b"http://h:123456/", b"http://%68/", b"/\xc3\xa9", b"/a\xff")  # fmt: skip
        self.check(
            [(repr(one), head(line=b"GET %s HTTP/1.1\r\n" % one), (400, "TARGET_INVALID")) for one in targets]
        )

    def test_connect_is_501(self) -> None:
        """L15: whatever its target."""
        for target in (b"localhost:443", b"[::1]:443"):
            raw = head(line=b"CONNECT %s HTTP/1.1\r\n" % target)
            self.assertEqual(refused(raw), (501, "METHOD_UNKNOWN"))


class FieldTests(RefusalCase):
    """The lines after it."""

    def test_a_field_is_a_name_a_colon_and_a_value(self) -> None:
        """L7: RFC 9112 section 5, obsolete folding and white space before the colon among it."""
        fields = {
            "no colon": b"X-A", "no name": b": a", "a space before the colon": b"X-A : a",
            "a tab before the colon": b"X-A\t: a", "a space in the name": b"X A: a",
            "a character that no name has": b"X(A): a", "beyond ASCII": b"X-\xc3\x9f: a",
            "a NUL in the name": b"X\x00: a",
            "folded": b"X-A: a\r\n b", "folded with a tab": b"X-A: a\r\n\tb", "an empty line but for a space": b" ",
            "folded at once": b" X-A: a",
            "a bare LF": b"X-A: a\nX-B: b", "a bare CR": b"X-A: a\rX-B: b", "two CR": b"X-A: a\r",
            "a NUL": b"X-A: a\x00b", "a bell": b"X-A: a\x07", "DEL": b"X-A: a\x7f", "escape": b"X-A: \x1b[0m",
            "vertical tab": b"X-A:\x0bchunked", "form feed": b"X-A: \x0c",
        }  # fmt: skip
        self.check([(name, head(field), MALFORMED) for name, field in fields.items()])
        self.check([(name + ", first", head(field, host=b""), MALFORMED) for name, field in fields.items()])

    def test_what_is_wrong_is_said(self) -> None:
        """One sentence for each rule, so that whoever writes a client can mend it."""
        for raw, words in (
            (head(b"X-A: a\r\n b"), "folded"),
            (head(b"X-A : a"), "colon"),
            (head(b"X-A"), "colon"),
            (head(b"X-A: \x00"), "control"),
            (head(b"X(A): a"), "name"),
            (head(line=b"GET /\xff HTTP/1.1\r\n"), "percent-encoded"),
            (head(line=b"GET / x HTTP/1.1\r\n"), "request line"),
        ):
            error = self.assertRaises(GatewayError, read, raw)
            self.assertIn(words, error.message, repr(raw))

    def test_too_many_fields_are_431(self) -> None:
        """L9: a hundred, the host's among them, are taken."""
        fields = [b"X-%d: a" % number for number in range(FIELDS_MOST)]
        self.assertEqual(len(read(head(*fields[1:])).named), FIELDS_MOST)
        self.assertEqual(refused(head(*fields)), (431, "HEAD_TOO_LARGE"))

    def test_what_may_come_once_only_is_refused_twice(self) -> None:
        """L7: also where both say the same."""
        expected = (400, "HEADER_TWICE")
        self.check(
            [
                ("Host", head(HOST[:-2]), expected),
                ("another Host", head(b"HOST: evil.example"), expected),
                ("Content-Length", head(b"Content-Length: 3", b"Content-Length: 3"), expected),
                ("other lengths", head(b"Content-Length: 3", b"content-length: 2"), expected),
                ("Transfer-Encoding", head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), expected),
                ("identity first", head(b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"), expected),
                ("Content-Type", head(b"Content-Type: application/json", b"Content-Type: text/html"), expected),
            ]
        )

    def test_aliases_of_what_frames_a_message_are_refused(self) -> None:
        """L7: with an underscore, or two, in place of the hyphen, whoever is fooled by it."""
        aliases = (b"Content_Length: 5", b"Transfer_Encoding: chunked", b"content_type: x", b"Content_Encoding: gzip",
                   b"Keep_Alive: 1")  # fmt: skip
        self.check([(repr(alias), head(alias), (400, "HEADER_ALIAS")) for alias in aliases])

    def test_a_host_is_well_formed(self) -> None:
        """L7, L14: missing, empty, with user information, with anything that is in no name."""
        self.assertEqual(refused(head(host=b"")), (400, "HOST_MISSING"))
        hosts = (b"", b" ", b"a b", b"u@h", b"u:p@h", b"h:", b"h:x", b"h:123456", b"h:1:2", b"::1", b"[::1",
                 b"[g]", b"[]", b"h/", b"h?", b"h#", b"h\\", b"<h>", b"\xc3\xa9", b"%6c", b"[fe80::1%25eth0]",
                 b"http://h")  # fmt: skip
        rows = [(repr(one), head(host=b"Host: %s\r\n" % one), (400, "HOST_INVALID")) for one in hosts]
        rows += [
            (repr(one) + " 1.0", head(line=b"GET / HTTP/1.0\r\n", host=b"Host: %s\r\n" % one), (400, "HOST_INVALID"))
            for one in hosts
        ]
        self.check(rows)


class FramingTests(RefusalCase):
    """Where the body ends."""

    def test_a_length_is_plain(self) -> None:
        """L7: no sign, list, base, separator nor overflow."""
        values = (b"", b"-1", b"+1", b"-0", b"0x5", b"5h", b"1_0", b"1e1", b"1.0", b"5, 5", b"5,", b"0 1", b"5;",
                  b"five", b"9" * 19, b"9" * 5000, b"\xd9\xa1", b'"5"')  # fmt: skip
        rows = [(repr(one), head(b"Content-Length: " + one), (400, "CONTENT_LENGTH_INVALID")) for one in values]
        self.check(rows)

    def test_length_and_coding_do_not_come_together(self) -> None:
        """L7: in either order, and whatever they say."""
        expected = (400, "FRAMING_AMBIGUOUS")
        chunked, length = b"Transfer-Encoding: chunked", b"Content-Length: 5"
        self.check(
            [
                ("length first", head(length, chunked), expected),
                ("coding first", head(chunked, length), expected),
                ("identity", head(b"Transfer-Encoding: identity", length), expected),
                ("an empty coding", head(b"Transfer-Encoding:", length), expected),
                ("a bad length", head(chunked, b"Content-Length: x"), expected),
                ("HTTP/1.0", head(chunked, line=b"POST / HTTP/1.0\r\n"), expected),
            ]
        )

    def test_chunked_is_the_only_coding(self) -> None:
        """L7: RFC 9112 section 6.1 has 501 for what is well-formed and not decoded here, and 400 for the rest."""
        for coding in (b"gzip, chunked", b"x-gzip,chunked", b"deflate , compress,chunked", b"GZIP, Chunked"):
            raw = head(b"Transfer-Encoding: " + coding)
            self.assertEqual(refused(raw), (501, "TRANSFER_ENCODING_UNKNOWN"), repr(coding))
        for coding in (b"", b"identity", b"identity, chunked", b"gzip", b"chunked, gzip", b"chunked, chunked", b"chunk",
                       b"chunked;q=1", b"chunke d", b"chunked,", b",chunked", b'"chunked"', b"chunked gzip", b"chunky",
                       b"chunked\xa0"):  # fmt: skip
            raw = head(b"Transfer-Encoding: " + coding)
            self.assertEqual(refused(raw), (400, "TRANSFER_ENCODING_UNKNOWN"), repr(coding))

    def test_an_unknown_expectation_is_417(self) -> None:
        """RFC 9110 section 10.1.1."""
        asked = b"Expect: 100-continue"
        for fields in ((b"Expect: 200-ok",), (b"Expect:",), (asked + b", x",), (asked, asked)):
            raw = head(b"Content-Length: 5", *fields)
            self.assertEqual(refused(raw), (417, "EXPECTATION_UNKNOWN"), repr(fields))


class HopelessTests(SynchronousTestCase):
    """What need not be waited for."""

    def test_a_beginning_that_no_end_can_save_is_known(self) -> None:
        """L4, L7: bare line ends, control bytes, TLS on a plain port, a second empty line."""
        for part in (b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r\nHost: a\n\n", b"\x16\x03\x01\x02\x00", b"GET\r/", b"\r\n",
                     b"G\x00", b"\x80\x00"):  # fmt: skip
            self.assertTrue(hopeless(part, 0), repr(part))
            error = self.assertRaises(GatewayError, read, part + b"\r\n\r\n")
            self.assertEqual(error.code, 400)

    def test_a_good_head_is_hopeless_at_no_point(self) -> None:
        """However few bytes come at a time, and wherever the search goes on."""
        raw = head(b"X-A: a\tb", b"Content-Length: 5")
        for end in range(len(raw) - 3):
            for start in {0, max(0, end - 1), max(0, end - 2)}:
                self.assertFalse(hopeless(raw[:end], start), repr(raw[:end]))

    def test_a_bad_byte_is_found_where_the_search_went_on(self) -> None:
        """A line end cut in two is none that stands alone, nor hides one that does."""
        self.assertTrue(hopeless(b"GET / HTTP/1.1\rx", 15))
        self.assertTrue(hopeless(b"GET / HTTP/1.1\n", 14))
        self.assertFalse(hopeless(b"GET / HTTP/1.1\r\n", 15))
