"""The values of what the gateway tells of itself: its log, its traces.  Pure."""

from __future__ import annotations

from attrs import frozen

from gateway.calls import Secret

MIB = 1024 * 1024


@frozen
class LogConfig:
    """What is logged, and how it is written."""

    level: str = "info"
    format: str = "auto"
    levels: tuple[tuple[str, str], ...] = ()
    """Subsystems and the levels that they have in the place of ``level``; see config.log."""
    rotate_bytes: int = 100 * MIB
    """At what size a log file is put aside; 0 for never."""
    rotate_keep: int = 10
    """How many of those put aside are kept."""

    def level_of(self, subsystem: str) -> str:
        """Return the level that a subsystem has."""
        return dict(self.levels).get(subsystem, self.level)


@frozen
class OtelConfig:
    """Where traces go."""

    endpoint: str = ""
    """The collector's base URL; empty for no traces."""
    headers: tuple[tuple[str, Secret], ...] = ()
    """What authenticates the gateway there."""
    sample: float = 1.0
    """Of the requests whose client decided nothing about it, the share that is told."""
    propagate_upstream: bool = False
    service_name: str = "antigravity-gateway"

    @property
    def traces_url(self) -> str:
        """Where spans are sent: https://opentelemetry.io/docs/specs/otlp/#otlphttp-request."""
        base = self.endpoint.rstrip("/")
        return base if base.endswith("/v1/traces") else f"{base}/v1/traces"


DEFAULT_LOG, DEFAULT_OTEL = LogConfig(), OtelConfig()
