"""Header fields on their way out."""

from __future__ import annotations

from typing import Any

from twisted.web.http_headers import Headers

from gateway.upstreams.heads import Pairs


class Fields(Headers):
    """Fields that are written as they are, and become Twisted's mapping only for those who look into it.

    The mapping costs more than writing them does.
    """

    __slots__ = ("pairs",)

    def __init__(self, pairs: Pairs) -> None:
        # Without Headers' own, so that its one attribute is missing until somebody asks for it.
        self.pairs = pairs

    def __getattr__(self, name: str) -> Any:
        """Make the mapping, the first time that a method of Headers' needs it."""
        if name != "_rawHeaders":
            raise AttributeError(name)
        super().__init__()
        for field, value in self.pairs:
            self.addRawHeader(field, value)
        return self._rawHeaders

    def copy(self) -> Headers:
        """Return plain headers with the same fields; see Headers."""
        copied = Headers()
        for field, value in self.pairs:
            copied.addRawHeader(field, value)
        return copied


def pairs_of(headers: Headers | None) -> Pairs:
    """Return the fields in the order in which they are written."""
    if headers is None:
        return ()
    if type(headers) is Fields:
        return headers.pairs
    return [(name, value) for name, values in headers.getAllRawHeaders() for value in values]
