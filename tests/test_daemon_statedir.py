"""Two daemons that were given one state directory.  Opens sockets."""

from __future__ import annotations

from pathlib import Path

from tests.processes import GENERATE, DaemonCase, prompt


class TwiceTests(DaemonCase):
    """The state directory is one daemon's."""

    def files(self, directory: Path) -> dict[str, bytes]:
        """What lies in a directory, apart from sockets."""
        found = sorted(path for path in directory.rglob("*") if path.is_file())
        return {str(path.relative_to(directory)): path.read_bytes() for path in found}

    async def test_second_daemon_ends_with_a_sentence_and_writes_nothing(self) -> None:
        """It names the directory, its status is not 0, no file changes, and the first serves on (K8)."""
        state = self.home / "state"
        first, _ = await self.both(state_dir=str(state))
        before = self.files(state)
        path, _ = self.configured(
            {"studio": {"kind": "aistudio", "credentials": [{"name": "k", "api_key": "k"}]}}, state_dir=str(state)
        )
        second = await self.run_to_end("antigravity", "--config", str(path))
        self.assertNotIn(second.exit_code, (0, None))
        (line,) = [line for line in second.printed.splitlines() if str(state) in line]
        self.assertIn("another", line)
        self.assertEqual(self.files(state), before)
        self.assertEqual((await first.ask(GENERATE, prompt())).status, 200)
