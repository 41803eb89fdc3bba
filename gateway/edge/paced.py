"""A connection whose client has to keep a pace, and the round that looks after all of them.

One timer for all connections looks once a second at those that are due, so that a request sets and resets none.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from twisted.web import http

from gateway.edge.pace import Late, Pace, Paces

ROUND_SECONDS = 1.0
AT_A_TIME = 16
"""How many connections are looked at before others are served: to end one takes a while."""


class Timed(Protocol):
    """What a connection needs of its site to be looked after."""

    clock: IReactorTime
    paces: Paces
    rounds: Rounds


class PacedChannel(http.HTTPChannel):
    """Tells its pace what happens on it; whoever reads its bytes says when they come and when a head is over."""

    __slots__ = ("_now", "pace")

    site: Timed
    pace: Pace

    def connectionMade(self) -> None:
        """See HTTPChannel."""
        self._now = self.site.clock.seconds
        self.pace = Pace.of(self.site.paces, self._now())
        super().connectionMade()
        self.site.rounds.add(self)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """See HTTPChannel."""
        self.site.rounds.remove(self)
        super().connectionLost(reason)

    def resumeProducing(self) -> None:
        """See HTTPChannel."""
        self.pace.drained()
        super().resumeProducing()

    def loseConnection(self) -> None:
        """See HTTPChannel."""
        self.pace.closing(self._now())
        super().loseConnection()

    def look(self, now: float) -> None:
        """See whether the client keeps its pace."""
        received = self.requests[-1].received if self.requests else 0
        late = self.pace.judge(now, received, unsent(self.transport))
        if late is not None:
            self.late(late)

    def late(self, late: Late) -> None:
        """The client does not keep its pace: end it."""
        raise NotImplementedError


class Rounds:
    """Looks at every connection that is due, once a second as long as there is one."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.channels: set[Any] = set()
        self._timer: IDelayedCall | None = None
        self._rest: IDelayedCall | None = None

    def add(self, channel: PacedChannel) -> None:
        """Look after a connection."""
        self.channels.add(channel)
        if self._timer is None:
            self._timer = self._clock.callLater(ROUND_SECONDS, self._round)

    def remove(self, channel: PacedChannel) -> None:
        """Forget a connection."""
        self.channels.discard(channel)
        if self.channels:
            return
        for timer in (self._timer, self._rest):
            if timer is not None:
                timer.cancel()
        self._timer = self._rest = None

    def _round(self) -> None:
        self._timer = self._clock.callLater(ROUND_SECONDS, self._round)
        if self._rest is None:
            now = self._clock.seconds()
            self._look([one for one in self.channels if one.pace.due <= now])

    def _look(self, due: list[Any]) -> None:
        self._rest = None
        now = self._clock.seconds()
        for channel in due[:AT_A_TIME]:
            if channel in self.channels:
                channel.look(now)
        if len(due) > AT_A_TIME and self.channels:
            self._rest = self._clock.callLater(0, self._look, due[AT_A_TIME:])


def unsent(transport: Any) -> int:
    """Return how many bytes wait in the process for the client to take them; 0 where the transport does not say."""
    while (below := getattr(transport, "transport", None)) is not None:
        # TLS stands between the connection and its socket.
        transport = below
    buffered = getattr(transport, "dataBuffer", None)
    return 0 if buffered is None else len(buffered) - transport.offset + transport._tempDataLen
