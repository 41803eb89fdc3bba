"""One try: a request to upstream, and what its answer was."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import msgspec
from twisted.internet.interfaces import IReactorTime

from gateway.calls import Call, Event, GatewayError, HttpRequest
from gateway.config import Limits, Timeouts
from gateway.routing.outcome import Failure, Refusal
from gateway.routing.pool import Member
from gateway.routing.silence import Silences
from gateway.routing.stream import EventStream
from gateway.splice import NotAnObject
from gateway.upstreams import unanswered
from gateway.upstreams import verdict as verdicts
from gateway.upstreams.durations import SHORT, retry_after
from gateway.upstreams.exchange import Exchange, Wire, WireError

ERROR_BODY_BYTES = 256 * 1024
LEAST_SECONDS = 0.001
"""For a request whose time is up before it was sent: it fails as those do that were."""
_PLAIN = (b"", b"identity")


class Whole(msgspec.Struct, frozen=True):
    """A good answer in one piece."""

    event: Event


class Live(msgspec.Struct, frozen=True):
    """A good stream: its first event has come and nothing of it has been passed on.

    ``release`` is called once when the stream is over, whatever its end.  ``failed`` takes an error event that came
    later: it judges it, which may cost the credential its standing, and returns what the client may see of it, an
    ``{"error": ...}`` object of upstream's or a GatewayError in its place.
    """

    stream: EventStream
    first: Event
    release: Callable[[], None]
    failed: Callable[[bytes], bytes | GatewayError]


class Uses(msgspec.Struct, frozen=True):
    """What a stream reports back when it is long under way; see Live."""

    release: Callable[[], None]
    failed: Callable[[bytes], bytes | GatewayError]


UNUSED = Uses(lambda: None, lambda error: error)
"""For a call that is no stream."""

Reply = Whole | Live | Refusal


@attrs.frozen
class Asker:
    """Sends one request and judges what comes back."""

    wire: Wire
    clock: IReactorTime
    wall_seconds: Callable[[], float]
    timeouts: Timeouts
    limits: Limits
    _silences: Silences = attrs.field(
        init=False, default=attrs.Factory(lambda self: Silences(self.clock, self.timeouts.idle), takes_self=True)
    )

    async def ask(
        self, call: Call, member: Member, request: HttpRequest, now: float, by: float, uses: Uses
    ) -> Whole | Live | Failure:
        """Return the answer, a stream with its first event; ``by`` is when it has to be there."""
        exchange: Exchange | None = None
        try:
            exchange = await self.wire.open(request, max(by - now, LEAST_SECONDS), member.credential.upstream)
            left = max(by - self.clock.seconds(), LEAST_SECONDS)
            coding = exchange.headers.get(b"content-encoding")
            if coding is not None and coding.strip().lower() not in _PLAIN:
                # It was not asked for, and a small one can unpack to gigabytes: none is unpacked.
                exchange.abort()
                if exchange.status == 200:
                    return Failure(unanswered.transport("encoded", call.streams))
                return self._refused(exchange, b"")
            if exchange.status != 200:
                return await self._judged(exchange, left)
            if call.streams:
                return await self._stream(member, exchange, left, uses)
            # Of what is no stream the client gets nothing before it is whole.
            return self._whole(member, await exchange.read(self.limits.event, self.timeouts.idle, left))
        except WireError as error:
            return Failure(unanswered.transport(error.kind, call.streams))
        except BaseException:
            # Nobody will take the rest of it: the client has left, or the fault is ours.
            if exchange is not None:
                exchange.abort()
            raise

    async def _judged(self, exchange: Exchange, seconds: float) -> Failure:
        try:
            body = await exchange.read(ERROR_BODY_BYTES, self.timeouts.idle, seconds)
        except WireError:
            body = b""
        return self._refused(exchange, body)

    def _refused(self, exchange: Exchange, body: bytes) -> Failure:
        wall = self.wall_seconds()
        verdict = verdicts.judge(exchange.status, exchange.headers, body, wall)
        return Failure(verdict, body, _retry_after(exchange.headers.get(b"retry-after"), wall))

    def _whole(self, member: Member, body: bytes) -> Whole | Failure:
        try:
            event = member.upstream.unwrap(body)
        except NotAnObject:
            return Failure(unanswered.transport("not-json", False))
        if event.error:
            return Failure(verdicts.judge_error_object(event.error, self.wall_seconds()), event.error)
        if not event.data:
            return Failure(unanswered.transport("not-json", False))
        return Whole(event)

    async def _stream(
        self, member: Member, exchange: Exchange, seconds: float, uses: Uses
    ) -> Live | Failure:
        kind = exchange.headers.get(b"content-type", b"").split(b";", 1)[0].strip().lower()
        if kind != b"text/event-stream":
            exchange.abort()
            return Failure(unanswered.transport("bad-content-type", True))
        stream = EventStream(exchange, member.upstream.unwrap, self._silences, self.limits.event)
        first = await stream.first(seconds)
        if first.error:
            stream.abort()
            return Failure(verdicts.judge_error_object(first.error, self.wall_seconds()), first.error)
        return Live(stream, first, uses.release, uses.failed)


def _retry_after(value: bytes | None, wall_seconds: float) -> bytes:
    """Return what a client is told of upstream's Retry-After: whole seconds, never more than an hour."""
    seconds = None if value is None else retry_after(value, wall_seconds)
    return b"" if seconds is None else b"%d" % math.ceil(SHORT.clamp(seconds))
