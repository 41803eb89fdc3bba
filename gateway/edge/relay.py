"""Carry a committed stream to its client, at the client's pace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from gateway.calls import Call, Event, GatewayError, Headers
from gateway.dialects.gemini import StreamEncoder
from gateway.edge import errors
from gateway.edge.request import GatewayRequest
from gateway.routing.stream import EventStream
from gateway.sse import C2, E2
from gateway.upstreams import unanswered
from gateway.upstreams.exchange import WireError

CUT_SECONDS = 15.0
"""How long a client has to read the rest of a broken stream before its connection is reset."""

_USAGE = b'"usageMetadata"'
_log = Logger()


@implementer(IPushProducer)
class Relay:
    """Between an event stream and a request; the client's transport pauses and resumes it.

    The end of a whole stream is the answer's end.  A broken one gets an error event, where the framing has
    such, and a connection that drops without its final chunk, because clients overlook the event alone.
    """

    def __init__(
        self,
        request: GatewayRequest,
        call: Call,
        stream: EventStream,
        clock: IReactorTime,
        release: Callable[[], None] = lambda: None,
        failed: Callable[[bytes], bytes | GatewayError] = lambda error: error,
    ) -> None:
        """``release`` is called as soon as the stream is over, which may be long before its client has gone.

        ``failed`` judges an error event; see routing.asking.Live.
        """
        self._request = request
        self._stream = stream
        self._clock = clock
        self._release = release
        self._failed = failed
        self._encoder = StreamEncoder(call)
        self._frame = self._encoder.frame
        self._done: Deferred[bool] = Deferred()
        self._broken = False

    async def run(self, headers: Headers) -> None:
        """Relay until the stream's end; returns when the request may be finished or is gone.

        Cancelling it, as the client's leaving does, closes the connection to upstream.
        """
        request = self._request
        gone = request.notifyFinish()
        try:
            self._start(headers)
            whole = await self._done
        except CancelledError:
            gone.addErrback(lambda _: None)
            raise
        except Exception:
            if not request.startedWriting:
                gone.addErrback(lambda _: None)
                if request.producer is not None:
                    request.unregisterProducer()
                raise
            # Whoever raised past the first byte would have it end cleanly, as if it were whole.
            _log.failure("relaying request {id} failed", id=request.journal.request_id)
            self._break([], errors.body(errors.internal(request.journal.request_id)), "INTERNAL")
            whole = False
        finally:
            self._stream.abort()
            self._release()
        request.unregisterProducer()
        if not whole:
            await self._cut(gone)

    def _start(self, headers: Headers) -> None:
        request = self._request
        request.origin = "upstream"
        request.reply(
            200,
            (
                (b"content-type", self._encoder.content_type),
                # Proxies such as nginx would else gather the events.
                (b"x-accel-buffering", b"no"),
                *headers,
            ),
        )
        request.journal.first_byte = self._clock.seconds()
        request.registerProducer(self, True)
        self._stream.attach(self)

    def event(self, event: Event) -> None:
        """Write an event that came by itself; see routing.stream.Sink."""
        data, frame = event.data, self._frame
        if event.error or not frame or self._broken or not (data.isascii() or (E2 not in data and C2 not in data)):
            self.events([event])
            return
        request = self._request
        if data.find(_USAGE) >= 0:
            request.last_usage = data
        request.write(frame % data)

    def events(self, events: list[Event]) -> None:
        """Write the events of one read in one go; see routing.stream.Sink."""
        if self._broken:
            return
        for event in events:
            if event.error:
                self._fail(events, event)
                return
        last = events[-1].data
        if last.find(_USAGE) >= 0:
            self._request.last_usage = last
        else:
            self._heed_usage(events)
        data = self._encoder.encode(events)
        if data:
            self._request.write(data)

    def ending(self) -> None:
        """Let the last event wait for the answer's end, so that both go out as one; see routing.stream.Sink."""
        if not self._broken:
            self._request.hold()

    def ended(self, error: WireError | None) -> None:
        """Take the stream's end; see routing.stream.Sink."""
        if self._broken:
            return
        if error is None:
            closing = self._encoder.end()
            if closing:
                self._request.write(closing)
            self._done.callback(True)
        else:
            failure = unanswered.failure(unanswered.transport(error.kind, True))
            self._break([], errors.body(failure), failure.reason)

    def pauseProducing(self) -> None:
        """Stop reading from upstream: the client does not keep up."""
        self._stream.pause()

    def resumeProducing(self) -> None:
        """Read on."""
        self._stream.resume()

    def stopProducing(self) -> None:
        """Stop for good: the client's connection is gone."""
        self._stream.abort()

    def _fail(self, events: list[Event], event: Event) -> None:
        """Break with upstream's own last word: nothing that follows it counts."""
        before = events[: events.index(event)]
        shown = self._failed(event.error)
        if isinstance(shown, GatewayError):
            self._break(before, errors.body(shown), shown.reason)
        else:
            self._break(before, shown, "UPSTREAM_ERROR_EVENT")

    def _heed_usage(self, events: list[Event]) -> None:
        for event in reversed(events):
            if _USAGE in event.data:
                self._request.last_usage = event.data
                break

    def _break(self, before: list[Event], body: bytes, reason: str) -> None:
        self._broken = True
        self._heed_usage(before)
        self._request.reason = reason
        self._stream.abort()
        data = self._encoder.encode(before) + self._encoder.failure(body)
        if data:
            self._request.write(data)
        self._request.let_out()
        if not self._done.called:
            self._done.callback(False)

    async def _cut(self, gone: Deferred[None]) -> None:
        request = self._request
        transport: Any = request.channel.transport
        if request.clientproto == b"HTTP/1.1":
            timer = self._clock.callLater(CUT_SECONDS, transport.abortConnection)
            request.loseConnection()
        else:
            # Where the connection's end is the answer's end, only a reset tells the one from the other.
            timer = self._clock.callLater(0, transport.abortConnection)
        try:
            await gone
        except (ConnectionDone, ConnectionLost, ConnectionAborted):
            pass
        finally:
            if timer.active():
                timer.cancel()
