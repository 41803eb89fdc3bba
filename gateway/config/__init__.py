"""YAML to a frozen Config; every error names its path.  Reads the file and the secrets' files that it names."""

from gateway.config.describe import describe
from gateway.config.errors import ConfigError
from gateway.config.reader import load
from gateway.config.sources import from_environment, simulated
from gateway.config.telling import LogConfig, OtelConfig
from gateway.config.values import (
    AccountConfig,
    AdminConfig,
    AuthMode,
    CloudCredentialConfig,
    Config,
    CredentialConfig,
    DoneMarker,
    EnvelopeConfig,
    Limits,
    ModelConfig,
    OAuthConfig,
    ProxyConfig,
    ProxyServer,
    RoutingConfig,
    ServiceAccountConfig,
    SessionsConfig,
    Timeouts,
    UpstreamConfig,
    WireConfig,
)

__all__ = [
    "AccountConfig",
    "AdminConfig",
    "AuthMode",
    "CloudCredentialConfig",
    "Config",
    "ConfigError",
    "CredentialConfig",
    "DoneMarker",
    "EnvelopeConfig",
    "Limits",
    "LogConfig",
    "ModelConfig",
    "OAuthConfig",
    "OtelConfig",
    "ProxyConfig",
    "ProxyServer",
    "RoutingConfig",
    "ServiceAccountConfig",
    "SessionsConfig",
    "Timeouts",
    "UpstreamConfig",
    "WireConfig",
    "describe",
    "from_environment",
    "load",
    "simulated",
]
