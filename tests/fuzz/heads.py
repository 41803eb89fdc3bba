"""A request's head: what is taken has one meaning, which is h11's too; what is refused is refused in JSON.  Pure."""

from __future__ import annotations

import h11

from gateway.calls import GatewayError
from gateway.edge import errors, head
from tests import framing
from tests.corpora import fetched

_END = b"\r\n\r\n"
SEEDS = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /v1/models/m:x?key=k HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
    b"POST http://a.test/x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: Chunked\r\nConnection: close, x\r\n\r\n",
    b"GET /x HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe9 \t\r\nX-Y:\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", b"GET  / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n",
    b"\x16\x03\x01\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent_Length: 2\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n", b"", _END,
)  # fmt: skip
DICTIONARY = (
    b"GET ", b"POST ", b"CONNECT ", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"HTTP/2.0", b"Host: a\r\n",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n", b"gzip, chunked", b"Connection: close\r\n", b"keep-alive",
    b"Expect: 100-continue\r\n",
    b"\r\n", b"\r\n ", b"\n", b"\r", b"\x00", b"http://", b"[::1]", b"@", b"_",
    b"+1", b"0x1", b": ", b" :", b"\xff", _END,
)  # fmt: skip


def more_seeds() -> list[bytes]:
    """The heads of requests that others wrote."""
    return [seed[: seed.find(_END) + 4] for seed in framing.seeds() if _END in seed] if fetched() else []


def one_input(data: bytes) -> None:
    """Raise where a head is read in two ways, or its beginning was called hopeless, or a refusal is none."""
    end = data.find(_END)
    raw = data[: end + 4] if end >= 0 else data + _END
    try:
        found = head.read(raw)
    except GatewayError as error:
        _refused(error)
        return
    for size in range(len(raw)):
        assert not head.hopeless(raw[:size], 0), f"hopeless, and then taken: {raw[:size]!r}"
    assert found.length is None or 0 <= found.length < 10**18, found
    _as_h11_reads(raw, found)


def _refused(error: GatewayError) -> None:
    assert error.code in (400, 414, 417, 431, 501, 505), error.code
    assert error.message.isprintable(), error.message
    errors.body(error)


def _as_h11_reads(raw: bytes, found: head.RequestHead) -> None:
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(raw)
    try:
        event = reader.next_event()
    except h11.RemoteProtocolError:
        # To be less strict than h11 is allowed where the meaning is one: it refuses HTTP/1.0 with some bodies.
        return
    assert isinstance(event, h11.Request), f"h11 has {event}"
    named: dict[bytes, list[bytes]] = {}
    for name, value in event.headers:
        named.setdefault(name, []).append(value)
    theirs = (event.method, event.target, named)
    # h11 writes this one value in lower case.
    coding = b"transfer-encoding"
    ours = {name: [one.lower() for one in values] if name == coding else values for name, values in found.named.items()}
    assert (found.method, found.target, ours) == theirs, f"{found} and {theirs}"
    headers = dict(event.headers)
    if b"transfer-encoding" in headers:
        assert found.length is None, found
    else:
        assert found.length == int(headers.get(b"content-length", b"0")), found
