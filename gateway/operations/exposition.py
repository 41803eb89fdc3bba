"""The metrics as Prometheus reads them, rendered when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.operations.metrics import BOUNDS, Counts, Histogram, Metrics

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
"""https://prometheus.io/docs/instrumenting/exposition_formats/."""
PREFIX = "agw_"

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

    def accounts(self) -> Iterable[Row]:
        """Return a row for each credential; see admin.Steering."""

    def upstreams(self) -> Iterable[Row]:
        """Return a row for each upstream; see admin.Steering."""


GAUGES: Mapping[str, str] = {
    "ready": "1 while /readyz says 200.",
    "draining": "1 from the moment at which the end began.",
    "requests_in_flight": "Client requests under way.",
    "connections": "Client connections.",
    "requests_waiting": "Requests that wait for a credential.",
    "config_reload_failed": "1 if the last reload came to nothing and the old configuration is in force.",
    "config_loaded_timestamp_seconds": "When the configuration in force was read.",
    "state_degraded": "1 while the standings cannot be written.",
    "reactor_lag_seconds": "How late the reactor's last beat was.",
    "reactor_lag_max_seconds": "The latest that a beat ever was.",
}
COUNTERS: Mapping[str, str] = {
    "config_reloads": "Reloads that took effect.",
    "config_reload_failures": "Reloads that came to nothing.",
    "state_write_errors": "Attempts to write the standings that failed.",
    "reactor_blocked": "Times that the reactor stood still for 250 ms or more; the log says where.",
}


class Exposition(Collector):
    """Joins what was counted with what is so now."""

    def __init__(self, metrics: Metrics, situation: Situation) -> None:
        self._metrics = metrics
        self._situation = situation
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def render(self) -> bytes:
        """Return the page."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Return all metrics; see prometheus_client's Collector."""
        metrics, situation = self._metrics, self._situation
        yield _gauge("build_info", "The version that runs.", ["version"], [((situation.version,), 1)])
        yield _counter("requests", "Client requests that are over.", ["code", "origin"], metrics.requests)
        yield _counter("attempts", "Attempts upstream, by how they ended.", ["upstream", "reason"], metrics.attempts)
        yield _counter("upstream_errors", "Attempts that failed, by status.", ["code"], metrics.upstream_errors)
        yield _counter("streams_truncated", "Streams that broke off, by reason.", ["why"], metrics.truncated)
        yield _counter("quarantines", "Credentials put out until somebody acts.", ["upstream"], metrics.quarantines)
        yield _counter("halts", "Times that an upstream was halted.", ["upstream"], metrics.halts)
        yield _counter("tokens", "Tokens as Google counts them.", ["model", "kind"], metrics.tokens)
        yield _one("clients_left", "Clients that left before their answer's end.", metrics.clients_left)
        yield _one("request_bytes", "Bytes of requests' bodies.", metrics.bytes_in)
        yield _one("response_bytes", "Bytes of answers' bodies.", metrics.bytes_out)
        yield _histogram("first_byte_seconds", "From a request's head to its answer's first byte.", metrics.first_byte)
        yield _histogram("request_seconds", "From a request's head to its end.", metrics.whole)
        for name, value in situation.counters().items():
            yield _one(name, COUNTERS[name], value)
        for name, number in situation.gauges().items():
            yield _gauge(name, GAUGES[name], [], [((), number)])
        yield _gauge(
            "credential_state",
            "1 for the state that a credential is in.",
            ["credential", "upstream", "state"],
            [((row["label"], row["upstream"], row["state"]), 1) for row in situation.accounts()],
        )
        yield _gauge(
            "pool_halted",
            "1 for an upstream that stands still until its operator says go.",
            ["upstream"],
            [((row["name"],), row["state"] == "halted") for row in situation.upstreams()],
        )


def _counter(name: str, text: str, labels: list[str], counts: Counts) -> Metric:
    family = CounterMetricFamily(PREFIX + name, text, labels=labels)
    for key, value in counts.items():
        assert isinstance(key, tuple)
        family.add_metric([str(part) for part in key], value)
    return family


def _one(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(PREFIX + name, text, value=value)


def _gauge(name: str, text: str, labels: list[str], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, text, labels=labels)
    for key, value in values:
        family.add_metric(key, float(value))
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, text, labels=[])
    buckets, below = [], 0
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), histogram.counts, strict=True):
        below += count
        buckets.append((bound, below))
    family.add_metric([], buckets, histogram.total)
    return family
