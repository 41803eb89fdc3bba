"""The daemon's usage: written down, over every end of the process, and whatever its file does.  Opens sockets."""

from __future__ import annotations

import os
import resource
import sqlite3
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater

from tests.clients.daemon import free_port
from tests.processes import (
    DEADLINE_SECONDS,
    GENERATE,
    MODEL,
    POLL_SECONDS,
    SSE,
    Connection,
    DaemonCase,
    Server,
    Simulator,
    logged,
    prompt,
    reactor,
)


class UsageCase(DaemonCase):
    """A daemon with pages for whoever watches, and a simulator."""

    daemon: Server
    google: Simulator
    pages: Server

    async def begin(self, **sections: Any) -> None:
        port = free_port()
        sections.setdefault("admin", {"listen": f"tcp:{port}:interface=127.0.0.1"})
        self.daemon, self.google = await self.both("good-1", **sections)
        self.pages = Server(self.daemon.child, port)

    @property
    def file(self) -> Path:
        return self.home / f"state-{self.daemon.port}" / "usage.db"

    @property
    def config(self) -> Path:
        return self.home / f"antigravity-{self.daemon.port}.yaml"

    def rows(self, columns: str = "request_id") -> list[tuple[Any, ...]]:
        if not self.file.exists():
            return []
        db = sqlite3.connect(self.file)
        try:
            if not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                return []
            return db.execute(f"SELECT {columns} FROM requests ORDER BY id").fetchall()
        finally:
            db.close()

    async def written(self, count: int) -> None:
        """Wait until so many rows are in the file."""
        deadline = reactor.seconds() + DEADLINE_SECONDS
        while len(self.rows()) < count:
            self.assertLess(reactor.seconds(), deadline, self.rows())
            await deferLater(reactor, POLL_SECONDS)

    async def asked(self, count: int) -> list[str]:
        """Have requests served, and return their ids."""
        answers = [await self.daemon.ask(GENERATE, prompt(f"Hello {number}")) for number in range(count)]
        self.assertEqual([answer.status for answer in answers], [200] * count)
        return [answer.headers["x-request-id"] for answer in answers]

    async def ends_well(self) -> None:
        self.daemon.child.signal("TERM")
        self.assertTrue(await self.daemon.child.ended_within(DEADLINE_SECONDS, reactor), self.daemon.printed)
        self.assertEqual(self.daemon.child.exit_code, 0, self.daemon.printed)

    async def metric(self, line: str) -> bool:
        return line in (await self.pages.ask("/metrics")).body.decode().splitlines()

    async def degraded(self, yes: bool) -> None:
        """Wait until the metrics say so, or the contrary."""
        deadline = reactor.seconds() + DEADLINE_SECONDS
        while not await self.metric(f"agw_usage_degraded {float(yes)}"):
            self.assertLess(reactor.seconds(), deadline)
            await deferLater(reactor, POLL_SECONDS)


class WritingTests(UsageCase):
    async def test_each_request_is_a_row_and_its_text_is_nowhere(self) -> None:
        """Whole answers and streams, with their tokens; what was not for a model, and /healthz, is told or left out."""
        await self.begin()
        canary = "a prompt that nobody writes down"
        whole = await self.daemon.ask(GENERATE, prompt(canary))
        counts = whole.json["usageMetadata"]
        await self.daemon.ask(SSE, prompt(canary))
        await self.daemon.ask("/v1beta/models")
        await self.daemon.ask("/healthz")
        await self.ends_well()
        tokens = (counts["promptTokenCount"], counts["candidatesTokenCount"])
        self.assertEqual(
            self.rows("method, model, status, finish, prompt, candidates, micros > 0, credential, key"),
            [
                ("generateContent", MODEL, 200, "STOP", *tokens, 1, "studio/good-1", "anonymous"),
                ("streamGenerateContent", MODEL, 200, "STOP", *tokens, 1, "studio/good-1", "anonymous"),
                ("GET", "", 200, "", None, None, None, "", "anonymous"),
            ],
        )
        self.assertNotIn(canary.encode(), self.file.read_bytes())

    async def test_what_is_cut_off_is_counted_as_far_as_it_came(self) -> None:
        """By upstream, by a client that leaves, and by the gateway's own end."""
        await self.begin(timeouts={"drain": 0.1})
        await self.google.fault("truncate", after=2, times=1)
        answer = await self.daemon.ask(SSE, prompt("one two three"))
        self.assertFalse(answer.whole)
        stalled = [await self.stalled() for _ in range(2)]
        stalled[0].leave()
        await self.written(2)
        await self.ends_well()
        rows = self.rows("status, reason, prompt > 0, candidates > 0")
        self.assertEqual([row[2:] for row in rows], [(1, 1)] * 3)
        self.assertEqual(rows[1][:2], (200, "CLIENT_LEFT"))
        self.assertEqual(rows[2][:2], (200, "GATEWAY_STOPPED"))

    async def stalled(self) -> Connection:
        """A stream that stands still after its second event."""
        await self.google.fault("stall", after=2, times=1)
        connection = await self.daemon.begin(SSE, prompt("one two three"))
        await connection.until(lambda: connection.received.count(b"usageMetadata") == 2)
        return connection

    async def test_nothing_is_loaded_before_there_is_something_to_write(self) -> None:
        """An idle gateway is as small as one without usage."""
        await self.begin()
        self.assertFalse(self.has_sqlite())
        await self.asked(1)
        await self.written(1)
        self.assertTrue(self.has_sqlite())

    async def test_turned_off_it_leaves_nothing(self) -> None:
        """No file, and what reads such files is not even loaded."""
        await self.begin(usage={"enabled": False})
        await self.asked(1)
        self.assertFalse(self.has_sqlite())
        await self.ends_well()
        self.assertFalse(self.file.exists())


    def has_sqlite(self) -> bool:
        return "sqlite" in Path(f"/proc/{self.daemon.child.transport.pid}/maps").read_text()


class FaultTests(UsageCase):
    async def test_kill_9_costs_the_last_moment_at_most_and_never_the_file(self) -> None:
        """Four times while requests go on: what was on disk before is there, and the file is whole."""
        await self.begin()
        seen: set[str] = set()
        for _ in range(4):
            before = set(await self.asked(3))
            await self.written(len(seen) + 3)
            seen |= before
            first, *_ = [await self.daemon.begin(GENERATE, prompt()) for _ in range(10)]
            await first.has(b"200 OK")
            self.daemon.child.signal("KILL")
            await self.daemon.child.ended()
            db = sqlite3.connect(self.file)
            self.assertEqual(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
            (total,), = db.execute("SELECT sum(requests) FROM hours")
            db.close()
            found = {one for one, in self.rows()}
            self.assertLessEqual(seen, found)
            self.assertEqual(total, len(found))
            seen = found
            self.daemon = Server(self.twistd("antigravity", "--config", str(self.config)), self.daemon.port)
            await self.daemon.started()

    @property
    def aside(self) -> Path:
        return self.file.with_name("usage.db.corrupt")

    async def test_another_process_that_locks_the_file_costs_nothing(self) -> None:
        """It serves on, says so once, and writes all as soon as it can."""
        await self.begin()
        other = sqlite3.connect(self.file, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN EXCLUSIVE")
        ids = await self.asked(5)
        await logged(self.daemon, "usage is not written (database is locked)")
        await self.degraded(True)
        status = (await self.pages.ask("/status")).json["usage"]
        self.assertEqual((status["enabled"], status["failing"], status["lost"]), (True, "database is locked", 0))
        other.execute("ROLLBACK")
        await self.written(5)
        await self.degraded(False)
        self.assertEqual([one for one, in self.rows()], ids)
        self.assertTrue(await self.metric("agw_usage_lost_total 0.0"))
        self.assertEqual(self.daemon.printed.count("usage is not written"), 1)

    async def test_a_full_disk_costs_no_request(self) -> None:
        """Every write to a file fails, for a while; what waited is written then."""
        await self.begin()
        await self.asked(1)
        await self.written(1)
        pid = self.daemon.child.transport.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
        await self.asked(3)
        await logged(self.daemon, "usage is not written")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
        await self.written(4)
        await logged(self.daemon, "usage is written again; 0 requests were lost")

    async def test_a_damaged_file_is_set_aside_and_a_fresh_one_begun(self) -> None:
        """While it serves; the line says where the old one is."""
        await self.begin()
        await self.asked(2)
        await self.ends_well()
        content = bytearray(self.file.read_bytes())
        content[:4096] = os.urandom(4096)
        self.file.write_bytes(content)
        self.daemon = Server(self.twistd("antigravity", "--config", str(self.config)), self.daemon.port)
        await self.daemon.started()
        ids = await self.asked(2)
        await logged(self.daemon, f"it is now {self.aside}")
        await self.ends_well()
        self.assertEqual([one for one, in self.rows()], ids)
        self.assertEqual(self.aside.read_bytes(), content)

    async def test_a_newer_versions_file_ends_the_start_with_one_sentence(self) -> None:
        """And is left alone."""
        await self.begin()
        await self.ends_well()
        db = sqlite3.connect(self.file)
        db.execute("PRAGMA user_version = 99")
        db.close()
        child = await self.run_to_end("antigravity", "--config", str(self.config))
        self.assertEqual(child.exit_code, 1)
        lines = [line for line in child.printed.splitlines() if str(self.file) in line]
        self.assertEqual(len(lines), 1, child.printed)
        self.assertIn("newer version (schema 99", lines[0])
