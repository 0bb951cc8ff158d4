"""What a kept trail tells is done again on the records of a restored database, entry by entry.

It decides nothing: each entry tells what was committed then. What it cannot bring back is what the trail
never holds: keys, codes and certificates themselves.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

from device_agent.wire.identity import Identity
from device_agent.wire.problems import MalformedMessageError
from fleet.core import trace
from fleet.core.authority import AuthorityState
from fleet.errors import BadInputError, StoreError
from fleet.model import (
    Assurance,
    AuditEntry,
    Certificate,
    CertificateState,
    ClientKind,
    Purpose,
    RevocationReason,
    Role,
)
from fleet.ports import Transaction
from fleet.ra.kept_trail import KeptEntry
from fleet.store import audit, authorities, certificates, claims, operators, stations, times
from fleet.store.certificates import CertificateRecord, SignedCertificate
from fleet.store.codes import Grant, GrantKind
from fleet.store.devices import (
    DeviceRecord,
    insert_device,
    load_device,
    load_record,
    mark_retired,
    save_device,
    set_assurance,
    set_profile,
)

Effect: TypeAlias = Callable[[Transaction, AuditEntry], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What was done of some entries, and which kinds of acts are not known here, each with how often."""

    done: Mapping[str, int]
    strange: Mapping[str, int]


async def replay(tx: Transaction, kept: Sequence[KeptEntry]) -> Replayed:
    """Append entries to the trail as they are, and do again what they tell.

    Raises:
        BadInputError: an entry does not fit the records that the entries before it have left.
    """
    first = await audit.append_many(tx, [one.entry for one in kept])
    if kept and first != kept[0].number:
        raise BadInputError(
            f"entry {first} of the kept trail is missing", hint="fleet audit export prints it"
        )
    done: Counter[str] = Counter()
    strange: Counter[str] = Counter()
    for one in kept:
        action = one.entry.action
        (done if action in EFFECTS or action in TOLD_ONLY else strange)[action] += 1
        try:
            await _apply(tx, one.entry)
        except (ValueError, KeyError, MalformedMessageError, StoreError) as error:
            raise BadInputError(
                f"entry {one.number} ({action}) of the kept trail cannot be done again: {error}",
                hint="report this as a defect; restoring without --audit leaves it out",
            ) from error
    return Replayed(done=done, strange=strange)


async def _apply(tx: Transaction, entry: AuditEntry) -> None:
    effect = EFFECTS.get(entry.action)
    if effect is not None:
        await effect(tx, entry)
    became = _details(entry).get(trace.DETAIL)
    if became is not None:
        await _follow(tx, entry, became)


async def _follow(tx: Transaction, entry: AuditEntry, became: str) -> None:
    """Bring a device to where the commit left it."""
    identity = _identity(entry)
    if await load_record(tx, identity) is None:
        await insert_device(tx, DeviceRecord(identity=identity, registered_at=entry.at))
    before = await load_device(tx, identity)
    if before is None:
        raise StoreError(f"{identity.name} cannot be registered")
    traced = trace.follow(before, became)
    known = {code.code_id for code in before.codes}
    new = [code.code_id for code in traced.device.codes if code.code_id not in known]
    grants = [_grant(code_id, traced.origins) for code_id in new]
    details = _details(entry)
    await save_device(
        tx,
        before,
        after=traced.device,
        at=entry.at,
        issuer=details.get("issuer", ""),
        signed=signed_of(entry),
        reason=_reason(details),
        grants=grants,
    )
    for grant in grants:
        await _count_use(tx, grant)


def _grant(code_id: str, origins: Mapping[str, trace.GrantOrigin]) -> Grant:
    """Return a grant without its code: what the trail has no hash of admits no new key."""
    origin = origins.get(code_id)
    if origin is None:
        return Grant(code_id=code_id, kind=GrantKind.CODE)
    return Grant(code_id=code_id, kind=GrantKind(origin.kind), source=origin.source)


async def _count_use(tx: Transaction, grant: Grant) -> None:
    """Count the use of a claim certificate, which is what its grant is."""
    if grant.kind is GrantKind.CLAIM:
        claim = await certificates.load_certificate(tx, grant.source)
        if claim is not None and claim.batch is not None:
            await claims.use_batch(tx, claim.domain, claim.batch)


# --- devices --------------------------------------------------------------------------------------


async def _register(tx: Transaction, entry: AuditEntry) -> None:
    details = _details(entry)
    identity = _identity(entry)
    if await load_record(tx, identity) is not None:
        return
    batch = details.get("batch")
    if batch is not None and await claims.load_batch(tx, entry.domain, batch) is None:
        await claims.insert_batch(tx, claims.Batch(domain=entry.domain, name=batch, created_at=entry.at))
    record = DeviceRecord(
        identity=identity,
        registered_at=entry.at,
        kind=ClientKind(details.get("kind", ClientKind.AGENT)),
        batch=batch,
        hardware=details.get("hardware", ""),
        note=details.get("note", ""),
    )
    await insert_device(tx, record)


async def _retire(tx: Transaction, entry: AuditEntry) -> None:
    await mark_retired(tx, _identity(entry), entry.at)


async def _rule(tx: Transaction, entry: AuditEntry) -> None:
    details, identity = _details(entry), _identity(entry)
    if "assurance" in details:
        await set_assurance(tx, identity, Assurance[details["assurance"].upper()])
    if "profile" in details:
        await set_profile(tx, identity, details["profile"])


# --- certificates of our own ----------------------------------------------------------------------


async def _intend(tx: Transaction, entry: AuditEntry) -> None:
    if entry.device_id:
        return  # a device's certificates are in what became of it
    details = _details(entry)
    record = CertificateRecord(
        life=Certificate(
            serial=entry.serial,
            key_hash=details["key"],
            state=CertificateState.VOID,
            anchor=details.get("anchor", ""),
            parent=details.get("parent"),
        ),
        purpose=Purpose(details["purpose"]),
        name=details["name"],
        domain=entry.domain,
        batch=details.get("batch"),
        issuer=details.get("issuer", ""),
        created_at=entry.at,
        changed_at=entry.at,
    )
    await certificates.insert_certificate(tx, record)


async def _issue(tx: Transaction, entry: AuditEntry) -> None:
    signed = signed_of(entry)
    if entry.device_id or signed is None:
        return
    if await certificates.load_certificate(tx, entry.serial) is None:
        await _intend(tx, entry)
    await certificates.sign_certificate(tx, signed, state=CertificateState.ACTIVE, at=entry.at)


async def _revoke(tx: Transaction, entry: AuditEntry) -> None:
    if not entry.device_id:
        await certificates.end_certificate(
            tx, entry.serial, state=CertificateState.REVOKED, reason=_reason(_details(entry)), at=entry.at
        )


async def _move_authority(tx: Transaction, entry: AuditEntry) -> None:
    """Bring a CA to where the trail left it; one whose files came later than the backup is not there."""
    details = _details(entry)
    known = await authorities.load_authority_record(tx, details.get("issuer", ""))
    if known is not None and "state" in details:
        moved = replace(known, state=AuthorityState(details["state"]), changed_at=entry.at)
        await authorities.save_authority(tx, moved)


# --- who lets in, and who may act -----------------------------------------------------------------


async def _open_batch(tx: Transaction, entry: AuditEntry) -> None:
    details = _details(entry)
    uses = details.get("uses", "")
    batch = claims.Batch(
        domain=entry.domain,
        name=details.get("batch") or details["name"],
        created_at=entry.at,
        uses_allowed=int(uses) if uses.isdecimal() else None,
        expires_at=times.optional_moment(details.get("expires")),
    )
    if await claims.load_batch(tx, batch.domain, batch.name) is None:
        await claims.insert_batch(tx, batch)
    else:
        await claims.limit_batch(tx, batch)


async def _close_batch(tx: Transaction, entry: AuditEntry) -> None:
    batch = await claims.load_batch(tx, entry.domain, _details(entry)["batch"])
    if batch is not None:
        await claims.close_batch(tx, batch, at=entry.at)


async def _add_station(tx: Transaction, entry: AuditEntry) -> None:
    details = _details(entry)
    batches = tuple(name for name in details.get("batches", "").split(", ") if name)
    for name in batches:
        if await claims.load_batch(tx, entry.domain, name) is None:
            await claims.insert_batch(tx, claims.Batch(domain=entry.domain, name=name, created_at=entry.at))
    record = stations.StationRecord(
        name=details["name"], domain=entry.domain, batches=batches, added_at=entry.at
    )
    await stations.insert_station(tx, record)


async def _close_station(tx: Transaction, entry: AuditEntry) -> None:
    await stations.close_station(tx, _details(entry)["name"], at=entry.at)


async def _add_operator(tx: Transaction, entry: AuditEntry) -> None:
    details = _details(entry)
    record = operators.OperatorRecord(name=details["name"], role=Role(details["role"]), added_at=entry.at)
    await operators.insert_operator(tx, record)


async def _remove_operator(tx: Transaction, entry: AuditEntry) -> None:
    await operators.remove_operator(tx, _details(entry)["name"], at=entry.at)


EFFECTS: Mapping[str, Effect] = MappingProxyType(
    {
        "device.registered": _register,
        "device.retired": _retire,
        "device.ruled": _rule,
        "certificate.intended": _intend,
        "certificate.issued": _issue,
        "certificate.revoked": _revoke,
        "authority.changed": _move_authority,
        "batch.added": _open_batch,
        "batch.opened": _open_batch,
        "batch.closed": _close_batch,
        "station.added": _add_station,
        "station.closed": _close_station,
        "operator.added": _add_operator,
        "operator.removed": _remove_operator,
    }
)
"""What an act did beside the device that it was about."""

TOLD_ONLY = frozenset(
    {
        "backup.made",
        "backup.drilled",
        "certificate.confirmed",
        "certificate.dead",
        "code.closed",
        "code.created",
        "device.alarmed",
        "device.approved",
        "device.changed",
        "device.done",
        "device.replaced",
        "device.resumed",
        "device.revoked",
        "device.suspended",
        "fleet.initialised",
        "fleet.restored",
        "fleet.unfrozen",
        "key.reused",
        "request.refused",
    }
)
"""Acts whose whole effect stands in what became of their device, and those that had none."""


def signed_of(entry: AuditEntry) -> SignedCertificate | None:
    """Return what an entry tells of a signed certificate: its record, without its bytes."""
    details = _details(entry)
    if entry.action != "certificate.issued" or "not_after" not in details:
        return None
    return SignedCertificate(
        serial=entry.serial,
        issuer=details["issuer"],
        fingerprint=details["fingerprint"],
        not_before=times.moment(details["not_before"]),
        not_after=times.moment(details["not_after"]),
        profile=details.get("profile", ""),
        der=b"",
    )


def _details(entry: AuditEntry) -> dict[str, str]:
    return dict(entry.details)


def _identity(entry: AuditEntry) -> Identity:
    return Identity(domain=entry.domain, device_id=entry.device_id)


def _reason(details: Mapping[str, str]) -> RevocationReason:
    """Return the CRLReason that an entry gives; operators' own words are none."""
    given = details.get("reason_code") or details.get("reason", "")
    return RevocationReason(given) if given in set(RevocationReason) else RevocationReason.UNSPECIFIED
