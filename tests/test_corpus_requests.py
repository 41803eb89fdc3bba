"""gunicorn's requests: what is invalid is refused and goes nowhere, what is valid is taken as it is.

Its cases have paths that no route of the gateway's has; so they end at a resource that answers 200 to everything, and
what that saw is what would have gone upstream.
"""

from __future__ import annotations

import attrs
from msgspec import structs

from gateway.config import Limits
from gateway.edge.gate import Admitted, Gate, Head
from gateway.edge.keys import NO_KEYS
from tests.corpora import MISSING, fetched, requests
from tests.readers import Door, with_host
from tests.test_site import SiteCase

LIMITS = Limits()
WIDE = Limits(head=64 * 1024, target=16 * 1024)
"""For cases that are valid only where gunicorn's limits are wider than its defaults."""


@attrs.frozen
class WideGate(Gate):
    """The gateway's own, for paths and names that are none of its."""

    def _judge_sender(self, head: Head) -> None:
        pass

    def judge(self, head: Head) -> Admitted:
        return super().judge(structs.replace(head, path=b"/"))

    @classmethod
    def of(cls, limits: Limits) -> WideGate:
        return cls(NO_KEYS, False, True, limits.body, limits.target)


_LIMIT = "over a limit of gunicorn's, and not of ours: "
WAIVED = {
    "006": _LIMIT + "a request line of 8,190 bytes; here a target may have 8 KiB",
    "007": _LIMIT + "a field of 8 KiB; here the whole head may have 16 KiB",
    "008": _LIMIT + "a field of 8 KiB; here the whole head may have 16 KiB",
    "010": _LIMIT + "limit_request_field_size is set to 10 bytes",
    "011": _LIMIT + "limit_request_fields is set to 2",
    "012": _LIMIT + "limit_request_field_size is set to 98 bytes",
    "017": _LIMIT + "a field of 8 KiB; here the whole head may have 16 KiB",
    "019": "a gunicorn setting: forwarded_allow_ips makes it compare fields that the gateway does not read",
    "limit_header_default_01": _LIMIT + "a field of 8 KiB; here the whole head may have 16 KiB",
}
"""The invalid cases that are taken, and why."""

_SETTING = "a gunicorn setting: "
_CODING = "a transfer coding that the gateway does not decode: 501, as RFC 9112 section 6.1 has it"
_IDENTITY = "the transfer coding identity, which RFC 9112 does not know any more: 400"
_METHOD = "a method that nobody has: 501 (L9)"
_ALIAS = "names that stand for framing fields with an underscore: 400 (L7)"
INAPPLICABLE = {
    "025": _CODING,
    "025_line": _CODING,
    "rfc9112_smuggle_gzip_chunked_01": _CODING,
    "029": _IDENTITY,
    "030": _IDENTITY,
    "rfc9112_smuggle_te_identity_chunked_01": _IDENTITY,
    "028": _SETTING + "strip_header_spaces",
    "031": _METHOD,
    "031compat": _SETTING + "permit_unconventional_http_method, casefold_http_method",
    "031compat2": _SETTING + "permit_unconventional_http_method",
    "040": _ALIAS,
    "040_compat": _SETTING + "header_map",
    "099": "not whole: its body is shorter than its Content-Length says, and so never answered",
    "compat_obs_fold": _SETTING + "permit_obsolete_folding",
    "compat_obs_fold_huge": _SETTING + "permit_obsolete_folding",
    "pp_01": _SETTING + "proxy_protocol",
    "pp_02": _SETTING + "proxy_protocol",
    "pp_04": _SETTING + "proxy_protocol",
    "pp_05": _SETTING + "proxy_protocol",
    "rfc9112_target_absolute_userinfo_01": "user information in a URL: 400",
    "rfc9112_target_asterisk_options_01": "the server as a whole as a target: 400",
    "rfc9112_target_authority_connect_01": "CONNECT: 501 (L15)",
    "rfc9112_target_authority_ipv6_01": "CONNECT: 501 (L15)",
}
"""The valid cases that are not meant to be taken, and why."""


class InvalidTests(SiteCase):
    """81 cases."""

    def test_what_is_invalid_is_refused_and_goes_nowhere(self) -> None:
        """L6/X, L7/X, L9/X, L15/X: never 2xx, in Google's shape, with a close; as it is and with a Host, whole and in
        bytes.
        """
        taken, cases = set(), list(requests("invalid"))
        self.assertEqual(len(cases), 81)
        for case in cases:
            for data in {case.data, with_host(case.data)}:
                for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
                    door = Door.open(WideGate.of(LIMITS), LIMITS)
                    door.send(pieces)
                    answers = door.client.answers()
                    if door.taker.taken:
                        taken.add(case.name)
                        continue
                    self.assertLessEqual(len(answers), 1, case.name)
                    for answer in answers:
                        self.is_refusal(answer, answer.status, answer.json["error"]["details"][0]["reason"])
                        self.assertTrue(400 <= answer.status < 600, case.name)
                        self.assertEqual(answer.headers["connection"], "close", case.name)
                    self.assertTrue(answers or door.waits, case.name)
        self.assertEqual(taken, set(WAIVED))
        self.assertLessEqual(len(WAIVED), 13)

    def test_only_what_is_incomplete_waits(self) -> None:
        """L7/X: all others are answered at once."""
        waiting = set()
        for case in requests("invalid"):
            door = Door.open(WideGate.of(LIMITS), LIMITS)
            door.send([with_host(case.data)])
            if not door.client.received:
                waiting.add(case.name)
        incomplete = {"001", "pp_01", "pp_02", "pp_03", "rfc9112_chunked_missing_final_crlf_01"}
        self.assertEqual(waiting, incomplete)


class ValidTests(SiteCase):
    """62 cases."""

    def test_what_is_valid_is_taken_as_it_is(self) -> None:
        """L6/X: each request with its method, target and body, whole and in bytes, unless it does not apply."""
        served, cases = set(), list(requests("valid"))
        self.assertEqual(len(cases), 62)
        for case in cases:
            data = with_host(case.data)
            limits = WIDE if case.settings else LIMITS
            taken = []
            for pieces in ([data], [data[at : at + 1] for at in range(len(data))]):
                door = Door.open(WideGate.of(limits), limits)
                door.send(pieces)
                taken.append((door.taker.taken, [answer.status for answer in door.client.answers()]))
            expected = list(case.expected)
            if taken == [(expected, [200] * len(expected))] * 2:
                served.add(case.name)
        applicable = {case.name for case in cases} - set(INAPPLICABLE)
        self.assertGreaterEqual(len(served & applicable), 0.95 * len(applicable), applicable - served)
        self.assertEqual(served - applicable, set())
        self.assertEqual(applicable - served, set())


LACKS = "" if fetched() else MISSING
if LACKS:
    print(f"{__name__}: {LACKS}")
    del InvalidTests, ValidTests
