"""The TLS of a listener: its certificate read anew whenever its files change.  Reads files."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable
from typing import Any

import attrs
from OpenSSL import SSL
from twisted.internet import ssl
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from twisted.python.filepath import FilePath
from zope.interface import implementer

from gateway.config import listeners

LOOK_SECONDS = 1.0
"""How often the files' times are looked at, at most; connections make it happen."""

_PEM_END = b"-----END CERTIFICATE-----"
_log = Logger(namespace="gateway")


class BadCertificate(Exception):
    """A listener's key, certificates or CAs cannot be used; the message says why."""


@attrs.define(eq=False, repr=False)
class Asked:
    """What an endpoint asks of the reactor that it is to listen with; it does not listen."""

    port: int = 0
    options: Any = None
    backlog: int = 50
    interface: str = ""

    def listenSSL(self, port: int, factory: object, contextFactory: object, backlog: int, interface: str) -> None:
        """Take note; see IReactorSSL."""
        self.port, self.options, self.backlog, self.interface = port, contextFactory, backlog, interface


def asked(description: str) -> Asked:
    """Return what an ``ssl:`` description asks for; raises BadCertificate."""
    found = Asked()
    try:
        key = listeners.parameters(description).get("privateKey", "server.pem")
        if os.name == "posix" and os.stat(key).st_mode & stat.S_IRWXO:
            raise BadCertificate(f"others may read {key}: run chmod o= {key}")
        serverFromString(found, description).listen(None)
    except BadCertificate:
        raise
    except Exception as error:
        # What OpenSSL says is a list of lists; what a file's absence says is a sentence.
        raise BadCertificate(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from None
    return found


def context(description: str, client_ca: str) -> SSL.Context:
    """Return the context that a description's files make now: TLS 1.2 and later.

    With ``client_ca``, a file of CA certificates, a client has to show a certificate that one of them has signed.
    Raises BadCertificate.
    """
    given = asked(description).options
    try:
        options = ssl.CertificateOptions(
            privateKey=given.privateKey,
            certificate=given.certificate,
            extraCertChain=given.extraCertChain,
            dhParameters=given.dhParameters,
            raiseMinimumTo=ssl.TLSVersion.TLSv1_2,
            trustRoot=ssl.trustRootFromCertificates(authorities(client_ca)) if client_ca else None,
        )
        return options.getContext()
    except BadCertificate:
        raise
    except Exception as error:
        raise BadCertificate(f"{type(error).__name__}: {error}") from None


def authorities(path: str) -> list[ssl.Certificate]:
    """Return the certificates in a PEM file; raises BadCertificate."""
    try:
        parts = FilePath(path).getContent().split(_PEM_END)[:-1]
        found = [ssl.Certificate.loadPEM(part + _PEM_END) for part in parts]
    except OSError as error:
        raise BadCertificate(f"{path} cannot be read ({error.strerror})") from None
    except Exception:
        found = []
    if not found:
        raise BadCertificate(f"{path} holds no certificate in PEM")
    return found


def files(description: str, client_ca: str) -> tuple[str, ...]:
    """Return the paths that a context is made of."""
    given = listeners.parameters(description)
    key = given.get("privateKey", "server.pem")
    others = (given.get("certKey"), given.get("extraCertChain"), given.get("dhParameters"), client_ca)
    return (key, *(path for path in others if path))


@implementer(IOpenSSLServerConnectionCreator)
class Certificates:
    """Gives every connection the context of now.

    When the files have changed it is made anew; where that fails, as it does while only one of two files has been
    replaced, the old one serves on, and one line says why.
    """

    def __init__(self, description: str, client_ca: str, seconds: Callable[[], float]) -> None:
        """Make the first context; raises BadCertificate."""
        self._description = description
        self._seconds = seconds
        self.use(context(description, client_ca), client_ca)

    def use(self, made: SSL.Context, client_ca: str) -> None:
        """Use this context, and look after what it was made of."""
        self._context, self._client_ca = made, client_ca
        self._stamps, self._looked_at = self._look(), self._seconds()

    @property
    def expires(self) -> float:
        """When the certificate of now expires, in Unix seconds; infinite where there is none to tell."""
        shown = SSL.Connection(self._context, None).get_certificate()
        return math.inf if shown is None else shown.to_cryptography().not_valid_after_utc.timestamp()

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        """Return a connection; see IOpenSSLServerConnectionCreator."""
        self._refresh()
        return SSL.Connection(self._context, None)

    def _refresh(self) -> None:
        now = self._seconds()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        stamps = self._look()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self._context = context(self._description, self._client_ca)
        except BadCertificate as error:
            _log.error("{listen} keeps its certificate: {why}", listen=self._description, why=str(error))
        else:
            _log.info("{listen} has a new certificate", listen=self._description)

    def _look(self) -> tuple[tuple[int, ...], ...]:
        return tuple(map(_stamp, files(self._description, self._client_ca)))


def _stamp(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
