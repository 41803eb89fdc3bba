"""Configuration files: whatever is in one, it is read or refused in one sentence.  Writes a file."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

from gateway.config import ConfigError, describe, load
from tests.fuzz import SCRATCH
from tests.keyfiles import key_file

CANARY = "canary-that-is-secret"
ENVIRON = {"KEY": CANARY, "HOME": "/nonexistent", "STATE_DIRECTORY": "/nonexistent/state"}
SEEDS = (
    (Path(__file__).parents[2] / "conf" / "antigravity.yaml").read_bytes(),
    b"upstreams:\n  s:\n    kind: aistudio\n    credentials:\n      - {name: a, api_key_env: KEY}\n",
    b"upstreams:\n  s: {kind: aistudio, base_urls: [http://127.0.0.1:1],\n"
    b"    credentials: [{name: a, api_key: k, weight: 2}]}\n"
    b"routing: {max_attempts: 3, aliases: {'gpt-4*': m}, strategy: sticky}\ntimeouts: {idle: 2m, queue: 0}\n"
    b"limits: {body: 1MiB, queue: 4}\nmodels: {m: {input_token_limit: 5, methods: [countTokens]}}\n",
    b"upstreams:\n  a:\n    kind: codeassist\n    oauth: {client_id: c, client_secret_env: KEY}\n"
    b"    credentials_dir: accounts\n    envelope: {profile: gemini-cli, user_agent: x}\n",
    b"upstreams: {c: {kind: vertex, location: global, project: p,\n"
    b"  credentials: [{name: s, service_account_file: sa.json}]}}\n",
    b"proxy: {listen: ['tcp:1:interface=127.0.0.1', 'unix:/x'], auth_mode: off, api_key: 'sha256:0',\n"
    b"  done_marker: never}\nlog: {level: debug, format: json}\nstate_dir: x\n",
    b"{a: &x [*x]}", b"a: b: c", b"\xff\xfe", b"!!python/object:os.system {}", b"? [a]\n: b", b"a: 1\na: 2\n",
    b"--- a\n--- b\n",
)  # fmt: skip
DICTIONARY = (
    b"proxy:", b"upstreams:", b"routing:", b"timeouts:", b"limits:", b"models:", b"state_dir:", b"log:",
    b"kind: aistudio",
    b"kind: codeassist", b"kind: vertex", b"credentials:", b"api_key_env: KEY", b"api_key: ", b"base_urls:",
    b"https://",
    b"http://127.0.0.1:", b"tcp:8045:interface=127.0.0.1", b"ssl:", b"systemd:", b"service_account_file: sa.json",
    b"weight: ",
    b"priority: ", b"max_concurrent: ", b"MiB", b"2m", b"1e999", b"-1", b".nan", b".inf", b"0x10", b"1_0",
    b"2026-01-01", b"&a ",
    b"*a", b"<<: ", b"!!binary ", b"~", b"off", b"[", b"{", b": ", b"- ", b"\n  ", b"'", b'"', b"\xe2\x80\xa8",
)  # fmt: skip


def one_input(data: bytes) -> None:
    """Raise where a file raises anything but ConfigError, its sentence is none, or it shows a secret."""
    path = _directory() / "antigravity.yaml"
    path.write_bytes(data)
    try:
        config = load(str(path), ENVIRON)
    except ConfigError as error:
        said = str(error)
        assert said.startswith(str(path)), said
        assert said.isprintable(), said
        assert CANARY not in said, said
        return
    assert CANARY not in repr(config), config
    assert CANARY not in describe(config), config
    hash(config)
    again = load(str(path), ENVIRON)
    assert again == config, config


@cache
def _directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=Path.cwd()))
    (directory / "sa.json").write_text(key_file())
    for path in directory.iterdir():
        os.chmod(path, 0o600)
    return directory
