"""Request paths in all the spellings that clients use, and in those that nobody should."""

from __future__ import annotations

from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.dialects.paths import BadPath, normalise
from gateway.modelid import is_model_id

CALL = "/v1beta/models/gemini-2.5-flash:generateContent"

SPELLINGS: list[tuple[str, str]] = [
    (CALL, CALL),
    ("//v1beta/models/gemini-2.5-flash:generateContent", CALL),
    ("/v1beta//models///gemini-2.5-flash:generateContent", CALL),
    ("/v1beta/models/gemini-2.5-flash:generateContent/", CALL),
    ("/v1beta/models/gemini-2.5-flash:generateContent//", CALL),
    ("/v1beta/models/gemini-2.5-flash%3AgenerateContent", CALL),
    ("/v1beta/models/gemini-2.5-flash%3agenerateContent", CALL),
    ("/v1beta/models%2Fgemini-2.5-flash%3AgenerateContent", CALL),
    ("/v1beta/models/models/gemini-2.5-flash:generateContent", CALL),
    ("/v1beta/models/models/models/gemini-2.5-flash:generateContent", CALL),
    ("/v1beta/models/models%2Fgemini-2.5-flash:generateContent", CALL),
    ("/v1beta/v1beta/models/gemini-2.5-flash:generateContent", CALL),
    ("/v1/v1beta/models/gemini-2.5-flash:generateContent", CALL),
    ("/v1beta//v1beta/models/models/gemini-2.5-flash%3AgenerateContent/", CALL),
    ("/models/gemini-2.5-flash:generateContent", CALL),
    ("/models/models/gemini-2.5-flash:generateContent", CALL),
    ("//models/gemini-2.5-flash:generateContent", CALL),
    ("/v1beta1/publishers/google/models/gemini-2.5-flash:generateContent", CALL),
    ("/v1/publishers/google/models/gemini-2.5-flash:generateContent", CALL),
    ("/v1beta/v1beta1/publishers/google/models/gemini-2.5-flash:generateContent", CALL),
    ("/v1beta/publishers/google/models/gemini-2.5-flash:generateContent", CALL),
    ("//v1beta1/publishers/google/models/models/gemini-2.5-flash:generateContent", CALL),
    ("/v1beta1/publishers/google/v1/models/m:generateContent", "/v1/models/m:generateContent"),
    ("/v1/publishers/google/publishers/google/models/gemini-2.5-flash:generateContent", CALL),
    ("/v1/models/m:streamGenerateContent", "/v1/models/m:streamGenerateContent"),
    ("/v1alpha/models/m:generateContent", "/v1alpha/models/m:generateContent"),
    ("/v1beta/v1/models/m:generateContent", "/v1/models/m:generateContent"),
    ("/v1beta/models/org/name-7b:generateContent", "/v1beta/models/org/name-7b:generateContent"),
    ("/v1beta/models/org%2Fname-7b:generateContent", "/v1beta/models/org/name-7b:generateContent"),
    ("/v1beta/models/a@b+c~d:generateContent", "/v1beta/models/a@b+c~d:generateContent"),
    ("/v1beta/models/a%20b:generateContent", "/v1beta/models/a b:generateContent"),
    ("/v1beta/models/m/countTokens", "/v1beta/models/m:countTokens"),
    ("/v1beta/models/m/countTokens/", "/v1beta/models/m:countTokens"),
    ("/v1beta/models/org/m/countTokens", "/v1beta/models/org/m:countTokens"),
    ("/models/models/m/countTokens", "/v1beta/models/m:countTokens"),
    ("/v1beta/models/countTokens", "/v1beta/models/countTokens"),
    ("/v1beta/models", "/v1beta/models"),
    ("/v1beta/models/", "/v1beta/models"),
    ("/models", "/v1beta/models"),
    ("/v1beta/models/models", "/v1beta/models"),
    ("/v1beta/models/m", "/v1beta/models/m"),
    ("/v1beta/files/abc", "/v1beta/files/abc"),
    ("/v1beta/tunedModels/t:generateContent", "/v1beta/tunedModels/t:generateContent"),
    ("/upload/v1beta/files", "/upload/v1beta/files"),
    ("//ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
     "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"),
    ("/healthz", "/healthz"),
    ("//healthz/", "/healthz"),
    ("/", "/"),
    ("", "/"),
    ("///", "/"),
    ("/gw/v1beta/models", "/gw/v1beta/models"),
    ("/v1beta", "/v1beta"),
    ("/v1beta/v1beta", "/v1beta"),
    ("/v1beta1/models/m:generateContent", "/v1beta1/models/m:generateContent"),
    ("/V1BETA/models/m", "/V1BETA/models/m"),
]  # fmt: skip

BAD: list[str] = [
    "/v1beta/../admin", "/..", "/.", "/v1beta/./models", "/v1beta/models/%2e%2e/m:generateContent",
    "/v1beta/models/%2E%2E%2Fm:generateContent", "/v1beta/models/.%2e/m", "/v1beta%2F..%2Fhealthz",
    "/v1beta/models/m%00:generateContent", "/%00", "/v1beta/models/m%0d%0aX-Evil:%201", "/v1beta/models/m%0a",
    "/v1beta/models/%252e%252e/m", "/v1beta/models/m%252Fx", "/v1beta/models/m%", "/v1beta/models/m%zz",
    "/v1beta/models/m\\x", "/v1beta/models/m%5c..%5cx", "/v1beta/models/m?x", "/v1beta/models/m%3Fkey=1",
    "/v1beta/models/m#x", "/v1beta/models/m%23x", "/v1beta/models/m;x=1", "/v1beta/models/m%3Bx", "/v1beta/models/{m}",
    "/v1beta/models/m*", "/v1beta/models/m&a=b", "/v1beta/models/m|x", "/v1beta/models/<m>", "/v1beta/models/m%22",
    "/v1beta/models/%C3%A9", "/v1beta/models/%ff", "/v1beta/models/m\t", "/v1beta/models/m%7f", "*",
]  # fmt: skip

IDS: list[tuple[str, bool]] = [
    ("gemini-2.5-flash", True),
    ("m", True),
    ("0", True),
    ("org/name-7b", True),
    ("a/b/c/d", True),
    ("a@001", True),
    ("a_b.c+d", True),
    ("M" * 256, True),
    ("M" * 257, False),
    ("", False),
    ("/a", False),
    ("a/", False),
    ("a//b", False),
    ("..", False),
    ("a/..", False),
    ("a/../b", False),
    (".a", False),
    ("-a", False),
    ("@a", False),
    ("a/@b", False),
    ("a b", False),
    ("a:b", False),
    ("a?b", False),
    ("a#b", False),
    ("a%2fb", False),
    ("a\\b", False),
    ("a\n", False),
    ("a\x00", False),
    ("é", False),
    ("~a", False),
    ("a&b", False),
]


class NormaliseTests(SynchronousTestCase):
    """Any path in, one spelling out."""

    def test_every_tolerated_spelling_becomes_the_plain_one(self) -> None:
        """L11: doubled slashes, versions and ``models/``, escapes, Vertex's prefix, no version, a slash for a colon."""
        for path, plain in SPELLINGS:
            self.assertEqual(normalise(path.encode("ascii")), plain, path)

    def test_plain_form_is_plain_for_good(self) -> None:
        """Normalising twice changes nothing more, so that no second look sees another route."""
        for path, plain in SPELLINGS:
            self.assertEqual(normalise(plain.encode("ascii")), plain, path)

    def test_tricks_are_refused(self) -> None:
        """L11: climbing, NUL, line ends, double escapes, queries, fragments, backslashes, characters beyond ASCII."""
        for path in BAD:
            with self.assertRaises(BadPath, msg=path):
                self.fail(f"{path!r} became {normalise(path.encode('latin-1'))!r}")

    def test_raw_bytes_beyond_ascii_are_refused(self) -> None:
        """L11: what is not escaped at all."""
        for byte in (*range(0x20), *range(0x7F, 0x100)):
            self.assertRaises(BadPath, normalise, b"/v1beta/models/m" + bytes([byte]))

    @given(st.binary(max_size=60) | st.text("/.%2eEfF:modelsv1bta", max_size=60).map(str.encode))
    @settings(deadline=None, max_examples=500)
    def test_what_passes_has_no_trick_left(self, path: bytes) -> None:
        """L11: whatever comes in, what goes out is a plain absolute path."""
        try:
            plain = normalise(path)
        except BadPath:
            return
        self.assertTrue(plain.startswith("/"), plain)
        self.assertNotIn("//", plain)
        self.assertNotIn("%", plain)
        self.assertFalse({"..", "."} & set(plain.split("/")), plain)
        self.assertTrue(plain.isascii() and plain.isprintable(), plain)
        self.assertEqual(normalise(quote(plain).encode("ascii")), plain)


class ModelIdTests(SynchronousTestCase):
    """What may stand in an upstream's URL."""

    def test_only_plain_ids_pass(self) -> None:
        """L11: an id may hold slashes and nothing that would bend a URL."""
        for text, good in IDS:
            self.assertIs(is_model_id(text), good, repr(text))

    @given(st.text(max_size=30))
    @settings(deadline=None)
    def test_an_id_stays_itself_in_a_url(self, text: str) -> None:
        """L11: quoting has nothing to do for an id, so that no upstream reads another one."""
        if is_model_id(text):
            self.assertEqual(quote(text, safe="/@+"), text)
