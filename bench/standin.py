"""A stand-in for the v1internal backend that does to each request what the request asks for.  Does I/O.

The last text of a conversation is an order: ``order NUMBER WHAT EVENTS GAP-MS``.  See WHAT for what may be asked; a
fault strikes a number once, so that the next attempt at it is served.  ``POST /rest`` closes the idle connections.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import resource
import time
from collections.abc import Callable
from typing import Any, Final

import attrs

KEPT_NUMBERS: Final = 100_000
_STREAM_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_PHRASES: Final = {
    200: "OK",
    401: "Unauthorized",
    404: "Not Found",
    429: "Too Many Requests",
    503: "Service Unavailable",
}
_ABOUT_ACCOUNTS: Final[dict[str, dict[str, Any]]] = {
    "loadCodeAssist": {"currentTier": {"id": "standard-tier"}, "cloudaicompanionProject": "bench-project"},
    "fetchAvailableModels": {"models": {"gemini-2.5-flash": {"displayName": "Flash"}}},
    "retrieveUserQuota": {"buckets": []},
}


@attrs.frozen
class Order:
    """What is to be done with one request."""

    number: int
    what: str
    events: int
    gap_seconds: float

    @classmethod
    def of(cls, body: bytes) -> Order:
        """Read the order in an envelope's last turn."""
        text = json.loads(body)["request"]["contents"][-1]["parts"][-1]["text"]
        _, number, what, events, gap = text.split(" ")
        return cls(int(number), what, int(events), int(gap) / 1000)

    def event(self, at: int) -> dict[str, Any]:
        """Return one event of its answer; the text holds its number, its place and when it was sent."""
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": self.text(at)}]}, "index": 0}
        if at == self.events - 1:
            candidate["finishReason"] = "STOP"
        return {"response": {"candidates": [candidate], "modelVersion": "m"}, "traceId": "bench"}

    def text(self, at: int) -> str:
        """Return the text of one event."""
        return f"{self.number} {at} {time.monotonic():.4f} " + "word " * 20


def answer(status: int, document: Any, kind: str = "application/json", extra: str = "") -> bytes:
    """Return a whole answer."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    head = f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Type: {kind}\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def refusal(status: int, name: str, *details: dict[str, Any]) -> bytes:
    """Return an error in Google's shape."""
    return answer(
        status, {"error": {"code": status, "status": name, "message": "As ordered.", "details": list(details)}}
    )


RETRY_INFO: Final = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}
WHAT: Final[dict[str, Callable[[Order], bytes | None]]] = {
    "rate": lambda order: refusal(429, "RESOURCE_EXHAUSTED", RETRY_INFO),
    "busy": lambda order: refusal(503, "UNAVAILABLE"),
    "stale": lambda order: refusal(401, "UNAUTHENTICATED"),
    "junk": lambda order: answer(200, b"<html>Sign in</html>", "text/html"),
    "gone": lambda order: None,
}
"""What strikes once, before an answer; None is a connection that breaks.  Beside these: ``answer`` and ``cut``."""


@attrs.define(eq=False)
class Backend:
    """What all connections share."""

    connections: set[Connection] = attrs.Factory(set)
    struck: collections.OrderedDict[int, None] = attrs.Factory(collections.OrderedDict)
    tokens: int = 0
    served: collections.Counter[str] = attrs.Factory(collections.Counter)

    def strikes(self, number: int) -> bool:
        """Say whether a fault is due to this number still."""
        if number in self.struck:
            return False
        self.struck[number] = None
        if len(self.struck) > KEPT_NUMBERS:
            self.struck.popitem(last=False)
        return True

    def rest(self, asking: Connection) -> int:
        """Close the other connections on which nothing is under way; return how many are busy."""
        others = self.connections - {asking}
        for connection in others:
            if connection.idle:
                connection.transport.close()
        return sum(not connection.idle for connection in others)


class Connection(asyncio.Protocol):
    """One connection: requests in order."""

    transport: asyncio.Transport

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._buffer = b""
        self._timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._buffer and self._timer is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._backend.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._backend.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._timer is None and not self.transport.is_closing() and self._take():
            pass

    def _take(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        lines = self._buffer[:end].lower().split(b"\r\n")
        length = next((int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")), 0)
        stop = end + 4 + length
        if len(self._buffer) < stop:
            return False
        body, target = self._buffer[end + 4 : stop], self._buffer.split(b" ", 2)[1].decode("ascii")
        self._buffer = self._buffer[stop:]
        self._answer(target.partition("?")[0], body)
        return True

    def _answer(self, path: str, body: bytes) -> None:
        verb = path.rpartition(":")[2]
        if verb in ("generateContent", "streamGenerateContent"):
            self._generate(Order.of(body), verb == "streamGenerateContent")
        elif verb in _ABOUT_ACCOUNTS:
            self.transport.write(answer(200, _ABOUT_ACCOUNTS[verb]))
        elif path == "/token":
            self._backend.tokens += 1
            token = {"access_token": f"token-{self._backend.tokens}", "expires_in": 3599, "token_type": "Bearer"}
            self.transport.write(answer(200, token))
        elif path == "/rest":
            busy = self._backend.rest(self)
            self.transport.write(answer(200, {"busy": busy, "served": self._backend.served}))
        else:
            self.transport.write(refusal(404, "NOT_FOUND"))

    def _generate(self, order: Order, streams: bool) -> None:
        if order.what in WHAT and self._backend.strikes(order.number):
            self._backend.served[order.what] += 1
            made = WHAT[order.what](order)
            if made is None:
                self.transport.abort()
            else:
                self.transport.write(made)
            return
        self._backend.served["answer"] += 1
        if streams:
            self._stream(order)
        elif order.gap_seconds:
            self._timer = asyncio.get_running_loop().call_later(order.gap_seconds, self._unary, order)
        else:
            self._unary(order)

    def _unary(self, order: Order) -> None:
        whole = answer(200, attrs.evolve(order, events=1).event(0))
        if order.what == "cut":
            self.transport.write(whole[:-20])
            self.transport.close()
        else:
            self.transport.write(whole)
        self._resume()

    def _stream(self, order: Order) -> None:
        """Send a stream's events on a schedule that does not drift; a cut one breaks off at its middle."""
        loop = asyncio.get_running_loop()
        started, last = loop.time(), order.events // 2 if order.what == "cut" else order.events

        def send(at: int) -> None:
            out = _STREAM_HEAD if at == 0 else b""
            while at < last:
                frame = b"data: " + json.dumps(order.event(at)).encode() + b"\r\n\r\n"
                out += b"%x\r\n%b\r\n" % (len(frame), frame)
                at += 1
                if order.gap_seconds and at < last:
                    self.transport.write(out)
                    self._timer = loop.call_at(started + at * order.gap_seconds, send, at)
                    return
            if order.what == "cut":
                self.transport.write(out)
                self.transport.close()
            else:
                self.transport.write(out + b"0\r\n\r\n")
            self._resume()

        send(0)

    def _resume(self) -> None:
        """Go on with what came meanwhile."""
        if self._timer is not None:
            self._timer = None
            self.data_received(b"")


async def serve(port: int) -> None:
    """Listen until stopped."""
    backend = Backend()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(backend), "127.0.0.1", port, backlog=4096
    )
    print(f"listening on {port}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve on loopback."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
