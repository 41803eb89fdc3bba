"""Start what the availability bench compares, each with ten credentials of one simulator.  Does I/O."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import environments
import outages
import processes
import talks

LITELLM_START_SECONDS = 120.0
"""It imports for a long time."""
CLIENT_KEY = "sk-bench-client-key"
ATTEMPTS = 3
"""The most that either makes for one request."""
STREAM_PACE_SECONDS = 0.01


@attrs.frozen
class Contender:
    """A running proxy, as the load needs to know it."""

    title: str
    version: str
    face: str
    """Which of the simulator's faces it speaks to."""
    process: processes.Measured
    dialect: str
    """Which of the dialects its clients speak."""
    headers: Mapping[str, str]
    settings: Mapping[str, Any]
    """What was set, for the report."""


def start_simulator(directory: Path) -> processes.Measured:
    """Start the simulator as users do."""
    port = processes.free_port()
    command = [processes.twistd(), "-n", "--pidfile=", "antigravity-simulator", "--port", str(port)]
    command += ["--pace", str(STREAM_PACE_SECONDS)]
    return processes.start("simulator", command, port, directory, cwd=processes.BENCH.parent)


def _secret(path: Path, text: str) -> None:
    path.touch(0o600)
    path.write_text(text, "utf-8")


def _studio(origin: str) -> dict[str, Any]:
    names = [outages.name_of(number) for number in range(outages.CREDENTIALS)]
    keys = [{"name": name, "api_key": name} for name in names]
    return {"kind": "aistudio", "base_urls": [origin], "credentials": keys}


def _accounts(origin: str, state: Path) -> dict[str, Any]:
    directory = state / "accounts"
    directory.mkdir(mode=0o700)
    for number in range(outages.CREDENTIALS):
        name = outages.name_of(number)
        account = {"name": name, "refresh_token": name, "project": f"project-{number}"}
        _secret(directory / f"{name}.json", json.dumps(account))
    secret = state.parent / "client-secret"
    _secret(secret, "bench-secret")
    oauth = {"client_id": "bench", "client_secret_file": str(secret), "token_url": f"{origin}/token"}
    return {
        "kind": "codeassist",
        "base_urls": [f"{origin}/v1internal"],
        "oauth": oauth,
        "credentials_dir": "accounts",
    }


def start_gateway(kind: str, simulator: processes.Measured, directory: Path) -> Contender:
    """Start the gateway as users do, with ten API keys or ten accounts."""
    from gateway import __version__

    port = processes.free_port()
    state = directory / "state"
    state.mkdir(mode=0o700)
    origin = f"http://127.0.0.1:{simulator.port}"
    upstream = _studio(origin) if kind == "aistudio" else _accounts(origin, state)
    configuration = {
        "proxy": {"listen": f"tcp:{port}:interface=127.0.0.1", "api_key": CLIENT_KEY},
        "upstreams": {"bench": upstream},
        "routing": {"max_attempts": ATTEMPTS},
        "admin": {"listen": ""},
        "state_dir": str(state),
    }
    file = directory / "antigravity.yaml"
    _secret(file, json.dumps(configuration, indent=2))  # JSON is YAML
    command = [processes.twistd(), "-n", "--pidfile=", "antigravity", "--config", str(file)]
    process = processes.start("gateway", command, port, directory, cwd=processes.BENCH.parent)
    settings = {"kind": kind, "max_attempts": ATTEMPTS}
    return Contender("gateway", __version__, kind, process, "gemini", {"x-goog-api-key": CLIENT_KEY}, settings)


def set_up_litellm() -> Path:
    """Install LiteLLM into an environment of its own, unless it is there; return the environment's directory."""
    try:
        return environments.LITELLM.prepare()
    except environments.CannotSetUp as error:
        raise processes.StartError(f"LiteLLM could not be installed: {error}") from error


def litellm_settings(lasting: float) -> dict[str, dict[str, Any]]:
    """Return LiteLLM's router settings by the name of each way to set it."""
    stock = {"num_retries": ATTEMPTS - 1}
    return {"LiteLLM": stock, "LiteLLM, tuned": {**stock, "allowed_fails": 0, "cooldown_time": int(lasting)}}


def start_litellm(
    title: str, dialect: str, settings: Mapping[str, Any], simulator: processes.Measured, directory: Path
) -> Contender:
    """Start LiteLLM's proxy with ten deployments of one model; set_up_litellm comes first."""
    port = processes.free_port()
    base = f"http://127.0.0.1:{simulator.port}/v1beta"
    deployments = [
        {
            "model_name": talks.MODEL,
            "litellm_params": {
                "model": f"gemini/{talks.MODEL}",
                "api_base": base,
                "api_key": outages.name_of(number),
            },
        }
        for number in range(outages.CREDENTIALS)
    ]
    configuration = {
        "model_list": deployments,
        "router_settings": dict(settings),
        "litellm_settings": {"telemetry": False},
        "general_settings": {"master_key": CLIENT_KEY},
    }
    file = directory / "litellm.yaml"
    _secret(file, json.dumps(configuration, indent=2))
    # The table of prices comes from the package and not from the network; it logs no request.
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "NO_PROXY": "127.0.0.1",
    }
    command: Sequence[str] = [
        *(str(set_up_litellm() / "bin" / "litellm"), "--config", str(file)),
        *("--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"),
    ]
    process = processes.start(
        "litellm", list(command), port, directory, directory, LITELLM_START_SECONDS, environment
    )
    script = "from importlib.metadata import version; print(version('litellm'))"
    asked = [str(set_up_litellm() / "bin" / "python"), "-c", script]
    version = subprocess.run(asked, capture_output=True, text=True, timeout=60).stdout.strip()
    headers = {"Authorization": f"Bearer {CLIENT_KEY}"}
    return Contender(title, version, "aistudio", process, dialect, headers, {**settings, "route": dialect})
