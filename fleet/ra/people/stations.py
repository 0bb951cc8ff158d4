"""Factory stations: each has a certificate of its own, and enrolls units of its batches only."""

from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import parse_domain
from device_agent.wire.problems import MalformedMessageError
from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.model import AuditEntry, CertificateState, Purpose, RevocationReason
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.desk import Desk
from fleet.ra.devices import require_batch, require_domain
from fleet.ra.issue_own import OwnCertificate, OwnRequest, issue_own
from fleet.ra.people.batches import surroundings
from fleet.store import audit, certificates, stations
from fleet.store.certificates import CertificateQuery
from fleet.store.stations import StationRecord, StationUnit


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStation:
    """A station with its new certificate; the key is in here, and nowhere else."""

    station: StationRecord
    own: OwnCertificate


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opening:
    station: StationRecord
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Closing:
    name: str
    actor: str
    reason: str
    at: datetime


async def add_station(
    context: Context, name: str, *, domain: str, batches: tuple[str, ...], actor: str
) -> NewStation:
    """Add a station, and issue its certificate; batches that are new come into being.

    Raises:
        BadInputError: a name is none, or there is no batch.
        NotFoundError: the configuration has no such domain.
        RefusedError: there is, or was, a station of that name, or a batch was closed.
    """
    require_domain(context, domain)
    if not batches:
        raise BadInputError("a station needs a batch that it may enroll units of", hint="--batch NAME")
    try:
        record = StationRecord(
            name=parse_domain(name),
            domain=domain,
            batches=tuple(sorted({parse_domain(batch) for batch in batches})),
            added_at=context.clock(),
        )
    except MalformedMessageError as error:
        raise BadInputError(f"station or batch {error}", hint="such as line3") from error
    await context.store.write(_add, _Opening(station=record, actor=actor))
    request = OwnRequest(purpose=Purpose.STATION, name=name, domain=domain, actor=actor)
    own = await issue_own(surroundings(context), request, now=record.added_at)
    return NewStation(station=record, own=own)


async def list_stations(desk: Desk, domain: str = "") -> tuple[StationRecord, ...]:
    """Return the stations of a domain, or of all."""
    return await desk.store.read(stations.list_stations, domain)


async def list_units(desk: Desk, name: str) -> tuple[StationUnit, ...]:
    """Return what a station did with its units."""
    return await desk.store.read(stations.list_units, name)


async def close_station(desk: Desk, name: str, *, actor: str, reason: str = "") -> tuple[str, ...]:
    """Close a station for good, revoke its certificates, and return their serials; its units stay.

    Raises:
        NotFoundError: there is no such station.
    """
    closing = _Closing(name=name, actor=actor, reason=reason, at=desk.clock())
    ended = await desk.store.write(_close, closing)
    desk.crls.note_change()
    return ended


async def _add(tx: Transaction, opening: _Opening) -> None:
    station = opening.station
    if await stations.load_station(tx, station.name) is not None:
        raise RefusedError(
            f"there is, or was, a station {station.name}", hint="choose another name: fleet station list"
        )
    for batch in station.batches:
        await require_batch(tx, station.domain, batch, at=station.added_at)
    await stations.insert_station(tx, station)
    details = (("name", station.name), ("batches", ", ".join(station.batches)))
    await audit.append(
        tx,
        AuditEntry(
            at=station.added_at,
            action="station.added",
            actor=opening.actor,
            domain=station.domain,
            details=details,
        ),
    )


async def _close(tx: Transaction, closing: _Closing) -> tuple[str, ...]:
    station = await stations.load_station(tx, closing.name)
    if station is None:
        raise NotFoundError(f"there is no station {closing.name}", hint="fleet station list")
    await stations.close_station(tx, station.name, at=closing.at)
    details = tuple(
        (name, value) for name, value in (("name", station.name), ("reason", closing.reason)) if value
    )
    entry = AuditEntry(
        at=closing.at, action="station.closed", actor=closing.actor, domain=station.domain, details=details
    )
    await audit.append(tx, entry)
    return await end_own(tx, entry, purpose=Purpose.STATION, name=station.name)


async def end_own(tx: Transaction, told: AuditEntry, *, purpose: Purpose, name: str) -> tuple[str, ...]:
    """Revoke what a station or an operator has in force; `told` is the act that this is part of."""
    query = CertificateQuery(purpose=purpose, state=CertificateState.ACTIVE, name_prefix=name, limit=1000)
    found = [each for each in await certificates.list_certificates(tx, query) if each.name == name]
    for each in found:
        await certificates.end_certificate(
            tx,
            each.serial,
            state=CertificateState.REVOKED,
            reason=RevocationReason.PRIVILEGE_WITHDRAWN,
            at=told.at,
        )
    await audit.append_many(
        tx,
        [
            AuditEntry(
                at=told.at,
                action="certificate.revoked",
                actor=told.actor,
                domain=told.domain,
                serial=each.serial,
                details=(*told.details, ("reason_code", RevocationReason.PRIVILEGE_WITHDRAWN.value)),
            )
            for each in found
        ],
    )
    return tuple(each.serial for each in found)
