"""``twistd antigravity``: its options, and the service that they ask for."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import attrs
from twisted.application.service import IService
from twisted.python import usage

from gateway import __version__
from gateway.config import Config, ConfigError, describe, from_environment, listeners, load, simulated

EX_CONFIG = 78
"""The exit status of a configuration error: sysexits.h."""


@attrs.frozen
class Source:
    """Where the configuration comes from; it is read at the start and again at each reload."""

    path: str
    """Absolute, since a daemon may work in another directory; empty for the environment alone."""
    simulates: bool
    environ: Mapping[str, str] = attrs.field(repr=False)

    def read(self, origin: str = "", state_dir: str = "") -> Config:
        """Return the configuration, with all that it names read and in order; raises ConfigError.

        ``origin`` is where the simulator listens, ``state_dir`` a directory for what it makes up, once there are any.
        """
        config = load(self.path, self.environ, with_upstreams=not self.simulates) if self.path else None
        if self.simulates:
            config = simulated(origin or "http://127.0.0.1:0", config, state_dir)
        config = config or from_environment(self.environ)
        _check_keys(config)
        _check_accounts(config)
        _check_certificates(config)
        return config


class Options(usage.Options):
    """What may follow ``twistd antigravity``."""

    synopsis = "[options]"
    longdesc = """
A gateway for the Gemini API over a pool of Google credentials.  Point clients at http://127.0.0.1:8045.

There are three ways to start it: with --simulate it answers by itself, for a first try; with GEMINI_API_KEY in
the environment it passes requests on to Google with that key (or with several, separated by commas); with --config
FILE it does what the file says.  `twistd -n antigravity ...` stays in the foreground; without -n it becomes a
daemon that logs to twistd.log."""

    optParameters = [  # noqa: RUF012
        ["config", "c", None, "The configuration file, in YAML."],
    ]
    optFlags = [  # noqa: RUF012
        ["simulate", "s", "Let the built-in simulator stand in for Google."],
        ["check", None, "Check the configuration, print what would run, and exit: 0 if it is good, 78 if not."],
    ]

    def opt_version(self) -> None:
        """Print the gateway's version and exit."""
        print(f"antigravity-gateway {__version__}")
        sys.exit(0)

    def postOptions(self) -> None:
        """Read the configuration; one that cannot run ends the program with one sentence and status 78."""
        path = os.path.abspath(self["config"]) if self["config"] else ""
        self["source"] = Source(path, bool(self["simulate"]), dict(os.environ))
        try:
            self["loaded"] = self["source"].read()
        except ConfigError as error:
            print(f"antigravity: {error}", file=sys.stderr)
            sys.exit(EX_CONFIG)
        if self["check"]:
            print(describe(self["loaded"]))
            sys.exit(0)


def makeService(options: Options) -> IService:
    """Return the service that the options ask for; nothing is opened before it starts."""
    from twisted.internet import reactor as default_reactor

    from gateway.service import Gateway

    reactor: Any = default_reactor
    # Twisted counts by the wall clock, which is set now and then: by hours, after a sleep or a bad start.  Rests and
    # timers are durations.  Nothing is scheduled yet.
    reactor.seconds = time.monotonic
    twistd: Mapping[str, Any] = options.parent or {}
    source: Source = options["source"]
    return Gateway(options["loaded"], reactor, twistd, source.read, source.simulates)


def _check_keys(config: Config) -> None:
    """Refuse to be open to a network before there is any client key."""
    exposed = [one for one in config.proxy.listen if not listeners.is_loopback(one)]
    if not exposed or config.proxy.keys:
        return
    from pathlib import Path

    from gateway.keys.bookfile import BookError, BookFile

    try:
        made = BookFile(Path(config.state_dir)).load() if config.state_dir else []
    except (BookError, OSError) as error:
        raise ConfigError(config.source, "state_dir", f"its client keys cannot be read: {error}", "mend it") from None
    if all(key.revoked is not None for key in made):
        raise ConfigError(
            config.source,
            "proxy.listen",
            f"the gateway refuses to start while {exposed[0]} is open to others and no key exists",
            "write proxy.api_key, make a key with `antigravity keys create`, or listen on interface=127.0.0.1",
        )


def _check_accounts(config: Config) -> None:
    from pathlib import Path

    from gateway.accounts import keyfiles, sealing, store

    for upstream in config.upstreams:
        if upstream.credentials_dir:
            directory, seal = Path(upstream.credentials_dir), sealing.seal_of(upstream.credentials_key)
            try:
                if upstream.oauth is not None:
                    store.load(directory, seal)
                else:
                    keyfiles.load(directory, upstream.kind, seal)
            except store.StoreError as error:
                raise ConfigError(
                    config.source, f"upstreams.{upstream.name}.credentials_dir", str(error), "mend it"
                ) from None


def _check_certificates(config: Config) -> None:
    if not any(listeners.parse(one).kind == "ssl" for one in (*config.proxy.listen, *config.admin.listen)):
        return
    from gateway.process import tls

    for section, listen, client_ca in (
        ("proxy", config.proxy.listen, config.proxy.client_ca),
        ("admin", config.admin.listen, ""),
    ):
        for description in listen:
            if listeners.parse(description).kind == "ssl":
                try:
                    tls.context(description, client_ca)
                except tls.BadCertificate as error:
                    raise ConfigError(
                        config.source, f"{section}.listen", f"{description}: {error}", "mend its files"
                    ) from None
