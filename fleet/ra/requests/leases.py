"""Grants stations what they may sign off line: a number of certificates of a batch, for a few days.

The units of a lease are counted against the quota when it is granted, so that what a station does without
its server is never more than it may do with it.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from device_agent.wire.identity import Identity
from device_agent.wire.problems import ProblemCode
from device_agent.wire.replies import HttpsAddress
from fleet.ca.issuer import Issuer, issuer_id_of
from fleet.ca.signers import KeySigner, checked_signature, make_key
from fleet.ca.station_ca import certify_station_ca, make_station_root, station_root
from fleet.core.csr import Csr, read_csr
from fleet.core.goodkey import certified_key
from fleet.core.lease import MOST_DAYS, Lease, SignedLease, signed_text
from fleet.core.profile import OFFLINE_PROFILE
from fleet.core.serial import SERIAL_RANDOMNESS, new_serial
from fleet.errors import BadInputError, NotFoundError, RefusedError
from fleet.files import make_folder, write_file
from fleet.model import AuditEntry, CertificateState, Purpose
from fleet.ports import Transaction
from fleet.ra.adopted.adopted_files import write_adopted
from fleet.ra.context import Context
from fleet.ra.people.stations import require_open
from fleet.store import audit, leases, stations
from fleet.store.certificates import CertificateQuery, list_certificates, with_key
from fleet.store.devices import load_record
from fleet.store.keys import blocked_because
from fleet.store.leases import LeaseRecord, StationRootRecord
from fleet.store.stations import StationRecord

_KEY_FILE_RANDOMNESS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseOrder:
    """A lease that is wanted; `csr` is the PEM request of the key that the station made for its CA."""

    station: str
    batch: str
    count: int
    days: int
    csr: str
    actor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseView:
    """A lease, and how much of it was used as far as journals came."""

    lease: LeaseRecord
    used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    order: LeaseOrder
    lease: str
    csr: Csr
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reserved:
    station: StationRecord
    first: int
    signer: str
    """Of the CA that certified the station: its hex subject key identifier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ending:
    lease: str
    actor: str
    at: datetime


async def grant_lease(context: Context, order: LeaseOrder) -> tuple[LeaseRecord, SignedLease]:
    """Grant a lease, and certify the station's CA for it.

    Raises:
        BadInputError: the days, the count or the batch are none.
        NotFoundError: there is no such station.
        RefusedError: it was closed, the quota has no room, or the key of its CA is not fit.
    """
    if not 1 <= order.days <= MOST_DAYS or order.count < 1:
        raise BadInputError(f"a lease is for 1 to {MOST_DAYS} days and 1 unit or more", hint="--days 7")
    now = context.clock().replace(microsecond=0)
    asked = _Asked(order=order, lease=_serial(context, now), csr=read_csr(order.csr), at=now)
    async with context.turns.of(f"lease {order.station}"):
        reserved = await context.store.write(_reserve, asked)
        root = await _root(context, reserved.station.domain, now=now)
        record = _certified(asked, reserved, root)
        signed = _signed(context, record, root, signer=reserved.signer)
        await context.store.write(_record, (record, order.actor))
    return record, signed


def _certified(asked: _Asked, reserved: _Reserved, root: Issuer) -> LeaseRecord:
    """Certify the station's CA, and return the lease that it is for."""
    order, domain = asked.order, reserved.station.domain
    until = asked.at + timedelta(days=order.days)
    authority = certify_station_ca(
        root,
        asked.csr.public_key,
        place=f"{order.station}.{domain}.{root.fleet}",
        serial=asked.lease,
        now=asked.at,
        until=until + OFFLINE_PROFILE.lifetime,
    )
    return LeaseRecord(
        lease=asked.lease,
        station=order.station,
        domain=domain,
        batch=order.batch,
        first=reserved.first,
        count=order.count,
        issued_at=asked.at,
        not_after=until,
        issuer=issuer_id_of(authority),
        root=root.issuer_id,
        anchor=root.anchor,
        certificate=authority.public_bytes(Encoding.DER),
    )


async def list_leases(context: Context, station: str = "") -> tuple[LeaseView, ...]:
    """Return the leases of a station, or of all."""
    return await context.store.read(_views, station)


async def close_lease(context: Context, lease: str, *, actor: str) -> LeaseView:
    """Close a lease for good: nothing that comes under it later is admitted, and the rest is given back.

    Raises:
        NotFoundError: there is no such lease.
    """
    ending = _Ending(lease=lease, actor=actor, at=context.clock())
    return await context.store.write(_close, ending)


def _serial(context: Context, now: datetime) -> str:
    return new_serial(now=now, randomness=context.randomness(SERIAL_RANDOMNESS))


async def _reserve(tx: Transaction, asked: _Asked) -> _Reserved:
    """Count the units of a lease against the quota, and say so, before anything is signed."""
    order = asked.order
    station = await require_open(tx, order.station)
    await _require_room(tx, station, order)
    await _require_new_key(tx, asked.csr)
    if await load_record(tx, Identity(domain=station.domain, device_id=station.name)) is not None:
        # Its own name would be inside of what the station's CA may name (RFC 5280 4.2.1.10).
        raise RefusedError(
            f"a device of {station.domain} is called {station.name}, as the station is",
            hint="add a station by another name: fleet station add",
        )
    signer = await _certifier(tx, station)
    await stations.count_units(tx, station.name, order.batch, units=order.count)
    await _tell(tx, station, asked)
    return _Reserved(station=station, first=await leases.next_first(tx, station.name), signer=signer)


async def _require_room(tx: Transaction, station: StationRecord, order: LeaseOrder) -> None:
    rule = station.rules.rule(order.batch)
    if rule is None:
        raise BadInputError(
            f"batch {order.batch} is none of station {station.name}'s",
            hint=f"fleet station show {station.name}",
        )
    used = (await stations.used_of(tx, station.name)).get(order.batch, 0)
    if rule.quota is not None and used + order.count > rule.quota:
        raise RefusedError(
            f"the quota of batch {order.batch} has room for {max(rule.quota - used, 0)} units",
            hint="ask for fewer, or raise it:"
            f" fleet station change {station.name} --quota {order.batch}={used + order.count}",
        )


async def _require_new_key(tx: Transaction, csr: Csr) -> None:
    """Refuse a key that somebody has: two CAs of one key cannot be told apart (RFC 5280 4.2.1.2)."""
    issuer = x509.SubjectKeyIdentifier.from_public_key(csr.public_key).digest.hex()
    is_known = await leases.has_issuer(tx, issuer) or await with_key(tx, csr.key_hash)
    if is_known or await blocked_because(tx, csr.key_hash) is not None:
        raise RefusedError(
            "the key of the request is somebody's, or blocked",
            hint="make a new one at the station: fleet station lease request",
            code=ProblemCode.KEY_IN_USE,
        )


async def _certifier(tx: Transaction, station: StationRecord) -> str:
    """Return the CA that certified a station, which holds its certificate: it signs the lease."""
    query = CertificateQuery(
        purpose=Purpose.STATION, state=CertificateState.ACTIVE, name=station.name, limit=1000
    )
    own = await list_certificates(tx, query)
    if not own:
        raise RefusedError(f"station {station.name} has no certificate in force", hint="fleet cert list")
    return own[-1].issuer


async def _tell(tx: Transaction, station: StationRecord, asked: _Asked) -> None:
    details = (
        ("name", station.name),
        ("lease", asked.lease),
        ("batch", asked.order.batch),
        ("count", str(asked.order.count)),
    )
    entry = AuditEntry(
        at=asked.at,
        action="station.lease-intended",
        actor=asked.order.actor,
        domain=station.domain,
        details=details,
    )
    await audit.append(tx, entry)


async def _root(context: Context, domain: str, *, now: datetime) -> Issuer:
    """Return the root of a domain's stations; one whose key was lost is followed by another."""
    for record in await context.store.read(leases.list_roots, domain):
        certificate = x509.load_der_x509_certificate(record.certificate)
        path = context.home.station_root_key(record.issuer)
        if path.exists() and certificate.not_valid_after_utc > now + timedelta(days=2 * 365):
            signer = context.in_force.keys.file(path, certified_key(certificate.public_key()))
            return station_root(certificate, signer, fleet=context.fleet)
    return await _new_root(context, domain, now=now)


async def _new_root(context: Context, domain: str, *, now: datetime) -> Issuer:
    key = make_key()
    signer = KeySigner(key)
    certificate = make_station_root(
        signer, fleet=context.fleet, domain=domain, serial=_serial(context, now), now=now
    )
    issuer = issuer_id_of(certificate)
    path = context.home.station_root_key(issuer)
    sealed = context.in_force.keys.seal(key, randomness=context.randomness(_KEY_FILE_RANDOMNESS))
    make_folder(path.parent)
    await asyncio.to_thread(write_file, path, sealed)
    record = StationRootRecord(
        issuer=issuer, domain=domain, certificate=certificate.public_bytes(Encoding.DER), made_at=now
    )
    await context.store.write(_record_root, record)
    # Brokers must know it before the first unit of its stations comes.
    await write_adopted(context.store, context.home)
    await context.tls_users.reload()
    return station_root(certificate, signer, fleet=context.fleet)


async def _record_root(tx: Transaction, root: StationRootRecord) -> None:
    await leases.insert_root(tx, root)
    details = (("issuer", root.issuer),)
    entry = AuditEntry(
        at=root.made_at, action="station.root-made", actor="server", domain=root.domain, details=details
    )
    await audit.append(tx, entry)


def _signed(context: Context, record: LeaseRecord, root: Issuer, *, signer: str) -> SignedLease:
    anchors = [one.certificate for one in context.authority.anchors if one.realm == record.domain] + [
        root.certificate
    ]
    lease = Lease(
        lease=record.lease,
        fleet=context.fleet,
        domain=record.domain,
        station=record.station,
        batch=record.batch,
        first=record.first,
        count=record.count,
        issued_at=record.issued_at,
        not_after=record.not_after,
        authority=record.certificate,
        anchors=tuple(one.public_bytes(Encoding.DER) for one in anchors),
        broker_host=context.endpoints.host,
        broker_port=context.endpoints.mqtt_port,
        recovery=HttpsAddress(host=context.endpoints.host, port=context.endpoints.https_port),
    )
    octets = lease.encode()
    issuer = context.authority.issuer_by_id(signer)
    # The station holds this CA's certificate below its own, so that it can verify without anybody else.
    signature = checked_signature(signed_text(octets), issuer.signer, public_key=issuer.public_key)
    return SignedLease(octets=octets, signature=signature)


async def _record(tx: Transaction, granted: tuple[LeaseRecord, str]) -> None:
    record, actor = granted
    await leases.insert_lease(tx, record)
    details = (
        ("name", record.station),
        ("lease", record.lease),
        ("batch", record.batch),
        ("first", str(record.first)),
        ("count", str(record.count)),
        ("issuer", record.issuer),
    )
    entry = AuditEntry(
        at=record.issued_at, action="station.leased", actor=actor, domain=record.domain, details=details
    )
    await audit.append(tx, entry)


async def _views(tx: Transaction, station: str) -> tuple[LeaseView, ...]:
    return tuple(
        [
            LeaseView(lease=one, used=await leases.count_used(tx, one.lease))
            for one in await leases.list_leases(tx, station)
        ]
    )


async def _close(tx: Transaction, ending: _Ending) -> LeaseView:
    record = await leases.load_lease(tx, ending.lease)
    if record is None:
        raise NotFoundError(f"there is no lease {ending.lease}", hint="fleet station lease list")
    used = await leases.count_used(tx, record.lease)
    if record.closed_at is None:
        await leases.close_lease(tx, record.lease, at=ending.at)
        await stations.count_units(tx, record.station, record.batch, units=used - record.count)
        details = (("name", record.station), ("lease", record.lease), ("used", str(used)))
        entry = AuditEntry(
            at=ending.at,
            action="station.lease-closed",
            actor=ending.actor,
            domain=record.domain,
            details=details,
        )
        await audit.append(tx, entry)
    return LeaseView(lease=replace(record, closed_at=record.closed_at or ending.at), used=used)
