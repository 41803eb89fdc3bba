"""`twistd antigravity-simulator`: options and the service."""

from pathlib import Path
from typing import Any

import msgspec
from twisted.application import strports
from twisted.application.service import IService
from twisted.python import usage

DEFAULT_LISTEN = "tcp:8099:interface=127.0.0.1"


def _load_script(path: str) -> Any:
    """A fault script from a JSON or YAML file; raises UsageError with a sentence."""
    import yaml

    from gateway.simulator.world import Script

    try:
        document = yaml.safe_load(Path(path).read_text("utf-8"))
        return msgspec.convert(document or {}, Script)
    except (OSError, yaml.YAMLError, msgspec.ValidationError) as problem:
        raise usage.UsageError(f"The script {path} cannot be used: {problem}") from problem


class Options(usage.Options):
    """What the command line takes."""

    synopsis = "[options]"
    longdesc = (
        "A stand-in for Google's Gemini backends, for tests: no account, no key, no network. On one port it "
        "answers the public Gemini API (/v1beta/models/...), v1internal, Vertex AI paths and the OAuth token "
        "endpoint. Any API key is good unless it begins with 'bad'. Try: curl -H 'x-goog-api-key: k' "
        "http://127.0.0.1:8099/v1beta/models . Faults are set with POST /_simulator/faults or by a script; "
        "docs/simulator.rst lists them. It has no access control: keep it on a loopback address."
    )
    optParameters = [  # noqa: RUF012  (usage.Options reads it so)
        ["listen", "l", DEFAULT_LISTEN, "Where to listen: a Twisted endpoint description."],
        ["port", "p", None, "Short for --listen tcp:PORT:interface=127.0.0.1."],
        ["pace", None, 0.03, "Seconds between two events of a stream; 0 sends them at once.", float],
        ["keep", None, "1000", "How many requests the record keeps."],
        ["script", "s", None, "A JSON or YAML file of faults, quotas and token settings to begin with."],
    ]

    def postOptions(self) -> None:
        """Check what can be checked before anything runs."""
        if self["port"] is not None:
            if not str(self["port"]).isdecimal():
                raise usage.UsageError("--port is a number; --listen takes an endpoint description.")
            self["listen"] = f"tcp:{self['port']}:interface=127.0.0.1"
        if not self["keep"].isdecimal() or not int(self["keep"]):
            raise usage.UsageError("--keep is a number above 0.")
        if self["pace"] < 0:
            raise usage.UsageError("--pace must not be negative.")
        self["loaded"] = _load_script(self["script"]) if self["script"] else None


def makeService(options: Options) -> IService:
    """The simulator behind its listener; the reactor is imported only now, when twistd has chosen it."""
    from twisted.internet import reactor

    from gateway.simulator.world import Simulator

    simulator = Simulator(reactor, pace_seconds=options["pace"], keep_requests=int(options["keep"]))
    if options["loaded"] is not None:
        simulator.load(options["loaded"])
    return strports.service(options["listen"], simulator.site(), reactor=reactor)
