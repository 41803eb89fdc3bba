"""A client's whole connection, through the site: as many requests as h11 and llhttp see, at every split.  No socket."""

from __future__ import annotations

from tests import framing
from tests.corpora import fetched
from tests.fuzz.cuts import cuts
from tests.readers import Door

SEEDS = (
    *framing.SPICE[-3:],
    framing.SPICE[-1] * 2 + framing.SPICE[-3],
    b"POST / HTTP/1.0\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n{}GET / HTTP/1.0\r\n\r\nGET / HTTP",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n{}",
    b"\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
)
DICTIONARY = tuple(dict.fromkeys(framing.SPICE))


def more_seeds() -> list[bytes]:
    """The requests of others, and JSON texts as bodies."""
    return framing.seeds() if fetched() else []


def one_input(data: bytes) -> None:
    """Raise where the three readers find other requests, or ours depends on the pieces, or an answer is none."""
    whole = framing.gateway(data, 0)
    for pieces in list(cuts(data))[:4]:
        door = Door.open()
        door.send(pieces)
        assert door.taker.taken == whole.found, f"{door.taker.taken} instead of {whole.found}: {pieces}"
        answers = door.client.received
        assert not answers or answers.startswith(b"HTTP/1."), answers
    for name, theirs in ((framing.H11, framing.by_h11(data)), (framing.LLHTTP, framing.Llhttp().read(data))):
        problem = framing.disagreement(whole, theirs)
        assert not problem, f"{name}: {problem}"
