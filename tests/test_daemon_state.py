"""The state directory of a daemon: whose it is, what is kept in it, and what is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.clients.daemon import spawn
from tests.clients.environments import REPOSITORY
from tests.operator import OperatorCase
from tests.owners import another_users
from tests.processes import DEADLINE_SECONDS, GENERATE, DaemonCase, Server, aistudio, prompt, reactor

STRACE = shutil.which("strace") or ""


def may_trace() -> bool:
    if not STRACE:
        return False
    return subprocess.run([STRACE, "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0


class OwnershipTests(DaemonCase):
    """One daemon's at a time."""

    async def refused(self, path: Path) -> str:
        """Return the one line with which a daemon ends that may not begin."""
        child = await self.run_to_end("antigravity", "--config", str(path))
        self.assertEqual(child.exit_code, 1, child.printed)
        lines = [line for line in child.printed.splitlines() if "state" in line]
        self.assertEqual(len(lines), 1, child.printed)
        return lines[0]

    async def test_second_daemon_on_a_directory_says_so_and_ends(self) -> None:
        """K8: it writes nothing, and the first one goes on."""
        daemon, google = await self.both()
        state = self.home / f"state-{daemon.port}"
        (state / "standing.json").write_bytes(b"the first one's")
        before = sorted(path.name for path in state.iterdir())
        path, port = self.configured({"studio": aistudio(google.url)}, state_dir=str(state))
        self.assertIn(f"{state}: another gateway uses this state directory; stop it", await self.refused(path))
        self.assertEqual(sorted(path.name for path in state.iterdir()), before)
        self.assertEqual((state / "standing.json").read_bytes(), b"the first one's")
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)
        daemon.child.signal("KILL")
        await daemon.child.ended()
        # The lock is the kernel's: it ends with its process, however that ends.
        second = Server(self.twistd("antigravity", "--config", str(path)), port)
        await second.started()
        self.assertEqual((await second.ask(GENERATE, prompt())).status, 200)

    async def test_lock_that_cannot_be_opened_ends_the_start(self) -> None:
        """K8: whether another gateway runs there cannot be told, so nothing is served and nothing written."""
        path, port = self.configured({"studio": aistudio("http://127.0.0.1:1")})
        state = self.home / f"state-{port}"
        state.mkdir(mode=0o700)
        (state / "lock").symlink_to("elsewhere")
        printed = await self.refused(path)
        self.assertIn(f"{state / 'lock'}: cannot be opened", printed)
        self.assertIn("remove it if no gateway runs", printed)
        self.assertEqual(os.listdir(state), ["lock"])


if os.geteuid() == 0:

    class OwnerTests(OperatorCase):
        """Files of another user's; who is not root can make none, and tests/test_store.py has what is left."""

        async def test_another_users_account_file_ends_the_start_with_the_cure(self) -> None:
            """P10: with the status of a configuration that cannot be used, and nothing is served."""
            await self.prepare()
            path = another_users(self.state / "accounts" / "ann.json")
            child = await self.run_to_end("antigravity", "--config", str(self.config))
            self.assertEqual(child.exit_code, 78, child.printed)
            self.assertIn(f"{path}: belongs to another user; chown it to the user that runs the gateway", child.printed)
            self.assertIn("belongs to another user", await self.accounts("list", status=1))


class HaltTests(OperatorCase):
    """What only an operator ends."""

    async def test_halt_outlasts_a_restart_until_told_to_go_on(self) -> None:
        """U6: neither a stop nor kill -9 lets a halted upstream go on, and afterwards the word does."""
        await self.prepare()
        daemon = await self.daemon()
        await self.accounts("disable", "good-1", "good-2")
        await self.google.fault("status", reason="VALIDATION_REQUIRED", match={"verb": "generateContent"})
        await daemon.ask(GENERATE, prompt())
        await self.google.clear()
        self.assertEqual((await self.rows())["pool/ann"]["state"], "halted")
        await self.stopped(daemon)
        asked = len(await self.google.requests())
        for signal in ("KILL", "TERM"):
            daemon = await self.daemon()
            answer = await daemon.ask(GENERATE, prompt())
            self.assertEqual((answer.status, len(await self.google.requests())), (503, asked), answer.body)
            self.assertEqual((await self.rows())["pool/bob@b.example"]["state"], "halted")
            daemon.child.signal(signal)
            await daemon.child.ended()
        self.assertIn("pool goes on.", await self.accounts("resume", "pool"))
        daemon = await self.daemon()
        self.assertEqual((await self.rows())["pool/ann"]["state"], "quarantined")
        await self.accounts("clear", "ann")
        self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 200)


if may_trace():

    class DiskTests(DaemonCase):
        """A disk that fails; without strace, or where it may trace nothing, there are no tests here."""

        async def test_directory_that_cannot_be_locked_for_want_of_space_is_not_written_to(self) -> None:
            """P6, K8: the daemon serves from memory, says so, and writes nothing to what may become another's."""
            google = await self.simulator()
            path, port = self.configured({"studio": aistudio(google.url)})
            state = self.home / f"state-{port}"
            state.mkdir(mode=0o700)
            twistd = str(Path(sys.executable).with_name("twistd"))
            program = [twistd, "-n", "--pidfile=", "antigravity", "--config", str(path)]
            trace = ["-D", "-f", "-qq", "-o", os.devnull, "-P", str(state / "lock"), "-e", "inject=openat:error=ENOSPC"]
            environ = {"PYTHONPATH": str(REPOSITORY), "HOME": str(self.home)}
            child = spawn(reactor, [STRACE, *trace, *program], self.home, environ)
            self.addCleanup(self._gone, child)
            daemon = Server(child, port)
            await daemon.started()
            self.assertIn("nothing outlasts this run", daemon.printed)
            await google.fault("status", reason="PER_DAY", times=1)
            self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 429)
            child.signal("TERM")
            self.assertTrue(await child.ended_within(DEADLINE_SECONDS, reactor), daemon.printed)
            self.assertNotIn("standings cannot be written", daemon.printed)
            self.assertEqual(os.listdir(state), [])

else:
    LACKS = "strace"
    print("tests.test_daemon_state: strace is not installed, or may trace nothing here: no disk failed")
