"""Which credential owns a resource, and which of them a request names."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import Credential
from gateway.routing.affinity import Affinity, resources

A, B = (Credential(name, "up", "aistudio", f"up/{name}") for name in "AB")


def file(uri: object, outer: str = "fileData", inner: str = "fileUri") -> dict[str, object]:
    return {"contents": [{"parts": [{"text": "what is it?"}, {outer: {inner: uri, "mimeType": "text/plain"}}]}]}


class ResourcesTests(SynchronousTestCase):
    """What a body names."""

    def test_resources_are_found_where_the_api_has_them(self) -> None:
        """Caches and files, in both spellings, one level down in countTokens' other form, each once."""
        google = "https://generativelanguage.googleapis.com/v1beta/files/abc-1"
        table: list[tuple[object, tuple[str, ...]]] = [
            ({"cachedContent": "cachedContents/c_1"}, ("cachedContents/c_1",)),
            ({"cached_content": "cachedContents/c-2"}, ("cachedContents/c-2",)),
            ({"generateContentRequest": {"cachedContent": "cachedContents/n"}}, ("cachedContents/n",)),
            (file(google), ("files/abc-1",)),
            (file(google, "file_data", "file_uri"), ("files/abc-1",)),
            (file("http://127.0.0.1:8045/v1/files/x"), ("files/x",)),
            ({**file(google), "cachedContent": "cachedContents/c"}, ("cachedContents/c", "files/abc-1")),
            ({"contents": [*file(google)["contents"], *file(google)["contents"]]}, ("files/abc-1",)),  # type: ignore[misc]
        ]
        for body, names in table:
            self.assertEqual(resources(json.dumps(body).encode()), names, body)

    def test_what_belongs_to_nobody_here_names_nothing(self) -> None:
        """Other places' URIs, other names, other shapes, broken bodies."""
        odd: list[object] = [
            {"contents": []}, file("gs://bucket/files/x"), file("https://example.test/x"), file(7), file(None),
            file("https://youtube.test/watch?v=files/x"), file("https://[broken/v1beta/files/x"),
            file("https://h/v1beta/files/../x"), {"cachedContent": "projects/p/cachedContents/x"},
            {"cachedContent": None}, {"cachedContent": {}},
            {"contents": [{"parts": [{"text": "cachedContents/x fileUri"}]}]},
        ]  # fmt: skip
        for body in odd:
            self.assertEqual(resources(json.dumps(body).encode()), (), body)
        for text in (b"", b'{"cachedContent": ', b'{"cachedContent": "\xff"}', b'"fileUri"'):
            self.assertEqual(resources(text), (), text)

    @given(st.binary(max_size=60))
    def test_no_body_breaks_it(self, noise: bytes) -> None:
        """Bytes that are no JSON name nothing."""
        self.assertEqual(resources(b'{"cachedContent":' + noise + b"\xff"), ())


class AffinityTests(SynchronousTestCase):
    """Who owns what."""

    BODY = b'{"cachedContent":"cachedContents/c"}'

    def test_owner_is_found_until_it_is_forgotten(self) -> None:
        """Unknown resources have none; the first known one of a request counts."""
        table = Affinity()
        self.assertIsNone(table.owner(self.BODY))
        table.learn("cachedContents/c", A)
        self.assertEqual(table.owner(self.BODY), A)
        self.assertIsNone(table.owner(b'{"cachedContent":"cachedContents/d"}'))
        table.learn("cachedContents/c", B)
        self.assertEqual(table.owner(self.BODY), B)
        table.forget("cachedContents/c")
        table.forget("cachedContents/c")
        self.assertEqual((table.owner(self.BODY), len(table)), (None, 0))

    def test_table_is_bounded(self) -> None:
        """What nobody asked for is forgotten first."""
        table = Affinity(limit=2)
        table.learn("cachedContents/c", A)
        table.learn("files/1", A)
        self.assertEqual(table.owner(self.BODY), A)
        table.learn("files/2", B)
        self.assertEqual((table.owner(self.BODY), len(table)), (A, 2))
        self.assertIsNone(table.owner(json.dumps(file("https://h/v1beta/files/1")).encode()))
