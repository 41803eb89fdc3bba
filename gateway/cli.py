"""``antigravity``: what an operator does beside the daemon.  Each command is a module of ``gateway.commands``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from twisted.internet.defer import CancelledError, Deferred
from twisted.python import usage

from gateway import tap
from gateway.commands.keyoptions import KeysOptions
from gateway.commands.options import AccountsOptions, Command, ExplainOptions, Versioned
from gateway.commands.usageoptions import UsageOptions
from gateway.config import ConfigError


class CheckOptions(tap.Options):
    """What may follow ``antigravity check``."""

    longdesc = "Check a configuration and print what would run: exit status 0 if it is good, 78 if not."

    def postOptions(self) -> None:
        """Check, print and exit, as ``twistd antigravity --check`` does."""
        self["check"] = 1
        super().postOptions()


class LoginOptions(Versioned):
    """What may follow ``antigravity login``."""

    synopsis = "--config FILE [options]"
    longdesc = """
Sign a Google account in for an upstream of kind codeassist, with the OAuth client of the configuration.  It prints
an address to open in a browser on this machine or another, finds the account's project, and saves the account under
credentials_dir.  Exit status: 0 if the account can be used, 1 if not, 78 if the configuration is wrong."""

    optParameters = [  # noqa: RUF012
        ["config", "c", None, "The configuration file, in YAML."],
        ["upstream", "u", None, "The upstream to sign in to, where several are of kind codeassist."],
        ["name", None, None, "The account's name; its e-mail address unless given."],
        ["timeout", None, 600.0, "How many seconds to wait for the browser.", float],
    ]
    optFlags = [["no-browser", None, "Print the address only; open no browser."]]  # noqa: RUF012

    def postOptions(self) -> None:
        """Refuse a waiting time that is none."""
        if not 0 < self["timeout"] <= 86400:
            raise usage.UsageError("--timeout is a number of seconds, above 0 and at most 86400.")

    def command(self) -> Command:
        """Return the command."""
        from gateway.commands.login import Wish, login

        config, upstream, name = (self[key] or "" for key in ("config", "upstream", "name"))
        wish = Wish(config, upstream, name.strip(), not self["no-browser"], self["timeout"])
        return lambda reactor: login(reactor, wish, dict(os.environ), _say)


class PasswordOptions(Versioned):
    """What may follow ``antigravity password``."""

    longdesc = """
Ask for a password, twice, and print its hash, which goes into the configuration as admin.password.  Where standard
input is no terminal its first line is the password."""

    def command(self) -> Command:
        """Return the command."""
        from gateway.commands.dashboard import password

        return lambda reactor: password(_say)


class DashboardOptions(Versioned):
    """What may follow ``antigravity dashboard``."""

    longdesc = """
Print an address at which a browser is signed in to the dashboard of the gateway that runs: once, and within five
minutes.  Only the user that runs the gateway can do this."""
    optParameters = [  # noqa: RUF012
        ["config", "c", None, "The configuration file; without one, as a gateway that runs from GEMINI_API_KEY."],
        ["state-dir", None, None, "The gateway's state directory, where the configuration does not say."],
    ]

    def command(self) -> Command:
        """Return the command."""
        from gateway.commands.dashboard import link
        from gateway.commands.pool import Place

        place = Place(self["config"] or "", self["state-dir"] or "")
        return lambda reactor: link(reactor, place, dict(os.environ), _say)


class Options(Versioned):
    """What may follow ``antigravity``."""

    synopsis = "Usage: antigravity"
    longdesc = "What an operator of the gateway does beside the daemon; `antigravity COMMAND --help` says more."
    subCommands = (
        ("check", None, CheckOptions, "Check a configuration and print what would run."),
        ("login", None, LoginOptions, "Sign a Google account in."),
        ("accounts", None, AccountsOptions, "See and steer the credentials."),
        ("keys", None, KeysOptions, "Make client keys, and steer them."),
        ("usage", None, UsageOptions, "Say who used what, and what it cost."),
        ("dashboard", None, DashboardOptions, "Print where a browser is signed in to the dashboard."),
        ("password", None, PasswordOptions, "Make the hash of a password for the dashboard."),
        ("explain", None, ExplainOptions, "Say how a request would be routed now, and why."),
    )

    def postOptions(self) -> None:
        """Want a command."""
        if self.subCommand is None:
            raise usage.UsageError("which command? `antigravity --help` lists them")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its status: 0, 1, or 78 for a configuration that cannot be used."""
    options = Options()
    try:
        options.parseOptions(sys.argv[1:] if arguments is None else list(arguments))
    except usage.UsageError as error:
        print(f"antigravity: {error}", file=sys.stderr)
        sys.exit(1)
    _react(options.subOptions.command())


def _react(command: Command) -> NoReturn:
    from twisted.internet import task

    def run(reactor: Any) -> Deferred[None]:
        over: Deferred[None] = Deferred()
        running = Deferred.fromCoroutine(_status(reactor, command))

        def interrupted() -> Deferred[None]:
            running.cancel()
            return over

        def ended(result: Any) -> Any:
            over.callback(None)
            return result

        # Ctrl-C: the reactor waits until the command has tidied up.
        reactor.addSystemEventTrigger("before", "shutdown", interrupted)
        return running.addBoth(ended).addCallback(_exit)

    task.react(run)


async def _status(reactor: Any, command: Command) -> int:
    from twisted.internet.task import deferLater

    try:
        # Only a reactor that runs knows what to do about Ctrl-C.
        await deferLater(reactor, 0)
        return await command(reactor)
    except ConfigError as error:
        print(f"antigravity: {error}", file=sys.stderr)
        return tap.EX_CONFIG
    except CancelledError:
        return 1


def _exit(status: int) -> None:
    if status:
        raise SystemExit(status)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
