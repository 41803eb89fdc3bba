"""What whoever watches is told, once a second and as requests end: server-sent events to a few viewers.

Of a request neither its prompt nor its answer.  While nobody watches nothing is kept or computed here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.logger import Logger
from twisted.web.server import Request
from zope.interface import implementer

from gateway.calls import Ended, GatewayError
from gateway.operations.adminroutes import Route, Row, answer
from gateway.operations.live import Live
from gateway.operations.requests import Record, Second, over, record

VIEWERS_MOST = 16
REQUESTS_KEPT = 500
REQUESTS_AT_ONCE = 100
"""What of the requests of one turn is sent; the others are counted."""
BEHIND_MOST_BYTES = 512 * 1024
"""How much waits for a viewer that takes nothing before it is cut off."""
TURN_SECONDS = 0.25
TURNS_A_STATE = 4
LINGER_SECONDS = 60.0
"""How long requests are kept on when the last viewer has gone: it may only have loaded its page anew."""
ACCOUNTS_A_TURN = 200
"""Of more credentials than this the rows are made less often."""

_log = Logger(namespace="gateway.admin")


@implementer(IPushProducer)
class Viewer:
    """One connection that is told; one that does not keep up is cut off."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.over: Deferred[bytes] = Deferred()
        self._paused = False
        self._behind = 0

    def begin(self) -> None:
        """Send the answer's head."""
        self.request.setHeader(b"content-type", b"text/event-stream")
        self.request.setHeader(b"cache-control", b"no-store")
        self.request.setHeader(b"x-accel-buffering", b"no")
        self.request.registerProducer(self, True)

    def send(self, data: bytes) -> None:
        """Send some events."""
        if self.over.called:
            return
        if self._paused:
            self._behind += len(data)
            if self._behind > BEHIND_MOST_BYTES:
                _log.info("a viewer that takes nothing is cut off")
                transport: Any = self.request.channel.transport
                transport.abortConnection()
                return
        self.request.write(data)

    def end(self) -> None:
        """End the answer."""
        if not self.over.called:
            self.over.callback(b"")

    def pauseProducing(self) -> None:
        """See IPushProducer."""
        self._paused = True

    def resumeProducing(self) -> None:
        """See IPushProducer."""
        self._paused, self._behind = False, 0

    def stopProducing(self) -> None:
        """See IPushProducer; whoever waits for the end is cancelled."""
        self._paused = True


@attrs.define(eq=False, repr=False)
class Feed:
    """The viewers, and what they are told."""

    live: Live
    clock: Any
    wall_seconds: Callable[[], float]
    state: Callable[[], Row]
    """How the gateway is: a few numbers, and its upstreams."""
    accounts: Callable[[], list[Row]]
    watched: Callable[[bool], None]
    """Is told when somebody begins to watch and when nobody does any more."""
    alive: Callable[[Request], bool] = lambda request: True
    """Whether who asked may still be told; asking counts as use."""
    viewers: list[Viewer] = attrs.field(factory=list)
    _kept: OrderedDict[str, Ended] = attrs.field(factory=OrderedDict)
    _fresh: list[Ended] = attrs.field(factory=list)
    _skipped: int = 0
    _second: Second = attrs.field(factory=Second)
    _turn: int = 0
    _timer: IDelayedCall | None = None
    _linger: IDelayedCall | None = None
    _told: bytes = b""
    """The credentials' rows as they were told last."""

    def routes(self) -> Sequence[Route]:
        """See adminroutes.Part."""
        return [
            Route(
                "GET",
                "/v1/live",
                self._watch,
                "Tell, as server-sent events, how the gateway is (state, accounts) and which requests end (requests).",
                None,
                media="text/event-stream",
            ),
            Route(
                "GET", "/v1/requests/<id>", self._record, "Return how a request was routed that ended just now.", Record
            ),
        ]

    async def _watch(self, request: Request) -> bytes:
        if len(self.viewers) >= VIEWERS_MOST:
            raise GatewayError(503, "UNAVAILABLE", "OVERLOADED", f"{VIEWERS_MOST} are watching already.")
        viewer = Viewer(request)
        if request.method == b"HEAD":
            return b""
        self.viewers.append(viewer)
        try:
            viewer.begin()
            self._begin()
            viewer.send(_event("state", self._state()) + _event("accounts", {"accounts": self.accounts()}))
            viewer.send(self._requests(list(self._kept.values()), 0))
            await viewer.over
        finally:
            self.viewers.remove(viewer)
            if not self.viewers:
                self._end()
        if request.producer is not None:
            request.unregisterProducer()
        return b""

    def _begin(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._timer is None:
            self._second, self._fresh, self._skipped, self._turn = Second(), [], 0, 0
            self._timer = self.clock.callLater(TURN_SECONDS, self._go)
        if self.live.heard is None:
            self.live.heard = self._heard
            self.watched(True)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._linger = self.clock.callLater(LINGER_SECONDS, self._forget)

    def _forget(self) -> None:
        self._linger = None
        self.live.heard = None
        self._kept.clear()
        self._fresh, self._told = [], b""
        self.watched(False)

    def dismiss(self) -> None:
        """Let go of everybody; whoever may still look comes again."""
        for viewer in list(self.viewers):
            viewer.end()

    def stop(self) -> None:
        """Let go of everybody for good, as where the gateway ends."""
        self.dismiss()
        if self._linger is not None:
            self._linger.cancel()
            self._forget()

    def _heard(self, event: Ended) -> None:
        """Take a request that is over; in its path, so it is short."""
        # What comes from nobody, for nothing, is a check of health, unless somebody was refused.
        if event.journal.key_id or event.status >= 400:
            self._kept[event.journal.request_id] = event
            if len(self._kept) > REQUESTS_KEPT:
                self._kept.popitem(last=False)
            if self.viewers:
                self._count(event)

    def _count(self, event: Ended) -> None:
        if len(self._fresh) < REQUESTS_AT_ONCE:
            self._fresh.append(event)
        else:
            self._skipped += 1
        self._second.count(event)

    def _go(self) -> None:
        self._timer = self.clock.callLater(TURN_SECONDS, self._go)
        self._turn += 1
        out = b""
        if self._fresh or self._skipped:
            out += self._requests(self._fresh, self._skipped)
            self._fresh, self._skipped = [], 0
        if self._turn % TURNS_A_STATE == 0:
            out += self._tell()
        if out:
            for viewer in list(self.viewers):
                viewer.send(out)

    def _tell(self) -> bytes:
        for viewer in list(self.viewers):
            if not self.alive(viewer.request):
                viewer.end()
        out = _event("state", self._state())
        self._second = Second()
        pause = TURNS_A_STATE * (1 + self._told.count(b'"label"') // ACCOUNTS_A_TURN)
        if self._turn % pause == 0:
            rows = _event("accounts", {"accounts": self.accounts()})
            if rows != self._told:
                self._told = rows
                out += rows
        return out

    def _state(self) -> Row:
        return {"time": self.wall_seconds(), "viewers": len(self.viewers), **self.state(), **self._second.row()}

    def _requests(self, events: Sequence[Ended], skipped: int) -> bytes:
        rows = [over(event, self._started(event)) for event in events]
        return _event("requests", {"requests": rows, "skipped": skipped})

    def _started(self, event: Ended) -> float:
        """Return when a request began, in Unix seconds."""
        return float(self.wall_seconds() - (self.clock.seconds() - event.journal.started))

    def _record(self, request: Request, id: str) -> bytes:
        event = self._kept.get(id)
        if event is None:
            raise GatewayError(
                404, "NOT_FOUND", "REQUEST_UNKNOWN", "There is no such request among those that ended while watched."
            )
        return answer(request, record(event, self._started(event)))


def _event(name: str, value: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode("ascii"), msgspec.json.encode(value))
