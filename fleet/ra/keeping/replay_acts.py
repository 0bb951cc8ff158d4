"""What each kind of act did beside the device that it was about, to be done again from its audit entry.

An act that neither table names is reported, never guessed at.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

from device_agent.wire.identity import Identity
from fleet.core.authority import AuthorityState
from fleet.model import (
    Assurance,
    AuditEntry,
    Certificate,
    CertificateState,
    ClientKind,
    Purpose,
    RevocationReason,
)
from fleet.ports import Transaction
from fleet.ra.gap import WITHOUT_TRAIL, end_gap, open_gap
from fleet.ra.keeping import replay_access, replay_inventory, replay_people, replay_stations
from fleet.ra.keeping.replay_rollouts import follow_rollout
from fleet.store import (
    attributes,
    authorities,
    certificates,
    claims,
    keys,
    proofs,
    restoring,
    templates,
    times,
)
from fleet.store.certificates import CertificateRecord, SignedCertificate
from fleet.store.codes import GrantKind
from fleet.store.devices import (
    DeviceRecord,
    insert_device,
    load_record,
    mark_retired,
    set_assurance,
    set_profile,
)

Effect: TypeAlias = Callable[[Transaction, AuditEntry], Awaitable[None]]


# --- devices --------------------------------------------------------------------------------------


async def _register(tx: Transaction, entry: AuditEntry) -> None:
    details = details_of(entry)
    identity = identity_of(entry)
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
    await mark_retired(tx, identity_of(entry), entry.at)


async def _assign_profile(tx: Transaction, entry: AuditEntry) -> None:
    """Give a device or a batch its profile; one that is not named was taken back."""
    details = details_of(entry)
    if "batch" in details:
        profile = details.get("profile", "")
        await claims.set_batch_profile(tx, entry.domain, details["batch"], profile=profile)
    else:
        await set_profile(tx, identity_of(entry), details.get("profile", ""))


async def _register_thing(tx: Transaction, entry: AuditEntry) -> None:
    prefix = "parameter "
    parameters = {
        name.removeprefix(prefix): value for name, value in entry.details if name.startswith(prefix)
    }
    await attributes.put_attributes(tx, identity_of(entry), parameters, source="template")


async def _prove(tx: Transaction, entry: AuditEntry) -> None:
    details = details_of(entry)
    proof = proofs.ProofRecord(
        identity=identity_of(entry),
        key_hash=details["key_hash"],
        kind=GrantKind(details["proof"]),
        assurance=Assurance[details["assurance"].upper()],
        evidence=details.get("evidence", ""),
        proved_at=entry.at,
    )
    await proofs.keep_proof(tx, proof)


async def _enrich(tx: Transaction, entry: AuditEntry) -> None:
    told = details_of(entry)
    if profile := told.pop("profile", ""):
        await set_profile(tx, identity_of(entry), profile)
    await attributes.put_attributes(tx, identity_of(entry), told, source="webhook")


async def _rule(tx: Transaction, entry: AuditEntry) -> None:
    details, identity = details_of(entry), identity_of(entry)
    if "assurance" in details:
        await set_assurance(tx, identity, Assurance[details["assurance"].upper()])
    if "profile" in details:
        await set_profile(tx, identity, details["profile"])


# --- certificates of our own ----------------------------------------------------------------------


async def _intend(tx: Transaction, entry: AuditEntry) -> None:
    if entry.device_id:
        return  # a device's certificates are in what became of it
    details = details_of(entry)
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
    """Take a certificate back; that of a CA which came after the backup is known from here on alone."""
    if not entry.device_id:
        if await certificates.load_certificate(tx, entry.serial) is None:
            await _intend(tx, entry)
        await certificates.end_certificate(
            tx, entry.serial, state=CertificateState.REVOKED, reason=reason_of(details_of(entry)), at=entry.at
        )


async def _supersede(tx: Transaction, entry: AuditEntry) -> None:
    reason = RevocationReason.SUPERSEDED
    await certificates.end_certificate(
        tx, entry.serial, state=CertificateState.SUPERSEDED, reason=reason, at=entry.at
    )


async def _block_key(tx: Transaction, entry: AuditEntry) -> None:
    details = details_of(entry)
    reason = details.get("reason", "")
    await keys.block_key(tx, details["key_hash"], reason=reason, at=entry.at, by=entry.actor)


async def _add_template(tx: Transaction, entry: AuditEntry) -> None:
    details = details_of(entry)
    record = templates.TemplateRecord(
        name=details["name"], text=details["text"], added_at=entry.at, added_by=entry.actor
    )
    await templates.put_template(tx, record)


async def _remove_template(tx: Transaction, entry: AuditEntry) -> None:
    await templates.delete_template(tx, details_of(entry)["name"])


async def _move_authority(tx: Transaction, entry: AuditEntry) -> None:
    """Bring a CA to where the trail left it; one whose files came later than the backup is not there."""
    details = details_of(entry)
    known = await authorities.load_authority_record(tx, details.get("issuer", ""))
    if known is not None and "state" in details:
        moved = replace(known, state=AuthorityState(details["state"]), changed_at=entry.at)
        await authorities.save_authority(tx, moved)


# --- who lets in, and who may act -----------------------------------------------------------------


async def _open_batch(tx: Transaction, entry: AuditEntry) -> None:
    details = details_of(entry)
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
    batch = await claims.load_batch(tx, entry.domain, details_of(entry)["batch"])
    if batch is not None:
        await claims.close_batch(tx, batch, at=entry.at)


# --- the fleet itself -----------------------------------------------------------------------------


async def _restore(tx: Transaction, entry: AuditEntry) -> None:
    """Freeze again what an earlier restore without its trail froze."""
    details = details_of(entry)
    if details.get("trail") == WITHOUT_TRAIL:
        await open_gap(tx, details["made_at"])
        await restoring.close_unused_codes(tx, entry.at)


async def _unfreeze(tx: Transaction, _entry: AuditEntry) -> None:
    await end_gap(tx)


EFFECTS: Mapping[str, Effect] = MappingProxyType(
    {
        "device.enriched": _enrich,
        "device.marked": replay_inventory.mark_device,
        "device.moved": replay_inventory.follow_move,
        "group.added": replay_inventory.add_group,
        "group.removed": replay_inventory.remove_group,
        "owner.added": replay_inventory.save_owner,
        "owner.changed": replay_inventory.save_owner,
        "owner.removed": replay_inventory.remove_owner,
        "device.proved": _prove,
        "device.registered": _register,
        "device.retired": _retire,
        "device.ruled": _rule,
        "certificate.intended": _intend,
        "certificate.issued": _issue,
        "certificate.revoked": _revoke,
        "certificate.superseded": _supersede,
        "authority.activated": _move_authority,
        "authority.certified": _move_authority,
        "authority.changed": _move_authority,
        "authority.compromised": _move_authority,
        "authority.retired": _move_authority,
        "authority.stopped": _move_authority,
        "fleet.restored": _restore,
        "fleet.unfrozen": _unfreeze,
        "key.blocked": _block_key,
        "profile.assigned": _assign_profile,
        "template.added": _add_template,
        "template.removed": _remove_template,
        "thing.registered": _register_thing,
        "batch.added": _open_batch,
        "batch.opened": _open_batch,
        "batch.closed": _close_batch,
        "station.added": replay_stations.add_station,
        "station.changed": replay_stations.change_station,
        "station.closed": replay_stations.close_station,
        "station.journal-begun": replay_stations.begin_journal,
        "station.lease-closed": replay_stations.close_lease,
        "station.operator-removed": replay_stations.remove_line_operator,
        "access.applied": replay_access.apply_policy,
        "access.rolled-back": replay_access.apply_policy,
        "service.added": replay_access.add_backend,
        "service.revoked": replay_access.revoke_backend,
        **replay_people.EFFECTS,
        **dict.fromkeys(
            (
                "rollout.abandoned",
                "rollout.done",
                "rollout.halted",
                "rollout.paused",
                "rollout.resumed",
                "rollout.rolled-back",
                "rollout.rolling-back",
                "rollout.started",
            ),
            follow_rollout,
        ),
    }
)
"""What an act did beside the device that it was about."""

TOLD_ONLY = frozenset(
    {
        "access.refused",
        "audit.archived",
        "audit.contradicted",
        "backup.made",
        "backup.drilled",
        "certificate.bytes-dropped",
        "certificate.confirmed",
        "certificate.dead",
        "code.closed",
        "code.created",
        "device.alarmed",
        "device.approved",
        "device.changed",
        "device.done",
        "device.rejected",
        "device.replaced",
        "device.resumed",
        "device.revoked",
        "device.suspended",
        "fleet.initialised",
        "key.reused",
        "notification.acknowledged",
        "notification.tested",
        "notification.undelivered",
        "certificate.brought",
        "policy.applied",
        "provisioning.intended",
        "provisioning.lapsed",
        "provisioning.signed",
        "renewals.moved",
        "request.refused",
        "rollout.gate-passed",
        "rollout.refused",
        "rollout.wave-begun",
        "rollout.wave-settled",
        "station.finding",
        "station.lease-intended",
        "trust.refused",
        "unit.released",
    }
    | replay_people.TOLD_ONLY
)
"""Acts whose whole effect stands in what became of their device, and those that had none."""

LOST = frozenset(
    {
        "authority.listed",  # the revocation list of a company's CA: hand it in again
        "devices.imported",  # which proofs a maker's list brought for devices: import it again
        "operator.totp-confirmed",  # the secret of a second factor: fleet operator totp enroll
        "renewal.hastened",  # fleet cert renew says it again
        "rollout.planned",  # the devices of its waves: fleet rollout plan finds them again
        "station.leased",  # the certificate of a station's CA
        "station.root-made",
    }
)
"""Acts whose effect the trail does not hold whole: whoever restores is told of them, and goes by hand."""


def signed_of(entry: AuditEntry) -> SignedCertificate | None:
    """Return what an entry tells of a signed certificate: its record, without its bytes."""
    details = details_of(entry)
    if entry.action != "certificate.issued" or "not_after" not in details:
        return None
    return SignedCertificate(
        serial=entry.serial,
        issuer=details["issuer"],
        fingerprint=details["fingerprint"],
        not_before=times.moment(details["not_before"]),
        not_after=times.moment(details["not_after"]),
        profile=details.get("profile", ""),
        renew_after=times.moment(details["renew_after"]) if details.get("renew_after") else None,
        der=b"",
    )


def details_of(entry: AuditEntry) -> dict[str, str]:
    """Return what an entry tells, by name."""
    return dict(entry.details)


def identity_of(entry: AuditEntry) -> Identity:
    """Return the device that an entry is about."""
    return Identity(domain=entry.domain, device_id=entry.device_id)


def reason_of(details: Mapping[str, str]) -> RevocationReason:
    """Return the CRLReason that an entry gives; operators' own words are none."""
    given = details.get("reason_code") or details.get("reason", "")
    return RevocationReason(given) if given in set(RevocationReason) else RevocationReason.UNSPECIFIED
