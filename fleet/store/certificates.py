"""Certificates of every purpose, by serial, name, key, lineage and end.

A device's certificates change through `devices.save_device` alone; what is here changes the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.core.query import Condition
from fleet.model import Certificate, CertificateState, Purpose, RevocationReason
from fleet.ports import Row, Transaction, Value
from fleet.store import access_classes, allowlist, authorities, columns, keys, revocations, times
from fleet.store.groups import asked_groups
from fleet.store.search import Sql
from fleet.store.search_ways import Search, choose, keys_of

_COLUMNS = (
    "serial, purpose, name, domain, device_id, batch, key_hash, state, attempt, parent, code_id, anchor,"
    " done_stamp, issued_stamp, profile, issuer, fingerprint, not_before, not_after, der, created_at,"
    " changed_at, reason, renew_after"
)
_MARKS = ", ".join("?" * 24)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCertificate:
    """What signing adds to an intent."""

    serial: str
    issuer: str
    fingerprint: str
    not_before: datetime
    not_after: datetime
    der: bytes
    """Empty where a restored database knows it by its audit trail alone."""
    profile: str = ""
    renew_after: datetime | None = None
    """When its device is to renew it, where that was planned; None: by its profile's rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRecord:
    """A row of `certificates`; an intent has no `signed`.

    `name` is what a broker calls it: `<domain>:<id>` for devices, else the bare name.
    """

    life: Certificate
    purpose: Purpose
    name: str
    issuer: str
    created_at: datetime
    changed_at: datetime
    domain: str = ""
    device_id: str = ""
    batch: str | None = None
    reason: RevocationReason | None = None
    signed: SignedCertificate | None = None

    @property
    def serial(self) -> str:
        return self.life.serial

    @property
    def state(self) -> CertificateState:
        return self.life.state

    @property
    def identity(self) -> Identity | None:
        """The device that it speaks for, if it is a device's."""
        if self.purpose is not Purpose.DEVICE:
            return None
        return Identity(domain=self.domain, device_id=self.device_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateQuery:
    """Which certificates to list, by serial; what is None or empty does not restrict."""

    domain: str = ""
    device_id: str = ""
    purpose: Purpose | None = None
    state: CertificateState | None = None
    batch: str = ""
    name: str = ""
    name_prefix: str = ""
    ends_before: datetime | None = None
    devices: Condition | None = None
    """Only those of devices that fit (`fleet.core.query`)."""
    now: datetime | None = None
    """What durations of `devices` count from."""
    after: str = ""
    """Only higher serials: the last one of the page before."""
    limit: int = 100


async def insert_certificate(tx: Transaction, record: CertificateRecord) -> int | None:
    """Add a certificate or an intent; return the allowlist's new sequence number if it changed."""
    await tx.execute(f"INSERT INTO certificates ({_COLUMNS}) VALUES ({_MARKS})", _row(record))
    if record.state in revocations.ENDED_STATES:
        await revocations.record(tx, _revocation(record, record.changed_at))
    return await allowlist.note(tx, (), after=await allowlist.of_serial(tx, record.serial))


async def sign_certificate(
    tx: Transaction, signed: SignedCertificate, *, state: CertificateState, at: datetime
) -> int | None:
    """Complete an intent that belongs to no device; returns as `insert_certificate` does."""
    await store_signed(tx, signed)
    await tx.execute(
        "UPDATE certificates SET state = ?, changed_at = ? WHERE serial = ?",
        (state.value, times.text(at), signed.serial),
    )
    return await allowlist.note(tx, (), after=await allowlist.of_serial(tx, signed.serial))


async def end_certificate(
    tx: Transaction, serial: str, *, state: CertificateState, reason: RevocationReason, at: datetime
) -> int | None:
    """Take back a certificate that belongs to no device; returns as `insert_certificate` does."""
    before = await allowlist.of_serial(tx, serial)
    await tx.execute(
        "UPDATE certificates SET state = ?, reason = ?, changed_at = ? WHERE serial = ? AND purpose <> ?",
        (state.value, reason.value, times.text(at), serial, Purpose.DEVICE.value),
    )
    if reason in {RevocationReason.KEY_COMPROMISE, RevocationReason.CA_COMPROMISE}:
        await keys.block_compromised(tx, serial, at=at)
    record = await load_certificate(tx, serial)
    if record is not None:
        await revocations.record(tx, _revocation(record, at))
    return await allowlist.note(tx, before, after=await allowlist.of_serial(tx, serial))


async def store_signed(tx: Transaction, signed: SignedCertificate) -> None:
    """Add to an intent what signing made; its state stays what it is."""
    await tx.execute(
        "UPDATE certificates SET issuer = ?, fingerprint = ?, not_before = ?, not_after = ?, der = ?,"
        " profile = ?, renew_after = ? WHERE serial = ?",
        (
            signed.issuer,
            signed.fingerprint,
            times.text(signed.not_before),
            times.text(signed.not_after),
            signed.der,
            signed.profile,
            times.optional_text(signed.renew_after),
            signed.serial,
        ),
    )
    await access_classes.classify_signed(tx, signed.serial)
    await authorities.count_leaf(tx, signed.serial, issuer=signed.issuer, not_after=signed.not_after)


async def load_certificate(tx: Transaction, serial: str) -> CertificateRecord | None:
    """Return a certificate by its serial number."""
    return _found(await tx.fetch_one(f"SELECT {_COLUMNS} FROM certificates WHERE serial = ?", (serial,)))


async def find_by_fingerprint(tx: Transaction, fingerprint: str) -> CertificateRecord | None:
    """Return a certificate by the SHA-256 of its DER, hex."""
    sql = f"SELECT {_COLUMNS} FROM certificates WHERE fingerprint = ?"
    return _found(await tx.fetch_one(sql, (fingerprint,)))


async def list_certificates(tx: Transaction, query: CertificateQuery) -> tuple[CertificateRecord, ...]:
    """Return a page of certificates in the order of their serials, which is that of their making."""
    conditions, values = _conditions(query)
    if query.devices is not None:
        keys = await _keys(tx, query.devices, query.now)
        conditions.append(f"purpose = 'device' AND (domain, device_id) IN ({keys.text})")
        values += keys.values
    where = " AND ".join(conditions)
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM certificates WHERE {where} ORDER BY serial LIMIT ?",
        (*values, query.limit),
    )
    return tuple(_record(row) for row in rows)


async def _keys(tx: Transaction, devices: Condition, now: datetime | None) -> Sql:
    search = Search(condition=await asked_groups(tx, devices), now=now)
    return keys_of(search, await choose(tx, search))


async def expiring(tx: Transaction, query: CertificateQuery) -> tuple[CertificateRecord, ...]:
    """Return admitted certificates of a purpose, or of all, that end before `query.ends_before`, by end."""
    before = "9999" if query.ends_before is None else times.text(query.ends_before)
    of, purpose = ("", ()) if query.purpose is None else (" AND purpose = ?", (query.purpose.value,))
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM certificates WHERE state IN ('issued', 'active') AND not_after < ?{of}"
        " ORDER BY not_after, serial LIMIT ?",
        (before, *purpose, query.limit),
    )
    return tuple(_record(row) for row in rows)


async def find_lineage(tx: Transaction, serial: str) -> tuple[CertificateRecord, ...]:
    """Return a certificate and all that were renewed from it, in the order of their serials."""
    rows = await tx.fetch_all(
        "WITH RECURSIVE lineage (serial) AS ("
        "SELECT serial FROM certificates WHERE serial = ?"
        " UNION SELECT c.serial FROM certificates c JOIN lineage l ON c.parent = l.serial"
        f") SELECT {_COLUMNS} FROM certificates WHERE serial IN (SELECT serial FROM lineage)"
        " ORDER BY serial",
        (serial,),
    )
    return tuple(_record(row) for row in rows)


async def with_key(tx: Transaction, key_hash: str) -> tuple[CertificateRecord, ...]:
    """Return all certificates and intents for a key: another device's key is refused."""
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM certificates WHERE key_hash = ? ORDER BY serial",
        (key_hash,),
    )
    return tuple(_record(row) for row in rows)


async def abandon_intents(tx: Transaction, at: datetime) -> int:
    """Put what was intended, and never seen signed, on the CRL; only while nothing is being signed."""
    rows = await tx.fetch_all(
        f"SELECT {_COLUMNS} FROM certificates c WHERE state = 'void' AND NOT EXISTS"
        " (SELECT 1 FROM revocations r WHERE r.issuer = c.issuer AND r.serial = c.serial)"
    )
    for row in rows:
        await revocations.record(tx, _revocation(_record(row), at))
    return len(rows)


async def count_by_state(tx: Transaction, purpose: Purpose) -> tuple[tuple[CertificateState, int], ...]:
    """Return how many certificates of a purpose are in each state."""
    rows = await tx.fetch_all(
        "SELECT state, COUNT(*) FROM certificates WHERE purpose = ? GROUP BY state ORDER BY state",
        (purpose.value,),
    )
    return tuple((CertificateState(columns.text(state)), columns.number(count)) for state, count in rows)


def life_of(row: Sequence[Value]) -> Certificate:
    """Return what the core sees of a certificate: serial, key_hash, state, attempt, parent, code_id, anchor,
    done_stamp, issued_stamp."""
    return Certificate(
        serial=columns.text(row[0]),
        key_hash=columns.text(row[1]),
        state=CertificateState(columns.text(row[2])),
        attempt=columns.number(row[3]),
        parent=columns.optional_text(row[4]),
        code_id=columns.optional_text(row[5]),
        anchor=columns.text(row[6]),
        done_stamp=columns.optional_number(row[7]),
        issued_stamp=columns.optional_number(row[8]),
    )


def _conditions(query: CertificateQuery) -> tuple[list[str], list[Value]]:
    wanted: list[tuple[str, Value]] = [("serial > ?", query.after)]
    if query.domain:
        wanted.append(("domain = ?", query.domain))
    if query.device_id:
        wanted.append(("device_id = ?", query.device_id))
    if query.purpose is not None:
        wanted.append(("purpose = ?", query.purpose.value))
    if query.state is not None:
        wanted.append(("state = ?", query.state.value))
    if query.batch:
        wanted.append(("batch = ?", query.batch))
    if query.ends_before is not None:
        wanted.append(("not_after < ?", times.text(query.ends_before)))
    if query.name:
        wanted.append(("name = ?", query.name))
    if query.name_prefix:
        # A range and no LIKE: it uses the index, and knows no wildcards.
        wanted += [("name >= ?", query.name_prefix), ("name < ?", query.name_prefix + "\x7f")]
    return [condition for condition, _ in wanted], [value for _, value in wanted]


def _revocation(record: CertificateRecord, at: datetime) -> revocations.Ending:
    return revocations.Ending(
        issuer=record.issuer,
        serial=record.serial,
        state=record.state,
        reason=record.reason,
        not_after=None if record.signed is None else record.signed.not_after,
        at=at,
    )


def _row(record: CertificateRecord) -> Row:
    life, signed = record.life, record.signed
    return (
        life.serial,
        record.purpose.value,
        record.name,
        record.domain,
        record.device_id,
        record.batch,
        life.key_hash,
        life.state.value,
        life.attempt,
        life.parent,
        life.code_id,
        life.anchor,
        life.done_stamp,
        life.issued_stamp,
        "" if signed is None else signed.profile,
        record.issuer,
        None if signed is None else signed.fingerprint,
        None if signed is None else times.text(signed.not_before),
        None if signed is None else times.text(signed.not_after),
        None if signed is None else signed.der,
        times.text(record.created_at),
        times.text(record.changed_at),
        None if record.reason is None else record.reason.value,
        None if signed is None else times.optional_text(signed.renew_after),
    )


def _found(row: Row | None) -> CertificateRecord | None:
    return None if row is None else _record(row)


def _record(row: Row) -> CertificateRecord:
    reason = columns.optional_text(row[22])
    return CertificateRecord(
        life=life_of((row[0], *row[6:14])),
        purpose=Purpose(columns.text(row[1])),
        name=columns.text(row[2]),
        domain=columns.text(row[3]),
        device_id=columns.text(row[4]),
        batch=columns.optional_text(row[5]),
        issuer=columns.text(row[15]),
        signed=_signed(row),
        created_at=times.moment(row[20]),
        changed_at=times.moment(row[21]),
        reason=None if reason is None else RevocationReason(reason),
    )


def _signed(row: Row) -> SignedCertificate | None:
    if row[16] is None:
        return None
    return SignedCertificate(
        serial=columns.text(row[0]),
        profile=columns.text(row[14]),
        issuer=columns.text(row[15]),
        fingerprint=columns.text(row[16]),
        not_before=times.moment(row[17]),
        not_after=times.moment(row[18]),
        der=columns.octets(row[19]),
        renew_after=None if row[23] is None else times.moment(row[23]),
    )
