"""Stand-ins for what the stateful core talks to, all in memory: upstream, tokens, the recorder, and a client."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from gateway.accounts.standing import Standings
from gateway.accounts.tokens import TokenSource
from gateway.calls import Attempt, Call, Credential, Ended, Framing, HttpRequest, Journal, Secret
from gateway.composition import Composition
from gateway.config import (
    Config,
    CredentialConfig,
    DoneMarker,
    Limits,
    ProxyConfig,
    RoutingConfig,
    Timeouts,
    UpstreamConfig,
)
from gateway.edge import api
from gateway.edge.gate import Gate
from gateway.edge.hosts import Hosts
from gateway.edge.keys import KeyRing
from gateway.edge.origins import Origins
from gateway.edge.proxies import Proxies
from gateway.edge.site import GatewaySite
from gateway.keys.meters import Meters
from gateway.routing.attempts import Router
from gateway.routing.catalog import Aliases, Catalog
from gateway.routing.models import TABLE
from gateway.routing.pool import Member
from gateway.routing.rotation import Sessions
from gateway.upstreams import kinds
from gateway.upstreams.exchange import Receiver, WireError

SSE = {b"content-type": b"text/event-stream"}
JSON = {b"content-type": b"application/json; charset=UTF-8"}
ANSWER = b'{"candidates":[{"content":{"role":"model","parts":[{"text":"hello"}]},"finishReason":"STOP"}]}'
BODY = b'{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}'


def event(text: str, **more: object) -> bytes:
    """A stream event's payload, as upstream writes it."""
    parts = {"candidates": [{"content": {"parts": [{"text": text}]}}], **more}
    return json.dumps(parts).encode()


def sse(*payloads: bytes) -> bytes:
    """Payloads as an event stream."""
    return b"".join(b"data: " + payload + b"\n\n" for payload in payloads)


def rpc_error(code: int, status: str, message: str = "no", *details: Mapping[str, Any]) -> bytes:
    """An error body of Google's."""
    error = {"code": code, "message": message, "status": status, "details": list(details)}
    return json.dumps({"error": error}).encode()


def reason(name: str, **metadata: str) -> dict[str, Any]:
    """An ErrorInfo."""
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": name,
        "domain": "googleapis.com",
        "metadata": metadata,
    }


def retry_info(delay: str) -> dict[str, Any]:
    """A RetryInfo."""
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


class FakeExchange:
    """An answer whose body the test sends, piece by piece; see exchange.Exchange."""

    def __init__(
        self, status: int = 200, headers: Mapping[bytes, bytes] = JSON, body: bytes | None = None
    ) -> None:
        self.status = status
        self.headers = headers
        self.paused = False
        self.aborted = False
        self.reads: list[tuple[int, float]] = []
        self.allowed = 0.0
        """Within how many seconds the body was to be whole, at the last read."""
        self._body = body
        self._ended = body is not None
        self._error: WireError | None = None
        self._receiver: Receiver | None = None
        self._read: Deferred[bytes] | None = None
        self._waiting: list[bytes] = [] if body is None else [body]

    async def read(self, limit: int, idle_seconds: float, seconds: float = math.inf) -> bytes:
        self.reads.append((limit, idle_seconds))
        self.allowed = seconds
        if self._error is not None:
            raise self._error
        if self._body is None:
            self._read = Deferred(lambda _: self.abort())
            return await self._read
        if len(self._body) > limit:
            self.abort()
            raise WireError("too-large")
        return self._body

    def deliver(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._flow()

    def forget_head(self) -> None:
        self.headers = {}

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        self._flow()

    def abort(self) -> None:
        self.aborted = True

    def send(self, data: bytes) -> None:
        """Send the next bytes; they wait while the exchange is paused, as in a socket."""
        self._waiting.append(data)
        self._flow()

    def end(self, error: WireError | None = None) -> None:
        """End the body."""
        self._ended, self._error = True, error
        self._flow()

    def last(self, data: bytes) -> None:
        """Send the last bytes and the end of the body with them, as one read may bring them."""
        assert self._receiver is not None
        self._receiver.ending()
        self.send(data)
        self.end()

    def answer(self, body: bytes | WireError) -> None:
        """Complete a read that is waiting."""
        assert self._read is not None
        waiting, self._read = self._read, None
        if isinstance(body, WireError):
            waiting.errback(body)
        else:
            waiting.callback(body)

    def _flow(self) -> None:
        while self._receiver is not None and not self.paused and not self.aborted:
            if self._waiting:
                self._receiver.data(self._waiting.pop(0))
            elif self._ended:
                receiver, self._receiver = self._receiver, None
                receiver.ended(self._error)
            else:
                return


def ok(body: bytes = ANSWER) -> FakeExchange:
    """A good unary answer."""
    return FakeExchange(200, JSON, body)


def refused(
    code: int, status: str = "", *details: Mapping[str, Any], message: str = "no", **headers: str
) -> FakeExchange:
    """An upstream error."""
    fields = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return FakeExchange(code, {**JSON, **fields}, rpc_error(code, status or "UNKNOWN", message, *details))


def stream(*payloads: bytes) -> FakeExchange:
    """A whole stream of events."""
    return FakeExchange(200, SSE, sse(*payloads))


Scripted = FakeExchange | Exception | Deferred[Any]


class FakeWire:
    """Answers requests from a script, in order, or by a function; see exchange.Wire."""

    def __init__(self, *script: Scripted, by: Callable[[HttpRequest], Scripted] | None = None) -> None:
        self.script = list(script)
        self.by = by
        self.requests: list[HttpRequest] = []
        self.limits: list[float] = []
        self.cancelled = 0

    async def open(self, request: HttpRequest, first_byte_seconds: float, upstream: str = "") -> FakeExchange:
        self.requests.append(request)
        self.limits.append(first_byte_seconds)
        step: Any = self.by(request) if self.by is not None else self.script.pop(0)
        if isinstance(step, Deferred):
            step = await step
        if isinstance(step, Exception):
            raise step
        return step

    def hold(self) -> Deferred[Any]:
        """Return a step for the script that answers when the test fires it, and counts its cancelling."""

        def cancelled(_: object) -> None:
            self.cancelled += 1

        return Deferred(cancelled)

    @property
    def keys(self) -> list[str]:
        """The credential of every request: its API key or its bearer token."""
        found = []
        for request in self.requests:
            headers = dict(request.headers)
            found.append(
                headers.get(b"x-goog-api-key", headers.get(b"authorization", b"")).decode().removeprefix("Bearer ")
            )
        return found

    @property
    def hosts(self) -> list[str]:
        """The host of every request."""
        return [request.url.split(b"/")[2].decode() for request in self.requests]


class FakeTokens:
    """A token source under the test's hand: strings are tokens, exceptions are raised, Deferreds are waited on."""

    def __init__(self, *tokens: str | Exception | Deferred[Any], renewable: bool = True) -> None:
        self.renewable = renewable
        self.ready = not (tokens and isinstance(tokens[0], Deferred))
        self.quota_project = ""
        self.prefetched = 0
        self.tokens = list(tokens)
        self.renewals: list[str] = []

    def prefetch(self) -> None:
        self.prefetched += 1

    def stop(self) -> Deferred[None]:
        return succeed(None)

    def at_hand(self) -> Secret | None:
        return Secret(self.tokens[0]) if isinstance(self.tokens[0], str) else None

    async def get(self) -> Secret:
        return await self._give(self.tokens[0])

    async def renew(self, stale: Secret) -> Secret:
        self.renewals.append(stale.reveal())
        self.tokens.pop(0)
        return await self._give(self.tokens[0])

    async def _give(self, token: str | Exception | Deferred[Any]) -> Secret:
        given: Any = await token if isinstance(token, Deferred) else token
        if isinstance(given, Exception):
            raise given
        return Secret(given)


class FakeRecorder:
    """Keeps what it is told; see calls.Recorder."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.ends: list[Ended] = []
        self.out: list[tuple[str, str, str]] = []
        self.halts: list[str] = []

    def attempted(self, journal: Journal, attempt: Attempt) -> None:
        self.attempts.append(attempt)

    def ended(self, event: Ended) -> None:
        self.ends.append(event)

    def quarantined(self, credential: Credential, reason: str, link: str) -> None:
        self.out.append((credential.name, reason, link))

    def halted(self, upstream: str) -> None:
        self.halts.append(upstream)


def member(
    name: str,
    tokens: TokenSource | None = None,
    *,
    kind: str = "aistudio",
    upstream: str = "studio",
    project: str = "",
    bases: Sequence[str] = ("https://one.example",),
    models: tuple[str, ...] = (),
) -> Member:
    """A member of the pool; its API key is its name unless ``tokens`` say otherwise."""
    config = UpstreamConfig(upstream, kind, tuple(bases), models)
    credential = Credential(name, upstream, kind, f"{upstream}/{name}", project)
    source = tokens or FakeTokens(name, renewable=False)
    return Member(credential, kinds.build(config), source, tuple(bases), models)


def call(**changes: Any) -> Call:
    """A unary call, with changes."""
    base = Call("request-1", "generateContent", "gemini-2.5-flash", "gemini-2.5-flash", BODY, "")
    changed: Call = msgspec.structs.replace(base, **changes)
    return changed


def stream_call(**changes: Any) -> Call:
    """A streaming call, with changes."""
    return call(**{"verb": "streamGenerateContent", "framing": Framing.SSE, **changes})


def router(wire: FakeWire, clock: Clock, *members: Member, **changes: Any) -> Router:
    """A router without jitter over these members."""
    parts: dict[str, Any] = {
        "wire": wire,
        "clock": clock,
        "wall_seconds": lambda: 1_767_225_600.0 + clock.seconds(),
        "chance": lambda: 0.0,
        "standings": Standings(),
        "sessions": Sessions(),
        "recorder": FakeRecorder(),
        "routing": RoutingConfig(),
        "timeouts": Timeouts(),
        "limits": Limits(),
        "catalog": Catalog(TABLE, {}, aliases=Aliases.build(())),
        "members": members,
        **changes,
    }
    return Router(**parts)


KEY_CANARY = "client-key-canary"
UPSTREAM_CANARY = "upstream-key-canary"


LABEL = "studio/opaque"


def config(**changes: Any) -> Config:
    """A configuration of one AI Studio upstream with two keys, no client key asked for."""
    upstream = UpstreamConfig(
        "studio",
        "aistudio",
        ("https://one.example",),
        credentials=(
            CredentialConfig("first", Secret(UPSTREAM_CANARY)),
            CredentialConfig("second", Secret(UPSTREAM_CANARY + "-2")),
        ),
    )
    base: dict[str, Any] = {"proxy": ProxyConfig(), "upstreams": (upstream,), "source": "test", **changes}
    return Config(**base)


@attrs.frozen
class Answer:
    """One HTTP answer as a client reads it."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool
    """Whether its end was seen: all of Content-Length, or the last chunk."""

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def parse(data: bytes, *, bodyless: bool = False) -> tuple[Answer, bytes]:
    """Read one answer off the front of ``data`` and return it with what is left."""
    head, separator, rest = data.partition(b"\r\n\r\n")
    assert separator, f"no whole head: {data!r}"
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    status = int(first.split(" ")[1])
    if status < 200 or bodyless:
        return Answer(status, headers, b"", True), rest
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while True:
            size, separator, after = rest.partition(b"\r\n")
            if not separator:
                return Answer(status, headers, body, False), rest
            length = int(size, 16)
            if not length:
                assert after.startswith(b"\r\n")
                return Answer(status, headers, body, True), after[2:]
            assert len(after) >= length + 2, "a chunk was cut"
            body += after[:length]
            rest = after[length + 2 :]
    if "content-length" in headers:
        length = int(headers["content-length"])
        return Answer(status, headers, rest[:length], len(rest) >= length), rest[length:]
    return Answer(status, headers, rest, False), b""


class Transport(StringTransport):
    """As forgiving as a socket: nobody has to know whether a producer is still registered."""

    def __init__(self) -> None:
        super().__init__(lenient=True)
        self.writes: list[bytes] = []

    half_closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        super().write(data)

    def unregisterProducer(self) -> None:
        self.producer = None

    def loseWriteConnection(self) -> None:
        self.half_closed = True


class Client:
    """A client's connection to a site."""

    def __init__(self, site: Any) -> None:
        self.transport = Transport()
        self.protocol: Any = site.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        self.gone = False

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.protocol.dataReceived(data)

    def ask(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *headers: tuple[str, str],
        version: str = "HTTP/1.1",
        length: int | None = None,
        host: str | None = "localhost",
    ) -> None:
        """Send a request; ``length`` may promise more than there is."""
        named = [] if host is None else [f"Host: {host}"]
        lines = [f"{method} {target} {version}", *named, *(f"{k}: {v}" for k, v in headers)]
        if body or length is not None:
            lines.append(f"Content-Length: {len(body) if length is None else length}")
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    def post(self, target: str, body: bytes = BODY, *headers: tuple[str, str], version: str = "HTTP/1.1") -> None:
        """Send a POST."""
        self.ask("POST", target, body, *headers, version=version)

    @property
    def received(self) -> bytes:
        """All bytes that came."""
        return self.transport.value()

    def answer(self, *, bodyless: bool = False) -> Answer:
        """The one answer that came."""
        answer, rest = parse(self.received, bodyless=bodyless)
        assert not rest, f"more than one answer: {rest!r}"
        return answer

    def answers(self) -> list[Answer]:
        """All answers that came."""
        out, rest = [], self.received
        while rest:
            answer, rest = parse(rest)
            out.append(answer)
        return out

    @property
    def dropped(self) -> bool:
        """Whether the gateway has closed the connection."""
        return self.transport.disconnecting

    @property
    def reset(self) -> bool:
        """Whether the gateway has aborted the connection."""
        return self.transport.disconnected

    def leave(self) -> None:
        """Close the connection, or see the gateway's close through."""
        if not self.gone:
            self.gone = True
            self.protocol.connectionLost(Failure(ConnectionDone()))


@attrs.define(eq=False)
class Edge:
    """The clients' side and the router, put together by hand, between a client and a scripted upstream."""

    clock: Clock
    wire: FakeWire
    recorder: FakeRecorder
    router: Router
    site: GatewaySite

    @classmethod
    def build(
        cls,
        *script: Scripted,
        members: Sequence[Member] | None = None,
        keys: Sequence[str] = (),
        open_health: bool = True,
        limits: Limits | None = None,
        done_marker: DoneMarker = DoneMarker.AUTO,
        hosts: Sequence[str] = (),
        origins: Sequence[str] = (),
        trusted_proxies: Sequence[str] = (),
        timeouts: Timeouts | None = None,
        answers_half_closed: bool = False,
        **changes: Any,
    ) -> Edge:
        """Put a gateway together; with ``keys`` it asks clients for one, ``changes`` are the router's."""
        clock, wire, recorder = Clock(), FakeWire(*script), FakeRecorder()
        limits = limits or Limits()
        given = (member(UPSTREAM_CANARY), member(UPSTREAM_CANARY + "-2")) if members is None else members
        named = [attrs.evolve(one, credential=attrs.evolve(one.credential, label=LABEL)) for one in given]
        timeouts = timeouts or Timeouts()
        routing = router(wire, clock, *named, recorder=recorder, limits=limits, timeouts=timeouts, **changes)
        ring = KeyRing(tuple(hashlib.sha256(key.encode()).digest() for key in keys))
        gate = Gate(
            ring,
            bool(keys),
            open_health,
            limits.body,
            limits.target,
            hosts=Hosts.build(hosts),
            origins=Origins(frozenset(origins)),
            proxies=Proxies.build(trusted_proxies),
        )
        ids = (f"id-{number}" for number in itertools.count(1))
        meters = Meters(limits, lambda: routing.wall_seconds())
        resource = api.build(routing, clock, done_marker, lambda key_id: {})
        return cls(
            clock,
            wire,
            recorder,
            routing,
            GatewaySite(
                resource,
                clock,
                gate,
                limits,
                recorder,
                lambda: next(ids),
                routing.timeouts,
                answers_half_closed,
                meters,
            ),
        )

    def connect(self) -> Client:
        """Return a new client's connection."""
        return Client(self.site)

    @property
    def ended(self) -> Ended:
        """The one request's end."""
        (end,) = self.recorder.ends
        return end

    @property
    def leases(self) -> int:
        """Requests that hold a credential."""
        return sum(self.router.standings.in_flight().values())


@attrs.define(eq=False)
class World:
    """A whole gateway in memory, between a client and a scripted upstream."""

    clock: Clock
    wire: FakeWire
    recorder: FakeRecorder
    composition: Composition

    @classmethod
    def build(cls, *script: Scripted, **changes: Any) -> World:
        """Compose a gateway; the arguments are the upstream's script and changes to the configuration."""
        clock, wire, recorder = Clock(), FakeWire(*script), FakeRecorder()
        composition = Composition(config(**changes), clock, wire, recorder)
        composition.router.chance = lambda: 0.0
        return cls(clock, wire, recorder, composition)

    def connect(self) -> Client:
        """Return a new client's connection."""
        return Client(self.composition.site)

    @property
    def leases(self) -> int:
        """Requests that hold a credential."""
        return sum(self.composition.router.standings.in_flight().values())


def run(coroutine: Any) -> Deferred[Any]:
    """Start a coroutine."""
    return Deferred.fromCoroutine(coroutine)
