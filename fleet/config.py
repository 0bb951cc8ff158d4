"""Reads `fleet.toml` into frozen records; every fault is told with its file, its line and a way out.

It never guesses: an unknown key, an unknown mode or a value out of its bounds is refused (fail closed),
and it holds no secret, so that the file can be shown and kept under version control.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from device_agent.wire.identity import parse_domain
from device_agent.wire.problems import MalformedMessageError
from fleet.acts_section import ActsConfig, read_acts
from fleet.core.goodkey import AUTHORITY_KEY_TYPES, KeyType
from fleet.core.profile import DEFAULT_PROFILES, Profile
from fleet.core.way_back import HardwareWay
from fleet.errors import BadInputError
from fleet.model import Purpose
from fleet.notice_sections import NoticeConfig, read_notice
from fleet.profile_sections import read_profiles
from fleet.proof_sections import ProofConfig, WebhookConfig, read_proofs, read_webhook
from fleet.retention_sections import RetentionConfig, read_retention
from fleet.rollout_section import RolloutConfig, read_rollouts
from fleet.toml_section import Section, Where
from fleet.watching_sections import (
    LogConfig,
    MonitorConfig,
    TracingConfig,
    read_log,
    read_monitor,
    read_tracing,
)
from fleet.window_section import WindowsConfig, read_windows
from fleet.witness_sections import WitnessConfig, read_witnesses

_MAX_BYTES = 256 * 1024
_PORTS = (0, 65535)


class BrokerDriver(StrEnum):
    """Which broker serves the devices."""

    AUTO = "auto"
    """Mosquitto with the guard where both can run, else the embedded one."""
    MOSQUITTO = "mosquitto"
    EMBEDDED = "embedded"


class BrokerMode(StrEnum):
    """Who starts Mosquitto."""

    MANAGED = "managed"
    """The service does, and leaves it running when it stops, so that it goes on enforcing."""
    EXTERNAL = "external"
    """Somebody else does, with the configuration of `fleet broker apply`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainConfig:
    """A security domain, and the profiles of its devices."""

    name: str
    ca_key: KeyType = KeyType.P256
    """What its root and issuing CAs are made with; post-quantum is experimental."""
    profiles: tuple[Profile, ...] = (DEFAULT_PROFILES[Purpose.DEVICE],)
    """The first is the one that its devices have where nothing chooses another."""
    proofs: ProofConfig = field(default_factory=ProofConfig)
    """Whom it believes about its devices' hardware."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Where the server listens. Port 0 picks a free one."""

    bind: str = "127.0.0.1"
    host: str = "localhost"
    """The name that devices are told; it stands in the server's certificate."""
    mqtt_port: int = 8883
    mqtt_bootstrap_port: int = 8884
    https_port: int = 8443
    http_port: int = 8080
    metrics_port: int | None = None
    """Of `/metrics` on loopback, for all on this machine; None: operators alone read it, over HTTPS."""
    certificate: Path | None = None
    """Brought by the operator, with its chain; None: the fleet's own CA makes one."""
    key: Path | None = None
    trust: Path | None = None
    """What devices are to trust servers by as well: the root above `certificate`."""
    status_url: str = ""
    """Where certificates send relying parties for OCSP, CRLs and CA certificates: `http://HOST[:PORT]` of a
    proxy in front of `http_port`; empty: straight to this server."""

    def status_place(self, http_port: int) -> str:
        """Return the root of the addresses that stand in certificates; `http_port` is the one bound."""
        host = f"[{self.host}]" if ":" in self.host else self.host  # RFC 3986 3.2.2
        return self.status_url or f"http://{host}:{http_port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerConfig:
    """The broker that the service enforces."""

    driver: BrokerDriver = BrokerDriver.AUTO
    mode: BrokerMode = BrokerMode.MANAGED
    stop_with_server: bool = False
    """Stop a managed Mosquitto together with the service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyConfig:
    """Times and limits of the certificates' life."""

    grace_days: int = 30
    """How long after its end a certificate may still ask for the next one."""
    pending_minutes: int = 60
    """How long an agent's certificate waits for its confirmation (T_pending)."""
    code_lifetime_days: int = 30
    crl_hours: int = 24
    """From a CRL's thisUpdate to its nextUpdate; it is made anew after half of that."""
    recover_per_minute: int = 30
    """Requests to the recovery listener from one address, and for one device."""
    hardware_returns: HardwareWay = HardwareWay.EXPIRED
    """When a device may come back by the hardware that it was first known by, without a code."""

    @property
    def grace(self) -> timedelta:
        return timedelta(days=self.grace_days)

    @property
    def pending(self) -> timedelta:
        return timedelta(minutes=self.pending_minutes)

    @property
    def code_lifetime(self) -> timedelta:
        return timedelta(days=self.code_lifetime_days)

    @property
    def crl_lifetime(self) -> timedelta:
        return timedelta(hours=self.crl_hours)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All that `fleet.toml` says."""

    fleet: str
    domains: tuple[DomainConfig, ...]
    server: ServerConfig = field(default_factory=ServerConfig)
    broker: BrokerConfig = field(default_factory=BrokerConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    webhook: WebhookConfig | None = None
    """Who is asked before a first certificate is signed."""
    witnesses: tuple[WitnessConfig, ...] = ()
    """Who witnesses that the audit trail only grows."""
    acts: ActsConfig = field(default_factory=ActsConfig)
    rollouts: RolloutConfig = field(default_factory=RolloutConfig)
    """How far one operator goes alone."""
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    windows: WindowsConfig = field(default_factory=WindowsConfig)
    """How an outage is made up for."""
    log: LogConfig = field(default_factory=LogConfig)
    tracing: TracingConfig | None = None
    """Where traces go; None: none are made."""
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    notice: NoticeConfig = field(default_factory=NoticeConfig)
    """Which people are told of what."""

    def domain(self, name: str) -> DomainConfig | None:
        """Return a domain by its name, or None."""
        return next((domain for domain in self.domains if domain.name == name), None)


def load(path: Path) -> Config:
    """Read the configuration of a fleet home.

    Raises:
        BadInputError: it cannot be read, or says something that it must not.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInputError(
            f"{path} cannot be read: {error.strerror}", hint="fleet init makes a fleet home"
        ) from error
    if len(content) > _MAX_BYTES:
        raise BadInputError(f"{path} is larger than {_MAX_BYTES} bytes", hint="is it the right file?")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInputError(f"{path} is not UTF-8 text", hint="save it as UTF-8 (TOML 1.0)") from error
    return parse(text, source=str(path))


def parse(text: str, *, source: str = "fleet.toml") -> Config:
    """Read a configuration from its text; `source` is named in errors.

    Raises:
        BadInputError: with `source:line:` and what to do.
    """
    try:
        members = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInputError(f"{source}: {error}", hint="see https://toml.io for the syntax") from error
    top = Section(members, where=Where(source=source, text=text), path=())
    fleet = _fleet_name(top.section("fleet"))
    domains = _domains(top, fleet)
    config = Config(
        fleet=fleet,
        domains=domains,
        server=_server(top.section("server")),
        broker=_broker(top.section("broker")),
        policy=_policy(top.section("policy")),
        webhook=read_webhook(top),
        witnesses=read_witnesses(top),
        retention=read_retention(top.section("retention")),
        windows=read_windows(top.section("windows")),
        log=read_log(top.section("log")),
        tracing=read_tracing(top),
        monitor=read_monitor(top.section("monitor")),
        acts=read_acts(top),
        rollouts=read_rollouts(top),
        notice=read_notice(top, domains=[domain.name for domain in domains]),
    )
    top.close()
    return config


def default_text(
    *,
    fleet: str,
    domains: Sequence[str],
    host: str,
    status_url: str = "",
    ca_keys: Mapping[str, KeyType] | None = None,
) -> str:
    """Return the configuration that `fleet init` writes: every key, at its default."""
    server, broker, policy = ServerConfig(), BrokerConfig(), PolicyConfig()
    lines = [
        "# What this fleet is, and how its server runs. `fleet doctor` checks it; unknown keys are refused.",
        "",
        "[fleet]",
        f'name = "{fleet}"',
        "",
        "[server]",
        _explained(f'bind = "{server.bind}"', "address to listen on; loopback until told otherwise"),
        _explained(f'host = "{host}"', "the name devices are told, as in the server certificate"),
        _explained(f"mqtt_port = {server.mqtt_port}", "0 picks a free port"),
        f"mqtt_bootstrap_port = {server.mqtt_bootstrap_port}",
        f"https_port = {server.https_port}",
        _explained(f"http_port = {server.http_port}", "certificate status: OCSP, CRL"),
        _explained(f'status_url = "{status_url}"', "http://HOST[:PORT] of a proxy in front of it"),
        "",
        "[broker]",
        _explained(f'driver = "{broker.driver}"', "auto, mosquitto, embedded"),
        _explained(f'mode = "{broker.mode}"', "managed, external"),
        _explained(
            "stop_with_server = false", "a managed Mosquitto goes on enforcing while the server is down"
        ),
        "",
        "[policy]",
        _explained(f"grace_days = {policy.grace_days}", "an expired certificate may still renew so long"),
        _explained(f"pending_minutes = {policy.pending_minutes}", "a new certificate waits for confirmation"),
        f"code_lifetime_days = {policy.code_lifetime_days}",
        f"crl_hours = {policy.crl_hours}",
        f"recover_per_minute = {policy.recover_per_minute}",
        _explained(
            f'hardware_returns = "{policy.hardware_returns}"', "never, expired, always: back without a code"
        ),
    ]
    for name in domains:
        ca_key = (ca_keys or {}).get(name, KeyType.P256)
        lines += ["", *_domain_text(DomainConfig(name=name, ca_key=ca_key))]
    return "\n".join(lines) + "\n"


def with_domain(text: str, domain: DomainConfig) -> str:
    """Return a configuration with one more domain at its end; what stood there stays as it is."""
    return "\n".join([text.rstrip("\n"), "", *_domain_text(domain)]) + "\n"


def _domain_text(domain: DomainConfig) -> list[str]:
    profile = domain.profiles[0]
    minutes = int(profile.backdate.total_seconds() // 60)
    return [
        _explained(f"[domains.{domain.name}]", "fleet profile show device, for what else it can say"),
        _explained(f'ca_key = "{domain.ca_key}"', "of authorities that are made from now on"),
        f"lifetime_days = {profile.lifetime.days}",
        _explained(f"backdate_minutes = {minutes}", "for devices whose clocks are slow"),
        _explained("same_key = false", "renewal makes a new key, unless a device cannot"),
    ]


def _explained(setting: str, why: str) -> str:
    return f"{setting:<28}  # {why}"


def _fleet_name(section: Section) -> str:
    name = section.label("name")
    section.close()
    return name


def _domains(top: Section, fleet: str) -> tuple[DomainConfig, ...]:
    table = top.section("domains")
    found = tuple(_domain(table.section(name), name, fleet) for name in table.names())
    if not found:
        raise top.error("domains", "the fleet has no security domain", hint="add [domains.prod]")
    return found


def _domain(section: Section, name: str, fleet: str) -> DomainConfig:
    try:
        parse_domain(name)
    except MalformedMessageError as error:
        raise section.error(None, f"domain {error}", hint="such as [domains.prod]") from error
    ca_key = _ca_key(section)
    domain = DomainConfig(
        name=name,
        ca_key=ca_key,
        profiles=read_profiles(section, ca_key=ca_key, fleet=fleet),
        proofs=read_proofs(section),
    )
    section.close()
    return domain


def _ca_key(section: Section) -> KeyType:
    key_type = section.word("ca_key", KeyType.P256, words=KeyType)
    if key_type not in AUTHORITY_KEY_TYPES:
        raise section.error("ca_key", "devices take no chain with an Ed25519 CA", hint='ca_key = "p256"')
    return key_type


def _server(section: Section) -> ServerConfig:
    default = ServerConfig()
    server = ServerConfig(
        bind=section.host("bind", default.bind),
        host=section.host("host", default.host),
        mqtt_port=section.integer("mqtt_port", default.mqtt_port, bounds=_PORTS),
        mqtt_bootstrap_port=section.integer(
            "mqtt_bootstrap_port", default.mqtt_bootstrap_port, bounds=_PORTS
        ),
        https_port=section.integer("https_port", default.https_port, bounds=_PORTS),
        http_port=section.integer("http_port", default.http_port, bounds=_PORTS),
        metrics_port=section.integer_or_none("metrics_port", bounds=_PORTS),
        certificate=section.file("certificate"),
        key=section.file("key"),
        trust=section.file("trust"),
        status_url=section.plain_http("status_url", default.status_url),
    )
    section.close()
    if (server.certificate is None) is not (server.key is None):
        raise section.error("certificate", "certificate and key come together", hint="name both files")
    ports = [
        *(server.mqtt_port, server.mqtt_bootstrap_port, server.https_port, server.http_port),
        server.metrics_port,
    ]
    chosen = [port for port in ports if port]
    if len(set(chosen)) != len(chosen):
        raise section.error(None, "two listeners have the same port", hint="give each its own, or 0")
    return server


def _broker(section: Section) -> BrokerConfig:
    default = BrokerConfig()
    broker = BrokerConfig(
        driver=section.word("driver", default.driver, words=BrokerDriver),
        mode=section.word("mode", default.mode, words=BrokerMode),
        stop_with_server=section.flag("stop_with_server", default=default.stop_with_server),
    )
    section.close()
    if broker.mode is BrokerMode.EXTERNAL and broker.driver is not BrokerDriver.MOSQUITTO:
        raise section.error("mode", "only Mosquitto can be external", hint='set driver = "mosquitto"')
    return broker


def _policy(section: Section) -> PolicyConfig:
    default = PolicyConfig()
    policy = PolicyConfig(
        grace_days=section.integer("grace_days", default.grace_days, bounds=(0, 3650)),
        pending_minutes=section.integer("pending_minutes", default.pending_minutes, bounds=(1, 43200)),
        code_lifetime_days=section.integer(
            "code_lifetime_days", default.code_lifetime_days, bounds=(1, 3650)
        ),
        crl_hours=section.integer("crl_hours", default.crl_hours, bounds=(1, 720)),
        recover_per_minute=section.integer(
            "recover_per_minute", default.recover_per_minute, bounds=(1, 60000)
        ),
        hardware_returns=section.word("hardware_returns", default.hardware_returns, words=HardwareWay),
    )
    section.close()
    return policy
