"""No core dumps, for they hold keys; and in the end of a stuck process, where it stood.  Changes the process."""

from __future__ import annotations

import contextlib
import faulthandler

STANDARD_ERROR = 2


def forbid() -> None:
    """Let no crash leave the memory behind as a file."""
    try:
        import resource
    except ImportError:
        # Windows makes none unless it is told to.
        return
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError):
        # A filter of system calls, as a hardened unit has, forbids it; LimitCORE=0 stands beside it there.
        return


def tell_where() -> None:
    """Have a fatal signal, such as the watchdog's SIGABRT, write the threads' stacks to standard error."""
    # The descriptor itself: twistd has put the log in the place of sys.stderr.
    with contextlib.suppress(OSError, ValueError):
        faulthandler.enable(STANDARD_ERROR)
