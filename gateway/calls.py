"""The frozen values that travel between the layers.  Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, final

import attrs
import msgspec

from gateway.tracecontext import Trace

Headers = tuple[tuple[bytes, bytes], ...]
"""Header fields in order; names are lower case."""
Folds = tuple[Sequence[bytes | memoryview], ...]
"""What was kept apart from a text, in pieces; see folding.py."""
Details = tuple[Mapping[str, Any], ...]
"""The ``details`` of a google.rpc.Status: JSON objects that carry an ``@type``."""


@final
class Secret:
    """A string that never shows itself: repr, str, format and pickle do not give it away."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself; call it only where it goes onto a wire or into a 0600 file."""
        return self._value

    def __repr__(self) -> str:
        return "'...'"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "'...'"

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)


@attrs.frozen(auto_exc=True)
class GatewayError(Exception):
    """An error that the gateway itself answers with, as AIP-193 has it: https://google.aip.dev/193.

    ``code`` is the HTTP status, ``status`` the name of a google.rpc.Code, ``reason`` (UPPER_CASE) and ``metadata``
    are its ErrorInfo's, ``message`` says what to do.  ``retry_after_seconds`` becomes Retry-After and RetryInfo.
    """

    code: int
    status: str
    reason: str
    message: str
    details: Details = ()
    headers: Headers = ()
    retry_after_seconds: float | None = None
    metadata: Mapping[str, str] = attrs.field(factory=dict)

    def __str__(self) -> str:
        return f"{self.code} {self.reason}: {self.message}"


class Framing(enum.Enum):
    """How an answer is laid out for the client."""

    UNARY = "unary"
    SSE = "sse"
    ARRAY = "array"


class Call(msgspec.Struct, frozen=True):
    """One request of a client's, understood and validated, not yet given a credential."""

    request_id: str
    verb: str
    """The method after the colon, such as ``generateContent``."""
    model: str
    """The resolved model id, without ``models/``; aliases are already applied."""
    requested_model: str
    """The id as the client wrote it."""
    body: bytes
    """The client's JSON object: checked, never re-encoded.  Of a large one without ``folds``; see folding.py."""
    session: str
    """The session fingerprint; empty where the request belongs to none."""
    framing: Framing = Framing.UNARY
    forwards_done: bool = False
    """Whether an upstream's ``data: [DONE]`` is passed on."""
    api_version: str = "v1beta"
    server_timeout_seconds: float | None = None
    """What the client allows for the whole call (``X-Server-Timeout``)."""
    fixed: str | None = None
    """The label of the one credential that may serve it, where the operator says so."""
    folds: Folds = ()
    members: Mapping[str, msgspec.Raw] | None = None
    """Those of ``body``, where it has been taken apart already: a large one takes a while."""

    streams = property(lambda self: self.framing is not Framing.UNARY)
    """Whether the answer is a stream of events."""

    def __repr__(self) -> str:
        return f"Call({self.request_id!r}, {self.verb!r}, {self.model!r}, body=<{len(self.body)} bytes>)"


@attrs.frozen
class Terms:
    """How much a credential is used, compared with others."""

    weight: float = 1.0
    """Its share among its equals; above zero."""
    priority: int = 0
    """Lower is preferred: a higher number is used when no usable credential of a lower one is left."""
    max_concurrent: int = 0
    """How many requests may use it at a time; 0 for no limit."""


DEFAULT_TERMS = Terms()


@attrs.frozen(cache_hash=True)
class Credential:
    """Who a request goes out as; what authenticates it is held apart, by a token source."""

    name: str
    """The operator's name for it, unique within its upstream."""
    upstream: str
    """The upstream's name in the configuration."""
    kind: str
    """``aistudio``, ``codeassist``, ..."""
    label: str
    """What clients and logs see: opaque, never an e-mail address."""
    project: str = ""
    mark: str = ""
    """A digest of its secret: what is held against one key is not held against the next one of the same name."""
    terms: Terms = attrs.field(default=DEFAULT_TERMS, eq=False)
    """No part of its identity: sessions and standings outlive a change of these."""

    @property
    def owner(self) -> str:
        """Whose quota it uses: Google counts by project, where one is known."""
        return f"project:{self.project}" if self.project else f"credential:{self.upstream}/{self.name}"


class HttpRequest(msgspec.Struct, frozen=True):
    """What goes onto the wire."""

    method: bytes
    url: bytes
    headers: Headers
    """They hold the credential."""
    body: bytes
    folds: Folds = ()
    """What belongs in place of its marks; see folding.py."""

    def __repr__(self) -> str:
        return f"HttpRequest(method={self.method!r}, url={self.url!r}, body=<{len(self.body)} bytes>)"


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one answer, as its usageMetadata counts them; ``taken`` are those that keys' limits and sums count."""

    prompt: int = 0
    candidates: int = 0
    thoughts: int = 0
    cached: int = 0
    taken = property(lambda self: self.prompt + self.candidates + self.thoughts)


class Event(msgspec.Struct, frozen=True):
    """One unwrapped answer or stream event."""

    data: bytes
    """The client's bytes: a JSON object."""
    trace_id: str = ""
    error: bytes = b""
    """The whole ``{"error": ...}`` object where the event reports a failure, else empty."""

    def __repr__(self) -> str:
        return f"Event(data=<{len(self.data)} bytes>, trace_id={self.trace_id!r}, error=<{len(self.error)} bytes>)"


class Action(enum.Enum):
    """What the loop does next."""

    DELIVER = "deliver"
    """A good answer."""
    PASS = "pass"  # noqa: S105
    """Upstream's answer goes to the client as it is."""
    NEXT = "next"
    """Another credential."""
    REFRESH = "refresh"
    """A forced token refresh and the same credential once, then another."""
    BASE = "base"
    """The next base URL of the same upstream with the same credential; without one, another credential."""


class Blame(enum.Enum):
    """Whose standing suffers, and how."""

    NOBODY = "nobody"
    PAIR = "pair"
    """(quota owner, model) cools down."""
    CREDENTIAL = "credential"
    """The credential is quarantined."""
    BASE = "base"
    """(base URL, model) cools down; no credential is blamed."""


class Verdict(msgspec.Struct, frozen=True):
    """What an upstream's answer means for the loop and for the standings."""

    action: Action
    blame: Blame = Blame.NOBODY
    reason: str = ""
    """Google's ErrorInfo reason where there is one, else a name of ours; for logs and ``details``."""
    status: int = 0
    """The HTTP status judged; 0 where there was none."""
    cool_seconds: float = 0.0
    """How long the blamed pair or base cools; already clamped, without jitter."""
    max_tries: int = 0
    """How many attempts in one request may end with this verdict's reason before it is passed on; 0 for no limit."""
    link: str = ""
    """Where the account's owner must go, if Google says so."""
    other_project: bool = False
    """Whether only a credential of another project is worth trying."""
    hides: bool = False
    """Whether upstream's body must not reach the client, because it speaks of the operator's credential."""
    other_base: bool = False
    """Whether only a base URL that was not tried yet is worth trying, of this upstream or another."""
    own: bool = False
    """Whether the blame is the credential's alone, where it would be its whole project's."""
    needs_owner: bool = False
    """Whether only the account's owner can put it right; two such within ten minutes halt the upstream."""
    grows: bool = False
    """Whether ``cool_seconds`` is a guess of ours, which the standing doubles at each repetition."""


class Attempt(msgspec.Struct, frozen=True):
    """One try of one request, for logs and for the error's ``details``."""

    credential: str
    """The opaque label."""
    base: str
    status: int
    """0 where no answer came."""
    reason: str
    """Empty for the attempt that was good."""
    seconds: float
    why: str = ""
    """Why this credential; see routing.rotation."""
    waited: float = 0.0
    """For how many seconds the request had waited for a free credential."""


class Option(msgspec.Struct, frozen=True):
    """What one credential was to a request when one was chosen."""

    label: str
    upstream: str
    state: str
    """A State of its standing, or ``tried``, or ``busy`` where it has as many requests as it may."""
    reason: str
    """Why it is in that state, or why a usable one was passed over."""
    free_seconds: float | None
    """When it may be used again, if time alone decides."""
    chosen: bool


class Decision(msgspec.Struct, frozen=True):
    """One choice, with everybody who might have been chosen."""

    options: tuple[Option, ...]
    why: str
    """Why this one; empty where nobody was chosen."""
    waited: float


@attrs.define(eq=False, repr=False)
class Journal:
    """What happened to one request so far, in monotonic seconds; the edge begins it, routing and relay go on."""

    request_id: str
    method: str = ""
    path: str = ""
    """Without the query, which may hold a key."""
    peer: str = ""
    key_id: str = ""
    """Who is calling; empty where nobody was let in, and of what counts against nobody: ``/healthz`` and OPTIONS."""
    verb: str = ""
    requested_model: str = ""
    model: str = ""
    session: str = ""
    credential: str = ""
    upstream: str = ""
    trace_id: str = ""
    attempts: list[Attempt] = attrs.field(factory=list)
    decisions: list[Decision] = attrs.field(factory=list)
    """Kept only where somebody looks: with the log at debug."""
    started: float = 0.0
    first_byte: float | None = None
    trace: Trace | None = None


class Ended(msgspec.Struct, frozen=True):
    """A request is over."""

    journal: Journal
    status: int
    """What the client was told; 499 where it left before it was told anything."""
    reason: str
    """Why it failed or how it broke off; empty where all went well."""
    origin: str
    """``gateway`` or ``upstream``: who made the answer."""
    seconds: float
    bytes_in: int
    bytes_out: int
    usage: Usage | None = None
    finish_reason: str = ""
    micros: int | msgspec.UnsetType | None = msgspec.UNSET
    """What it cost in micro-dollars, None where nobody knows, where a key's meter has found that out already."""


class Recorder(Protocol):
    """Listens to what happens; nothing in a request's path waits for it."""

    def attempted(self, journal: Journal, attempt: Attempt) -> None:
        """Take note of a judged attempt."""

    def ended(self, event: Ended) -> None:
        """Take note of a request's end."""

    def quarantined(self, credential: Credential, reason: str, link: str) -> None:
        """Take note of a credential that is out until somebody acts."""

    def halted(self, upstream: str) -> None:
        """Take note of an upstream that stands still until an operator says go."""
