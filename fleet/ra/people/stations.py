"""Factory stations: each has a certificate of its own, and rules that say which units it may enroll.

The key is made at the station, and never comes here.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from device_agent.wire.identity import parse_domain
from device_agent.wire.problems import MalformedMessageError, ProblemCode
from fleet.core.csr import Csr, read_csr
from fleet.core.station_change import RuleChange
from fleet.core.station_rules import RuleTexts, texts_of
from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.model import AuditEntry, CertificateState, Purpose, RevocationReason
from fleet.ports import Transaction
from fleet.ra.context import Context
from fleet.ra.desk import Desk
from fleet.ra.devices import require_batch, require_domain
from fleet.ra.issue_own import CertifiedOwn, OwnRequest, certify_own
from fleet.ra.people.batches import surroundings
from fleet.store import audit, certificates, leases, stations
from fleet.store.certificates import CertificateQuery, with_key
from fleet.store.keys import blocked_because
from fleet.store.station_journal import begin_journal as begin_another
from fleet.store.stations import StationRecord, StationUnit


@dataclass(frozen=True, slots=True, kw_only=True)
class StationOrder:
    """A station that is to be added; `csr` is the PEM request of the key that it made."""

    name: str
    domain: str
    rules: RuleTexts
    csr: str
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStation:
    """A station with its new certificate."""

    station: StationRecord
    own: CertifiedOwn


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opening:
    station: StationRecord
    actor: str
    csr: Csr


@dataclass(frozen=True, slots=True, kw_only=True)
class _Changing:
    name: str
    change: RuleChange
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Closing:
    """What ends: a station, or one of its journals."""

    name: str
    actor: str
    reason: str
    at: datetime


async def add_station(context: Context, order: StationOrder) -> NewStation:
    """Add a station, and certify its key; batches that are new come into being.

    Raises:
        BadInputError: a name or a rule is none, or there is no batch.
        NotFoundError: the configuration has no such domain.
        RefusedError: there is, or was, a station of that name, its key is unfit or in use, or a batch closed.
    """
    require_domain(context, order.domain)
    csr = read_csr(order.csr)
    record = StationRecord(
        name=_name(order.name),
        domain=order.domain,
        rules=order.rules.read(),
        added_at=context.clock(),
    )
    await context.store.write(_add, _Opening(station=record, actor=order.actor, csr=csr))
    request = OwnRequest(purpose=Purpose.STATION, name=record.name, domain=record.domain, actor=order.actor)
    own = await certify_own(surroundings(context), request, csr.public_key, now=record.added_at)
    return NewStation(station=record, own=own)


async def change_rules(desk: Desk, name: str, change: RuleChange, *, actor: str) -> StationRecord:
    """Change what is named of a station's rules; what it used of its quotas stays counted.

    Raises:
        BadInputError: a rule is none, or nothing is named.
        NotFoundError: there is no such station. RefusedError: it was closed.
    """
    if change == RuleChange():
        raise BadInputError("nothing is named that is to change", hint=f"fleet station change {name} --help")
    changing = _Changing(name=name, change=change, actor=actor, at=desk.clock())
    return await desk.store.write(_change, changing)


async def begin_journal(desk: Desk, name: str, *, actor: str, reason: str) -> StationRecord:
    """Take another journal from a station from now on: its disk was lost. What it handed in is kept.

    Raises:
        NotFoundError: there is no such station. RefusedError: it was closed.
    """
    closing = _Closing(name=name, actor=actor, reason=reason, at=desk.clock())
    return await desk.store.write(_begin_journal, closing)


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


def _name(text: str) -> str:
    try:
        return parse_domain(text)
    except MalformedMessageError as error:
        raise BadInputError(f"station {error}", hint="such as line3") from error


async def _add(tx: Transaction, opening: _Opening) -> None:
    station, key_hash = opening.station, opening.csr.key_hash
    if await stations.load_station(tx, station.name) is not None:
        raise RefusedError(
            f"there is, or was, a station {station.name}", hint="choose another name: fleet station list"
        )
    if await blocked_because(tx, key_hash) is not None or await with_key(tx, key_hash):
        raise RefusedError(
            "the key of the request is somebody's, or blocked",
            hint="make a new key",
            code=ProblemCode.KEY_IN_USE,
        )
    for batch in station.batches:
        await require_batch(tx, station.domain, batch, at=station.added_at)
    await stations.insert_station(tx, station)
    await audit.append(tx, _told(station, "station.added", actor=opening.actor, at=station.added_at))


async def _change(tx: Transaction, changing: _Changing) -> StationRecord:
    known = await require_open(tx, changing.name)
    changed = replace(known, rules=changing.change.applied_to(known.rules))
    for batch in set(changed.batches) - set(known.batches):
        await require_batch(tx, changed.domain, batch, at=changing.at)
    await stations.save_rules(tx, changed)
    await audit.append(tx, _told(changed, "station.changed", actor=changing.actor, at=changing.at))
    return changed


async def require_open(tx: Transaction, name: str) -> StationRecord:
    """Return a station that works.

    Raises:
        NotFoundError: there is none of that name. RefusedError: it was closed.
    """
    station = await stations.load_station(tx, name)
    if station is None:
        raise NotFoundError(f"there is no station {name}", hint="fleet station list")
    if station.closed_at is not None:
        raise RefusedError(f"station {name} was closed", hint="fleet station list")
    return station


def _told(station: StationRecord, action: str, *, actor: str, at: datetime) -> AuditEntry:
    """Return the entry of a station's rules: all of them, so that the trail can bring them back."""
    texts = texts_of(station.rules)
    rate = "" if texts.rate_per_minute is None else str(texts.rate_per_minute)
    details = (
        ("name", station.name),
        ("batches", ", ".join(texts.batches)),
        ("quotas", ", ".join(texts.quotas)),
        ("serials", ", ".join(texts.serials)),
        ("shifts", "; ".join(texts.shifts)),
        ("rate", rate),
    )
    told = tuple((name, value) for name, value in details if value)
    return AuditEntry(at=at, action=action, actor=actor, domain=station.domain, details=told)


async def _begin_journal(tx: Transaction, closing: _Closing) -> StationRecord:
    station = await require_open(tx, closing.name)
    await begin_another(tx, station.name)
    details = (("name", station.name), ("reason", closing.reason))
    entry = AuditEntry(
        at=closing.at,
        action="station.journal-begun",
        actor=closing.actor,
        domain=station.domain,
        details=details,
    )
    await audit.append(tx, entry)
    return replace(station, journal=station.journal + 1)


async def _close(tx: Transaction, closing: _Closing) -> tuple[str, ...]:
    station = await stations.load_station(tx, closing.name)
    if station is None:
        raise NotFoundError(f"there is no station {closing.name}", hint="fleet station list")
    await stations.close_station(tx, station.name, at=closing.at)
    await leases.close_leases_of(tx, station.name, at=closing.at)
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
    query = CertificateQuery(purpose=purpose, state=CertificateState.ACTIVE, name=name, limit=1000)
    found = await certificates.list_certificates(tx, query)
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
