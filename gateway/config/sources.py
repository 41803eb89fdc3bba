"""Configurations that need no file: from the environment, and for the simulator."""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from gateway.calls import Secret
from gateway.config.errors import ConfigError
from gateway.config.secrets import default_state_dir
from gateway.config.upstreams import DEFAULT_BASE_URLS
from gateway.config.values import (
    AccountConfig,
    Config,
    CredentialConfig,
    EnvelopeConfig,
    OAuthConfig,
    UpstreamConfig,
)

VARIABLE = "GEMINI_API_KEY"

START = f"set {VARIABLE}, name a file with --config FILE, or try it without credentials with --simulate"
"""The three ways to start."""
_VISIBLE = re.compile(r"[\x21-\x7e]+\Z")


def from_environment(environ: Mapping[str, str], otherwise: str = START) -> Config:
    """Return a configuration whose credentials are the keys in ``GEMINI_API_KEY``, separated by commas.

    Raises ConfigError where there is none; its sentence says what to do ``otherwise``.
    """
    keys = list(dict.fromkeys(key for part in environ.get(VARIABLE, "").split(",") if (key := part.strip())))
    if not keys:
        raise ConfigError(
            "environment",
            VARIABLE,
            "it is not set and no file is named, so there is no upstream",
            otherwise,
        )
    for index, key in enumerate(keys, start=1):
        if not _VISIBLE.match(key):
            raise ConfigError(
                "environment",
                VARIABLE,
                f"key {index} holds characters that no key has",
                "give keys of printable ASCII, separated by commas",
            )
    credentials = tuple(CredentialConfig(f"key-{index}", Secret(key)) for index, key in enumerate(keys, start=1))
    studio = UpstreamConfig("studio", "aistudio", (DEFAULT_BASE_URLS["aistudio"],), credentials=credentials)
    return Config(upstreams=(studio,), state_dir=default_state_dir(environ, "environment"), source="environment")


def simulated(origin: str, base: Config | None, state_dir: str = "") -> Config:
    """Return a configuration whose upstreams are the simulator at ``origin``; the rest is ``base``'s.

    ``state_dir`` is a temporary directory, so that what is invented never mixes with what is real; empty as long as
    there is none.
    """
    config = base or Config()
    studio = UpstreamConfig(
        "studio",
        "aistudio",
        (origin,),
        credentials=tuple(CredentialConfig(name, Secret(name)) for name in ("sim-key-1", "sim-key-2")),
    )
    accounts = UpstreamConfig(
        "accounts",
        "codeassist",
        (origin + "/v1internal",),
        oauth=OAuthConfig(
            "simulator",
            Secret("simulator"),
            origin + "/token",
            origin + "/o/oauth2/v2/auth",
            origin + "/oauth2/v2/userinfo",
        ),
        envelope=EnvelopeConfig(),
        accounts=tuple(
            AccountConfig(f"sim-account-{n}", Secret(f"sim-refresh-{n}"), f"sim-project-{n}") for n in (1, 2)
        ),
    )
    return attrs.evolve(config, upstreams=(studio, accounts), state_dir=state_dir, source="--simulate")
