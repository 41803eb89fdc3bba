"""Read HTTP/1.1 responses and server-sent events from bytes, for the load generator.  Pure."""

from __future__ import annotations


class BadAnswer(Exception):
    """What arrived is not the answer that was due."""


class ResponseReader:
    """One response: feed it bytes, take body pieces, see ``done``.

    Only what a kept connection needs: a Content-Length or chunks (RFC 9112, 6); a body that ends with
    the connection is refused, since its end cannot be told from a break.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.done = False
        self._buffer = bytearray()
        self._chunked = False
        self._left = 0  # bytes of the body, or of the current chunk with its CRLF, still to come

    def feed(self, data: bytes) -> bytes:
        """Take ``data`` in and return the body bytes that it completes."""
        if self.done:
            raise BadAnswer("bytes after the end of the answer")
        self._buffer += data
        if not self.status and not self._read_head():
            return b""
        return self._read_chunks() if self._chunked else self._read_length()

    def _read_head(self) -> bool:
        """Read status and header fields; False until they are complete."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        first, *lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        version, _, rest = first.partition(b" ")
        if version != b"HTTP/1.1":
            raise BadAnswer(f"not HTTP/1.1: {first!r}")
        for line in lines:
            name, _, value = line.partition(b":")
            self.headers[name.strip().lower()] = value.strip()
        self.status = int(rest[:3])
        self._chunked = self.headers.get(b"transfer-encoding", b"").lower() == b"chunked"
        if self._chunked:
            return True
        if b"content-length" not in self.headers:
            raise BadAnswer("an answer without Content-Length or chunks")
        self._left = int(self.headers[b"content-length"])
        return True

    def _read_length(self) -> bytes:
        """Return what there is of a body of known length."""
        piece = bytes(self._buffer)
        self._buffer.clear()
        self._left -= len(piece)
        if self._left < 0:
            raise BadAnswer("bytes after the end of the answer")
        self.done = self._left == 0
        return piece

    def _read_chunks(self) -> bytes:
        """Return the content of the chunks that are complete."""
        buffer, position, pieces = bytes(self._buffer), 0, []
        while not self.done:
            line_end = buffer.find(b"\r\n", position)
            if line_end < 0:
                break
            size = int(buffer[position:line_end].partition(b";")[0], 16)
            start, end = line_end + 2, line_end + 2 + size
            if len(buffer) < end + 2:
                break
            if buffer[end : end + 2] != b"\r\n":
                raise BadAnswer("a chunk of another length than it says")
            pieces.append(buffer[start:end])
            position = end + 2
            self.done = size == 0
        del self._buffer[:position]
        if self.done and self._buffer:
            raise BadAnswer("bytes after the last chunk")
        return b"".join(pieces)


class EventReader:
    """Cut an event stream into the data of its events.  Only ``data`` lines and empty ones are allowed."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: bytes | None = None

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the data of each event that ``piece`` completes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        complete = []
        for raw in lines:
            line = raw.removesuffix(b"\r")
            if line.startswith(b"data: ") and self._data is None:
                self._data = line[6:]
            elif not line:
                # An empty line that ends no event is allowed, and means nothing.
                complete += [] if self._data is None else [self._data]
                self._data = None
            else:
                raise BadAnswer(f"not a line of an event: {line[:60]!r}")
        return complete

    def close(self) -> None:
        """Say that the stream is over; an unfinished event is an error."""
        if self._rest or self._data is not None:
            raise BadAnswer("the stream ended inside an event")
