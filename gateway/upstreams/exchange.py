"""What the wire gives to those who send through it.  Pure: types only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

from gateway.calls import HttpRequest


class WireError(Exception):
    """No usable answer came.

    ``kind`` is one of the kinds that ``verdict.transport`` knows: ``connect``, ``tls``, ``timeout-connect``,
    ``timeout-first-byte``, ``timeout-idle``, ``reset``, ``truncated``, ``too-large``.
    """

    def __init__(self, kind: str, text: str = "") -> None:
        super().__init__(f"{kind}: {text}" if text else kind)
        self.kind = kind


class Receiver(Protocol):
    """Takes a body as it comes."""

    def data(self, chunk: bytes) -> None:
        """Take the next bytes; may pause the exchange from within."""

    def ending(self) -> None:
        """What comes next is the last of a whole body, and its end follows at once; may be left out."""

    def ended(self, error: WireError | None) -> None:
        """The body is over: whole if ``error`` is None.  Nothing follows."""


class Exchange(Protocol):
    """An answer whose head has come and whose body has not been read."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """Header fields; names are lower case, the last of a repeated field counts."""

    async def read(self, limit: int, idle_seconds: float, seconds: float = math.inf) -> bytes:
        """Return the whole body; raises WireError.

        ``too-large`` beyond ``limit`` bytes, ``timeout-idle`` where nothing more comes for ``idle_seconds``,
        ``timeout-first-byte`` where it is not whole within ``seconds``.
        """

    def deliver(self, receiver: Receiver) -> None:
        """Start the body's flow into ``receiver``."""

    def forget_head(self) -> None:
        """Keep no header fields: nobody asks for them any more, and the body may go on for long."""

    def pause(self) -> None:
        """Stop reading from upstream; what the socket holds waits there."""

    def resume(self) -> None:
        """Read on."""

    def abort(self) -> None:
        """Close the connection to upstream at once; ``ended`` is not called any more."""


class Wire(Protocol):
    """Sends requests."""

    async def open(self, request: HttpRequest, first_byte_seconds: float, upstream: str = "") -> Exchange:
        """Send a request on an upstream's way out and return its answer's head; raises WireError."""
