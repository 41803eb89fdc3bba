"""What tests with real clients share: processes that end with the test, clients by name.  Does I/O."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from signal import SIGTERM
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.clients.daemon import (
    CLIENT_KEY,
    UPSTREAM_KEY,
    Server,
    run_client,
    start_gateway,
    start_simulator,
)
from tests.clients.environments import GENAI_2, GENAI_3, GENERATIVEAI, NODE, Environment

#: Printed by the test modules when they define no tests.
MISSING = "no tests with real clients here: run python tests/clients/environments.py first"


@dataclass(frozen=True)
class Client:
    """A client's program, where it runs, and what it is told beside the address and the key."""

    environment: Environment
    script: str
    arguments: tuple[str, ...] = ()

    def with_arguments(self, *more: str) -> Client:
        """The same client, told more."""
        return replace(self, arguments=(*self.arguments, *more))


GOOGLE_GENAI_2 = Client(GENAI_2, "genai_check.py")
GOOGLE_GENAI_3 = Client(GENAI_3, "genai_check.py")
GOOGLE_GENERATIVEAI = Client(GENERATIVEAI, "generativeai_check.py")
JS_GENAI_2 = Client(NODE, "genai_check.mjs", ("--package", "google-genai-2"))
JS_GENAI_3 = Client(NODE, "genai_check.mjs")
JS_GENERATIVE_AI = Client(NODE, "generative_ai_check.mjs")


class ClientCase(TestCase):
    """A test that runs a client's program before a gateway."""

    #: More than all that is waited for: trial's own timeout leaves processes behind.
    timeout = 300

    def directory(self) -> Path:
        """A fresh directory with a short name: a UNIX socket in it must fit into 107 bytes."""
        directory = Path(tempfile.mkdtemp(prefix="antigravity-"))
        self.addCleanup(shutil.rmtree, directory)
        return directory

    def until_the_end(self, server: Server) -> Server:
        """Stop this server when the test ends, and fail the test if it did not stop as it should.

        twistd ends by the signal that it was sent, unless a service has handlers of its own.
        """
        from twisted.internet import reactor

        async def stop() -> None:
            await server.stop(reactor)
            self.assertIn(server.child.exit_code, (0, -SIGTERM), f"{server.name}:\n{server.child.printed}")
            for sign in ("Traceback", "Unhandled error"):
                self.assertNotIn(sign, server.child.printed)

        self.addCleanup(lambda: Deferred.fromCoroutine(stop()))
        return server

    async def gateway(self, upstreams: Mapping[str, Any] | None = None, state: Path | None = None) -> Server:
        """A gateway that ends with the test."""
        from twisted.internet import reactor

        server = await start_gateway(reactor, state or self.directory(), upstreams)
        return self.until_the_end(server)

    async def simulator(self, script: Mapping[str, Any] | None = None) -> Server:
        """A simulator that ends with the test."""
        from twisted.internet import reactor

        return self.until_the_end(await start_simulator(reactor, self.directory(), script))

    async def assert_checks(self, client: Client, server: Server, *checks: str) -> list[dict[str, Any]]:
        """Run these checks of a client's program, each of which must be done and pass."""
        from twisted.internet import reactor

        arguments = [server.url, CLIENT_KEY, "--checks", ",".join(checks), *client.arguments]
        lines = await run_client(reactor, client.environment, client.script, self.directory(), arguments)
        self.assertEqual([line["check"] for line in lines], list(checks))
        for key in (CLIENT_KEY, UPSTREAM_KEY):
            self.assertNotIn(key, server.child.printed, "a log does not show keys")
        return lines
