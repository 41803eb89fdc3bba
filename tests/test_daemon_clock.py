"""A wall clock that jumps while the daemon runs.  Opens sockets; needs libfaketime.

Without the library there are no tests here, and a line says so.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet.task import deferLater

from tests.processes import GENERATE, POLL_SECONDS, SSE, DaemonCase, Server, aistudio, prompt, reactor

LIBRARY = next(map(str, Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), "")
HOURS = 3600

if LIBRARY:

    class JumpTests(DaemonCase):
        """The daemon sees the time that a file says; everything else sees the real one."""

        def jump(self, seconds: int) -> None:
            """Set the daemon's wall clock: so far before or after the real one."""
            (self.home / "clock").write_text(f"{seconds:+d}")

        async def shifting(self, url: str, **sections: object) -> Server:
            """Start a daemon whose wall clock can be set."""
            self.jump(0)
            return await self.gateway(
                {"studio": aistudio(url, keys=("only",))},
                environ={
                    "LD_PRELOAD": LIBRARY,
                    "FAKETIME_TIMESTAMP_FILE": str(self.home / "clock"),
                    "FAKETIME_NO_CACHE": "1",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                },
                **sections,
            )

        async def test_rest_lasts_as_long_whatever_the_wall_clock_does(self) -> None:
            """A cool-down neither ends nor is drawn out by a clock that jumps two hours (K6)."""
            simulator = await self.simulator()
            daemon = await self.shifting(simulator.url)
            for hours in (2, -2):
                self.jump(0)
                await simulator.fault("status", reason="PER_MINUTE", seconds=2.0, times=1)
                self.assertEqual((await daemon.ask(GENERATE, prompt())).status, 429)
                since = reactor.seconds()
                self.jump(hours * HOURS)
                early = await daemon.ask(GENERATE, prompt())
                self.assertEqual((early.status, early.reasons[0]), (429, "ALL_CREDENTIALS_COOLING"), hours)
                self.assertLessEqual(int(early.headers["retry-after"]), 3)
                while (await daemon.ask(GENERATE, prompt())).status != 200:
                    self.assertLess(reactor.seconds() - since, 10, hours)
                    await deferLater(reactor, POLL_SECONDS)
                await simulator.clear()

        async def test_no_timer_fires_or_waits_for_a_jump(self) -> None:
            """A stream outlives a jump forward, and its idle limit holds over a jump back (K6)."""
            simulator = await self.simulator(pace=0.3)
            daemon = await self.shifting(simulator.url, timeouts={"idle": 2})
            stream = await daemon.begin(SSE, prompt())
            await stream.has(b"data:")
            self.jump(2 * HOURS)
            self.assertTrue((await stream.ended()).whole)
            await simulator.fault("stall", after=1)
            stream = await daemon.begin(SSE, prompt())
            await stream.has(b"data:")
            self.jump(-2 * HOURS)
            self.assertFalse((await stream.ended(10)).whole)

else:
    LACKS = "libfaketime"
    print("tests.test_daemon_clock: libfaketime is not installed: no clock jumped")
