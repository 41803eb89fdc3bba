"""What may follow ``antigravity usage``.  The command itself is imported when it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.python import usage

from gateway.commands.options import Placed


class UsageOptions(Placed):
    """What may follow ``antigravity usage``."""

    synopsis = "[options]"
    longdesc = """
Say who used what: requests, tokens, and what they cost by list prices.  It asks the running gateway, or where none runs
reads usage.db in its state directory.  Times are how long ago (30m, 24h, 7d, 2w), or dates and times in UTC
(2026-11-01, 2026-11-01T12:30).  Exit status: 0 if all went well, 1 if not, 78 if the configuration is wrong."""
    optParameters = [  # noqa: RUF012
        *Placed.optParameters,
        ["by", "b", "model", "What to tell apart: model, key, credential, upstream, hour or day."],
        ["since", "s", "7d", "Since when."],
        ["until", "u", "now", "Before when."],
        ["key", "k", "", "Only what was used with the key of this name or id."],
        ["model", "m", "", "Only what this model was used for."],
    ]
    optFlags = [*Placed.optFlags, ["csv", None, "Print CSV, for spreadsheets, without the total."]]  # noqa: RUF012
    action = "usage"

    def postOptions(self) -> None:
        """Want one form alone."""
        if self["json"] and self["csv"]:
            raise usage.UsageError("usage prints --json or --csv, not both; see --help.")

    def commands(self) -> Mapping[str, Any]:
        """See Placed."""
        from gateway.commands.usage import usage

        return {"usage": usage}
