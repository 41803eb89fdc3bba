"""The real daemon's door: half-closed connections, slow clients, caps, and the end of descriptors and memory."""

from __future__ import annotations

import os
import re
import resource
import shutil
import sys
from pathlib import Path

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue

from tests.clients.daemon import spawn
from tests.clients.environments import REPOSITORY
from tests.processes import (
    GENERATE,
    POLL_SECONDS,
    SSE,
    Connection,
    DaemonCase,
    Server,
    Simulator,
    aistudio,
    head,
    parsed,
    prompt,
    reactor,
)

SLOWHTTPTEST = shutil.which("slowhttptest", path="/usr/bin:/usr/local/bin") or ""
IMPATIENT = {"head": 2, "body": 2}
KIB = 1024
MIB = 1024 * KIB
_COLOUR = re.compile("\x1b\\[[0-9;]*m")


async def gone(connection: Connection) -> None:
    """Wait for a connection's end."""
    await connection.until(lambda: connection.over)


async def overloaded(connection: Connection) -> bool:
    """Wait for a connection's end, and say whether it was told 503 OVERLOADED."""
    await gone(connection)
    answer = parsed(bytes(connection.received))
    return answer.status == 503 and answer.reasons == ["OVERLOADED"] and answer.headers["retry-after"] == "1"


class HalfCloseTests(DaemonCase):
    """L5 with real sockets, in both settings."""

    async def _asked(self, daemon: Server, simulator: Simulator, target: str) -> Connection:
        """Ask, wait until upstream has been asked, and close the client's half."""
        connection = await daemon.begin(target, prompt())
        await simulator.seen(lambda found: bool(found) and not found[-1]["ended"])
        connection.transport.loseWriteConnection()
        return connection

    async def test_leave_takes_it_for_leaving(self) -> None:
        """L5: no answer, upstream is cancelled; the default, as in nginx."""
        daemon, simulator = await self.both()
        for target in (GENERATE, SSE):
            await simulator.fault("stall")
            connection = await self._asked(daemon, simulator, target)
            await gone(connection)
            self.assertEqual(bytes(connection.received), b"")
            found = await simulator.seen(lambda found: bool(found[-1]["ended"]))
            self.assertEqual(found[-1]["ended"], "left")
            await simulator.clear()

    async def test_answer_answers_it(self) -> None:
        """L5: a unary call, a stream, and what was pipelined before the FIN; then the connection ends."""
        daemon, simulator = await self.both(proxy={"half_close": "answer"})
        for target in (GENERATE, SSE):
            await simulator.fault("stall", seconds=0.3)
            answer = await (await self._asked(daemon, simulator, target)).ended()
            self.assertEqual((answer.status, answer.whole), (200, True))
            await simulator.clear()
        connection = await daemon.connect()
        request = head(GENERATE, prompt()).replace(b"Connection: close\r\n", b"") + prompt()
        connection.write(request * 2)
        connection.transport.loseWriteConnection()
        await gone(connection)
        self.assertEqual(bytes(connection.received).count(b"HTTP/1.1 200 "), 2)

    async def test_answer_still_takes_a_reset_for_leaving(self) -> None:
        """L5, L1, L2: upstream is cancelled, before the first byte and in mid-stream."""
        daemon, simulator = await self.both(proxy={"half_close": "answer"})
        for action, has in (("stall", b""), ("endless", b"Event 3.")):
            await simulator.fault(action)
            connection = await daemon.begin(SSE, prompt())
            await simulator.seen(lambda found: bool(found) and not found[-1]["ended"])
            await connection.has(has)
            connection.leave()
            found = await simulator.seen(lambda found: bool(found[-1]["ended"]))
            self.assertEqual(found[-1]["ended"], "left")
            await simulator.clear()


class SlowTests(DaemonCase):
    """L3 and L4 with a tool that others wrote."""

    async def _slowhttptest(self, daemon: Server, *options: str) -> str:
        """Run it with a hundred connections, and return what it printed in the end, without its colours."""
        arguments = ["-c", "100", "-r", "100", "-i", "1", "-l", "8", "-p", "3", "-u", daemon.url + GENERATE, *options]
        out, error, code = await getProcessOutputAndValue(SLOWHTTPTEST, arguments, env={"TERM": "dumb", **os.environ})
        self.assertEqual(code, 0, error)
        return _COLOUR.sub("", out.decode("utf-8", "replace"))

    async def _serves(self, daemon: Server) -> None:
        answer = await daemon.ask(GENERATE, prompt())
        self.assertEqual(answer.status, 200)

    def _closed(self, said: str) -> None:
        """All connections were closed by the gateway before the tool's own time was over, and it kept serving."""
        self.assertIn("No open connections left", said)
        self.assertIn("YES", said)
        self.assertNotRegex(said, r"service available:\s*NO")

    async def test_slow_heads_are_cut_off(self) -> None:
        """L4/X: ``slowhttptest -H``."""
        daemon, _ = await self.both(timeouts=IMPATIENT)
        running = Deferred.fromCoroutine(self._slowhttptest(daemon, "-H", "-x", "24"))
        await self._serves(daemon)
        self._closed(await running)
        self.assertEqual((await daemon.ask("/healthz")).status, 200)

    async def test_slow_bodies_are_cut_off(self) -> None:
        """L4/X: ``slowhttptest -B``; nothing of them reaches upstream."""
        daemon, simulator = await self.both(timeouts=IMPATIENT)
        running = Deferred.fromCoroutine(self._slowhttptest(daemon, "-B", "-s", "8192", "-x", "10"))
        await self._serves(daemon)
        self._closed(await running)
        self.assertEqual(len(await simulator.requests()), 1)
        self.assertIn(" 408 BODY_TOO_SLOW ", daemon.printed)

    async def test_slow_readers_hold_nobody_up(self) -> None:
        """L3/X: ``slowhttptest -X``, ten pipelined lists at a time; those who read on are served beside them."""
        daemon, _ = await self.both()
        url = daemon.url + "/v1beta/models"
        options = ["-X", "-w", "10", "-y", "20", "-n", "1", "-z", "1", "-k", "10", "-t", "GET", "-u", url]
        running = Deferred.fromCoroutine(self._slowhttptest(daemon, *options))
        before = daemon.rss()
        answers = await gatherResults([Deferred.fromCoroutine(daemon.ask(GENERATE, prompt())) for _ in range(20)])
        self.assertEqual({answer.status for answer in answers}, {200})
        await running
        self.assertLess(daemon.rss() - before, 100 * 256 * KIB)
        self.assertEqual((await daemon.ask("/healthz")).status, 200)


if not SLOWHTTPTEST:
    del SlowTests
    LACKS = "slowhttptest"
    print("tests.test_daemon_door: slowhttptest is not installed: its slow clients did not come")


class CapTests(DaemonCase):
    """P9: what is over a cap is told so, and what is under way goes on."""

    async def test_streams_and_connections_over_their_caps(self) -> None:
        """P9: 503 OVERLOADED with Retry-After; the stream under way ends as it should."""
        daemon, simulator = await self.both(limits={"streams": 1, "connections": 4})
        await simulator.fault("stall", after=1, seconds=1.5, times=1)
        first = await daemon.begin(SSE, prompt())
        await first.has(b"data: ")
        self.assertTrue(await overloaded(await daemon.begin(SSE, prompt())))
        idle = [await daemon.connect() for _ in range(3)]
        over = [await daemon.begin("/healthz") for _ in range(5)]
        for connection in over:
            self.assertTrue(await overloaded(connection))
        answer = await first.ended()
        self.assertEqual((answer.status, answer.whole), (200, True))
        for connection in idle:
            connection.leave()
        self.assertEqual((await daemon.ask(SSE, prompt())).status, 200)
        self.assertIn("limits.connections are open", daemon.printed)

    async def test_bodies_over_their_cap_cost_no_memory(self) -> None:
        """P9: twenty bodies of 8 MiB under a cap of 32 MiB; who is let in is served."""
        daemon, _ = await self.both(limits={"buffered": "32MiB", "body": "16MiB"})
        await daemon.ask(GENERATE, prompt())
        before = daemon.peak_rss()
        body = b'{"contents":[{"parts":[{"text":"' + b"x" * (8 * MIB) + b'"}]}]}'
        senders = [await daemon.connect() for _ in range(20)]
        for sender in senders:
            # All but the last byte, so that they are all there at once.
            sender.write(head(GENERATE, body) + body[:-1])
        refused: list[Connection] = []
        while len(refused) < 17:
            # Three of them fit; which ones is not foreseen.
            await deferLater(reactor, POLL_SECONDS)
            refused = [sender for sender in senders if b"OVERLOADED" in sender.received]
        # Of the 160 that were sent.  What the refused ones had brought goes back to the system with them.
        self.assertLess(daemon.peak_rss() - before, 48 * MIB)
        for sender in senders:
            if sender not in refused:
                sender.write(body[-1:])
                self.assertEqual((await sender.ended()).status, 200)
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)


class DescriptorTests(DaemonCase):
    """P8: no more file descriptors."""

    async def _narrow(self, descriptors: int) -> tuple[Server, Simulator]:
        """Start a daemon with so many descriptors, soft and hard."""
        simulator = await self.simulator()
        path, port = self.configured({"studio": aistudio(simulator.url)})
        command = ["prlimit", f"--nofile={descriptors}:{descriptors}", str(Path(sys.executable).with_name("twistd"))]
        child = spawn(
            reactor,
            [*command, "-n", "--pidfile=", "antigravity", "--config", str(path)],
            self.home,
            {"PYTHONPATH": str(REPOSITORY), "HOME": str(self.home)},
        )
        self.addCleanup(self._gone, child)
        daemon = Server(child, port)
        await daemon.started()
        return daemon, simulator

    async def test_the_cap_is_below_the_limit_of_the_process(self) -> None:
        """P8: with 64 descriptors eight connections are taken, with a warning at the start; others are told 503."""
        daemon, simulator = await self._narrow(64)
        self.assertIn("file descriptors for 8 connections of the 10000", daemon.printed)
        await simulator.fault("endless", pace=0.05)
        stream = await daemon.begin(SSE, prompt())
        await stream.has(b"Event 1.")
        idle = [await daemon.connect() for _ in range(7)]
        over = [await daemon.begin("/healthz") for _ in range(40)]
        for connection in over:
            await gone(connection)
        self.assertTrue(all(b"OVERLOADED" in one.received for one in over), [one.received[:80] for one in over])
        seen = len(stream.received)
        await stream.until(lambda: len(stream.received) > seen)
        for connection in idle:
            connection.leave()
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)

    async def test_accepting_recovers_when_descriptors_are_there_again(self) -> None:
        """P8: the limit falls below what is open: new ones are closed, a stream goes on, and nothing spins."""
        daemon, simulator = await self.both()
        await simulator.fault("endless", pace=0.05, match={"verb": "streamGenerateContent"})
        stream = await daemon.begin(SSE, prompt())
        await stream.has(b"Event 1.")
        pid = daemon.child.transport.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")) + 2, limits[1]))
        clients = [await daemon.connect() for _ in range(30)]
        for client in clients[5:]:
            await gone(client)
        seen = len(stream.received)
        await stream.until(lambda: len(stream.received) > seen + 500)
        for client in clients:
            client.leave()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)
        self.assertFalse(stream.over)
        # A loop that spins on the listener would log or poll without an end.
        self.assertLess(daemon.printed.count("\n"), 200, daemon.printed[-2000:])
