"""Devices as the core judges them: loaded with all that a judgement needs, saved as a difference.

Saving also lists what ended for revocation or is on hold, and notes what changed on the allowlist: nobody can
forget it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from device_agent.wire.identity import Identity
from fleet.core.lineage import held
from fleet.errors import StoreError
from fleet.model import (
    Alarm,
    Assurance,
    Certificate,
    CertificateState,
    ClientKind,
    Code,
    Device,
    RevocationReason,
    StaleHandshake,
)
from fleet.ports import Row, Transaction, Value
from fleet.store import allowlist, codes, columns, keys, revocations, times
from fleet.store.certificates import SignedCertificate, life_of, store_signed
from fleet.store.codes import Grant
from fleet.store.rollout_devices import stir

_LIFE = "serial, key_hash, state, attempt, parent, code_id, anchor, done_stamp, issued_stamp"
_FLAGS = (
    "kind, current_serial, revoked, suspended, alarm, code_conflict, base_serial, readmit,"
    " stale_serial, stale_stamp"
)


_LEVELS = {level.word: level for level in Assurance}
_MOST_DIGITS, _MOST_LOOKED_AT = 12, 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """What the protocol does not see of a device. `hardware` and `note` are an operator's words."""

    identity: Identity
    registered_at: datetime
    kind: ClientKind = ClientKind.AGENT
    batch: str | None = None
    hardware: str = ""
    note: str = ""
    profile: str = ""
    """What its certificates hold; empty where its batch, or else its domain, says so."""
    assurance: Assurance = Assurance.NONE
    """How well it was proved who it is, when its lineage began."""
    retired_at: datetime | None = None
    resumed_at: datetime | None = None
    last_seen_at: datetime | None = None


async def insert_device(tx: Transaction, record: DeviceRecord) -> None:
    """Register a device that is not registered yet."""
    await insert_devices(tx, (record,))


async def insert_devices(tx: Transaction, records: Sequence[DeviceRecord]) -> None:
    """Register devices that are not registered yet."""
    await tx.execute_many(
        "INSERT INTO devices (domain, device_id, kind, batch, hardware, note, profile, registered_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                *_key(record.identity),
                record.kind.value,
                record.batch,
                record.hardware,
                record.note,
                record.profile,
                times.text(record.registered_at),
            )
            for record in records
        ],
    )


async def highest_number(tx: Transaction, domain: str, prefix: str) -> int:
    """Return the highest number that follows a prefix in a domain's device ids; 0 where there is none."""
    rows = await tx.fetch_all(
        "SELECT device_id FROM devices WHERE domain = ? AND device_id >= ? AND device_id < ?"
        " AND length(device_id) <= ? ORDER BY length(device_id) DESC, device_id DESC LIMIT ?",
        (domain, f"{prefix}0", f"{prefix}:", len(prefix) + _MOST_DIGITS, _MOST_LOOKED_AT),
    )
    found = (columns.text(row[0]).removeprefix(prefix) for row in rows)
    return max((int(rest) for rest in found if rest.isascii() and rest.isdigit()), default=0)


async def load_record(tx: Transaction, identity: Identity) -> DeviceRecord | None:
    """Return what the protocol does not see of a device."""
    row = await tx.fetch_one(
        "SELECT registered_at, kind, batch, hardware, note, retired_at, resumed_at, last_seen_at, profile,"
        " assurance FROM devices WHERE domain = ? AND device_id = ?",
        _key(identity),
    )
    if row is None:
        return None
    return DeviceRecord(
        identity=identity,
        registered_at=times.moment(row[0]),
        kind=ClientKind(columns.text(row[1])),
        batch=columns.optional_text(row[2]),
        hardware=columns.text(row[3]),
        note=columns.text(row[4]),
        retired_at=times.optional_moment(row[5]),
        resumed_at=times.optional_moment(row[6]),
        last_seen_at=times.optional_moment(row[7]),
        profile=columns.text(row[8]),
        assurance=_LEVELS[columns.text(row[9])],
    )


async def load_device(tx: Transaction, identity: Identity) -> Device | None:
    """Return a device with all its certificates, in the order of their serials, and its open codes."""
    row = await tx.fetch_one(
        f"SELECT {_FLAGS} FROM devices WHERE domain = ? AND device_id = ?",
        _key(identity),
    )
    if row is None:
        return None
    certificates = await tx.fetch_all(
        f"SELECT {_LIFE} FROM certificates"
        " WHERE purpose = 'device' AND domain = ? AND device_id = ? ORDER BY serial",
        _key(identity),
    )
    open_codes = await tx.fetch_all(
        "SELECT code_id, key_hash FROM codes"
        " WHERE domain = ? AND device_id = ? AND closed_at IS NULL ORDER BY created_at, code_id",
        _key(identity),
    )
    return _device(identity, row, certificates, open_codes)


async def save_device(
    tx: Transaction,
    before: Device,
    *,
    after: Device,
    at: datetime,
    issuer: str = "",
    signed: SignedCertificate | None = None,
    reason: RevocationReason = RevocationReason.UNSPECIFIED,
    grants: Sequence[Grant] = (),
) -> int | None:
    """Write what became of a device; return the allowlist's new sequence number if that changed.

    `before` is what `load_device` returned in this same unit. `issuer` belongs to new intents, `signed` to
    one certificate of `after`, `reason` to what is revoked, `grants` to codes that are new in `after`.

    Raises:
        StoreError: a new code has no grant, or a certificate went away.
    """
    admitted = await allowlist.of_device(tx, before.identity)
    if _flags(before) != _flags(after):
        await _save_flags(tx, before, after, at)
    if signed is not None:
        await store_signed(tx, signed)
    await _save_certificates(tx, before, after=after, at=at, issuer=issuer, reason=reason)
    await _save_holds(tx, before, after=after, at=at)
    await _save_codes(tx, before, after=after, at=at, grants=grants)
    await stir(tx, before.identity)
    return await allowlist.note(tx, admitted, after=await allowlist.of_device(tx, before.identity))


async def hold_what_is_off(tx: Transaction, at: datetime) -> int:
    """Put on hold what should be and is not, as of devices that were suspended before holds were kept.

    Return how many certificates these are.
    """
    rows = await tx.fetch_all(
        "SELECT domain, device_id FROM devices WHERE suspended = 1 OR alarm > 0 OR code_conflict = 1"
    )
    count = 0
    for domain, device_id in rows:
        identity = Identity(domain=columns.text(domain), device_id=columns.text(device_id))
        device = await load_device(tx, identity)
        for serial in () if device is None else sorted(held(device)):
            count += await revocations.hold(tx, serial, at=at)
    return count


async def mark_retired(tx: Transaction, identity: Identity, at: datetime) -> None:
    """Note that a device was taken out of service; its certificates end through the core."""
    await tx.execute(
        "UPDATE devices SET retired_at = ? WHERE domain = ? AND device_id = ? AND retired_at IS NULL",
        (times.text(at), *_key(identity)),
    )


async def set_profile(tx: Transaction, identity: Identity, profile: str) -> None:
    """Choose what a device's next certificates hold; empty leaves it to its batch and domain."""
    await tx.execute(
        "UPDATE devices SET profile = ? WHERE domain = ? AND device_id = ?", (profile, *_key(identity))
    )


async def set_assurance(tx: Transaction, identity: Identity, assurance: Assurance) -> None:
    """Note how well it was proved who a device is."""
    await tx.execute(
        "UPDATE devices SET assurance = ? WHERE domain = ? AND device_id = ?",
        (assurance.word, *_key(identity)),
    )


async def mark_seen(tx: Transaction, identity: Identity, at: datetime) -> None:
    """Note when a device was last there."""
    await tx.execute(
        "UPDATE devices SET last_seen_at = ? WHERE domain = ? AND device_id = ?",
        (times.text(at), *_key(identity)),
    )


async def _save_flags(tx: Transaction, before: Device, after: Device, at: datetime) -> None:
    assignments = ", ".join(f"{column} = ?" for column in _FLAGS.split(", "))
    await tx.execute(
        f"UPDATE devices SET {assignments} WHERE domain = ? AND device_id = ?",
        (*_flags(after), *_key(before.identity)),
    )
    if _is_held_up(before) and not _is_held_up(after):
        await tx.execute(
            "UPDATE devices SET resumed_at = ? WHERE domain = ? AND device_id = ?",
            (times.text(at), *_key(before.identity)),
        )


async def _save_holds(tx: Transaction, before: Device, *, after: Device, at: datetime) -> None:
    for serial in sorted(held(after) - held(before)):
        await revocations.hold(tx, serial, at=at)
    for serial in sorted(held(before) - held(after)):
        await revocations.release(tx, serial, at=at)


async def _save_certificates(
    tx: Transaction, before: Device, *, after: Device, at: datetime, issuer: str, reason: RevocationReason
) -> None:
    known = {certificate.serial: certificate for certificate in before.certificates}
    if not known.keys() <= {certificate.serial for certificate in after.certificates}:
        raise StoreError(f"a certificate of {before.identity.name} went away", hint="report this as a defect")
    for certificate in after.certificates:
        earlier = known.get(certificate.serial)
        if earlier is None:
            await _insert_intent(tx, before.identity, certificate, at=at, issuer=issuer)
        elif earlier != certificate:
            await _update_certificate(tx, certificate, at=at, moved=earlier.state is not certificate.state)
            if earlier.state is not certificate.state:
                await _end(tx, certificate, at=at, reason=reason)


async def _insert_intent(
    tx: Transaction, identity: Identity, certificate: Certificate, *, at: datetime, issuer: str
) -> None:
    now = times.text(at)
    await tx.execute(
        f"INSERT INTO certificates ({_LIFE},"
        " purpose, name, domain, device_id, issuer, created_at, changed_at)"
        f" VALUES ({', '.join('?' * 16)})",
        (*_life(certificate), "device", identity.name, *_key(identity), issuer, now, now),
    )


async def _update_certificate(
    tx: Transaction, certificate: Certificate, *, at: datetime, moved: bool
) -> None:
    assignments = ", ".join(f"{column} = ?" for column in _LIFE.split(", "))
    await tx.execute(
        f"UPDATE certificates SET {assignments} WHERE serial = ?",
        (*_life(certificate), certificate.serial),
    )
    if moved:
        await tx.execute(
            "UPDATE certificates SET changed_at = ? WHERE serial = ?",
            (times.text(at), certificate.serial),
        )


async def _end(tx: Transaction, certificate: Certificate, *, at: datetime, reason: RevocationReason) -> None:
    """Put a certificate that just ended on the revocation list."""
    if certificate.state not in revocations.ENDED_STATES:
        return
    revoked = certificate.state is CertificateState.REVOKED
    if revoked:
        await tx.execute(
            "UPDATE certificates SET reason = ? WHERE serial = ?", (reason.value, certificate.serial)
        )
    row = await tx.fetch_one(
        "SELECT issuer, not_after FROM certificates WHERE serial = ? AND issuer <> ''", (certificate.serial,)
    )
    if row is not None:
        ending = revocations.Ending(
            issuer=columns.text(row[0]),
            serial=certificate.serial,
            state=certificate.state,
            reason=reason if revoked else None,
            not_after=times.optional_moment(row[1]),
            at=at,
        )
        await revocations.record(tx, ending)
    if revoked and reason is RevocationReason.KEY_COMPROMISE:
        await keys.block_compromised(tx, certificate.serial, at=at)


async def _save_codes(
    tx: Transaction, before: Device, *, after: Device, at: datetime, grants: Sequence[Grant]
) -> None:
    known = {code.code_id: code for code in before.codes}
    kept = {code.code_id: code for code in after.codes}
    granted = {grant.code_id: grant for grant in grants}
    for code in after.codes:
        if code.code_id not in known:
            if code.code_id not in granted:
                raise StoreError(
                    f"a code of {after.identity.name} has no grant", hint="report this as a defect"
                )
            grant = granted[code.code_id]
            await codes.insert_code(tx, grant, identity=after.identity, key_hash=code.key_hash, at=at)
        elif known[code.code_id] != code:
            await codes.bind_code(tx, code.code_id, key_hash=code.key_hash)
    for code_id in known.keys() - kept.keys():
        await codes.close_code(tx, code_id, at=at)


def _device(identity: Identity, row: Row, certificates: Sequence[Row], open_codes: Sequence[Row]) -> Device:
    stale = columns.optional_text(row[8])
    return Device(
        identity=identity,
        kind=ClientKind(columns.text(row[0])),
        current=columns.optional_text(row[1]),
        revoked=columns.flag(row[2]),
        suspended=columns.flag(row[3]),
        alarm=Alarm(columns.number(row[4])),
        code_conflict=columns.flag(row[5]),
        base=columns.optional_text(row[6]),
        readmit=columns.flag(row[7]),
        stale=None if stale is None else StaleHandshake(serial=stale, stamp=columns.number(row[9])),
        certificates=tuple(life_of(certificate) for certificate in certificates),
        codes=tuple(
            Code(code_id=columns.text(code_id), key_hash=columns.optional_text(key_hash))
            for code_id, key_hash in open_codes
        ),
    )


def _flags(device: Device) -> tuple[Value, ...]:
    """Return the values of the columns `_FLAGS`."""
    return (
        device.kind.value,
        device.current,
        int(device.revoked),
        int(device.suspended),
        int(device.alarm),
        int(device.code_conflict),
        device.base,
        int(device.readmit),
        None if device.stale is None else device.stale.serial,
        None if device.stale is None else device.stale.stamp,
    )


def _life(certificate: Certificate) -> tuple[Value, ...]:
    """Return the values of the columns `_LIFE`."""
    return (
        certificate.serial,
        certificate.key_hash,
        certificate.state.value,
        certificate.attempt,
        certificate.parent,
        certificate.code_id,
        certificate.anchor,
        certificate.done_stamp,
        certificate.issued_stamp,
    )


def _is_held_up(device: Device) -> bool:
    return device.suspended or device.alarm is Alarm.CLONE


def _key(identity: Identity) -> tuple[str, str]:
    return (identity.domain, identity.device_id)
