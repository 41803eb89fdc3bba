"""An answer whose head has come: what treq and its users see of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IClientRequest, IResponse
from zope.interface import implementer

from gateway.upstreams.answers import Head

if TYPE_CHECKING:
    from gateway.upstreams.connection import Connection

WHOLE = Failure(ResponseDone("the answer is whole"))
"""Why a body that came to its end ended."""


@implementer(IClientRequest)
class Sent:
    """The request that an answer is one to."""

    def __init__(self, method: bytes, absoluteURI: bytes, headers: Headers) -> None:
        self.method = method
        self.absoluteURI = absoluteURI
        self.headers = headers


@implementer(IResponse, IPushProducer)
class Response:
    """An answer; it is the transport of its body, too.

    ``fields`` are those of the head by lower-case name, of repeated ones the last; ``headers`` has them all.
    """

    previousResponse: IResponse | None = None
    taken = False
    """Whether somebody reads the body."""
    take: Callable[[bytes], None] | None = None
    """What takes the body's next bytes, as soon as somebody reads it; see ``hold``."""
    _ending: Callable[[], None] | None = None
    _protocol: Any = None

    def __init__(
        self,
        connection: Connection | None,
        request: Sent,
        head: Head,
        held: bytes = b"",
        end: Failure | None = None,
    ) -> None:
        """``held`` is what has come of the body, ``end`` why that is all, where it is; then no connection is needed."""
        self.request = request
        self.code = head.code
        self.fields = head.fields
        self._head = head
        self._connection = connection
        self._held = held
        self._end = end

    @property
    def version(self) -> tuple[bytes, int, int]:
        """See IResponse."""
        return self._head.version

    @property
    def phrase(self) -> bytes:
        """See IResponse."""
        return self._head.phrase

    @property
    def length(self) -> Any:
        """See IResponse."""
        return self._head.length

    @cached_property
    def headers(self) -> Headers:
        """The fields as Twisted has them; made for those who look."""
        headers = Headers()
        for name, value in self._head.pairs:
            headers.addRawHeader(name, value)
        return headers

    def forget_head(self) -> None:
        """Keep no header fields, here nor where else this answer's head is."""
        self._head.fields = self.fields = {}
        self._head.pairs = []

    def setPreviousResponse(self, response: IResponse) -> None:
        """Remember the answer before a redirect; see IResponse."""
        self.previousResponse = response

    def deliverBody(self, protocol: IProtocol) -> None:
        """Start the body's flow; see IResponse."""
        self.deliver(protocol, protocol.dataReceived)

    def deliver(
        self, protocol: IProtocol, take: Callable[[bytes], None], ending: Callable[[], None] | None = None
    ) -> None:
        """Start the body's flow into ``take``, without a call of ``protocol`` in between, which hears of the end.

        ``ending`` is called before the last piece, where that is known to be it.
        """
        if self.taken:
            raise RuntimeError("an answer has one body, and it is being read")
        self.taken = True
        protocol.makeConnection(self)  # type: ignore[arg-type]
        held, self._held = self._held, b""
        if self._end is not None:
            # It is over, and so is the connection's part in it.
            if held:
                take(held)
            protocol.connectionLost(self._end)
            return
        self._protocol, self.take, self._ending = protocol, take, ending
        if self._connection is not None:
            self._connection.unhold()
        if held:
            take(held)

    def whole(self) -> bytes | None:
        """Return the body where all of it has come and nobody reads it yet, and None else; then it is read."""
        if self._end is not WHOLE or self.taken:
            return None
        self.taken = True
        held, self._held = self._held, b""
        return held

    def hold(self, data: bytes) -> None:
        """Keep some of the body for whoever will read it."""
        self._held += data

    def ending(self) -> None:
        """Tell the body's reader, if it wants to know, that the next piece is the last."""
        if self._ending is not None:
            self._ending()

    def ended(self, reason: Failure) -> None:
        """Take the body's end from the connection, which is another's from here on."""
        self._connection = None
        if self._end is None:
            self._end = reason
            protocol, self._protocol, self.take, self._ending = self._protocol, None, None, None
            if protocol is not None:
                protocol.connectionLost(reason)

    def pauseProducing(self) -> None:
        """Stop reading from upstream; see IPushProducer."""
        if self._connection is not None:
            self._connection.pause()

    def resumeProducing(self) -> None:
        """Read on; see IPushProducer."""
        if self._connection is not None:
            self._connection.resume()

    def stopProducing(self) -> None:
        """Want no more of it; see IPushProducer."""
        self.abortConnection()

    def loseConnection(self) -> None:
        """Want no more of it; whoever reads is told."""
        self.abortConnection()

    def abortConnection(self) -> None:
        """Close the connection to upstream at once, unless the answer is over."""
        if self._connection is not None:
            self._connection.abort()
