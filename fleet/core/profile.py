"""Named rules for a kind of certificate, and the only maker of templates.

A template holds what the applicant may have, never what a request wished for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address

from device_agent.wire.identity import Identity, dns_label, dns_name, station_dns_name
from fleet.core.goodkey import (
    ALL_KEY_TYPES,
    CLASSIC,
    POST_QUANTUM,
    CertifiedKey,
    KeyType,
    certified_key,
    check_key,
)
from fleet.core.names import Subject, expand
from fleet.core.partition import partition_of
from fleet.core.windows import Window
from fleet.errors import BadInputError
from fleet.model import Assurance, Purpose


class Usage(StrEnum):
    """Extended key usages (RFC 5280 4.2.1.12, RFC 6960 4.2.2.2)."""

    CLIENT_AUTH = "clientAuth"
    SERVER_AUTH = "serverAuth"
    OCSP_SIGNING = "OCSPSigning"
    TIME_STAMPING = "timeStamping"


class KeyUsage(StrEnum):
    """Key usages that we grant (RFC 5280 4.2.1.3)."""

    DIGITAL_SIGNATURE = "digitalSignature"
    KEY_CERT_SIGN = "keyCertSign"
    CRL_SIGN = "cRLSign"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerFacts:
    """What a template must know of the CA that will sign it."""

    issuer_id: str
    """Hex subject key identifier."""
    not_after: datetime
    status_url: str
    """Plain HTTP, scheme, host and port, as RFC 5280 clients need it."""
    has_ocsp: bool = True
    partitions: int = 0
    """How many parts its revocation list is told in; 0 for a root, whose list is one."""

    def crl_url(self, serial: str) -> str:
        """Return where the list is that speaks of a certificate."""
        part = f"-{partition_of(serial, partitions=self.partitions)}" if self.partitions else ""
        return f"{self.status_url}/crl/{self.issuer_id}{part}.crl"

    @property
    def certificate_url(self) -> str:
        return f"{self.status_url}/ca/{self.issuer_id}.cer"

    @property
    def ocsp_url(self) -> str | None:
        return f"{self.status_url}/ocsp" if self.has_ocsp else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Applicant:
    """The names that somebody may have in a certificate, as our own records know them."""

    common_name: str
    dns_names: tuple[str, ...] = ()
    addresses: tuple[IPv4Address | IPv6Address, ...] = ()
    organization: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """All of a certificate but its serial number and signature. Approved once it was made here."""

    purpose: Purpose
    applicant: Applicant
    public_key: CertifiedKey
    not_before: datetime
    not_after: datetime
    key_usage: frozenset[KeyUsage]
    extended_key_usage: tuple[Usage, ...] = ()
    is_ca: bool = False
    path_length: int | None = None
    ocsp_nocheck: bool = False
    permitted_names: tuple[str, ...] = ()
    """dNSNames under which alone a CA may name anybody (RFC 5280 4.2.1.10); none: it is not limited."""
    has_status: bool = True
    """It says where its status is told."""
    issuer: IssuerFacts | None = None
    """None for a root: it signs itself, and has no status but its absence from trust stores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Rules for one kind of certificate."""

    name: str
    purpose: Purpose
    lifetime: timedelta
    backdate: timedelta = timedelta(hours=1)
    """How far before now a certificate becomes valid, for clocks that are slow."""
    key_types: frozenset[KeyType] = CLASSIC
    rsa_bits: int = 2048
    """The least size of RSA keys, where they are allowed."""
    key_usage: frozenset[KeyUsage] = frozenset({KeyUsage.DIGITAL_SIGNATURE})
    extended_key_usage: tuple[Usage, ...] = ()
    is_ca: bool = False
    path_length: int | None = None
    ocsp_nocheck: bool = False
    has_status: bool = True
    """False leaves out the places of CRL and OCSP, for those that nobody asks for over a network."""
    names: tuple[str, ...] = ()
    """Patterns of dNSNames (`names`) beside the device's own."""
    same_key: bool = False
    """Renewal with the key in use is allowed."""
    approval: bool = False
    """Somebody approves each first certificate, whatever else was proved."""
    assurance: Assurance = Assurance.NONE
    """The least that must have been proved about who the device is."""
    by_label: bool = False
    """EST clients may choose it by their label; else only our records choose it."""
    server_key: bool = False
    """A device that cannot make a key may be sent one, encrypted; else it never leaves its device."""
    renew_from: float = 2 / 3
    """Part of the lifetime after which renewal begins."""
    renew_spread: float = 1 / 12
    """Part of the lifetime over which a fleet's renewals are spread."""

    @property
    def is_experimental(self) -> bool:
        """Post-quantum: no TLS stack or broker of today takes its certificates."""
        return bool(self.key_types & POST_QUANTUM)

    def template(
        self,
        applicant: Applicant,
        public_key: object,
        *,
        now: datetime,
        issuer: IssuerFacts | None,
        lifetime: timedelta | None = None,
        permitted_names: tuple[str, ...] = (),
    ) -> Template:
        """Return what the applicant may have; it ends no later than its issuing CA.

        Raises:
            RefusedError: `bad-key`, the key is unfit or of a type that this profile does not allow.
            BadInputError: the issuing CA is at its end.
        """
        check_key(public_key, allowed=self.key_types, rsa_bits=self.rsa_bits)
        start = now.replace(microsecond=0)
        end = start + (self.lifetime if lifetime is None else min(lifetime, self.lifetime))
        if issuer is not None:
            # RFC 5280 6.1 does not ask for it, but a leaf beyond its CA would fail earlier than it says.
            end = min(end, issuer.not_after)
        if end <= start:
            raise BadInputError(
                f"the issuing CA {issuer.issuer_id if issuer else ''} has expired",
                hint="fleet ca list shows what is active",
            )
        return Template(
            purpose=self.purpose,
            applicant=applicant,
            public_key=certified_key(public_key),
            not_before=start - self.backdate,
            not_after=end,
            key_usage=self.key_usage,
            extended_key_usage=self.extended_key_usage,
            is_ca=self.is_ca,
            path_length=self.path_length,
            permitted_names=permitted_names,
            ocsp_nocheck=self.ocsp_nocheck,
            has_status=self.has_status,
            issuer=issuer,
        )

    def renew_after(self, not_before: datetime, not_after: datetime, jitter: float) -> datetime:
        """Return when to renew: two thirds into the lifetime, spread over the next twelfth of it.

        `jitter` is from 0 up to 1. Fractions of a second are cut.
        """
        return self.window(not_before, not_after).at(jitter)

    def window(self, not_before: datetime, not_after: datetime) -> Window:
        """Return from when to when the server may have a certificate renewed."""
        lifetime = not_after - not_before
        opens = (not_before + lifetime * self.renew_from).replace(microsecond=0)
        return Window(opens=opens, closes=opens + lifetime * self.renew_spread)


_DAY = timedelta(days=1)
_YEAR = timedelta(days=365)
_CLIENT = (Usage.CLIENT_AUTH,)
_CA_USAGE = frozenset({KeyUsage.KEY_CERT_SIGN, KeyUsage.CRL_SIGN})
# A CA is valid earlier than any leaf below it, however far a leaf is backdated (a day at most).
_CA_BACKDATE = 2 * _DAY

DEFAULT_PROFILES: Mapping[Purpose, Profile] = {
    Purpose.DEVICE: Profile(
        name="device", purpose=Purpose.DEVICE, lifetime=90 * _DAY, extended_key_usage=_CLIENT
    ),
    # In a box for years before its first use; it opens one narrow door, and can be closed at any time.
    Purpose.CLAIM: Profile(
        name="claim", purpose=Purpose.CLAIM, lifetime=5 * _YEAR, extended_key_usage=_CLIENT
    ),
    Purpose.SERVER: Profile(
        name="server", purpose=Purpose.SERVER, lifetime=_YEAR, extended_key_usage=(Usage.SERVER_AUTH,)
    ),
    Purpose.SERVICE: Profile(
        name="service", purpose=Purpose.SERVICE, lifetime=_YEAR, extended_key_usage=_CLIENT
    ),
    Purpose.OPERATOR: Profile(
        name="operator", purpose=Purpose.OPERATOR, lifetime=_YEAR, extended_key_usage=_CLIENT
    ),
    # It crosses a serial line with every unit, where no URL can be followed and each octet is paid for;
    # servers know a station by its row in the store.
    Purpose.STATION: Profile(
        name="station",
        purpose=Purpose.STATION,
        lifetime=_YEAR,
        extended_key_usage=_CLIENT,
        has_status=False,
    ),
}
"""One profile for each purpose that has an issuing CA."""

OCSP_PROFILE = Profile(
    name="ocsp",
    purpose=Purpose.SIGNER,
    lifetime=_YEAR,
    key_types=ALL_KEY_TYPES,
    extended_key_usage=(Usage.OCSP_SIGNING,),
    ocsp_nocheck=True,
)
TIME_PROFILE = Profile(
    name="time", purpose=Purpose.SIGNER, lifetime=_YEAR, extended_key_usage=(Usage.TIME_STAMPING,)
)
ROOT_PROFILE = Profile(
    name="root",
    purpose=Purpose.AUTHORITY,
    lifetime=20 * _YEAR,
    backdate=_CA_BACKDATE,
    key_types=ALL_KEY_TYPES,
    key_usage=_CA_USAGE,
    is_ca=True,
)
ISSUING_PROFILE = Profile(
    name="issuing",
    purpose=Purpose.AUTHORITY,
    lifetime=10 * _YEAR,
    backdate=_CA_BACKDATE,
    key_types=ALL_KEY_TYPES,
    key_usage=_CA_USAGE,
    is_ca=True,
    path_length=0,
)
STATION_ISSUING_PROFILE = replace(ISSUING_PROFILE, has_status=False)
"""Of the issuing CA whose certificate stations send along with their own."""

STATION_ROOT_PROFILE = replace(ROOT_PROFILE, name="station-root", key_types=CLASSIC, path_length=1)
"""Of the root of a domain under which stations sign off line: brokers trust it, and the devices so made."""
STATION_CA_PROFILE = Profile(
    name="station-ca",
    purpose=Purpose.AUTHORITY,
    lifetime=_YEAR,
    backdate=_CA_BACKDATE,
    key_usage=_CA_USAGE,
    is_ca=True,
    path_length=0,
    has_status=False,
)
"""Of the CA of a station, for one lease."""
OFFLINE_PROFILE = replace(DEFAULT_PROFILES[Purpose.DEVICE], has_status=False)
"""Of what a station signs off line: the device renews it at the server as soon as it is there."""


def station_applicant(identity: Identity, *, station: str, fleet: str) -> Applicant:
    """Return a device's names as a station gives them off line."""
    name = station_dns_name(identity, station=station, fleet=fleet)
    return Applicant(common_name=identity.device_id, dns_names=(name,))


def device_applicant(identity: Identity, *, fleet: str) -> Applicant:
    """Return a device's names: common name the device id, exact; dNSName `<label>.<domain>.<fleet>`."""
    return Applicant(common_name=identity.device_id, dns_names=(dns_name(identity, fleet=fleet),))


def profiled_applicant(profile: Profile, subject: Subject) -> Applicant:
    """Return a device's names with those that its profile adds; its own stands first.

    Raises:
        RefusedError: `bad-identity`, a pattern does not fit this device.
    """
    further = (expand(pattern, subject) for pattern in profile.names)
    names = tuple(dict.fromkeys([subject.own_name, *further]))
    return Applicant(common_name=subject.identity.device_id, dns_names=names)


def own_applicant(name: str, *, purpose: Purpose, fleet: str, domain: str = "") -> Applicant:
    """Return the names of a claim batch, service, operator or station; `name` is as a device id.

    The dNSName is `<label>[.<domain>].<purpose>.<fleet>`.
    """
    levels = [dns_label(name), domain, purpose.value, fleet] if domain else [dns_label(name), purpose, fleet]
    return Applicant(common_name=name, dns_names=(".".join(levels),))


def server_applicant(hosts: Sequence[str]) -> Applicant:
    """Return a server's names: the hosts given, and this machine's loopback names.

    RFC 9525 6: clients look at subjectAltName alone, an address in iPAddress, never in dNSName.
    """
    wanted = dict.fromkeys([host.lower() for host in (*hosts, "localhost", "127.0.0.1", "::1")])
    addresses = {host: address for host in wanted if (address := _address(host)) is not None}
    names = tuple(host for host in wanted if host not in addresses)
    # RFC 5280 A.1 ub-common-name: 64. The common name is for people to read.
    short = next(name for name in names if len(name) <= 64)
    return Applicant(common_name=short, dns_names=names, addresses=tuple(addresses.values()))


def authority_applicant(common_name: str, *, fleet: str) -> Applicant:
    """Return the names of a CA or signer: a readable one, under the fleet as organization."""
    return Applicant(common_name=common_name, organization=fleet)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
