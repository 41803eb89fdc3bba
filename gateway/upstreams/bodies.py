"""Request bodies on their way out: small ones with their head, large ones at the connection's pace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from gateway import eager

EAGER_BYTES = 2 * 1024 * 1024
"""How much goes to the kernel in one turn, as long as it takes it: a few milliseconds of work."""
EAGER_PIECE_BYTES = eager.MOST_BYTES
"""How much of it in one call."""
PIECE_BYTES = 64 * 1024
"""What is handed to a transport at a time: what it sends at once, and TLS encrypts in one go."""


class WrongLength(Exception):
    """A body had another length than was said."""


@implementer(IBodyProducer)
class WholeBody:
    """A body that is all there.

    A large one is handed on piece by piece, as the transport takes it: no copy of the whole is made, and where the
    answer comes first, the rest is not sent.
    """

    # Of one that is sent with its head in one write, nothing of this changes.
    _rest: Iterator[memoryview] = iter(())
    _left = 0
    _paused = False
    _consumer: IConsumer | None = None
    _done: Deferred[None] | None = None

    def __init__(self, *pieces: bytes | memoryview) -> None:
        self._pieces = pieces
        self.length = len(pieces[0]) if len(pieces) == 1 else sum(map(len, pieces))

    @property
    def data(self) -> bytes:
        """All of it in one piece."""
        return self._pieces[0] if len(self._pieces) == 1 and type(self._pieces[0]) is bytes else b"".join(self._pieces)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write it, from the beginning; see IBodyProducer."""
        if self.length <= PIECE_BYTES:
            consumer.write(self.data)
            return succeed(None)
        size = EAGER_PIECE_BYTES if isinstance(consumer, Measured) else PIECE_BYTES
        self._rest, self._left = _cut(self._pieces, size), self.length
        self._paused, self._consumer = False, consumer
        done: Deferred[None] = Deferred()
        self._done = done
        self.resumeProducing()
        return done

    def pauseProducing(self) -> None:
        """Write no more for now; see IBodyProducer."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Write on; see IBodyProducer."""
        self._paused = False
        while self._consumer is not None and not self._paused:
            piece = next(self._rest)
            self._left -= len(piece)
            consumer = self._consumer
            if isinstance(consumer, Measured):
                consumer.write(piece)
            else:
                consumer.write(bytes(piece))
            if not self._left and self._consumer is not None:
                self._consumer = None
                done, self._done = self._done, None
                if done is not None:
                    done.callback(None)

    def stopProducing(self) -> None:
        """Write no more at all; see IBodyProducer."""
        self._consumer = self._done = None


def _cut(pieces: Iterable[bytes | memoryview], size: int) -> Iterator[memoryview]:
    """Yield what a transport takes at a time."""
    # It knows nothing of the body whose pieces they are: in a circle they would stay in memory for a while.
    for piece in pieces:
        view = memoryview(piece)
        for at in range(0, len(view), size):
            yield view[at : at + size]


@implementer(IConsumer)
class Chunks:
    """Writes what it is given as chunks: RFC 9112 section 7.1."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Write a chunk; an empty one would be the last."""
        if data:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def finish(self) -> None:
        """Write the last chunk."""
        self._transport.write(b"0\r\n\r\n")

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let the transport pace the producer; see IConsumer."""
        self._transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """See IConsumer."""
        self._transport.unregisterProducer()


@implementer(IConsumer)
class Measured:
    """Writes as much as was promised, and no more."""

    def __init__(self, transport: Any, length: int) -> None:
        self._transport = transport
        self._left = length
        self._eager = 0

    def refresh(self) -> None:
        """Take note that a turn begins in which nothing is waiting to be sent."""
        self._eager = EAGER_BYTES

    def write(self, data: bytes | memoryview) -> None:
        """Write on; raises WrongLength at the first byte too many."""
        if len(data) > self._left:
            raise WrongLength("a body is longer than was said")
        self._left -= len(data)
        if self._eager > 0:
            self._eager -= len(data)
            eager.write(self._transport, data)
        else:
            # Others have their turn until this has been sent.
            self._transport.write(bytes(data))

    def finish(self) -> None:
        """See that it is all there; raises WrongLength."""
        if self._left:
            raise WrongLength("a body is shorter than was said")

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let the transport pace the producer; see IConsumer."""
        self._transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """See IConsumer."""
        self._transport.unregisterProducer()


@implementer(IPushProducer)
class Sending:
    """A body being sent that is not written in one go."""

    def __init__(self, producer: Any, transport: Any, ended: Callable[[Exception | None], None]) -> None:
        """``ended`` is called once, with what went wrong, unless ``stop`` comes first."""
        self._producer = producer
        self._transport = transport
        self._ended: Callable[[Exception | None], None] | None = ended
        unknown = producer.length is UNKNOWN_LENGTH
        self._measured = None if unknown else Measured(transport, producer.length)
        self._consumer: Chunks | Measured = self._measured or Chunks(transport)

    def start(self) -> None:
        """Begin."""
        self._transport.registerProducer(self, True)
        self._refresh()
        try:
            producing: Deferred[None] = self._producer.startProducing(self._consumer)
        except Exception as error:
            self._over(error)
        else:
            producing.addCallbacks(self._written, lambda failure: self._over(failure.value))

    def stop(self) -> None:
        """Send no more of it."""
        if self._ended is not None:
            self._ended = None
            self._transport.unregisterProducer()
            self._producer.stopProducing()

    def pauseProducing(self) -> None:
        """See IPushProducer."""
        self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """See IPushProducer."""
        self._refresh()
        self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """See IProducer."""
        self._producer.stopProducing()

    def _refresh(self) -> None:
        if self._measured is not None:
            self._measured.refresh()

    def _written(self, result: object) -> None:
        if self._ended is None:
            return
        try:
            self._consumer.finish()
        except WrongLength as error:
            self._over(error)
        else:
            self._over(None)

    def _over(self, error: Exception | None) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            self._transport.unregisterProducer()
            ended(error)
