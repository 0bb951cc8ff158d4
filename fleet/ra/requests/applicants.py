"""Who wants a first certificate, by what proof, and what stands for that proof in the device's record.

Nothing here decides; `admission` does.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from fleet.attest.proof import Proven, Statement
from fleet.core import events
from fleet.core.way_back import HardwareWay
from fleet.errors import RefusedError
from fleet.model import CertificateState, Device, KeyOrigin, Purpose
from fleet.ports import Transaction
from fleet.ra.shown import ShownCertificate
from fleet.store.certificates import CertificateRecord, load_certificate
from fleet.store.codes import Grant, GrantKind


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeProof:
    """A one-time code, by its hash; it names the device that it is for."""

    code_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimProof:
    """The claim certificate of the connection."""

    shown: ShownCertificate


@dataclass(frozen=True, slots=True, kw_only=True)
class StationWord:
    """What a station says of a unit beside its request."""

    replaces: str = ""
    """Serial of the unit's previous generation, which this station made."""
    batch: str = ""
    """Which it is made for, where it is not registered yet; empty is the station's first."""
    key: KeyOrigin = KeyOrigin.DEVICE
    lease: str = ""
    """Under which it was made off line; it is counted against the quota already."""


NOTHING_SAID = StationWord()


@dataclass(frozen=True, slots=True, kw_only=True)
class StationProof:
    """A factory station, by its certificate, or by its name where this home runs it."""

    shown: ShownCertificate | None = None
    name: str = ""
    word: StationWord = NOTHING_SAID
    code_hash: str = ""
    """Of an operator's code, for a unit that comes back: it admits, and the station only carries it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedKeyProof:
    """The key of the request: a manufacturer's list has it, in this domain."""

    domain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareProof:
    """A manufacturer's certificate or a TPM, verified already; `code_hash` is of a code beside it."""

    kind: GrantKind
    domain: str
    proven: Proven
    code_hash: str = ""


AdmissionProof: TypeAlias = CodeProof | ClaimProof | StationProof | ListedKeyProof | HardwareProof


@dataclass(frozen=True, slots=True, kw_only=True)
class Applicant:
    """Who wants in."""

    fleet: str = ""
    device_id: str
    key_hash: str
    proof: AdmissionProof
    address: str
    at: datetime
    domain: str = ""
    """Nothing of another domain is given, where the channel named one."""
    hardware_returns: HardwareWay = HardwareWay.NEVER
    """When a device that has had a certificate may come back by its hardware."""

    def statement(self, domain: str) -> Statement:
        """Return what is to be proved in a domain; raises `RefusedError` where the channel named another."""
        if self.domain not in {"", domain}:
            raise refused(ProblemCode.NOT_ALLOWED, "the proof is of another domain")
        return Statement(
            fleet=self.fleet, domain=domain, device_id=self.device_id, key_hash=self.key_hash, at=self.at
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """What stands for the proof in the device's record: the grant that the core then judges."""

    device: Device
    code_id: str
    kind: GrantKind
    proven: Proven
    before: tuple[events.Grant | events.Replace | events.CloseCode, ...] = ()
    """What the core must judge first, so that the grant is there."""
    grants: tuple[Grant, ...] = ()
    batch: str = ""
    """Whose use count goes up."""
    station: str = ""
    """Which enrolls the unit."""
    replaces: str = ""
    """Serial of the generation that it ends."""
    lease: str = ""
    """Under which the station made it off line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Somebody has to approve; both sides show the code."""

    short_code: str


def granted(device: Device, applicant: Applicant, grant: Grant, *, proven: Proven) -> Admitted:
    """Return an admission by a new grant, for this key alone.

    Raises:
        RefusedError: the device was revoked: only an operator's fresh code brings it back.
    """
    if device.revoked:
        raise refused(ProblemCode.REVOKED, f"{device.identity.name} was revoked")
    return Admitted(
        device=device,
        code_id=grant.code_id,
        kind=grant.kind,
        proven=proven,
        before=(events.Grant(code_id=grant.code_id, key_hash=applicant.key_hash),),
        grants=(grant,),
    )


def known_grant(device: Device, key_hash: str) -> str:
    """Return the grant of a key that was admitted before, by whatever proof; empty where there is none."""
    return next((code.code_id for code in device.codes if code.key_hash == key_hash), "")


def is_free(device: Device) -> bool:
    """Tell whether no key was admitted for a device yet."""
    return not device.certificates and all(code.key_hash is None for code in device.codes)


def require_free(device: Device) -> None:
    """Refuse a device that another key is admitted for; recovery is another path."""
    if not is_free(device):
        name = device.identity.name
        raise refused(ProblemCode.NOT_ALLOWED, f"{name} is enrolled already, with another key")


def grant_id(identity: Identity, key_hash: str) -> str:
    """Return the id of the one grant that a device and a key can have without a code."""
    return hashlib.sha256(f"{identity.name}\0{key_hash}".encode()).hexdigest()[:32]


async def require_certificate(
    tx: Transaction, shown: ShownCertificate, *, purpose: Purpose
) -> CertificateRecord:
    """Return the row of a shown certificate: same issuer, serial and fingerprint, this purpose, in force.

    Raises:
        RefusedError: there is no such row.
    """
    row = await load_certificate(tx, shown.serial)
    if (
        row is None
        or row.issuer != shown.issuer
        or row.signed is None
        or shown.fingerprint not in {"", row.signed.fingerprint}
        or row.purpose is not purpose
        or row.state is not CertificateState.ACTIVE
    ):
        raise refused(ProblemCode.NOT_ALLOWED, f"the certificate shown is no {purpose} certificate in force")
    return row


def refused(code: ProblemCode, message: str) -> RefusedError:
    """Return the error for a proof that does not admit."""
    return RefusedError(message, code=code)
