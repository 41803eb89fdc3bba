"""Who traces requests, as the configuration of now asks for it; while it asks for none, nobody does."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed

from gateway.config import Config, OtelConfig
from gateway.edge.site import GatewaySite
from gateway.operations.recorders import Recorders
from gateway.operations.tracing import Tracing
from gateway.tracecontext import Contexts


@attrs.define(eq=False, repr=False)
class Traces:
    """Puts a recorder of traces among the recorders, and another in its place."""

    _recorders: Recorders
    _reactor: Any
    _wall_seconds: Callable[[], float] = time.time
    _tracing: Tracing | None = None
    _config: OtelConfig = attrs.field(factory=OtelConfig)
    _started: bool = False
    _told_before: int = 0
    _missed_before: int = 0

    @property
    def told(self) -> int:
        """How many requests were told."""
        return self._told_before + (0 if self._tracing is None else self._tracing.told)

    @property
    def missed(self) -> int:
        """How many should have been, and were not."""
        return self._missed_before + (0 if self._tracing is None else self._tracing.missed)

    def follow(self, config: Config, site: GatewaySite) -> None:
        """Trace as ``config`` says the requests that begin at ``site`` from now on."""
        kinds = {upstream.name: upstream.kind for upstream in config.upstreams}
        before, otel = self._tracing, config.otel
        if before is not None and otel == self._config:
            before.kinds.update(kinds)
            return
        self._config, self._tracing = otel, None
        site.contexts = None
        if before is not None:
            # What it still has to tell it tells beside its successor; those that it then loses are not counted.
            before.stop()
            self._told_before += before.told
            self._missed_before += before.missed
        if otel.endpoint:
            self._tracing = Tracing(otel, kinds, self._reactor)
            # An id is to be told from others, and keeps no secret.
            bits = random.Random().getrandbits  # noqa: S311
            site.contexts = Contexts(bits, self._wall_seconds, otel.sample, otel.propagate_upstream)
            if self._started:
                self._tracing.start()
        self._recorders.exchange(before, self._tracing)

    def start(self) -> None:
        """Begin to tell; call it when it is known which process this is."""
        self._started = True
        if self._tracing is not None:
            self._tracing.start()

    def stop(self) -> Deferred[None]:
        """Tell what is still to be told; fires when that is done, or takes too long."""
        return succeed(None) if self._tracing is None else self._tracing.stop()
