"""An upstream's stream of events, from its first one on.

It is committed by whoever takes it: until ``attach`` nothing of it has gone anywhere, and another attempt is free.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from gateway.calls import Event
from gateway.routing.silence import Silences
from gateway.splice import NotAnObject
from gateway.sse import DONE, GAP, Decoder, EventTooLarge
from gateway.upstreams.exchange import Exchange, WireError


class Sink(Protocol):
    """Takes a committed stream."""

    def event(self, event: Event) -> None:
        """Take an event that came by itself, in one line: its data has no line end."""

    def events(self, events: list[Event]) -> None:
        """Take the events of one read, in order."""

    def ending(self) -> None:
        """What comes next is the last, and the end of a whole stream follows at once; may be left out."""

    def ended(self, error: WireError | None) -> None:
        """The stream is over, whole if ``error`` is None."""


class EventStream:
    """Decodes and unwraps a body as it comes; pauses it where more comes than the first event before somebody takes it.

    Silence is listened for only while upstream is being read: a slow client is not upstream's.
    """

    def __init__(
        self,
        exchange: Exchange,
        unwrap: Callable[[bytes], Event],
        silences: Silences,
        event_limit: int,
    ) -> None:
        self._exchange = exchange
        self._unwrap = unwrap
        self._silences = silences
        self._clock = silences.clock
        self._seconds = silences.clock.seconds
        self._decoder = Decoder(event_limit)
        self._held: list[Event] = []
        self._sink: Sink | None = None
        self._first: Deferred[Event] | None = None
        self._timer: IDelayedCall | None = None
        self._paused = False
        self._over = False
        self._error: WireError | None = None
        self._committed = False
        self.heard = 0.0
        """When something came last, once it is committed; see silence.py."""

    async def first(self, seconds: float) -> Event:
        """Start the flow and return the first event, which is also held for the sink.

        Raises WireError: ``timeout-first-byte`` after ``seconds``, ``empty-stream`` where it ended without
        any event, ``not-json`` for an event that is no JSON object, and whatever the wire raises.
        """
        waiting: Deferred[Event] = Deferred(lambda _: self.abort())
        self._first = waiting
        try:
            self._exchange.deliver(self)
            if self._first is not None:
                # Most first events come with the answer's head, and are not waited for.
                self._timer = self._clock.callLater(seconds, self._late)
            return await waiting
        except BaseException:
            self.abort()
            raise

    def attach(self, sink: Sink) -> None:
        """Commit: give ``sink`` the events held so far and let the rest follow."""
        self._sink = sink
        self._exchange.forget_head()
        held, self._held = self._held, []
        # A pause so far was ours.  One that the sink asks for while it takes these events is its own, and stays.
        ours, self._paused = self._paused, False
        if self._over and self._error is None:
            sink.ending()
        sink.events(held)
        if self._over:
            sink.ended(self._error)
        elif not self._paused:
            self._silences.listen(self)
            if ours:
                self._exchange.resume()

    def pause(self) -> None:
        """Stop reading from upstream."""
        if not self._over and not self._paused:
            self._paused = True
            self._silences.leave(self)
            self._exchange.pause()

    def resume(self) -> None:
        """Read on."""
        if not self._over and self._paused:
            self._paused = False
            self._silences.listen(self)
            self._exchange.resume()

    def abort(self) -> None:
        """Close the connection to upstream; the sink hears nothing more."""
        if not self._over:
            self._over = True
            self._await_nothing()
            self._exchange.abort()

    def data(self, chunk: bytes) -> None:
        """Take the next bytes of the body; see Receiver."""
        if self._over:
            return
        if self._committed:
            # What an object has is found faster by itself than as a method of it.
            seconds = self._seconds
            self.heard = seconds()
        unwrap = self._unwrap
        payload = self._decoder.alone(chunk)
        if payload:
            # As most come that come slowly: for them each step less counts.
            try:
                event = unwrap(payload)
            except NotAnObject:
                self._fail(WireError("not-json"))
                return
            if event.data:
                sink = self._sink
                if sink is not None:
                    sink.event(event)
                else:
                    self._hold([event])
            return
        events: list[Event] = []
        fault = ""
        try:
            for payload in self._decoder.feed(chunk):
                event = Event(payload) if payload == DONE else unwrap(payload)
                # An envelope with nothing in it for the client is no event.
                if event.data:
                    events.append(event)
        except EventTooLarge:
            fault = "too-large"
        except NotAnObject:
            # No client can read it, and in an array it would spoil what was sent before.
            fault = "not-json"
        if events:
            if self._sink is not None:
                self._sink.events(events)
            else:
                self._hold(events)
        if fault and not self._over:
            self._fail(WireError(fault))

    def ending(self) -> None:
        """Pass on that the next bytes are the last; see Receiver."""
        if self._sink is not None and not self._over:
            self._sink.ending()

    def ended(self, error: WireError | None) -> None:
        """Take the end of the body; see Receiver."""
        if self._over:
            return
        if error is None and not self._decoder.between:
            # The blank line that the last event may lack.
            self.data(GAP)
        # Taking the last event may have ended it: nothing may be awaited of a stream twice.
        if not self._over:
            self._finish(error)

    def _hold(self, events: list[Event]) -> None:
        self._held += events
        if self._first is None:
            # Nearly always the first one is taken before more can come.
            self.pause()
            return
        for event in events:
            if event.data != DONE:
                waiting, self._first = self._first, None
                self._committed = True
                self._await_nothing()
                waiting.callback(event)
                return

    def _finish(self, error: WireError | None) -> None:
        self._over = True
        self._error = error
        self._await_nothing()
        if self._first is not None:
            waiting, self._first = self._first, None
            waiting.errback(error or WireError("empty-stream"))
        elif self._sink is not None:
            self._sink.ended(error)

    def _fail(self, error: WireError) -> None:
        self._exchange.abort()
        self._finish(error)

    def _await_nothing(self) -> None:
        self._silences.leave(self)
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _late(self) -> None:
        self._timer = None
        self._fail(WireError("timeout-first-byte"))

    def silent(self) -> None:
        """Take note that nothing has come for too long; see silence.py."""
        self._fail(WireError("timeout-idle"))
