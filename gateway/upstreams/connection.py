"""One connection to an upstream: one exchange at a time, and another only after one that was whole and clean."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Client
from twisted.python.failure import Failure
from twisted.web.client import ResponseFailed, ResponseNeverReceived
from twisted.web.http import PotentialDataLoss
from zope.interface import implementer

from gateway import eager
from gateway.upstreams.answers import AnswerReader, BadAnswer
from gateway.upstreams.bodies import PIECE_BYTES, Sending, WholeBody
from gateway.upstreams.response import WHOLE, Response, Sent


class Job(Protocol):
    """A request on its way, as a connection needs to know it."""

    sent: Sent
    head: bytes
    body: Any
    """An IBodyProducer, or None."""

    def answered(self, response: Response) -> None:
        """Take the head of the answer."""

    def failed(self, connection: Connection, reason: Failure) -> None:
        """Take it that no answer will come."""


class Keeper(Protocol):
    """Who has connections, and is told what becomes of them."""

    def opened(self, connection: Connection) -> None:
        """It is there."""

    def idle(self, connection: Connection) -> None:
        """It is free for another exchange."""

    def finish(self, connection: Connection) -> None:
        """It is to be closed in good order: its exchange was the last."""

    def gone(self, connection: Connection) -> None:
        """It is closed."""


@implementer(IHandshakeListener)
class Connection(TwistedProtocol):
    """Sends requests and reads answers, one after the other."""

    def __init__(self, keeper: Keeper, secure: bool) -> None:
        """``secure`` says that a handshake comes first."""
        self.ready: Deferred[Connection] = Deferred(lambda _: self.abort())
        """Fires when something can be sent: with TLS, once the certificate has been verified."""
        self.sent_at = 0.0
        self.over = False
        """Whether nothing more can be sent here."""
        self._keeper = keeper
        self._secure = secure
        self._settled = False
        self._job: Job | None = None
        self._response: Response | None = None
        self._sending: Sending | None = None
        self._reader = AnswerReader()
        self._held = False
        """Whether nobody takes the body yet."""
        self._paused = False
        """Whether who takes it wants no more for now."""
        self._stands = False

    # Its life

    def connectionMade(self) -> None:
        """See Protocol."""
        self._keeper.opened(self)
        transport: Any = self.transport
        for option in ("setTcpNoDelay", "setTcpKeepAlive"):
            # TLS passes these on, and a transport of a test's has none.
            getattr(transport, option, lambda on: None)(True)
        if type(transport) is Client:
            # What an endpoint or a proxy put between passes on what it is given, and no more.
            transport.protocol = self
        if not self._secure:
            self._settle()

    def handshakeCompleted(self) -> None:
        """The peer is who it should be; see IHandshakeListener."""
        eager.hasten(self.transport)
        self._settle()

    def _settle(self) -> None:
        if not self._settled:
            self._settled = True
            self.ready.callback(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See Protocol."""
        self.over = True
        self._keeper.gone(self)
        eager.calm(self.transport)
        if not self._settled:
            self._settled = True
            self.ready.errback(reason)
        if self._response is not None and self._reader.until_end and reason.check(ConnectionDone):
            # Nobody can tell this end from a cut.
            reason = Failure(PotentialDataLoss())
        self._fail(reason)
        self._reader.close()

    def close(self) -> None:
        """Close it in good order; nothing is under way."""
        self.over = True
        transport: Any = self.transport
        transport.loseConnection()

    def abort(self) -> None:
        """Close it at once, whatever is under way."""
        self.over = True
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    # A request

    def send(self, job: Job, now: float) -> None:
        """Send a request; its head and a small body go out in one write."""
        self.sent_at = now
        self._job = job
        self._reader.begin(job.sent.method == b"HEAD")
        transport: Any = self.transport
        body, write = job.body, eager.write_secure if self._secure else eager.write
        if body is None:
            write(transport, job.head)
        elif type(body) is WholeBody and body.length <= PIECE_BYTES:
            write(transport, job.head + body.data)
        else:
            write(transport, job.head)
            self._sending = Sending(body, transport, self._body_sent)
            self._sending.start()

    @property
    def touched(self) -> bool:
        """Whether anything of an answer to the last request has come."""
        return self._reader.fed > 0

    def forget(self) -> None:
        """Close at once, and tell nobody."""
        self._job = self._response = None
        self._stop_sending()
        self.abort()

    def _body_sent(self, error: Exception | None) -> None:
        self._sending = None
        if error is not None:
            self._broken(error)

    def _stop_sending(self) -> None:
        sending, self._sending = self._sending, None
        if sending is not None:
            # The peer waits for the rest, so nothing else can be sent here.
            self._reader.unclean = True
            sending.stop()

    # An answer

    def dataReceived(self, data: bytes) -> None:
        """See Protocol."""
        if self.over:
            return
        reader, response = self._reader, self._response
        if response is None:
            self._begin(data)
            return
        piece = reader.feed(data)
        if piece:
            if reader.complete:
                response.ending()
            (response.take or response.hold)(piece)
        # Most reads change nothing, and it is not worth a call to find that out.
        if (reader.complete or reader.fault) and self._response is response and not self.over:
            self._go_on(response)

    def _begin(self, data: bytes) -> None:
        """Take what comes before an answer's head is whole, and with the rest of it."""
        job, reader = self._job, self._reader
        if job is None:
            # Nothing was asked, so nothing that comes is an answer.
            self.abort()
            return
        piece = reader.feed(data)
        if reader.head is not None:
            self._announce(job, piece)
        elif reader.fault:
            self._broken(BadAnswer(reader.fault))

    def _announce(self, job: Job, piece: bytes) -> None:
        """Hand on an answer's head, with what of its body came in the same read."""
        head = self._reader.head
        assert head is not None
        if self._reader.complete and not self._reader.fault:
            # All of it at once, as most come that are no streams.
            self._release()
            job.answered(Response(None, job.sent, head, piece, WHOLE))
            return
        response = Response(self, job.sent, head, piece)
        self._response = response
        if head.code >= 400:
            # Who refuses a request before it is all there does not read the rest.
            self._stop_sending()
        job.answered(response)
        if self._response is response and not self.over:
            self._held = not response.taken
            self._go_on(response)

    def _go_on(self, response: Response) -> None:
        if self._reader.fault:
            self._broken(BadAnswer(self._reader.fault))
        elif self._reader.complete:
            self._release()
            response.ended(WHOLE)
        else:
            self._flow()

    def _release(self) -> None:
        """Be free for the next request after an answer that is whole, if all was clean."""
        self._job = self._response = None
        if self._sending is not None:
            self._stop_sending()
        self._held = self._paused = False
        if self._stands:
            self._flow()
        if self._reader.unclean:
            self.abort()
        elif self._reader.persistent:
            self._keeper.idle(self)
        else:
            self._keeper.finish(self)

    def _broken(self, error: Exception) -> None:
        """Give up on this connection."""
        self.abort()
        self._fail(Failure(error))

    def _fail(self, reason: Failure) -> None:
        """Tell whoever waits here."""
        job, response = self._job, self._response
        self._job = self._response = None
        self._stop_sending()
        if response is not None:
            response.ended(reason if reason.check(PotentialDataLoss) else Failure(ResponseFailed([reason])))
        elif job is not None:
            kind = ResponseFailed if self.touched else ResponseNeverReceived
            job.failed(self, Failure(kind([reason])))

    # The reader's pace

    def pause(self) -> None:
        """Read no more from upstream for now."""
        self._paused = True
        self._flow()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        self._flow()

    def unhold(self) -> None:
        """Read what was not read while nobody took it."""
        self._held = False
        self._flow()

    def _flow(self) -> None:
        stands = self._held or self._paused
        if stands != self._stands and not self.over:
            self._stands = stands
            transport: Any = self.transport
            if stands:
                transport.pauseProducing()
            else:
                transport.resumeProducing()
