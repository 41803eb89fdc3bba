"""A gateway that is open to a network has a client key, or does not start."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from gateway.config import ConfigError
from gateway.keys.bookfile import BookFile
from gateway.tap import Source
from tests.test_config import STUDIO
from tests.test_keys import key

OPEN = (
    '{listen: "tcp:8045"}',
    '{listen: "tcp:8045", api_key: " "}',
    '{listen: "tcp:8045", auth_mode: strict}',
    '{listen: "tcp:1:interface=127.0.0.1:interface=0.0.0.0"}',
    '{listen: ["tcp:8045:interface=127.0.0.1", "tcp:8047"]}',
    '{listen: "systemd:domain=INET:name=http"}',
)


class OpenDoorTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(0o700)
        self.file = BookFile(self.directory)

    def read(self, proxy: str) -> str:
        """Read a configuration as the daemon does, and return why it cannot start, empty where it can."""
        path = self.directory / "gateway.yaml"
        path.write_text(f"proxy: {proxy}\nstate_dir: {self.directory}\n{STUDIO}")
        try:
            Source(str(path), False, {"HOME": str(self.directory)}).read()
        except ConfigError as error:
            return str(error)
        return ""

    def test_without_a_key_it_refuses_to_start(self) -> None:
        """S2: the sentence names the place and the ways out."""
        for proxy in OPEN:
            why = self.read(proxy)
            for told in ("proxy.listen", "refuses to start", "write proxy.api_key", "antigravity keys create"):
                self.assertIn(told, why, proxy)

    def test_a_key_of_either_kind_lets_it_start(self) -> None:
        """S2: one of the configuration, or one that was made."""
        self.assertEqual(self.read('{listen: "tcp:8045", api_key: a}'), "")
        self.file.save([key()[0]])
        for proxy in OPEN:
            self.assertEqual(self.read(proxy), "", proxy)

    def test_a_revoked_key_is_none(self) -> None:
        """S2: nobody could be let in."""
        self.file.save([key(revoked=1.0)[0]])
        self.assertIn("no key exists", self.read(OPEN[0]))

    def test_keys_that_cannot_be_read_are_told_of(self) -> None:
        """S2: with the file's name."""
        self.file.save([key()[0]])
        self.file.path.write_bytes(b"{}")
        self.assertIn(str(self.file.path), self.read(OPEN[0]))
