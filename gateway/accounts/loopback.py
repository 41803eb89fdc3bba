"""The listener that a browser comes back to from Google's sign-in: RFC 8252 section 7.3.

It listens on 127.0.0.1 and, where there is one, on ::1, on one ephemeral port, and speaks just enough HTTP for a
browser: one request a connection, answered by one of four small pages that repeat nothing of what was asked.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure

from gateway.accounts.signin import NotOurs, SignInFailed
from gateway.calls import Secret

PATH = "/callback"
HEAD_BYTES = 16 * 1024
CONNECTIONS = 32
IDLE_SECONDS = 60.0
"""How long a connection may stay without a whole request; browsers open some in advance."""
CLOSE_SECONDS = 2.0
"""How long a browser may take to fetch its last page before the program ends."""
ADDRESSES = ("127.0.0.1", "::1")
PORT_TRIES = 8

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 431: "Header Too Large"}
_HEADERS = (
    "Content-Type: text/html; charset=utf-8",
    "Content-Security-Policy: default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy: no-referrer",
    "X-Content-Type-Options: nosniff",
    "Cache-Control: no-store",
    "Connection: close",
)
SIGNED_IN = "Signed in. Close this page and go back to the terminal."
FAILED = "This sign-in failed. Go back to the terminal: it says why."
NOT_OURS = "This is not the sign-in that the terminal waits for. Use the address that it shows."
NOT_HERE = "Nothing is here."

Read = Callable[[str], Secret]
"""Makes a code of a redirect's query; raises NotOurs or SignInFailed."""


class CannotListen(Exception):
    """No loopback address can be listened on."""


class Loopback(Factory):
    """Waits for the redirect of one sign-in."""

    noisy = False

    def __init__(self, clock: Any, read: Read) -> None:
        """``read`` judges each redirect; one that it refuses as not ours is answered 400, and the wait goes on."""
        self.clock = clock
        self.read = read
        self.code: Deferred[Secret] = Deferred()
        """Fires once: the code, or SignInFailed."""
        self.visits: list[Visit] = []
        self._ports: list[IListeningPort] = []
        self._bringer: Visit | None = None
        self._came = False
        self._emptied: Deferred[None] | None = None

    def listen(self, reactor: Any) -> str:
        """Start listening and return the redirect URI; raises CannotListen."""
        for _ in range(PORT_TRIES):
            first = self._bind(reactor, ADDRESSES[0], 0)
            if first is None:
                only = self._bind(reactor, ADDRESSES[1], 0)
                if only is None:
                    raise CannotListen("neither 127.0.0.1 nor ::1 can be listened on")
                self._ports = [only]
                return f"http://[{ADDRESSES[1]}]:{_number(only)}{PATH}"
            try:
                second = self._bind(reactor, ADDRESSES[1], _number(first))
            except CannotListenError:
                # Somebody else has this number on the other address, and would get the code.
                maybeDeferred(first.stopListening)
                continue
            self._ports = [first] if second is None else [first, second]
            return f"http://{ADDRESSES[0]}:{_number(first)}{PATH}"
        raise CannotListen(f"no port was free on both {' and '.join(ADDRESSES)}")

    def _bind(self, reactor: Any, address: str, number: int) -> IListeningPort | None:
        """Return a listening port, None where the machine has no such address; raises CannotListenError."""
        try:
            port: IListeningPort = reactor.listenTCP(number, self, interface=address)
        except CannotListenError as error:
            if number and getattr(error.socketError, "errno", None) in (errno.EADDRINUSE, errno.EACCES):
                raise
            return None
        return port

    def buildProtocol(self, addr: Any) -> Visit:
        """Take a connection; beyond the limit the oldest one has to go."""
        while len(self.visits) >= CONNECTIONS:
            idle = next(visit for visit in self.visits if visit is not self._bringer)
            self.visits.remove(idle)
            idle.drop()
        visit = Visit(self)
        self.visits.append(visit)
        return visit

    def asked(self, visit: Visit, method: str, target: str) -> None:
        """Judge a request."""
        path, _, query = target.partition("?")
        if method != "GET":
            visit.answer(405, NOT_HERE)
        elif path != PATH:
            visit.answer(404, NOT_HERE)
        else:
            self._redirected(visit, query)

    def _redirected(self, visit: Visit, query: str) -> None:
        if self._came:
            # A reloaded page, or a second click: the first one decides.
            visit.answer(400, NOT_OURS)
            return
        try:
            code = self.read(query)
        except NotOurs:
            visit.answer(400, NOT_OURS)
            return
        except SignInFailed as failure:
            self._came = True
            visit.answer(400, FAILED)
            self.code.errback(failure)
            return
        self._came = True
        # Its page waits for what comes of the code.
        self._bringer = visit
        visit.setTimeout(None)
        self.code.callback(code)

    def conclude(self, good: bool) -> None:
        """Show the browser how it ended, if it waits for that."""
        bringer, self._bringer = self._bringer, None
        if bringer is not None:
            bringer.answer(200 if good else 400, SIGNED_IN if good else FAILED)

    async def close(self) -> None:
        """Stop listening and let go of every connection; answers on their way have a moment to arrive."""
        self._came = True
        self.conclude(False)
        ports, self._ports = self._ports, []
        for port in ports:
            await maybeDeferred(port.stopListening)
        for visit in list(self.visits):
            visit.drop()
        if self.visits:
            self._emptied = Deferred()
            timer = self.clock.callLater(CLOSE_SECONDS, self._abort)
            await self._emptied
            if timer.active():
                timer.cancel()

    def _abort(self) -> None:
        for visit in list(self.visits):
            visit.timeoutConnection()

    def gone(self, visit: Visit) -> None:
        """Forget a connection that is closed."""
        if visit in self.visits:
            self.visits.remove(visit)
        if not self.visits and self._emptied is not None:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)


class Visit(Protocol, TimeoutMixin):
    """One connection: one request and its answer."""

    def __init__(self, loopback: Loopback) -> None:
        self._loopback = loopback
        self._head = b""
        self._asked = False
        self._answered = False

    def callLater(self, period: float, func: Callable[[], None]) -> Any:
        """See TimeoutMixin."""
        return self._loopback.clock.callLater(period, func)

    def connectionMade(self) -> None:
        """Wait for a request, but not for ever."""
        self.setTimeout(IDLE_SECONDS)

    def dataReceived(self, data: bytes) -> None:
        """Gather the request's head."""
        if self._asked:
            return
        self._head += data
        head, end, _ = self._head.partition(b"\r\n\r\n")
        if len(head) > HEAD_BYTES:
            self._asked = True
            self.answer(431, NOT_HERE)
        elif end:
            self._asked = True
            method, _, rest = head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
            target, _, version = rest.partition(" ")
            if version in ("HTTP/1.1", "HTTP/1.0") and target.startswith("/") and not target.startswith("//"):
                self._loopback.asked(self, method, target)
            else:
                self.answer(400, NOT_HERE)

    def answer(self, status: int, sentence: str) -> None:
        """Write the page and close."""
        if self._answered:
            return
        self._answered = True
        page = f"<!DOCTYPE html>\n<title>Antigravity Gateway</title>\n<p>{sentence}</p>\n".encode()
        lines = (f"HTTP/1.1 {status} {_REASONS[status]}", *_HEADERS, f"Content-Length: {len(page)}", "", "")
        assert self.transport is not None
        self.setTimeout(IDLE_SECONDS)
        self.transport.write("\r\n".join(lines).encode("ascii") + page)
        self.transport.loseConnection()

    def drop(self) -> None:
        """Let go of a connection that has asked nothing; an answer on its way is left to arrive."""
        if not self._answered and self.transport is not None:
            self.transport.loseConnection()

    def timeoutConnection(self) -> None:
        """Nothing came, or nobody takes the answer; see TimeoutMixin."""
        transport: Any = self.transport
        transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget it; a code that it brought counts all the same."""
        self.setTimeout(None)
        self._answered = True
        self._loopback.gone(self)


def _number(port: IListeningPort) -> int:
    address: Any = port.getHost()
    return int(address.port)
