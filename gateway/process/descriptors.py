"""How many connections the process has file descriptors for.  Reads a limit of the process's, and raises it."""

from __future__ import annotations

import contextlib
from typing import Any

import attrs

from gateway.config import Config, Limits

RESERVED = 48
"""Descriptors for everything else: listeners, files, the log, and the connections that are being turned away."""


def connections_within(wanted: int, descriptors: int) -> int:
    """Return how many connections fit: each may need a second descriptor, towards upstream."""
    return max(1, min(wanted, (descriptors - RESERVED) // 2))


def fit(wanted: int, kernel: Any) -> int:
    """Raise the soft limit as far as ``wanted`` connections need it, and return how many there may be.

    ``kernel`` is the module ``resource``.
    """
    soft, hard = kernel.getrlimit(kernel.RLIMIT_NOFILE)
    needed = 2 * wanted + RESERVED
    if soft != kernel.RLIM_INFINITY and soft < needed:
        most = needed if hard == kernel.RLIM_INFINITY else min(needed, hard)
        # A filter of system calls may forbid it, and some systems allow less than their hard limit says.
        with contextlib.suppress(OSError, ValueError):
            kernel.setrlimit(kernel.RLIMIT_NOFILE, (most, hard))
            soft = most
    return wanted if soft == kernel.RLIM_INFINITY else connections_within(wanted, soft)


def clamped(config: Config) -> Config:
    """Raise what the process may open, and lower ``limits.connections`` to what it may."""
    try:
        import resource
    except ImportError:
        # Windows has no such limit.
        return config
    return lowered(config, fit(config.limits.connections, resource))


def lowered(config: Config, fitting: int) -> Config:
    """Lower ``limits.connections`` to ``fitting`` where it is more, with a warning where that asks for an operator.

    The default is a bound and nobody's wish: below it, fewer connections matter where not even ``limits.streams``
    could be open.
    """
    wanted = config.limits.connections
    if fitting >= wanted:
        return config
    limits = attrs.evolve(config.limits, connections=fitting)
    if wanted == Limits().connections and fitting >= limits.streams:
        return attrs.evolve(config, limits=limits)
    warning = (
        f"this process has file descriptors for {fitting} connections of the {wanted} that limits.connections allows,"
        " and takes no more: raise its limit (LimitNOFILE= in systemd, ulimit -n)"
    )
    return attrs.evolve(config, limits=limits, warnings=(*config.warnings, warning))
