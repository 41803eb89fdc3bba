"""What may follow ``antigravity accounts`` and ``antigravity explain``.  A command itself is imported when it runs."""

from __future__ import annotations

import getopt
import os
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.python import usage

from gateway import __version__

Command = Callable[[Any], Coroutine[Deferred[Any], Any, int]]
"""A command with its options: takes the reactor, returns the exit status."""


class Versioned(usage.Options):
    """What every command has."""

    def opt_version(self) -> None:
        """Print the gateway's version and exit."""
        print(f"antigravity-gateway {__version__}")
        sys.exit(0)


class Placed(Versioned):
    """A command of ``accounts``, or one like it."""

    optParameters = [  # noqa: RUF012
        ["config", "c", None, "The configuration file; without one, as a gateway that runs from GEMINI_API_KEY."],
        ["state-dir", None, None, "The gateway's state directory, where the configuration does not say."],
    ]
    optFlags = [["json", None, "Print JSON, for programs."]]  # noqa: RUF012
    action: ClassVar[str] = ""
    names_least: ClassVar[int] = 0
    names_most: ClassVar[int] = 0
    what: ClassVar[str] = "NAME"

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Take options after names too, which the class that this one extends does not."""
        given = sys.argv[1:] if options is None else list(options)
        try:
            found, names = getopt.gnu_getopt(given, self.shortOpt, self.longOpt)
        except getopt.GetoptError:
            found, names = [], given
        else:
            names = ["--", *names]
        first = [word for name, value in found for word in ((name, value) if self._takes(name) else (name,))]
        # What cannot be read is read again as it is, for the sentence that says what is wrong.
        super().parseOptions([*first, *names])

    def _takes(self, name: str) -> bool:
        if name.startswith("--"):
            return f"{name[2:]}=" in self.longOpt
        return f"{name[1:]}:" in self.shortOpt

    def parseArgs(self, *names: str) -> None:
        """Take the names."""
        if not self.names_least <= len(names) <= self.names_most:
            many = "one or more" if self.names_most > 1 else "one"
            wanted = f"{many} {self.what}" if self.names_most else f"nothing, and not {names[0]!r}"
            raise usage.UsageError(f"{self.action} takes {wanted}; see --help.")
        self["names"] = names

    def command(self) -> Command:
        """Return the command."""
        from gateway.commands import accounts
        from gateway.commands.pool import Place

        place = Place(self["config"] or "", self["state-dir"] or "")
        given = {key: value for key, value in self.items() if key not in ("config", "state-dir", "json", "names")}
        wish = accounts.Wish(place, self["names"], bool(self["json"]), given)
        run = self.commands()[self.action]
        return lambda reactor: accounts.told(reactor, run, wish, dict(os.environ), _say, time.time)

    def commands(self) -> Mapping[str, Any]:
        """Return the commands of the family, by their words; see commands.accounts.Run."""
        from gateway.commands import accountfiles, accounts

        return {**accounts.COMMANDS, **accountfiles.COMMANDS}


class ListOptions(Placed):
    """What may follow ``accounts list``."""

    synopsis = "[options]"
    longdesc = "List the credentials: state and why, until when, quota left, when last used."
    action = "list"


class Several(Placed):
    """One that takes names."""

    synopsis = "[options] NAME..."
    names_least = 1
    names_most = 10_000


class DisableOptions(Several):
    """What may follow ``accounts disable``."""

    longdesc = "Use these credentials no more, until `accounts enable`; requests under way end as they would."
    action = "disable"


class EnableOptions(Several):
    """What may follow ``accounts enable``."""

    longdesc = "Use credentials again that `accounts disable` took out."
    action = "enable"


class ClearOptions(Several):
    """What may follow ``accounts clear``."""

    synopsis = "[options] NAME... | --all"
    longdesc = """
Forget what is held against credentials: cool-downs (with those of all credentials of the same project, for these are
one quota) and quarantines.  What was wrong should be mended first: the next request finds out."""
    action = "clear"
    names_least = 0
    optFlags = [*Placed.optFlags, ["all", None, "All credentials."]]  # noqa: RUF012

    def postOptions(self) -> None:
        """Want names, or all."""
        if bool(self["names"]) == bool(self["all"]):
            raise usage.UsageError("clear takes one or more NAME, or --all; see --help.")


class TestOptions(Several):
    """What may follow ``accounts test``."""

    longdesc = """
Have credentials count the tokens of one word at Google, whatever their state is, and say how it went.  Exit status: 0
if all work, 1 if not."""
    action = "test"
    optParameters = [*Placed.optParameters, ["model", "m", None, "The model to ask for."]]  # noqa: RUF012


class ResumeOptions(Placed):
    """What may follow ``accounts resume``."""

    synopsis = "[options] UPSTREAM"
    longdesc = """
Let an upstream go on that stands still because two of its accounts were refused for reasons that only their owner can
put right.  These two stay out until `accounts clear`."""
    action = "resume"
    names_least = names_most = 1
    what = "UPSTREAM"


def _term(member: str) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        from gateway.accounts.given import typed

        return member, typed(member, text)

    return read


_TERMS: list[list[Any]] = [
    ["weight", "w", None, "Its share among its equals; above 0.", _term("weight")],
    ["priority", None, None, "Lower is preferred, higher is a fallback.", _term("priority")],
    ["max-concurrent", None, None, "Requests at a time; 0 for no limit.", _term("max_concurrent")],
]
_UPSTREAM = ["upstream", "u", None, "The upstream, where several are of the kind."]


class AddOptions(Placed):
    """What may follow ``accounts add``."""

    synopsis = "[options] NAME"
    longdesc = """
Add an API key (--key-file) or a service account (--service-account) under a name, as a file in the upstream's
credentials_dir; `antigravity login` adds a Google account.  One of that name is replaced.  A key is never an argument,
which others on this machine could see."""
    optParameters: list[list[Any]] = [  # noqa: RUF012
        *Placed.optParameters,
        _UPSTREAM,
        ["key-file", "k", None, "A file that holds the API key; - for standard input."],
        ["service-account", "s", None, "A service account's key file, in JSON; - for standard input."],
        ["project", "p", None, "The Google project; a service account has one of its own."],
        *_TERMS,
    ]
    action = "add"
    names_least = names_most = 1

    def postOptions(self) -> None:
        """Want one of the two."""
        if bool(self["key-file"]) == bool(self["service-account"]):
            raise usage.UsageError("add takes --key-file or --service-account; see --help.")


class ImportOptions(Placed):
    """What may follow ``accounts import``."""

    synopsis = "[options] FILE"
    longdesc = """
Add Google accounts from a file of other programs: {"accounts": [{"email": ..., "refresh_token": ...}]}, or the list
alone; - for standard input.  An account that is there is renewed where it stands.  The refresh tokens must be those of
the OAuth client in the configuration."""
    optParameters = [*Placed.optParameters, _UPSTREAM]  # noqa: RUF012
    action = "import"
    names_least = names_most = 1
    what = "FILE"


class ExportOptions(Placed):
    """What may follow ``accounts export``."""

    synopsis = "[options] --output FILE"
    longdesc = """
Write the Google accounts of an upstream as `import` takes them, refresh tokens in clear: to a new file of mode 0600, or
to standard output for -."""
    optParameters = [  # noqa: RUF012
        *Placed.optParameters,
        _UPSTREAM,
        ["output", "o", None, "The file, which must not be there yet; - for standard output."],
    ]
    action = "export"

    def postOptions(self) -> None:
        """Want to be told where to."""
        if not self["output"]:
            raise usage.UsageError("export takes --output FILE; see --help.")


class SetOptions(Several):
    """What may follow ``accounts set``."""

    longdesc = """
Say how much credentials that lie in files are used: weight, priority, requests at a time.  ``default`` for a value
takes what is said in the file out of it: the upstream's counts again.  A gateway that is running follows."""
    action = "set"
    optParameters: list[list[Any]] = [*Placed.optParameters, *_TERMS]  # noqa: RUF012

    def postOptions(self) -> None:
        """Want to be told something."""
        if all(self[name] is None for name, *_ in _TERMS):
            raise usage.UsageError("set takes --weight, --priority or --max-concurrent; see --help.")


class RemoveOptions(Several):
    """What may follow ``accounts remove``."""

    longdesc = """
Remove credentials that lie in files, those of `login`, `add` and `import`.  Requests under way end as they would.
Nothing is revoked at Google."""
    action = "remove"


class ExplainOptions(Placed):
    """What may follow ``antigravity explain``."""

    synopsis = "[options] MODEL"
    longdesc = "Say which credential a request for a model would be given now, and why each other would not."
    optParameters = [  # noqa: RUF012
        *Placed.optParameters,
        ["session", "s", None, "A session's fingerprint, as the log has it, or what a client sends as X-Session-Id."],
        ["verb", None, "generateContent", "The method."],
    ]
    action = "explain"
    names_least = names_most = 1
    what = "MODEL"


class AccountsOptions(Versioned):
    """What may follow ``antigravity accounts``."""

    synopsis = ""
    longdesc = """
See and steer the credentials: those of the running gateway, through admin.sock in its state directory, or where none
runs those of its configuration and files.  NAME is UPSTREAM/NAME as `list` prints it, NAME alone where one credential
has it, or what logs call it.  Exit status: 0 if all went well, 1 if not, 78 if the configuration is wrong."""
    subCommands = (
        ("list", None, ListOptions, "List them."),
        ("add", None, AddOptions, "Add an API key or a service account."),
        ("import", None, ImportOptions, "Add Google accounts from a file of other programs."),
        ("export", None, ExportOptions, "Write Google accounts to such a file."),
        ("set", None, SetOptions, "Say how much some that lie in files are used."),
        ("remove", None, RemoveOptions, "Remove some that lie in files."),
        ("disable", None, DisableOptions, "Use some no more."),
        ("enable", None, EnableOptions, "Use them again."),
        ("clear", None, ClearOptions, "Forget cool-downs and quarantines."),
        ("test", None, TestOptions, "Try some with a countTokens call."),
        ("resume", None, ResumeOptions, "Let a halted upstream go on."),
    )

    def postOptions(self) -> None:
        """Want a command."""
        if self.subCommand is None:
            raise usage.UsageError("which command? `antigravity accounts --help` lists them")

    def command(self) -> Command:
        """Return the command."""
        command: Command = self.subOptions.command()
        return command


def _say(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Whoever read has seen enough; the interpreter would complain once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
