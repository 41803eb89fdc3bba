"""Upstreams with certificates and versions of TLS that must not be trusted.  Opens sockets."""

from __future__ import annotations

from OpenSSL import SSL

from tests.certificates import Serving, authority_file, made
from tests.processes import Answer, aistudio, prompt
from tests.proxies import SmallProxy
from tests.upstreams import ANSWER, Upstream, UpstreamCase

HOST = "localhost"


class Authorities(UpstreamCase):
    """An authority that OpenSSL is told to trust, and certificates of which few are good."""

    def setUp(self) -> None:
        super().setUp()
        trusted, stranger = (made(name, authority=True) for name in ("Trusted", "Stranger"))
        self.trusted = str(authority_file(self.home / "trusted.pem", trusted))
        good = made(HOST, trusted, names=(HOST,))
        self.refused = {
            "signed-by-a-stranger": Serving(made(HOST, stranger, names=(HOST,))),
            "signed-by-itself": Serving(made(HOST, names=(HOST,))),
            "of-another-host": Serving(made("other.example", trusted, names=("other.example",))),
            "without-a-name": Serving(made(HOST, trusted)),
            "expired": Serving(made(HOST, trusted, names=(HOST,), days=(-9, -1))),
            "not-yet-valid": Serving(made(HOST, trusted, names=(HOST,), days=(1, 9))),
            "tls-1.0": Serving(good, SSL.TLS1_VERSION),
            "tls-1.1": Serving(good, SSL.TLS1_1_VERSION),
        }
        self.accepted = {"good": Serving(good), "tls-1.2": Serving(good, SSL.TLS1_2_VERSION)}


class CertificateTests(Authorities):
    """One daemon, and an upstream of each kind."""

    async def test_nothing_is_sent_to_whom_it_cannot_trust(self) -> None:
        """Stranger, self-signed, wrong host, expired, old: 502, one attempt, and upstream saw no byte of HTTP (C3)."""
        upstreams = {name: self.upstream(tls=tls) for name, tls in {**self.refused, **self.accepted}.items()}
        daemon = await self.gateway(
            {
                name: {**aistudio(one.url.replace("127.0.0.1", HOST), keys=("one", "two")), "models": [f"only-{name}"]}
                for name, one in upstreams.items()
            },
            environ={"SSL_CERT_FILE": self.trusted},
        )
        for name, one in upstreams.items():
            answer = await daemon.ask(f"/v1beta/models/only-{name}:generateContent", prompt())
            if name in self.accepted:
                self.assertEqual((answer.status, answer.body), (200, ANSWER), name)
                self.assertGreater(sum(asked.received for asked in one.connections), 0, name)
                continue
            self.assertEqual((answer.status, answer.reasons[0]), (502, "UPSTREAM_TLS"), name)
            tried = next(entry for entry in answer.error["details"] if entry.get("reason") == "ATTEMPTS")
            self.assertEqual(len(tried["metadata"]), 1, name)
            self.assertGreater(len(one.connections), 0, name)
            self.assertEqual(sum(asked.received for asked in one.connections), 0, name)

    async def test_without_the_authority_even_the_good_one_is_refused(self) -> None:
        """What makes the good one good is the authority, and not that it is on this machine (C3)."""
        upstream = self.upstream(tls=self.accepted["good"])
        daemon = await self.gateway({"studio": aistudio(upstream.url.replace("127.0.0.1", HOST))})
        answer = await daemon.ask("/v1beta/models/gemini-2.5-flash:generateContent", prompt())
        self.assertEqual((answer.status, answer.reasons[0]), (502, "UPSTREAM_TLS"))
        self.assertEqual(sum(asked.received for asked in upstream.connections), 0)


class ProxiedTests(Authorities):
    """The gateway's own agent through a proxy: what is trusted is the upstream's certificate, not the proxy's word."""

    agent = "gateway"

    async def through(self, scheme: str, upstream: Upstream) -> tuple[Answer, SmallProxy]:
        small = SmallProxy(scheme, localhost="127.0.0.1")
        around = {"proxy": f"{scheme}://127.0.0.1:{small.listen(self)}"}
        daemon = await self.gateway(
            {"studio": aistudio(upstream.url.replace("127.0.0.1", HOST), keys=("a-canary",)) | around},
            environ={"SSL_CERT_FILE": self.trusted},
        )
        answer = await daemon.ask("/v1beta/models/gemini-2.5-flash:generateContent", prompt())
        self.assertEqual({host for host, _ in small.asked}, {HOST})
        return answer, small

    async def test_a_proxy_sees_nothing_of_what_it_carries(self) -> None:
        """TLS is spoken with the upstream, through the tunnel: the proxy sees neither key nor route nor answer."""
        for scheme in ("http", "socks5"):
            answer, small = await self.through(scheme, self.upstream(tls=self.accepted["good"]))
            self.assertEqual((answer.status, answer.body), (200, ANSWER), scheme)
            for seen in (b"a-canary", b"generateContent", b"HTTP/1.1", ANSWER):
                self.assertNotIn(seen, small.upward + small.downward, scheme)
            self.assertGreater(len(small.downward), len(ANSWER))

    async def test_a_stranger_behind_a_proxy_is_refused(self) -> None:
        """A proxy that leads somewhere else gets no request (C3)."""
        for scheme in ("http", "socks5"):
            upstream = self.upstream(tls=self.refused["signed-by-a-stranger"])
            answer, _ = await self.through(scheme, upstream)
            self.assertEqual((answer.status, answer.reasons[0]), (502, "UPSTREAM_TLS"), scheme)
            self.assertEqual(sum(asked.received for asked in upstream.connections), 0, scheme)


class StockCertificateTests(CertificateTests):
    """The same through Twisted's own agent."""

    agent = "stock"
