"""A stand-in for Google that sends too much, for the bench of the door.  Does I/O.

What it answers goes by the model's name: ``bomb`` is gzip that unpacks to ``--bytes``, ``line`` a stream whose first
event does not end before ``--bytes``, ``wide`` one JSON text of so many bytes, ``crumbs`` a tenth of it in chunks of
one byte each, ``endless`` a stream of 4 KiB events as fast as they are taken; any other model gets a short answer.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import re
import signal
from collections.abc import Iterator

_MODEL = re.compile(rb"POST /v1beta/models/([^:/ ]+):(\w+)")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
ANSWER = b'{"candidates":[{"content":{"role":"model","parts":[{"text":"Hello."}]},"finishReason":"STOP"}]}'
EVENT = b'data: {"candidates":[{"content":{"role":"model","parts":[{"text":"%s"}]}}]}\r\n\r\n' % (b"x" * 4000)
_BLOCK = 10 * 1024 * 1024


def members(size: int) -> Iterator[bytes]:
    """Yield gzip members, one after the other, that unpack to ``size`` bytes of nothing together."""
    member = gzip.compress(bytes(_BLOCK), 9)
    for _ in range(0, size, _BLOCK):
        yield member


def filled(before: bytes, size: int) -> Iterator[bytes]:
    """Yield ``before``, then ``size`` bytes of text without a line end."""
    yield before
    block = b"x" * 65536
    for _ in range(0, size, len(block)):
        yield block


def crumbs(size: int) -> Iterator[bytes]:
    """Yield chunks of one byte each, many in one piece; the first and the last are framed by whoever writes them."""
    many = b"x" + b"\r\n1\r\nx" * 9999
    for _ in range(0, size, 10_000):
        yield many


def events() -> Iterator[bytes]:
    """Yield events without an end."""
    while True:
        yield EVENT


def answered(model: bytes, verb: bytes, size: int) -> tuple[list[bytes], Iterator[bytes]]:
    """Return the answer's header fields and its chunks."""
    kind = b"text/event-stream" if verb == b"streamGenerateContent" else b"application/json"
    fields = [b"Content-Type: " + kind, b"Transfer-Encoding: chunked"]
    if model == b"bomb":
        return [*fields, b"Content-Encoding: gzip"], members(size)
    if model == b"line":
        return fields, filled(b'data: {"text":"', size)
    if model == b"wide":
        return fields, filled(b'{"text":"', size)
    if model == b"crumbs":
        return fields, crumbs(size // 10)
    if model == b"endless":
        return fields, events()
    return fields, iter([b"data: " + ANSWER + b"\r\n\r\n" if verb == b"streamGenerateContent" else ANSWER])


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int) -> None:
    """Answer the requests of one connection, each at the pace at which it is taken."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            await reader.readexactly(int(length[1]) if length else 0)
            found = _MODEL.match(head)
            if found is None:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}")
                continue
            fields, chunks = answered(found[1], found[2], size)
            writer.write(b"HTTP/1.1 200 OK\r\n" + b"\r\n".join(fields) + b"\r\n\r\n")
            for chunk in chunks:
                size_of = 1 if found[1] == b"crumbs" else len(chunk)
                writer.write(b"%x\r\n%s\r\n" % (size_of, chunk))
                await writer.drain()
            writer.write(b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    """Listen until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bytes", type=int, default=100_000_000)
    arguments = parser.parse_args()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(reader, writer, arguments.bytes)

    server = await asyncio.start_server(connected, "127.0.0.1", arguments.port, backlog=2048)
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    async with server:
        await over.wait()


if __name__ == "__main__":
    asyncio.run(main())
