"""Decides whether an unknown device may ask for its first certificate (PROTOCOL.md 4, admission).

Whatever the proof, it grants one (device, key) once. A claim certificate alone enrolls only ids that are
registered for its batch and not enrolled yet; any other id waits for an approval. A known id with another
key is refused here: recovery is another path. Runs inside a unit of work.
"""

import base64
import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from fleet.core import events
from fleet.errors import RefusedError
from fleet.model import CertificateState, Device, Purpose
from fleet.ports import Transaction
from fleet.ra.shown import ShownCertificate
from fleet.store import claims, codes, waiting
from fleet.store.certificates import CertificateRecord, load_certificate
from fleet.store.codes import Grant, GrantKind
from fleet.store.devices import DeviceRecord, insert_device, load_device, load_record
from fleet.store.stations import StationRecord, enrolled_by, load_station, station_of

MAX_WAITING = 1000
"""Devices that wait for approval behind one claim certificate; more are told to come back."""
RETRY_AFTER_SECONDS = 30

_CROCKFORD = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789ABCDEFGHJKMNPQRSTVWXYZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeProof:
    """A one-time code, by its hash; it names the device that it is for."""

    code_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimProof:
    """The claim certificate of the connection."""

    shown: ShownCertificate


@dataclass(frozen=True, slots=True, kw_only=True)
class StationProof:
    """A factory station, by its certificate, or by its name where this home runs it."""

    shown: ShownCertificate | None = None
    name: str = ""
    replaces: str = ""
    """Serial of the unit's previous generation, which this station made."""


AdmissionProof: TypeAlias = CodeProof | ClaimProof | StationProof


@dataclass(frozen=True, slots=True, kw_only=True)
class Applicant:
    """Who wants in."""

    device_id: str
    key_hash: str
    proof: AdmissionProof
    address: str
    at: datetime
    domain: str = ""
    """Nothing of another domain is given, where the channel named one."""

    def may_be_of(self, domain: str) -> bool:
        """Tell whether the channel leaves it free to be of this domain."""
        return self.domain in {"", domain}


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """What stands for the proof in the device's record: the grant that the core then judges."""

    device: Device
    code_id: str
    before: tuple[events.Grant | events.Replace, ...] = ()
    """What the core must judge first, so that the grant is there."""
    grants: tuple[Grant, ...] = ()
    batch: str = ""
    """Whose use count goes up."""
    station: str = ""
    """Which enrolls the unit."""
    replaces: str = ""
    """Serial of the generation that it ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Somebody has to approve; both sides show the code."""

    short_code: str


async def admit(tx: Transaction, applicant: Applicant) -> Admitted | Waits:
    """Judge the proof.

    Raises:
        RefusedError: it does not admit this device with this key.
    """
    match applicant.proof:
        case CodeProof():
            return await _by_code(tx, applicant, applicant.proof)
        case ClaimProof():
            return await _by_claim(tx, applicant, applicant.proof)
        case StationProof():
            return await _by_station(tx, applicant, applicant.proof)


async def _by_code(tx: Transaction, applicant: Applicant, proof: CodeProof) -> Admitted:
    code = await codes.find_code(tx, proof.code_hash)
    if (
        code is None
        or code.identity.device_id != applicant.device_id
        or not applicant.may_be_of(code.identity.domain)
    ):
        raise _refusal(ProblemCode.CODE_INVALID, "the code is not one for this device")
    # A bound code is judged by the core: its own key gets the same answer again, even late.
    if code.key_hash is None and code.expires_at is not None and code.expires_at <= applicant.at:
        raise _refusal(ProblemCode.CODE_INVALID, "the code has expired")
    device = await load_device(tx, code.identity)
    if device is None:
        raise _refusal(ProblemCode.UNKNOWN_DEVICE, f"{code.identity.name} is not registered")
    return Admitted(device=device, code_id=code.code_id)


async def _by_claim(tx: Transaction, applicant: Applicant, proof: ClaimProof) -> Admitted | Waits:
    claim = await require_certificate(tx, proof.shown, purpose=Purpose.CLAIM)
    if not applicant.may_be_of(claim.domain):
        raise _refusal(ProblemCode.NOT_ALLOWED, "the claim certificate is of another domain")
    batch = await claims.load_batch(tx, claim.domain, claim.batch or "")
    if batch is None or batch.closed_at is not None:
        raise _refusal(ProblemCode.NOT_ALLOWED, "the claim was closed")
    if batch.uses_allowed == 0:
        raise _refusal(ProblemCode.NOT_ALLOWED, "this claim certificate grants nothing without a code")
    identity = Identity(domain=claim.domain, device_id=applicant.device_id)
    device = await load_device(tx, identity)
    if device is not None and (known := _known_key(device, applicant.key_hash)):
        return Admitted(device=device, code_id=known)
    if device is not None and _is_enrolled(device):
        raise _refusal(ProblemCode.NOT_ALLOWED, f"{identity.name} is enrolled already, with another key")
    record = await load_record(tx, identity)
    if device is None or record is None or record.batch != batch.name:
        return await wait_for_approval(tx, applicant, identity, claim_serial=claim.serial)
    if batch.expires_at is not None and batch.expires_at <= applicant.at:
        raise _refusal(ProblemCode.NOT_ALLOWED, "the claim has expired")
    if batch.uses_allowed is not None and batch.uses >= batch.uses_allowed:
        raise _refusal(ProblemCode.NOT_ALLOWED, "the claim was used as often as it may be")
    return _granted(device, applicant, GrantKind.CLAIM, source=claim.serial, batch=batch.name)


async def _by_station(tx: Transaction, applicant: Applicant, proof: StationProof) -> Admitted:
    station = await require_station(tx, proof)
    identity = Identity(domain=station.domain, device_id=applicant.device_id)
    device = await load_device(tx, identity) or await _register(tx, station, identity, applicant.at)
    if known := _known_key(device, applicant.key_hash):
        return Admitted(device=device, code_id=known, station=station.name)
    record = await load_record(tx, identity)
    if record is None or record.batch not in station.batches:
        raise _refusal(ProblemCode.NOT_ALLOWED, f"{identity.name} is in no batch of station {station.name}")
    if not _is_enrolled(device):
        granted = _granted(device, applicant, GrantKind.STATION, source=station.name)
        return replace(granted, station=station.name)
    if not proof.replaces:
        raise _refusal(ProblemCode.NOT_ALLOWED, f"{identity.name} is enrolled already, with another key")
    await _require_own_generation(tx, station, device, replaces=proof.replaces)
    code_id = _code_id(identity, applicant.key_hash)
    return Admitted(
        device=device,
        code_id=code_id,
        before=(events.Replace(code_id=code_id),),
        replaces=proof.replaces,
        station=station.name,
        grants=(Grant(code_id=code_id, kind=GrantKind.STATION, source=station.name),),
    )


async def _require_own_generation(
    tx: Transaction, station: StationRecord, device: Device, *, replaces: str
) -> None:
    """Refuse where a station would end more than a unit that it made itself and that has no other life yet.

    A replacement takes the identity over. So what somebody else enrolled, what was revoked, and what an alarm
    stands for is an operator's to decide.
    """
    name = device.identity.name
    if device.revoked:
        raise _refusal(ProblemCode.REVOKED, f"{name} was revoked")
    if device.alarm or device.code_conflict:
        raise _refusal(ProblemCode.FROZEN, f"an alarm of {name} stands: an operator must look")
    if replaces not in {row.serial for row in device.certificates}:
        raise _refusal(ProblemCode.NOT_ALLOWED, f"{replaces} is no certificate of {name}")
    newest = max((row.serial for row in device.certificates if row.code_id is not None), default="")
    for serial in (replaces, newest):
        if await enrolled_by(tx, serial) != station.name:
            raise _refusal(ProblemCode.NOT_ALLOWED, f"station {station.name} has not enrolled {serial}")


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
        raise _refusal(ProblemCode.NOT_ALLOWED, f"the certificate shown is no {purpose} certificate in force")
    return row


async def require_station(tx: Transaction, proof: StationProof) -> StationRecord:
    """Return the station that asks; raises `RefusedError` when it is none, or was closed."""
    if proof.shown is not None:
        row = await require_certificate(tx, proof.shown, purpose=Purpose.STATION)
        station = await station_of(tx, row.serial)
    else:
        station = await load_station(tx, proof.name)
    if station is None or station.closed_at is not None:
        raise _refusal(ProblemCode.NOT_ALLOWED, "no such station, or it was closed")
    return station


def short_code(key_hash: str) -> str:
    """Return what people compare: 40 bits of the key's hash, Crockford base32, two groups of four.

    It is derived from the key, so that both sides know it and nobody in between can choose it.
    """
    digest = hashlib.sha256(b"fleet-pending\0" + bytes.fromhex(key_hash)).digest()
    text = base64.b32encode(digest[:5]).decode().translate(_CROCKFORD)
    return f"{text[:4]}-{text[4:]}"


async def wait_for_approval(
    tx: Transaction, applicant: Applicant, identity: Identity, *, claim_serial: str = ""
) -> Waits:
    """Put a request in the queue, or find it there; nobody but an operator takes it out."""
    known = await waiting.find_waiting(tx, identity, applicant.key_hash)
    if known is not None:
        return Waits(short_code=known.short_code)
    if await waiting.count_waiting(tx, claim_serial) >= MAX_WAITING:
        raise _refusal(ProblemCode.BUSY, "too many devices wait for approval behind this claim")
    code = short_code(applicant.key_hash)
    await waiting.keep_waiting(
        tx,
        waiting.Waiting(
            identity=identity,
            key_hash=applicant.key_hash,
            short_code=code,
            claim_serial=claim_serial,
            address=applicant.address,
            asked_at=applicant.at,
        ),
    )
    return Waits(short_code=code)


async def _register(tx: Transaction, station: StationRecord, identity: Identity, at: datetime) -> Device:
    """Register a unit that nobody knew, in the station's first batch."""
    if not station.batches:
        raise _refusal(ProblemCode.NOT_ALLOWED, f"station {station.name} has no batch to enroll units of")
    device = Device(identity=identity)
    record = DeviceRecord(identity=identity, batch=station.batches[0], registered_at=at)
    await insert_device(tx, record)
    return device


def _granted(
    device: Device, applicant: Applicant, kind: GrantKind, *, source: str, batch: str = ""
) -> Admitted:
    if device.revoked:
        # Only an operator's fresh code readmits; a batch's claim or a station does not.
        raise _refusal(ProblemCode.REVOKED, f"{device.identity.name} was revoked")
    code_id = _code_id(device.identity, applicant.key_hash)
    return Admitted(
        device=device,
        code_id=code_id,
        before=(events.Grant(code_id=code_id, key_hash=applicant.key_hash),),
        grants=(Grant(code_id=code_id, kind=kind, source=source),),
        batch=batch,
    )


def _known_key(device: Device, key_hash: str) -> str | None:
    """Return the grant of a key that was admitted before, by whatever proof: its request is repeated."""
    return next((code.code_id for code in device.codes if code.key_hash == key_hash), None)


def _is_enrolled(device: Device) -> bool:
    return bool(device.certificates) or any(code.key_hash is not None for code in device.codes)


def _code_id(identity: Identity, key_hash: str) -> str:
    return hashlib.sha256(f"{identity.name}\0{key_hash}".encode()).hexdigest()[:32]


def _refusal(code: ProblemCode, message: str) -> RefusedError:
    return RefusedError(message, code=code)
