"""The traces' recorder: takes down what ended, and has a thread of its own tell it over OTLP.  A thread.

A request costs an entry in a queue; spans are made of it, encoded and sent elsewhere.  What the queue does not hold,
and what the collector does not take, is lost, counted, and told.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from gateway.calls import Attempt, Credential, Ended, Journal
from gateway.config import OtelConfig

QUEUE_MOST = 4096
"""So many requests wait to be told; those beyond are lost."""
BATCH_MOST = 256
EVERY_SECONDS = 1.0
EXPORT_SECONDS = 10.0
"""How long a batch may take to be taken, further attempts included."""
STOP_SECONDS = 5.0
"""How long the end waits for what is still to be told."""
UNTOLD = ("/healthz",)
"""Paths that are asked every few seconds, by nobody who traces."""

_log = Logger(namespace="gateway.tracing")

Batch = Sequence[tuple[Ended, float]]
"""Requests, and when each ended, in Unix seconds."""


class Exporter(Protocol):
    """Makes spans of requests and sends them; see spans.py."""

    def export(self, batch: Batch) -> int:
        """Send spans, and return how many requests could not be told."""

    def shutdown(self) -> None:
        """Send no more, and wait for nothing."""


Make = Callable[[OtelConfig, Mapping[str, str]], Exporter]


def _exporter(config: OtelConfig, kinds: Mapping[str, str]) -> Exporter:
    from gateway.operations.spans import SpanExport

    return SpanExport(config, kinds, EXPORT_SECONDS)


@attrs.define(eq=False, repr=False)
class Tracing:
    """Listens to requests that are traced: those whose journal has a trace.  See calls.Recorder."""

    config: OtelConfig
    kinds: dict[str, str]
    """The upstreams' kinds, by their names."""
    _reactor: Any
    _wall_seconds: Callable[[], float] = time.time
    _make: Make = _exporter
    told: int = 0
    """How many requests were told, in whatever number of spans."""
    lost: int = 0
    _refused: int = 0
    _queue: deque[tuple[Ended, float]] = attrs.field(factory=deque)
    _wake: threading.Event = attrs.field(factory=threading.Event)
    _over: bool = False
    _thread: threading.Thread | None = None
    _exporting: Exporter | None = None
    _ended: Deferred[None] | None = None

    def attempted(self, journal: Journal, attempt: Attempt) -> None:
        """Take down an attempt."""
        if journal.trace is not None and journal.trace.sampled:
            journal.trace.judged()

    def ended(self, event: Ended) -> None:
        """Take down a request."""
        trace = event.journal.trace
        if trace is None or not trace.sampled or event.journal.path in UNTOLD:
            return
        if len(self._queue) >= QUEUE_MOST:
            self._refused += 1
            return
        self._queue.append((event, self._wall_seconds()))
        if len(self._queue) >= BATCH_MOST:
            self._wake.set()

    def quarantined(self, credential: Credential, reason: str, link: str) -> None:
        """Nothing of this is in a trace."""

    def halted(self, upstream: str) -> None:
        """Nothing of this is in a trace."""

    @property
    def missed(self) -> int:
        """How many requests were not told."""
        # Each of the two is one thread's, so that no count gets lost.
        return self.lost + self._refused

    def start(self) -> None:
        """Begin to tell; call it when it is known which process this is."""
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def stop(self) -> Deferred[None]:
        """Tell what is still to be told, and end; fires when that is done.  Cancelling it gives that up."""
        if self._thread is None or not self._thread.is_alive():
            return succeed(None)
        ended: Deferred[None] = Deferred(self._give_up)
        self._ended = ended
        self._over = True
        self._wake.set()
        return ended.addTimeout(STOP_SECONDS, self._reactor).addErrback(self._late)

    def _give_up(self, ended: Deferred[None]) -> None:
        exporting = self._exporting
        if exporting is not None:
            exporting.shutdown()

    def _late(self, failure: Failure) -> None:
        failure.trap(CancelledError, TimeoutError)
        _log.warn("traces of {count} requests are left untold", count=len(self._queue))

    def _run(self) -> None:
        try:
            self._tell_all()
        except Exception:
            _log.failure("the thread that tells traces failed; there are none any more")
        finally:
            self._reactor.callFromThread(self._done)

    def _done(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None and not ended.called:
            ended.callback(None)

    def _tell_all(self) -> None:
        exporting = self._exporting = self._make(self.config, self.kinds)
        failing = False
        while True:
            over = self._over
            batch = self._batch()
            if batch:
                lost, why = self._sent(exporting, batch)
                self.told += len(batch) - lost
                self.lost += lost
                if lost and not failing:
                    _log.warn(
                        "traces are lost: {endpoint} does not take them{why}; more is said when it does again",
                        endpoint=self.config.endpoint,
                        why=why,
                    )
                elif failing and not lost:
                    _log.info(
                        "{endpoint} takes traces again; {count} requests were not told",
                        endpoint=self.config.endpoint,
                        count=self.missed,
                    )
                failing = lost > 0
            if len(self._queue) >= BATCH_MOST:
                continue
            if over and not self._queue:
                exporting.shutdown()
                return
            if not over:
                self._wake.wait(EVERY_SECONDS)
                self._wake.clear()

    def _batch(self) -> Batch:
        return [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_MOST))]

    @staticmethod
    def _sent(exporting: Exporter, batch: Batch) -> tuple[int, str]:
        try:
            return exporting.export(batch), ""
        except Exception as error:
            return len(batch), f" ({type(error).__name__})"
