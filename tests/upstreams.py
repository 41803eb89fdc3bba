"""An upstream that says exactly what a test tells it to, to the last byte.  Opens sockets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.processes import MODEL, DaemonCase, Server, reactor

LISTED = json.dumps(
    {"models": [{"name": f"models/{MODEL}", "supportedGenerationMethods": ["generateContent"]}]}
).encode()
ANSWER = b'{"candidates":[{"content":{"role":"model","parts":[{"text":"hello"}]},"finishReason":"STOP"}]}'
EVENT = b"data: " + ANSWER + b"\n\n"
SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def whole(body: bytes = ANSWER, status: bytes = b"200 OK", *fields: bytes) -> bytes:
    """An answer with a length."""
    lines = [b"HTTP/1.1 " + status, b"Content-Type: application/json", b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunk(data: bytes) -> bytes:
    """One chunk."""
    return b"%x\r\n%s\r\n" % (len(data), data)


class Asked(Protocol):
    """One connection to the upstream, and the requests that came on it."""

    factory: Upstream

    def __init__(self) -> None:
        self.received = 0
        """Bytes, in all."""
        self.heads: list[bytes] = []
        self.over = False
        self.reset = False
        self._buffer = bytearray()
        self._missing = 0
        """Bytes of a body that are still to come."""

    def connectionMade(self) -> None:
        self.factory.connections.append(self)
        self.factory.met(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += len(data)
        self._buffer += data
        while self._step():
            pass

    def _step(self) -> bool:
        if self._missing:
            taken = min(self._missing, len(self._buffer))
            del self._buffer[:taken]
            self._missing -= taken
            if self._missing or not taken:
                return False
            self.factory.complete(self)
            return True
        head, found, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if not found:
            return False
        self._buffer[:] = rest
        self.heads.append(head)
        fields = dict(line.lower().partition(b":")[::2] for line in head.split(b"\r\n")[1:])
        self._missing = int(fields.get(b"content-length", b"0"))
        self.factory.began(self)
        if not self._missing:
            self.factory.complete(self)
        return True

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.over = True
        self.reset = reason is not None and not reason.check(ConnectionDone)

    def say(self, data: bytes, *, close: bool = False, reset: bool = False) -> None:
        """Send bytes, and perhaps end the connection."""
        self.transport.write(data)
        if close:
            self.transport.loseConnection()
        if reset:
            self.transport.abortConnection()


@implementer(IPullProducer)
class Flood:
    """The same bytes again and again, as fast as they are taken."""

    def __init__(self, asked: Asked, piece: bytes, times: int) -> None:
        self.sent = 0
        self._asked = asked
        self._piece = piece
        self._times = times
        asked.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        if self._times:
            self._times -= 1
            self.sent += len(self._piece)
            self._asked.transport.write(self._piece)
        else:
            self._asked.transport.unregisterProducer()

    def stopProducing(self) -> None:
        self._times = 0


class Upstream(Factory):
    """Answers lists of models by itself, and everything else as ``answer`` says."""

    protocol = Asked
    noisy = False

    def __init__(self, answer: Callable[[Asked], object]) -> None:
        self.answer = answer
        self.early: Callable[[Asked], object] | None = None
        """Called at the end of a head, where an answer is not to wait for the body."""
        self.met: Callable[[Asked], object] = lambda asked: None
        """Called with each new connection."""
        self.connections: list[Asked] = []
        self.asked: list[bytes] = []
        """The heads of the requests, without those for lists."""
        self.url = ""

    def began(self, asked: Asked) -> None:
        if asked.heads[-1].startswith(b"POST"):
            self.asked.append(asked.heads[-1])
            if self.early is not None:
                self.early(asked)

    def complete(self, asked: Asked) -> None:
        if asked.heads[-1].startswith(b"GET"):
            asked.say(whole(LISTED))
        elif self.early is None:
            self.answer(asked)


class UpstreamCase(DaemonCase):
    """A test with an upstream of its own, in the test's process, through one of the two agents."""

    agent = "gateway"

    async def gateway(self, upstreams: Mapping[str, Any] | None = None, **sections: Any) -> Server:
        return await super().gateway(upstreams, **{"wire": {"agent": self.agent}, **sections})

    def upstream(
        self, answer: Callable[[Asked], object] = lambda asked: asked.say(whole()), tls: Any = None
    ) -> Upstream:
        """Listen on loopback until the test ends; with a context factory, over TLS."""
        factory = Upstream(answer)
        if tls is None:
            port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        else:
            port = reactor.listenSSL(0, factory, tls, interface="127.0.0.1")
        factory.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{port.getHost().port}"
        self.addCleanup(self._closed, factory, port)
        return factory

    async def _closed(self, factory: Upstream, port: Any) -> None:
        await port.stopListening()
        for asked in factory.connections:
            if not asked.over:
                asked.transport.abortConnection()
