"""A certificate authority for one run of the bench, and the upstream's certificate from it.  Does I/O."""

from __future__ import annotations

import datetime
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "localhost"
"""Whom the certificate is for; every relay must verify that it is."""


@attrs.frozen
class Certificates:
    """Where the PEM files are."""

    authority: Path
    """The authority's certificate alone, to be trusted by relays."""
    server: Path
    """The upstream's key and certificate."""


def make(directory: Path) -> Certificates:
    """Write both files; they are good for a day."""
    authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench authority")])
    authority = _certificate(issuer, issuer, authority_key.public_key(), authority_key, authority_key)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    server = _certificate(subject, issuer, server_key.public_key(), authority_key, None)
    files = Certificates(directory / "authority.pem", directory / "upstream.pem")
    files.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    files.server.touch(0o600)
    files.server.write_bytes(
        server_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + server.public_bytes(serialization.Encoding.PEM)
    )
    return files


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    own: ec.EllipticCurvePrivateKey | None,
) -> x509.Certificate:
    """Sign a certificate: the authority's where it is the signer's own, else the server's."""
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=own is not None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if own is None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
    else:
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(usage, critical=True)
    return builder.sign(signer, hashes.SHA256())
