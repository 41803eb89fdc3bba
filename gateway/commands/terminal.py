"""What is typed or pasted while a reactor runs, and a browser opened beside it.

Neither may block the reactor, and neither may keep the program from ending: each has a daemon thread.  Twisted's
own standard I/O would leave the user's terminal non-blocking and cannot watch a file.
"""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from collections.abc import Callable, Mapping
from typing import Any

LINE_MOST = 64 * 1024


def deliver_lines(reactor: Any, deliver: Callable[[str], None]) -> None:
    """Call ``deliver``, in the reactor's thread, with each line of standard input until that ends."""
    if sys.stdin is not None:
        threading.Thread(target=_read, args=(sys.stdin.fileno(), reactor, deliver), daemon=True).start()


def open_browser(url: str, environ: Mapping[str, str]) -> bool:
    """Open the address where there is a desktop; say whether there is one.

    Without a desktop ``webbrowser`` would find a text browser and hand it this terminal.
    """
    desktop = sys.platform in ("darwin", "win32") or environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")
    if desktop:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    return bool(desktop)


def _read(descriptor: int, reactor: Any, deliver: Callable[[str], None]) -> None:
    rest = b""
    while True:
        try:
            data = os.read(descriptor, 4096)
        except OSError:
            return
        # A last line needs no line end.
        *lines, rest = (rest + data).split(b"\n") if data else (rest, b"")
        rest = rest[:LINE_MOST]
        for line in lines:
            reactor.callFromThread(deliver, line.decode("utf-8", "replace"))
        if not data:
            return
