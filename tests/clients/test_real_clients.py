"""Google's own clients, each in its environment, before the daemon and the simulator.

The environments are made by ``python tests/clients/environments.py``; until then this module defines
no tests.
"""

from __future__ import annotations

from tests.clients.cases import (
    GOOGLE_GENAI_2,
    GOOGLE_GENAI_3,
    GOOGLE_GENERATIVEAI,
    JS_GENAI_2,
    JS_GENAI_3,
    JS_GENERATIVE_AI,
    MISSING,
    Client,
    ClientCase,
)
from tests.clients.daemon import CLIENT_KEY, Server, aistudio, codeassist
from tests.clients.environments import prepared

COMMON = (
    "list",
    "display_names",
    "get",
    "generate",
    "limit",
    "stream",
    "chat",
    "chat_stream",
    "count",
    "tools",
)
ERRORS = ("unknown_model", "unknown_key")
GENAI = (*COMMON, "signatures", "concurrent", *ERRORS)
PYTHON_GENAI = (*GENAI, "unicode", "usage", "automatic_tools", "tools_stream", "structured", "async")

#: Upstream's streams as no client could read them, and broken ones, by a word in the prompt.
FAULTS = {
    "rough-done": {"action": "done"},
    "rough-crlf": {"action": "framing", "use": ["crlf"], "split": 7},
    "rough-dressed": {"action": "framing", "use": ["bom", "comments", "fields", "no_space", "no_last_blank"]},
    "broken-error": {"action": "error_event", "after": 2},
    "broken-cut": {"action": "truncate", "after": 2},
    "broken-reset": {"action": "reset", "after": 2},
}
SCRIPT = {"faults": [{"match": {"prompt": word}, "do": action} for word, action in FAULTS.items()]}


class RealClients:
    """One test a client; what stands behind the gateway is a subclass's business."""

    embed: tuple[str, ...] = ("embed",)
    embed_with_batch: tuple[str, ...] = ("embed", "embed_batch")

    rough: tuple[str, ...] = ("rough", "broken")
    faces: frozenset[str] = frozenset()
    upstream: Server | None = None

    async def start(self) -> Server:
        raise NotImplementedError

    async def check(self, client: Client, *checks: str) -> None:
        await self.assert_checks(client, await self.start(), *checks, *self.rough)
        if self.upstream is not None:
            await self.assert_upstream_saw(self.upstream)

    async def assert_upstream_saw(self, upstream: Server) -> None:
        """Everything went to one kind of upstream, with the gateway's credential and without the client's."""
        from twisted.internet import reactor

        requests = (await upstream.get(reactor, "/_simulator/requests"))["requests"]
        faces = {request["face"] for request in requests}
        self.assertEqual(faces, self.faces)
        self.assertNotIn(CLIENT_KEY, str(requests))

    async def test_google_genai_2_works(self) -> None:
        """google-genai 2.x, which calls /v1beta: all it offers, synchronous and asynchronous."""
        await self.check(GOOGLE_GENAI_2, *PYTHON_GENAI, *self.embed)

    async def test_google_genai_3_works(self) -> None:
        """google-genai 3.x, which calls /v1: all it offers, synchronous and asynchronous."""
        await self.check(GOOGLE_GENAI_3, *PYTHON_GENAI, *self.embed)

    async def test_tutorials_program_and_google_generativeai_work(self) -> None:
        """google-generativeai 0.8.6 prints the tutorial's text, and streams, which means a JSON array."""
        await self.check(GOOGLE_GENERATIVEAI, "tutorial", *COMMON, *ERRORS, *self.embed_with_batch)

    async def test_node_google_genai_2_works(self) -> None:
        """@google/genai 2.x on Node, which calls /v1beta: all it offers."""
        await self.check(JS_GENAI_2, *GENAI, *self.embed)

    async def test_node_google_genai_3_works(self) -> None:
        """@google/genai 3.x on Node, which calls /v1: all it offers."""
        await self.check(JS_GENAI_3, *GENAI, *self.embed)

    async def test_node_google_generative_ai_works(self) -> None:
        """@google/generative-ai on Node, the strictest reader of event streams."""
        await self.check(JS_GENERATIVE_AI, *COMMON, *ERRORS, *self.embed_with_batch)


class SimulateTests(RealClients, ClientCase):
    """``twistd antigravity --simulate``: one process, both kinds of upstream inside."""

    rough = ()

    async def start(self) -> Server:
        return await self.gateway()


class AistudioTests(RealClients, ClientCase):
    """A gateway whose only upstream is the public API with a key, played by a simulator process."""

    faces = frozenset({"aistudio"})

    async def start(self) -> Server:
        self.upstream = await self.simulator(SCRIPT)
        return await self.gateway({"studio": aistudio(self.upstream.url)})


class CodeassistTests(RealClients, ClientCase):
    """A gateway whose only upstream is v1internal with an account: it has no embeddings, and says so."""

    faces = frozenset({"codeassist", "oauth"})
    embed = ("embed_unimplemented",)
    embed_with_batch = ("embed_unimplemented",)

    async def start(self) -> Server:
        self.upstream = await self.simulator(SCRIPT)
        state = self.directory()
        return await self.gateway({"accounts": codeassist(self.upstream.url, state)}, state)


if not prepared():
    print(f"{__name__}: {MISSING}")
    del SimulateTests, AistudioTests, CodeassistTests
