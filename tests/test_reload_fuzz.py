"""A reload survives whatever becomes of the file: mutated configurations never raise what nobody foresaw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, strategies
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.accounts.store import StoreError
from gateway.composition import Composition
from gateway.config import ConfigError
from gateway.tap import Source
from tests.clients.environments import REPOSITORY
from tests.fakes import BODY, Client, FakeRecorder, FakeWire, ok

EXAMPLE = (REPOSITORY / "conf" / "antigravity.yaml").read_text("utf-8")
LINES = EXAMPLE.splitlines(keepends=True)
ENVIRON = {"GEMINI_API_KEY": "a-key", "HOME": "/nonexistent"}
PATH = "/v1beta/models/gemini-2.5-flash:generateContent"

VALUES = strategies.sampled_from(
    ["", "~", "[]", "{}", "-1", "0", "1e999", ".nan", "99999999999999999999", "yes", "off", "'x'", "[a, b]", "{a: b}",
     "*x", "&x 1", "!!python/none", "tcp:1", "ssl:1:privateKey=none", "systemd:domain=INET:index=0", "\"\\0\"",
     "\u2028", "gemini-*", "sha256:00", "1s", "1KiB", "100 MB", "!!binary aGk=", "2026-01-01", "<<: *a"]
)  # fmt: skip


@strategies.composite
def mutated(draw: Any) -> bytes:
    """The example, with some of its lines changed, doubled, moved, re-indented or gone, and some bytes wrong."""
    lines = list(LINES)
    for _ in range(draw(strategies.integers(1, 6))):
        at = draw(strategies.integers(0, len(lines) - 1))
        what = draw(strategies.sampled_from(["value", "drop", "double", "indent", "uncomment", "byte", "swap"]))
        line = lines[at]
        if what == "value" and ":" in line:
            lines[at] = line.split(":", 1)[0] + ": " + draw(VALUES) + "\n"
        elif what == "drop":
            lines[at] = ""
        elif what == "double":
            lines[at] = line + line
        elif what == "indent":
            lines[at] = " " * draw(strategies.integers(1, 5)) + line
        elif what == "uncomment":
            lines[at] = line.replace("# ", "", 1)
        elif what == "swap":
            other = draw(strategies.integers(0, len(lines) - 1))
            lines[at], lines[other] = lines[other], lines[at]
        elif what == "byte" and line:
            spot = draw(strategies.integers(0, len(line) - 1))
            lines[at] = line[:spot] + chr(draw(strategies.integers(0, 0x2FFF))) + line[spot + 1 :]
    data = "".join(lines).encode("utf-8", "surrogatepass")
    if draw(strategies.booleans()):
        return data
    cut = draw(strategies.integers(0, len(data)))
    return data[:cut] + draw(strategies.binary(max_size=8)) + data[cut + 1 :]


class ReloadTests(SynchronousTestCase):
    @given(mutated())
    def test_a_mutated_configuration_is_refused_in_a_sentence_or_taken(self, data: bytes) -> None:
        """P4: what is read is ConfigError in one line, or a configuration that takes over and serves."""
        directory = Path(self.mktemp())
        directory.mkdir(parents=True)
        file = directory / "antigravity.yaml"
        file.write_text(EXAMPLE, "utf-8")
        source = Source(str(file), False, {**ENVIRON, "XDG_STATE_HOME": str(directory.absolute())})
        wire, clock = FakeWire(by=lambda request: ok()), Clock()
        before = Composition(source.read(), clock, wire, FakeRecorder())
        file.write_bytes(data)
        try:
            config = source.read()
        except ConfigError as error:
            self.assertEqual(str(error).count("\n"), 0)
            config = None
        if config is not None:
            try:
                following = Composition(config, clock, wire, FakeRecorder(), before)
            except StoreError:
                config = None
            else:
                following.take_over()
        client = Client(before.site)
        client.post(PATH, BODY)
        answer = client.answer()
        if config is None:
            self.assertEqual(answer.status, 200)
        else:
            # What was taken may ask for a key or serve other models; none of that is a fault of ours.
            self.assertTrue(answer.whole)
            self.assertIn(answer.status, (200, 400, 401, 404, 413, 414, 431, 503))
