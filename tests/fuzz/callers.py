"""Who calls, and from where: Host, Origin and X-Forwarded-For, in three lines.  Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from gateway.config import authority
from gateway.edge.hosts import Hosts
from gateway.edge.origins import Browser, Origins
from gateway.edge.proxies import Proxies

HOSTS = Hosts.build(("gateway.test", "*.inside.test"), ("192.0.2.7",))
ALLOWED = "https://app.test"
ORIGINS = Origins(frozenset({ALLOWED}))
PROXIES = Proxies.build(("192.0.2.0/24", "2001:db8::/32", "unix"))
LOCAL = "198.51.100.1"
SEEDS = (
    b"gateway.test:8045\nhttps://app.test\n203.0.113.9, 192.0.2.1",
    b"[::1]:80\nhttp://[::1]:80\n2001:db8::1, [2001:db8::2]:443, ::ffff:192.0.2.4",
    b"LOCALHOST\nnull\nunknown", b"a.inside.test.\nhttps://app.test:443\n203.0.113.9:1234",
    b"inside.test\nHTTPS://APP.TEST\n,,",
    b"127.1\nfile://\n192.0.2.1%eth0", b"x@gateway.test\nhttps://app.test/\n0x7f.1",
    b"\xc3\xa9\nhttps://app.test.evil\n::",
)  # fmt: skip
DICTIONARY = (
    b"gateway.test", b".inside.test", b"localhost", b"127.0.0.1", b"[::1]", b":80", b":443", b"https://app.test",
    b"http://",
    b"null", b"192.0.2.1", b"2001:db8::1", b"::ffff:", b", ", b"%", b"@", b"/", b"\\", b"\t", b"\x00", b"\xff", b".",
    b"*",
)  # fmt: skip


def one_input(data: bytes) -> None:
    """Raise where a name is admitted that a browser reads otherwise, or an address is believed nobody vouched for."""
    host, _, rest = data.partition(b"\n")
    origin, _, forwarded = rest.partition(b"\n")
    if HOSTS.admits(host, LOCAL):
        name = urlsplit("//" + host.decode("ascii")).hostname
        assert name is not None, host
        plain = _plain_name(name)
        assert plain in {*HOSTS.names, LOCAL} or plain.endswith(".inside.test"), f"{host!r} is {plain!r} to others"
    browser = Browser((origin,))
    if ORIGINS.admits(browser, (host,)):
        named = urlsplit(origin.decode("ascii"))
        # With a configured origin the Host is not looked at here.
        home = urlsplit("//" + host.decode("latin-1")) if authority.host(host.decode("latin-1")) else urlsplit("")
        same = _plain_name(named.hostname or "") == _plain_name(home.hostname or "")
        assert authority.origin(origin.decode("ascii")) == ALLOWED or same, f"{origin!r} at {host!r}"
    for name, value in (*ORIGINS.headers(browser), *ORIGINS.options(browser)):
        assert b"\r" not in value, (name, value)
        assert b"\n" not in value, (name, value)
    _believed(forwarded.split(b"\n"))


def _plain_name(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower().removesuffix(".")


def _believed(forwarded: list[bytes]) -> None:
    stranger = "203.0.113.5"
    assert PROXIES.client(stranger, forwarded) == stranger, "a stranger was believed"
    client = PROXIES.client("192.0.2.1", forwarded)
    assert client == str(ipaddress.ip_address(client)), client
    assert client == PROXIES.client("192.0.2.1", [b", ".join(forwarded)]), "several fields are not one list"
    entries = b",".join(forwarded).decode("latin-1")
    # Who asks can only put words before the one that the proxy adds.
    assert PROXIES.client("192.0.2.1", [entries.encode("latin-1"), stranger.encode()]) == stranger, entries
