"""Which conversation a request belongs to."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from gateway.routing.session import fingerprint


class FingerprintTests(SynchronousTestCase):
    """Client key and first turn in, a name for the session out."""

    def test_same_conversation_has_the_same_fingerprint(self) -> None:
        """Later turns do not count, so the conversation keeps its name as it grows."""
        self.assertEqual(fingerprint("key-1", None, b"[1]"), fingerprint("key-1", None, b"[1]"))
        self.assertEqual(fingerprint("key-1", b"s", b"[1]"), fingerprint("key-1", b"s", b"[2]"))

    def test_what_makes_another_session(self) -> None:
        """Another user, another beginning, another id, and an id that only looks like a turn."""
        big = b"x" * 65536
        table: list[tuple[str, bytes | None, bytes]] = [
            ("key-1", None, b"[1]"),
            ("key-2", None, b"[1]"),
            ("key-1", None, b"[2]"),
            ("key-1", b"[1]", b""),
            ("key-1", b"s", b"[1]"),
            ("key-2", b"s", b"[1]"),
            ("key-1", None, big + b"1"),
            ("key-1", None, big + b"12"),
            ("", None, b"[1]"),
        ]
        self.assertEqual(len({fingerprint(*row) for row in table}), len(table))

    def test_no_conversation_is_no_session(self) -> None:
        """A request with neither an id nor a turn belongs to none."""
        self.assertEqual(fingerprint("key-1", None, b""), "")
        self.assertEqual(fingerprint("key-1", b"", b""), "")
        self.assertEqual(fingerprint("key-1", b"", b"[1]"), fingerprint("key-1", None, b"[1]"))

    @given(st.text(), st.binary(min_size=1))
    @settings(deadline=None)
    def test_fingerprint_gives_nothing_away(self, key_id: str, text: bytes) -> None:
        """It is 32 hexadecimal digits of a digest, whatever it is made of."""
        self.assertRegex(fingerprint(key_id, None, text), r"\A[0-9a-f]{32}\Z")
