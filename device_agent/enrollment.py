"""How a first certificate is asked for over a network, and what of that the record holds from then on.

A code is in it until the first certificate is confirmed; a private key never is, only where its file is.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from device_agent.core.est import EstServer
from device_agent.core.events import ProofGiven
from device_agent.core.record import Anchor
from device_agent.core.stored import Bootstrap, StoredRecord, read_anchors
from device_agent.core.trust import HeldTrust, Source
from device_agent.errors import BadInputError, UsageError
from device_agent.life import Life
from device_agent.wire.identity import parse_device_id
from device_agent.wire.problems import MalformedMessageError
from device_agent.wire.requests import Proof, ProofKind
from device_agent.wire.secret import Secret
from device_agent.wire.trust import FLEET_REALM


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimFiles:
    """A claim certificate with its chain, and its key: PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttEnrollment:
    """How the first certificate is asked for over the bootstrap listener."""

    host: str
    port: int
    device_id: str
    trust_pem: str
    """Roots by which servers are trusted."""
    claim: ClaimFiles
    """Opens the listener: a batch's claim certificate, or the domain's public one together with a code."""
    code: Secret | None = None
    idevid: ClaimFiles | None = None
    """The manufacturer's certificate and its key, where they are the proof."""
    piv: Path | None = None
    """What the PIV token has said of its keys, where that is the proof; a code says which device it is in."""
    domain: str = ""
    """Not empty where `claim` is the device's certificate of another CA, which this domain has adopted."""
    has_tpm: bool = False
    """The TPM that keeps the keys is the proof; a code beside it says which device it is in."""

    @property
    def proof(self) -> Proof:
        """What admits the device."""
        if self.has_tpm:
            return Proof(kind=ProofKind.TPM, code=self.code)
        if self.piv is not None:
            return Proof(kind=ProofKind.PIV, code=self.code)
        if self.idevid is not None:
            return Proof(kind=ProofKind.IDEVID)
        return Proof(kind=ProofKind.CLAIM if self.code is None else ProofKind.CODE, code=self.code)

    def onto(self, record: StoredRecord) -> StoredRecord:
        """Return the record with where to ask."""
        idevid = self.idevid
        bootstrap = Bootstrap(
            host=self.host,
            port=self.port,
            claim_certificate=str(self.claim.certificate.absolute()),
            claim_key=str(self.claim.key.absolute()),
            idevid_certificate="" if idevid is None else str(idevid.certificate.absolute()),
            idevid_key="" if idevid is None else str(idevid.key.absolute()),
            piv_attestation="" if self.piv is None else str(self.piv.absolute()),
            domain=self.domain,
        )
        return replace(record, bootstrap=bootstrap, est=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EstEnrollment:
    """How it is asked for over EST (RFC 7030), and every one after it."""

    url: str
    device_id: str
    trust_pem: str
    """Roots by which the server is trusted (RFC 7030 3.6.2, the implicit anchors)."""
    code: Secret | None = None
    """Goes as the password of HTTP basic, the device id as its user."""
    claim: ClaimFiles | None = None
    """What TLS shows; beside a code it only opens the door."""
    idevid: ClaimFiles | None = None
    """As `claim`, the manufacturer's."""

    @property
    def proof(self) -> Proof:
        """What admits the device; raises `UsageError` where nothing does."""
        if self.code is not None:
            return Proof(kind=ProofKind.CODE, code=self.code)
        if self.claim is None and self.idevid is None:
            raise UsageError(
                "enroll --est needs a proof", hint="--code-file FILE, --claim CERT,KEY or --idevid CERT,KEY"
            )
        return Proof(kind=ProofKind.IDEVID if self.claim is None else ProofKind.CLAIM)

    def onto(self, record: StoredRecord) -> StoredRecord:
        """Return the record with where to ask; raises `BadInputError`."""
        try:
            server = EstServer.parse(self.url)
        except MalformedMessageError as error:
            raise BadInputError(f"--est: {error}", hint="--est https://fleet.example:8443/prod") from error
        shown = self.claim or self.idevid
        if shown is not None:
            certificate, key = str(shown.certificate.absolute()), str(shown.key.absolute())
            server = replace(server, certificate=certificate, key=key)
        return replace(record, bootstrap=None, est=server)


Enrollment: TypeAlias = MqttEnrollment | EstEnrollment


def begin_enrollment(life: Life, enrollment: Enrollment) -> None:
    """Put what admits the device into the record, before a key is made or anything is asked.

    Raises:
        UsageError, BadInputError: something is missing, or is not what it should be.
    """
    proof, device_id = enrollment.proof, device_id_of(enrollment.device_id)
    # What enrollment is told to trust counts, whatever bundles an earlier life has seen.
    since = life.now().replace(microsecond=0)
    told = HeldTrust(realm=FLEET_REALM, since=since, source=Source.ENROLLMENT)
    record = enrollment.onto(life.record.believing(anchors_of_file(enrollment.trust_pem), told))
    # A key was made for one id: another id gets another key.
    kept = record.life if record.device_id == device_id else replace(record.life, pending=None)
    life.take(ProofGiven(proof=proof), onto=replace(record, life=kept, device_id=device_id))


def device_id_of(text: str) -> str:
    """Return a device id; raises `BadInputError`."""
    try:
        return parse_device_id(text)
    except MalformedMessageError as error:
        raise BadInputError(str(error), hint="--device line3-0042") from error


def anchors_of_file(pem: str) -> tuple[Anchor, ...]:
    """Return the roots that `--trust` names; raises `BadInputError`."""
    try:
        return read_anchors(pem)
    except MalformedMessageError as error:
        raise BadInputError(
            f"the roots to trust cannot be read: {error}", hint="--trust takes the home's trust/server.pem"
        ) from error
