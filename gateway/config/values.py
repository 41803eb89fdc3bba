"""The frozen values that a configuration becomes.  Pure."""

from __future__ import annotations

import enum

from attrs import frozen

from gateway.calls import DEFAULT_TERMS, Secret, Terms
from gateway.config import listeners
from gateway.config.tariff import DEFAULT_USAGE, UsageConfig
from gateway.config.telling import DEFAULT_LOG, DEFAULT_OTEL, LogConfig, OtelConfig

MIB = 1024 * 1024
WEIGHT_MOST = 1000.0
PRIORITY_MOST = 1000
CONCURRENT_MOST = 10**6
DEFAULT_LISTEN = ("tcp:8045:interface=127.0.0.1",)
DEFAULT_ADMIN_LISTEN = ("tcp:8046:interface=127.0.0.1",)


class AuthMode(enum.Enum):
    """When a client has to show a key."""

    OFF = "off"
    STRICT = "strict"
    """Always, ``/healthz`` included."""
    ALL_EXCEPT_HEALTH = "all_except_health"
    AUTO = "auto"
    """As ALL_EXCEPT_HEALTH where a key exists or a listener is not loopback, else as OFF."""


class DoneMarker(enum.Enum):
    """When an upstream's ``data: [DONE]`` reaches the client."""

    AUTO = "auto"
    """Only where the request names no ``alt``: SDKs that send ``alt=sse`` fail on it."""
    NEVER = "never"
    ALWAYS = "always"


@frozen
class ProxyConfig:
    """The clients' side."""

    listen: tuple[str, ...] = DEFAULT_LISTEN
    """Twisted endpoint descriptions."""
    auth_mode: AuthMode = AuthMode.AUTO
    api_keys: tuple[bytes, ...] = ()
    """SHA-256 digests, 32 bytes each."""
    done_marker: DoneMarker = DoneMarker.AUTO
    operator_keys: tuple[bytes, ...] = ()
    """SHA-256 digests likewise; who shows one of these may also name a credential."""
    hosts: tuple[str, ...] = ()
    """Names allowed in Host beside loopback's and the listeners' own, in plain form; ``*.`` before a name is any name
    below it."""
    origins: tuple[str, ...] = ()
    """Browser origins whose pages may use the gateway, in plain form."""
    trusted_proxies: tuple[str, ...] = ()
    """Networks whose X-Forwarded-For is believed, and ``unix``."""
    half_close: str = "leave"
    """``leave`` or ``answer``: what a client's FIN is before its answer is complete."""
    client_ca: str = ""
    """The file of CAs whose certificates TLS clients have to show; empty where they need none."""

    @property
    def keys(self) -> tuple[bytes, ...]:
        """All keys that a client may show."""
        return self.api_keys + self.operator_keys

    @property
    def authenticates(self) -> bool:
        """Whether a client has to show a key."""
        if self.auth_mode is AuthMode.AUTO:
            return bool(self.keys) or not all(map(listeners.is_loopback, self.listen))
        return self.auth_mode is not AuthMode.OFF

    @property
    def open_health(self) -> bool:
        """Whether ``/healthz`` is answered without a key."""
        return self.auth_mode is not AuthMode.STRICT


@frozen
class AdminConfig:
    """The side of whoever watches the gateway."""

    listen: tuple[str, ...] = DEFAULT_ADMIN_LISTEN
    """Twisted endpoint descriptions; empty for none."""
    tokens: tuple[bytes, ...] = ()
    """SHA-256 digests, 32 bytes each."""
    password: str = ""
    """An argon2id hash; empty for none."""
    dashboard: bool = True
    """Whether the admin API and the dashboard are served there too."""
    session_idle: float = 3600.0
    session_most: float = 43200.0
    """Seconds that a session lasts, unused and in all."""
    exposed: bool = False
    """Whether others than this machine, or this user, reach a listener."""

    @property
    def chosen(self) -> bool:
        """Whether ``listen`` is the operator's choice: what nobody asked for may be missing."""
        return self.listen != DEFAULT_ADMIN_LISTEN


@frozen
class CredentialConfig:
    """An API key and the name that the operator gave it."""

    name: str
    api_key: Secret
    project: str = ""
    """The Google project that the key's quota belongs to, where the operator says so."""
    terms: Terms = DEFAULT_TERMS


@frozen
class ServiceAccountConfig:
    """What a service account's JSON key file says."""

    client_email: str
    private_key: Secret
    """RSA, in PEM."""
    private_key_id: str
    token_url: str
    project: str
    """The project that the account belongs to; empty where the file does not say."""


@frozen
class CloudCredentialConfig:
    """Who a ``vertex`` upstream's requests go out as."""

    name: str
    project: str
    """The project whose Vertex AI is used."""
    service_account: ServiceAccountConfig | None = None
    """None for application default credentials."""
    terms: Terms = DEFAULT_TERMS


@frozen
class AccountConfig:
    """An account given ready-made; only the simulator's are."""

    name: str
    refresh_token: Secret
    project: str


@frozen
class OAuthConfig:
    """The operator's own OAuth client."""

    client_id: str
    client_secret: Secret
    token_url: str
    auth_url: str = "https://accounts.google.com/o/oauth2/v2/auth"
    """Where an account's owner signs in."""
    userinfo_url: str = "https://www.googleapis.com/oauth2/v2/userinfo"


@frozen
class EnvelopeConfig:
    """What ``codeassist`` requests are wrapped in."""

    profile: str = "antigravity"
    user_agent: str = ""
    """Empty for the gateway's own name and version."""
    request_type: str = "agent"


@frozen
class ProxyServer:
    """What connections to an upstream go through."""

    scheme: str
    """``http``, by CONNECT, or ``socks5``."""
    host: str
    port: int
    username: str
    """Empty where it asks for none."""
    password: Secret


@frozen
class UpstreamConfig:
    """One backend and what authenticates against it."""

    name: str
    kind: str
    """``aistudio``, ``codeassist`` or ``vertex``."""
    base_urls: tuple[str, ...]
    """Without a trailing slash, in the order in which they are tried."""
    models: tuple[str, ...] = ()
    """Ids or ``*`` patterns served here; empty: all."""
    credentials: tuple[CredentialConfig, ...] = ()
    oauth: OAuthConfig | None = None
    envelope: EnvelopeConfig | None = None
    credentials_dir: str = ""
    """The absolute path of the credentials' files; empty where there are none."""
    credentials_key: Secret | None = None
    """What these files are sealed with: 32 bytes in hexadecimal; None leaves them plain."""
    project: str = ""
    """``codeassist``: the operator's own project, for accounts that name none."""
    accounts: tuple[AccountConfig, ...] = ()
    cloud: tuple[CloudCredentialConfig, ...] = ()
    """``vertex``: its credentials."""
    location: str = ""
    """``vertex``: ``global`` or a region."""
    terms: Terms = DEFAULT_TERMS
    """Those of its credentials that name none of their own."""
    proxy: ProxyServer | None = None
    """None: its hosts are connected to directly."""


@frozen
class SessionsConfig:
    """How many conversations are kept on their credentials, and for how long after their last request."""

    limit: int = 20_000
    seconds: float = 3600.0


@frozen
class RoutingConfig:
    """How often a request is tried, under which model, and who comes first."""

    max_attempts: int = 3
    aliases: tuple[tuple[str, str], ...] = ()
    """(pattern, target) in the order of the file."""
    strategy: str = "sticky"
    """``sticky``, ``round_robin`` or ``least_used``."""
    sessions: SessionsConfig = SessionsConfig()


@frozen
class Timeouts:
    """How long each wait may last, in seconds."""

    connect: float = 10.0
    first_byte_unary: float = 600.0
    first_event_stream: float = 120.0
    idle: float = 120.0
    budget: float = 600.0
    """All attempts of one request together, until its first byte."""
    drain: float = 60.0
    queue: float = 0.0
    """For a credential to become free; 0: requests do not wait."""
    head: float = 10.0
    """For a client's whole head."""
    body: float = 10.0
    """For how long a client's body may be slower than ``limits.body_rate``."""
    write: float = 120.0
    """During which a client takes nothing of what waits for it."""
    keep_alive: float = 75.0
    """For a connection's next request."""


@frozen
class Limits:
    """How much is taken: in bytes, and requests."""

    body: int = 100 * MIB
    event: int = 64 * MIB
    head: int = 16 * 1024
    target: int = 8 * 1024
    queue: int = 100
    """Requests that wait for a credential."""
    body_rate: int = 1024
    """Bytes a second that a client's body has to come with."""
    buffered: int = 1024 * MIB
    """The bodies of all requests under way."""
    connections: int = 10_000
    """Of clients."""
    streams: int = 5_000
    key_concurrent: int = 0
    """Requests under way with one client key; 0 for no limit."""
    key_per_minute: int = 0
    """Requests a minute with one client key; 0 for no limit."""


@frozen
class WireConfig:
    """How requests go out."""

    agent: str = "gateway"
    """``gateway``, or ``stock`` for Twisted's own."""
    warm: int = 1
    """Connections that are opened at start to every base URL of https."""


@frozen
class ModelConfig:
    """What the operator says about a model; adds to the package's table or overrides it."""

    id: str
    input_tokens: int = 0
    """0 where the configuration does not say."""
    output_tokens: int = 0
    verbs: tuple[str, ...] = ()


@frozen
class Config:
    """Everything that the gateway runs from."""

    proxy: ProxyConfig = ProxyConfig()
    upstreams: tuple[UpstreamConfig, ...] = ()
    routing: RoutingConfig = RoutingConfig()
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    wire: WireConfig = WireConfig()
    state_dir: str = ""
    log: LogConfig = DEFAULT_LOG
    otel: OtelConfig = DEFAULT_OTEL
    source: str = ""
    """The file, ``environment`` or ``--simulate``."""
    models: tuple[ModelConfig, ...] = ()
    admin: AdminConfig = AdminConfig()
    usage: UsageConfig = DEFAULT_USAGE
    warnings: tuple[str, ...] = ()
    """Sentences for the log at start: what runs, but perhaps not as meant."""
