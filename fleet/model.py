"""Records of the fleet, frozen. The life of a certificate is told by `CertificateState`."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum

from device_agent.wire.identity import Identity


class CertificateState(StrEnum):
    """Where a certificate stands in its life; stored by name."""

    VOID = "void"
    """Intent recorded, never delivered."""
    ISSUED = "issued"
    """Signed, waits to be confirmed."""
    ACTIVE = "active"
    EXPIRED_UNUSED = "expired-unused"
    """A plain client's certificate that expired in its box before its first use; keeps grace."""
    EXPIRED_GRACE = "expired-grace"
    EXPIRED_FINAL = "expired-final"
    SUPERSEDED = "superseded"
    SUPERSEDED_ACKED = "superseded-acked"
    """Superseded, and the device said that it dropped it."""
    DEAD = "dead"
    """Abandoned or replaced before it was confirmed."""
    REVOKED = "revoked"


ADMITTED_STATES = frozenset({CertificateState.ISSUED, CertificateState.ACTIVE})
"""What a broker lets in, unless the device is suspended."""


class Alarm(IntEnum):
    """Evidence against a lineage."""

    NONE = 0
    ROLLBACK_OR_CLONE = 1
    """Renewals are frozen."""
    CLONE = 2
    """Suspended as well."""


class Standing(StrEnum):
    """What a device is to an operator, the gravest first."""

    RETIRED = "retired"
    REVOKED = "revoked"
    ALARMED = "alarmed"
    SUSPENDED = "suspended"
    ADOPTED = "adopted"
    """Connects with a certificate of another CA, and has not moved to ours yet."""
    ACTIVE = "active"
    EXPIRED = "expired"
    ENROLLING = "enrolling"
    """Has a certificate that was not confirmed yet."""
    REGISTERED = "registered"
    """Has none."""


class ClientKind(StrEnum):
    """How a device takes part in the protocol of a certificate's life."""

    AGENT = "agent"
    """Says confirm and done."""
    PLAIN = "plain"
    """EST and others: its first admitted connection counts as confirm."""


class RevocationReason(StrEnum):
    """CRLReason by its name in RFC 5280 5.3.1."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    CA_COMPROMISE = "cACompromise"
    """Of a CA's own certificate."""
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    CERTIFICATE_HOLD = "certificateHold"
    """Kept out for now: its device is suspended. It ends, as no other reason does."""
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"


class Purpose(StrEnum):
    """What a certificate of ours is for. Each purpose has an issuing CA of its own, but the last three."""

    DEVICE = "device"
    CLAIM = "claim"
    SERVER = "server"
    SERVICE = "service"
    OPERATOR = "operator"
    STATION = "station"
    SIGNER = "signer"
    """OCSP responders and time keys, of the CA that they speak for."""
    AUTHORITY = "authority"
    """Roots and issuing CAs."""
    BACKEND = "backend"
    """A program of the fleet's owner, as brokers see it: its certificate is one of `SERVICE`."""


class Assurance(IntEnum):
    """How well it was proved who a device is, from the least to the most; a profile says the least it takes.

    Told and stored by its `word`.
    """

    NONE = 0
    """Nothing but its own word."""
    CLAIM = 1
    """A certificate that a whole batch shares."""
    CODE = 2
    """A one-time code made for this device."""
    APPROVED = 3
    """Somebody, or a factory station, had it in hand."""
    MANUFACTURER = 4
    """Its maker's list or certificate names it and its key."""
    HARDWARE = 5
    """Hardware attested that the key is inside it and cannot leave."""

    @property
    def word(self) -> str:
        return self.name.lower()


class KeyOrigin(StrEnum):
    """Where the key of a unit was made, as its station tells; stored by name."""

    DEVICE = "device"
    """In the unit, by the word of its software."""
    ATTESTED = "attested"
    """In the unit, whose hardware signed that; the station has verified it."""
    HOST = "host"
    """Outside: whoever made it could have kept it."""


class Role(StrEnum):
    """What an operator may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    SECURITY = "security"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What the life of a certificate depends on; its bytes stand in the store.

    `serial` grows within a device; `attempt` counts keys since `parent`, the serial it was renewed from;
    certificates from a claim have a `code_id`, no parent, and attempt 0.
    """

    serial: str
    key_hash: str
    state: CertificateState
    attempt: int = 0
    anchor: str = ""
    """SHA-256 of the trust anchor (root) that its chain ends in, hex."""
    code_id: str | None = None
    parent: str | None = None
    done_stamp: int | None = None
    """Broker stamp of the first word, with it as the current one, that older slots were dropped."""
    issued_stamp: int | None = None
    """Broker stamp read after it was issued, None until known; the order of plain clients' uses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleHandshake:
    """A refused handshake with a certificate that its device had said it dropped."""

    serial: str
    stamp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """What admits a first certificate, once: a one-time code, or any other grant for one (device, key).

    `key_hash` is None until a key was bound to it.
    """

    code_id: str
    key_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device in one domain, as the protocol sees it: the unit that is judged and committed."""

    identity: Identity
    kind: ClientKind = ClientKind.AGENT
    certificates: tuple[Certificate, ...] = ()
    """In the order of their serials."""
    current: str | None = None
    codes: tuple[Code, ...] = ()
    """The open ones."""
    revoked: bool = False
    suspended: bool = False
    alarm: Alarm = Alarm.NONE
    code_conflict: bool = False
    base: str | None = None
    """Highest serial when an alarm was resolved: older evidence no longer counts."""
    readmit: bool = False
    """The operator said that the same device goes on: a superseded certificate may renew once more."""
    stale: StaleHandshake | None = None
    """What raised the alarm, where it was a stale handshake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowlistEntry:
    """One admitted certificate: all of issuer, serial and fingerprint are compared."""

    issuer: str
    """Hex subject key identifier of the issuing CA, as the leaf's authorityKeyIdentifier names it."""
    serial: str
    fingerprint: str
    """SHA-256 of the leaf's DER, hex."""
    name: str
    """Broker name, `<domain>:<id>` for devices."""
    purpose: Purpose
    not_after: datetime
    access: int = 1
    """Its class of the access policy: what `fleet.grants.Classes` names by this number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowlistChange:
    """The difference that one commit made. Sequence numbers have no gaps; removes go before adds.

    A certificate that is removed and added is one whose class changed: its sessions go on.
    """

    sequence: int
    added: tuple[AllowlistEntry, ...] = ()
    removed: tuple[AllowlistEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowlist:
    """All that a broker admits, as of one commit."""

    sequence: int
    entries: tuple[AllowlistEntry, ...] = ()


class BrokerEventKind(StrEnum):
    CONNECTED = "connected"
    REFUSED = "refused"
    DISCONNECTED = "disconnected"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerEvent:
    """What happened to a connection, in the broker's own order.

    `stamp` grows by one for each event of one broker run. `issuer` and `serial` are empty where the
    client showed no certificate that reached the guard.
    """

    kind: BrokerEventKind
    stamp: int
    issuer: str = ""
    serial: str = ""
    name: str = ""
    client_id: str = ""
    address: str = ""
    reason: str = ""
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A live connection at a broker."""

    broker: str
    name: str
    client_id: str
    issuer: str
    serial: str
    address: str
    connected_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOff:
    """A live session that was dropped, and how long that took from the order to the closed session."""

    broker: str
    name: str
    serial: str
    cut_off_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One act, by whom and why. `details` are short texts; no keys, codes or certificates."""

    at: datetime
    action: str
    """`<noun>.<verb>` in lower case, such as `certificate.issued`."""
    actor: str
    """`operator:<name>`, `device:<domain>:<id>`, `station:<name>`, `server`."""
    domain: str = ""
    device_id: str = ""
    serial: str = ""
    details: tuple[tuple[str, str], ...] = field(default=())
