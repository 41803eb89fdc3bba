"""A fast stand-in for Google, for the bench: fixed answers from a raw protocol.  Does I/O.

``/v1beta/models/<model>:<verb>`` answers as the public API does, ``/v1internal:<verb>`` wraps the same
answers in the v1internal envelope, ``/token`` gives an access token.  A model named ``burst-200`` streams
200 events in one write, ``paced-50-20ms`` streams 50, 20 ms apart, ``clock-1000ms`` streams one a second
until the client leaves.  A request that did not arrive whole is answered with 400.
"""

from __future__ import annotations

import argparse
import re
import time
from functools import lru_cache
from pathlib import Path
from urllib.parse import parse_qs

import answers
import attrs
import msgspec
import shapes
from twisted.internet import protocol, reactor, ssl
from twisted.internet.interfaces import IDelayedCall

_MODELS_PATH = re.compile(r"/v1beta/models/([^:/]+):(\w+)")
_INTERNAL_PATH = re.compile(r"/v1internal:(\w+)")
_KEY_IN_QUERY = re.compile(r"[?&]key=([\w-]+)")
_BACKLOG = 4096


class Envelope(msgspec.Struct):
    """What the v1internal backend is sent."""

    model: str = ""
    request: msgspec.Raw = msgspec.Raw(b"{}")


_ENVELOPES = msgspec.json.Decoder(Envelope)


@attrs.frozen
class Head:
    """What the upstream goes by in a request's head."""

    method: str
    path: str
    verb: str
    model: str
    wrapped: bool
    authorised: bool
    translated: bool
    length: int
    """Of the body; -1 for chunks."""


@lru_cache(maxsize=4096)
def read_head(raw: bytes) -> Head:
    """Read a head; those of a kept connection are mostly the same bytes again and again."""
    first, *lines = raw.split(b"\r\n")
    fields = (line.partition(b":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in fields}
    method, target, _ = first.decode("ascii").split(" ")
    path = target.partition("?")[0]
    internal, public = _INTERNAL_PATH.fullmatch(path), _MODELS_PATH.fullmatch(path)
    in_query = _KEY_IN_QUERY.search(target)
    key = in_query[1] if in_query else headers.get(b"x-goog-api-key", b"").decode("ascii")
    bearer = headers.get(b"authorization", b"").decode("ascii")
    if internal:
        authorised = bearer == f"Bearer {shapes.UPSTREAM_TOKEN}"
    else:
        authorised = key in (shapes.UPSTREAM_KEY, shapes.TRANSLATOR_KEY)
    chunked = b"transfer-encoding" in headers
    return Head(
        method=method,
        path=path,
        verb=internal[1] if internal else public[2] if public else "",
        model=public[1] if public else "",
        wrapped=internal is not None,
        authorised=authorised,
        translated=key == shapes.TRANSLATOR_KEY,
        length=-1 if chunked else int(headers.get(b"content-length", b"0")),
    )


class Backend(protocol.Protocol):
    """One connection: requests in order, never the next before the answer to the last is out."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._held = 0
        self._wanted = 0  # bytes without which looking again is of no use
        self._streaming: IDelayedCall | None = None

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.setTcpNoDelay(True)

    def connectionLost(self, reason: object = None) -> None:
        if self._streaming is not None:
            self._streaming.cancel()
            self._streaming = None

    def dataReceived(self, data: bytes) -> None:
        self._pieces.append(data)
        self._held += len(data)
        while self._streaming is None and self._held >= self._wanted and self._take_request():
            pass

    def _keep(self, rest: bytes, wanted: int = 0) -> None:
        self._pieces, self._held, self._wanted = [rest] if rest else [], len(rest), wanted

    def _take_request(self) -> bool:
        """Answer the next request of what is held; False while there is none."""
        buffer = b"".join(self._pieces)
        self._keep(buffer)
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = read_head(buffer[:end])
        if head.length < 0:
            taken = dechunked(buffer, end + 4)
            if taken is None:
                self._wanted = len(buffer) + 1
                return False
            body, stop = taken
        else:
            stop = end + 4 + head.length
            if len(buffer) < stop:
                self._wanted = stop
                return False
            body = buffer[end + 4 : stop]
        self._keep(buffer[stop:])
        self._answer(head, body)
        return True

    def _answer(self, head: Head, body: bytes) -> None:
        """Write what belongs to this request."""
        assert self.transport is not None
        if head.verb:
            self._generate(head, body)
        elif head.path == "/token" and "refresh_token" in parse_qs(body.decode("ascii")):
            self.transport.write(answers.token())
        elif head.method == "GET" and head.path == "/v1beta/models":
            self.transport.write(answers.model_list())
        else:
            self.transport.write(answers.refusal(404, f"the bench has no {head.method} {head.path}"))

    def _generate(self, head: Head, body: bytes) -> None:
        """Answer a verb of either API after a look at what arrived."""
        assert self.transport is not None
        if not head.authorised:
            self.transport.write(answers.refusal(401, "no valid credential"))
            return
        if head.wrapped and (told := answers.about_account(head.verb)):
            self.transport.write(told)
            return
        request, model = body, head.model
        if head.wrapped:
            envelope = _ENVELOPES.decode(body)
            request, model = bytes(envelope.request), envelope.model
        arrived = shapes.carries_prompt if head.translated else shapes.carries_request
        how = answers.plan(model)
        if not arrived(request, model):
            self.transport.write(answers.refusal(400, "the request did not arrive as it was sent"))
        elif head.verb == "generateContent":
            self.transport.write(answers.unary(head.wrapped))
        elif head.verb == "streamGenerateContent" and how is not None:
            self._stream(how, head.wrapped)
        else:
            self.transport.write(answers.refusal(404, f"the bench has no {model}:{head.verb}"))

    def _stream(self, how: answers.Plan, wrapped: bool) -> None:
        """Send a stream: all at once, or event by event on a schedule that does not drift."""
        assert self.transport is not None
        frames = answers.chunks(how.count, wrapped)
        if not how.interval_seconds:
            self.transport.write(b"".join([answers.STREAM_HEAD, *frames, answers.STREAM_END]))
            return
        started = reactor.seconds()

        def send(number: int) -> None:
            assert self.transport is not None
            self._streaming = None
            last = number == how.count - 1
            head = b"" if number else answers.STREAM_HEAD
            frame = frames[number] if frames else answers.clock_chunk(time.monotonic_ns(), wrapped)
            self.transport.write(head + frame + (answers.STREAM_END if last else b""))
            if last:
                self.dataReceived(b"")
                return
            due = started + (number + 1) * how.interval_seconds
            self._streaming = reactor.callLater(max(0.0, due - reactor.seconds()), send, number + 1)

        send(0)


def dechunked(buffer: bytes, position: int) -> tuple[bytes, int] | None:
    """Return a chunked body and where it ends, or None while it is not whole."""
    pieces: list[bytes] = []
    while (line_end := buffer.find(b"\r\n", position)) >= 0:
        size = int(buffer[position:line_end].partition(b";")[0], 16)
        start, position = line_end + 2, line_end + 2 + size + 2
        if len(buffer) < position:
            return None
        if not size:
            return b"".join(pieces), position
        pieces.append(buffer[start : start + size])
    return None


def main() -> None:
    """Listen on loopback, say on which port, and serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--tls-port", type=int, help="also listen here, over TLS")
    parser.add_argument("--certificate", type=Path, help="for TLS: a PEM file with key and certificate")
    options = parser.parse_args()
    factory = protocol.Factory.forProtocol(Backend)
    if options.tls_port is not None:
        own = ssl.PrivateCertificate.loadPEM(options.certificate.read_bytes())
        context = ssl.CertificateOptions(
            privateKey=own.privateKey.original, certificate=own.original, acceptableProtocols=[b"http/1.1"]
        )
        reactor.listenSSL(options.tls_port, factory, context, backlog=_BACKLOG, interface="127.0.0.1")
    port = reactor.listenTCP(options.port, factory, backlog=_BACKLOG, interface="127.0.0.1")
    print(f"listening on {port.getHost().port}", flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
