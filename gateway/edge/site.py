"""The HTTP site of the clients' listeners: its connections, the requests under way, and draining them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.web import http, server
from twisted.web.resource import IResource

from gateway.calls import Recorder
from gateway.config import Limits, Timeouts
from gateway.edge.channel import GatewayChannel, PatientChannel, whole_answer
from gateway.edge.gate import Gate
from gateway.edge.guesses import Guesses
from gateway.edge.overflow import Overflow
from gateway.edge.pace import Paces
from gateway.edge.paced import Rounds
from gateway.edge.request import GatewayRequest
from gateway.edge.room import Room, overloaded
from gateway.edge.storing import Spare
from gateway.keys.meters import Meters
from gateway.tracecontext import Contexts

KEEP_SECONDS = 1.0
"""While stopping: how long a connection that was not told of it may still send a request."""

_FULL = overloaded("as many connections as it may (limits.connections)")


class GatewaySite(server.Site):
    """The site of the clients' listeners."""

    protocol = GatewayChannel  # type: ignore[assignment]
    requestFactory = GatewayRequest  # type: ignore[assignment]
    displayTracebacks = False
    keep_seconds = KEEP_SECONDS
    noisy = False

    def __init__(
        self,
        resource: IResource,
        clock: IReactorTime,
        gate: Gate,
        limits: Limits,
        recorder: Recorder,
        new_id: Callable[[], str],
        timeouts: Timeouts | None = None,
        answers_half_closed: bool = False,
        meters: Meters | None = None,
    ) -> None:
        # Its own timer would be set and reset by every request; the rounds look after all connections.
        super().__init__(resource, requestFactory=GatewayRequest, timeout=None, reactor=clock)
        if answers_half_closed:
            self.protocol = PatientChannel
        timeouts = timeouts or Timeouts()
        self.paces = Paces(timeouts.head, timeouts.body, limits.body_rate, timeouts.keep_alive, timeouts.write)
        self.room = Room(limits)
        self.meters = meters or Meters(limits, clock.seconds)
        self.spare = Spare(clock)
        self.guesses = Guesses()
        self.rounds = Rounds(clock)
        self._overflow = Overflow(clock, lambda: whole_answer(_FULL, new_id()))
        self.clock = clock
        self.gate = gate
        self.limits = limits
        self.recorder = recorder
        self.contexts: Contexts | None = None
        """What begins requests' traces, where they are traced."""
        self.new_id = new_id
        self.channels: set[GatewayChannel] = set()
        self.stopping = False
        """Whether every answer is its connection's last."""
        self.cut = False
        """Whether what was still under way has been cut off."""
        self._busy = 0
        self._drained: Deferred[None] | None = None

    def take(
        self, resource: IResource, gate: Gate, limits: Limits, timeouts: Timeouts, answers_half_closed: bool
    ) -> None:
        """Serve the requests whose heads end from now on by these; those under way keep what they began with.

        What is asked of a client's pace, and how its FIN is taken, counts for the connections that are yet to come.
        """
        self.resource, self.gate, self.limits = resource, gate, limits
        self.room.limits = limits
        self.meters.renew(limits, self.clock.seconds())
        self.paces = Paces(timeouts.head, timeouts.body, limits.body_rate, timeouts.keep_alive, timeouts.write)
        self.protocol = PatientChannel if answers_half_closed else GatewayChannel

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Return the protocol of a new connection; see IProtocolFactory."""
        if len(self.channels) >= self.limits.connections:
            return self._overflow.protocol()
        return super().buildProtocol(addr)

    def log(self, request: http.Request) -> None:
        """Write no access log: every request reports its end to the recorder, without the query's key."""

    def acceptableProtocols(self) -> list[bytes]:
        """Name HTTP/1.1 alone in TLS: where the library for HTTP/2 is installed, Twisted would offer that too."""
        return [b"http/1.1"]

    @property
    def busy(self) -> int:
        """How many requests are under way."""
        return self._busy

    def opened(self) -> None:
        """Take note of a request's beginning."""
        self._busy += 1

    def closed(self) -> None:
        """Take note of a request's end."""
        self._busy -= 1
        if self._drained is not None:
            self._look_whether_drained()

    def connected(self, channel: GatewayChannel) -> None:
        """Take note of a connection."""
        self.channels.add(channel)

    def disconnected(self, channel: GatewayChannel) -> None:
        """Take note of a connection's end."""
        self.channels.discard(channel)
        self._look_whether_drained()

    def stop_soon(self) -> None:
        """Let every answer that begins from now on be its connection's last.

        A connection that was not told so, because it is idle or its answer has begun, is kept for a moment: a
        request that its client is just sending is answered, and not lost.
        """
        self.stopping = True
        for channel in list(self.channels):
            channel.stop_soon()

    def renew_connections(self) -> None:
        """Let no connection of now carry a further request: it may have come in where nobody listens any more."""
        for channel in list(self.channels):
            channel.persistent = 0
            if not channel.requests:
                channel.loseConnection()

    def drained(self, seconds: float) -> Deferred[None]:
        """Return a Deferred that fires when no request is under way and the last answer has left.

        It fires after ``seconds`` in any case, and at once when it is cancelled.  A request is over when its answer
        has been written, which is before the answer's end has gone out: so the connections' ends are waited for.
        """
        waiting: Deferred[None] = Deferred(lambda _: self._drain_ends())
        self._drained = waiting
        timer = self.clock.callLater(seconds, self._drain_ends)

        def over(result: None) -> None:
            if timer.active():
                timer.cancel()

        waiting.addCallback(over)
        self._look_whether_drained()
        return waiting

    def _look_whether_drained(self) -> None:
        if not self._busy and not self.channels:
            self._drain_ends()

    def _drain_ends(self) -> None:
        if self._drained is not None:
            drained, self._drained = self._drained, None
            drained.callback(None)

    def abort_all(self) -> None:
        """Cut every connection off, visibly: streams end without their final chunk."""
        self.cut = True
        for channel in list(self.channels):
            transport: Any = channel.transport
            transport.abortConnection()
