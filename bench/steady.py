"""A steady load: so many requests a second whatever becomes of them, every answer checked in full.  Does I/O."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import attrs
import http1
import talks

TIMEOUT_SECONDS = 60.0
"""For one request, from the moment at which it was due."""
CONNECTIONS_MOST = 2000
"""More than a load has within the time limit of its requests."""
IDLE_SECONDS = 1.0
"""A kept connection that rested longer is not used again, so that no server closes it under a request."""


@attrs.frozen
class Result:
    """What became of one request.  Seconds are counted from when the request was due."""

    number: int
    streams: bool
    due_at: float
    seconds: float
    first_seconds: float | None
    """To the first event of a stream."""
    status: int = 0
    """0 where no head came."""
    failure: str = ""
    """Why it does not count as answered; empty where it does."""
    detail: str = ""


class _Connection(asyncio.Protocol):
    """A connection that carries one exchange at a time, and tells it of all that comes."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self.rested_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._incoming.put_nowait(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._incoming.put_nowait(b"")

    @property
    def fit(self) -> bool:
        """Whether another exchange may use it."""
        assert self._transport is not None
        rested = time.monotonic() - self.rested_since
        return not self._transport.is_closing() and self._incoming.empty() and rested < IDLE_SECONDS

    def send(self, data: bytes) -> None:
        """Write."""
        assert self._transport is not None
        self._transport.write(data)

    async def receive(self) -> bytes:
        """Return what comes next; raises WrongAnswer at the connection's end."""
        data = await self._incoming.get()
        if not data:
            raise talks.WrongAnswer("connection broke")
        return data

    def close(self) -> None:
        """Close it."""
        assert self._transport is not None
        self._transport.abort()


class _Events:
    """Cut an event stream into the data of its events; what is not data is passed over, as SSE readers do."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the data of the lines that ``piece`` completes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]


@attrs.define(eq=False)
class Load:
    """The requests of one run against one port."""

    port: int
    headers: Mapping[str, str]
    seed: int
    dialect: talks.Dialect
    _idle: list[_Connection] = attrs.Factory(list)
    _open: int = 0
    most_open: int = 0
    """The most connections that were in use at once."""

    async def run(self, count: int, per_second: float, starts_at: float, first: int = 0) -> list[Result]:
        """Make ``count`` requests, evenly from ``starts_at`` (time.time) on."""
        due = [starts_at + number / per_second for number in range(count)]
        tasks = [asyncio.create_task(self._one(first + number, at)) for number, at in enumerate(due)]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for connection in self._idle:
                connection.close()
            self._idle.clear()

    async def _one(self, number: int, due_at: float) -> Result:
        await asyncio.sleep(max(due_at - time.time(), 0.0))
        ask = talks.ask(self.seed, number)
        result = Result(number, ask.streams, due_at, 0.0, None)
        if self._open >= CONNECTIONS_MOST:
            return attrs.evolve(result, failure="no connection left")
        self._open += 1
        self.most_open = max(self.most_open, self._open)
        connection: _Connection | None = None
        reader = http1.ResponseReader()
        kept = False
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                connection = await self._connection()
                first_at = await self._exchange(connection, ask, reader)
            kept = True
            if first_at is not None:
                result = attrs.evolve(result, first_seconds=first_at - due_at)
        except TimeoutError:
            result = attrs.evolve(result, failure="timeout")
        except (http1.BadAnswer, talks.WrongAnswer, OSError, ValueError) as wrong:
            short, _, detail = str(wrong).partition(": ")
            result = attrs.evolve(result, failure=short or type(wrong).__name__, detail=detail)
        finally:
            self._open -= 1
            self._put_back(connection, kept)
        return attrs.evolve(result, seconds=time.time() - due_at, status=reader.status)

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.fit:
                return connection
            connection.close()
        _, made = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", self.port)
        return made

    def _put_back(self, connection: _Connection | None, kept: bool) -> None:
        if connection is None:
            return
        connection.rested_since = time.monotonic()
        if kept:
            self._idle.append(connection)
        else:
            connection.close()

    async def _exchange(
        self, connection: _Connection, ask: talks.Ask, reader: http1.ResponseReader
    ) -> float | None:
        """Return when the first event came, None for an answer in one piece; raises where it was not right."""
        fields = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        sent = self.dialect.body(ask)
        head = (
            f"POST {self.dialect.path(ask)} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"User-Agent: bench/1.0\r\nAccept: */*\r\n{fields}"
            f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n"
        )
        connection.send(head.encode("ascii") + sent)
        heard, events, body = talks.Heard(self.dialect), _Events(), b""
        first_at: float | None = None
        while not reader.done:
            piece = reader.feed(await connection.receive())
            if reader.status == 200 and ask.streams:
                for event in events.feed(piece):
                    first_at = first_at or time.time()
                    heard.take(event)
            else:
                body += piece
        if reader.status != 200:
            said = body[:2000].decode("utf-8", "replace")
            raise talks.WrongAnswer(f"{reader.status} {talks.reason_of(body)}: {said}")
        if not ask.streams:
            heard.take(body)
        heard.end(ask.due)
        return first_at
