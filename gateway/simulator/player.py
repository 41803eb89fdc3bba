"""Send the steps of an answer at the client's pace.  I/O: it writes to a request's transport."""

from itertools import groupby
from operator import itemgetter
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime, ITCPTransport
from twisted.web.http import NO_BODY_CODES, RESPONSES
from twisted.web.http_headers import Headers
from zope.interface import implementer

from gateway.simulator import steps as s
from gateway.simulator.produced import MARK
from gateway.simulator.record import Entry, Records

#: What Google's front end puts on every answer.
FRONT: s.Headers = (
    ("Vary", "Origin, X-Origin, Referer"),
    ("Server", "scaffolding on HTTPServer2"),
    ("X-XSS-Protection", "0"),
    ("X-Frame-Options", "SAMEORIGIN"),
    ("X-Content-Type-Options", "nosniff"),
)
#: Steps taken in one turn of the reactor, so that an endless stream leaves room for others.
STEPS_PER_TURN = 64
#: The pause between two turns; more than nothing, or a task.Clock would never return from advance().
TURN_SECONDS = 1e-6
#: How long written bytes have to reach the network before a reset would throw them away.
RESET_GRACE_SECONDS = 0.05


@implementer(IPushProducer)
@attrs.define(eq=False)
class Player:
    """Plays one answer into one request; a push producer, so that a client that does not read stops it.

    ``request`` is a twisted.web Request, most of whose methods have no types.
    """

    request: Any
    clock: IReactorTime
    steps: s.Steps
    records: Records
    entry: Entry
    _done: "Deferred[None]" = attrs.field(init=False)
    _timer: IDelayedCall | None = attrs.field(init=False, default=None)
    _paused: bool = attrs.field(init=False, default=False)
    _over: bool = attrs.field(init=False, default=False)
    _running: bool = attrs.field(init=False, default=False)

    def play(self) -> "Deferred[None]":
        """Begin.  Fires when the answer is complete; is cancelled when the client leaves, never fires when a
        fault has cut the connection.
        """
        self._done = Deferred(lambda _: self._left())
        self.request.registerProducer(self, True)
        self._run()
        return self._done

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The transport's buffer is empty."""
        self._paused = False
        self._run()

    def stopProducing(self) -> None:
        """The connection is gone."""
        self._left()

    def _left(self) -> None:
        self._stop("left")

    def _stop(self, how: str) -> None:
        self._over = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self.records.end(self.entry, how, self.clock.seconds())

    def _wake(self) -> None:
        self._timer = None
        self._run()

    def _sleep(self, seconds: float) -> None:
        self._timer = self.clock.callLater(seconds, self._wake)

    def _ready(self) -> bool:
        return not (self._over or self._paused or self._timer is not None)

    def _run(self) -> None:
        if self._running:
            return
        self._running = True
        try:
            taken = 0
            while self._ready():
                self._take(next(self.steps, s.Finish()))
                taken += 1
                if taken >= STEPS_PER_TURN and self._ready():
                    self._sleep(TURN_SECONDS)
        finally:
            self._running = False

    def _take(self, step: s.Step) -> None:
        match step:
            case s.Data():
                self.request.write(step.data)
                self.entry.sent += len(step.data)
                self.entry.events += step.mark
                if MARK in step.said:
                    self.entry.said = step.said
            case s.Wait():
                if step.seconds == s.FOREVER:
                    self._over = True
                else:
                    self._sleep(step.seconds)
            case s.Interim():
                phrase = RESPONSES.get(step.code, b"Early Hints")
                self.request.channel.writeHeaders(b"HTTP/1.1", b"%d" % step.code, phrase, Headers())
            case s.Raw():
                self._transport().write(step.data)
                self.entry.sent += len(step.data)
            case s.Head():
                self._head(step)
            case s.Finish():
                self._stop("complete")
                self.request.unregisterProducer()
                self._done.callback(None)
            case s.Close():
                self._stop("closed")
                self.request.unregisterProducer()
                self._transport().loseConnection()
            case s.Reset():
                self._stop("reset")
                self.request.unregisterProducer()
                if self.request.startedWriting:
                    self.clock.callLater(RESET_GRACE_SECONDS, self._transport().abortConnection)
                else:
                    self._transport().abortConnection()

    def _transport(self) -> ITCPTransport:
        return cast(ITCPTransport, self.request.transport)

    def _head(self, head: s.Head) -> None:
        headers = self.request.responseHeaders
        headers.removeHeader(b"content-type")
        self.request.defaultContentType = None
        for name, value in FRONT:
            headers.setRawHeaders(name, [value])
        for name, rows in groupby(head.headers, key=itemgetter(0)):
            headers.setRawHeaders(name, [value for _, value in rows])
        if head.length is not None and head.code not in NO_BODY_CODES:
            headers.setRawHeaders("Content-Length", [str(head.length)])
        self.request.setResponseCode(head.code)
        # An empty write sends the head on its own, so that the body may stall.
        self.request.write(b"")
        self.entry.status = head.code
        self.entry.first_at = self.clock.seconds()
