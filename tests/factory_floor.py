"""A factory floor for tests: units with real keys in memory, an authority, and a noisy wire between them.

Power loss is a new link on the same unit: what the unit kept stays, what the link knew is gone.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from device_agent.core.station_link import StationLink
from device_agent.core.station_unit import Installation, UnitReport
from device_agent.errors import StateError, UnacceptableAnswerError
from device_agent.wire.factory import LinkState
from device_agent.wire.framing import Decoder, Frame, Framing, encode_burst
from device_agent.wire.messages import BrokerAddress
from fleet.ca.signers import KeySigner
from fleet.core.journal import Head, SignedEntry, after, parse_entry
from fleet.core.station_rules import BatchRule, StationRules
from fleet.core.station_sync import JournalReceipt, JournalUpload, LineOperator
from fleet.errors import RefusedError, UnreachableError
from fleet.station.keeping.package import Issuance, IssueOrder
from fleet.station.link import steps
from fleet.station.link.cable import Noise
from fleet.station.link.pace import Pace
from fleet.station.link.session import Session
from fleet.station.own.identity import StationIdentity
from tests.pki import Authority, utc_now

NOW = utc_now()
_MOST_EFFECTS = 5000


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


@dataclass
class Slot:
    """A key and what belongs to it."""

    device_id: str
    key: ec.EllipticCurvePrivateKey
    csr: bytes
    installation: Installation | None = None

    @property
    def fingerprint(self) -> bytes:
        return hashlib.sha256(self.installation.chain[0]).digest() if self.installation else b""


@dataclass
class MemoryUnit:
    """A device's memory: two slots, and what it must never lose."""

    hardware_id: str = "hw-1"
    device_id: str = ""
    model: str = "bench"
    anchors: tuple[bytes, ...] = ()
    pending: Slot | None = None
    active: Slot | None = None
    installs: int = 0
    commits: int = 0

    def report(self) -> UnitReport:
        slot = self._shown()
        installation = slot.installation if slot else None
        return UnitReport(
            hardware_id=self.hardware_id,
            device_id=self.device_id or (slot.device_id if slot else ""),
            model=self.model,
            state=self._state(),
            fingerprint=slot.fingerprint if slot else b"",
            hashes=installation.hashes if installation else None,
            anchors=self.anchors,
        )

    def _state(self) -> LinkState:
        if self.pending:
            return LinkState.PENDING if self.pending.installation else LinkState.KEYED
        return LinkState.ACTIVE if self.active else LinkState.FRESH

    def _shown(self) -> Slot | None:
        if self.pending and self.pending.installation:
            return self.pending
        return self.active or self.pending

    def request(self, device_id: str) -> bytes:
        if self.device_id and device_id != self.device_id:
            raise UnacceptableAnswerError("this unit has another id")
        if self.pending is None or self.pending.device_id != device_id:
            key = ec.generate_private_key(ec.SECP256R1())
            self.pending = Slot(device_id=device_id, key=key, csr=make_csr(key, device_id))
        return self.pending.csr

    def install(self, installation: Installation) -> None:
        leaf = x509.load_der_x509_certificate(installation.chain[0])
        if leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value != self._keyed().device_id:
            raise UnacceptableAnswerError("the certificate is for another id")
        self._keyed().installation = installation
        self.installs += 1

    def _keyed(self) -> Slot:
        if self.pending is None:
            raise StateError("there is no pending key")
        return self.pending

    def sign(self, message: bytes) -> bytes:
        slot = self._shown()
        if slot is None:
            raise StateError("there is no key")
        return slot.key.sign(message, ec.ECDSA(hashes.SHA256()))

    def commit(self) -> None:
        self.active, self.pending = self.pending, None
        self.commits += 1

    def wipe(self) -> None:
        """Forget everything, as after a new flash image."""
        self.pending = self.active = None


def make_csr(key: ec.EllipticCurvePrivateKey, common_name: str) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


@dataclass
class MemoryEnroller:
    """An authority that keeps its promises: one certificate for one (id, key), a known id with another key
    only where it replaces."""

    domain: Authority = field(
        default_factory=lambda: Authority.root("acme prod root").issuing("acme prod devices")
    )
    servers: tuple[bytes, ...] = ()
    made: dict[bytes, Issuance] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    confirmed: list[str] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)
    journal: list[SignedEntry] = field(default_factory=list)
    operators: tuple[LineOperator, ...] = ()
    is_away: bool = False
    refuses: RefusedError | None = None

    async def issue(self, order: IssueOrder) -> Issuance:
        if self.is_away:
            raise UnreachableError("the server is away")
        if self.refuses:
            raise self.refuses
        if order.csr not in self.made:
            known = self.owners.get(order.device_id)
            if known is not None and known != order.replaces:
                raise RefusedError("the id has another key")
            if order.replaces:
                self.revoked.append(order.replaces)
            self.made[order.csr] = self._make(order)
            self.owners[order.device_id] = self.made[order.csr].serial
        return self.made[order.csr]

    async def confirm(self, serial: str) -> None:
        if self.is_away:
            raise UnreachableError("the server is away")
        self.confirmed.append(serial)

    async def sync(self, upload: JournalUpload) -> JournalReceipt:
        if self.is_away:
            raise UnreachableError("the server is away")
        for one in upload.entries:
            if parse_entry(one.octets).number == len(self.journal) + 1:
                self.journal.append(one)
        head = Head()
        for one in self.journal:
            head = after(head, one.octets)
        rules = StationRules(batches=(BatchRule(batch="spring"),))
        return JournalReceipt(head=head, now=NOW, rules=rules, operators=self.operators)

    def _make(self, order: IssueOrder) -> Issuance:
        request = x509.load_der_x509_csr(order.csr)
        leaf = issue_leaf(self.domain, request.public_key(), order.device_id)
        root = self.domain.above
        return Issuance(
            serial=f"{leaf.serial_number:032x}",
            chain=(der(leaf), der(self.domain.certificate)),
            anchors=(der(root.certificate),) if root else (),
            servers=self.servers,
            renew_after=NOW + timedelta(days=60),
            broker=BrokerAddress(host="localhost", port=8883, name=f"prod:{order.device_id}"),
        )


def issue_leaf(authority: Authority, public_key: CertificatePublicKeyTypes, name: str) -> x509.Certificate:
    """Return a leaf of the size and shape that the real authority makes."""
    issuer = authority.certificate
    serial = int.from_bytes(
        b"\x41"
        + hashlib.sha256(public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()[
            :15
        ]
    )
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.subject)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(NOW - timedelta(hours=1))
        .not_valid_after(NOW + timedelta(days=20))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(f"{name.lower()}.prod.acme")]), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
        .sign(authority.key, hashes.SHA256())
    )


class Floor:
    """A station with its authority."""

    def __init__(self) -> None:
        self.fleet_root = Authority.root("acme fleet root")
        self.stations = self.fleet_root.issuing("acme station issuing CA")
        self.identity = self.station("line-3")
        self.anchor = der(self.fleet_root.certificate)
        self.enroller = MemoryEnroller(servers=(self.anchor,))

    def station(self, name: str, *, purpose: str = "station") -> StationIdentity:
        pair = self.stations.leaf(name, hosts=(f"{name}.{purpose}.acme",))
        chain = (der(pair.certificate), der(self.stations.certificate))
        return StationIdentity(name=name, chain=chain, signer=KeySigner(pair.key))


Decide = Callable[[steps.Question], Awaitable[steps.Decision]]


class Wire:
    """Carries whole bursts between a session and a link, with noise, in virtual time.

    `on_request` and `on_answer` see each burst that goes and may swallow it: return False.
    """

    def __init__(self, unit: MemoryUnit, *, noise: float = 0.0, seed: int = 0, baud: int = 115200) -> None:
        self.unit = unit
        self.link = StationLink(unit)
        self.seconds = 0.0
        self.bytes = 0
        self.requests = 0
        self.timeouts = 0
        self.on_request: Callable[[int], bool] = lambda _number: True
        self.on_answer: Callable[[int], bool] = lambda _number: True
        self._out = Noise(noise, seed=2 * seed)
        self._back = Noise(noise, seed=2 * seed + 1)
        self._device_decoder = Decoder()
        self._baud = baud
        self._nonces = 0

    def power_cycle(self) -> None:
        """Cut the power: the unit keeps its memory, the link starts anew."""
        self.link = StationLink(self.unit)
        self._device_decoder = Decoder()

    def exchange(self, burst: bytes) -> bytes:
        """Return what comes back for a burst, in bytes; nothing where it was lost."""
        self.requests += 1
        self._count(burst)
        if not self.on_request(self.requests):
            return b""
        answers = b"".join(self._answer(frame) for frame in self._device_decoder.feed(self._out.spoil(burst)))
        if not answers or not self.on_answer(self.requests):
            return b""
        self._count(answers)
        return self._back.spoil(answers)

    def _answer(self, frame: Frame) -> bytes:
        self._nonces += 1
        nonce = hashlib.sha256(self._nonces.to_bytes(4)).digest()[:16]
        handled = self.link.handle(frame.message, nonce=nonce, now=NOW)
        return b"" if handled.answer is None else encode_burst(handled.answer, frame.framing)

    def _count(self, octets: bytes) -> None:
        self.bytes += len(octets)
        self.seconds += len(octets) * 10 / self._baud


async def run_session(session: Session, wire: Wire, decide: Decide) -> steps.End:
    """Drive a session over a wire to its end."""
    decoder = Decoder()
    effect = session.start()
    for _ in range(_MOST_EFFECTS):
        match effect:
            case steps.End():
                return effect
            case steps.Send(message=message, framing=framing, seconds=seconds):
                began = wire.seconds
                octets = wire.exchange(encode_burst(message, framing))
                answer = _hear(session, decoder, octets, after=wire.seconds - began)
                if answer is None:
                    wire.timeouts += 1
                    wire.seconds += seconds
                effect = answer or session.timed_out()
            case steps.Wait(seconds=seconds):
                wire.seconds += seconds
                effect = session.timed_out()
            case _:
                effect = session.decided(await decide(effect))
    raise AssertionError("the session does not come to an end")


def _hear(session: Session, decoder: Decoder, octets: bytes, *, after: float) -> steps.Effect | None:
    session.hear(octets)
    broken = decoder.broken
    for frame in decoder.feed(octets):
        effect = session.received(frame, after=after)
        if effect is not None:
            return effect
    if decoder.broken > broken:
        session.hear_noise()
    return None


def counted_randomness() -> Callable[[int], bytes]:
    """Return randomness that is the same in each run of a test."""
    count = 0

    def draw(length: int) -> bytes:
        nonlocal count
        count += 1
        return hashlib.sha256(b"test randomness" + count.to_bytes(8)).digest()[:length]

    return draw


def session_of(
    floor: Floor,
    randomness: Callable[[int], bytes],
    *,
    framings: tuple[Framing, ...] = (Framing.COBS, Framing.LINES),
    identity: StationIdentity | None = None,
) -> Session:
    return Session(
        identity=identity or floor.identity, pace=Pace(baud=115200), randomness=randomness, framings=framings
    )


def fixed_clock() -> datetime:
    return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
