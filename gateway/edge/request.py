"""One request of a client's: judged when its head is complete, its body bounded, its end reported once.

Twisted's own site reads a whole body, without limit, before anybody is asked.  Here the gate judges when
``gotLength`` is called.  A refusal is written at once; what the client still sends is then discarded, up to a
limit and a deadline, because a client that is cut off while it writes would see a broken pipe instead of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from msgspec import UNSET
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import parse_qs
from twisted.web.resource import IResource

from gateway.calls import Ended, GatewayError, Headers, Journal, Recorder, Usage
from gateway.config import Limits
from gateway.dialects.gemini import summary
from gateway.dialects.guard import GuardError
from gateway.edge import errors
from gateway.edge.answering import NO_ARGS, NO_FIELDS, STREAMING_ARGS, Answering, Answers
from gateway.edge.channel import GatewayChannel
from gateway.edge.gate import KEY_INVALID, Admitted, Gate, Head
from gateway.edge.guesses import Guesses
from gateway.edge.intake import NO_BODY, Intake
from gateway.edge.keys import carried
from gateway.edge.origins import NO_BROWSER, Browser
from gateway.edge.proxies import NO_PROXIES
from gateway.edge.room import Room
from gateway.edge.storing import Spare
from gateway.folding import Folded
from gateway.keys.holders import Holder
from gateway.keys.meters import Meter, Meters
from gateway.tracecontext import Contexts

LINGER_SECONDS = 15.0
"""How long a refused request's body is read, so that the refusal can be read."""
UNWANTED_BYTES = 16 * 1024
"""How much of a body is let pass that OPTIONS has no use for."""

_log = Logger()


class House(Answers, Protocol):
    """What a request needs of its site."""

    gate: Gate
    limits: Limits
    room: Room
    meters: Meters
    spare: Spare
    guesses: Guesses
    recorder: Recorder
    contexts: Contexts | None
    new_id: Callable[[], str]
    resource: IResource
    cut: bool

    def opened(self) -> None:
        """Take note of a request's beginning."""

    def closed(self) -> None:
        """Take note of a request's end."""


class GatewayRequest(Answering):
    """One request: its head is judged before its body is taken, its end is reported once."""

    __slots__ = ("_gathered", "gate", "limits", "resource")

    gateway: House
    key_id = ""
    holder: Holder | None = None
    """Who is calling, where it is with a key that the gateway has made."""
    fixed: str | None = None
    usage: Usage | None = None
    finish_reason = ""
    last_usage = b""
    """Of a stream: the last event that told of usage, read when the request is over, however it ends."""
    args = NO_ARGS
    received = 0
    """Bytes of the body."""
    refused = False
    _authority: Sequence[bytes] = ()
    _held = 0
    """How many bytes of the body count against limits.buffered."""
    _streaming = False
    _meter: Meter | None = None
    """Its key's, where what it uses counts."""
    _counted = False
    """Whether it is among its key's requests under way."""
    _discarded_to = 0
    _intake: Intake | None = None
    """Takes the body, if one is to come."""
    _settled: Headers | None = None
    _linger: IDelayedCall | None = None

    def __init__(self, channel: GatewayChannel) -> None:
        super().__init__(channel)
        site: Any = channel.site
        self.gateway = site

    def begin(self, method: bytes, target: bytes, version: bytes, named: Mapping[bytes, Sequence[bytes]]) -> None:
        """Take the head, when it is complete and nothing was decided; ``named`` has its fields by lower-case name."""
        self.method, self.uri, self.clientproto = method, target, version
        self.named = named
        # What is reloaded meanwhile is for the requests after this one.
        gateway = self.gateway
        gate = self.gate = gateway.gate
        self.limits, self.resource = gateway.limits, gateway.resource
        origin_form = target
        if target[:1] != b"/" and b"://" in target:
            # The absolute form, RFC 9112 section 3.2.2.
            authority, _, rest = target.split(b"//", 1)[1].partition(b"/")
            self._authority = (authority,)
            origin_form = b"/" + rest
        self.path, _, query = origin_form.partition(b"?")
        if query:
            self.args = STREAMING_ARGS if query == b"alt=sse" else parse_qs(query, True)
        peer = self.channel.peer_name
        if gate.proxies is not NO_PROXIES:
            peer = gate.proxies.client(peer, named.get(b"x-forwarded-for", ()))
        self.journal = Journal(
            request_id=gateway.new_id(),
            method=method.decode("latin-1"),
            path=self.path.decode("latin-1"),
            peer=peer,
            started=gateway.clock.seconds(),
        )
        if gateway.contexts is not None:
            self.journal.trace = gateway.contexts.begin(named)
        gateway.opened()

    def gotLength(self, length: int | None) -> None:
        """Judge the head.  Called by the channel; see http.Request."""
        gate, gateway, head = self.gate, self.gateway, self._head(length)
        if gate.origins.allowed:
            self.shared = gate.origins.headers(head.browser)
        try:
            admitted = gate.judge(head)
            self.journal.key_id = admitted.key_id if admitted.counts else ""
            gateway.room.expect(length or 0)
            if admitted.counts:
                self._meter, self._counted = gateway.meters.enter(admitted.key_id, self.journal.started), True
        except GatewayError as error:
            if not self.journal.key_id and (known := error.metadata.get("key", "")):
                self.journal.key_id, self._meter = known, gateway.meters.meter(known)
            self.refuse(self._guessed(head, error))
        except Exception:
            # A door that fails stays shut.
            _log.failure("request {id} failed at the gate", id=self.journal.request_id)
            self.refuse(errors.internal(self.journal.request_id))
        else:
            self._admit(admitted, length)

    def _head(self, length: int | None) -> Head:
        values = self.named.get
        keys = carried(
            values(b"x-goog-api-key", ()), values(b"x-api-key", ()), values(b"authorization", ()),
            self.args.get(b"key", ()),
        )  # fmt: skip
        browser = NO_BROWSER
        if b"origin" in self.named or b"sec-fetch-site" in self.named:
            preflight = self.method == b"OPTIONS" and b"access-control-request-method" in self.named
            browser = Browser(values(b"origin", ()), values(b"sec-fetch-site", ()), preflight)
        return Head(
            self.method,
            self.path,
            len(self.uri),
            keys,
            length,
            values(b"x-antigravity-credential", ()),
            hosts=[*values(b"host", ()), *self._authority],
            local=self.channel.local_name,
            browser=browser,
            encodings=values(b"content-encoding", ()),
            peer=self.journal.peer,
        )

    def _guessed(self, head: Head, error: GatewayError) -> GatewayError:
        """Return what a client is told: of wrong keys, that it has tried too many, where it has."""
        if error.reason != KEY_INVALID or not head.keys:
            return error
        wrong = self.gateway.guesses.failed(self.journal.peer, len(set(head.keys)), self.journal.started)
        return wrong or error

    def _admit(self, admitted: Admitted, length: int | None) -> None:
        self.key_id = admitted.key_id
        if admitted.holder is not None:
            self.holder = admitted.holder
        if admitted.credential is not None:
            self.fixed = admitted.credential
        self.path = admitted.path.encode("ascii")
        self.journal.path = admitted.path
        if admitted.settled is not None:
            self._settled = admitted.settled
        if length != 0:
            self._intake = Intake(length, self.method == b"POST", self.gateway.spare)

    def refuse(self, error: GatewayError) -> None:
        """Answer now and take no more of the body; the connection closes when the client is through."""
        self.refused = True
        self._give_back()
        self._discarded_to = self.received + self.limits.body
        self.channel.persistent = 0
        self.last = True
        self.fail(error)
        self._linger = self.gateway.clock.callLater(LINGER_SECONDS, self.loseConnection)

    def handleContentChunk(self, data: bytes) -> None:
        """Take the body's next bytes.  Called by the channel; see http.Request."""
        self.received += len(data)
        if self.refused:
            if self.received > self._discarded_to:
                self.loseConnection()
            return
        if self._settled is not None:
            if self.received > UNWANTED_BYTES:
                self.loseConnection()
            return
        if self.received > self.limits.body:
            self.refuse(self.gate.too_large())
            return
        if not self._finds_room(len(data)):
            return
        assert self._intake is not None
        try:
            self._intake.add(data)
        except GuardError as problem:
            self._refuse_text(problem)

    def place(self, most: int) -> memoryview | None:
        """Return where the body's next bytes may be put at once, if there is such a place; see ``placed``."""
        return None if self.refused or self._intake is None else self._intake.place(most)

    def placed(self, part: memoryview) -> None:
        """Take the body's next bytes, which are in the place."""
        if self._intake is None or not self._intake.placed(part):
            self.handleContentChunk(bytes(part))
            return
        self.received += len(part)
        self._finds_room(len(part))

    def _finds_room(self, count: int) -> bool:
        try:
            self.gateway.room.take(count)
        except GatewayError as error:
            self.refuse(error)
            return False
        self._held += count
        return True

    def _refuse_text(self, problem: GuardError) -> None:
        self.refuse(GatewayError(400, "INVALID_ARGUMENT", "BODY_NOT_JSON", str(problem)))

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Process the whole request.  Called by the channel; see http.Request."""
        if self._intake is not None and not self.refused:
            try:
                self._intake.end()
            except GuardError as problem:
                self._refuse_text(problem)
        if self._settled is not None:
            self.reply(204, self._settled)
            self.finish()
        elif self.refused:
            self.finish()
        else:
            self.process()

    def process(self) -> None:
        """Hand the request to the resource tree, under the path in its plain form."""
        self.resource.render(self)

    def take_stream(self) -> None:
        """Make room for a stream, which is given back with the request's end; raises GatewayError."""
        self.gateway.room.take_stream()
        self._streaming = True

    def _give_back(self) -> None:
        self.let_go()
        if self._streaming:
            self.gateway.room.give_stream()
            self._streaming = False
        if self._counted and self._meter is not None:
            self._meter.left()
            self._counted = False

    def body(self) -> Folded:
        """Return the request's body, once."""
        return NO_BODY if self._intake is None else self._intake.take()

    def let_go(self) -> None:
        """Keep nothing of what asked for the answer: that may go on for long."""
        if self._intake is not None:
            self._intake.drop()
        self.gateway.room.give(self._held)
        self._held, self._intake, self.named = 0, None, NO_FIELDS

    def processingFailed(self, reason: Failure) -> None:
        """Answer a fault of ours without telling about it, and log it.  See http.Request."""
        _log.failure("request {id} failed", failure=reason, id=self.journal.request_id)
        if not self.startedWriting and not self._disconnected:
            self.fail(errors.internal(self.journal.request_id))
            self.finish()
        else:
            self.loseConnection()

    def _cleanup(self) -> None:
        super()._cleanup()
        self._report(False)

    def connectionLost(self, reason: Failure) -> None:
        """See http.Request."""
        self._disconnected, self._flows = True, False
        self._report(True)
        self.cancel()
        super().connectionLost(reason)

    def _report(self, left: bool) -> None:
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        self._give_back()
        if self.last_usage:
            self.usage, self.finish_reason = summary(self.last_usage)
        gateway, journal, reason = self.gateway, self.journal, self.reason
        if left and not reason:
            reason = "GATEWAY_STOPPED" if gateway.cut else "CLIENT_LEFT"
        now = gateway.clock.seconds()
        meter = self._meter
        micros = UNSET if meter is None else gateway.meters.charge(meter, journal.model, self.usage, now)
        gateway.recorder.ended(
            Ended(
                journal,
                self.code if self.startedWriting else 499,
                reason,
                self.origin,
                now - journal.started,
                self.received,
                self.sentLength,
                self.usage,
                self.finish_reason,
                micros,
            )
        )
        gateway.closed()
