"""Read a Twisted endpoint description just far enough to know who can reach it.  Opens nothing."""

from __future__ import annotations

import ipaddress

import attrs

_PARAMETERS = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "interface", "backlog"),
    "ssl": (
        "port",
        "interface",
        "backlog",
        "privateKey",
        "certKey",
        "extraCertChain",
        "dhParameters",
    ),
    "unix": ("address", "mode", "backlog", "lockfile"),
    "systemd": ("domain", "index", "name"),
}
"""What each kind of endpoint takes; the first parameter may stand without its name."""

_SYSTEMD_DOMAINS = ("INET", "INET6", "UNIX")


class BadListener(ValueError):
    """The description is none that the gateway can listen on."""


@attrs.frozen
class Listener:
    """What a description says about who can reach the listener."""

    kind: str
    loopback: bool
    """Whether only this machine reaches it."""
    interface: str = ""
    """The address or name that it is bound to; empty where it is none in particular."""

    @property
    def clear(self) -> bool:
        """Whether what it receives crosses a network unencrypted."""
        return self.kind in ("tcp", "tcp6") and not self.loopback


def parse(description: str) -> Listener:
    """Return what ``description`` (such as ``tcp:8045:interface=127.0.0.1``) opens.

    Raises BadListener.  See https://docs.twisted.org/en/stable/core/howto/endpoints.html.
    """
    kind, parameters = _split(description)
    known = _PARAMETERS[kind]
    for name in parameters:
        if name not in known:
            raise BadListener(f"{kind}: takes no parameter {name!r}, only " + ", ".join(known))
    if not parameters.get(known[0]):
        raise BadListener(f"{kind}: has no {known[0]}")
    if known[0] == "port" and not _is_port(parameters["port"]):
        raise BadListener(f"{kind}: has a port that is no number from 0 to 65535")
    if kind == "systemd":
        if parameters["domain"] not in _SYSTEMD_DOMAINS:
            raise BadListener("systemd: has a domain that is not one of " + ", ".join(_SYSTEMD_DOMAINS))
        if ("index" in parameters) == ("name" in parameters):
            raise BadListener("systemd: needs either a name or an index")
    interface = parameters.get("interface", "")
    return Listener(kind, kind == "unix" or _is_loopback(interface), interface)


def parameters(description: str) -> dict[str, str]:
    """Return a description's parameters by their names; raises BadListener."""
    return _split(description)[1]


def is_loopback(description: str) -> bool:
    """Say whether only this machine reaches the listener; a description that cannot be read counts as open."""
    try:
        return parse(description).loopback
    except BadListener:
        return False


def url(description: str) -> str:
    """Return where somebody on this machine finds a web page that is served there; empty where nobody can tell."""
    found, known = parse(description), parameters(description)
    if found.kind not in ("tcp", "tcp6", "ssl") or known["port"] == "0":
        return ""
    name = "localhost" if found.interface in ("", "0.0.0.0", "::") else found.interface  # noqa: S104
    return f"{'https' if found.kind == 'ssl' else 'http'}://{f'[{name}]' if ':' in name else name}:{known['port']}"


def _split(description: str) -> tuple[str, dict[str, str]]:
    # The parser that will open the endpoint also decides here: two readings of one description must not differ
    # where one of them says who is let in.
    from twisted.internet.endpoints import _parse

    try:
        positional, named = _parse(description)
    except (ValueError, StopIteration, RuntimeError):
        raise BadListener("this is no endpoint description") from None
    kind = positional[0] if positional else ""
    if kind not in _PARAMETERS:
        raise BadListener("a listener begins with one of " + ", ".join(f"{name}:" for name in _PARAMETERS))
    if len(positional) > 2:
        raise BadListener("only the first parameter may stand without its name")
    if len(positional) == 2:
        named = {_PARAMETERS[kind][0]: positional[1], **named}
    return kind, named


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= 65535


def _is_loopback(interface: str) -> bool:
    if interface == "localhost":
        return True
    try:
        return ipaddress.ip_address(interface).is_loopback
    except ValueError:
        return False
