"""The daemon as a process: how it starts and ends, who is let in, and which credential serves.  Opens sockets."""

from __future__ import annotations

import json
import re
import socket
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from gateway import __version__
from tests.clients.daemon import free_port, secret, spawn
from tests.clients.environments import REPOSITORY
from tests.processes import (
    ARRAY,
    DEADLINE_SECONDS,
    GENERATE,
    MODEL,
    POLL_SECONDS,
    SSE,
    Answer,
    DaemonCase,
    Server,
    Simulator,
    aistudio,
    head,
    logged,
    parsed,
    prompt,
    reactor,
    until,
)

KEY = "a-client-key"
NOBODY = "http://127.0.0.1:1"
"""Nobody listens there."""


class StartTests(DaemonCase):
    """What a person sees who starts it."""

    async def refused(self, *arguments: str, **named: Any) -> str:
        """Run what cannot run, and return the one sentence that it says."""
        child = await self.run_to_end("antigravity", *arguments, **named)
        self.assertEqual(child.exit_code, 78, child.printed)
        self.assertEqual(child.stdout, b"")
        said = child.stderr.decode()
        self.assertEqual(said.count("\n"), 1, said)
        self.assertTrue(said.startswith("antigravity: "), said)
        return said

    async def test_check_prints_what_would_run(self) -> None:
        """``--check`` describes a good configuration, without its secrets, and exits 0."""
        path, port = self.configured({"studio": aistudio(NOBODY, keys=["a-secret"])}, proxy={"api_key": KEY})
        child = await self.run_to_end("antigravity", "--config", str(path), "--check")
        self.assertEqual(child.exit_code, 0, child.printed)
        said = child.stdout.decode()
        for expected in (str(path), f"tcp:{port}:interface=127.0.0.1", "on, 1 key", "upstream studio", NOBODY):
            self.assertIn(expected, said)
        self.assertNotIn(KEY, said)

    async def test_check_of_the_simulated_gateway_says_so(self) -> None:
        """``--simulate --check`` needs no credential and exits 0."""
        child = await self.run_to_end("antigravity", "--simulate", "--check")
        self.assertEqual(child.exit_code, 0, child.printed)
        self.assertIn(b"--simulate", child.stdout)

    async def test_nothing_configured_names_the_three_ways(self) -> None:
        """Without file, key and ``--simulate`` it exits 78 and says in one sentence what to do."""
        said = await self.refused()
        for way in ("GEMINI_API_KEY", "--config FILE", "--simulate"):
            self.assertIn(way, said)

    async def test_broken_configuration_is_one_sentence(self) -> None:
        """What is wrong with a file is told with file, path and cure, and exits 78, with ``--check`` and without."""
        upstreams = {"studio": aistudio(NOBODY)}
        unknown, _ = self.configured(upstreams, proxy={"auth_mod": "off"})
        broken = self.home / "broken.yaml"
        secret(broken, "proxy: [")
        missing = self.home / "missing.yaml"
        unset = self.home / "unset.yaml"
        credentials = [{"name": "first", "api_key_env": "NO_SUCH_KEY"}]
        secret(unset, json.dumps({"upstreams": {"studio": {"kind": "aistudio", "credentials": credentials}}}))
        cases = [
            (unknown, "proxy.auth_mod", "auth_mode"),
            (broken, "line 1", "YAML"),
            (missing, "cannot be read", "name a file"),
            (unset, "upstreams.studio.credentials[0]", "NO_SUCH_KEY"),
        ]
        runs = [self.refused("--config", str(path), *more) for path, *_ in cases for more in ((), ("--check",))]
        said = await gatherResults([_started(run) for run in runs], consumeErrors=True)
        for index, (path, place, cure) in enumerate(cases):
            for sentence in said[2 * index : 2 * index + 2]:
                for expected in (str(path), place, cure):
                    self.assertIn(expected, sentence)

    async def test_open_listener_needs_a_key(self) -> None:
        """A listener beyond loopback without a key, or with authentication off, refuses to start (S2)."""
        upstreams = {"studio": aistudio(NOBODY)}
        listen = f"tcp:{free_port()}:interface=0.0.0.0"
        keyless, _ = self.configured(upstreams, proxy={"listen": listen})
        off, _ = self.configured(upstreams, proxy={"listen": listen, "api_key": KEY, "auth_mode": "off"})
        self.assertIn("proxy.api_key", await self.refused("--config", str(keyless)))
        self.assertIn("auth_mode", await self.refused("--config", str(off)))

    async def test_loose_account_files_are_refused(self) -> None:
        """An account file that others may read keeps the daemon from starting, with the chmod to run (P10)."""
        path, accounts = _with_accounts(self, NOBODY)
        file = accounts / "first.json"
        secret(file, json.dumps({"refresh_token": "1//first"}))
        file.chmod(0o644)
        said = await self.refused("--config", str(path))
        self.assertIn(f"chmod 600 {file}", said)

    async def test_version_and_help(self) -> None:
        """``--version`` is one line; ``--help`` tells a newcomer the three ways to start."""
        version = await self.run_to_end("antigravity", "--version")
        self.assertEqual(version.stdout.decode(), f"antigravity-gateway {__version__}\n")
        shown = await self.run_to_end("antigravity", "--help")
        self.assertEqual([version.exit_code, shown.exit_code], [0, 0])
        said = " ".join(shown.stdout.decode().split())
        for expected in ("--simulate", "--config", "--check", "GEMINI_API_KEY", "http://127.0.0.1:8045"):
            self.assertIn(expected, said)
        self.assertEqual(said.count("Usage:"), 1, said)

    async def test_taken_port_is_one_clear_line(self) -> None:
        """A port that is taken ends the start as soon as another would be served, with one line that names it (P12).

        The two seconds of the rule are four times what a start takes, whatever else the machine does.
        """
        before = reactor.seconds()
        await self.gateway({"studio": aistudio(NOBODY)})
        start = reactor.seconds() - before
        path, port = self.configured({"studio": aistudio(NOBODY)})
        with socket.create_server(("127.0.0.1", port)):
            before = reactor.seconds()
            child = await self.run_to_end("antigravity", "--config", str(path))
            took = reactor.seconds() - before
        self.assertEqual(child.exit_code, 1)
        lines = [line for line in child.printed.splitlines() if "cannot listen" in line]
        self.assertEqual(len(lines), 1, child.printed)
        self.assertIn(f"tcp:{port}:interface=127.0.0.1", lines[0])
        self.assertIn("in use", lines[0])
        self.assertNotIn("Traceback", child.printed)
        self.assertLess(took, 4 * start)

    async def test_taken_port_ends_the_start_of_a_daemon(self) -> None:
        """Who starts a daemon on a taken port is told at once, with status 1, and no pid file stays behind (P12)."""
        path, port = self.configured({"studio": aistudio(NOBODY)})
        options = ["--pidfile=gateway.pid", "--logfile=gateway.log"]
        with socket.create_server(("127.0.0.1", port)):
            child = await self.run_to_end("antigravity", "--config", str(path), options=options)
        self.assertEqual(child.exit_code, 1, child.printed)
        self.assertIn(str(port), child.printed)
        log = (self.home / "gateway.log").read_text()
        self.assertIn(f"cannot listen on tcp:{port}:interface=127.0.0.1: ", log)
        self.assertIn("; end what listens there, such as another gateway, or name another port", log)
        # Twisted tells the one who waits before it takes the file away.
        await until(lambda: not (self.home / "gateway.pid").exists())

    async def test_unknown_interface_is_one_clear_line(self) -> None:
        """A listener on an address that this machine does not have is told in one line (P12)."""
        listen = f"tcp:{free_port()}:interface=192.0.2.1"
        path, _ = self.configured({"studio": aistudio(NOBODY)}, proxy={"listen": listen, "api_key": KEY})
        child = await self.run_to_end("antigravity", "--config", str(path))
        self.assertEqual(child.exit_code, 1)
        self.assertEqual(child.printed.count("cannot listen on tcp:"), 1, child.printed)
        self.assertIn("; name an address that this machine has", child.printed)
        self.assertNotIn("Traceback", child.printed)

    async def test_certificate_that_cannot_be_used_is_a_mistake_in_the_configuration(self) -> None:
        """A TLS key that is not there, is none, or may be read by others is told in one line, with ``--check`` too."""
        secret(self.home / "none.pem", "no key")
        secret(self.home / "loose.pem", "no key")
        (self.home / "loose.pem").chmod(0o644)
        for name, why in (("missing.pem", "No such file"), ("none.pem", "Error"), ("loose.pem", "chmod o=")):
            listen = f"ssl:{free_port()}:interface=127.0.0.1:privateKey={self.home / name}"
            path, _ = self.configured({"studio": aistudio(NOBODY)}, proxy={"listen": listen, "api_key": KEY})
            for more in ((), ("--check",)):
                said = await self.refused("--config", str(path), *more)
                self.assertIn("proxy.listen", said)
                self.assertIn(why, said)

    async def test_socket_that_was_not_passed_on_is_one_clear_line(self) -> None:
        """A socket of systemd's that is not there ends the start, with a line that names it (P12)."""
        listen = "systemd:domain=INET:name=http"
        path, _ = self.configured({"studio": aistudio(NOBODY)}, proxy={"listen": listen, "api_key": KEY})
        child = await self.run_to_end("antigravity", "--config", str(path))
        self.assertEqual(child.exit_code, 1, child.printed)
        self.assertEqual(child.printed.count(f"cannot listen on {listen}: "), 1, child.printed)

    async def test_gemini_api_key_alone_is_enough(self) -> None:
        """With keys in the environment and nothing else it runs, towards Google."""
        environ = {"GEMINI_API_KEY": "one-key,another-key"}
        child = await self.run_to_end("antigravity", "--check", environ=environ)
        self.assertEqual(child.exit_code, 0, child.printed)
        said = child.stdout.decode()
        self.assertIn("https://generativelanguage.googleapis.com", said)
        self.assertIn("key-1, key-2", said)
        self.assertNotIn("one-key", said)

    async def test_simulated_gateway_answers_without_credentials(self) -> None:
        """``--simulate --config FILE`` takes the file's listener and the simulator's answers, and says so."""
        server = await self.gateway(None, arguments=["--simulate"])
        answer = await server.ask(GENERATE, prompt("Good evening"))
        self.assertEqual(answer.status, 200)
        self.assertIn("You said: Good evening.", answer.text)
        await logged(server, "the answers come from the built-in simulator")

    async def test_simulation_never_uses_the_files_credentials(self) -> None:
        """With ``--simulate`` the upstreams of a file are not even read, so that its keys need not be at hand."""
        credentials = [{"name": "first", "api_key_env": "NO_SUCH_KEY"}]
        server = await self.gateway({"s": {"kind": "aistudio", "credentials": credentials}}, arguments=["--simulate"])
        answer = await server.ask(GENERATE, prompt())
        self.assertIn(answer.headers["x-antigravity-credential"].split("/")[0], ("studio", "accounts"))

    async def test_simulated_gateway_says_how_commands_reach_it(self) -> None:
        """Its state directory is a temporary one, which nobody would guess; the command in the log can be copied."""
        server = await self.gateway(None, arguments=["--simulate"])
        await logged(server, "shows its accounts")
        found = re.search(r"`antigravity (accounts list --state-dir \S+)`", server.printed)
        assert found is not None
        command = [sys.executable, "-m", "gateway.cli", *found[1].split()]
        child = spawn(reactor, command, self.home, {"PYTHONPATH": str(REPOSITORY), "HOME": str(self.home)})
        self.addCleanup(self._gone, child)
        self.assertTrue(await child.ended_within(DEADLINE_SECONDS, reactor), child.printed)
        self.assertRegex(child.printed, r"studio/sim-key-1 +aistudio +ok")

    async def test_simulated_gateway_reaches_both_kinds(self) -> None:
        """Behind ``--simulate`` stand API keys and OAuth accounts; conversations spread over them.

        It takes more than one each: while an account's first token is on its way another credential serves.
        """
        server = await self.gateway(None, arguments=["--simulate"])
        answers = [await server.ask(GENERATE, prompt(f"Question {n}")) for n in range(8)]
        self.assertEqual([answer.status for answer in answers], [200] * 8)
        used = {answer.headers["x-antigravity-credential"] for answer in answers}
        self.assertEqual({name.split("/")[0] for name in used}, {"studio", "accounts"})
        self.assertEqual(len(used), 4)


class RouteTests(DaemonCase):
    """The routes, as clients of all kinds spell them."""

    async def test_health(self) -> None:
        """``GET`` and ``HEAD`` of /healthz, which says no more than ok."""
        server = await self.gateway(None, arguments=["--simulate"])
        got = await server.ask("/healthz")
        asked = await server.ask("/healthz", method="HEAD")
        self.assertEqual((got.status, got.body), (200, b'{"status":"ok"}'))
        self.assertEqual((asked.status, asked.body), (200, b""))
        self.assertEqual(got.headers["x-antigravity-origin"], "gateway")

    async def test_every_spelling_of_a_path_is_served(self) -> None:
        """Prefixes, doubled parts, doubled and trailing slashes and ``%3A`` all reach the one method."""
        server = await self.gateway(None, arguments=["--simulate"])
        call = f"models/{MODEL}:generateContent"
        spellings = [
            f"/v1beta/{call}",
            f"/v1/{call}",
            f"/v1alpha/{call}",
            f"/{call}",
            f"/v1beta1/publishers/google/{call}",
            f"/v1beta/models/{call}",
            f"/v1beta/v1beta/{call}",
            f"//v1beta/{call}",
            f"/v1beta//{call}",
            f"/v1beta/{call}/",
            f"/v1beta/models/{MODEL}%3AgenerateContent",
            f"/v1beta/models/{MODEL}%3agenerateContent?key=whatever",
            f"http://localhost/v1beta/{call}",
        ]
        for spelling in spellings:
            answer = await server.ask(spelling, prompt())
            self.assertEqual((answer.status, answer.json["candidates"][0]["finishReason"]), (200, "STOP"), spelling)

    async def test_models_counts_and_vectors(self) -> None:
        """The list of models, one model, both spellings of countTokens, and embeddings."""
        server = await self.gateway(None, arguments=["--simulate"])
        page = (await server.ask("/v1beta/models?pageSize=2")).json
        self.assertEqual(len(page["models"]), 2)
        rest = (await server.ask(f"/v1beta/models?pageToken={page['nextPageToken']}")).json
        names = [model["name"] for model in page["models"] + rest["models"]]
        self.assertIn(f"models/{MODEL}", names)
        self.assertEqual(len(names), len(set(names)))
        one = (await server.ask(f"/v1beta/models/{MODEL}")).json
        self.assertIn("generateContent", one["supportedGenerationMethods"])
        counts = [
            (await server.ask(f"/v1beta/models/{MODEL}{suffix}", prompt())).json["totalTokens"]
            for suffix in (":countTokens", "/countTokens")
        ]
        self.assertEqual(counts[0], counts[1])
        self.assertGreater(counts[0], 0)
        content = json.dumps({"content": {"parts": [{"text": "Hello"}]}}).encode()
        vector = await server.ask("/v1beta/models/gemini-embedding-001:embedContent", content)
        self.assertGreater(len(vector.json["embedding"]["values"]), 10)

    async def test_what_is_not_served_says_so_in_json(self) -> None:
        """Unknown paths, methods and models, wrong verbs and later features: Google's error shape, never HTML."""
        server = await self.gateway(None, arguments=["--simulate"])
        cases: list[tuple[str, str, bytes | None, int]] = [
            ("GET", "/", None, 404),
            ("GET", "/nothing/here", None, 404),
            ("GET", "/v1beta/models/no-such-model", None, 404),
            ("POST", f"/v1beta/models/{MODEL}:inventContent", prompt(), 404),
            ("GET", GENERATE, None, 405),
            ("DELETE", "/v1beta/models", None, 405),
            ("POST", f"/v1beta/models/{MODEL}:predictLongRunning", prompt(), 501),
            ("GET", "/v1beta/files", None, 501),
            ("POST", "/upload/v1beta/files", b"{}", 501),
            ("BREW", "/v1beta/models", None, 501),
            ("GET", "/v1beta/models/..%2f..", None, 400),
        ]
        for method, target, body, status in cases:
            answer = await server.ask(target, body, method=method)
            self.assertEqual((answer.status, answer.error["code"]), (status, status), f"{method} {target}")
            self.assertTrue(answer.headers["content-type"].startswith("application/json"))
            self.assertEqual("allow" in answer.headers, status == 405)

    async def test_bad_bodies_never_reach_upstream(self) -> None:
        """What is no JSON object, or nested too deep, is 400 with what to do, and blames no credential (L10)."""
        daemon, simulator = await self.both()
        deep = b'{"contents":' + b"[" * 101 + b"]" * 101 + b"}"
        for body in (b"", b"[]", b"{", b'{"a":NaN}', b'{"a":"\xff"}', b'"text"', b'{"a":1}{"b":2}', deep):
            answer = await daemon.ask(GENERATE, body)
            self.assertEqual((answer.status, answer.error["status"]), (400, "INVALID_ARGUMENT"), body[:40])
        self.assertEqual(await simulator.requests(), [])
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)

    async def test_answer_headers_tell_model_credential_and_origin(self) -> None:
        """Each answer names its request, the model an alias became, the credential and who made it."""
        daemon, _ = await self.both("good-1", routing={"aliases": {"gpt-4*": MODEL}})
        answer = await daemon.ask("/v1beta/models/gpt-4o:generateContent", prompt())
        headers = answer.headers
        self.assertEqual(headers["x-antigravity-model"], MODEL)
        self.assertEqual(headers["x-antigravity-credential"], "studio/good-1")
        self.assertEqual(headers["x-antigravity-origin"], "upstream")
        self.assertTrue(headers["x-request-id"])
        self.assertEqual(headers["cache-control"], "no-store")


class DoorTests(DaemonCase):
    """Who is let in, and how much a stranger can make it carry."""

    carriers = (
        ("", (("x-goog-api-key", KEY),)),
        ("", (("Authorization", f"Bearer {KEY}"),)),
        ("", (("x-api-key", KEY),)),
        (f"?key={KEY}", ()),
    )

    async def _with(self, **proxy: Any) -> Server:
        return await self.gateway(None, arguments=["--simulate"], proxy=proxy)

    async def test_every_carrier_of_the_key_is_taken(self) -> None:
        """The key may come in any of four places, and one that fits beside one that does not is enough (L12)."""
        server = await self._with(api_key=KEY)
        for query, headers in self.carriers:
            answer = await server.ask(GENERATE + query, prompt(), headers)
            self.assertEqual(answer.status, 200, (query, headers))
        wrong = (("x-goog-api-key", "wrong"), ("Authorization", f"Bearer {KEY}"))
        self.assertEqual((await server.ask(GENERATE, prompt(), wrong)).status, 200)
        await logged(server, GENERATE)
        self.assertNotIn(KEY, server.printed)

    async def test_strangers_get_401_with_a_challenge(self) -> None:
        """No key and wrong keys in every carrier: one and the same 401, with ``WWW-Authenticate`` (L12)."""
        server = await self._with(api_key=KEY)
        answers = [await server.ask(GENERATE, prompt())]
        for query, headers in self.carriers:
            wrong = [(name, value.replace(KEY, "wrong")) for name, value in headers]
            answers.append(await server.ask(GENERATE + query.replace(KEY, "wrong"), prompt(), wrong))
        for answer in answers:
            self.assertEqual((answer.status, answer.error["status"]), (401, "UNAUTHENTICATED"))
            self.assertIn("Bearer", answer.headers["www-authenticate"])
        self.assertEqual(len({answer.body for answer in answers}), 1)

    async def test_auth_modes(self) -> None:
        """off asks nobody, strict everybody, all_except_health and auto everybody but a health check."""
        expected = {
            "off": (200, 200),
            "strict": (401, 401),
            "all_except_health": (200, 401),
            "auto": (200, 401),
        }
        servers = [await self._with(api_key=KEY, auth_mode=mode) for mode in expected]
        for server, (mode, statuses) in zip(servers, expected.items(), strict=True):
            seen = ((await server.ask("/healthz")).status, (await server.ask(GENERATE, prompt())).status)
            self.assertEqual(seen, statuses, mode)

    async def test_auto_without_a_key_lets_this_machine_in(self) -> None:
        """On loopback and with no key configured, ``auto`` asks for none."""
        server = await self._with(auth_mode="auto")
        self.assertEqual((await server.ask(GENERATE, prompt())).status, 200)

    async def test_authentication_without_a_key_refuses_all_and_says_so(self) -> None:
        """strict with no key configured: everything is 401, and the log at start warns of it."""
        server = await self._with(auth_mode="strict")
        for query, headers in (("", ()), *self.carriers):
            self.assertEqual((await server.ask(GENERATE + query, prompt(), headers)).status, 401)
        await logged(server, "no key is configured")

    async def test_twenty_strangers_with_large_bodies_all_see_their_401(self) -> None:
        """Clients that write 20 MB before they read all get the 401, and the bodies stay out of memory (L8)."""
        server = await self._with(api_key=KEY)
        await server.ask(GENERATE, prompt())
        before = server.peak_rss()
        body = bytes(20_000_000)
        pool = ThreadPool(20, 20)
        pool.start()
        self.addCleanup(pool.stop)
        posts = [deferToThreadPool(reactor, pool, _post_all_then_read, server.port, body) for _ in range(20)]
        answers = await gatherResults(posts, consumeErrors=True)
        grown = server.peak_rss() - before
        statuses = [answer.status for answer in answers]
        print(f"\n401 seen by {statuses.count(401)} of 20 with 20 MB each; peak RSS grew by {grown // 1024} KiB")
        self.assertEqual(statuses, [401] * 20)
        self.assertTrue(all(answer.whole for answer in answers))
        self.assertLess(grown, 20 * 1024 * 1024)

    async def test_expectant_stranger_is_refused_without_100_continue(self) -> None:
        """``Expect: 100-continue`` without a key is answered 401 and never invited to send (L8)."""
        server = await self._with(api_key=KEY)
        connection = await server.connect()
        expect = [("Expect", "100-continue")]
        connection.write(head(GENERATE, bytes(1_000_000), expect))
        await connection.has(b"CLIENT_KEY_INVALID")
        self.assertEqual(parsed(bytes(connection.received)).status, 401)
        self.assertNotIn(b"100 Continue", connection.received)
        connection.leave()

    async def test_body_over_the_limit_is_413_before_it_is_read(self) -> None:
        """Content-Length beyond ``limits.body``: 413 at the end of the head, with no 100 and nothing upstream (L8)."""
        daemon, simulator = await self.both(limits={"body": 10_000})
        connection = await daemon.connect()
        connection.write(head(GENERATE, bytes(10_001), [("Expect", "100-continue")]))
        await connection.has(b"}")
        self.assertEqual(parsed(bytes(connection.received)).status, 413)
        self.assertNotIn(b"100 Continue", connection.received)
        connection.leave()
        whole = await daemon.ask(GENERATE, b" " * 10_001)
        self.assertEqual((whole.status, whole.reasons), (413, ["BODY_TOO_LARGE"]))
        self.assertEqual(await simulator.requests(), [])

    async def test_chunked_body_over_the_limit_is_413(self) -> None:
        """A chunked body is refused as soon as it has passed the limit, however much is still to come (L8)."""
        server = await self.gateway(None, arguments=["--simulate"], limits={"body": 10_000})
        connection = await server.connect()
        connection.write(head(GENERATE, None, [("Transfer-Encoding", "chunked")], method="POST"))
        for _ in range(11):
            connection.write(b"3e8\r\n" + b" " * 1000 + b"\r\n")
        await connection.has(b"BODY_TOO_LARGE")
        connection.write(b"0\r\n\r\n")
        self.assertEqual((await connection.ended()).status, 413)

    async def test_target_and_head_have_limits(self) -> None:
        """A target above 8 KiB is 414, a head above 16 KiB or 100 fields 431, both in JSON (L9)."""
        server = await self.gateway(None, arguments=["--simulate"])
        cases: list[tuple[str, list[tuple[str, str]], int]] = [
            ("/v1beta/models?x=" + "y" * 8200, [], 414),
            ("/v1beta/models", [("x-padding", "y" * 15_000), ("x-more", "y" * 2000)], 431),
            ("/v1beta/models", [(f"x-{n}", "y") for n in range(120)], 431),
        ]
        for target, headers, status in cases:
            answer = await server.ask(target, None, headers)
            self.assertEqual((answer.status, answer.error["code"]), (status, status))


class RotationTests(DaemonCase):
    """Which credential serves, and what happens to those that do not."""

    async def _started(self, path: Path) -> Server:
        """Start the daemon on a configuration that is already written."""
        server = Server(self.twistd("antigravity", "--config", str(path)), int(path.stem.rpartition("-")[2]))
        await server.started()
        return server

    async def test_rotation_over_three_credentials_of_which_two_fail(self) -> None:
        """One key is bad, one out of quota: the third answers every request, and the others are left alone (U2, U9)."""
        daemon, simulator = await self.both("bad-1", "spent-2", "good-3")
        await simulator.fault("status", reason="PER_MINUTE", match={"credential": "spent-2"})
        answers = [await daemon.ask(GENERATE, prompt(f"Question {n}")) for n in range(6)]
        self.assertEqual([answer.status for answer in answers], [200] * 6)
        self.assertEqual({answer.headers["x-antigravity-credential"] for answer in answers}, {"studio/good-3"})
        used = await simulator.credentials()
        self.assertEqual([used.count(key) for key in ("bad-1", "spent-2", "good-3")], [1, 1, 6])
        await logged(daemon, "API_KEY_INVALID")

    async def test_rotation_of_streams_happens_before_the_first_byte(self) -> None:
        """A stream that fails on two credentials comes whole from the third, in both framings."""
        for target in (SSE, ARRAY):
            daemon, simulator = await self.both("first", "second", "third")
            for key in ("first", "second"):
                await simulator.fault("status", code=500 if key == "first" else 429, match={"credential": key})
            answer = await daemon.ask(target, prompt())
            self.assertEqual((answer.status, answer.whole), (200, True))
            self.assertIn(b"That is all.", answer.body)

    async def test_accounts_rotate_and_keep_their_new_refresh_tokens(self) -> None:
        """Two of three accounts fail; the third serves, and its rotated refresh token is on disk, 0600 (U4)."""
        simulator = await self.simulator()
        await simulator.control("POST", "tokens", {"rotate": True, "revoke": ["1//revoked"]})
        spent = {"face": "codeassist", "credential": "1//spent"}
        await simulator.fault("status", reason="QUOTA_EXHAUSTED", match=spent)
        path, accounts = _with_accounts(self, simulator.url)
        secret(accounts / "a.json", json.dumps({"name": "a", "refresh_token": "1//revoked", "project": "p-a"}))
        # The form that users bring along, and a member of their own that has to stay.
        imported = [
            {"email": "b@example.com", "refresh_token": "1//spent", "project": "p-b"},
            {"email": "c@example.com", "refresh_token": "1//good", "project": "p-c", "note": "mine"},
        ]
        secret(accounts / "b.json", json.dumps({"accounts": imported}))
        daemon = await self._started(path)
        answers = [await daemon.ask(GENERATE, prompt(f"Question {n}")) for n in range(4)]
        self.assertEqual([answer.status for answer in answers], [200] * 4)
        self.assertEqual(await simulator.credentials(), ["1//spent", *["1//good"] * 4])
        names = {answer.headers["x-antigravity-credential"] for answer in answers}
        self.assertEqual(len(names), 1)
        self.assertNotIn("example.com", names.pop())
        saved = json.loads((accounts / "b.json").read_text())["accounts"]
        self.assertTrue(all(entry["refresh_token"].startswith("1//sim-") for entry in saved), saved)
        self.assertEqual([entry["email"] for entry in saved], ["b@example.com", "c@example.com"])
        self.assertEqual(saved[1]["note"], "mine")
        self.assertEqual((accounts / "b.json").stat().st_mode & 0o777, 0o600)
        self.assertEqual(json.loads((accounts / "a.json").read_text())["refresh_token"], "1//revoked")
        state = await simulator.control("GET", "state")
        self.assertEqual(state["refresh_calls_by_account"], {"1//revoked": 1, "1//spent": 1, "1//good": 1})
        self.assertNotIn("1//", daemon.printed)

    async def test_saved_refresh_token_is_used_after_a_restart(self) -> None:
        """The old refresh token is dead after its rotation; the next start goes on with the one on disk."""
        simulator = await self.simulator()
        await simulator.control("POST", "tokens", {"rotate": True})
        path, accounts = _with_accounts(self, simulator.url)
        secret(accounts / "a.json", json.dumps({"name": "a", "refresh_token": "1//first", "project": "p"}))
        for _ in range(2):
            daemon = await self._started(path)
            self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)
            daemon.child.signal("TERM")
            self.assertTrue(await daemon.child.ended_within(DEADLINE_SECONDS, reactor))

    async def test_expired_tokens_are_refreshed_once_for_everybody(self) -> None:
        """A hundred requests meet a dead token: one refresh, and no client sees upstream's 401 (U4)."""
        simulator = await self.simulator()
        path, accounts = _with_accounts(self, simulator.url)
        secret(accounts / "a.json", json.dumps({"name": "a", "refresh_token": "1//first", "project": "p"}))
        daemon = await self._started(path)
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)
        await simulator.control("POST", "tokens", {"expire": "*"})
        asked = [_started(daemon.ask(GENERATE, prompt(f"Question {n}"))) for n in range(100)]
        answers = await gatherResults(asked, consumeErrors=True)
        self.assertEqual([answer.status for answer in answers], [200] * 100)
        state = await simulator.control("GET", "state")
        self.assertEqual(state["refresh_calls"], 2)

    async def test_next_base_is_tried(self) -> None:
        """A base that is down or failing gives way to the next one, on the same credential (C1, U13)."""
        simulator = await self.simulator()
        failing = f"{simulator.url}/nothing-here"
        daemon = await self.gateway({"studio": aistudio(NOBODY, failing, simulator.url)})
        answers = [await daemon.ask(GENERATE, prompt(f"Question {n}")) for n in range(3)]
        self.assertEqual([answer.status for answer in answers], [200] * 3)

    async def test_session_stays_and_moves_with_a_rotation(self) -> None:
        """A conversation stays on its credential over its turns, moves when that one fails, and stays there."""
        daemon, simulator = await self.both("first", "second", "third")
        turns = [{"role": "user", "parts": [{"text": "Let us talk."}]}]
        used = []
        for turn in range(8):
            if turn == 4:
                await simulator.fault("status", reason="PER_MINUTE", match={"credential": used[0]})
            # Others come between, and would move a conversation that is not held.
            await daemon.ask(GENERATE, prompt(f"Something else {turn}"))
            answer = await daemon.ask(GENERATE, json.dumps({"contents": turns}).encode())
            self.assertEqual(answer.status, 200)
            used.append(answer.headers["x-antigravity-credential"].removeprefix("studio/"))
            turns.append(answer.json["candidates"][0]["content"])
            turns.append({"role": "user", "parts": [{"text": f"And turn {turn}?"}]})
        self.assertEqual(len(set(used[:4])), 1, used)
        self.assertEqual(len(set(used[4:])), 1, used)
        self.assertNotEqual(used[0], used[4])

    async def test_session_header_names_a_session(self) -> None:
        """Requests with one ``X-Session-Id`` stay together whatever they say."""
        daemon, _ = await self.both("first", "second", "third")
        headers = [("X-Session-Id", "mine")]
        used = set()
        for n in range(5):
            await daemon.ask(GENERATE, prompt(f"Something else {n}"))
            used.add((await daemon.ask(GENERATE, prompt(f"Question {n}"), headers)).headers["x-antigravity-credential"])
        self.assertEqual(len(used), 1)

    async def test_cool_down_is_of_one_model(self) -> None:
        """A credential out of quota for one model still serves another (U9)."""
        daemon, simulator = await self.both("only")
        await simulator.fault("status", reason="PER_MINUTE", match={"model": MODEL})
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 429)
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 429)
        other = GENERATE.replace(MODEL, "gemini-2.5-pro")
        self.assertEqual((await daemon.ask(other, prompt())).status, 200)
        models = [entry["model"] for entry in await simulator.requests()]
        self.assertEqual(models, [MODEL, "gemini-2.5-pro"])

    async def test_short_cool_down_ends(self) -> None:
        """After the delay that upstream named, the credential serves again, and not before (U9)."""
        daemon, simulator = await self.both("only")
        await simulator.fault("status", reason="PER_MINUTE", seconds=1.0, times=1)
        first = await daemon.ask(GENERATE, prompt())
        since = reactor.seconds()
        self.assertEqual(first.status, 429)
        while (answer := await daemon.ask(GENERATE, prompt())).status != 200:
            self.assertEqual(answer.status, 429)
            self.assertLess(reactor.seconds() - since, DEADLINE_SECONDS)
            await deferLater(reactor, POLL_SECONDS)
        self.assertGreater(reactor.seconds() - since, 0.9)
        self.assertEqual(len(await simulator.requests()), 2)

    async def test_all_cooling_is_429_with_the_time_to_wait(self) -> None:
        """Everybody out of quota: upstream's 429 first, ours then, both with Retry-After of the earliest (K4)."""
        daemon, simulator = await self.both("first", "second")
        await simulator.fault("status", reason="PER_MINUTE", seconds=50, match={"credential": "first"})
        await simulator.fault("status", reason="PER_MINUTE", seconds=20, match={"credential": "second"})
        theirs = await daemon.ask(GENERATE, prompt())
        ours = await daemon.ask(GENERATE, prompt())
        self.assertEqual([theirs.status, ours.status], [429, 429])
        for answer in (theirs, ours):
            self.assertTrue(15 <= int(answer.headers["retry-after"]) <= 25, answer.headers)
        self.assertEqual(theirs.headers["x-antigravity-origin"], "upstream")
        self.assertEqual(ours.headers["x-antigravity-origin"], "gateway")
        self.assertEqual(ours.error["status"], "RESOURCE_EXHAUSTED")
        self.assertTrue(any(entry["@type"].endswith("RetryInfo") for entry in ours.error["details"]))
        self.assertEqual(len(await simulator.requests()), 2)

    async def test_attempts_have_a_limit(self) -> None:
        """With five failing credentials a request tries three, and lists them in its error's details."""
        daemon, simulator = await self.both(*(f"key-{n}" for n in range(5)))
        await simulator.fault("status", reason="PER_MINUTE")
        answer = await daemon.ask(GENERATE, prompt())
        self.assertEqual(answer.status, 429)
        self.assertEqual(len(set(await simulator.credentials())), 3)
        tried = next(entry for entry in answer.error["details"] if entry.get("reason") == "ATTEMPTS")
        self.assertEqual(len(tried["metadata"]), 3)


class UpstreamErrorTests(DaemonCase):
    """What a client sees of an upstream's error."""

    async def test_clients_own_mistake_is_passed_on_once(self) -> None:
        """A 400 about the request comes as it is, after one attempt, and blames nobody (U1)."""
        daemon, simulator = await self.both("first", "second")
        await simulator.fault("status", reason="INVALID_ARGUMENT", times=1)
        answer = await daemon.ask(GENERATE, prompt())
        self.assertEqual((answer.status, answer.headers["x-antigravity-origin"]), (400, "upstream"))
        self.assertEqual(answer.error["message"], "Request contains an invalid argument.")
        again = await daemon.ask(GENERATE, prompt())
        self.assertEqual(again.status, 200)
        self.assertEqual(len(await simulator.requests()), 2)

    async def test_error_of_a_stream_is_an_object_in_both_framings(self) -> None:
        """Before the first event an error is a status and one JSON object, for arrays too."""
        daemon, simulator = await self.both()
        await simulator.fault("status", reason="INVALID_ARGUMENT")
        for target in (SSE, ARRAY):
            answer = await daemon.ask(target, prompt())
            self.assertEqual((answer.status, answer.error["code"]), (400, 400))
            self.assertTrue(answer.headers["content-type"].startswith("application/json"))

    async def test_bad_keys_are_the_operators_business(self) -> None:
        """All keys bad: 503, nothing about upstream's 400, and no further request goes out (U2, K5)."""
        daemon, simulator = await self.both("bad-1", "bad-2")
        answers = [await daemon.ask(GENERATE, prompt()) for _ in range(3)]
        for answer in answers:
            self.assertEqual((answer.status, answer.reasons[0]), (503, "UPSTREAM_CREDENTIALS_UNAVAILABLE"))
            self.assertNotIn(b"API key", answer.body)
            self.assertNotIn("retry-after", answer.headers)
        self.assertEqual(len(await simulator.requests()), 2)
        self.assertEqual((await daemon.ask("/healthz")).status, 200)

    async def test_disabled_service_takes_the_credential_out(self) -> None:
        """403 SERVICE_DISABLED on one credential: the next answers, and the first is not asked again (U5)."""
        daemon, simulator = await self.both("off-1", "good-2")
        await simulator.fault("status", reason="SERVICE_DISABLED", match={"credential": "off-1"})
        for n in range(4):
            self.assertEqual((await daemon.ask(GENERATE, prompt(f"Question {n}"))).status, 200)
        self.assertEqual((await simulator.credentials()).count("off-1"), 1)

    async def test_unknown_and_forbidden_models_are_passed_on(self) -> None:
        """Upstream decides about models: its 404 and its 403 come through, and the pool stays whole (U7)."""
        daemon, simulator = await self.both("first", "second")
        unknown = await daemon.ask(GENERATE.replace(MODEL, "gemini-99"), prompt())
        self.assertEqual((unknown.status, unknown.headers["x-antigravity-origin"]), (404, "upstream"))
        await simulator.fault("status", reason="MODEL_FORBIDDEN", match={"model": "gemini-2.5-pro"})
        forbidden = await daemon.ask(GENERATE.replace(MODEL, "gemini-2.5-pro"), prompt())
        self.assertEqual((forbidden.status, forbidden.error["status"]), (403, "PERMISSION_DENIED"))
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)

    async def test_internal_error_is_tried_once_more_and_passed_on(self) -> None:
        """500: a second credential is tried and no third; one that recovers is never seen (U12)."""
        daemon, simulator = await self.both("first", "second", "third")
        await simulator.fault("status", code=500, times=1)
        self.assertEqual((await daemon.ask(GENERATE, prompt("One"))).status, 200)
        await simulator.clear()
        await simulator.fault("status", code=500)
        answer = await daemon.ask(GENERATE, prompt("Two"))
        self.assertEqual((answer.status, answer.error["status"]), (500, "INTERNAL"))
        self.assertEqual(len(await simulator.requests()), 4)
        await simulator.clear()
        used = [(await daemon.ask(GENERATE, prompt(f"Question {n}"))).status for n in range(3)]
        self.assertEqual(used, [200] * 3)

    async def test_overload_is_tried_elsewhere_and_passed_on(self) -> None:
        """503 on every attempt comes through as upstream's own, with its Retry-After (U13)."""
        daemon, simulator = await self.both("first", "second")
        await simulator.fault("status", code=503, headers={"Retry-After": "7"})
        answer = await daemon.ask(GENERATE, prompt())
        self.assertEqual((answer.status, answer.headers["x-antigravity-origin"]), (503, "upstream"))
        self.assertEqual(answer.error["message"], "The model is overloaded. Please try again later.")
        self.assertEqual(answer.headers["retry-after"], "7")
        self.assertEqual(set(await simulator.credentials()), {"first", "second"})

    async def test_redirect_is_never_followed(self) -> None:
        """A redirect ends as 502, and the place that it names gets no byte, not even a connection (U16)."""
        daemon, simulator = await self.both("first", "second")
        elsewhere = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(elsewhere.close)
        elsewhere.setblocking(False)
        place = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/v1beta/models/{MODEL}:generateContent"
        for code in (301, 302, 303, 307, 308):
            await simulator.fault("redirect", location=place, code=code, times=1)
            answer = await daemon.ask(GENERATE, prompt())
            self.assertEqual((answer.status, answer.reasons[0]), (502, "UPSTREAM_REDIRECT"), code)
        self.assertRaises(BlockingIOError, elsewhere.accept)
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)

    async def test_unreachable_upstream_is_503_and_blames_no_credential(self) -> None:
        """Nobody listens at upstream's port: 503; as soon as somebody does, the same credentials serve (C1)."""
        port = free_port()
        daemon = await self.gateway({"studio": aistudio(f"http://127.0.0.1:{port}", keys=["one", "two"])})
        answer = await daemon.ask(GENERATE, prompt())
        self.assertEqual((answer.status, answer.error["status"]), (503, "UNAVAILABLE"))
        child = self.twistd("antigravity-simulator", "--port", str(port))
        simulator = Simulator(child, port)
        await simulator.started()
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)

    async def test_slow_unary_answer_is_504_and_not_repeated(self) -> None:
        """A unary call that times out is not sent again, and upstream sees its connection close (C5)."""
        daemon, simulator = await self.both("first", "second", timeouts={"first_byte_unary": 0.4})
        await simulator.fault("stall")
        answer = await daemon.ask(GENERATE, prompt())
        self.assertEqual((answer.status, answer.error["status"]), (504, "DEADLINE_EXCEEDED"))
        found = await simulator.seen(lambda found: bool(found[-1]["ended"]))
        self.assertEqual([entry["ended"] for entry in found], ["left"])

    async def test_clients_own_patience_shortens_the_wait(self) -> None:
        """``X-Server-Timeout`` ends the wait earlier than the configuration would (C5)."""
        daemon, simulator = await self.both()
        await simulator.fault("stall")
        before = reactor.seconds()
        answer = await daemon.ask(GENERATE, prompt(), [("X-Server-Timeout", "0.4")])
        self.assertEqual(answer.status, 504)
        self.assertLess(reactor.seconds() - before, 10)


def _started(coroutine: Any) -> Any:
    """Let a coroutine run beside others."""
    from twisted.internet.defer import Deferred

    return Deferred.fromCoroutine(coroutine)


def _with_accounts(case: DaemonCase, base: str) -> tuple[Path, Path]:
    """Write a configuration of one codeassist upstream; return the file and the directory of its accounts."""
    accounts = case.home / "state" / "accounts"
    for directory in (accounts.parent, accounts):
        directory.mkdir(mode=0o700)
    upstream = {
        "kind": "codeassist",
        "base_urls": [f"{base}/v1internal"],
        "oauth": {"client_id": "an-id", "client_secret": "a-secret", "token_url": f"{base}/token"},
    }
    path, _ = case.configured({"accounts": upstream}, state_dir=str(accounts.parent))
    return path, accounts


def _post_all_then_read(port: int, body: bytes) -> Answer:
    """Do as a simple client does: write the whole body, whatever comes meanwhile, and read then.  Blocks."""
    with socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS) as client:
        client.sendall(head(GENERATE, body) + body)
        data = b""
        while chunk := client.recv(65536):
            data += chunk
    return parsed(data)
