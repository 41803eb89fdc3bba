"""Compare where requests begin and end, as the gateway sees it, with what h11 and llhttp see.

``python -m tests.framing --streams 100000`` mutates the corpora's requests and puts each result to all three.  The
gateway may be stricter than the others, and refuse; it must not see other requests than they do:

* The requests that two readers have both found are the same: method, target and body, one after the other.
* What the gateway has found beyond another's, the other has refused, or would not read because the connection ends.
* What another has found beyond the gateway's, the gateway has refused, or would not read because it closes.

So wherever nobody refuses, the number of requests is one, and nobody waits for what another has already had.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import attrs
import h11
import httptools

from tests.corpora import MISSING, Expected, fetched, json_texts, requests
from tests.readers import Door, with_host

OURS, H11, LLHTTP = "gateway", "h11", "llhttp"


@attrs.frozen
class Reading:
    """What a reader makes of a stream."""

    found: Sequence[Expected]
    """The whole requests, in order."""
    stopped: bool
    """Whether it reads no further: it has refused, or the connection ends with the last request."""
    refused: bool = False


def gateway(data: bytes, cut: int) -> Reading:
    """Read as the gateway does, in two pieces."""
    door = Door.open()
    door.send([data[:cut], data[cut:]])
    taken = door.taker.taken
    refused = door.client.received.count(b"HTTP/1.") > len(taken) + door.client.received.count(b" 100 Continue")
    return Reading(taken, refused or door.client.dropped, refused)


def by_h11(data: bytes) -> Reading:
    """Read with h11, which is told of an empty answer to each request."""
    if not data:
        # To h11 no bytes are the connection's end.
        return Reading([], False)
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(data)
    found: list[Expected] = []
    request, body = None, b""
    try:
        while True:
            event = reader.next_event()
            if event is h11.NEED_DATA:
                return Reading(found, False)
            if event is h11.PAUSED:
                return Reading(found, True)
            if isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                found.append(Expected(request.method, request.target, body))
                _answered(reader)
                if reader.our_state is h11.MUST_CLOSE:
                    return Reading(found, True)
                reader.start_next_cycle()
    except h11.RemoteProtocolError:
        return Reading(found, True, True)


def _answered(reader: h11.Connection) -> None:
    # With 200 a CONNECT would have dug its tunnel.
    reader.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
    reader.send(h11.EndOfMessage())


class Llhttp:
    """Takes llhttp's events."""

    def __init__(self) -> None:
        self.found: list[Expected] = []
        self.closes = False
        self._parser = httptools.HttpRequestParser(self)
        self._target = self._body = b""

    def read(self, data: bytes) -> Reading:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return Reading(self.found, True)
        except httptools.HttpParserError:
            # It takes what follows the last request of a connection for an error.
            return Reading(self.found, True, not self.closes)
        return Reading(self.found, self.closes)

    def on_message_begin(self) -> None:
        self._target = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.found.append(Expected(self._parser.get_method(), self._target, self._body))
        self.closes = not self._parser.should_keep_alive()


def disagreement(ours: Reading, theirs: Reading) -> str:
    """Say how two readings of a stream disagree; empty where they do not."""
    for number, (one, other) in enumerate(zip(ours.found, theirs.found, strict=False), 1):
        if one != other:
            return f"request {number} is {one} and {other}"
    if len(ours.found) > len(theirs.found) and not theirs.stopped:
        return f"{len(ours.found)} requests, where the other waits after {len(theirs.found)}"
    if len(ours.found) < len(theirs.found) and not ours.stopped:
        return f"waits after {len(ours.found)} requests, where the other has {len(theirs.found)}"
    return ""


SPICE = (
    b"\r\n", b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b"0", b"1", b"5", b"a", b"\xff", b"\r\n\r\n",
    b"\r\n ", b"0\r\n\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Host: localhost\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Expect: 100-continue\r\n",
    b"chunked", b"identity", b", ", b"HTTP/1.0", b"HTTP/1.1", b"5\r\nhello\r\n", b";a=b", b';a="b"', b"X: y\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /y HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
)  # fmt: skip
"""What makes framing go wrong."""


def seeds() -> list[bytes]:
    """The corpora's requests, and requests with the JSON texts as bodies."""
    # What is valid more often, since most changes make it invalid.
    heads = [with_host(case.data) for kind in ("valid", "valid", "valid", "invalid") for case in requests(kind)]
    texts = [case.text for case in json_texts() if len(case.text) < 200]
    half = len(texts) // 2
    post = b"POST /v1 HTTP/1.1\r\nHost: a\r\n"
    bodies = [post + b"Content-Length: %d\r\n\r\n%s" % (len(text), text) for text in texts[:half]]
    bodies += [
        post + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(text), text)
        for text in texts[half:]
        if text
    ]
    # Changes to kilobytes of one letter tell nothing that changes to a few do not.
    return [one for one in (*heads, *bodies, *SPICE[-3:]) if len(one) < 2000]


def mutated(chance: random.Random, basis: Sequence[bytes]) -> bytes:
    """Return one to three requests in a row with a few changes."""
    data = bytearray(b"".join(chance.choice(basis) for _ in range(chance.choice((1, 1, 2, 3)))))
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(7)
        if kind < 2:
            data[at:at] = chance.choice(SPICE)
        elif kind == 2:
            data[at : at + chance.randrange(1, 5)] = b""
        elif kind == 3:
            data[at : at + 1] = bytes([chance.randrange(256)])
        elif kind == 4:
            # A line's place is where most of what counts happens.
            line = data.find(b"\n", at)
            data[line + 1 : line + 1] = chance.choice(SPICE)
        elif kind == 5:
            end = at + chance.randrange(1, 40)
            data[at:at] = data[at:end]
        else:
            other = chance.choice(basis)
            data[at:] = other[chance.randrange(len(other)) :]
    return bytes(data)


def streams(count: int, seed: int) -> Iterator[tuple[bytes, int]]:
    """Yield streams, each with a place to cut it."""
    chance = random.Random(seed)
    basis = seeds()
    for _ in range(count):
        data = mutated(chance, basis)
        yield data, chance.randrange(len(data) + 1)


@attrs.define
class Comparison:
    """What came of many streams."""

    tally: Counter[str] = attrs.field(factory=Counter)
    disagreements: list[str] = attrs.field(factory=list)

    def put(self, data: bytes, cut: int) -> None:
        """Put one stream to all readers."""
        ours = gateway(data, cut)
        self.tally["streams"] += 1
        self.tally["requests"] += len(ours.found)
        self.tally[f"{OURS} refuses"] += ours.refused
        for name, theirs in ((H11, by_h11(data)), (LLHTTP, Llhttp().read(data))):
            self.tally[f"{name} refuses"] += theirs.refused
            self.tally[f"{name} and {OURS} take all"] += not (theirs.refused or ours.refused)
            problem = disagreement(ours, theirs)
            if problem:
                self.disagreements.append(f"{OURS} and {name}: {problem}: {data!r} cut at {cut}")


def compare(count: int, seed: int) -> Comparison:
    """Put ``count`` streams to all readers."""
    comparison = Comparison()
    for data, cut in streams(count, seed):
        comparison.put(data, cut)
    return comparison


def main(arguments: Sequence[str]) -> int:
    """Compare as often as is asked for; 1 if anybody disagreed."""
    parser = argparse.ArgumentParser(prog="python -m tests.framing", description=main.__doc__)
    parser.add_argument("--streams", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    if not fetched():
        print(MISSING, file=sys.stderr)
        return 1
    began = time.monotonic()
    comparison = compare(options.streams, options.seed)
    for what, count in comparison.tally.items():
        print(f"{what}: {count}")
    for problem in comparison.disagreements[:20]:
        print(problem)
    print(f"{len(comparison.disagreements)} disagreements after {time.monotonic() - began:.0f} s")
    return 1 if comparison.disagreements else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
