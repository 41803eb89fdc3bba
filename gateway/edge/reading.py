"""A connection whose heads and bodies are read by the strict readers of head.py and chunks.py, not by Twisted's.

What Twisted's channel does besides stays: one request at a time with later ones kept and held back, and producers.
What cannot be read becomes a request too, which is refused and reported like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.abstract import FileDescriptor
from twisted.web import http

from gateway.calls import GatewayError
from gateway.config import Limits
from gateway.edge import head
from gateway.edge.chunks import Chunks
from gateway.edge.paced import PacedChannel, Timed

TRAILERS_MOST = 8 * 1024
"""How many bytes of header fields may follow a body."""
LARGE_BYTES = 128 * 1024
"""From which size on a body is read in larger pieces."""
READ_BYTES = 256 * 1024
"""How large they are at most; Twisted reads a quarter of it."""
UNREADABLE = b"-"
"""Stands for the method and the target of what has no readable head."""
_HEAD_END = b"\r\n\r\n"
_LINE_END = b"\r\n"
"""By itself it is no beginning of a request: some clients send one behind a body."""


class Turn(Protocol):
    """What a connection needs of its requests."""

    refused: bool
    reason: str
    startedWriting: int
    last: bool

    def begin(self, method: bytes, target: bytes, version: bytes, named: Mapping[bytes, Sequence[bytes]]) -> None:
        """Take the head, when it is complete and nothing was decided; ``named`` has its fields by lower-case name."""

    def gotLength(self, length: int | None) -> None:
        """Judge the head."""

    def handleContentChunk(self, data: bytes) -> None:
        """Take the next bytes of the body, or let them pass."""

    def place(self, most: int) -> memoryview | None:
        """Return where the body's next bytes may be put at once, if there is such a place."""

    def placed(self, part: memoryview) -> None:
        """Take the body's next bytes, which are in the place."""

    def refuse(self, error: GatewayError) -> None:
        """Answer now, and let pass what still comes."""

    def finish(self) -> None:
        """End the answer."""


class Limited(Timed, Protocol):
    """What a connection needs of its site to read requests."""

    limits: Limits


class ReadingChannel(PacedChannel):
    """Reads requests one after the other, and tells each its head before any of its body is kept."""

    # As in Answering: with few names in its dictionary, a connection takes half the memory.
    __slots__ = ("_chunks", "_in_body", "_left", "_lost", "_reads_much", "_searched", "_stands", "_unread")

    site: Limited
    requests: list[Any]

    def __init__(self) -> None:
        super().__init__()
        self._unread = b""
        self._searched = 0
        self._left = 0
        """Bytes that the body still has, where its length was said."""
        self._chunks: Chunks | None = None
        self._in_body = False
        self._reads_much = False
        """Whether it reads in larger pieces just now."""
        self._lost = False
        """Whether it cannot be known any more where the next request begins."""
        self._stands = False
        """Whether the client may be held back, as it is by the transport or by what came too early."""

    def dataReceived(self, data: bytes) -> None:
        """Take bytes; those that come while a request is worked on wait for its end.  See IProtocol."""
        if self._handlingRequest:
            self._keep(data)
            return
        self._unread = self._unread + data if self._unread else data
        while self._unread and not self._handlingRequest:
            if not (self._read_body() if self._in_body else self._read_head()):
                break
        if self._unread:
            if self._handlingRequest:
                data, self._unread = self._unread, b""
                self._keep(data)
            elif self._unread != _LINE_END:
                self.pace.came(self._now())

    def _keep(self, data: bytes) -> None:
        """Keep what comes while a request is worked on.

        Twisted's channel does it and, when it is much, holds the client back.
        """
        self._stands = True
        self.rawDataReceived(data)

    def pauseProducing(self) -> None:
        """See HTTPChannel."""
        self._stands = True
        super().pauseProducing()

    def allContentReceived(self) -> None:
        """Let the request that is complete be worked on; see HTTPChannel, whose modes and timer nothing here uses."""
        self.pace.body_over(self._now())
        self._handlingRequest = True
        request = self.requests[-1]
        request.requestReceived(request.method, request.uri, request.clientproto)

    def requestDone(self, request: http.Request) -> None:
        """Turn to what came meanwhile; see HTTPChannel, which would ask the reactor to read on every time."""
        self.pace.answered(self._now())
        if request is not self.requests[0]:
            raise TypeError("requests are answered in their order")
        del self.requests[0]
        if self._stands and not self._waitingForTransport:
            self._stands = False
            self._networkProducer.resumeProducing()
        if not self.persistent:
            self.loseConnection()
            return
        self._handlingRequest = False
        if self._dataBuffer:
            data = b"".join(self._dataBuffer)
            self._dataBuffer = []
            self.dataReceived(data)

    def _read_head(self) -> bool:
        """Read a head; False where more must come first."""
        if self._lost:
            data, self._unread = self._unread, b""
            if self.requests:
                self.requests[-1].handleContentChunk(data)
            return False
        transport: Any = self.transport
        if transport.disconnecting:
            # The answer to a request that begins now would never be written.
            self._unread = b""
            return False
        unread = self._unread
        # RFC 9112 section 2.2: one empty line before a request is let pass; a second is found to be no request line.
        start = 2 if unread[:2] == b"\r\n" else 0
        end = unread.find(_HEAD_END, max(start, self._searched - 3))
        most = self.site.limits.head
        if (len(unread) if end < 0 else end + 4) - start > most:
            error = self._too_large(unread[start : start + most])
            self.refuse_unread(error, end < 0 or _announces_body(unread[:end]))
        elif end >= 0:
            self._unread = unread[end + 4 :]
            self._searched = 0
            self._begin(unread[start : end + 4])
        elif head.hopeless(unread[start:], self._searched - start):
            self.refuse_unread(head.diagnose(unread[start:]), True)
        else:
            self._searched = len(unread)
            return False
        return True

    def _begin(self, raw: bytes) -> None:
        try:
            found = head.read(raw)
        except GatewayError as error:
            self.refuse_unread(error, _announces_body(raw))
            return
        request, unread, length = self._request(), self._unread, found.length
        whole = length is not None and length <= len(unread)
        if not whole:
            # Else the body is over as soon as it begins.
            self.pace.head_over(self._now())
        self.persistent = found.persistent
        if not found.persistent:
            request.last = True
        request.begin(found.method, found.target, found.version, found.named)
        request.gotLength(length)
        if whole:
            if length:
                self._unread = unread[length:]
                request.handleContentChunk(unread[:length])
            self.allContentReceived()
            return
        self._in_body = True
        self._chunks = Chunks(TRAILERS_MOST) if length is None else None
        self._left = length or 0
        if self._left > LARGE_BYTES:
            self._read_at_most(READ_BYTES)
        # A client whose body is here already does not wait, and one that was refused must not send it.
        if found.expects and not self._unread and not request.startedWriting:
            self._send100Continue()

    def _request(self) -> Any:
        request: Any = self.requestFactory(self)
        self.requests.append(request)
        return request

    def place(self) -> memoryview | None:
        """Return where the next bytes that come may be put at once; see process.turns."""
        if not self._in_body or self._chunks is not None or self._handlingRequest or self._unread:
            return None
        place: memoryview | None = self.requests[-1].place(min(self._left, READ_BYTES))
        return place

    def placed(self, part: memoryview) -> None:
        """Take bytes that are in the place."""
        self._left -= len(part)
        self.requests[-1].placed(part)
        if not self._left:
            self._end_body()

    def _read_body(self) -> bool:
        data, self._unread = self._unread, b""
        request: Turn = self.requests[-1]
        if self._chunks is None:
            body, self._unread = data[: self._left], data[self._left :]
            self._left -= len(body)
            over = self._left == 0
        else:
            try:
                body = self._chunks.feed(data)
            except GatewayError as error:
                self._lose(request, error)
                return False
            over = self._chunks.done
            self._unread = self._chunks.rest
        if body:
            request.handleContentChunk(body)
        if over:
            self._end_body()
        return True

    def _end_body(self) -> None:
        if self._reads_much:
            self._read_at_most(FileDescriptor.bufferSize)
        self._in_body = False
        self._chunks = None
        self.allContentReceived()

    def _read_at_most(self, size: int) -> None:
        transport: Any = self.transport
        transport.bufferSize = size
        self._reads_much = size > FileDescriptor.bufferSize

    def _lose(self, request: Turn, error: GatewayError) -> None:
        """End a request of which nobody knows where it ends."""
        self._lost, self._in_body = True, False
        if request.startedWriting:
            self.loseConnection()
        else:
            request.refuse(error)

    def refuse_unread(self, error: GatewayError, more: bool) -> None:
        """Refuse what has no readable head; ``more`` says whether the client has yet something to send."""
        self._unread = b""
        self._lost, self._in_body = True, False
        self.pace.head_over(self._now())
        request = self._request()
        request.begin(UNREADABLE, UNREADABLE, b"HTTP/1.1", {})
        request.refuse(error)
        if not more:
            request.finish()

    def _too_large(self, part: bytes) -> GatewayError:
        if b"\r\n" in part:
            return head.refusal(
                431,
                "HEAD_TOO_LARGE",
                f"The request's head is larger than {self.site.limits.head} bytes; send fewer or shorter fields.",
            )
        limit = min(self.site.limits.target, self.site.limits.head)
        return head.refusal(
            414,
            "TARGET_TOO_LONG",
            f"The request target is longer than {limit} bytes; send parameters in the body.",
        )


def _announces_body(raw: bytes) -> bool:
    lowered = raw.lower()
    return b"content-length" in lowered or b"transfer-encoding" in lowered
