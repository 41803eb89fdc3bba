"""A prompt tried by the operator: through the pool like a client's, reported like one, without a client's key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import attrs
from twisted.internet.defer import CancelledError, Deferred

from gateway.calls import Call, Ended, Event, Framing, GatewayError, Journal
from gateway.composition import Composition, request_ids
from gateway.dialects import gemini
from gateway.dialects.guard import Guard, GuardError
from gateway.edge import errors
from gateway.modelid import is_model_id, no_model_id
from gateway.routing.asking import Live, Whole
from gateway.routing.session import fingerprint
from gateway.routing.stream import EventStream
from gateway.upstreams import unanswered
from gateway.upstreams.exchange import WireError

KEY_ID = "dashboard"
"""Who is calling, in the log and in what is counted."""
VERB = "streamGenerateContent"


class Screen(Protocol):
    """Where the answer is shown; writes are at its pace where it pauses the producer that it was given."""

    def begin(self, producer: Any, told: dict[str, str]) -> None:
        """Begin: ``told`` says how the request was routed."""

    def show(self, data: bytes) -> None:
        """Show an event: a JSON object."""


@attrs.define(eq=False, repr=False)
class Playground:
    """Sends prompts through the router of now; keeps nothing of them."""

    composition: Callable[[], Composition]
    clock: Any
    new_id: Callable[[], str] = attrs.field(factory=request_ids)

    async def run(self, model: str, body: bytes, peer: str, screen: Screen) -> None:
        """Stream the answer to a generateContent request; raises GatewayError before anything is shown.

        Cancelling it closes the connection to upstream.
        """
        composition = self.composition()
        call, journal = self._understood(composition, model, body, peer)
        showing = _Showing(screen, self.clock, journal)
        try:
            reply = await composition.router.run(call, journal)
            if isinstance(reply, Live):
                await showing.stream(reply)
            elif isinstance(reply, Whole):
                raise GatewayError(502, "INTERNAL", "UPSTREAM_NO_STREAM", "Upstream gave no stream.")
            else:
                showing.status, showing.origin = reply.status, "upstream"
                showing.reason = journal.attempts[-1].reason if journal.attempts else ""
                showing.begin(None)
                showing.show(reply.body)
        except GatewayError as error:
            showing.status, showing.reason = error.code, error.reason
            raise
        except CancelledError:
            showing.status, showing.reason = showing.status or 499, "CLIENT_LEFT"
            raise
        finally:
            composition.recorder.ended(showing.report(len(body)))

    def _understood(
        self, composition: Composition, model: str, body: bytes, peer: str
    ) -> tuple[Call, Journal]:
        if not is_model_id(model):
            raise no_model_id()
        guard = Guard()
        try:
            guard.feed(body)
            guard.end()
        except GuardError as problem:
            raise GatewayError(400, "INVALID_ARGUMENT", "BODY_NOT_JSON", str(problem)) from None
        members = gemini.parse_body(body)
        journal = Journal(
            request_id=self.new_id(),
            method="POST",
            path="/v1/playground",
            peer=peer,
            key_id=KEY_ID,
            verb=VERB,
            requested_model=model,
            model=composition.router.catalog.resolve(model),
            session=fingerprint(KEY_ID, None, gemini.first_user_turn(members)),
            started=self.clock.seconds(),
        )
        call = Call(
            request_id=journal.request_id,
            verb=VERB,
            model=journal.model,
            requested_model=model,
            body=body,
            session=journal.session,
            framing=Framing.SSE,
            members=members,
        )
        return call, journal


class _Showing:
    """One answer on its way to the screen; a sink of the stream, and the producer for the screen's transport."""

    def __init__(self, screen: Screen, clock: Any, journal: Journal) -> None:
        self.status = 0
        self.reason = ""
        self.origin = "gateway"
        self._screen = screen
        self._clock = clock
        self._journal = journal
        self._live: Live | None = None
        self._done: Deferred[None] = Deferred()
        self._last_usage = b""
        self._shown = 0

    async def stream(self, live: Live) -> None:
        self._live = live
        self._journal.trace_id = live.first.trace_id
        self.status, self.origin = 200, "upstream"
        try:
            self.begin(live.stream)
            live.stream.attach(self)
            await self._done
        finally:
            live.stream.abort()
            live.release()

    def begin(self, stream: EventStream | None) -> None:
        journal = self._journal
        told = {"id": journal.request_id, "model": journal.model, "credential": journal.credential}
        self._screen.begin(_Producer(stream) if stream is not None else None, told)
        journal.first_byte = self._clock.seconds()

    def show(self, data: bytes) -> None:
        self._shown += len(data)
        self._screen.show(data)

    def event(self, event: Event) -> None:
        """See routing.stream.Sink."""
        self.events([event])

    def events(self, events: list[Event]) -> None:
        """See routing.stream.Sink."""
        assert self._live is not None
        for event in events:
            if event.error:
                shown = self._live.failed(event.error)
                if isinstance(shown, GatewayError):
                    self._broken(errors.body(shown), shown.reason)
                else:
                    self._broken(shown, "UPSTREAM_ERROR_EVENT")
                return
            if event.data[:1] == b"{":
                if b'"usageMetadata"' in event.data:
                    self._last_usage = event.data
                self.show(event.data)

    def ending(self) -> None:
        """See routing.stream.Sink."""

    def ended(self, error: WireError | None) -> None:
        """See routing.stream.Sink."""
        if error is not None:
            failure = unanswered.failure(unanswered.transport(error.kind, True))
            self._broken(errors.body(failure), failure.reason)
        elif not self._done.called:
            self._done.callback(None)

    def _broken(self, body: bytes, reason: str) -> None:
        self.reason = reason
        self.show(body)
        if not self._done.called:
            self._done.callback(None)

    def report(self, received: int) -> Ended:
        usage, finish = gemini.summary(self._last_usage) if self._last_usage else (None, "")
        seconds = self._clock.seconds() - self._journal.started
        return Ended(
            self._journal, self.status or 500, self.reason, self.origin, seconds, received, self._shown, usage, finish
        )


@attrs.frozen
class _Producer:
    """Pauses upstream for a screen that does not keep up; see IPushProducer."""

    _stream: EventStream

    def pauseProducing(self) -> None:
        """Stop reading from upstream."""
        self._stream.pause()

    def resumeProducing(self) -> None:
        """Read on."""
        self._stream.resume()

    def stopProducing(self) -> None:
        """Stop for good: nobody looks any more."""
        self._stream.abort()
