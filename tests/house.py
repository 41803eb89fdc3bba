"""A simulator and a daemon as processes, for a browser to visit.  Does I/O."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import attrs

from gateway.config import passwords
from tests.clients.daemon import free_port, secret
from tests.clients.environments import REPOSITORY

DEADLINE_SECONDS = 30.0
MODEL = "gemini-2.5-flash"
PASSWORD = "correct horse battery"
KEY = "a-key-of-the-house"
TOKEN = "a-token-of-the-house"


@attrs.define(eq=False)
class House:
    """Both of them, with their ports."""

    home: Path
    port: int = attrs.field(factory=free_port)
    admin_port: int = attrs.field(factory=free_port)
    google_port: int = attrs.field(factory=free_port)
    _children: list[subprocess.Popen[bytes]] = attrs.field(factory=list)

    @property
    def admin(self) -> str:
        """Where the dashboard is."""
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def google(self) -> str:
        """Where the simulator is."""
        return f"http://127.0.0.1:{self.google_port}"

    @property
    def config(self) -> Path:
        """The configuration's file."""
        return self.home / "antigravity.yaml"

    def begin(self) -> None:
        """Start both, and wait until they answer."""
        self.home.mkdir(mode=0o700, parents=True)
        self.write(passwords.hashed(PASSWORD))
        for name in ("ann", "bob"):
            self.account(name)
        self._start("antigravity-simulator", "--port", str(self.google_port), "--pace", "0.02")
        self._start("antigravity", "--config", str(self.config))
        for url in (f"{self.google}/healthz", f"{self.admin}/healthz"):
            self.until(lambda url=url: ask("GET", url)[0] != 0)  # type: ignore[misc]

    def write(self, password: str) -> None:
        """Write the configuration."""
        google = self.google
        oauth = {
            "client_id": "an-id",
            "client_secret": "a-secret",
            "token_url": f"{google}/token",
            "auth_url": f"{google}/o/oauth2/v2/auth",
            "userinfo_url": f"{google}/oauth2/v2/userinfo",
        }
        credentials = [{"name": "first", "api_key": "good-1"}, {"name": "second", "api_key": "good-2"}]
        document: dict[str, Any] = {
            "proxy": {"listen": f"tcp:{self.port}:interface=127.0.0.1", "api_key": KEY},
            "admin": {"listen": f"tcp:{self.admin_port}:interface=127.0.0.1", "password": password, "token": TOKEN},
            "upstreams": {
                "studio": {"kind": "aistudio", "base_urls": [google], "credentials": credentials},
                "pool": {
                    "kind": "codeassist",
                    "base_urls": [f"{google}/v1internal"],
                    "oauth": oauth,
                    "models": ["gemini-3*"],
                },
            },
            "routing": {"aliases": {"gpt-4*": MODEL, "fast": MODEL}},
            "state_dir": str(self.home / "state"),
        }
        secret(self.config, json.dumps(document))

    def account(self, name: str) -> None:
        """Add an account's file."""
        path = self.home / "state" / "accounts" / f"{name}.json"
        for directory in (path.parent.parent, path.parent):
            directory.mkdir(mode=0o700, exist_ok=True)
        document = {"name": name, "refresh_token": f"1//sim-{name}", "project": f"project-{name}"}
        secret(path, json.dumps(document))

    def command(self, *arguments: str) -> str:
        """Run ``antigravity`` and return what it prints."""
        program = [sys.executable, "-m", "gateway.cli", *arguments, "--config", str(self.config)]
        return subprocess.run(program, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout.strip()

    def request(self, text: str = "Hello", key: str = KEY, model: str = MODEL, session: str = "") -> tuple[int, str]:
        """Send a client's request; return its status, and the credential that served it."""
        body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
        headers = {"x-goog-api-key": key, "x-session-id": session}
        url = f"http://127.0.0.1:{self.port}/v1beta/models/{model}:generateContent"
        status, _, fields = ask("POST", url, body, {name: value for name, value in headers.items() if value})
        return status, fields.get("x-antigravity-credential", "")

    def fault(self, **rule: Any) -> None:
        """Have the simulator misbehave."""
        ask("POST", f"{self.google}/_simulator/faults", rule)

    def until(self, condition: Any) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError("waited in vain")
            time.sleep(0.05)

    def end(self) -> None:
        """End both."""
        for child in reversed(self._children):
            child.terminate()
        for child in self._children:
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                child.kill()

    def _start(self, *arguments: str) -> None:
        program = Path(sys.executable).with_name("twistd")
        log = (self.home / f"{arguments[0]}.log").open("wb")
        command = [str(program), "-n", "--pidfile=", *arguments]
        self._children.append(subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT))


def ask(
    method: str, url: str, document: object = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes, dict[str, str]]:
    """Send a request; return status, body and header fields, and 0 where nobody answers."""
    data = None if document is None else json.dumps(document).encode()
    fields = {"content-type": "application/json", **(headers or {})}
    request = urllib.request.Request(url, data, fields, method=method)
    try:
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as answer:
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.headers.items()}
    except urllib.error.HTTPError as error:
        return error.code, error.read(), {name.lower(): value for name, value in error.headers.items()}
    except OSError:
        return 0, b"", {}
