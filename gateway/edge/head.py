"""Read a request's head strictly: RFC 9112, and refuse what servers are known to read in two ways.  Pure.

Whatever stands in front of the gateway may read a doubtful head otherwise than the gateway does, and then the two
disagree on where a request ends.  So nothing is repaired here: not a bare line feed, not a folded line, not a
second ``Content-Length`` that says the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from gateway.calls import GatewayError

FIELDS_MOST = 100
"""How many header fields a head may have."""

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
FIELD = TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+"
_HEAD = re.compile(rb"(" + TOKEN + rb") ([\x21-\x7e]++) HTTP/1\.([01])\r\n((?:" + FIELD + rb"\r\n)*+)\r\n")
# RFC 3986 section 3.2.2, without user information, percent-encoding and future kinds of addresses.
_AUTHORITY = rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=]+)(?::[0-9]{1,5})?"
_HOST = re.compile(_AUTHORITY)
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://" + _AUTHORITY + rb"(?:/.*)?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
# Well-formed, but nobody decodes them here: RFC 9112 section 6.1 has 501 for that.
_OTHER_CODINGS = re.compile(rb"(?:(?:x-)?(?:gzip|compress|deflate)[ \t]*,[ \t]*)+chunked")

_SINGLE = (b"host", b"content-length", b"transfer-encoding", b"content-type")
_ALIASED = frozenset(
    {*_SINGLE, b"connection", b"expect", b"content-encoding", b"keep-alive", b"te", b"trailer", b"upgrade"}
)
"""Names that may not come with an underscore for the hyphen: gateways behind CGI take the one for the other."""

_STATUS: Mapping[int, str] = {501: "UNIMPLEMENTED", 505: "UNIMPLEMENTED"}
_UNDERSCORE = ord("_")
_NOTHING: Sequence[bytes] = ()


class RequestHead(msgspec.Struct, frozen=True):
    """A head that can be read in one way only."""

    method: bytes
    target: bytes
    """In origin form, or in absolute form with http or https."""
    version: bytes
    """``HTTP/1.1`` or ``HTTP/1.0``."""
    named: Mapping[bytes, Sequence[bytes]]
    """The fields' values by lower-case name, in their order and without white space around them."""
    length: int | None
    """Of the body; None where it comes in chunks."""
    persistent: bool
    """Whether the client would send another request on the same connection."""
    expects: bool
    """Whether the client waits for ``100 Continue`` before it sends the body."""

    def __repr__(self) -> str:
        """Without the target and the fields, which may hold a key."""
        return f"RequestHead({self.method!r}, {self.version!r}, {len(self.named)} fields)"


def refusal(code: int, reason: str, message: str) -> GatewayError:
    """Return the error of a message that is refused for its form."""
    return GatewayError(code, _STATUS.get(code, "INVALID_ARGUMENT"), reason, message)


def read(raw: bytes) -> RequestHead:
    """Return what a whole head says, from its request line to the empty line; raises GatewayError."""
    match = _HEAD.fullmatch(raw)
    if match is None:
        raise diagnose(raw)
    method, target, minor, lines = match.groups()
    if target[:1] != b"/" and not _ABSOLUTE.fullmatch(target):
        raise _bad_target(method)
    named: dict[bytes, list[bytes]] = {}
    if lines:
        fields = lines[:-2].split(b"\r\n")
        if len(fields) > FIELDS_MOST:
            raise refusal(
                431, "HEAD_TOO_LARGE", f"The request's head has more than {FIELDS_MOST} header fields; send fewer."
            )
        for field in fields:
            name, _, value = field.partition(b":")
            name = name.lower()
            if name in named:
                named[name].append(value.strip(b" \t"))
            else:
                named[name] = [value.strip(b" \t")]
        # Values have them more often: the gateway's own keys begin with agw_.
        if _UNDERSCORE in lines and _UNDERSCORE in b" ".join(named):
            _refuse_aliases(named)
        if len(named) < len(fields):
            for name in _SINGLE:
                if name in named and len(named[name]) > 1:
                    raise _twice(name)
    version = b"HTTP/1.1" if minor == b"1" else b"HTTP/1.0"
    _judge_host(named.get(b"host"), version)
    length = _length(named, version)
    expects = b"expect" in named and _expects(named[b"expect"])
    options = _options(named[b"connection"]) if b"connection" in named else _NOTHING
    return RequestHead(
        method,
        target,
        version,
        named,
        length,
        b"close" not in options and (version == b"HTTP/1.1" or b"keep-alive" in options),
        expects and version == b"HTTP/1.1" and length != 0,
    )


def _bad_target(method: bytes) -> GatewayError:
    if method == b"CONNECT":
        return refusal(501, "METHOD_UNKNOWN", "This gateway is no tunnel: CONNECT is not served; use GET or POST.")
    return refusal(
        400,
        "TARGET_INVALID",
        "The request target must be a path that begins with a slash, or an http or https URL without user"
        " information.",
    )


def _twice(name: bytes) -> GatewayError:
    return refusal(
        400, "HEADER_TWICE", f"The header field {name.decode('ascii')} came more than once; send it once."
    )


def _refuse_aliases(names: Iterable[bytes]) -> None:
    for name in names:
        if b"_" in name and name.replace(b"_", b"-") in _ALIASED:
            raise refusal(
                400,
                "HEADER_ALIAS",
                f"The header field {name.decode('ascii')} could be taken for another; write its name with hyphens, or"
                " leave it out.",
            )


def _judge_host(hosts: Sequence[bytes] | None, version: bytes) -> None:
    """RFC 9112 section 3.2: one Host, well-formed; HTTP/1.0 does without."""
    if hosts is None:
        if version == b"HTTP/1.1":
            raise refusal(400, "HOST_MISSING", "A request of HTTP/1.1 needs a Host header field; send one.")
    elif not _HOST.fullmatch(hosts[0]):
        raise refusal(400, "HOST_INVALID", "Host must be a name or an address, with or without a port; it is not.")


def _length(named: Mapping[bytes, Sequence[bytes]], version: bytes) -> int | None:
    """RFC 9112 section 6.3, without its leniencies: one sign of the length, and only one, in its plainest form."""
    codings = named.get(b"transfer-encoding")
    lengths = named.get(b"content-length")
    if codings is None:
        if lengths is None:
            return 0
        if not _LENGTH.fullmatch(lengths[0]):
            raise refusal(400, "CONTENT_LENGTH_INVALID", "Content-Length must be one decimal number of bytes.")
        return int(lengths[0])
    if lengths is not None:
        raise refusal(
            400, "FRAMING_AMBIGUOUS", "Content-Length and Transfer-Encoding may not come together; send one of them."
        )
    if version == b"HTTP/1.0":
        raise refusal(400, "FRAMING_AMBIGUOUS", "HTTP/1.0 has no Transfer-Encoding; send Content-Length.")
    coding = codings[0].lower()
    if coding != b"chunked":
        known = _OTHER_CODINGS.fullmatch(coding) is not None
        raise refusal(
            501 if known else 400, "TRANSFER_ENCODING_UNKNOWN", "The only Transfer-Encoding taken here is chunked."
        )
    return None


def _expects(values: Sequence[bytes]) -> bool:
    """RFC 9110 section 10.1.1."""
    if len(values) > 1 or values[0].lower() != b"100-continue":
        raise refusal(417, "EXPECTATION_UNKNOWN", "The only expectation that can be met here is 100-continue.")
    return True


def _options(values: Sequence[bytes]) -> Sequence[bytes]:
    """Return the options of Connection: RFC 9110 section 7.6.1."""
    return [option.strip(b" \t") for value in values for option in value.lower().split(b",")]


_CONTROL = rb"[\x00-\x08\x0a-\x1f\x7f]"
_BARE = "a line ends in CR LF, and neither of the two stands alone, nor does any other control byte occur"
_REQUEST_LINE: Sequence[tuple[re.Pattern[bytes], int, str, str]] = (
    (
        re.compile(rb".*" + _CONTROL + rb".*", re.S),
        400,
        "HTTP_MALFORMED",
        "The request line is malformed: " + _BARE + ".",
    ),
    (
        re.compile(TOKEN + rb" [^ ]++ HTTP/(?!1\.[01])[0-9]\.[0-9]"),
        505,
        "HTTP_VERSION_UNSUPPORTED",
        "This gateway speaks HTTP/1.1 and HTTP/1.0.",
    ),
    (
        re.compile(TOKEN + rb" [^ ]++ HTTP/1\.[01]"),
        400,
        "TARGET_INVALID",
        "The request target may hold printable ASCII characters only; write others percent-encoded.",
    ),
    (
        re.compile(rb".*", re.S),
        400,
        "HTTP_MALFORMED",
        "The request line must be a method, a target and HTTP/1.1, each but the last followed by one space.",
    ),
)
_FIELD_LINE: Sequence[tuple[re.Pattern[bytes], str]] = (
    (re.compile(rb"[ \t].*", re.S), "a line may not begin with white space: a field is not folded over several lines"),
    (re.compile(rb".*" + _CONTROL + rb".*", re.S), _BARE),
    (re.compile(rb"[^:]*+", re.S), "a line has no colon"),
    (re.compile(rb"[^:]*[ \t]:.*", re.S), "no white space may stand before a field's colon"),
    (re.compile(rb".*", re.S), "the name of a field has a character that no name has, or is empty"),
)
"""What may be wrong with a line of a head, the first that matches counting."""
_WELL_FORMED = re.compile(FIELD)


def diagnose(raw: bytes) -> GatewayError:
    """Say what is wrong with a head that does not have the form of one.  Slow, and only for those."""
    first, _, rest = raw.partition(b"\r\n")
    if not _HEAD.match(first + b"\r\n\r\n"):
        for pattern, code, reason, message in _REQUEST_LINE:
            if pattern.fullmatch(first):
                return refusal(code, reason, message)
    return malformed_field(rest.removesuffix(b"\r\n\r\n").removesuffix(b"\r\n").split(b"\r\n"))


def malformed_field(lines: Sequence[bytes]) -> GatewayError:
    """Return the error of the first of these lines that is no header field."""
    bad = next((line for line in lines if not _WELL_FORMED.fullmatch(line)), b"")
    problem = next(problem for pattern, problem in _FIELD_LINE if pattern.fullmatch(bad))
    return refusal(400, "HTTP_MALFORMED", f"The request's head is malformed: {problem}.")


_HOPELESS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?=[^\n])")


def hopeless(part: bytes, start: int) -> bool:
    """Say whether the beginning of a head can be refused already, for what it has from ``start`` on.

    It spares those who end their lines in a bare line feed, or speak TLS to a plain listener, the wait for an empty
    line that never comes.
    """
    return part[:2] == b"\r\n" or _HOPELESS.search(part, max(0, start - 1)) is not None
