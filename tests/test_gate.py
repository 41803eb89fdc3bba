"""A request's head judged before its body is taken, and who is calling."""

from __future__ import annotations

import hashlib

import attrs
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import GatewayError
from gateway.edge.gate import Admitted, Gate, Head
from gateway.edge.keys import ANONYMOUS, KeyRing, carried


def digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


RING = KeyRing((digest(b"good"), digest(b"other")))
GOOD = f"key-{digest(b'good').hex()[:12]}"
GATE = Gate(RING, authenticates=True, open_health=True, body_limit=1000, target_limit=100)
OPEN = attrs.evolve(GATE, authenticates=False)
HEAD = Head(b"POST", b"/v1beta/models/m:generateContent", 40, [b"good"], 10)
KEYLESS = replace(HEAD, keys=[])


def refusal(gate: Gate, head: Head) -> GatewayError:
    try:
        admitted = gate.judge(head)
    except GatewayError as error:
        return error
    raise AssertionError(f"{head} was admitted as {admitted}")


class AdmissionTests(SynchronousTestCase):
    """Who gets in."""

    def test_good_head_is_admitted_with_path_and_identity(self) -> None:
        """The path in plain form, the key by a digest of itself."""
        path = "/v1beta/models/m:generateContent"
        table = [
            (GATE, HEAD, Admitted(path, GOOD)),
            (GATE, replace(HEAD, path=b"//models/m%3AgenerateContent/"), Admitted(path, GOOD)),
            (OPEN, HEAD, Admitted(path, ANONYMOUS)),
            (OPEN, KEYLESS, Admitted(path, ANONYMOUS)),
            (GATE, replace(HEAD, content_length=None), Admitted(path, GOOD)),
            (GATE, replace(HEAD, content_length=1000, target_bytes=100), Admitted(path, GOOD)),
        ]
        for gate, head, admitted in table:
            self.assertEqual(gate.judge(head), admitted, f"{head}")

    def test_health_is_open_where_the_operator_lets_it(self) -> None:
        """In all its spellings, and nothing else with it."""
        strict = attrs.evolve(GATE, open_health=False)
        for path in (b"/healthz", b"//healthz/", b"/%68ealthz"):
            head = replace(KEYLESS, method=b"GET", path=path)
            self.assertEqual(GATE.judge(head), Admitted("/healthz", ANONYMOUS, counts=False), repr(path))
            self.assertEqual(refusal(strict, head).code, 401, repr(path))
        others = (b"/healthz/x", b"/v1beta/healthz", b"/healthz/../v1beta/models", b"/HEALTHZ", b"/healthz%00", b"/")
        for path in others:
            self.assertEqual(refusal(GATE, replace(KEYLESS, path=path)).code, 401, repr(path))


class RefusalTests(SynchronousTestCase):
    """Who does not."""

    def test_every_refusal_has_its_code_and_reason(self) -> None:
        """L8, L9, L11, L12: in Google's words, each with what to do."""
        table = [
            (replace(HEAD, target_bytes=101), 414, "INVALID_ARGUMENT", "TARGET_TOO_LONG"),
            (replace(HEAD, method=b"BREW"), 501, "UNIMPLEMENTED", "METHOD_UNKNOWN"),
            (replace(HEAD, method=b"get"), 501, "UNIMPLEMENTED", "METHOD_UNKNOWN"),
            (replace(HEAD, method=b"CONNECT"), 501, "UNIMPLEMENTED", "METHOD_UNKNOWN"),
            (replace(HEAD, method=b"TRACE"), 501, "UNIMPLEMENTED", "METHOD_UNKNOWN"),
            (replace(HEAD, method=b""), 501, "UNIMPLEMENTED", "METHOD_UNKNOWN"),
            (KEYLESS, 401, "UNAUTHENTICATED", "CLIENT_KEY_INVALID"),
            (replace(HEAD, keys=[b"wrong"]), 401, "UNAUTHENTICATED", "CLIENT_KEY_INVALID"),
            (replace(HEAD, path=b"/v1beta/../x"), 400, "INVALID_ARGUMENT", "PATH_INVALID"),
            (replace(HEAD, path=b"/%00"), 400, "INVALID_ARGUMENT", "PATH_INVALID"),
            (replace(HEAD, content_length=1001), 413, "INVALID_ARGUMENT", "BODY_TOO_LARGE"),
        ]
        for head, code, status, reason in table:
            error = refusal(GATE, head)
            self.assertEqual((error.code, error.status, error.reason), (code, status, reason), f"{head}")
            self.assertTrue(error.message.endswith("."), error.message)

    def test_without_a_key_nothing_is_learned_about_the_rest(self) -> None:
        """L8, L12: the key comes before path and size, so that a stranger's giant body is 401 and not 413."""
        for head in (
            replace(KEYLESS, content_length=10**9),
            replace(KEYLESS, path=b"/../x"),
            replace(KEYLESS, path=b"/no/such/route"),
        ):
            self.assertEqual(refusal(GATE, head).reason, "CLIENT_KEY_INVALID", f"{head}")

    def test_401_says_how_to_authenticate(self) -> None:
        """L12: the same answer whatever was wrong with the key, with a challenge."""
        said = set()
        for keys in ([], [b"wrong"], [b"wrong", b"worse"], [b"x" * 1_000_000], ["schlüssel".encode()], [b"\xff\x00"]):
            error = refusal(GATE, replace(HEAD, keys=keys))
            self.assertEqual(error.headers, ((b"www-authenticate", b'Bearer realm="antigravity-gateway"'),))
            said.add(error.message)
        self.assertEqual(len(said), 1)

    def test_authentication_without_any_key_refuses_all(self) -> None:
        """As the tutorial has it: on and empty is 401 for everybody."""
        gate = attrs.evolve(GATE, keys=KeyRing(()))
        for keys in ([], [b"good"], [b""]):
            self.assertEqual(refusal(gate, replace(HEAD, keys=keys)).code, 401, repr(keys))

    def test_body_too_large_names_the_limit(self) -> None:
        """L8: also for a body that did not say its length."""
        self.assertIn("1000 bytes", GATE.too_large().message)
        self.assertIn("limits.body", GATE.too_large().message)


class KeyTests(SynchronousTestCase):
    """Who is calling."""

    def test_any_carrier_that_matches_is_enough(self) -> None:
        """L12: two different keys are no contradiction; the order does not matter."""
        other = f"key-{digest(b'other').hex()[:12]}"
        table: list[tuple[list[bytes], str | None]] = [
            ([], None), ([b"good"], GOOD), ([b"other"], other), ([b"wrong", b"good"], GOOD),
            ([b"good", b"wrong"], GOOD),
            ([b"good "], None), ([b"Good"], None), ([b""], None), ([digest(b"good")], None),
            ([digest(b"good").hex().encode()], None),
        ]  # fmt: skip
        for presented, identity in table:
            self.assertEqual(RING.identify(presented), identity, repr(presented))

    def test_identity_does_not_give_the_key_away(self) -> None:
        """S7: it is a piece of a digest, and goes into logs."""
        self.assertRegex(GOOD, r"\Akey-[0-9a-f]{12}\Z")

    def test_every_carrier_is_read(self) -> None:
        """``x-goog-api-key``, ``x-api-key``, ``Authorization: Bearer`` and ``?key=``, however often each comes."""
        table: list[tuple[tuple[list[bytes], list[bytes], list[bytes], list[bytes]], list[bytes]]] = [
            (([b"a"], [], [], []), [b"a"]),
            (([], [b"a"], [], []), [b"a"]),
            (([], [], [b"Bearer a"], []), [b"a"]),
            (([], [], [b"bearer a"], []), [b"a"]),
            (([], [], [b"BEARER   a "], []), [b"a"]),
            (([], [], [], [b"a"]), [b"a"]),
            (([b"a", b"b"], [b"c"], [b"Bearer d", b"Bearer e"], [b"f"]), [b"a", b"b", b"c", b"d", b"e", b"f"]),
            (([b""], [b""], [b"Bearer ", b""], [b""]), []),
            (([], [], [b"Basic a", b"a", b"Bearera", b"Token a"], []), []),
            (([], [], [], []), []),
        ]  # fmt: skip
        for carriers, keys in table:
            self.assertEqual(carried(*carriers), keys, repr(carriers))
