"""Clients through the gateway to an upstream that is not ours: ``@copilotkit/aimock``.

It always streams SSE, whatever the query says, so a client that reads arrays shows the conversion.  It has no
/v1, no batchEmbedContents and no countTokens.  The environments are made by
``python tests/clients/environments.py``; until then this module defines no tests.
"""

from __future__ import annotations

from tests.clients.cases import (
    GOOGLE_GENAI_2,
    GOOGLE_GENAI_3,
    GOOGLE_GENERATIVEAI,
    JS_GENAI_3,
    JS_GENERATIVE_AI,
    MISSING,
    Client,
    ClientCase,
)
from tests.clients.daemon import aistudio, start_aimock
from tests.clients.environments import HERE, prepared


class AimockTests(ClientCase):
    """generate, stream and embed, by each client."""

    async def check(self, client: Client, *checks: str) -> None:
        from twisted.internet import reactor

        aimock = self.until_the_end(await start_aimock(reactor, self.directory(), HERE / "aimock.json"))
        gateway = await self.gateway({"other": aistudio(aimock.url)})
        lines = await self.assert_checks(client, gateway, *checks)
        for line in lines:
            if line["check"] == "stream":
                self.assertIn("夜鶯", line["text"])
                self.assertEqual(line["chunks"], 5, "aimock's events, one by one")

    async def test_google_genai_2_generates_and_streams(self) -> None:
        """google-genai 2.x, synchronous and asynchronous; a verb that upstream lacks is upstream's 404."""
        await self.check(GOOGLE_GENAI_2, "generate", "stream", "async", "embed_unserved")

    async def test_google_genai_3_generates_and_streams(self) -> None:
        """google-genai 3.x, told to use the version that this upstream has."""
        await self.check(
            GOOGLE_GENAI_3.with_arguments("--api-version", "v1beta"),
            "generate",
            "stream",
            "async",
            "embed_unserved",
        )

    async def test_tutorials_program_streams_as_an_array_and_embeds(self) -> None:
        """google-generativeai gets its JSON array made of upstream's SSE; straight to aimock it crashes."""
        await self.check(GOOGLE_GENERATIVEAI, "tutorial", "generate", "stream", "embed")

    async def test_node_google_genai_3_generates_and_streams(self) -> None:
        """@google/genai 3.x on Node, told to use the version that this upstream has."""
        await self.check(
            JS_GENAI_3.with_arguments("--api-version", "v1beta"), "generate", "stream", "embed_unserved"
        )

    async def test_node_google_generative_ai_generates_streams_and_embeds(self) -> None:
        """@google/generative-ai on Node."""
        await self.check(JS_GENERATIVE_AI, "generate", "stream", "embed")


if not prepared():
    print(f"{__name__}: {MISSING}")
    del AimockTests
