"""Readers of HTTP requests, ours and others', that say of a stream of bytes which requests it holds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import attrs
from twisted.internet.task import Clock
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from gateway.config import Limits
from gateway.edge.gate import Admitted, Gate, Head
from gateway.edge.keys import ANONYMOUS, NO_KEYS
from gateway.edge.site import GatewaySite
from tests.corpora import Expected
from tests.fakes import Client, FakeRecorder


class Taker(Resource):
    """Answers every request with 200, and keeps what it was."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Expected] = []

    def render(self, request: Any) -> int:
        self.taken.append(Expected(request.method, request.uri, request.body().whole().text))
        request.answer(200, b"{}")
        request.finish()
        return NOT_DONE_YET


@attrs.frozen
class OpenGate(Gate):
    """Lets every request in that could be read, whatever it is for."""

    def judge(self, head: Head) -> Admitted:
        return Admitted("/", ANONYMOUS)


OPEN_GATE = OpenGate(NO_KEYS, False, True, Limits().body, Limits().target)


@attrs.define(eq=False)
class Door:
    """One connection to a site whose requests all end at a Taker."""

    taker: Taker
    client: Client

    @classmethod
    def open(cls, gate: Gate = OPEN_GATE, limits: Limits | None = None) -> Door:
        taker = Taker()
        site = GatewaySite(taker, Clock(), gate, limits or Limits(), FakeRecorder(), lambda: "id-1")
        return cls(taker, Client(site))

    def send(self, pieces: Iterable[bytes]) -> None:
        """Send a stream in these pieces, and nothing more once the gateway has closed the connection."""
        for piece in pieces:
            if self.client.dropped:
                break
            self.client.send(piece)

    @property
    def waits(self) -> bool:
        """Whether the gateway waits for the rest of something."""
        channel = self.client.protocol
        return not self.client.dropped and bool(channel._unread.strip(b"\r\n") or channel.requests)


_LINE = re.compile(rb"(?m)^(?P<line>[^ \r\n]+ [^ \r\n]+ HTTP/1\.1\r\n)(?P<fields>(?:[^\r\n]+\r\n)*)")


def with_host(data: bytes) -> bytes:
    """Give every head of HTTP/1.1 that has no Host one: gunicorn does not ask for it, RFC 9112 section 3.2 does.

    What follows a request of HTTP/1.0 that ends its connection is no request, and left alone.
    """
    first, _, rest = data.partition(b"\r\n")
    if first.endswith(b"HTTP/1.0") and b"keep-alive" not in rest.lower():
        return data
    return _LINE.sub(
        lambda found: found["line"]
        + (b"" if re.search(rb"(?mi)^host[ \t]*:", found["fields"]) else b"Host: localhost\r\n")
        + found["fields"],
        data,
    )
