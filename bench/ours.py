"""Start the upstream, the gateway as users run it, and the bare relay.  Does I/O."""

from __future__ import annotations

import json
import resource
import socket
import sys
from pathlib import Path

import attrs
import certificates
import processes
import shapes

_INHERIT = 'exec 3<&"$0"; export LISTEN_FDS=1 LISTEN_FDNAMES=bench LISTEN_PID=$$; exec "$@"'
"""What systemd does for a socket unit: descriptor 3 is a listening socket, for the process with this id."""


@attrs.frozen
class Ground:
    """What a relay is started on."""

    origin: str
    """Upstream's, with scheme and port."""
    upstream_port: int
    authority: Path | None
    """The certificate that upstream's is to be verified with; None for plain HTTP."""
    directory: Path
    """An empty one, of the relay's own."""

    @property
    def environment(self) -> dict[str, str]:
        """What makes OpenSSL and Node trust the authority."""
        if self.authority is None:
            return {}
        return {"SSL_CERT_FILE": str(self.authority), "NODE_EXTRA_CA_CERTS": str(self.authority)}


@attrs.define(eq=False)
class Upstream:
    """The running stand-in: one process, over plain HTTP and over TLS."""

    process: processes.Measured
    tls_port: int
    authority: Path
    stranger: Path
    """The certificate of an authority that has nothing to do with upstream's."""
    _directory: Path
    _grounds: int = 0

    @classmethod
    def start(cls, directory: Path) -> Upstream:
        """Start it."""
        elsewhere = directory / "stranger"
        elsewhere.mkdir()
        files, stranger = certificates.make(directory), certificates.make(elsewhere).authority
        port, tls_port = processes.free_port(), processes.free_port()
        command = [sys.executable, str(processes.BENCH / "upstream.py"), "--port", str(port)]
        command += ["--tls-port", str(tls_port), "--certificate", str(files.server)]
        process = processes.start("upstream", command, port, directory)
        return cls(process, tls_port, files.authority, stranger, directory)

    def ground(self, *, tls: bool = False, trusts: bool = True) -> Ground:
        """Return a place for one more relay; one that does not trust upstream must not get an answer."""
        self._grounds += 1
        directory = self._directory / f"relay-{self._grounds}"
        directory.mkdir(mode=0o700)
        if tls:
            authority = self.authority if trusts else self.stranger
            return Ground(f"https://{certificates.HOST}:{self.tls_port}", self.tls_port, authority, directory)
        return Ground(f"http://127.0.0.1:{self.process.port}", self.process.port, None, directory)


def file_limit() -> int:
    """Raise the limit of open files as far as it goes, for this process and those that it starts; return it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def start_bare(ground: Ground, name: str = "bare", *more: str) -> processes.Measured:
    """Start the baseline, perhaps with ``more`` arguments."""
    port = processes.free_port()
    command = [sys.executable, str(processes.BENCH / "bare.py"), "--port", str(port)]
    command += ["--upstream", f"{ground.origin}/v1internal", *more]
    return processes.start(name, command, port, ground.directory, more_environment=ground.environment)


def _secret(path: Path, text: str) -> None:
    path.touch(0o600)
    path.write_text(text, "utf-8")


def configure(ground: Ground, listen: str) -> Path:
    """Write the gateway's configuration, with one account of a codeassist upstream, and return its file."""
    state = ground.directory / "state"
    accounts = state / "accounts"
    accounts.mkdir(parents=True, mode=0o700)
    state.chmod(0o700)
    secret = ground.directory / "client-secret"
    account = {"name": "bench", "refresh_token": "bench-refresh-token", "project": "bench-project"}
    configuration = {
        "proxy": {"listen": listen, "api_key": shapes.CLIENT_KEY},
        "upstreams": {
            "accounts": {
                "kind": "codeassist",
                "base_urls": [f"{ground.origin}/v1internal"],
                "oauth": {
                    "client_id": "bench-client",
                    "client_secret_file": str(secret),
                    "token_url": f"{ground.origin}/token",
                },
                "credentials_dir": "accounts",
            }
        },
        "admin": {"listen": f"tcp:{processes.free_port()}:interface=127.0.0.1"},
        "state_dir": str(state),
    }
    file = ground.directory / "antigravity.yaml"
    _secret(secret, "bench-secret")
    _secret(accounts / "bench.json", json.dumps(account))
    _secret(file, json.dumps(configuration, indent=2))  # JSON is YAML
    return file


def _twistd(file: Path) -> list[str]:
    return [processes.twistd(), "-n", "--pidfile=", "antigravity", "--config", str(file)]


def start_gateway(ground: Ground) -> processes.Measured:
    """Start one gateway."""
    port = processes.free_port()
    command = _twistd(configure(ground, f"tcp:{port}:interface=127.0.0.1"))
    return processes.start(
        "gateway", command, port, ground.directory, processes.BENCH.parent, more_environment=ground.environment
    )


def start_gateways(grounds: list[Ground]) -> list[processes.Measured]:
    """Start several gateways on one port: each is given a socket of its own, bound with SO_REUSEPORT."""
    port, started = 0, []
    try:
        for ground in grounds:
            with socket.socket() as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                listener.bind(("127.0.0.1", port))
                listener.listen(4096)
                port = listener.getsockname()[1]
                command = ["sh", "-c", _INHERIT, str(listener.fileno())]
                command += _twistd(configure(ground, "systemd:domain=INET:index=0"))
                started.append(
                    processes.start(
                        "gateway",
                        command,
                        port,
                        ground.directory,
                        processes.BENCH.parent,
                        more_environment=ground.environment,
                        pass_fds=[listener.fileno()],
                    )
                )
    except processes.StartError:
        for one in started:
            one.stop()
        raise
    return started
