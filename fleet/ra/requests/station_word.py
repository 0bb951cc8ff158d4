"""Admits units by a factory station's word: into its own batches, and in place of what it made itself."""

from dataclasses import replace
from datetime import datetime

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from fleet.attest.witness import WitnessVerifier
from fleet.core import events
from fleet.model import CertificateState, Device, Purpose
from fleet.ports import Transaction
from fleet.ra.requests.applicants import (
    Admitted,
    Applicant,
    StationProof,
    grant_id,
    granted,
    is_free,
    known_grant,
    refused,
    require_certificate,
    require_free,
)
from fleet.ra.requests.station_rules import require_own_batch, require_within_rules
from fleet.store.codes import Grant, GrantKind
from fleet.store.devices import DeviceRecord, insert_device, load_device
from fleet.store.stations import StationRecord, enrolled_by, is_unit_of, load_station, station_of

_UNUSED = frozenset({CertificateState.VOID, CertificateState.ISSUED, CertificateState.DEAD})
"""States of a certificate that nobody has confirmed."""


async def admit_by_station(tx: Transaction, applicant: Applicant, proof: StationProof) -> Admitted:
    """Judge a station's word; raises `RefusedError`."""
    station = await require_station(tx, proof)
    replaces = proof.word.replaces
    proven = WitnessVerifier(witness=f"station {station.name}", key=proof.word.key).verify(
        applicant.statement(station.domain)
    )
    identity = Identity(domain=station.domain, device_id=applicant.device_id)
    device = await load_device(tx, identity) or await _register(tx, station, identity, proof, applicant.at)
    code_id = known_grant(device, applicant.key_hash)
    admitted = Admitted(
        device=device,
        code_id=code_id,
        kind=GrantKind.STATION,
        proven=proven,
        station=station.name,
        lease=proof.word.lease,
    )
    if proof.word.lease:
        await _require_leased(tx, station, identity, batch=proof.word.batch)
    if code_id:
        return admitted
    if not proof.word.lease:
        await require_within_rules(tx, station, identity, at=applicant.at)
    grant = Grant(code_id=grant_id(identity, applicant.key_hash), kind=GrantKind.STATION, source=station.name)
    if not replaces:
        require_free(device)
    if is_free(device):
        return replace(
            granted(device, applicant, grant, proven=proven), station=station.name, lease=proof.word.lease
        )
    await _require_own_generation(tx, station, device, replaces=replaces)
    return replace(
        admitted,
        code_id=grant.code_id,
        before=(events.Replace(code_id=grant.code_id),),
        replaces=replaces,
        grants=(grant,),
    )


async def require_station(tx: Transaction, proof: StationProof) -> StationRecord:
    """Return the station that asks; raises `RefusedError` when it is none, or was closed."""
    if proof.shown is not None:
        row = await require_certificate(tx, proof.shown, purpose=Purpose.STATION)
        station = await station_of(tx, row.serial)
    else:
        station = await load_station(tx, proof.name)
    if station is None or station.closed_at is not None:
        raise refused(ProblemCode.NOT_ALLOWED, "no such station, or it was closed")
    return station


async def _require_leased(tx: Transaction, station: StationRecord, identity: Identity, *, batch: str) -> None:
    """Refuse a unit of another batch than its lease: it was counted against that one's quota alone."""
    own = await require_own_batch(tx, station, identity)
    if own != batch and not await is_unit_of(tx, station.name, identity):
        raise refused(ProblemCode.NOT_ALLOWED, f"{identity.name} is in batch {own}, its lease is for {batch}")


async def _require_own_generation(
    tx: Transaction, station: StationRecord, device: Device, *, replaces: str
) -> None:
    """Refuse where a station would end more than a unit that it made itself and that has no other life yet.

    A replacement takes the identity over. So what somebody else enrolled, what was revoked, and what an alarm
    stands for is an operator's to decide.
    """
    name, rows = device.identity.name, device.certificates
    if device.revoked:
        raise refused(ProblemCode.REVOKED, f"{name} was revoked")
    if device.alarm or device.code_conflict:
        raise refused(ProblemCode.FROZEN, f"an alarm of {name} stands: an operator must look")
    if replaces not in {row.serial for row in rows}:
        raise refused(ProblemCode.NOT_ALLOWED, f"{replaces} is no certificate of {name}")
    newest = max((row.serial for row in rows if row.code_id is not None), default="")
    if any(row.code_id is None and row.serial > newest and row.state not in _UNUSED for row in rows):
        raise refused(
            ProblemCode.NOT_ALLOWED, f"{name} has renewed since: an operator's code alone replaces it now"
        )
    for serial in (replaces, newest):
        if not await _is_heir(tx, station, await enrolled_by(tx, serial)):
            raise refused(ProblemCode.NOT_ALLOWED, f"station {station.name} has not enrolled {serial}")


async def _is_heir(tx: Transaction, station: StationRecord, maker: str | None) -> bool:
    """Tell whether a unit is a station's own, or that of one that was closed: its batches go on elsewhere."""
    if maker is None or maker == station.name:
        return maker is not None
    other = await load_station(tx, maker)
    return other is not None and other.closed_at is not None and other.domain == station.domain


async def _register(
    tx: Transaction, station: StationRecord, identity: Identity, proof: StationProof, at: datetime
) -> Device:
    """Register a unit that nobody knew, in the batch that the station names, or in its first one."""
    if not station.batches:
        raise refused(ProblemCode.NOT_ALLOWED, f"station {station.name} has no batch to enroll units of")
    batch = proof.word.batch or station.batches[0]
    if batch not in station.batches:
        raise refused(ProblemCode.NOT_ALLOWED, f"batch {batch} is none of station {station.name}'s")
    await insert_device(tx, DeviceRecord(identity=identity, batch=batch, registered_at=at))
    return Device(identity=identity)
