"""Processors kept awake, for times that are to be a relay's and not those of a machine that wakes.  Does I/O."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

_SPIN = """
import os, sys
os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
os.sched_setaffinity(0, {int(sys.argv[1])})
os.write(1, b"!")
while os.getppid() == int(sys.argv[2]):
    for _ in range(1_000_000):
        pass
"""


@contextmanager
def processors() -> Iterator[Sequence[int]]:
    """Keep a process of the lowest class, SCHED_IDLE of sched(7), on each processor of this one; yields their ids.

    It runs where nobody else would, and gives way at once to whoever has something to do.
    """
    with ExitStack() as stack:
        spinning = []
        for one in sorted(os.sched_getaffinity(0)):
            command = [sys.executable, "-I", "-S", "-c", _SPIN, str(one), str(os.getpid())]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
            stack.callback(process.kill)
            spinning.append(process)
        for process in spinning:
            assert process.stdout is not None
            process.stdout.read(1)
        yield [process.pid for process in spinning]
