"""TLS of the clients' listeners: certificates read anew, certificates of clients, old versions.  Opens sockets."""

from __future__ import annotations

import json
import os
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trustme
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from gateway.process import tls
from gateway.process.listeners import Listeners
from tests.clients.daemon import free_port
from tests.processes import DaemonCase, Server, aistudio, logged, parsed, reactor, until

KEY = "a-client-key"
NOBODY = "http://127.0.0.1:1"
REQUEST = f"GET /v1beta/models?key={KEY} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


def write(path: Path, certificate: trustme.LeafCert) -> None:
    """Write key and certificates into one file, in a single step."""
    beside = path.with_suffix(".new")
    beside.touch(mode=0o600)
    beside.write_bytes(certificate.private_key_and_cert_chain_pem.bytes())
    os.replace(beside, path)


class CertificatesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir()
        self.now = 0.0
        self.ca = trustme.CA()
        self.file = self.directory / "tls.pem"
        write(self.file, self.ca.issue_cert("localhost"))
        self.description = f"ssl:0:interface=127.0.0.1:privateKey={self.file}"
        self.certificates = tls.Certificates(self.description, "", lambda: self.now)

    def shown(self) -> int:
        """The serial number that the next connection would show."""
        connection = self.certificates.serverConnectionForTLS(None)
        certificate = connection.get_certificate()
        assert certificate is not None
        return int(certificate.get_serial_number())

    def test_a_replaced_certificate_is_shown_from_a_second_later_on(self) -> None:
        """Its file is looked at once a second, when a connection comes."""
        first = self.shown()
        write(self.file, self.ca.issue_cert("localhost"))
        self.assertEqual(self.shown(), first)
        self.now += 1.0
        self.assertNotEqual(self.shown(), first)

    def test_its_end_is_told_of_the_one_that_is_shown(self) -> None:
        """In Unix seconds, by the listener's name without its paths."""
        end = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
        write(self.file, self.ca.issue_cert("localhost", not_after=end))
        listeners = Listeners(reactor, Factory())
        listeners.take(listeners.prepare([self.description]))
        self.addCleanup(listeners.close)
        self.assertEqual(listeners.expiries(), {"ssl:127.0.0.1:0": end.timestamp()})

    def test_what_does_not_fit_leaves_the_old_one_in_use(self) -> None:
        """As between the replacing of two files; one line says so, and not one for each connection."""
        first = self.shown()
        self.file.write_text("half of it")
        for _ in range(3):
            self.now += 1.0
            self.assertEqual(self.shown(), first)
        write(self.file, self.ca.issue_cert("localhost"))
        self.now += 1.0
        self.assertNotEqual(self.shown(), first)

    def test_a_missing_file_leaves_the_old_one_in_use(self) -> None:
        """Some tools remove before they write."""
        first = self.shown()
        self.file.unlink()
        self.now += 1.0
        self.assertEqual(self.shown(), first)

    def test_what_cannot_be_used_is_told_in_a_sentence(self) -> None:
        """A key that others may read, one that is none, CAs that are none."""
        with self.assertRaisesRegex(tls.BadCertificate, "holds no certificate"):
            tls.context(self.description, self._written("x"))
        with self.assertRaisesRegex(tls.BadCertificate, "cannot be read"):
            tls.context(self.description, str(self.directory / "missing"))
        self.file.chmod(0o604)
        with self.assertRaisesRegex(tls.BadCertificate, "chmod o="):
            tls.context(self.description, "")

    def _written(self, text: str) -> str:
        path = self.directory / "text.pem"
        path.write_text(text)
        return str(path)


class ListenerTests(DaemonCase):
    """The daemon with an ``ssl:`` listener."""

    async def begin(self, **proxy: Any) -> None:
        self.ca = trustme.CA()
        self.file = self.home / "tls.pem"
        write(self.file, self.ca.issue_cert("localhost"))
        port = free_port()
        listen = f"ssl:{port}:interface=127.0.0.1:privateKey={self.file}"
        self.path, _ = self.configured({"studio": aistudio(NOBODY)}, proxy={"listen": listen, "api_key": KEY, **proxy})
        self.server = Server(self.twistd("antigravity", "--config", str(self.path)), port)
        await logged(self.server, " serves ssl:")

    def client(
        self, *, certificate: trustme.LeafCert | None = None, most: ssl.TLSVersion | None = None
    ) -> ssl.SSLContext:
        """A client that trusts the CA."""
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if certificate is not None:
            certificate.configure_cert(context)
        if most is not None:
            # Debian's defaults would keep the client itself from it.
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, most
        return context

    async def ask(self, context: ssl.SSLContext) -> tuple[int, int, str]:
        """Return the answer's status, the certificate's serial number, and the version that was spoken."""
        port = self.server.port

        def talk() -> tuple[int, int, str]:
            plain = socket.create_connection(("127.0.0.1", port), 20)
            with plain, context.wrap_socket(plain, server_hostname="localhost") as secure:
                secure.sendall(REQUEST)
                data = b""
                while chunk := secure.recv(65536):
                    data += chunk
                found: Any = secure.getpeercert()
                return parsed(data).status, int(found["serialNumber"], 16), str(secure.version())

        result: tuple[int, int, str] = await deferToThread(talk)
        return result

    async def test_a_certificate_is_exchanged_without_a_restart(self) -> None:
        """Connections from a second after its file changed get it; SIGHUP reads it at once."""
        await self.begin()
        status, first, _ = await self.ask(self.client())
        self.assertEqual(status, 200)
        write(self.file, self.ca.issue_cert("localhost"))
        self.server.child.signal("HUP")
        await logged(self.server, "has read its configuration anew")
        _, second, _ = await self.ask(self.client())
        self.assertNotEqual(second, first)

    async def test_a_broken_certificate_fails_the_reload(self) -> None:
        """The old one serves on, and the log says why (P4)."""
        await self.begin()
        _, first, _ = await self.ask(self.client())
        self.file.write_text("no certificate")
        self.server.child.signal("HUP")
        await logged(self.server, "the configuration stays as it was")
        self.assertEqual((await self.ask(self.client()))[:2], (200, first))

    async def test_old_versions_are_refused(self) -> None:
        """TLS 1.2 and 1.3 are spoken; 1.0 and 1.1 are not, whatever ciphers the client offers."""
        await self.begin()
        self.assertEqual((await self.ask(self.client()))[2], "TLSv1.3")
        self.assertEqual((await self.ask(self.client(most=ssl.TLSVersion.TLSv1_2)))[2], "TLSv1.2")
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with self.assertRaisesRegex(ssl.SSLError, "(?i)alert.protocol.version"):
                await self.ask(self.client(most=version))

    async def test_clients_show_a_certificate_where_it_is_asked_for(self) -> None:
        """``client_ca``: one that the CA signed is let in, another and none are not; the key is asked for as well."""
        clients = trustme.CA()
        clients.cert_pem.write_to_path(str(self.home / "clients.pem"))
        await self.begin(client_ca=str(self.home / "clients.pem"))
        good = clients.issue_cert("client.example")
        self.assertEqual((await self.ask(self.client(certificate=good)))[0], 200)
        for bad in (None, self.ca.issue_cert("client.example"), trustme.CA().issue_cert("client.example")):
            with self.assertRaises((ssl.SSLError, ConnectionError)):
                await self.ask(self.client(certificate=bad))
        others = trustme.CA()
        others.cert_pem.write_to_path(str(self.home / "others.pem"))
        document = json.loads(self.path.read_text())
        document["proxy"]["client_ca"] = str(self.home / "others.pem")
        self.path.write_text(json.dumps(document))
        self.server.child.signal("HUP")
        await logged(self.server, "has read its configuration anew")
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            await self.ask(self.client(certificate=good))
        self.assertEqual((await self.ask(self.client(certificate=others.issue_cert("client.example"))))[0], 200)

    async def test_failed_handshakes_harm_nobody(self) -> None:
        """What is no TLS, or breaks off, ends with its connection (C3)."""
        await self.begin()

        def disturb() -> None:
            for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", b""):
                with socket.create_connection(("127.0.0.1", self.server.port), 20) as plain:
                    plain.sendall(data)

        await deferToThread(disturb)
        self.assertEqual((await self.ask(self.client()))[0], 200)
        self.server.child.signal("TERM")
        self.assertTrue(await self.server.child.ended_within(10, reactor))
        await until(lambda: "has ended" in self.server.printed)
