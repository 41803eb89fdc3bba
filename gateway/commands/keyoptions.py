"""What may follow ``antigravity keys``.  A command itself is imported when it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.python import usage

from gateway.commands.options import Command, Placed, Several, Versioned

_GRANT: list[list[Any]] = [
    ["expires", "e", None, "When it ends: 30d, 12h, 2027-01-31, 2027-01-31T12:00:00Z (UTC), or never."],
    ["models", "m", None, "Models that it may use, separated by commas; * stands for any text.  Or all."],
    ["networks", None, None, "Addresses and networks that it may be used from, separated by commas.  Or all."],
    ["requests-per-minute", None, None, "Requests a minute."],
    ["concurrent", None, None, "Requests at a time."],
    ["tokens-per-minute", None, None, "Tokens a minute."],
    ["tokens-per-day", None, None, "Tokens a day of UTC."],
    ["budget-per-day", None, None, "What may be spent a day of UTC, in US dollars by list prices."],
    ["budget-per-month", None, None, "Likewise a month."],
]
_NUMBERS = """
A number is above 0, or none for no limit, or default for what the configuration says (limits.key_per_minute and
limits.key_concurrent; there is no default of the others)."""


class _OfKeys(Placed):
    def commands(self) -> Mapping[str, Any]:
        """See Placed."""
        from gateway.commands import keys

        return keys.COMMANDS


class ListOptions(_OfKeys):
    """What may follow ``keys list``."""

    synopsis = "[options]"
    longdesc = "List the client keys: state, limits, what was used today and this month."
    action = "list"
    optFlags = [*Placed.optFlags, ["all", "a", "Revoked ones too."]]  # noqa: RUF012


class ShowOptions(_OfKeys):
    """What may follow ``keys show``."""

    synopsis = "[options] NAME"
    longdesc = "Show a client key: all that it may do, what was used, and what is left."
    action = "show"
    names_least = names_most = 1


class CreateOptions(_OfKeys):
    """What may follow ``keys create``."""

    synopsis = "[options] NAME"
    longdesc = f"""
Make a client key and print it, this once: only a digest of it is kept.  A gateway that runs lets it in at once.
{_NUMBERS}"""
    action = "create"
    optParameters: list[list[Any]] = [*Placed.optParameters, *_GRANT]  # noqa: RUF012
    names_least = names_most = 1


class ChangeOptions(_OfKeys):
    """What may follow ``keys change``."""

    synopsis = "[options] NAME"
    longdesc = f"""
Change what a client key may do, at once; what is not named stays, and what was used counts on.
{_NUMBERS}"""
    action = "change"
    optParameters: list[list[Any]] = [  # noqa: RUF012
        *Placed.optParameters,
        *_GRANT,
        ["rename", None, None, "Another name."],
    ]
    names_least = names_most = 1

    def postOptions(self) -> None:
        """Want to be told something."""
        if all(self[name] is None for name in ("rename", *(one[0] for one in _GRANT))):
            raise usage.UsageError("change takes what is to be changed; see --help.")


class RotateOptions(_OfKeys):
    """What may follow ``keys rotate``."""

    synopsis = "[options] NAME"
    longdesc = """
Give a client key another secret and print it, this once.  Its name, id, limits and what was used stay.  The old secret
ends at once, or after a grace in which clients can be changed over."""
    action = "rotate"
    optParameters: list[list[Any]] = [  # noqa: RUF012
        *Placed.optParameters,
        ["grace", "g", None, "For how long the old one is good still: 1h, 7d."],
    ]
    names_least = names_most = 1


class RevokeOptions(_OfKeys, Several):
    """What may follow ``keys revoke``."""

    longdesc = """
End client keys, at once and for good.  Requests under way end as they would.  Clients are asked for a key still when
the last one has gone."""
    action = "revoke"


class KeysOptions(Versioned):
    """What may follow ``antigravity keys``."""

    synopsis = ""
    longdesc = """
Make and steer the keys that clients show at the gateway's door: those of the running gateway, through admin.sock in its
state directory, or where none runs those in that directory's files.  NAME is a key's name or its id.  Keys that stand
in the configuration are shown by a gateway that runs, and changed there.  Exit status: 0 if all went well, 1 if not,
78 if the configuration is wrong."""
    subCommands = (
        ("list", None, ListOptions, "List them."),
        ("show", None, ShowOptions, "Show one."),
        ("create", None, CreateOptions, "Make one; it is printed this once."),
        ("change", None, ChangeOptions, "Change what one may do."),
        ("rotate", None, RotateOptions, "Give one another secret."),
        ("revoke", None, RevokeOptions, "End some."),
    )

    def postOptions(self) -> None:
        """Want a command."""
        if self.subCommand is None:
            raise usage.UsageError("which command? `antigravity keys --help` lists them")

    def command(self) -> Command:
        """Return the command."""
        command: Command = self.subOptions.command()
        return command
