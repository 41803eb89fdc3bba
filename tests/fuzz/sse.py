"""The event decoder: the same events at every split, those of a decoder written the simple way.  Pure."""

from __future__ import annotations

import json
import re

import msgspec

from gateway import sse
from gateway.calls import Event, Framing
from gateway.dialects.gemini import StreamEncoder
from tests.fakes import call
from tests.fuzz.cuts import cuts

LIMITS = (24, 1 << 20)
TOO_LARGE = None
SEEDS = (
    b'data: {"a":1}\n\ndata: {"b":2}\r\n\r\ndata: [DONE]\n\n',
    b"\xef\xbb\xbfdata: x\rdata: y\r\rdata:z",
    b": comment\nevent: message\nid: 7\nretry: 10\ndata: [1,\ndata: 2]\n\n",
    b"data\n\ndata:\n\ndata: \ndata:\n\ndata:  a\n\n",
    'data: {"text":"\u2028\u2029\x85 é"}\r\n\r\n'.encode(),
    b"data: 1234567890123456789012345\n\ndata: 12345678901234567\n\n",
)
DICTIONARY = (
    b"data:", b"data: ", b"event:", b"\r\n", b"\n\n", b"\r\r", b"\xef\xbb\xbf", b"[DONE]", b"\xe2\x80\xa8",
    b"\xc2\x85",
)  # fmt: skip


def one_input(data: bytes) -> None:
    """Raise where a split, or the simple way, gives other events; or where an event changes on its way out."""
    for limit in LIMITS:
        due = expected(data, limit)
        for pieces in cuts(data):
            seen = decoded(pieces, limit)
            assert seen == due, f"limit {limit}, pieces {pieces}: {seen} instead of {due}"
    for event in expected(data, LIMITS[-1]) or ():
        _goes_out(event)


def decoded(pieces: list[bytes], limit: int) -> list[bytes] | None:
    decoder = sse.Decoder(limit)
    try:
        return [event for piece in pieces for event in decoder.feed(piece)] + decoder.feed(sse.GAP)
    except sse.EventTooLarge:
        return TOO_LARGE


def expected(data: bytes, limit: int) -> list[bytes] | None:
    """Read the events the simple way: all at once, line by line."""
    events: list[bytes] = []
    values: list[bytes] = []
    held = 0
    for number, whole in enumerate([*re.split(rb"\r\n|\n|\r", data), b""]):
        line = whole if number else whole.removeprefix(b"\xef\xbb\xbf")
        if held + len(whole) > limit:
            return TOO_LARGE
        if line.startswith(b"data:"):
            values.append(line.removeprefix(b"data:").removeprefix(b" "))
            held += len(line)
        elif not line:
            text = b"\n".join(values)
            if text.strip(b"\n"):
                events.append(text)
            values, held = [], 0
    return events


def _goes_out(event: bytes) -> None:
    """What a client is sent has the meaning of what came, as SSE and as an array."""
    try:
        due = json.loads(msgspec.json.encode(msgspec.json.decode(event)))
    except (ValueError, RecursionError):
        return
    framed = sse.frame(event)
    again = sse.Decoder(1 << 24).feed(framed)
    assert len(again) == 1, f"{framed!r} is {len(again)} events"
    assert msgspec.json.decode(again[0]) == msgspec.json.decode(event), f"{event!r} became {again[0]!r}"
    assert len(framed.decode().splitlines()) == 2, f"{framed!r} has more lines than one for some clients"
    encoder = StreamEncoder(call(framing=Framing.ARRAY))
    array = encoder.encode([Event(event)]) + encoder.encode([Event(event)]) + encoder.end()
    assert json.loads(array) == [due, due], array
