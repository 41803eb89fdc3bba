"""Certificates, good and bad, and servers that show them.  Does I/O."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLContextFactory
from zope.interface import implementer


@attrs.frozen
class Shown:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = attrs.field(repr=False)


def made(
    subject: str,
    issuer: Shown | None = None,
    *,
    names: tuple[str, ...] = (),
    addresses: tuple[str, ...] = (),
    authority: bool = False,
    days: tuple[float, float] = (-1, 1),
) -> Shown:
    """Make a certificate that is valid from so many days ahead to so many; without an issuer it signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    alternatives = [*map(x509.DNSName, names), *(x509.IPAddress(ip_address(one)) for one in addresses)]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return Shown(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def authority_file(path: Path, *authorities: Shown) -> Path:
    """Write authorities' certificates to a file that may be trusted."""
    pem = [one.certificate.public_bytes(serialization.Encoding.PEM) for one in authorities]
    path.write_bytes(b"".join(pem))
    return path


@implementer(IOpenSSLContextFactory)
class Serving:
    """Shows a certificate to whoever connects; ``newest`` is the highest version of TLS that it speaks."""

    def __init__(self, shown: Shown, newest: int = SSL.TLS1_3_VERSION) -> None:
        self._context = SSL.Context(SSL.TLS_METHOD)
        self._context.use_certificate(shown.certificate)
        self._context.use_privatekey(shown.key)
        self._context.set_max_proto_version(newest)
        if newest < SSL.TLS1_2_VERSION:
            # OpenSSL itself would not speak these any more.
            self._context.set_min_proto_version(newest)
            self._context.set_cipher_list(b"ALL:@SECLEVEL=0")

    def getContext(self) -> SSL.Context:
        return self._context
