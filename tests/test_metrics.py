"""The metrics: what is counted when, what it is called, and that no client chooses a label."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from gateway.calls import Attempt, Credential, Ended, Journal, Usage
from gateway.operations.exposition import COUNTERS, GAUGES, PREFIX, SAMPLES_MOST, Exposition
from gateway.operations.metrics import CREDENTIALS_MOST, KEYS_MOST, MODELS_MOST, REASONS_MOST, Metrics
from gateway.operations.recorders import Recorders
from gateway.tally import BOUNDS, OTHER, Counts, Histogram
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
        return [
            {"label": "studio/first", "upstream": "studio", "state": "cooling", "in_flight": 4, "models": [{}, {}]},
        ]

    def upstreams(self) -> list[dict[str, Any]]:
        return [{"name": "studio", "state": "halted", "usable": 0}, {"name": "other", "state": "ok", "usable": 3}]

    def waits(self) -> dict[str, Histogram]:
        served = Histogram()
        served.took(0.3)
        return {"served": served, "left": Histogram()}

    def refreshes(self) -> Counts:
        return Counts({("ok",): 5, ("revoked",): 1})

    def connections(self) -> list[dict[str, Any]]:
        return [{"name": "studio", "open": 5, "idle": 2, "opened": 9}]

    def certificates(self) -> dict[str, float]:
        return {"ssl:8443": 1e9}

    def quotas(self) -> list[dict[str, Any]]:
        return [{"label": "studio/first", "upstream": "studio", "model": "known", "remaining": 0.25}]


def ended(status: int = 200, reason: str = "", origin: str = "upstream", **more: Any) -> Ended:
    """A request's end after a second and a half."""
    named = {name: more.pop(name) for name in ("model", "verb", "key_id") if name in more}
    journal = Journal("id-1", **{"model": "known", **named}, upstream="studio", started=10.0, first_byte=10.3)
    return Ended(journal, status, reason, origin, 1.5, 100, 2000, **more)


class MetricsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = Metrics(lambda model: model == "known")
        self.exposition = Exposition(self.metrics, FakeSituation())

    def samples(self) -> dict[tuple[str, ...], float]:
        """All samples by name and the values of their labels, in the labels' order."""
        page = self.exposition.render()[0].decode()
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }

    def attempt(self, status: int, reason: str, credential: str = "studio/first") -> None:
        journal = Journal("id-1", upstream="studio")
        self.metrics.attempted(journal, Attempt(credential, "https://one.example", status, reason, 0.1))


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
        self.metrics.ended(ended(usage=Usage(3, 42, 7, 1)))
        found = self.samples()
        for kind, count in {"prompt": 3, "candidates": 42, "thoughts": 7, "cached": 1}.items():
            self.assertEqual(found["agw_tokens_total", kind, "known"], count)

    def test_times_fall_into_buckets(self) -> None:
        """agw_first_byte_seconds and agw_request_seconds."""
        self.metrics.ended(ended())
        found = self.samples()
        whole = [found["agw_request_seconds_bucket", le, "known"] for le in ("1.0", "2.5", "+Inf")]
        self.assertEqual(whole, [0, 1, 1])
        self.assertEqual([found["agw_first_byte_seconds_bucket", le] for le in ("0.25", "0.5")], [0, 1])
        self.assertAlmostEqual(found["agw_first_byte_seconds_sum",], 0.3)
        self.assertEqual(found["agw_request_seconds_count", "known"], 1)

    def test_first_tokens_are_those_of_streams_that_were_answered(self) -> None:
        """agw_ttft_seconds: neither an answer in one piece has one, nor a refusal."""
        stream = "streamGenerateContent"
        self.metrics.ended(ended(verb="generateContent"))
        self.metrics.ended(ended(429, "QUOTA", verb=stream))
        self.metrics.ended(ended(503, "OVERLOADED", "gateway", verb=stream))
        self.assertNotIn(("agw_ttft_seconds_count", "known"), self.samples())
        self.metrics.ended(ended(verb=stream))
        found = self.samples()
        self.assertEqual(found["agw_ttft_seconds_count", "known"], 1)
        self.assertAlmostEqual(found["agw_ttft_seconds_sum", "known"], 0.3)

    def test_requests_that_failed_are_counted_by_whose_answer_and_why(self) -> None:
        """agw_errors_total, and what of it is a client key's; a client that leaves has not failed."""
        for reason in ("CLIENT_KEY_INVALID", "CLIENT_KEY_INVALID", "TOO_MANY_WRONG_KEYS", "KEY_RATE_EXCEEDED"):
            self.metrics.ended(ended(401, reason, "gateway", model=""))
        self.metrics.ended(ended(400, "API_KEY_INVALID"))
        self.metrics.ended(ended(reason="CLIENT_LEFT"))
        found = self.samples()
        self.assertEqual(found["agw_errors_total", "gateway", "CLIENT_KEY_INVALID"], 2)
        self.assertEqual(found["agw_errors_total", "upstream", "API_KEY_INVALID"], 1)
        self.assertNotIn(("agw_errors_total", "upstream", "CLIENT_LEFT"), found)
        refused = {one[1]: value for one, value in found.items() if one[0] == "agw_key_refusals_total"}
        self.assertEqual(refused, {"CLIENT_KEY_INVALID": 2, "TOO_MANY_WRONG_KEYS": 1, "KEY_RATE_EXCEEDED": 1})

    def test_each_credential_and_each_key_has_its_counts(self) -> None:
        """agw_credential_attempts_total, agw_key_requests_total and agw_key_tokens_total."""
        self.attempt(200, "")
        self.attempt(429, "RATE_LIMIT")
        self.attempt(429, "RATE_LIMIT")
        self.metrics.ended(ended(key_id="key-1", usage=Usage(3, 40, 2, 1)))
        self.metrics.ended(ended(429, "RATE_LIMIT", key_id="key-1"))
        found = self.samples()
        self.assertEqual(found["agw_credential_attempts_total", "studio/first", "ok", "studio"], 1)
        self.assertEqual(found["agw_credential_attempts_total", "studio/first", "failed", "studio"], 2)
        self.assertEqual(found["agw_key_requests_total", "key-1", "ok"], 1)
        self.assertEqual(found["agw_key_requests_total", "key-1", "failed"], 1)
        self.assertEqual(found["agw_key_tokens_total", "key-1"], 45)

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
        self.assertEqual(found["agw_credential_in_flight", "studio/first", "studio"], 4)
        self.assertEqual(found["agw_credential_resting_models", "studio/first", "studio"], 2)
        self.assertEqual(found["agw_credential_quota_remaining_ratio", "studio/first", "known", "studio"], 0.25)
        self.assertEqual(found["agw_upstream_credentials_usable", "other"], 3)
        busy = [found["agw_upstream_connections", state, "studio"] for state in ("busy", "idle")]
        self.assertEqual((busy, found["agw_upstream_connects_total", "studio"]), ([3, 2], 9))
        self.assertEqual(found["agw_certificate_expiry_timestamp_seconds", "ssl:8443"], 1e9)
        self.assertEqual(found["agw_queue_wait_seconds_count", "served"], 1)
        self.assertEqual(found["agw_token_refreshes_total", "revoked"], 1)

    def test_process_is_measured_under_the_usual_names(self) -> None:
        """Memory, descriptors, CPU and start, as dashboards for other programs know them."""
        found = self.samples()
        for name in ("resident_memory_bytes", "open_fds", "max_fds", "cpu_seconds_total", "start_time_seconds"):
            self.assertGreater(found[f"process_{name}",], 0, name)

    def test_openmetrics_is_there_for_whoever_accepts_it(self) -> None:
        """The same numbers in the other format; everybody else is given Prometheus' own."""
        self.metrics.ended(ended())
        accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
        page, kind = self.exposition.render(accept)
        families = {family.name for family in openmetrics.text_string_to_metric_families(page.decode())}
        self.assertIn("agw_requests", families)
        self.assertTrue(kind.startswith(b"application/openmetrics-text; version=1.0.0"))
        for other in ("", "*/*", "text/plain;version=0.0.4", "application/openmetrics-text-of-mine"):
            self.assertTrue(self.exposition.render(other)[1].startswith(b"text/plain; version=0.0.4"), other)


class LabelTests(MetricsCase):
    def test_every_metric_is_on_its_page(self) -> None:
        """docs/observe.rst says what each of them is."""
        page = (Path(__file__).parent.parent / "docs" / "observe.rst").read_text("utf-8")
        for family in text_string_to_metric_families(self.exposition.render()[0].decode()):
            name = family.name.removeprefix(PREFIX) + "_total" * (family.type == "counter")
            self.assertTrue(re.search(rf"``{name}(?:``|{{)", page), name)

    def test_a_model_that_a_client_made_up_is_other(self) -> None:
        """However many it makes up, there is one more series."""
        for number in range(1000):
            self.metrics.ended(ended(model=f"made-up-{number}", usage=Usage(1, 1, 0, 0)))
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


    def test_a_flood_of_names_adds_a_bounded_number_of_series(self) -> None:
        """Models, keys, credentials and reasons, each far beyond its bound: what is beyond is counted as other."""
        self.metrics.known = self.metrics._model_names.good = lambda model: True
        flood = 2000
        for number in range(flood):
            self.attempt(400, f"REASON_{number}", f"credential-{number}")
            usage = Usage(1, 1, 0, 0)
            self.metrics.ended(ended(model=f"m-{number}", key_id=f"k-{number}", verb="streamGenerateContent",
                                     usage=usage))  # fmt: skip
            self.metrics.ended(ended(400, f"WHY_{number}", model=f"m-{number}"))
        found = self.samples()
        self.assertEqual(found["agw_tokens_total", "prompt", OTHER], flood - MODELS_MOST)
        self.assertEqual(found["agw_key_tokens_total", OTHER], 2 * (flood - KEYS_MOST))
        self.assertEqual(
            found["agw_credential_attempts_total", OTHER, "failed", "studio"], flood - CREDENTIALS_MOST
        )
        self.assertGreater(found["agw_errors_total", "upstream", OTHER], 0)
        bound = {
            "agw_request_seconds_bucket": (MODELS_MOST + 1) * (len(BOUNDS) + 1),
            "agw_ttft_seconds_bucket": (MODELS_MOST + 1) * (len(BOUNDS) + 1),
            "agw_tokens_total": (MODELS_MOST + 1) * 4,
            "agw_key_requests_total": (KEYS_MOST + 1) * 2,
            "agw_credential_attempts_total": CREDENTIALS_MOST + 1,
        }
        for name, most in bound.items():
            self.assertEqual(sum(one[0] == name for one in found), most, name)
        reasons = {one[-1] for one in found if one[0] in ("agw_errors_total", "agw_attempts_total")}
        self.assertLessEqual(len(reasons), 2 * (REASONS_MOST + 1))


    def test_long_page_is_made_apart_from_its_numbers(self) -> None:
        """What a thread writes down are the numbers of the moment in which it was asked."""
        self.assertFalse(self.exposition.page("").long)
        for number in range(SAMPLES_MOST // 2):
            self.metrics.ended(ended(key_id=f"key-{number}"))
        page = self.exposition.page("")
        self.attempt(429, "LATER")
        self.assertTrue(page.long)
        self.assertNotIn(b"LATER", page.render())


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
