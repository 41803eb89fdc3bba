"""Whose certificates an upstream may show: a chain to an authority, and the name that was asked for.

Twisted's own policy accepts a certificate that names nobody at all: what service-identity raises for one is no
VerificationError, and the callback that stumbles over it keeps OpenSSL's verdict on the chain.  Here a name that could
not be verified, for whatever reason, is refused.  See RFC 9525, and RFC 9110 section 4.3.4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity.hazmat import DNS_ID, IPAddress_ID, ServiceID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import optionsForClientTLS
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

Verify = Callable[[SSL.Connection, X509, int, int, int], bool]


@implementer(IPolicyForHTTPS)
class Verified:
    """Trusts the platform's authorities, or those of ``SSL_CERT_FILE``, and a certificate that names the host."""

    def __init__(self, authorities: Any = None) -> None:
        """``authorities`` are trusted in the platform's place: a trust root as optionsForClientTLS takes it."""
        self._authorities = authorities

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        """Return what makes connections to a host; see IPolicyForHTTPS."""
        return _Named(hostname.decode("ascii"), self._authorities)


@implementer(IOpenSSLClientConnectionCreator)
class _Named:
    def __init__(self, host: str, authorities: Any) -> None:
        self._options: Any = optionsForClientTLS(host, trustRoot=authorities)
        address = isIPAddress(host) or isIPv6Address(host)
        self._verify = naming(IPAddress_ID(host) if address else DNS_ID(host))

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """Return a connection that is to be verified; see IOpenSSLClientConnectionCreator."""
        connection: SSL.Connection = self._options.clientConnectionForTLS(tlsProtocol)
        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verify)
        return connection


def naming(service: ServiceID) -> Verify:
    """Return a callback for OpenSSL that wants the certificate at the chain's end to name a service."""

    def verify(connection: SSL.Connection, certificate: X509, error: int, depth: int, trusted: int) -> bool:
        if depth or not trusted:
            return bool(trusted)
        try:
            verify_service_identity(extract_patterns(certificate), [service], [])
        except Exception:
            # Mismatches and certificates that cannot be read alike: what raises here would be lost in OpenSSL.
            return False
        return True

    return verify
