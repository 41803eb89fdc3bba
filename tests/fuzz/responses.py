"""The reader of upstream's answers: the same at every split, and what it takes is what h11 reads.  Pure."""

from __future__ import annotations

from typing import Any

import h11

from gateway.upstreams.answers import HEAD_BYTES_MOST, AnswerReader
from tests.fuzz.cuts import cuts

_OK = b"HTTP/1.1 200 OK\r\n"
SEEDS = (
    _OK + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    _OK + b"Transfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    _OK + b"Transfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\nX-Trailer: 1\r\n\r\n",
    _OK + b"\r\nuntil the end",
    b"HTTP/1.0 503 Service Unavailable\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + _OK + b"Content-Length: 1\r\nConnection: close\r\n\r\nxmore",
    b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nxmore",
    b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200\r\n\r\n",
    _OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    _OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    _OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/2.0 200 OK\r\n\r\n", b"SSH-2.0-x\r\n",
    _OK + b" folded: x\r\n\r\n", _OK + b"X: \x00\r\n\r\n", b"HTTP/1.1 099 x\r\n\r\n",
)  # fmt: skip
DICTIONARY = (
    _OK, b"HTTP/1.0 ", b" 100 Continue\r\n\r\n", b"Content-Length: ", b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Upgrade: h2c\r\n",
    b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n",
    b";a=b", b"\n", b"\r",
    b"\x00", b" ", b"gzip, ", b"identity", b"204", b"304", b"+1", b"0x", b"18446744073709551616",
    b"ffffffffffffffff\r\n",
)  # fmt: skip


def one_input(data: bytes) -> None:
    """Raise where a split changes what an answer says, what is read is out of bounds, or h11 reads another one."""
    for bodiless in (False, True):
        due = read([data], bodiless)
        for pieces in cuts(data):
            seen = read(pieces, bodiless)
            assert seen == due, f"{seen} instead of {due} in the pieces {pieces}"
        theirs = by_h11(data, bodiless)
        if due is not None and theirs is not None:
            assert due[:2] == theirs[:2], f"{due} and {theirs}"
            # Where only the connection's end delimits a body, h11 waits for it as we do.
            assert due[2:4] == theirs[2:4], f"{due} and {theirs}"


def read(pieces: list[bytes], bodiless: bool) -> tuple[Any, ...] | None:
    """Return the status, the fields, the body and whether it is whole; None where something is wrong with it."""
    reader, body = AnswerReader(), b""
    reader.begin(bodiless)
    for piece in pieces:
        # A connection is closed at the first fault, and read no further.
        if not piece or reader.fault or reader.complete:
            continue
        body += reader.feed(piece)
    if reader.fault or reader.head is None:
        return None if reader.fault else (0, [], body, False)
    head = reader.head
    assert 200 <= head.code <= 599, head
    assert sum(len(name) + len(value) for name, value in head.pairs) <= HEAD_BYTES_MOST, head
    assert not (bodiless and body), body
    assert not (reader.until_end and reader.complete), head
    pairs = [_as_h11(name.lower(), value.strip(b" \t")) for name, value in head.pairs]
    return head.code, pairs, body, reader.complete


def _as_h11(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """h11 writes one value in lower case."""
    return name, value.lower() if name == b"transfer-encoding" else value


def by_h11(data: bytes, bodiless: bool) -> tuple[Any, ...] | None:
    reader = h11.Connection(h11.CLIENT)
    method = "HEAD" if bodiless else "GET"
    reader.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    reader.send(h11.EndOfMessage())
    if data:
        reader.receive_data(data)
    code, fields, body = 0, [], b""
    try:
        while True:
            event = reader.next_event()
            if isinstance(event, h11.Response):
                code, fields = event.status_code, list(event.headers)
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return code, fields, body, True
            elif event in (h11.NEED_DATA, h11.PAUSED):
                return code, fields, body, False
    except h11.RemoteProtocolError:
        return None
