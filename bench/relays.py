"""What the performance bench compares: what each is, what it does, how it starts.  Does I/O."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import attrs
import environments
import faces
import figures
import ours
import processes
import proxies
import shapes

SLOW_START_SECONDS = 180.0
_LITELLM_KEY = "sk-bench-client-key"


@attrs.frozen
class Relay:
    """One of those that are compared."""

    name: str
    version: Callable[[], str]
    does: str
    """What it does with a request, for the reader of the figures."""
    start: Callable[[ours.Ground], processes.Measured]
    face: Callable[[ours.Ground], faces.Face] = lambda ground: faces.gemini()
    share: float = 1.0
    """How much of a load it is given, so that a slow one does not take all the time of a run."""
    tls: bool = True
    """Whether it is also measured with upstream over TLS."""
    streams_most: int = 5000
    """How many open streams it is given."""


def _venv_version(environment: environments.Environment, *packages: str) -> str:
    """Return the versions of packages of an environment, by its own metadata."""
    (site,) = (environment.directory / "lib").glob("python*/site-packages")
    found = {d.name: d.version for d in metadata.distributions(path=[str(site)]) if d.name in packages}
    return ", ".join(f"{name} {found[name]}" for name in packages)


def _own_version(*packages: str) -> str:
    return ", ".join(f"{name} {metadata.version(name)}" for name in packages)


def _program_version(name: str, flag: str) -> str:
    done = subprocess.run([environments.program(name, name), flag], capture_output=True, text=True, timeout=10)
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return f"{name} {found[0] if found else 'of unknown version'}"


def _start_python(script: str, environment: environments.Environment, ground: ours.Ground) -> processes.Measured:
    """Start one of the bench's relays in an environment of its own; it is given what it needs as arguments."""
    port = processes.free_port()
    command = [str(environment.prepare() / "bin" / "python"), str(processes.BENCH / script), "--port", str(port)]
    command += ["--upstream", f"{ground.origin}/v1internal"]
    command += ["--key", shapes.CLIENT_KEY, "--token", shapes.UPSTREAM_TOKEN]
    name = script.removesuffix(".py")
    return processes.start(name, command, port, ground.directory, more_environment=ground.environment)


def _start_nginx(ground: ours.Ground) -> processes.Measured:
    port, file = processes.free_port(), ground.directory / "nginx.conf"
    authority = str(ground.authority) if ground.authority else None
    text = proxies.nginx(port, ground.upstream_port, str(ground.directory), authority, ours.file_limit())
    # Its worker gives up root and then still writes its temporary files here.
    file.write_text(("user root;\n" if os.geteuid() == 0 else "") + text, "utf-8")
    command = [environments.program("nginx", "nginx"), "-p", str(ground.directory), "-c", str(file), "-e", "stderr"]
    return processes.start("nginx", command, port, ground.directory)


def _start_haproxy(ground: ours.Ground) -> processes.Measured:
    port, file = processes.free_port(), ground.directory / "haproxy.cfg"
    authority = str(ground.authority) if ground.authority else None
    file.write_text(proxies.haproxy(port, ground.upstream_port, authority, ours.file_limit()), "utf-8")
    command = [environments.program("haproxy", "haproxy"), "-db", "-f", str(file)]
    return processes.start("haproxy", command, port, ground.directory)


def _start_litellm(ground: ours.Ground) -> processes.Measured:
    port, file = processes.free_port(), ground.directory / "litellm.yaml"
    parameters = {"model": "gemini/*", "api_base": f"{ground.origin}/v1beta", "api_key": shapes.UPSTREAM_KEY}
    configuration = {
        "model_list": [{"model_name": "*", "litellm_params": parameters}],
        "litellm_settings": {"telemetry": False},
        "general_settings": {"master_key": _LITELLM_KEY},
    }
    file.touch(0o600)
    file.write_text(json.dumps(configuration, indent=2), "utf-8")
    # The table of prices comes from the package and not from the network; it logs no request.
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"}
    command = [
        *(str(environments.LITELLM.prepare() / "bin" / "litellm"), "--config", str(file)),
        *("--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"),
    ]
    return processes.start(
        "litellm", command, port, ground.directory, ground.directory, SLOW_START_SECONDS, quiet
    )


def _portkey() -> Path:
    return environments.NODE.prepare() / "node_modules" / "@portkey-ai" / "gateway"


def _start_portkey(ground: ours.Ground) -> processes.Measured:
    port = processes.free_port()
    script = str(_portkey() / "build" / "start-server.js")
    command = [environments.program("node", "nodejs"), script, f"--port={port}", "--headless"]
    quiet = {"NODE_ENV": "production"}
    return processes.start(
        "portkey", command, port, ground.directory, ground.directory, more_environment=quiet | ground.environment
    )


def _portkey_face(ground: ours.Ground) -> faces.Face:
    # It takes upstream and its key from the client.
    upstream = {"x-portkey-provider": "google", "x-portkey-custom-host": ground.origin}
    return faces.openai({**upstream, "Authorization": f"Bearer {shapes.TRANSLATOR_KEY}"})


def _portkey_version() -> str:
    return f"Portkey {json.loads((_portkey() / 'package.json').read_text('utf-8'))['version']}"


def _gateway_version() -> str:
    from gateway import __version__

    return f"gateway {__version__}"


_RELAYED = "checks the key, reads the path, wraps the body and unwraps the answer with json"

GATEWAY = Relay(
    "gateway",
    _gateway_version,
    "everything: key check, account and its token, rotation, sessions, limits, wraps and unwraps, log line",
    ours.start_gateway,
)
BARE = Relay(
    "bare", lambda: _own_version("Twisted", "treq", "klein"), f"Klein, treq and json: {_RELAYED}", ours.start_bare
)
AGAIN = Relay(figures.AGAIN, BARE.version, BARE.does, lambda ground: ours.start_bare(ground, figures.AGAIN))
OTHERS = (
    Relay(
        figures.DEFAULTS,
        BARE.version,
        f"Klein, treq and json with treq's own pool of two connections a host: {_RELAYED}",
        lambda ground: ours.start_bare(ground, figures.DEFAULTS, "--defaults"),
        streams_most=1000,
    ),
    Relay(
        "nginx",
        lambda: _program_version("nginx", "-v"),
        "reverse proxy of one worker: compares the key and replaces it; no JSON, no log",
        _start_nginx,
    ),
    Relay(
        "HAProxy",
        lambda: _program_version("haproxy", "-v"),
        "reverse proxy of one thread: compares the key and replaces it; no JSON, no log",
        _start_haproxy,
    ),
    Relay(
        "aiohttp",
        lambda: _venv_version(environments.AIOHTTP, "aiohttp", "uvloop"),
        f"aiohttp server and client on uvloop: {_RELAYED}",
        lambda ground: _start_python("relay_aiohttp.py", environments.AIOHTTP, ground),
    ),
    Relay(
        "Starlette",
        lambda: _venv_version(environments.STARLETTE, "starlette", "httpx", "uvicorn"),
        f"Starlette and httpx on uvicorn with uvloop: {_RELAYED}",
        lambda ground: _start_python("relay_starlette.py", environments.STARLETTE, ground),
        share=0.25,
        streams_most=1000,
    ),
    Relay(
        "LiteLLM",
        lambda: _venv_version(environments.LITELLM, "litellm"),
        "its proxy's Gemini route, one worker: checks its master key, routes, counts cost; no log of requests",
        _start_litellm,
        lambda ground: faces.gemini(_LITELLM_KEY),
        share=0.05,
        tls=False,
        streams_most=250,
    ),
    Relay(
        "Portkey",
        _portkey_version,
        "its open gateway: translates OpenAI's chat completions to Gemini and back; the client brings upstream's key",
        _start_portkey,
        _portkey_face,
        share=0.25,
        tls=False,
        streams_most=1000,
    ),
)
