"""A daemon at rest holds nothing that it has no use for.  Opens sockets."""

from __future__ import annotations

from tests.clients.daemon import free_port
from tests.processes import GENERATE, DaemonCase, Server, aistudio, prompt

WHO_NEEDS_IT = {
    "prometheus_client": "who scrapes",
    "gateway.operations.admin": "the commands and the dashboard",
    "zoneinfo": "a day's quota that is used up",
    "argon2": "who signs in with a password",
    "opentelemetry": "who sends traces",
    "google.auth": "application default credentials",
    "requests": "the same",
    "gateway.cli": "the shell",
    "gateway.commands": "the shell",
    "gateway.simulator": "a first try",
    "pip": "nobody",
    "pkg_resources": "nobody",
    "setuptools": "nobody",
    "multiprocessing": "nobody",
    "twisted.conch": "nobody",
    "twisted.names": "nobody",
    "tkinter": "nobody",
}
"""What no daemon at rest may have imported, and who has a use for it."""


class ImportTests(DaemonCase):
    """Python itself says what a daemon imports, on its standard error."""

    async def test_a_daemon_at_rest_has_imported_nothing_for_others(self) -> None:
        """Each of these takes memory from every daemon; whoever needs one imports it then, as a scrape shows."""
        google, port = await self.simulator(), free_port()
        daemon = await self.gateway(
            {"studio": aistudio(google.url, keys=("good-1",))},
            environ={"PYTHONPROFILEIMPORTTIME": "1"},
            admin={"listen": f"tcp:{port}:interface=127.0.0.1"},
        )
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)
        imported = self.imported(daemon)
        self.assertIn("gateway.service", imported)
        self.assertEqual(imported & set(WHO_NEEDS_IT), set())
        self.assertEqual((await Server(daemon.child, port).ask("/metrics")).status, 200)
        self.assertIn("prometheus_client", self.imported(daemon))

    def imported(self, daemon: Server) -> set[str]:
        lines = (line.rpartition("|") for line in daemon.child.printed.splitlines() if line.startswith("import time:"))
        return {name.strip() for _, _, name in lines}
