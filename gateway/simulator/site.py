"""The simulator's site: short log lines, and answers that come before the body has been read."""

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.web.http import RESPONSES
from twisted.web.server import Request, Site

from gateway.simulator import steps as s
from gateway.simulator.actions import Early
from gateway.simulator.asking import ask_of, located
from gateway.simulator.rules import Probe

if TYPE_CHECKING:
    from gateway.simulator.world import Simulator


class SimulatorRequest(Request):
    """A request that an ``early`` fault may answer at the end of its head."""

    judged_early = True
    _answered = False
    site: "SimulatorSite"

    def gotLength(self, length: int | None) -> None:
        """The head is complete: the last moment before the body."""
        super().gotLength(length)  # type: ignore[no-untyped-call]
        channel: Any = self.channel
        if len(channel.requests) == 1:
            self._judge(channel)

    def _judge(self, channel: Any) -> None:
        simulator: Simulator = channel.site.simulator
        if not simulator.rules.standing:
            return
        # The channel sets these on the request only when the body is complete.
        target: bytes = channel._path
        place = located(target.partition(b"?")[0].decode("utf-8", "replace"))
        if place is None:
            return
        self.method, self.uri = channel._command, target
        ask = ask_of(simulator, self, place, b"")
        probe = Probe(ask.face, ask.verb, ask.model, ask.credential, ask.method, ask.path, str)
        standing = simulator.rules.choose(probe, ask.now, early=True)
        if standing is None:
            return
        action = next(found for found in standing.rule.actions() if isinstance(found, Early))
        self._answered = True
        self.requestHeaders.removeHeader(b"expect")
        answer = action.instead(ask.scene)
        body = answer.body()
        entry = simulator.records.begin(ask, target.partition(b"?")[2].decode("latin-1"), raw_headers(self))
        entry.rule, entry.status, entry.first_at = standing.number, answer.code, ask.now
        written = written_out(answer, body)
        entry.sent = len(body)
        simulator.records.end(entry, "complete", ask.now)
        channel.transport.write(written)
        if action.close:
            channel.transport.loseConnection()

    def handleContentChunk(self, data: bytes) -> None:
        """Body bytes; dropped once the answer has been given."""
        if not self._answered:
            super().handleContentChunk(data)  # type: ignore[no-untyped-call]

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """The body is complete."""
        if self._answered:
            channel: Any = self.channel
            channel.transport.loseConnection()
        else:
            super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]


def raw_headers(request: Request) -> list[tuple[str, str]]:
    """All headers of a request in order, as text."""
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, values in request.requestHeaders.getAllRawHeaders()
        for value in values
    ]


_log = Logger(namespace="simulator")


def written_out(answer: s.Unary, body: bytes) -> bytes:
    """An answer with its head, on a connection that ends with it."""
    phrase = str(RESPONSES.get(answer.code, b"Unknown Status"), "ascii")
    lines = [f"HTTP/1.1 {answer.code} {phrase}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    head = "\r\n".join([*lines, "", ""])
    return head.encode("latin-1") + body


class SimulatorSite(Site):
    """A site over a simulator's tree."""

    noisy = False

    def __init__(self, simulator: "Simulator") -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            simulator.resource(),
            requestFactory=SimulatorRequest,
            parsePOSTFormSubmission=False,
            reactor=simulator.clock,
        )
        self.simulator = simulator
        self.displayTracebacks = False

    def log(self, request: Any) -> None:
        """One line a request, without the query, which may hold a key."""
        _log.info(
            "{method} {path} {code}",
            method=request.method.decode("latin-1"),
            path=request.path.decode("latin-1"),
            code=request.code,
        )
