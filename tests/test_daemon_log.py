"""The daemon's log, and its disk: rotated, full, gone; no request fails of it.  Opens sockets."""

from __future__ import annotations

import os
import re
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.clients.daemon import Child, free_port, surroundings
from tests.clients.environments import REPOSITORY
from tests.processes import GENERATE, DaemonCase, Server, aistudio, logged, prompt, reactor, until

NOBODY = "http://127.0.0.1:1"


class LogCase(DaemonCase):
    """A simulated gateway, so that one process is all there is."""

    async def begin(self, *options: str, **sections: Any) -> Server:
        path, port = self.configured(None, **sections)
        child = self.twistd(
            "antigravity", "--simulate", "--config", str(path), options=("-n", "--pidfile=", *options)
        )
        server = Server(child, port)
        await server.started()
        return server

    async def ends_well(self, server: Server) -> None:
        server.child.signal("TERM")
        self.assertTrue(await server.child.ended_within(10, reactor), server.printed)
        self.assertEqual(server.child.exit_code, 0, server.printed)


class RotationTests(LogCase):
    async def test_no_line_is_lost_or_doubled_over_rotations(self) -> None:
        """P7: renamed ten times, every other time with SIGUSR1, while requests go on; each has one line somewhere."""
        server = await self.begin("--logfile=gateway.log")
        log = self.home / "gateway.log"
        ids: list[str] = []
        for turn in range(10):
            for number in range(5):
                answer = await server.ask(GENERATE, prompt(f"Hello {turn} {number}"))
                ids.append(answer.headers["x-request-id"])
            log.rename(self.home / f"gateway.log.{turn}")
            if turn % 2:
                os.kill(server.child.transport.pid, signal.SIGUSR1)
                await until(log.exists)
        answer = await server.ask(GENERATE, prompt("the last"))
        ids.append(answer.headers["x-request-id"])
        await self.ends_well(server)
        files = sorted(self.home.glob("gateway.log*"))
        self.assertEqual(len(files), 11)
        text = "".join(file.read_text() for file in files)
        self.assertEqual({one: text.count(f" {one} 127.0.0.1 POST ") for one in ids}, dict.fromkeys(ids, 1))

    async def test_a_log_that_is_cut_goes_on(self) -> None:
        """P7, copytruncate: the file begins anew, without a hole."""
        server = await self.begin("--logfile=gateway.log")
        log = self.home / "gateway.log"
        await server.ask(GENERATE, prompt("before"))
        os.truncate(log, 0)
        answer = await server.ask(GENERATE, prompt("after"))
        await until(lambda: answer.headers["x-request-id"] in log.read_text())
        self.assertNotIn("\0", log.read_text())


class EndTests(LogCase):
    async def test_lines_that_wait_are_written_at_the_end(self) -> None:
        """Each of the last requests has its line, whichever way the daemon is told to end, and Twisted its own."""
        for name in ("TERM", "INT"):
            log = f"gateway.{name}.log"
            server = await self.begin(f"--logfile={log}")
            asked = (server.ask(GENERATE, prompt(f"Hello {n}")) for n in range(20))
            answers = await gatherResults([Deferred.fromCoroutine(one) for one in asked])
            server.child.signal(name)
            self.assertTrue(await server.child.ended_within(30, reactor), server.printed)
            text = (self.home / log).read_text()
            ids = [answer.headers["x-request-id"] for answer in answers]
            self.assertEqual({one: text.count(f" {one} 127.0.0.1 POST ") for one in ids}, dict.fromkeys(ids, 1))
            self.assertIn("Server Shut Down.", text.splitlines()[-1])


class DiskTests(LogCase):
    async def test_a_full_disk_fails_no_request(self) -> None:
        """P7: a log to a device that is always full."""
        server = await self.begin("--logfile=/dev/full")
        answers = [await server.ask(GENERATE, prompt(f"Hello {n}")) for n in range(5)]
        self.assertEqual([answer.status for answer in answers], [200] * 5)
        await self.ends_well(server)

    async def test_a_standard_output_that_nobody_reads_any_more_fails_no_request(self) -> None:
        """P7: EPIPE, from the first line after the reader has gone; and the end is a clean one."""
        path, port = self.configured(None)
        reading, writing = os.pipe()
        child = Child()
        program = str(Path(sys.executable).with_name("twistd"))
        command = [program, "-n", "--pidfile=", "antigravity", "--simulate", "--config", str(path)]
        more = {"PYTHONPATH": str(REPOSITORY), "HOME": str(self.home)}
        reactor.spawnProcess(
            child, program, command, env=surroundings(more), path=str(self.home), childFDs={0: "w", 1: writing, 2: "r"}
        )
        self.addCleanup(self._gone, child)
        os.close(writing)
        server = Server(child, port)
        await server.started()
        os.close(reading)
        answers = [await server.ask(GENERATE, prompt(f"Hello {n}")) for n in range(5)]
        self.assertEqual([answer.status for answer in answers], [200] * 5)
        await self.ends_well(server)

    async def test_a_state_that_cannot_be_written_costs_no_request(self) -> None:
        """P6: it serves on from memory, counts the errors, says once that it does, and writes as soon as it can."""
        port = free_port()
        daemon, _ = await self.both("good-1", "good-2", admin={"listen": f"tcp:{port}:interface=127.0.0.1"})
        pages = Server(daemon.child, port)
        pid = daemon.child.transport.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        # As with a full disk every write to a file fails, from now on.
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
        answers = [await daemon.ask(GENERATE, prompt(f"Hello {n}")) for n in range(5)]
        self.assertEqual([answer.status for answer in answers], [200] * 5)
        await logged(daemon, "the standings cannot be written")
        await deferLater(reactor, 2.5)
        page = (await pages.ask("/metrics")).body.decode()
        self.assertIn("agw_state_degraded 1.0", page)
        errors = re.search(r"^agw_state_write_errors_total (\d+)", page, re.MULTILINE)
        assert errors is not None
        self.assertGreaterEqual(int(errors[1]), 2)
        self.assertEqual(daemon.printed.count("the standings cannot be written"), 1)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        await logged(daemon, "the standings can be written again")
        self.assertIn("agw_state_degraded 0.0", (await pages.ask("/metrics")).body.decode())


class PortTests(DaemonCase):
    async def refused(self, listen: str, why: str) -> None:
        """Check that a start ends at once with one line."""
        path, _ = self.configured(
            {"studio": aistudio(NOBODY)}, proxy={"listen": listen, "api_key": "a-client-key"}
        )
        child = Child()
        program = str(Path(sys.executable).with_name("twistd"))
        launcher = [sys.executable, str(REPOSITORY / "tests" / "activated.py"), "", "--unprivileged", "--"]
        command = [*launcher, program, "-n", "--pidfile=", "antigravity", "--config", str(path)]
        more = {"PYTHONPATH": str(REPOSITORY), "HOME": str(self.home)}
        reactor.spawnProcess(child, command[0], command, env=surroundings(more), path=str(self.home))
        self.addCleanup(self._gone, child)
        self.assertTrue(await child.ended_within(30, reactor), child.printed)
        self.assertEqual(child.exit_code, 1, child.printed)
        lines = [line for line in child.printed.splitlines() if "cannot listen on" in line]
        self.assertEqual(len(lines), 1, child.printed)
        self.assertIn(why, lines[0])

    async def test_ports_that_cannot_be_had_are_told_in_one_line(self) -> None:
        """P12: a privileged port, and an IPv6 address that this machine does not have."""
        await self.refused("tcp:80:interface=127.0.0.1", "Permission denied")
        await self.refused(rf"tcp6:{free_port()}:interface=2001\:db8\:\:1", "Cannot assign requested address")
