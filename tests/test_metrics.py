"""The metrics: what is counted when, what it is called, and that no client chooses a label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import Attempt, Credential, Ended, Journal, Usage
from gateway.operations.exposition import COUNTERS, GAUGES, PREFIX, Exposition
from gateway.operations.metrics import REASONS_MOST, Metrics
from gateway.operations.recorders import Recorders
from tests.fakes import FakeRecorder

CREDENTIAL = Credential("first", "studio", "aistudio", "studio/first")


@attrs.define
class FakeSituation:
    """What is so now: every number is one."""

    version: str = "1.2.3"

    def gauges(self) -> dict[str, float]:
        return dict.fromkeys(GAUGES, 1)

    def counters(self) -> dict[str, int]:
        return dict.fromkeys(COUNTERS, 1)

    def accounts(self) -> list[dict[str, Any]]:
        return [{"label": "studio/first", "upstream": "studio", "state": "cooling"}]

    def upstreams(self) -> list[dict[str, Any]]:
        return [{"name": "studio", "state": "halted"}, {"name": "other", "state": "ok"}]


def ended(status: int = 200, reason: str = "", origin: str = "upstream", **more: Any) -> Ended:
    """A request's end after a second and a half."""
    journal = Journal("id-1", model=more.pop("model", "known"), upstream="studio", started=10.0, first_byte=10.3)
    return Ended(journal, status, reason, origin, 1.5, 100, 2000, **more)


class MetricsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = Metrics(lambda model: model == "known")
        self.exposition = Exposition(self.metrics, FakeSituation())

    def samples(self) -> dict[tuple[str, ...], float]:
        """All samples by name and the values of their labels, in the labels' order."""
        page = self.exposition.render().decode()
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }

    def attempt(self, status: int, reason: str) -> None:
        journal = Journal("id-1", upstream="studio")
        self.metrics.attempted(journal, Attempt("studio/first", "https://one.example", status, reason, 0.1))


class CountingTests(MetricsCase):
    def test_requests_are_counted_by_status_and_origin(self) -> None:
        """agw_requests_total, and the bodies' bytes."""
        for event in (ended(), ended(), ended(429, "QUOTA", "upstream"), ended(401, "CLIENT_KEY_INVALID", "gateway")):
            self.metrics.ended(event)
        found = self.samples()
        self.assertEqual(found["agw_requests_total", "200", "upstream"], 2)
        self.assertEqual(found["agw_requests_total", "429", "upstream"], 1)
        self.assertEqual(found["agw_requests_total", "401", "gateway"], 1)
        self.assertEqual((found["agw_request_bytes_total",], found["agw_response_bytes_total",]), (400, 8000))

    def test_attempts_are_counted_by_their_end(self) -> None:
        """agw_attempts_total and agw_upstream_errors_total; where no answer came the code is none (C2)."""
        self.attempt(200, "")
        self.attempt(429, "RATE_LIMIT")
        self.attempt(0, "UPSTREAM_UNREACHABLE")
        found = self.samples()
        self.assertEqual(found["agw_attempts_total", "ok", "studio"], 1)
        self.assertEqual(found["agw_attempts_total", "RATE_LIMIT", "studio"], 1)
        self.assertEqual(found["agw_upstream_errors_total", "429"], 1)
        self.assertEqual(found["agw_upstream_errors_total", "none"], 1)

    def test_a_stream_that_breaks_off_is_counted_by_its_reason(self) -> None:
        """agw_streams_truncated_total (C6, C7); a client that leaves is no fault of a stream's (L2)."""
        self.metrics.ended(ended(reason="UPSTREAM_IDLE"))
        self.metrics.ended(ended(reason="CLIENT_LEFT"))
        self.metrics.ended(ended(499, "CLIENT_LEFT", "gateway"))
        found = self.samples()
        self.assertEqual(found["agw_streams_truncated_total", "UPSTREAM_IDLE"], 1)
        self.assertEqual(len([one for one in found if one[0] == "agw_streams_truncated_total"]), 1)
        self.assertEqual(found["agw_clients_left_total",], 2)

    def test_tokens_are_counted_by_kind(self) -> None:
        """agw_tokens_total, of models in the catalogue by their ids."""
        self.metrics.ended(ended(usage=Usage(3, 42, 7, 1, 52)))
        found = self.samples()
        for kind, count in {"prompt": 3, "candidates": 42, "thoughts": 7, "cached": 1}.items():
            self.assertEqual(found["agw_tokens_total", kind, "known"], count)

    def test_times_fall_into_buckets(self) -> None:
        """agw_first_byte_seconds and agw_request_seconds."""
        self.metrics.ended(ended())
        found = self.samples()
        self.assertEqual([found["agw_request_seconds_bucket", le] for le in ("1.0", "2.5", "+Inf")], [0, 1, 1])
        self.assertEqual([found["agw_first_byte_seconds_bucket", le] for le in ("0.25", "0.5")], [0, 1])
        self.assertAlmostEqual(found["agw_first_byte_seconds_sum",], 0.3)
        self.assertEqual(found["agw_request_seconds_count",], 1)

    def test_what_calls_for_an_operator_is_counted(self) -> None:
        """agw_quarantines_total and agw_halts_total (U6)."""
        self.metrics.quarantined(CREDENTIAL, "API_KEY_INVALID", "")
        self.metrics.halted("studio")
        found = self.samples()
        self.assertEqual((found["agw_quarantines_total", "studio"], found["agw_halts_total", "studio"]), (1, 1))

    def test_what_is_so_now_is_asked_for_when_the_page_is(self) -> None:
        """Gauges, counters of the process, the credentials' states and the halted upstreams (U2, U6)."""
        found = self.samples()
        for name in GAUGES:
            self.assertEqual(found[f"agw_{name}",], 1, name)
        for name in COUNTERS:
            self.assertEqual(found[f"agw_{name}_total",], 1, name)
        self.assertEqual(found["agw_credential_state", "studio/first", "cooling", "studio"], 1)
        self.assertEqual((found["agw_pool_halted", "studio"], found["agw_pool_halted", "other"]), (1, 0))
        self.assertEqual(found["agw_build_info", "1.2.3"], 1)


class LabelTests(MetricsCase):
    def test_every_metric_is_on_the_operators_page(self) -> None:
        """docs/operate.rst says what each of them is."""
        page = (Path(__file__).parent.parent / "docs" / "operate.rst").read_text("utf-8")
        for family in text_string_to_metric_families(self.exposition.render().decode()):
            name = family.name.removeprefix(PREFIX) + "_total" * (family.type == "counter")
            self.assertRegex(page, rf"``{name}(?:``|{{)")

    def test_a_model_that_a_client_made_up_is_other(self) -> None:
        """However many it makes up, there is one more series."""
        for number in range(1000):
            self.metrics.ended(ended(model=f"made-up-{number}", usage=Usage(1, 1, 0, 0, 2)))
        models = {one[2] for one in self.samples() if one[0] == "agw_tokens_total"}
        self.assertEqual(models, {"other"})

    def test_reasons_of_upstreams_are_bounded(self) -> None:
        """In their number and in their letters."""
        for number in range(REASONS_MOST * 2):
            self.attempt(400, f"REASON_{number}")
        self.attempt(400, 'x"} 1\nagw_forged 1')
        found = self.samples()
        self.assertEqual(len([one for one in found if one[0] == "agw_attempts_total"]), REASONS_MOST + 1)
        self.assertNotIn(("agw_forged",), found)


class RecordersTests(SynchronousTestCase):
    def test_every_recorder_is_told_everything(self) -> None:
        """In their order."""
        one, other = FakeRecorder(), FakeRecorder()
        both = Recorders(one, other)
        journal, attempt, end = Journal("id-1"), Attempt("a", "b", 200, "", 0.1), ended()
        both.attempted(journal, attempt)
        both.ended(end)
        both.quarantined(CREDENTIAL, "why", "link")
        both.halted("studio")
        self.assertEqual(vars(one), vars(other))
        self.assertEqual((other.attempts, other.ends, other.halts), ([attempt], [end], ["studio"]))
