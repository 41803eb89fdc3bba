"""A chunked body: the same at every split, and as h11 reads it.  Pure."""

from __future__ import annotations

import h11

from gateway.calls import GatewayError
from gateway.edge.chunks import Chunks
from gateway.edge.reading import TRAILERS_MOST
from tests.corpora import fetched, requests
from tests.fuzz.cuts import cuts

SEEDS = (
    b"5\r\nhello\r\n0\r\n\r\n", b"5;a=b;c\r\nhello\r\n00;x=\"y\\\"z\"\r\nX-Trailer: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    b"A\r\n0123456789\r\n1\r\nx\r\n0\r\nContent-Length: 5\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n",
    b"5 \r\nhello\r\n0\r\n\r\n", b"5\r\nhelloX\r\n0\r\n\r\n", b"ffffffffffffffff\r\n", b"-1\r\n", b"0\r\n\r\n",
    b"0\r\n a: b\r\n\r\n",
    b"1" + b";a=b" * 300 + b"\r\nx\r\n0\r\n\r\n",
)  # fmt: skip
DICTIONARY = (
    b"\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n", b";a=b", b';a="b"', b"\r", b"\n", b"\\", b'"', b" ", b"\t", b"f", b"F",
    b"00000000",
    b"X: y\r\n", b"content-length: 5\r\n", b"content_length: 5\r\n", b"transfer-encoding: chunked\r\n", b"\x00",
    b"\xff",
)  # fmt: skip
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def more_seeds() -> list[bytes]:
    """The bodies of chunked requests that others wrote."""
    if not fetched():
        return []
    cases = [case.data for kind in ("valid", "invalid") for case in requests(kind)]
    return [data.partition(b"\r\n\r\n")[2] for data in cases if b"chunked" in data.lower() and len(data) < 2000]


def one_input(data: bytes) -> None:
    """Raise where a split changes what the body is, or h11 reads another body."""
    due = read([data])
    for pieces in cuts(data):
        seen = read(pieces)
        assert seen == due, f"{seen} instead of {due} in the pieces {pieces}"
    theirs = by_h11(data)
    if due is not None and theirs is not None:
        body, done, rest = due
        assert (body, done) == theirs[:2], f"{due} and {theirs}"
        assert not done or rest == theirs[2], f"{due} and {theirs}"


def read(pieces: list[bytes]) -> tuple[bytes, bool, bytes] | None:
    """Return the body, whether it is over, and what follows it; None where it is refused."""
    chunks, body, rest = Chunks(TRAILERS_MOST), b"", b""
    try:
        for piece in pieces:
            if chunks.done:
                rest += piece
            elif piece:
                body += chunks.feed(piece)
                rest = chunks.rest
    except GatewayError as error:
        code = error.code
        assert code in (400, 431), code
        return None
    return body, chunks.done, rest


def by_h11(data: bytes) -> tuple[bytes, bool, bytes] | None:
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(HEAD + data)
    body = b""
    try:
        while True:
            event = reader.next_event()
            if isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return body, True, reader.trailing_data[0]
            elif event is h11.NEED_DATA:
                return body, False, b""
    except h11.RemoteProtocolError:
        return None
