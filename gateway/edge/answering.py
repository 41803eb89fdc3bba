"""A request as far as it is answered: one head, one write for each piece, and an end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web import server
from twisted.web.http_headers import Headers as HeaderFields

from gateway import eager
from gateway.calls import GatewayError, Headers, Journal
from gateway.edge import errors
from gateway.edge.answer import LAST_CHUNK, NO_BODY, chunk, has_length, head
from gateway.edge.channel import JSON_TYPE, GatewayChannel, common_lines

ONE_PIECE_BYTES = 64 * 1024
"""How much of a body is copied, so that it and its head are one write."""
NO_FIELDS: Mapping[bytes, Sequence[bytes]] = {}
NO_ARGS: dict[Any, Any] = {}
"""Those of a target without a query; nobody changes them."""
STREAMING_ARGS: dict[Any, Any] = {b"alt": [b"sse"]}
"""Those of what SDKs ask for streams with; nobody changes them."""


class Cancellable(Protocol):
    """What works on an answer."""

    def cancel(self) -> None:
        """Let it end before its time."""


class Answers(Protocol):
    """What an answer needs to know of the site."""

    clock: IReactorTime
    stopping: bool


class Answering(server.Request):
    """Puts answers together by itself, because Twisted's own sorts and checks each header field by its own rules.

    What most requests do not change stands in the class, and what all have has slots: one of fewer than 30 attributes
    in its dictionary costs less time and half the memory, since such objects share the table of their names.
    """

    __slots__ = ("gateway", "journal")

    channel: GatewayChannel
    gateway: Answers
    journal: Journal
    reason = ""
    origin = "gateway"
    last = False
    """Whether the connection closes after this answer."""
    shared: Headers = ()
    """What lets a configured origin's page read the answer."""
    named: Mapping[bytes, Sequence[bytes]] = NO_FIELDS
    """The request's header fields by name, in lower case."""
    queued = False
    notifications: Any = ()
    _parsePOSTFormSubmission = False
    _fields: Headers = ()
    _sized = False
    """Whether a body's length is among the fields."""
    _bodyless = False
    _flows = False
    """Whether its head has gone out and its body follows: all that a stream's events have to ask."""
    _holds = False
    _unsent = b""
    """What was written since ``hold``."""
    _handler: Cancellable | None = None

    # What server.Request has and nothing here uses, made for whoever of Twisted's asks for it.  By properties, since
    # a __getattr__ would make every look at any attribute of a request a slow one.
    requestHeaders: Any = cached_property(lambda self: HeaderFields())
    responseHeaders: Any = cached_property(lambda self: HeaderFields())
    cookies: Any = cached_property(lambda self: [])
    received_cookies: Any = cached_property(lambda self: {})
    _adapterCache: Any = cached_property(lambda self: {})
    transport: Any = cached_property(lambda self: self.channel.transport)
    client: Any = cached_property(lambda self: self.channel.peer)
    host: Any = cached_property(lambda self: self.channel.host)

    def __init__(self, channel: GatewayChannel) -> None:
        # In the place of server.Request's own, which makes of every request header objects, dictionaries and lists
        # at which nobody here looks.
        self.channel = channel

    def runs(self, handler: Cancellable) -> None:
        """Let this be cancelled when the client leaves."""
        self._handler = handler

    @property
    def over(self) -> bool:
        """Whether nobody waits for the rest of the answer: it has ended, or its client has left."""
        return bool(self.finished or self._disconnected)

    def cancel(self) -> None:
        """Cancel what works on the answer."""
        if self._handler is not None:
            self._handler.cancel()

    def header(self, name: bytes) -> bytes | None:
        """Return the last value of a field of the request."""
        values = self.named.get(name)
        return values[-1] if values else None

    def reply(self, status: int, headers: Headers = (), sized: bool = False) -> None:
        """Set status and header fields of the answer; its body is the caller's.

        Who knows that the body's length is among the fields says that it is ``sized``; else it is looked for.
        """
        self.code = status
        self._fields = (*self.shared, *headers) if self.shared else headers
        self._sized = sized or has_length(headers)
        if self.gateway.stopping:
            self._end_connection()
        elif self.clientproto == b"HTTP/1.0" and not self.last and not self._sized:
            # HTTP/1.0 has no chunks: another answer can follow if this one says its length.  RFC 9112 section 9.3.
            self._end_connection()

    def _end_connection(self) -> None:
        """Let this answer be the connection's last, and say so."""
        if self.channel is not None:
            self.channel.persistent = 0
        self.last = True

    def write(self, data: bytes) -> None:
        """Write some of the answer; the head goes out with the first of it, in one piece.  See http.Request."""
        if self._flows:
            if size := len(data):
                self.sentLength += size
                # As `chunk` does it and the channel writes it, for each event of a stream.
                eager.write(self.channel.transport, b"%x\r\n%b\r\n" % (size, data) if self.chunked else data)
            return
        if self.finished:
            raise RuntimeError("nothing can be written to an answer that is over")
        if self._disconnected:
            return
        if self.startedWriting:
            if self._holds and data and not self._bodyless:
                self._hold_or_write(data)
            return
        self.startedWriting = 1
        version, fields = self.clientproto, self._fields
        if self.method == b"HEAD" or self.code in NO_BODY:
            self._bodyless = True
        if not self._bodyless and version == b"HTTP/1.1" and not self._sized:
            fields = (*fields, (b"Transfer-Encoding", b"chunked"))
            self.chunked = 1
        if self.last:
            fields = (*fields, (b"Connection", b"close"))
        elif version == b"HTTP/1.0":
            fields = (*fields, (b"Connection", b"keep-alive"))
        first = head(version, self.code, fields, common_lines(self.journal.request_id, self.origin))
        self._fields = ()
        self._flows = not self._bodyless and not self._holds
        if not data or self._bodyless:
            self.channel.write(first)
            return
        self.sentLength = len(data)
        if self.chunked:
            data = chunk(data)
        if len(data) > ONE_PIECE_BYTES:
            self.channel.writeSequence((first, data))
        elif self._holds:
            self._unsent = first + data
        else:
            self.channel.write(first + data)

    def _hold_or_write(self, data: bytes) -> None:
        if len(data) > ONE_PIECE_BYTES:
            # To save a write is not worth a copy of this.
            self.let_out()
            self.write(data)
        else:
            self.sentLength += len(data)
            self._unsent += chunk(data) if self.chunked else data

    def hold(self) -> None:
        """Let what is written from here on wait for the answer's end, and go out with it: one write in place of two.

        Whoever calls this knows that the end follows at once.
        """
        self._holds, self._flows = True, False

    def let_out(self) -> None:
        """Write what was held, since the end does not follow after all."""
        held, self._unsent, self._holds = self._unsent, b"", False
        self._flows = bool(self.startedWriting) and not self._bodyless
        if held and not self._disconnected:
            self.channel.write(held)

    def finish(self) -> None:
        """End the answer; see http.Request, whose access log and sessions nobody has here."""
        if self._disconnected:
            raise RuntimeError("an answer whose client has left cannot be ended")
        if self.finished:
            return
        if not self.startedWriting:
            self.write(b"")
        last = self._unsent + LAST_CHUNK if self.chunked else self._unsent
        if last:
            self.channel.write(last)
            self._unsent = b""
        self.finished, self._flows = 1, False
        self._cleanup()

    def notifyFinish(self) -> Deferred[None]:
        """See http.Request."""
        if not self.notifications:
            self.notifications = []
        waiting: Deferred[None] = super().notifyFinish()
        return waiting

    def _cleanup(self) -> None:
        if self.producer is not None or self.notifications:
            super()._cleanup()
        else:
            self.channel.requestDone(self)
            del self.channel

    def answer(self, status: int, body: bytes, headers: Headers = ()) -> None:
        """Write a whole JSON answer, except for its end, which whoever drives the request makes."""
        self.reply(
            status,
            (
                (b"content-type", JSON_TYPE),
                (b"content-length", b"%d" % len(body)),
                *headers,
            ),
            sized=True,
        )
        self.write(body)
        if self.journal.first_byte is None:
            self.journal.first_byte = self.gateway.clock.seconds()

    def fail(self, error: GatewayError, headers: Headers = ()) -> None:
        """Write an error of the gateway's own, except for its end."""
        self.reason = error.reason
        self.origin = "gateway"
        self.answer(error.code, errors.body(error), (*headers, *errors.headers(error)))
