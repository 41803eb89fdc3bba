"""A fast stand-in for Google, for the bench: fixed answers from a raw protocol.  Does I/O.

``/v1beta/models/<model>:<verb>`` answers as the public API does, ``/v1internal:<verb>`` wraps the same
answers in the v1internal envelope, ``/token`` gives an access token.  A model named ``burst-200`` streams
200 events in one write, ``paced-50-20ms`` streams 50, 20 ms apart; any other takes ``--events`` and
``--interval-ms``.  A request that did not arrive whole is answered with 400.
"""

from __future__ import annotations

import argparse
import re
from functools import lru_cache
from urllib.parse import parse_qs

import attrs
import msgspec
import shapes
from twisted.internet import protocol, reactor
from twisted.internet.interfaces import IDelayedCall

_MODEL = re.compile(r"burst-(\d{1,6})|paced-(\d{1,6})-(\d{1,6})ms")
_MODELS_PATH = re.compile(r"/v1beta/models/([^:/]+):(\w+)")
_INTERNAL_PATH = re.compile(r"/v1internal:(\w+)")
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"Cache-Control: no-cache\r\n\r\n"
)
_TOKEN = {"access_token": shapes.UPSTREAM_TOKEN, "expires_in": 3599, "token_type": "Bearer"}
_MODEL_LIST = {
    "models": [
        {
            "name": f"models/{shapes.UNARY_MODEL}",
            "displayName": shapes.UNARY_MODEL,
            "supportedGenerationMethods": ["generateContent", "streamGenerateContent"],
        }
    ]
}
_INTERNAL = {  # what a gateway may ask about an account, by verb
    "loadCodeAssist": {"currentTier": {"id": "standard-tier"}, "cloudaicompanionProject": "bench-project"},
    "fetchAvailableModels": {"models": {shapes.UNARY_MODEL: {"displayName": shapes.UNARY_MODEL}}},
    "retrieveUserQuota": {"buckets": []},
}
_PHRASES = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}


@attrs.frozen
class Plan:
    """How a stream goes: how many events, how many seconds between two."""

    count: int
    interval_seconds: float


def plan(model: str, default: Plan) -> Plan:
    """Read a stream's plan from the model's name."""
    match = _MODEL.fullmatch(model)
    if match is None:
        return default
    burst, paced, milliseconds = match.groups()
    return Plan(int(burst), 0.0) if burst else Plan(int(paced), int(milliseconds) / 1000)


@lru_cache(maxsize=16)
def chunks(count: int, wrapped: bool) -> tuple[bytes, ...]:
    """Return the events of a stream, each in an HTTP chunk of its own."""
    frames = [shapes.sse(event, wrapped) for event in shapes.events(count)]
    return tuple(b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames)


def response(status: int, body: bytes) -> bytes:
    """Return a whole JSON answer with its head."""
    head = (
        f"HTTP/1.1 {status} {_PHRASES[status]}\r\n"
        f"Content-Type: application/json; charset=UTF-8\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@lru_cache(maxsize=2)
def unary(wrapped: bool) -> bytes:
    """Return the whole answer to generateContent."""
    plain = msgspec.json.encode(shapes.unary())
    return response(200, shapes.wrap(plain) if wrapped else plain)


def refusal(status: int, message: str) -> bytes:
    """Return an error in Google's shape."""
    error = {"code": status, "message": message, "status": "INVALID_ARGUMENT"}
    return response(status, msgspec.json.encode({"error": error}))


class Backend(protocol.Protocol):
    """One connection: requests in order, never the next before the answer to the last is out."""

    def __init__(self, default: Plan) -> None:
        self._default = default
        self._buffer = b""
        self._streaming: IDelayedCall | None = None

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.setTcpNoDelay(True)

    def connectionLost(self, reason: object = None) -> None:
        if self._streaming is not None:
            self._streaming.cancel()
            self._streaming = None

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        while self._streaming is None and self._take_request():
            pass

    def _take_request(self) -> bool:
        """Answer the next request of the buffer; False while there is none."""
        assert self.transport is not None
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        first, *lines = self._buffer[:end].split(b"\r\n")
        fields = (line.partition(b":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        if b"transfer-encoding" in headers:
            self.transport.write(refusal(400, "the bench's upstream reads Content-Length only"))
            self.transport.loseConnection()
            self._buffer = b""
            return False
        stop = end + 4 + int(headers.get(b"content-length", b"0"))
        if len(self._buffer) < stop:
            return False
        body, self._buffer = self._buffer[end + 4 : stop], self._buffer[stop:]
        method, target, _ = first.decode("ascii").split(" ")
        self._answer(method, target.partition("?")[0], headers, body)
        return True

    def _answer(self, method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> None:
        """Write what belongs to this request."""
        assert self.transport is not None
        if internal := _INTERNAL_PATH.fullmatch(path):
            authorised = headers.get(b"authorization") == b"Bearer " + shapes.UPSTREAM_TOKEN.encode()
            self._generate(internal[1], "", body, wrapped=True, authorised=authorised)
        elif public := _MODELS_PATH.fullmatch(path):
            authorised = b"x-goog-api-key" in headers
            self._generate(public[2], public[1], body, wrapped=False, authorised=authorised)
        elif path == "/token" and "refresh_token" in parse_qs(body.decode("ascii")):
            self.transport.write(response(200, msgspec.json.encode(_TOKEN)))
        elif method == "GET" and path == "/v1beta/models":
            self.transport.write(response(200, msgspec.json.encode(_MODEL_LIST)))
        else:
            self.transport.write(refusal(404, f"the bench has no {method} {path}"))

    def _generate(self, verb: str, model: str, body: bytes, *, wrapped: bool, authorised: bool) -> None:
        """Answer a verb of either API after a look at what arrived."""
        assert self.transport is not None
        if not authorised:
            self.transport.write(refusal(401, "no valid credential"))
            return
        if wrapped and verb in _INTERNAL:
            self.transport.write(response(200, msgspec.json.encode(_INTERNAL[verb])))
            return
        request = msgspec.json.decode(body)
        if wrapped:
            model, request = str(request.get("model", "")), request.get("request")
        if not shapes.carries_request(request):
            self.transport.write(refusal(400, "the request did not arrive as it was sent"))
        elif verb == "generateContent":
            self.transport.write(unary(wrapped))
        elif verb == "streamGenerateContent":
            self._stream(plan(model, self._default), wrapped)
        else:
            self.transport.write(refusal(404, f"the bench has no {verb}"))

    def _stream(self, how: Plan, wrapped: bool) -> None:
        """Send a stream: all at once, or event by event on a schedule that does not drift."""
        assert self.transport is not None
        frames = chunks(how.count, wrapped)
        if not how.interval_seconds:
            self.transport.writeSequence([_STREAM_HEAD, *frames, b"0\r\n\r\n"])
            return
        started = reactor.seconds()

        def send(number: int) -> None:
            assert self.transport is not None
            self._streaming = None
            last = number == how.count - 1
            head = _STREAM_HEAD if number == 0 else b""
            self.transport.write(head + frames[number] + (b"0\r\n\r\n" if last else b""))
            if last:
                self.dataReceived(b"")
                return
            due = started + (number + 1) * how.interval_seconds
            self._streaming = reactor.callLater(max(0.0, due - reactor.seconds()), send, number + 1)

        send(0)


def main() -> None:
    """Listen on loopback, say on which port, and serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--interval-ms", type=float, default=0.0)
    options = parser.parse_args()
    default = Plan(options.events, options.interval_ms / 1000)
    factory = protocol.Factory.forProtocol(lambda: Backend(default))  # type: ignore[arg-type]
    port = reactor.listenTCP(options.port, factory, backlog=1024, interface="127.0.0.1")
    print(f"listening on {port.getHost().port}", flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
