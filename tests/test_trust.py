"""Whose certificates are trusted, by handshakes in memory."""

from __future__ import annotations

from typing import Any

from OpenSSL.crypto import X509
from service_identity.hazmat import DNS_ID, IPAddress_ID
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface.verify import verifyObject

from gateway.upstreams.trust import Verified, naming
from tests.certificates import made

AUTHORITY = made("Authority", authority=True)


def verified(service: Any, trusted: int = 1, depth: int = 0, **shown: Any) -> bool:
    """Whether a certificate passes for a service."""
    certificate = X509.from_cryptography(made("host", AUTHORITY, **shown).certificate)
    nobody: Any = None
    return naming(service)(nobody, certificate, 0, depth, trusted)


class NamingTests(SynchronousTestCase):
    """The callback that OpenSSL asks about each certificate of a chain."""

    def test_only_the_host_that_was_asked_for_passes(self) -> None:
        """C3: its name, or a wildcard one level up; not a name beside it, below it or above it."""
        table = (
            ("api.example", True),
            ("API.example", True),
            ("*.example", False),
            ("example", False),
            ("x.api.example", False),
            ("other.example", False),
        )
        for name, passes in table:
            self.assertEqual(verified(DNS_ID("api.example"), names=(name,)), passes, name)
        self.assertTrue(verified(DNS_ID("a.api.example"), names=("*.api.example",)))

    def test_certificate_that_names_nobody_passes_for_nobody(self) -> None:
        """C3: a common name is no name, and nor is nothing at all."""
        self.assertFalse(verified(DNS_ID("host")))
        self.assertFalse(verified(IPAddress_ID("127.0.0.1")))

    def test_address_is_no_name(self) -> None:
        """C3: for a host that is an address a certificate has to name the address."""
        self.assertFalse(verified(IPAddress_ID("127.0.0.1"), names=("127.0.0.1",)))
        self.assertTrue(verified(IPAddress_ID("127.0.0.1"), addresses=("127.0.0.1",)))
        self.assertFalse(verified(IPAddress_ID("::1"), addresses=("127.0.0.1",)))

    def test_chain_is_openssls_to_judge(self) -> None:
        """C3: what it does not trust stays so, whatever the name; what stands above the host has no name to check."""
        self.assertFalse(verified(DNS_ID("api.example"), trusted=0, names=("api.example",)))
        self.assertTrue(verified(DNS_ID("api.example"), depth=1))
        self.assertFalse(verified(DNS_ID("api.example"), trusted=0, depth=1))

    def test_what_cannot_be_read_is_refused(self) -> None:
        """C3: whatever goes wrong while a name is looked for, it was not found."""
        nobody: Any = None
        self.assertFalse(naming(DNS_ID("api.example"))(nobody, nobody, 0, 0, 1))


class PolicyTests(SynchronousTestCase):
    """What makes the connections."""

    def test_interfaces_are_provided(self) -> None:
        """Twisted's two."""
        policy = Verified()
        self.assertTrue(verifyObject(IPolicyForHTTPS, policy))
        for host in (b"one.example", b"127.0.0.1", b"::1"):
            self.assertTrue(verifyObject(IOpenSSLClientConnectionCreator, policy.creatorForNetloc(host, 443)))
