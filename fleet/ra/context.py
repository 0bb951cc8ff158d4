"""What every use case is given: the store, the authority, time, randomness, the brokers, the configuration.

And who asks, as the channel proved it. Both are frozen; only the composition root makes a context.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from device_agent.wire.identity import Identity
from fleet.ca.hierarchy import Authority
from fleet.config import Config
from fleet.home import Home
from fleet.model import ClientKind
from fleet.ports import Clock, Store
from fleet.ra.allowlist import BrokerLink
from fleet.ra.carrier import Carrier
from fleet.ra.crls import CrlBook
from fleet.ra.history import History
from fleet.ra.in_force import InForce
from fleet.ra.limits import RateLimiter
from fleet.ra.makers import Makers
from fleet.ra.meter import Meter
from fleet.ra.nonces import Nonces
from fleet.ra.post import Post, no_post
from fleet.ra.presence import Presence
from fleet.ra.readers import Readers
from fleet.ra.shown import ShownCertificate
from fleet.ra.tls_users import TlsUsers
from fleet.ra.tracing import NO_TRACER, Tracer
from fleet.ra.turns import Turns
from fleet.ra.webhook import Webhook
from fleet.ra.witness import Witness

PLEAS_PER_MINUTE = 6
GUESSES_PER_MINUTE = 120
"""Wrong codes for one device: more than one place may send, so that no single one keeps the device out."""


class Listener(StrEnum):
    """By which door a request came in."""

    BOOTSTRAP = "bootstrap"
    """MQTT before enrollment: the client id is the hash of the key, the certificate a claim."""
    PROVISIONING = "provisioning"
    """MQTT before enrollment, on the topics of AWS: the broker names the connection and its claim."""
    OPERATIONAL = "operational"
    """MQTT with a device's own certificate; the guard vouches for the topic."""
    HTTPS = "https"
    RECOVERY = "recovery"
    """HTTPS without a client certificate, with a fresh signature by the certificate's key."""
    ADMIN = "admin"
    """The socket in the home, open to its owner alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks, as far as the channel has proved it."""

    listener: Listener
    address: str = ""
    client_id: str = ""
    """Bootstrap: hex SHA-256 of the CSR's SubjectPublicKeyInfo."""
    certificate: ShownCertificate | None = None
    """What TLS or a recovery proof has shown."""
    identity: Identity | None = None
    """Operational: from the topic, which the guard admits for this very certificate only."""
    serial: str = ""
    station: str = ""
    """Admin socket: the station that this home runs."""
    domain: str = ""
    """The security domain that the address of the request named, as EST's labels do; no other is answered."""
    profile: str = ""
    """The profile that the address of the request named."""
    maker_certificate: bytes = b""
    """DER of a manufacturer's certificate whose key TLS has proved to be there."""
    kind: ClientKind | None = None
    """How its client takes part, where the channel knows: EST's never say confirm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where the listeners answer; ports are the real ones. 0: this listener does not run."""

    host: str
    mqtt_port: int = 0
    mqtt_bootstrap_port: int = 0
    https_port: int = 0
    http_port: int = 0
    metrics_port: int = 0
    """On loopback."""
    status_place: str = ""
    """Where a proxy stands in front of the status listener."""

    @property
    def status_url(self) -> str:
        """Root of OCSP, CRL and AIA addresses, plain HTTP as RFC 5280 clients need it."""
        return self.status_place or f"http://{self.host}:{self.http_port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """All that a use case may touch."""

    fleet: str
    in_force: InForce
    store: Store
    clock: Clock
    randomness: Callable[[int], bytes]
    home: Home
    endpoints: Endpoints
    broker: BrokerLink
    driver: str
    """Which broker it is: `mosquitto`, `embedded`, or `none` where this process runs without."""
    answering: Callable[[], bool]
    """Whether requests over MQTT reach us now."""
    crls: CrlBook
    presence: Presence
    nonces: Nonces
    turns: Turns
    by_address: RateLimiter
    by_device: RateLimiter
    guesses: RateLimiter = field(default_factory=lambda: RateLimiter(per_minute=GUESSES_PER_MINUTE))
    """Of wrong codes, for one device."""
    pleas: RateLimiter = field(default_factory=lambda: RateLimiter(per_minute=PLEAS_PER_MINUTE))
    """Of operators who have no certificate any more: of one address, and in one name."""
    makers: Makers = field(default_factory=Makers)
    """Whom the domains believe about their devices' hardware."""
    webhook: Webhook | None = None
    witnesses: tuple[Witness, ...] = ()
    """Second parties that are shown each state of the audit trail."""
    meter: Meter = field(default_factory=Meter)
    history: History = field(default_factory=History)
    """Who connected and who was refused, until it is kept."""
    readers: Readers = field(default_factory=Readers)
    """Of logs that are shipped here."""
    tracer: Tracer = NO_TRACER
    """Takes the parts of each request's work, for traces."""
    tls_users: TlsUsers = field(default_factory=TlsUsers)
    """Who holds our certificates in memory."""
    carriers: Mapping[str, Carrier] = field(default_factory=dict)
    """The channels to people, by their names."""
    post: Post = no_post
    """Leaves a retained message at the brokers; raises `UnreachableError` where none can be reached."""

    @property
    def authority(self) -> Authority:
        """The authorities as they stand now."""
        return self.in_force.authority

    @property
    def config(self) -> Config:
        """What `fleet.toml` says now."""
        return self.in_force.config
