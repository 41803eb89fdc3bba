"""Service accounts' key files, as the Google Cloud console gives them.  Pure, but for the keys' chance."""

from __future__ import annotations

import json
from functools import cache

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    """A key, made once for all tests."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    """A private key in PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")


def key_file(**members: object) -> str:
    """A key file's text; a member that is None is left out."""
    document = {
        "type": "service_account",
        "project_id": "its-project",
        "private_key_id": "key-id-1",
        "private_key": pem(rsa_key()),
        "client_email": "robot@its-project.iam.gserviceaccount.com",
        "client_id": "123456789012345678901",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": "https://oauth2.googleapis.com/token",
        "universe_domain": "googleapis.com",
        **members,
    }
    return json.dumps({name: value for name, value in document.items() if value is not None})
