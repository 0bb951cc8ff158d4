"""Decides whether an unknown device may ask for its first certificate (PROTOCOL.md 4, admission).

Whatever the proof, it grants one (device, key) once. A claim certificate alone enrolls only ids that are
registered for its batch and not enrolled yet; a manufacturer's certificate or a TPM only the device that it,
a list or a code names; any other id waits for an approval. A known id with another key is refused here:
recovery is another path. Runs inside a unit of work.
"""

from dataclasses import replace

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from fleet.attest.claim import ClaimVerifier
from fleet.attest.code import CodeVerifier, wrong_code
from fleet.attest.manifest import ManifestVerifier
from fleet.attest.proof import Proven, Statement
from fleet.core import events
from fleet.core.things import Thing, ThingKind
from fleet.core.way_back import HardwareWay, hardware_refusal
from fleet.model import Device, Purpose
from fleet.ports import Transaction
from fleet.ra.requests.applicants import (
    Admitted,
    Applicant,
    ClaimProof,
    CodeProof,
    HardwareProof,
    ListedKeyProof,
    StationProof,
    Waits,
    grant_id,
    granted,
    is_free,
    known_grant,
    refused,
    require_certificate,
    require_free,
)
from fleet.ra.requests.queue import wait_for_approval
from fleet.ra.requests.station_word import admit_by_station, require_station
from fleet.store import claims, codes, listed
from fleet.store.certificates import with_key
from fleet.store.codes import Grant, GrantKind
from fleet.store.devices import DeviceRecord, insert_device, load_device, load_record
from fleet.store.proofs import proofs_of

__all__ = ["Admitted", "Applicant", "ClaimProof", "Waits", "admit", "require_certificate"]


async def admit(tx: Transaction, applicant: Applicant) -> Admitted | Waits:
    """Judge the proof.

    Raises:
        RefusedError: it does not admit this device with this key.
    """
    match applicant.proof:
        case CodeProof() as proof:
            return await _by_code(tx, applicant, proof.code_hash)
        case ClaimProof() as proof:
            return await _by_claim(tx, applicant, proof)
        case StationProof(code_hash="") as proof:
            return await admit_by_station(tx, applicant, proof)
        case StationProof() as proof:
            return await _by_station_with_code(tx, applicant, proof)
        case ListedKeyProof() as proof:
            return await _by_listed_key(tx, applicant, proof)
        case HardwareProof() as proof:
            return await _by_hardware(tx, applicant, proof)


async def _by_code(tx: Transaction, applicant: Applicant, code_hash: str) -> Admitted:
    code = await codes.find_code(tx, code_hash)
    if code is None or applicant.domain not in {"", code.identity.domain}:
        raise wrong_code()
    verifier = CodeVerifier(of=code.identity, is_bound=code.key_hash is not None, expires_at=code.expires_at)
    proven = verifier.verify(applicant.statement(code.identity.domain))
    device = await load_device(tx, code.identity)
    if device is None:
        raise refused(ProblemCode.UNKNOWN_DEVICE, f"{code.identity.name} is not registered")
    return Admitted(device=device, code_id=code.code_id, kind=GrantKind.CODE, proven=proven)


async def _by_station_with_code(tx: Transaction, applicant: Applicant, proof: StationProof) -> Admitted:
    """Admit a unit that came back to a bench: a code says that it may, whoever made it.

    The station's own grant takes the place of the code, which is used up: so the station may confirm it.
    """
    station = await require_station(tx, proof)
    admitted = await _by_code(tx, replace(applicant, domain=station.domain), proof.code_hash)
    admitted = replace(admitted, station=station.name)
    if known := known_grant(admitted.device, applicant.key_hash):
        return replace(admitted, code_id=known)
    code = next((one for one in admitted.device.codes if one.code_id == admitted.code_id), None)
    if code is None or code.key_hash is not None:
        return admitted  # closed, or another key's: the core refuses it, and tells an operator
    identity = admitted.device.identity
    grant = Grant(code_id=grant_id(identity, applicant.key_hash), kind=GrantKind.STATION, source=station.name)
    granted_here = events.Grant(code_id=grant.code_id, key_hash=applicant.key_hash)
    used_up = events.CloseCode(code_id=code.code_id)
    return replace(admitted, code_id=grant.code_id, before=(granted_here, used_up), grants=(grant,))


async def _by_claim(tx: Transaction, applicant: Applicant, proof: ClaimProof) -> Admitted | Waits:
    claim = await require_certificate(tx, proof.shown, purpose=Purpose.CLAIM)
    statement = applicant.statement(claim.domain)
    batch = await claims.load_batch(tx, claim.domain, claim.batch or "")
    if batch is None:
        raise refused(ProblemCode.NOT_ALLOWED, "the claim was closed")
    verifier = ClaimVerifier(
        domain=batch.domain,
        batch=batch.name,
        uses=batch.uses,
        uses_allowed=batch.uses_allowed,
        expires_at=batch.expires_at,
        closed_at=batch.closed_at,
    )
    proven = verifier.verify(statement)
    identity = Identity(domain=claim.domain, device_id=applicant.device_id)
    device, record = await load_device(tx, identity), await load_record(tx, identity)
    if (known := _repeated(device, applicant, kind=GrantKind.CLAIM, proven=proven)) is not None:
        return known
    if device is None or record is None or record.batch != batch.name:
        return await wait_for_approval(
            tx,
            applicant,
            identity,
            reason=f"it is not registered for batch {batch.name}",
            claim_serial=claim.serial,
            assurance=proven.assurance,
            evidence=proven.evidence,
        )
    verifier.require_room(statement)
    grant = Grant(code_id=grant_id(identity, applicant.key_hash), kind=GrantKind.CLAIM, source=claim.serial)
    return replace(granted(device, applicant, grant, proven=proven), batch=batch.name)


async def _by_listed_key(tx: Transaction, applicant: Applicant, proof: ListedKeyProof) -> Admitted | Waits:
    thing = Thing(kind=ThingKind.KEY, value=applicant.key_hash)
    listing = await listed.find_listing(tx, proof.domain, thing)
    verifier = ManifestVerifier(
        owner=None if listing is None else listing.identity.device_id,
        source="" if listing is None else listing.source,
    )
    proven = verifier.verify(applicant.statement(proof.domain))
    listed_key = HardwareProof(kind=GrantKind.MANIFEST, domain=proof.domain, proven=proven)
    return await _by_hardware(tx, applicant, listed_key)


async def _by_hardware(tx: Transaction, applicant: Applicant, proof: HardwareProof) -> Admitted | Waits:
    statement, proven = applicant.statement(proof.domain), proof.proven
    owner = await _owner(tx, statement, proven)
    is_named = applicant.device_id in {owner, proven.names}
    if proven.names and not is_named:
        raise refused(ProblemCode.BAD_IDENTITY, f"the proof is of the device {proven.names}")
    if proof.code_hash:
        # What was shown was judged by this domain's anchors: a code of another has no use for it.
        admitted = await _by_code(tx, replace(applicant, domain=proof.domain), proof.code_hash)
        return replace(admitted, kind=proof.kind, proven=proven)
    identity = Identity(domain=proof.domain, device_id=applicant.device_id)
    device = await load_device(tx, identity)
    if device is not None and not is_free(device) and not known_grant(device, applicant.key_hash):
        await _require_way_back(tx, device, applicant, proof, is_listed=owner == applicant.device_id)
    elif (known := _repeated(device, applicant, kind=proof.kind, proven=proven)) is not None:
        return known
    is_back = device is not None and not is_free(device)
    if not (is_named or is_back) or (device is None and not proven.may_register):
        return await wait_for_approval(
            tx,
            applicant,
            identity,
            reason="it is not registered" if is_named else "no list and no code says which device it is",
            kind=proof.kind,
            assurance=proven.assurance,
            evidence=proven.evidence,
        )
    device = device or await _register(tx, identity, applicant)
    grant = Grant(code_id=grant_id(identity, applicant.key_hash), kind=proof.kind, source=proven.evidence)
    return granted(device, applicant, grant, proven=proven)


async def _require_way_back(
    tx: Transaction, device: Device, applicant: Applicant, proof: HardwareProof, *, is_listed: bool
) -> None:
    """Let a device come back by the hardware that it was first known by, where the policy says so.

    Raises:
        RefusedError: it may not, or it is other hardware: a code is needed.
    """
    # A key on a list is the very key that was lost: it brings nobody a new one.
    way = HardwareWay.NEVER if proof.kind is GrantKind.MANIFEST else applicant.hardware_returns
    known = await proofs_of(tx, device.identity)
    is_same = is_listed or (
        proof.proven.tells_apart
        and any(one.kind is proof.kind and one.evidence == proof.proven.evidence for one in known)
    )
    if await with_key(tx, applicant.key_hash):
        raise refused(ProblemCode.KEY_IN_USE, "a way back takes a new key")
    if why := hardware_refusal(device, way, is_same=is_same):
        is_alarmed = bool(device.alarm) or device.code_conflict
        otherwise = ProblemCode.FROZEN if is_alarmed else ProblemCode.NOT_ALLOWED
        raise refused(ProblemCode.SUSPENDED if device.suspended else otherwise, why)


async def _owner(tx: Transaction, statement: Statement, proven: Proven) -> str:
    """Return the device that lists know a proof by, empty where none does; another's is refused."""
    owners = set((await listed.owners(tx, statement.domain, proven.things)).values())
    if owners - {statement.device_id}:
        raise refused(ProblemCode.BAD_IDENTITY, "a list has what was shown for another device")
    return next(iter(owners), "")


async def _register(tx: Transaction, identity: Identity, applicant: Applicant) -> Device:
    await insert_device(tx, DeviceRecord(identity=identity, registered_at=applicant.at))
    return Device(identity=identity)


def _repeated(
    device: Device | None, applicant: Applicant, *, kind: GrantKind, proven: Proven
) -> Admitted | None:
    """Return the admission of a key that was admitted before; raises `RefusedError` where another was."""
    if device is None:
        return None
    if known := known_grant(device, applicant.key_hash):
        return Admitted(device=device, code_id=known, kind=kind, proven=proven)
    require_free(device)
    return None
