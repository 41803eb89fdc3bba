"""The daemon watched: its pages and metrics while it works, halts, drains, and is blocked.  Opens sockets."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import deferLater

from gateway.operations.exposition import COUNTERS, GAUGES
from gateway.operations.watching import CONNECTIONS_MOST
from tests.clients.daemon import free_port
from tests.processes import (
    AGENT,
    GENERATE,
    MODEL,
    SSE,
    DaemonCase,
    Server,
    Simulator,
    aistudio,
    logged,
    prompt,
    reactor,
    until,
)

TOKEN = "a-watchers-token"
Samples = dict[tuple[str, ...], float]


class WatchCase(DaemonCase):
    """A daemon before a simulator, and the port of its watchers."""

    daemon: Server
    google: Simulator
    pages: Server

    async def begin(self, *keys: str, **sections: Any) -> None:
        port = free_port()
        sections.setdefault("admin", {"listen": f"tcp:{port}:interface=127.0.0.1"})
        self.daemon, self.google = await self.both(*keys, **sections)
        self.pages = Server(self.daemon.child, port)

    async def samples(self) -> Samples:
        """All samples by name and the values of their labels, in the labels' order."""
        page = (await self.pages.ask("/metrics")).body.decode()
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }

    async def ready(self) -> tuple[int, str]:
        answer = await self.pages.ask("/readyz")
        return answer.status, answer.json.get("reason", "")


class PageTests(WatchCase):
    async def test_what_happens_is_counted(self) -> None:
        """Requests, attempts, upstream's errors, broken streams, tokens, connections, states."""
        await self.begin("good-1", "good-2")
        await self.google.fault("status", code=500, times=1)
        self.assertEqual((await self.daemon.ask(GENERATE, prompt())).status, 200)
        self.assertEqual((await self.daemon.ask("/nowhere")).status, 404)
        await self.google.fault("reset", after=2, times=1)
        self.assertFalse((await self.daemon.ask(SSE, prompt())).whole)
        await self.google.fault("endless", pace=0.05)
        stream = await self.daemon.begin(SSE, prompt())
        await stream.has(b"data: ")
        found = await self.samples()
        self.assertEqual((found["agw_requests_in_flight",], found["agw_streams_open",]), (1, 1))
        # Twisted's own agent does not say how many it has.
        busy = found.get(("agw_upstream_connections", "busy", "studio"))
        self.assertEqual(busy, None if AGENT == "stock" else 1)
        self.assertGreaterEqual(found["agw_connections",], 1)
        stream.leave()
        await logged(self.daemon, "CLIENT_LEFT")
        found = await self.samples()
        self.assertEqual(found["agw_requests_total", "404", "gateway"], 1)
        self.assertEqual(found["agw_requests_total", "200", "upstream"], 3)
        self.assertEqual(found["agw_upstream_errors_total", "500"], 1)
        self.assertEqual(found["agw_clients_left_total",], 1)
        truncated = [one for one in found if one[0] == "agw_streams_truncated_total"]
        self.assertEqual([found[one] for one in truncated], [1])
        self.assertGreater(found["agw_tokens_total", "prompt", MODEL], 0)
        self.assertEqual(found["agw_ttft_seconds_count", MODEL], 2)
        self.assertEqual(found["agw_errors_total", "gateway", "ROUTE_UNKNOWN"], 1)
        self.assertEqual(found["agw_key_requests_total", "anonymous", "ok"], 1)
        self.assertEqual(found["agw_streams_open",], 0)
        self.assertEqual(found.get(("agw_upstream_connects_total", "studio"), 0) > 0, AGENT != "stock")
        self.assertGreater(found["process_resident_memory_bytes",], 0)
        states = {one[1:]: value for one, value in found.items() if one[0] == "agw_credential_state"}
        self.assertEqual({state for _, state, _ in states}, {"ok"})
        self.assertEqual(found["agw_ready",], 1)
        for name in (*GAUGES, *(f"{name}_total" for name in COUNTERS)):
            self.assertIn((f"agw_{name}",), found)
        status = (await self.pages.ask("/status")).json
        self.assertEqual((status["ready"], status["upstreams"][0]["usable"]), (True, 2))
        for secret in ("good-1", "good-2"):
            self.assertNotIn(f'"{secret}"', str(status))

    async def test_large_pool_is_told_as_well(self) -> None:
        """By a thread; whoever leaves before it is through is no trouble."""
        await self.begin(*(f"good-{number}" for number in range(300)))
        left = await self.pages.begin("/metrics")
        left.leave()
        found = await self.samples()
        self.assertEqual(sum(one[0] == "agw_credential_state" for one in found), 300)
        self.assertEqual((await self.daemon.ask(GENERATE, prompt())).status, 200)

    async def test_readiness_follows_the_credentials(self) -> None:
        """Without a usable one /readyz is 503 and /healthz 200, on both sides (K5)."""
        await self.begin()
        self.assertEqual(await self.ready(), (200, ""))
        await self.google.fault("status", reason="API_KEY_INVALID")
        self.assertEqual((await self.daemon.ask(GENERATE, prompt())).status, 503)
        self.assertEqual(await self.ready(), (503, "UPSTREAM_CREDENTIALS_UNAVAILABLE"))
        told = (await self.pages.ask("/readyz")).json
        self.assertEqual([(one["name"], one["usable"]) for one in told["upstreams"]], [("studio", 0)])
        (credential,) = told["credentials"]
        self.assertEqual((credential["state"], credential["reason"]), ("quarantined", "API_KEY_INVALID"))
        self.assertEqual((await self.pages.ask("/healthz")).status, 200)
        self.assertEqual((await self.daemon.ask("/healthz")).status, 200)
        found = await self.samples()
        self.assertEqual(found["agw_ready",], 0)
        self.assertEqual(found["agw_quarantines_total", "studio"], 1)

    async def test_a_halted_pool_is_not_ready(self) -> None:
        """Two accounts refused for terms of service: 503 POOL_HALTED, and the gauge says which upstream (U6)."""
        await self.begin("good-1", "good-2", "good-3")
        await self.google.fault("status", reason="TERMS_OF_SERVICE")
        await self.daemon.ask(GENERATE, prompt())
        self.assertEqual(await self.ready(), (503, "POOL_HALTED"))
        self.assertEqual((await self.samples())["agw_pool_halted", "studio"], 1)

    async def test_readiness_goes_first_when_the_end_begins(self) -> None:
        """While it drains the pages are there, and say that it does (P1)."""
        await self.begin()
        await self.google.fault("stall", after=1, seconds=1.0)
        stream = await self.daemon.begin(SSE, prompt())
        await stream.has(b"data: ")
        self.daemon.child.signal("TERM")
        await logged(self.daemon, "waiting up to")
        self.assertEqual(await self.ready(), (503, "DRAINING"))
        self.assertEqual((await self.samples())["agw_draining",], 1)
        self.assertTrue((await stream.ended()).whole)
        self.assertTrue(await self.daemon.child.ended_within(10, reactor))

    async def test_a_token_opens_the_pages_to_others(self) -> None:
        """S4: beyond loopback they ask for it, and without it there is no start."""
        port = free_port()
        await self.begin(admin={"listen": f"tcp:{port}:interface=0.0.0.0", "token": TOKEN})
        self.pages = Server(self.daemon.child, port)
        self.assertEqual((await self.pages.ask("/metrics")).status, 401)
        shown = await self.pages.ask("/metrics", headers=[("Authorization", f"Bearer {TOKEN}")])
        self.assertEqual(shown.status, 200)
        self.assertNotIn(TOKEN, self.daemon.printed)
        path, _ = self.configured({"studio": aistudio(self.google.url)}, admin={"listen": f"tcp:{port}"})
        child = await self.run_to_end("antigravity", "--config", str(path))
        self.assertEqual(child.exit_code, 78)
        self.assertIn("admin.token", child.printed)

    async def test_a_flood_of_watchers_is_capped(self) -> None:
        """What comes beyond the cap is closed at once, clients are served, and who goes makes room."""
        await self.begin()
        held = [await self.pages.connect() for _ in range(CONNECTIONS_MOST)]
        beyond = [await self.pages.connect() for _ in range(5)]
        for one in beyond:
            await one.until(lambda one=one: one.over)
        self.assertFalse(any(one.over for one in held))
        self.assertEqual((await self.daemon.ask(GENERATE, prompt())).status, 200)
        for one in held:
            one.leave()
        await until(lambda: all(one.over for one in held))
        self.assertEqual((await self.pages.ask("/healthz")).status, 200)

    async def test_a_watchers_port_that_is_taken_ends_the_start(self) -> None:
        """If it was written; the default is left out, and one line says so (P12)."""
        path, port = self.configured({"studio": aistudio("http://127.0.0.1:1")}, admin={})
        with contextlib.ExitStack() as held:
            # Perhaps somebody else has it already, which is as good.
            with contextlib.suppress(OSError):
                held.enter_context(socket.create_server(("127.0.0.1", 8046)))
            server = Server(self.twistd("antigravity", "--config", str(path)), port)
            await server.started()
            await logged(server, "there are no metrics")
        taken = free_port()
        path, _ = self.configured(
            {"studio": aistudio("http://127.0.0.1:1")}, admin={"listen": f"tcp:{taken}:interface=127.0.0.1"}
        )
        with socket.create_server(("127.0.0.1", taken)):
            child = await self.run_to_end("antigravity", "--config", str(path))
        self.assertEqual(child.exit_code, 1, child.printed)
        self.assertEqual(child.printed.count(f"cannot listen on tcp:{taken}"), 1)


class ReactorTests(WatchCase):
    async def test_a_blocked_reactor_is_counted_and_the_log_says_where(self) -> None:
        """A name look-up that hangs in the reactor's own thread shows in metric and log (P14)."""
        await self.begin()
        # The one thing in the daemon that reads a file in the reactor's thread: a configuration that is a pipe.
        pipe = self.home / "pipe"
        os.mkfifo(pipe)
        path = next(self.home.glob(f"antigravity-{self.daemon.port}.yaml"))
        text = path.read_text()
        path.unlink()
        path.symlink_to(pipe)
        self.daemon.child.signal("HUP")
        await deferLater(reactor, 1.0)
        # Whoever opens it for reading waits until somebody writes.
        pipe.write_text(text)
        await logged(self.daemon, "the reactor was blocked for ")
        self.assertIn("_reload", self.daemon.printed)
        found = await self.samples()
        self.assertEqual(found["agw_reactor_blocked_total",], 1)
        self.assertGreater(found["agw_reactor_lag_max_seconds",], 0.25)
        self.assertEqual((await self.daemon.ask(GENERATE, prompt())).status, 200)

    async def test_a_stopped_process_is_not_a_blocked_one(self) -> None:
        """SIGSTOP and SIGCONT: it goes on where it was, and nothing is said of a blocked reactor (P15, P14)."""
        await self.begin()
        pid = self.daemon.child.transport.pid
        os.kill(pid, signal.SIGSTOP)
        await deferLater(reactor, 1.5)
        os.kill(pid, signal.SIGCONT)
        self.assertEqual((await self.daemon.ask(GENERATE, prompt())).status, 200)
        self.assertEqual((await self.samples())["agw_reactor_blocked_total",], 0)

    async def test_a_rest_goes_on_while_the_process_is_stopped(self) -> None:
        """After SIGCONT a credential whose rest is over meanwhile is used at once (P15)."""
        await self.begin()
        await self.google.fault("status", reason="PER_MINUTE", seconds=1.0, times=1)
        self.assertEqual((await self.daemon.ask(GENERATE, prompt())).status, 429)
        pid = self.daemon.child.transport.pid
        os.kill(pid, signal.SIGSTOP)
        # The rest, and the fifth of it that may be added.
        await deferLater(reactor, 1.3)
        os.kill(pid, signal.SIGCONT)
        self.assertEqual((await self.daemon.ask(GENERATE, prompt())).status, 200)

    async def test_signals_that_mean_nothing_are_survived(self) -> None:
        """SIGPIPE, and SIGUSR1 without a file (P15)."""
        await self.begin()
        for number in (signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR1):
            os.kill(self.daemon.child.transport.pid, number)
        self.assertEqual((await self.daemon.ask(GENERATE, prompt())).status, 200)
        self.assertTrue(self.daemon.child.running)

    async def test_the_watchdogs_signal_tells_where_it_stood(self) -> None:
        """P14: SIGABRT, as systemd sends it to a process that is stuck, has it write its stacks and no values."""
        await self.begin()
        os.kill(self.daemon.child.transport.pid, signal.SIGABRT)
        self.assertTrue(await self.daemon.child.ended_within(10, reactor))
        self.assertEqual(self.daemon.child.exit_code, -signal.SIGABRT)
        self.assertIn("Fatal Python error: Aborted", self.daemon.printed)
        self.assertIn("turns.py", self.daemon.printed)

    async def test_there_are_no_core_dumps(self) -> None:
        """S15: the limit is 0 from the start, and nobody can raise it again."""
        await self.begin()
        core = resource.prlimit(self.daemon.child.transport.pid, resource.RLIMIT_CORE)
        self.assertEqual(core, (0, 0))
