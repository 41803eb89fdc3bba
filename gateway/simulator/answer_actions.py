"""Actions on a whole answer: its status, its headers, its bytes, the moment it comes.  Pure."""

import zlib
from typing import Annotated, Any

import attrs
from msgspec import Meta, field

from gateway.simulator import steps as s
from gateway.simulator.action import Base, Code, Count, Seconds
from gateway.simulator.reasons import HTML_TYPE, JSON_TYPE, REASONS, Reason, Scene, pretty, usual
from gateway.simulator.steps import Answer, Head, Steps, Unary


class Status(Base, frozen=True, tag="status"):
    """Answer with a status, its body chosen by ``reason`` or by ``code``, or given as ``body``.

    ``seconds`` is when the quota refills; ``pad`` makes the body at least so many bytes long.
    """

    code: Code | None = None
    reason: str | None = None
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    seconds: Seconds | None = None
    pad: Count = 0

    def __post_init__(self) -> None:
        if self.code is None and self.reason is None:
            raise ValueError("a status needs a code or a reason")
        if self.reason is not None and self.reason not in REASONS:
            raise ValueError(f"no reason is called {self.reason!r}; there are: {', '.join(REASONS)}")

    def _reason(self) -> Reason:
        return REASONS[self.reason] if self.reason is not None else usual(self.code or 500)

    def instead(self, scene: Scene) -> Unary:
        """The chosen body under the chosen status."""
        reason = self._reason()
        code = self.code or reason.code
        if self.body is None:
            scene = attrs.evolve(scene, seconds=self.seconds)
            body: Any = reason.body(scene)
            kind = reason.content_type
        elif isinstance(self.body, str):
            body, kind = self.body.encode(), "text/plain; charset=UTF-8"
        else:
            body, kind = pretty(self.body), JSON_TYPE
        body += b" " * (self.pad - len(body))
        headers = {"Content-Type": kind, **dict(reason.headers), **self.headers}
        return Unary(code, body, tuple(headers.items()))


class Early(Status, frozen=True, tag="early"):
    """A status sent when the request's head is complete, before its body has been read.

    With ``close`` the connection is closed at once; without, the rest of the body is read and dropped first.
    """

    close: bool = False


class Redirect(Base, frozen=True, tag="redirect"):
    """Send the client elsewhere."""

    location: str
    code: Annotated[int, Meta(ge=300, le=399)] = 302

    def instead(self, scene: Scene) -> Answer:
        """A redirect with Google's short HTML page."""
        page = f'<HTML><BODY><A HREF="{self.location}">here</A></BODY></HTML>\n'.encode()
        return Unary(self.code, page, (("Content-Type", HTML_TYPE), ("Location", self.location)))


class Stall(Base, frozen=True, tag="stall"):
    """Send nothing for ``seconds`` (null: for ever), then go on."""

    after: Count | None = None
    seconds: Seconds | None = None

    def wire(self, steps: Steps) -> Steps:
        """Wait before the head, behind it, or behind so many events."""
        seconds = s.FOREVER if self.seconds is None else self.seconds
        return s.interrupted(steps, self.after, [s.Wait(seconds)], stop=False)


class ResetAction(Base, frozen=True, tag="reset"):
    """Reset the connection (RST)."""

    after: Count | None = None

    def wire(self, steps: Steps) -> Steps:
        """Reset before the head, behind it, or behind so many events."""
        return s.interrupted(steps, self.after, [s.Reset()], stop=True)


class Truncate(Base, frozen=True, tag="truncate"):
    """Close the connection (FIN) with the answer incomplete: behind so many events, or bytes of the body."""

    after: Count | None = 1
    bytes: Count | None = None

    def wire(self, steps: Steps) -> Steps:
        """Close without the final chunk, or short of Content-Length."""
        if self.bytes is not None:
            return s.cut(steps, self.bytes)
        return s.interrupted(steps, self.after, [s.Close()], stop=True)


class ContentType(Base, frozen=True, tag="content_type"):
    """Another Content-Type on the same answer; empty removes it.  ``page`` sends an HTML page instead."""

    type: str = HTML_TYPE
    page: bool = False

    def instead(self, scene: Scene) -> Answer | None:
        """An HTML page under 200, if asked for."""
        page = b"<!DOCTYPE html><html><title>Sign in</title><p>Sign in to continue.</html>\n"
        return Unary(200, page, (("Content-Type", self.type),)) if self.page else None

    def wire(self, steps: Steps) -> Steps:
        """The head with the other type."""

        def change(head: Head) -> Head:
            others = tuple((k, v) for k, v in head.headers if k.lower() != "content-type")
            return attrs.evolve(head, headers=((("Content-Type", self.type),) if self.type else ()) + others)

        return s.rehead(steps, change)


class HeadersAction(Base, frozen=True, tag="headers"):
    """Further headers on the answer."""

    set: dict[str, str]

    def wire(self, steps: Steps) -> Steps:
        """The head with them appended."""
        more = tuple(self.set.items())
        return s.rehead(steps, lambda head: attrs.evolve(head, headers=head.headers + more))


class Interim(Base, frozen=True, tag="interim"):
    """An interim answer (1xx) before the real one."""

    code: Annotated[int, Meta(ge=100, le=199)] = 103

    def wire(self, steps: Steps) -> Steps:
        """Put it in front."""
        yield s.Interim(self.code)
        yield from steps


class Raw(Base, frozen=True, tag="raw"):
    """These bytes on the connection instead of an HTTP answer, then FIN: for answers that break HTTP itself."""

    text: str = ""
    base64: bytes = b""

    def wire(self, steps: Steps) -> Steps:
        """Nothing of the real answer is sent."""
        yield s.Raw(self.base64 or self.text.encode("utf-8", "surrogateescape"))
        yield s.Close()


class Gzip(Base, frozen=True, tag="gzip"):
    """The body compressed, event by event; ``bomb`` puts so many compressed zero bytes in front of it."""

    bomb: Count = 0
    encoding: str = "gzip"

    def wire(self, steps: Steps) -> Steps:
        """Every write becomes a flushed piece of one gzip stream."""
        packer = zlib.compressobj(wbits=31)
        left = self.bomb
        for step in steps:
            if isinstance(step, Head):
                # The compressed length is not known at the head, so the answer is chunked.
                others = (*step.headers, ("Content-Encoding", self.encoding))
                yield Head(step.code, others)
                while left > 0:
                    yield s.Data(packer.compress(bytes(min(left, 1 << 20))))
                    left -= 1 << 20
            elif isinstance(step, s.Data):
                yield s.Data(packer.compress(step.data) + packer.flush(zlib.Z_SYNC_FLUSH), step.mark, step.said)
            elif isinstance(step, s.Finish):
                yield s.Data(packer.flush())
                yield step
            else:
                yield step
