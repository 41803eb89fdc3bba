"""The daemon's end: what SIGTERM and SIGINT do, once and twice, in the foreground and behind it.  Opens sockets."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults

from tests.processes import GENERATE, SSE, DaemonCase, Server, aistudio, kill, listens, logged, prompt, reactor, until

KEPT = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
"""A request whose connection may be used again."""


class StopTests(DaemonCase):
    async def ends_well(self, server: Server, seconds: float = 10) -> None:
        """Check that a daemon ends by itself, with status 0."""
        self.assertTrue(await server.child.ended_within(seconds, reactor), server.printed)
        self.assertEqual(server.child.exit_code, 0, server.printed)

    async def test_sigterm_lets_requests_end(self) -> None:
        """On SIGTERM it stops listening, waits for a unary answer and a stream under way, and exits 0 (P1)."""
        daemon, simulator = await self.both()
        await simulator.fault("stall", after=1, seconds=1.0)
        unary = await daemon.begin(GENERATE, prompt())
        stream = await daemon.begin(SSE, prompt())
        await stream.has(b"data: ")
        await simulator.seen(lambda found: len(found) == 2)
        daemon.child.signal("TERM")
        await until(lambda: not listens(daemon.port))
        self.assertFalse(unary.over)
        self.assertEqual([(await one.ended()).whole for one in (unary, stream)], [True, True])
        await self.ends_well(daemon)

    async def test_what_is_answered_meanwhile_says_that_it_is_the_last(self) -> None:
        """A connection that is kept alive gets ``Connection: close`` with its next answer, and closes (P1)."""
        daemon, simulator = await self.both()
        await simulator.fault("stall", seconds=0.7)
        waiting = await daemon.begin(GENERATE, prompt())
        kept = await daemon.connect()
        kept.write(KEPT)
        await kept.has(b'{"status":"ok"}')
        self.assertNotIn(b"Connection: close", kept.received)
        await simulator.seen(lambda found: len(found) == 1)
        daemon.child.signal("TERM")
        await until(lambda: not listens(daemon.port))
        kept.write(KEPT)
        await kept.until(lambda: kept.over)
        self.assertEqual(kept.received.count(b'{"status":"ok"}'), 2)
        self.assertIn(b"Connection: close", kept.received)
        self.assertEqual((await waiting.ended()).headers["connection"], "close")
        await self.ends_well(daemon)

    async def test_drain_has_an_end(self) -> None:
        """What is still under way after ``timeouts.drain`` is cut off visibly; the status is 0 all the same (P1)."""
        daemon, simulator = await self.both(timeouts={"drain": 0.5})
        await simulator.fault("endless", pace=0.05)
        stream = await daemon.begin(SSE, prompt())
        await stream.has(b"data: ")
        daemon.child.signal("TERM")
        self.assertFalse((await stream.ended(10)).whole)
        await self.ends_well(daemon)
        self.assertIn(" 200 GATEWAY_STOPPED ", daemon.printed)

    async def test_second_sigterm_ends_at_once(self) -> None:
        """It does not wait for the drain; what is cut off is cut off visibly, and the state is flushed (P1)."""
        daemon, simulator = await self.both(timeouts={"drain": 60})
        await simulator.fault("endless", pace=0.05)
        stream = await daemon.begin(SSE, prompt())
        await stream.has(b"data: ")
        daemon.child.signal("TERM")
        await logged(daemon, "waiting up to 60 s for requests to end: 1")
        daemon.child.signal("TERM")
        before = reactor.seconds()
        self.assertFalse((await stream.ended(10)).whole)
        await self.ends_well(daemon)
        self.assertLess(reactor.seconds() - before, 10)
        self.assertTrue((self.home / f"state-{daemon.port}" / "standing.json").exists())

    async def test_sigint_does_as_sigterm(self) -> None:
        """Ctrl-C in the foreground drains, and a second one ends at once (P1, P15)."""
        daemon, simulator = await self.both()
        await simulator.fault("endless", pace=0.05)
        stream = await daemon.begin(SSE, prompt())
        await stream.has(b"data: ")
        daemon.child.signal("INT")
        await logged(daemon, "waiting up to")
        self.assertFalse(stream.over)
        daemon.child.signal("INT")
        self.assertFalse((await stream.ended(10)).whole)
        await self.ends_well(daemon)

    async def test_idle_connections_do_not_hold_up_the_end(self) -> None:
        """A kept-alive connection without a request is closed a moment after SIGTERM (P1)."""
        server = await self.gateway(None, arguments=["--simulate"])
        idle = await server.connect()
        idle.write(KEPT)
        await idle.has(b'{"status":"ok"}')
        server.child.signal("TERM")
        await self.ends_well(server, 5)

    async def test_daemon_writes_pid_file_and_log_and_stops_on_sigterm(self) -> None:
        """In the background it has a pid file and a log file where it was told, and drains as in the foreground."""
        path, port = self.configured(None)
        options = ["--pidfile=gateway.pid", "--logfile=gateway.log"]
        child = await self.run_to_end(
            "antigravity", "--simulate", "--config", str(path), options=options, environ={"HOME": str(self.home)}
        )
        self.assertEqual(child.exit_code, 0, child.printed)
        pid = int((self.home / "gateway.pid").read_text())
        self.addCleanup(kill, pid)
        server = Server(child, port)
        # The process that was started has ended; its grandchild listens already.
        kept = await server.connect()
        kept.write(KEPT)
        await kept.has(b'{"status":"ok"}')
        answer = await server.ask(GENERATE, prompt())
        self.assertEqual(answer.status, 200)
        os.kill(pid, signal.SIGTERM)
        await until(lambda: not listens(port))
        kept.write(KEPT)
        await kept.has(b"Connection: close")
        await until(lambda: not Path(f"/proc/{pid}").exists())
        log = (self.home / "gateway.log").read_text()
        for expected in ("antigravity-gateway", GENERATE, "antigravity-gateway has ended"):
            self.assertIn(expected, log)
        self.assertNotIn("Traceback", log)
        self.assertFalse((self.home / "gateway.pid").exists())

    async def test_no_answer_is_lost_over_restarts_under_load(self) -> None:
        """Time and again, whatever was taken is answered in full before the end (P1); bench/restarts.py does more."""
        simulator = await self.simulator(pace=0.01)
        for round in range(1, 6):
            daemon = await self.gateway({"studio": aistudio(simulator.url)})
            streams = [await daemon.begin(SSE, prompt(f"Stream {n}")) for n in range(10)]
            unary = [await daemon.begin(GENERATE, prompt(f"Question {n}")) for n in range(10)]
            await simulator.seen(lambda found, all=20 * round: len(found) == all)
            daemon.child.signal("TERM")
            pending = [Deferred.fromCoroutine(one.ended()) for one in (*streams, *unary)]
            answers = await gatherResults(pending, consumeErrors=True)
            self.assertEqual([(answer.status, answer.whole) for answer in answers], [(200, True)] * 20)
            await self.ends_well(daemon)
