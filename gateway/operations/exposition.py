"""The metrics as Prometheus reads them, rendered when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import attrs
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from gateway.operations.metrics import Metrics
from gateway.tally import BOUNDS, Counts, Histogram, Labels

TEXT = b"text/plain; version=0.0.4; charset=utf-8"
"""https://prometheus.io/docs/instrumenting/exposition_formats/."""
OPEN = b"application/openmetrics-text; version=1.0.0; charset=utf-8"
"""https://prometheus.io/docs/specs/om/open_metrics_spec/."""
PREFIX = "agw_"
KEY_REASONS = ("CLIENT_KEY_", "KEY_", "TOO_MANY_WRONG_KEYS")
"""How the reasons begin with which a client is refused for its key's sake."""

SAMPLES_MOST = 800
"""More than these take longer to write, some 5 us each, than to hand over to a thread."""
TOKENS = ("prompt", "candidates", "thoughts", "cached")

Row = Mapping[str, Any]


class Situation(Protocol):
    """What is so at this moment, for whoever asks."""

    @property
    def version(self) -> str:
        """The gateway's."""

    def gauges(self) -> Mapping[str, float]:
        """Return numbers that go up and down, by name without prefix; see GAUGES."""

    def counters(self) -> Mapping[str, int]:
        """Return numbers that only grow and are counted elsewhere, by name without prefix; see COUNTERS."""

    def waits(self) -> Mapping[str, Histogram]:
        """Return how long requests waited for a credential, by what came of it."""

    def refreshes(self) -> Counts:
        """Return how often a token was asked for, by what came of it."""

    def connections(self) -> Iterable[Row]:
        """Return a row for each upstream: name, open, idle, opened."""

    def certificates(self) -> Mapping[str, float]:
        """Return when the listeners' certificates expire, in Unix seconds."""

    def accounts(self) -> Iterable[Row]:
        """Return a row for each credential; see admin.Steering."""

    def quotas(self) -> Iterable[Row]:
        """Return a row for each credential and model of which it is known how much is left."""

    def upstreams(self) -> Iterable[Row]:
        """Return a row for each upstream; see admin.Steering."""


GAUGES: Mapping[str, str] = {
    "ready": "1 while /readyz says 200.",
    "draining": "1 from the moment at which the end began.",
    "requests_in_flight": "Client requests under way.",
    "connections": "Client connections.",
    "streams_open": "Streams under way.",
    "buffered_bytes": "Bytes of the bodies of all requests under way.",
    "requests_waiting": "Requests that wait for a credential.",
    "config_reload_failed": "1 if the last reload came to nothing and the old configuration is in force.",
    "config_loaded_timestamp_seconds": "When the configuration in force was read.",
    "state_degraded": "1 while the standings cannot be written.",
    "usage_degraded": "1 while usage cannot be written down.",
    "usage_waiting": "Requests that wait to be written down.",
    "reactor_lag_seconds": "How late the reactor's last beat was.",
    "reactor_lag_max_seconds": "The latest that a beat ever was.",
}
COUNTERS: Mapping[str, str] = {
    "config_reloads": "Reloads that took effect.",
    "config_reload_failures": "Reloads that came to nothing.",
    "state_write_errors": "Attempts to write the standings that failed.",
    "traces": "Requests that were told to the collector of traces.",
    "traces_lost": "Requests that should have been told to it, and were not.",
    "log_lines_lost": "Lines of the log that could not be written.",
    "usage_lost": "Requests that were not written down and never will be.",
    "reactor_blocked": "Times that the reactor stood still for 250 ms or more; the log says where.",
}


def _key_refusals(metrics: Metrics) -> Mapping[Labels, int]:
    return {
        (reason,): count
        for (origin, reason), count in metrics.errors.items()
        if origin == "gateway" and reason.startswith(KEY_REASONS)
    }


def _tokens(metrics: Metrics) -> Mapping[Labels, int]:
    return {(name, kind): getattr(of, kind) for name, of in metrics.models.items() for kind in TOKENS}


COUNTED: Sequence[tuple[str, Sequence[str], str, Callable[[Metrics], Mapping[Labels, int]]]] = (
    ("requests", ("code", "origin"), "Client requests that are over.", lambda metrics: metrics.requests),
    ("errors", ("origin", "reason"), "Client requests that failed: whose answer, and why.", lambda one: one.errors),
    ("key_refusals", ("reason",), "Client requests that were refused for their key's sake.", _key_refusals),
    ("attempts", ("upstream", "reason"), "Attempts upstream, by how they ended.", lambda metrics: metrics.attempts),
    (
        "credential_attempts",
        ("credential", "upstream", "outcome"),
        "Attempts with each credential.",
        lambda metrics: metrics.credentials,
    ),
    (
        "key_requests",
        ("key", "outcome"),
        "Client requests of each key that are over.",
        lambda metrics: {
            (key, outcome): count
            for key, of in metrics.keys.items()
            for outcome, count in (("ok", of.requests - of.failed), ("failed", of.failed))
        },
    ),
    (
        "key_tokens",
        ("key",),
        "Tokens of each client key.",
        lambda metrics: {(key,): of.tokens for key, of in metrics.keys.items()},
    ),
    ("upstream_errors", ("code",), "Attempts that failed, by status.", lambda metrics: metrics.upstream_errors),
    ("streams_truncated", ("why",), "Streams that broke off, by reason.", lambda metrics: metrics.truncated),
    ("quarantines", ("upstream",), "Credentials put out until somebody acts.", lambda metrics: metrics.quarantines),
    ("halts", ("upstream",), "Times that an upstream was halted.", lambda metrics: metrics.halts),
    ("tokens", ("model", "kind"), "Tokens as Google counts them.", _tokens),
)
NUMBERS: Sequence[tuple[str, str, Callable[[Metrics], int]]] = (
    ("clients_left", "Clients that left before their answer's end.", lambda metrics: metrics.clients_left),
    ("request_bytes", "Bytes of requests' bodies.", lambda metrics: metrics.bytes_in),
    ("response_bytes", "Bytes of answers' bodies.", lambda metrics: metrics.bytes_out),
)


class _Families(Collector):
    """What was collected at one moment, to be rendered at another."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)
        self.samples = sum(len(family.samples) for family in self._families)

    def collect(self) -> Iterable[Metric]:
        return self._families


@attrs.frozen
class Page:
    """All that there is to tell at one moment."""

    render: Callable[[], bytes]
    """Writes it down; needs nothing of the gateway any more, so any thread may."""
    kind: bytes
    long: bool
    """Whether that takes so long that the reactor should do something else meanwhile."""


class Exposition:
    """Joins what was counted with what is so now."""

    def __init__(self, metrics: Metrics, situation: Situation) -> None:
        self._metrics = metrics
        self._situation = situation
        self._process = ProcessCollector(registry=None)

    def render(self, accept: str = "") -> tuple[bytes, bytes]:
        """Return the page and its type."""
        page = self.page(accept)
        return page.render(), page.kind

    def page(self, accept: str) -> Page:
        """Return the page of now: OpenMetrics for whoever accepts that, else Prometheus' own text."""
        families = _Families(self.collect())
        opens = any(one.split(";")[0].strip() == "application/openmetrics-text" for one in accept.split(","))
        registry = CollectorRegistry(auto_describe=False)
        registry.register(families)
        render: Callable[[CollectorRegistry], bytes] = openmetrics.generate_latest if opens else generate_latest
        return Page(partial(render, registry), OPEN if opens else TEXT, families.samples > SAMPLES_MOST)

    def collect(self) -> Iterator[Metric]:
        """Return all metrics; see prometheus_client's Collector."""
        situation = self._situation
        yield _gauge("build_info", "The version that runs.", ("version",), [((situation.version,), 1)])
        yield from _counted(self._metrics)
        for name, value in situation.counters().items():
            yield _one(name, COUNTERS[name], value)
        for name, number in situation.gauges().items():
            yield _gauge(name, GAUGES[name], (), [((), number)])
        yield from _seen(situation)
        yield from self._process.collect()


def _counted(metrics: Metrics) -> Iterator[Metric]:
    for name, labels, text, counts in COUNTED:
        yield _counter(name, text, labels, counts(metrics))
    for name, text, value in NUMBERS:
        yield _one(name, text, value(metrics))
    yield _histograms(
        "first_byte_seconds", "From a request's head to its answer's first byte.", (), {(): metrics.first_byte}
    )
    streams = {(name,): of.first_token for name, of in metrics.models.items() if of.streams}
    yield _histograms("ttft_seconds", "From a stream's request to its first event.", ("model",), streams)
    whole = {(name,): of.whole for name, of in metrics.models.items()}
    yield _histograms("request_seconds", "From a request's head to its end.", ("model",), whole)


def _seen(situation: Situation) -> Iterator[Metric]:
    waits = {(outcome,): histogram for outcome, histogram in situation.waits().items()}
    yield _histograms("queue_wait_seconds", "How long requests waited for a credential.", ("outcome",), waits)
    yield _counter("token_refreshes", "Access tokens that were asked for.", ("outcome",), situation.refreshes())
    connections = list(situation.connections())
    yield _gauge(
        "upstream_connections",
        "Connections to an upstream that are open.",
        ("upstream", "state"),
        [
            ((row["name"], state), count)
            for row in connections
            for state, count in (("idle", row["idle"]), ("busy", row["open"] - row["idle"]))
        ],
    )
    opened = {(row["name"],): row["opened"] for row in connections}
    yield _counter("upstream_connects", "Connections to an upstream that were opened.", ("upstream",), opened)
    yield _gauge(
        "certificate_expiry_timestamp_seconds",
        "When a listener's certificate expires.",
        ("listener",),
        [((listener,), at) for listener, at in situation.certificates().items()],
    )
    accounts = list(situation.accounts())
    whose = ("credential", "upstream")
    yield _gauge(
        "credential_state",
        "1 for the state that a credential is in.",
        (*whose, "state"),
        [((row["label"], row["upstream"], row["state"]), 1) for row in accounts],
    )
    yield _gauge(
        "credential_in_flight",
        "Requests that use a credential.",
        whose,
        [((row["label"], row["upstream"]), row["in_flight"]) for row in accounts],
    )
    yield _gauge(
        "credential_resting_models",
        "Models for which a credential rests.",
        whose,
        [((row["label"], row["upstream"]), len(row["models"])) for row in accounts],
    )
    yield _gauge(
        "credential_quota_remaining_ratio",
        "What is said to be left of a credential's quota.",
        (*whose, "model"),
        [((row["label"], row["upstream"], row["model"]), row["remaining"]) for row in situation.quotas()],
    )
    upstreams = list(situation.upstreams())
    yield _gauge(
        "upstream_credentials_usable",
        "Credentials of an upstream that may be used, for some models at least.",
        ("upstream",),
        [((row["name"],), row["usable"]) for row in upstreams],
    )
    yield _gauge(
        "pool_halted",
        "1 for an upstream that stands still until its operator says go.",
        ("upstream",),
        [((row["name"],), row["state"] == "halted") for row in upstreams],
    )


def _counter(name: str, text: str, labels: Sequence[str], counts: Mapping[Any, int]) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    for key, value in counts.items():
        family.add_metric([str(part) for part in key], value)
    return family


def _one(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(PREFIX + name, text, value=value)


def _gauge(name: str, text: str, labels: Sequence[str], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for key, value in values:
        family.add_metric(key, float(value))
    return family


def _histograms(name: str, text: str, labels: Sequence[str], told: Mapping[Any, Histogram]) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, text, labels=labels)
    for key, histogram in told.items():
        buckets, below = [], 0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), histogram.counts, strict=True):
            below += count
            buckets.append((bound, below))
        family.add_metric(key, buckets, histogram.total)
    return family
