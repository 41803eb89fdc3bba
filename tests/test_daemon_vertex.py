"""The daemon with a ``vertex`` upstream, against the simulator: a service account's key file in, answers out."""

from __future__ import annotations

import json
from typing import Any

from twisted.trial.unittest import SkipTest

from gateway.accounts import adc
from tests.clients.daemon import secret
from tests.keyfiles import key_file
from tests.processes import GENERATE, MODEL, SSE, DaemonCase, Server, Simulator, prompt

EMAIL = "robot@its-project.iam.gserviceaccount.com"
COUNT = f"/v1beta/models/{MODEL}:countTokens"


class VertexTests(DaemonCase):
    """One service account, whose key the simulator made and whose public half it knows."""

    async def account(self) -> Simulator:
        """Start a simulator and have it make the key file."""
        simulator = await self.simulator()
        order = {"email": EMAIL, "project": "its-project", "token_url": simulator.url + "/token"}
        secret(self.home / "sa.json", json.dumps(await simulator.control("POST", "service-accounts", order)))
        return simulator

    async def started(self, **members: Any) -> tuple[Server, Simulator]:
        simulator = await self.account()
        credentials = [{"name": "batch-robot", "service_account_file": "sa.json"}]
        cloud = {"kind": "vertex", "base_urls": [simulator.url], "credentials": credentials, **members}
        return await self.gateway({"cloud": cloud}), simulator

    async def grants(self, simulator: Simulator) -> int:
        """How many tokens were asked for."""
        return sum(entry["verb"] == "token" for entry in await simulator.requests("token"))

    async def test_service_account_generates_streams_and_counts(self) -> None:
        """One grant, signed with the account's key, serves them all; paths name project and location."""
        daemon, simulator = await self.started(location="europe-west4")
        generated = await daemon.ask(GENERATE, prompt("Hello Vertex"))
        self.assertEqual(generated.status, 200, generated.body)
        self.assertIn("Hello Vertex", generated.text)
        streamed = await daemon.ask(SSE, prompt("Hello stream"))
        self.assertEqual((streamed.status, streamed.whole), (200, True), streamed.body)
        self.assertEqual(streamed.headers["content-type"].partition(";")[0], "text/event-stream")
        self.assertIn(b'"finishReason"', streamed.body)
        whole = {"model": f"models/{MODEL}", **json.loads(prompt()), "safetySettings": []}
        for document in (json.loads(prompt()), {"generateContentRequest": whole}):
            counted = await daemon.ask(COUNT, json.dumps(document).encode())
            self.assertEqual(counted.status, 200, counted.body)
            self.assertGreater(counted.json["totalTokens"], 0)
        seen = (await simulator.control("GET", "requests?face=vertex"))["requests"]
        prefix = f"/v1/projects/its-project/locations/europe-west4/publishers/google/models/{MODEL}:"
        verbs = ("generateContent", "streamGenerateContent", "countTokens", "countTokens")
        self.assertEqual([entry["path"] for entry in seen], [prefix + verb for verb in verbs])
        self.assertEqual({entry["credential"] for entry in seen}, {EMAIL})
        self.assertEqual(await self.grants(simulator), 1)

    async def test_credential_is_shown_by_a_digest(self) -> None:
        """Neither its name nor its address reaches a client, a log line or a list of attempts."""
        daemon, simulator = await self.started()
        answer = await daemon.ask(GENERATE, prompt())
        self.assertRegex(answer.headers["x-antigravity-credential"], r"\Acloud/[0-9a-f]{8}\Z")
        await simulator.fault("status", code=503)
        refused = await daemon.ask(GENERATE, prompt())
        self.assertEqual(refused.status, 503)
        for text in (refused.body.decode(), str(answer.headers), daemon.printed):
            for hidden in ("batch-robot", EMAIL, "PRIVATE", "ya29."):
                self.assertNotIn(hidden, text)

    async def test_stale_token_is_exchanged_once(self) -> None:
        """U4: Vertex refuses it, another grant is made, and the client sees nothing of it."""
        daemon, simulator = await self.started()
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)
        await simulator.control("POST", "tokens", {"expire": "*"})
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)
        self.assertEqual(await self.grants(simulator), 2)

    async def test_key_that_google_does_not_know_is_out(self) -> None:
        """K1: a deleted account's grant is refused, which says that the operator has to act."""
        daemon, simulator = await self.started()
        await simulator.control("POST", "tokens", {"revoke": [EMAIL], "expire": "*"})
        answer = await daemon.ask(GENERATE, prompt())
        self.assertEqual((answer.status, answer.error["status"]), (503, "UNAVAILABLE"))
        self.assertIn("INVALID_GRANT", daemon.printed)

    async def test_application_defaults_serve_too(self) -> None:
        """google-auth finds the key file by the environment and gets the token, in a thread."""
        try:
            adc.library()
        except ImportError:
            raise SkipTest("google-auth is not installed: pip install 'antigravity-gateway[adc]'") from None
        simulator = await self.account()
        credentials = [{"name": "machine", "application_default": True, "project": "mine"}]
        daemon = await self.gateway(
            {"cloud": {"kind": "vertex", "base_urls": [simulator.url], "credentials": credentials}},
            environ={"GOOGLE_APPLICATION_CREDENTIALS": str(self.home / "sa.json")},
        )
        for _ in range(2):
            answer = await daemon.ask(GENERATE, prompt())
            self.assertEqual(answer.status, 200, answer.body)
        seen = await simulator.requests()
        path = f"/v1/projects/mine/locations/global/publishers/google/models/{MODEL}:generateContent"
        self.assertEqual([entry["path"] for entry in seen], [path] * 2)
        self.assertEqual(await self.grants(simulator), 1)

    async def test_models_are_the_catalogues(self) -> None:
        """Vertex has no list: what the package knows is served."""
        daemon, _ = await self.started()
        answer = await daemon.ask("/v1beta/models")
        self.assertEqual(answer.status, 200)
        self.assertIn(f"models/{MODEL}", [model["name"] for model in answer.json["models"]])

    async def test_check_reads_the_key_file_and_shows_none_of_it(self) -> None:
        """0 with what would run, 78 with what is wrong."""
        secret(self.home / "sa.json", key_file())
        credentials = [{"name": "sa", "service_account_file": "sa.json"}]
        path, _ = self.configured({"cloud": {"kind": "vertex", "credentials": credentials}})
        child = await self.run_to_end("antigravity", "--config", str(path), "--check")
        self.assertEqual(child.exit_code, 0, child.printed)
        self.assertIn("base: https://aiplatform.googleapis.com\n", child.printed)
        self.assertNotIn("PRIVATE", child.printed)
        (self.home / "sa.json").chmod(0o644)
        child = await self.run_to_end("antigravity", "--config", str(path), "--check")
        self.assertEqual(child.exit_code, 78, child.printed)
        self.assertIn("run: chmod 600", child.printed)
