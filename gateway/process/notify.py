"""Tell systemd how the daemon is: sd_notify(3), and the watchdog of systemd.service(5).  Sends datagrams."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

_log = Logger(namespace="gateway")


class Notifier:
    """Sends to the socket that the environment names; without one it does nothing.

    The watchdog is fed by the reactor itself, at half of the interval: one that is stuck goes hungry.
    """

    def __init__(self, environ: Mapping[str, str], clock: IReactorTime, pid: int) -> None:
        """``pid`` is this process: what is meant for another is not taken."""
        address = environ.get("NOTIFY_SOCKET", "")
        # A name that begins with @ stands for one in the abstract namespace: unix(7).
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._clock = clock
        usec = environ.get("WATCHDOG_USEC", "")
        mine = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        self._every = int(usec) / 2e6 if mine and usec.isascii() and usec.isdigit() else 0.0

    def ready(self) -> None:
        """The start, or a reload, is over; from now on the watchdog is fed."""
        self._send("READY=1", f"STATUS=serves since {time.strftime('%Y-%m-%d %H:%M:%S %Z')}")

    def watch(self) -> None:
        """Begin to feed the watchdog, if there is one."""
        if self._address and self._every > 0:
            self._feed()

    def reloading(self) -> None:
        """The configuration is being read again."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str) -> None:
        """The end has begun; the watchdog is fed on."""
        self._send("STOPPING=1", f"STATUS={status}")

    def _feed(self) -> None:
        self._send("WATCHDOG=1")
        self._clock.callLater(self._every, self._feed)

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode("utf-8"), self._address)
        except OSError as error:
            _log.debug("systemd is not told {what}: {why}", what=lines[0], why=str(error))
