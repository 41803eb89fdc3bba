"""What systemd is told, and when nobody is told anything.  Opens datagram sockets."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from gateway.process.notify import Notifier

PID = 4711


class NotifierTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.socket.close)
        self.socket.setblocking(False)

    def notifier(self, address: str, environ: Mapping[str, str] | None = None) -> Notifier:
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        return Notifier({"NOTIFY_SOCKET": address, **(environ or {})}, self.clock, PID)

    def told(self) -> list[str]:
        """All that came, a datagram each."""
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def test_each_state_is_one_datagram(self) -> None:
        """sd_notify(3)."""
        notifier = self.notifier(self.mktemp())
        notifier.ready()
        notifier.reloading()
        notifier.stopping("requests that are let end: 3")
        ready, reloading, stopping = self.told()
        self.assertTrue(ready.startswith("READY=1\n"))
        self.assertRegex(reloading, r"\ARELOADING=1\nMONOTONIC_USEC=\d+\Z")
        self.assertEqual(stopping, "STOPPING=1\nSTATUS=requests that are let end: 3")

    def test_the_abstract_namespace_is_reached(self) -> None:
        """An address that begins with @."""
        self.notifier("@antigravity-trial-" + self.id()).ready()
        self.assertEqual(len(self.told()), 1)

    def test_the_watchdog_is_fed_at_half_of_its_interval(self) -> None:
        """By the reactor's own timers."""
        notifier = self.notifier(self.mktemp(), {"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(PID)})
        notifier.watch()
        self.clock.pump([1.0] * 3)
        self.assertEqual(self.told(), ["WATCHDOG=1"] * 4)

    def test_anothers_watchdog_is_not_fed(self) -> None:
        """WATCHDOG_PID says whose it is; what is no number is none."""
        for environ in ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}, {}):
            notifier = Notifier({"NOTIFY_SOCKET": "/nowhere", **environ}, self.clock, PID)
            notifier.watch()
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_to_tell_is_no_error(self) -> None:
        """Without a socket, and with one that is gone."""
        Notifier({}, self.clock, PID).ready()
        gone = Notifier({"NOTIFY_SOCKET": "/nonexistent/notify", "WATCHDOG_USEC": "1000000"}, self.clock, PID)
        gone.ready()
        gone.watch()
        self.clock.advance(5)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
